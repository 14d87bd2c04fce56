"""Writes the review page: a table of all scans, and each scan with all slices, for rating by eye.

The page opens from disk. Its data are scripts, data/scans.js and data/page-0001.js ..., because
browsers let a page on disk load scripts, but not read files.
"""

import json
import logging
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from markupsafe import Markup

from paravert import codebook
from paravert.anatomy import LABELS, MUSCLES, STANDARD_LEVELS, level_name
from paravert.measure.review_pictures import GRID_COLUMNS, GRID_ROWS, PICTURE_SIZE
from paravert.measure.sagittal_picture import read_sagittal_lines
from paravert.study.data_frames import read_by_scan, read_frame, write_csv
from paravert.study.flags import FLAGS
from paravert.study.ratings import (
    ALL,
    ANY,
    VERDICTS,
    RatingFiles,
    RatingRule,
    agreement_of_raters,
    check_rule,
    read_ratings,
    to_correct,
)
from paravert.study.reading_list import reading_list, share_of_failures
from paravert.study.scans import scan_names
from paravert.study.templates import TEMPLATES, html_template
from paravert.subject_folder import (
    CONTOURS_FILE,
    MANUAL_FILE,
    REVIEW_FOLDER,
    SAGITTAL_PICTURE,
    SLICES_PICTURE,
)
from paravert.tables import whole_file

log = logging.getLogger(__name__)

SCANS_PER_PAGE = 50
PICTURES = (SLICES_PICTURE, CONTOURS_FILE, MANUAL_FILE, SAGITTAL_PICTURE)
REASONS = (
    *("wrong-muscle", "boundary", "incomplete", "spills-over", "sides-swapped", "slice-missed"),
    *("image-quality", "implant-or-deformity", "wrong-series", "other"),
)
SLICE_ORDER = ["stack_id", "slice", "muscle", "side"]
MEASURES = {
    "csa_mean_mm2": "Area, mm²",
    "volume_ml": "Volume, ml",
    "fat_fraction": "Fat",
}


def write_review(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    folder: Annotated[Path, typer.Option(help="Folder of the subjects with their pictures.")],
    out: Annotated[Path, typer.Option(help="Folder of the review page.")],
    study_name: Annotated[str, typer.Option(help="Name of the study, for the title.")] = "",
    ratings: RatingFiles = None,
    rating_rule: RatingRule = ANY,
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            help="Scans of the reading list: this many of the lowest predicted IoU, and as many at random.",
        ),
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the reading list.")] = 1,
    doubtful_iou: Annotated[
        float, typer.Option(min=0, help="A lower predicted IoU is marked.")
    ] = 0.5,
) -> None:
    """Write the review page (index.html): all scans with all slices, for rating.

    The page loads pictures from ../subjects/<scan>/review/, so the folder of the subjects must be named
    subjects and lie beside that of the page. Beside index.html are the folder data (scripts that the
    page needs; deleted and written anew), to_correct.csv, the labels that raters want corrected,
    raters.csv, the agreement of raters, reading_list.csv, the scans to be rated blind, and
    failures.csv, the share of failures among its scans that were drawn at random and are rated; columns
    as of `ratings.to_correct`, `ratings.agreement_of_raters`, `reading_list.reading_list` and
    `reading_list.share_of_failures`. Raises InputError for a faulty file of ratings, and for a
    rating_rule that names a rater without ratings.
    """
    rated = read_ratings(ratings or ())
    check_rule(rated, rating_rule)
    data = out / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    percentiles = _measures_with_percentiles(cohort)
    details = {}
    for number, scans in enumerate(_pages(cohort), start=1):
        found = {}
        for subject, rows in scans:
            lowest = lowest_iou(rows, doubtful_iou)
            details[subject] = {"page": number} | lowest | _levels_shown(rows)
            found[subject] = _slice_details(rows, doubtful_iou)
            found[subject]["measures"] = percentiles.get(subject, [])
            if sagittal := read_sagittal_lines(folder / subject):
                found[subject] |= dict(zip(("sagittal", "lines"), sagittal, strict=True))
        _write_script(data / f"page-{number:04d}.js", "paravert.page", number, found)
    scans = _scan_rows(cohort, folder, details)
    listed = reading_list(read_frame(cohort, codebook.LEDGER), sample, seed)
    _write_script(data / "scans.js", "paravert.scans", scans, listed.scan.to_list())
    digests = {scan["scan"]: scan.get("fingerprint") for scan in scans}
    write_csv(out / "to_correct.csv", to_correct(rated, digests, folder))
    write_csv(out / "raters.csv", agreement_of_raters(rated))
    write_csv(out / "reading_list.csv", listed)
    write_csv(out / "failures.csv", share_of_failures(listed, rated, digests, rating_rule))
    with whole_file(out / "index.html") as draft:
        draft.write_text(_page_html(study_name, doubtful_iou), encoding="utf-8")
    log.info("write_review: %d scans", len(scans))


