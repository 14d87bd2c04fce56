"""The ratings of the review page: which scans and muscles are left out of the cohort tables."""

import csv
import io
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd

from paravert.anatomy import MUSCLES, SIDES
from paravert.errors import InputError
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


@dataclass(frozen=True)
class Rating:
    """A line of a file of ratings, see COLUMNS.

    muscle, side: empty for the whole scan; side empty for both. fingerprint: of the labels that the
    rater saw. reason: of the page's list. note: free text.
    """

    scan: str
    rater: str
    verdict: str
    muscle: str
    side: str
    fingerprint: str
    reason: str = ""
    note: str = ""

    def places(self) -> set[Place]:
        """Return what is rated: pairs of muscle and side, or WHOLE."""
        if not self.muscle:
            return {WHOLE}
        return set(product([self.muscle], [self.side] if self.side else SIDES))


@dataclass(frozen=True)
class Failed:
    """What raters failed.

    scans: whole scans. muscles: pairs of muscle and side by scan; no scan of `scans` is among them.
    outdated: scans with ratings of labels that have changed since, which are not applied.
    """

    scans: frozenset[str]
    muscles: Mapping[str, frozenset[Place]]
    outdated: frozenset[str]


def read_ratings(files: Iterable[Path]) -> list[Rating]:
    """Return the ratings of all files, one file per rater.

    Raises InputError for a file that is not UTF-8 or lacks a column, an unknown verdict, muscle or
    side, a rating that is there twice, a file of several raters, and a rater with two files.
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
    separator = ";" if ";" in text.partition("\n")[0] else ","  # spreadsheets write semicolons
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    if lacking := set(COLUMNS) - set(reader.fieldnames or ()):
        raise InputError(file, f"no column {', '.join(sorted(lacking))}")
    rated: set[tuple[str, str, str]] = set()
    ratings = []
    for row in reader:
        values = {name: row[name] or "" for name in Rating.__dataclass_fields__}
        rating = Rating(**values)
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
    return f"no {lacking[0]}" if lacking else ""


def failed(
    ratings: Sequence[Rating],
    digests: Mapping[str, str | None],
    rule: str,
    verdicts: Collection[str] = (FAIL,),
) -> Failed:
    """Return what is failed by a rule.

    digests: labels_digest by scan; ratings of other scans are ignored. rule: "any": what one rater fails
    is failed; "all": what all raters of the scan fail; otherwise the name of the rater who decides.
    verdicts: those that count as failed.
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
    """Return which rows belong to a failed muscle, bool.

    rows: columns subject, muscle and side. muscles: see `Failed`.
    """
    keys = zip(rows.subject, rows.muscle, rows.side, strict=True)
    out = [(muscle, side) in muscles.get(subject, ()) for subject, muscle, side in keys]
    return np.array(out, dtype=bool)


def without_failed_muscles(
    rows: pd.DataFrame, muscles: Mapping[str, frozenset[Place]], step: str
) -> pd.DataFrame:
    """Return the rows of a shard table with null values and a reason for failed muscles.

    rows: columns subject, muscle and side, and those of the step's table. muscles: see `Failed`. step:
    measure_area or measure_fat.
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
    """Return Cohen's kappa of each pair of raters with its 95 % interval, a row per pair and categories.

    The verdict of a rater on a scan is the worst that he or she gave to the scan or one of its muscles.
    Scans that both have rated from the same labels are compared, by all three verdicts and by fail against
    the others. agreement: share of scans with the same verdict. kappa and its asymptotic interval (Fleiss,
    Cohen and Everitt 1969) are null if both raters gave all scans the same single verdict.
    """
    worst: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for rating in ratings:
        own, key = worst[rating.rater], (rating.scan, rating.fingerprint)
        own[key] = max(own.get(key, 0), VERDICTS.index(rating.verdict))
    rows = []
    for first, second in combinations(sorted(worst), 2):
        both = sorted(worst[first].keys() & worst[second].keys())
        counts = np.zeros((len(VERDICTS), len(VERDICTS)))
        for key in both:
            counts[worst[first][key], worst[second][key]] += 1
        failing = np.array([[1, 0], [1, 0], [0, 1]])
        for categories, table in (
            (", ".join(VERDICTS), counts),
            ("fail or not", failing.T @ counts @ failing),
        ):
            pair = {"first": first, "second": second, "categories": categories}
            rows.append(pair | {"scans": len(both)} | _kappa(table))
    return pd.DataFrame(rows, columns=list(KAPPA_COLUMNS))


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
    """Return what raters want corrected, a row per rating and stack, with commands to open it.

    digests: labels_digest by scan; ratings of labels that have changed since are left out. folder: of the
    subjects. The commands are run in the folder that holds `results`; save_as is beside the sheet.
    """
    rows = []
    for rating in ratings:
        if rating.verdict != CORRECT or rating.fingerprint != digests.get(rating.scan):
            continue
        for stack in SubjectFolder(folder / rating.scan).stack_numbers(LABELS_FOLDER):
            home = SubjectFolder(Path("results/subjects") / rating.scan)
            image, labels = (str(home.stack_file(k, stack)) for k in (IMAGE_FOLDER, LABELS_FOLDER))
            code = f"slicer.util.loadVolume({image!r}); slicer.util.loadSegmentation({labels!r})"
            told = {name: getattr(rating, name) for name in CORRECTION_COLUMNS[2:7]}
            rows.append(
                {"scan": rating.scan, "stack": stack}
                | told
                | {
                    "itksnap": shlex.join(["itksnap", "-g", image, "-s", labels]),
                    "slicer": shlex.join(["Slicer", "--python-code", code]),
                    "save_as": f"corrected/{rating.scan}/{stack_name(stack)}.nii.gz",
                }
            )
    return pd.DataFrame(rows, columns=list(CORRECTION_COLUMNS))
