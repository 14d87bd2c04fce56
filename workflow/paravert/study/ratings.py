"""The ratings of the review page: what failed the review, what to correct, how raters agree."""

import csv
import io
import shlex
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from paravert.anatomy import MUSCLES, SIDES
from paravert.errors import InputError, some_of
from paravert.label_sources import CORRECTED
from paravert.subject_folder import IMAGE_FOLDER, LABELS_FOLDER, SubjectFolder, stack_name
from paravert.tables import ALL_FAT_METHODS, REVIEW_FAILED

COLUMNS = (
    *("scan", "rater", "time", "verdict", "muscle", "side", "reason", "note", "fingerprint"),
)
PASS, CORRECT, FAIL = VERDICTS = ("pass", "correct", "fail")
ANY, ALL = "any", "all"  # rules; any other rule is the name of a rater
WHOLE = ("", "")  # of a rating: muscle and side of the whole scan
AREA_VALUES = (
    "pixels",
    "csa_mm2",
    "csa_axial_mm2",
    "csa_across_mm2",
    "border_fraction",
    "predicted_iou",
)
KAPPA_COLUMNS = (
    *("first", "second", "categories", "scans", "agreement", "kappa", "kappa_low", "kappa_high"),
)
CORRECTION_COLUMNS = (
    *("scan", "stack", "rater", "muscle", "side", "reason", "note"),
    *("itksnap", "slicer", "save_as"),
)
Place = tuple[str, str]  # muscle and side
# Options of the commands that use ratings.
RatingFiles = Annotated[
    list[Path] | None, typer.Option(help="Ratings from the review page, a file per rater.")
]
RatingRule = Annotated[
    str, typer.Option(help="What is failed where raters differ: any, all, or a rater's name.")
]


@dataclass(frozen=True)
class Rating:
    """One rating: a row of a rater's file, ratings_<rater>.csv, which the review page exports.

    scan: its name. rater: who rated. verdict: "pass", "correct" (labels should be corrected) or
    "fail". muscle: "" for the whole scan. side: "" for both sides, or the whole scan. fingerprint:
    digest of the labels that the rater saw (column labels_digest of the ledger). reason: chosen
    from the page's list. note: free text. file: path of the file, "" if unknown.
    """

    scan: str
    rater: str
    verdict: str
    muscle: str
    side: str
    fingerprint: str
    reason: str = ""
    note: str = ""
    file: str = ""

    def places(self) -> set[Place]:
        """Return the places that the rating covers, {(muscle, side)}; {("", "")} for a whole scan."""
        if not self.muscle:
            return {WHOLE}
        return set(product([self.muscle], [self.side] if self.side else SIDES))


@dataclass(frozen=True)
class Failed:
    """The scans and muscles that failed the review.

    scans: names of scans that failed as a whole. muscles: {scan: {(muscle, side)}} that failed in
    other scans. outdated: scans with a rating of labels that have changed since; such a rating is
    ignored.
    """

    scans: frozenset[str]
    muscles: Mapping[str, frozenset[Place]]
    outdated: frozenset[str]


def read_ratings(files: Iterable[Path]) -> list[Rating]:
    """Read the files of ratings that the review page exports, one per rater, and return all ratings.

    Lines without a value are left out. Raises InputError for a file that may not be read, is not UTF-8
    or lacks a column, for an unknown verdict, muscle or side, for a side without a muscle, for a row
    without scan, rater or fingerprint, for a fingerprint that a spreadsheet turned into a number, for a
    scan, muscle and side that is rated twice, for a file of several raters, and for a rater with two
    files.
    """
    found: list[Rating] = []
    for file in files:
        own = _read_file(file)
        raters = {rating.rater for rating in own}
        if len(raters) > 1:
            raise InputError(file, f"ratings of {len(raters)} raters, expected a file per rater")
        if raters & {rating.rater for rating in found}:
            raise InputError(file, "ratings of a rater who has another file, too, expected one")
        found += own
    return found