def _page_html(study_name: str, doubtful_iou: float) -> str:
    """Return the HTML of the review page, without the data of the scans.

    study_name: for the title; escaped. doubtful_iou: sections with a lower predicted IoU are
    marked.
    """
    rows, columns = PICTURE_SIZE
    settings = {
        "muscles": MUSCLES,
        "labels": [[label.muscle, label.side, label.colour] for label in LABELS],
        "verdicts": VERDICTS,
        "rules": [ANY, ALL],
        "reasons": REASONS,
        "measures": list(MEASURES.values()),
        "levels": [[level, level_name(level)] for level in STANDARD_LEVELS],
        "flags": [[str(flag.caution), flag.title] for flag in FLAGS],
        "doubtful": doubtful_iou,
        "picture": [columns, rows, GRID_COLUMNS, GRID_ROWS],
        "files": [f"{REVIEW_FOLDER}/{f}" for f in PICTURES],
    }
    return html_template("review.html.j2").render(
        title=study_name,
        settings=Markup(_script_text(settings)),  # noqa: S704 (constants of the package)
        script=Markup((TEMPLATES / "review.js").read_text(encoding="utf-8")),  # noqa: S704
    )


def _write_script(path: Path, function: str, *arguments: object) -> None:
    path.write_text(f"{function}({', '.join(map(_script_text, arguments))});\n", encoding="ascii")


def _script_text(value: object) -> str:
    """Return a value as JSON in ASCII; "<" is escaped, so that no text of it can end a script."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _named_by_scan(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of a cohort table whose column subject holds the name of the scan."""
    return frame.assign(subject=scan_names(frame))


# --- the table of scans ---------------------------------------------------------------------------


def _scan_rows(cohort: Path, folder: Path, details: dict[str, dict]) -> list[dict]:
    """Return what the page's table shows of each scan, dicts in the order of the ledger.

    cohort: folder of the cohort tables. folder: of the scans. details: {scan: further entries}.
    Keys: scan, status, reason, message, warnings, covariates, fingerprint (digest of the labels),
    fat (fraction), flags (values), pictures and manual (whether files are there). Unknown values
    are left out.
    """
    ledger = _named_by_scan(read_frame(cohort, codebook.LEDGER))
    subjects = _named_by_scan(
        read_frame(cohort, codebook.SUBJECT_TABLE, ["subject", "fat_fraction"])
    )
    fat = dict(zip(subjects.subject, subjects.fat_fraction, strict=True))
    rows = []
    for row in ledger.to_dict("records"):
        pictures = folder / row["subject"] / REVIEW_FOLDER
        segmented = _is_known(row["labels_digest"])
        told = {
            "scan": row["subject"],
            "status": row["status"],
            "reason": row["reason"],
            "message": row["message"],
            "warnings": list(row["warnings"]) if row["warnings"] is not None else [],
            "sex": row["sex"],
            "age": _rounded(row["age_years"], 1),
            "site": row["site"],
            "group": row["study_group"],
            "fingerprint": row["labels_digest"],
            "fat": _rounded(fat.get(row["subject"]), 3),
            "flags": [_rounded(row[flag.column], 2) for flag in FLAGS],
            # A quarantined scan may have pictures of an earlier result.
            "pictures": segmented and (pictures / SLICES_PICTURE).is_file(),
            "manual": segmented and (pictures / MANUAL_FILE).is_file(),
        }
        told |= details.get(row["subject"], {})
        rows.append({name: value for name, value in told.items() if _is_known(value)})
    return rows


def _is_known(value: object) -> bool:
    return isinstance(value, list) or not pd.isna(value)


def lowest_iou(rows: pd.DataFrame, doubtful: float) -> dict:
    """Return the lowest predicted IoU of each muscle of a scan, and where the lowest of all is.

    rows: rows of one scan in the cohort table `slices`. A predicted IoU of 0 (the muscle has no
    pixel) is ignored. doubtful: lower values are marked, so none is rounded across it. Returns
    {"lowest": a value per muscle in the order of anatomy.MUSCLES, the minimum over both sides and
    all slices, three decimals, None if unknown; "where": text such as "multifidus left, slice 1/12"
    (stack/slice), missing if all are unknown}.
    """
    known = rows[rows.predicted_iou > 0]  # 0: of an absent muscle
    by_muscle = known.groupby("muscle", observed=True).predicted_iou.min()
    lowest = [_rounded(by_muscle.get(muscle), 3, doubtful) for muscle in MUSCLES]
    if known.empty:
        return {"lowest": lowest}
    muscle, side, stack, number = known.loc[
        known.predicted_iou.idxmin(), ["muscle", "side", "stack_id", "slice"]
    ]
    where = f"{muscle} {side}, slice {stack}/{number}".replace("_", " ")
    return {"lowest": lowest, "where": where}


def _levels_shown(rows: pd.DataFrame) -> dict:
    """Return {"levels": [lowest, highest vertebral level of the slices]}, or {} if no level is known.

    rows: of one scan in the table of slices. 1 is the middle of L1, so the lowest number is the
    most cranial.
    """
    known = rows.level_position.dropna()
    if known.empty:
        return {}
    return {"levels": [_rounded(known.min(), 2), _rounded(known.max(), 2)]}


# --- one scan -------------------------------------------------------------------------------------


def _pages(cohort: Path) -> Iterator[list[tuple[str, pd.DataFrame]]]:
    """Yield the rows of the table of slices by scan, SCANS_PER_PAGE scans at a time."""
    columns = ["subject", *SLICE_ORDER, "position_mm", "level_position", "level"]
    columns += ["csa_mm2", "fat_fraction", "predicted_iou"]
    page = []
    for part in read_by_scan(cohort, codebook.SLICES, columns):
        rows_of_part = _named_by_scan(part).sort_values(SLICE_ORDER)
        for subject, rows in rows_of_part.groupby("subject", sort=True):
            page.append((subject, rows))
            if len(page) == SCANS_PER_PAGE:
                yield page
                page = []
    if page:
        yield page


def _slice_details(rows: pd.DataFrame, doubtful: float) -> dict:
    """Return what the page shows of the slices of one scan, a dict of lists.

    rows: of one scan in the table of slices, sorted by stack, slice, muscle and side. doubtful: as in
    `lowest_iou`. slices: [stack, slice, position in mm, name of the level or ""] per slice. iou, csa
    (mm2), fat (fraction): eight values per slice, for label values 1 to 8, None if unknown.
    """
    first = rows.iloc[:: len(LABELS)]
    positions = first.position_mm.round(1)
    numbers = (first["stack_id"], first["slice"], positions, first["level"].fillna(""))
    keys = zip(*(values.tolist() for values in numbers), strict=True)
    return {
        "slices": [list(key) for key in keys],
        "iou": _by_slice(rows.predicted_iou, 2, doubtful),
        "csa": _by_slice(rows.csa_mm2, 0),
        "fat": _by_slice(rows.fat_fraction, 2),
    }


def _by_slice(
    values: pd.Series, digits: int, limit: float | None = None
) -> list[list[float | None]]:
    table = values.to_numpy(dtype=float).reshape(-1, len(LABELS))
    return [[_rounded(value, digits, limit) for value in row] for row in table.tolist()]


def _measures_with_percentiles(cohort: Path) -> dict[str, list]:
    """Return the area, volume and fat fraction of each scan with their percentiles in the cohort.

    cohort: folder of the cohort tables. Returns {scan: a list for each label value 1 to 8 of
    [value, percentile] per measure in MEASURES}. The percentile, 0 to 100, is the rank among all
    scans for this muscle and side. Unknown is None.
    """
    columns = ["subject", "muscle", "side", *MEASURES]
    muscles = _named_by_scan(read_frame(cohort, codebook.MUSCLE_TABLE, columns))
    ranks = muscles.groupby(["muscle", "side"], observed=False)[list(MEASURES)].rank(pct=True) * 100
    digits = {"csa_mean_mm2": 0, "volume_ml": 1, "fat_fraction": 3}
    values_of = [
        [[_rounded(v, digits[name]), _rounded(p, 0)] for v, p in zip(values, places, strict=True)]
        for name in MEASURES
        for values, places in [(muscles[name].astype(float), ranks[name])]
    ]
    found: dict[str, list] = {}
    for subject, *values in zip(muscles.subject, *values_of, strict=True):
        found.setdefault(subject, []).append(values)
    return found


def _rounded(value: float | None, digits: int, limit: float | None = None) -> float | int | None:
    """Return a rounded value, None if unknown; the value itself if rounding would move it across limit."""
    if value is None or not math.isfinite(value):
        return None
    rounded = round(float(value), digits) if digits else round(value)
    if limit is not None and (value < limit) != (rounded < limit):
        return float(value)
    return rounded