def _read_file(file: Path) -> list[Rating]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(file, "not UTF-8, expected a file that the review page wrote") from None
    except OSError as error:
        raise InputError(file, f"may not be read ({error.strerror})") from None
    separator = ";" if ";" in text.partition("\n")[0] else ","  # spreadsheets write semicolons
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    if lacking := set(COLUMNS) - set(reader.fieldnames or ()):
        raise InputError(file, f"no column {', '.join(sorted(lacking))}")
    rated: set[tuple[str, str, str]] = set()
    ratings = []
    for row in reader:
        values = {name: row[name] or "" for name in COLUMNS if name != "time"}
        if not any(values.values()):  # a line that was emptied in a spreadsheet
            continue
        rating = Rating(**values, file=str(file))
        fault = _fault_of(rating)
        key = (rating.scan, rating.muscle, rating.side)
        if key in rated:
            fault = "the same scan, muscle and side once more"
        if fault:
            raise InputError(file, f"line {reader.line_num}: {fault}")
        rated.add(key)
        ratings.append(rating)
    return ratings


def _fault_of(rating: Rating) -> str:
    for name, allowed in (
        ("verdict", VERDICTS),
        ("muscle", ("", *MUSCLES)),
        ("side", ("", *SIDES) if rating.muscle else ("",)),
    ):
        if getattr(rating, name) not in allowed:
            words = ", ".join(filter(None, allowed)) or "none without a muscle"
            return f"{name} {getattr(rating, name)!r}, expected {words}"
    lacking = [name for name in ("scan", "rater", "fingerprint") if not getattr(rating, name)]
    if lacking:
        return f"no {lacking[0]}"
    if not rating.fingerprint.isalnum():  # such as 1.23457E+15
        told = "expected letters and digits alone; spreadsheets turn some into numbers"
        return f"fingerprint {rating.fingerprint!r}, {told}"
    return ""


def check_rule(ratings: Sequence[Rating], rule: str) -> None:
    """Raise InputError for a rule that names a rater of whom there is no rating.

    ratings: of all raters; without any, every rule is accepted. rule: "any", "all" or the name of a
    rater, as in `failed`, which otherwise would use no rating at all.
    """
    raters = sorted({rating.rater for rating in ratings})
    if raters and rule not in (ANY, ALL, *raters):
        expected = f"expected {ANY}, {ALL} or a rater with ratings: {some_of(raters)}"
        raise InputError("review.rule", f"{rule!r}, {expected}")


def unknown_scans(ratings: Iterable[Rating], scans: Container[str]) -> dict[str, list[str]]:
    """Return {file: rated scans that the sheet lacks, sorted}; files without such scans are left out.

    ratings: of all raters. scans: names of all scans of the sheet.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for rating in ratings:
        if rating.scan not in scans:
            found[rating.file].add(rating.scan)
    return {file: sorted(names) for file, names in found.items()}


def check_scans(
    ratings: Sequence[Rating], scans: Container[str], digests: Mapping[str, str | None]
) -> None:
    """Raise InputError for ratings of scans that have other names in the sheet.

    ratings: of all raters. scans: names of all scans of the sheet. digests: {scan: digest of its
    present labels (labels_digest, as `Rating.fingerprint`)}, None if it has none. A scan that is not in
    the sheet, but was rated with the labels of one that is, has lost its name, for example 007 in a
    spreadsheet. A rating of labels that no scan in digests has is accepted: its scan may have left the
    sheet. So is that of a copy, if the rater has rated the scan of the other name, too.
    """
    owners = {digest: scan for scan, digest in digests.items() if digest}
    rated = {(rating.rater, rating.scan) for rating in ratings}
    renamed: dict[str, dict[str, str]] = defaultdict(dict)
    for rating in ratings:
        owner = owners.get(rating.fingerprint)
        if rating.scan not in scans and owner and (rating.rater, owner) not in rated:
            renamed[rating.file][rating.scan] = owner
    if renamed:
        file, names = renamed.popitem()
        told = some_of([f"{scan} (in the sheet {owner})" for scan, owner in names.items()])
        fault = f"ratings of scans with other names than in the sheet: {told}"
        raise InputError(file, f"{fault}; spreadsheets drop leading zeros")


def failed(
    ratings: Sequence[Rating],
    digests: Mapping[str, str | None],
    rule: str,
    verdicts: Collection[str] = (FAIL,),
) -> Failed:
    """Return the scans and muscles that fail the review by a rule.

    ratings: of all raters. digests: {scan: digest of its present labels (labels_digest)}; ratings
    of other scans, or of labels with another digest, are ignored. rule: which failures are used if
    raters differ: "any", those of at least one rater; "all", those that all raters of the scan
    share; otherwise those of the rater with this name alone. verdicts: the verdicts that mean
    failure. A scan that a rater fails as a whole fails in all its muscles.
    """
    by_scan: dict[str, dict[str, set[Place]]] = defaultdict(lambda: defaultdict(set))
    outdated = set()
    for rating in ratings:
        if rating.scan not in digests:
            continue
        if rating.fingerprint != digests[rating.scan]:
            outdated.add(rating.scan)
        elif rule in (ANY, ALL, rating.rater):
            own = by_scan[rating.scan][rating.rater]
            own |= rating.places() if rating.verdict in verdicts else set()
    everywhere = {WHOLE, *product(MUSCLES, SIDES)}
    scans, muscles = set(), {}
    for scan, raters in by_scan.items():
        places = [everywhere if WHOLE in own else own for own in raters.values()]
        agreed = set.intersection(*places) if rule == ALL else set.union(*places)
        if WHOLE in agreed:
            scans.add(scan)
        elif agreed:
            muscles[scan] = frozenset(agreed)
    return Failed(frozenset(scans), muscles, frozenset(outdated))


def in_failed_muscle(rows: pd.DataFrame, muscles: Mapping[str, frozenset[Place]]) -> np.ndarray:
    """Return which rows belong to a muscle and side that failed the review, bool (rows,).

    rows: columns subject (name of the scan), muscle and side. muscles: {scan: {(muscle, side)}}.
    """
    keys = zip(rows.subject, rows.muscle, rows.side, strict=True)
    out = [(muscle, side) in muscles.get(subject, ()) for subject, muscle, side in keys]
    return np.array(out, dtype=bool)


def without_failed_muscles(
    rows: pd.DataFrame, muscles: Mapping[str, frozenset[Place]], step: str
) -> pd.DataFrame:
    """Return the rows of a shard table in which muscles that failed the review are null, with a reason.

    rows: of the shard table of `step`; its column subject names the scan; not changed in place.
    muscles: {scan: {(muscle, side)}} that failed. step: "measure_area" (rows of tables.AREA; null are
    pixels, areas, border_fraction and predicted_iou) or "measure_fat" (rows of tables.FAT; null are the
    fat fractions of all methods, eroded ones too); KeyError for another. csa_reason, or reason_<method>
    of all methods, becomes "review-failed".
    """
    values, reasons = {
        "measure_area": (AREA_VALUES, ("csa_reason",)),
        "measure_fat": (
            [
                f"{kind}_{method}"
                for kind in ("fat_fraction", "eroded")
                for method in ALL_FAT_METHODS
            ],
            [f"reason_{method}" for method in ALL_FAT_METHODS],
        ),
    }[step]
    out = in_failed_muscle(rows, muscles)
    if not out.any():
        return rows
    rows = rows.copy()
    for name in values:
        rows.loc[out, name] = None
    rows[list(reasons)] = rows[list(reasons)].astype(object)
    rows.loc[out, list(reasons)] = REVIEW_FAILED
    return rows


# --- agreement of raters --------------------------------------------------------------------------


def agreement_of_raters(ratings: Sequence[Rating]) -> pd.DataFrame:
    """Return Cohen's kappa of each pair of raters over the scans that both rated, with KAPPA_COLUMNS.

    ratings: of all raters. A rater's verdict on a scan is the worst that he or she gave to it or one of
    its muscles; only ratings of labels that both rated are used. Two rows per pair: categories is
    "pass, correct, fail" or "fail or not". Columns: first, second (raters), categories, scans (number
    that both rated), agreement (share of equal verdicts), kappa and its 95 % interval kappa_low,
    kappa_high (Fleiss, Cohen and Everitt 1969). kappa is null if all verdicts of both fall into one
    category, and agreement too if they have no scan in common.
    """
    by_rater: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_rater[rating.rater].append(rating)
    rows = []
    for first, second in combinations(sorted(by_rater), 2):
        pair_of = by_rater[first], by_rater[second]
        seen = set.intersection(*({_labels_of(rating) for rating in own} for own in pair_of))
        of_first, of_second = (_worst_verdicts(own, seen) for own in pair_of)
        counts = np.zeros((len(VERDICTS), len(VERDICTS)))
        for scan, verdict in of_first.items():
            counts[verdict, of_second[scan]] += 1
        failing = np.array([[1, 0], [1, 0], [0, 1]])
        for categories, table in (
            (", ".join(VERDICTS), counts),
            ("fail or not", failing.T @ counts @ failing),
        ):
            pair = {"first": first, "second": second, "categories": categories}
            rows.append(pair | {"scans": len(of_first)} | _kappa(table))
    return pd.DataFrame(rows, columns=list(KAPPA_COLUMNS))


def _labels_of(rating: Rating) -> tuple[str, str]:
    return rating.scan, rating.fingerprint


def _worst_verdicts(ratings: Iterable[Rating], seen: Container[tuple[str, str]]) -> dict[str, int]:
    """Return {scan: place of the worst verdict in VERDICTS}. seen: labels whose ratings are used."""
    worst: dict[str, int] = {}
    for rating in ratings:
        if _labels_of(rating) in seen:
            place = VERDICTS.index(rating.verdict)
            worst[rating.scan] = max(worst.get(rating.scan, 0), place)
    return worst


def _kappa(table: np.ndarray) -> dict[str, float]:
    total = table.sum()
    if not total:
        return {}
    agreement = {"agreement": np.trace(table) / total}
    used = (table.sum(axis=0) + table.sum(axis=1)) > 0
    if used.sum() < 2:
        return agreement
    from statsmodels.stats.inter_rater import cohens_kappa  # takes 1 s

    found = cohens_kappa(table[used][:, used])
    return agreement | {
        "kappa": found.kappa,
        "kappa_low": found.kappa_low,
        "kappa_high": found.kappa_upp,
    }


# --- masks to correct -----------------------------------------------------------------------------


def to_correct(
    ratings: Sequence[Rating], digests: Mapping[str, str | None], folder: Path
) -> pd.DataFrame:
    """Return which label maps raters want corrected, one row per rating and stack.

    ratings: of all raters; those with the verdict "correct" are used. digests: {scan: digest of its
    present labels (column labels_digest of the ledger), None if it has none}; ratings of a scan
    with another digest are left out. folder: of the results, with a folder per scan; it stands in
    the commands as it is given. Columns (CORRECTION_COLUMNS): scan, stack, rater, muscle, side,
    reason, note; itksnap and slicer, commands that open image and labels, to be run where Snakemake
    runs; save_as, path for the corrected label map, relative to the folder of the subject sheet.
    """
    rows = []
    for rating in ratings:
        if rating.verdict != CORRECT or rating.fingerprint != digests.get(rating.scan):
            continue
        for stack in SubjectFolder(folder / rating.scan).stack_numbers(LABELS_FOLDER):
            home = SubjectFolder(folder / rating.scan)
            image, labels = (str(home.stack_file(k, stack)) for k in (IMAGE_FOLDER, LABELS_FOLDER))
            code = f"slicer.util.loadVolume({image!r}); slicer.util.loadSegmentation({labels!r})"
            told = {name: getattr(rating, name) for name in CORRECTION_COLUMNS[2:7]}
            rows.append(
                {"scan": rating.scan, "stack": stack}
                | told
                | {
                    "itksnap": shlex.join(["itksnap", "-g", image, "-s", labels]),
                    "slicer": shlex.join(["Slicer", "--python-code", code]),
                    "save_as": f"{CORRECTED}/{rating.scan}/{stack_name(stack)}.nii.gz",
                }
            )
    return pd.DataFrame(rows, columns=list(CORRECTION_COLUMNS))
