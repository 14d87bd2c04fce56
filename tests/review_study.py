"""A small study with a review page, for its tests."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from paravert import codebook, tables
from paravert.measure import review_pictures
from paravert.measure.slice_picture import SliceView
from paravert.study.review import write_review
from study_tables import SLICES_PER_SUBJECT, cohort_rows

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
SUBJECTS = 12  # S0001 to S0012; S0013 and S0014 are quarantined


def write_study(home: Path, visits: bool = False) -> None:
    """Write cohort tables, pictures and the review page of SUBJECTS subjects.

    The lowest predicted IoU is 0.21 for S0003 (erector spinae, right, slice 4), 0.5 for S0007
    (multifidus) and 0.9 for all others. S0002 has a hostile site and group. S0001 has a manual mask and a
    sagittal picture, which the uppermost slice does not cut.
    visits: whether S0001 and S0002 are P1_1 and P1_2, two scans of one subject, and so on.
    """
    rows = cohort_rows(SUBJECTS, quarantined=2)
    for row in rows["slices"]:
        row["predicted_iou"] = 0.9 if row["pixels"] else None
        place = (row["subject"], row["muscle"], row["side"], row["slice"])
        if place == ("S0003", "erector_spinae", "right", 4):
            row["predicted_iou"] = 0.21
        if place == ("S0007", "multifidus", "left", 2):
            row["predicted_iou"] = 0.5
    lowest = pd.DataFrame(rows["slices"]).groupby("subject").predicted_iou.min()
    for row in rows["ledger"]:
        row["predicted_iou_lowest"] = lowest.get(row["subject"])
        row |= {"age_years": 20.0 + int(row["subject"][1:]), "site": "Ulm", "sex": "F"}
        if row["subject"] == "S0002":
            row |= {"site": HOSTILE, "study_group": HOSTILE}
    for table in codebook.tables_with([], visits):
        own = [row | _visit_of(row["subject"]) if visits else row for row in rows[table.name]]
        data = tables.from_rows(table, own)
        tables.write(home / f"cohort/{table.name}.parquet", table, data, {})
    for number in range(1, SUBJECTS + 1):
        scan = f"S{number:04d}"
        scan = "{subject}_{visit}".format(**_visit_of(scan)) if visits else scan
        _draw(home / f"subjects/{scan}/review", manual=number == 1)
    write_review(
        home / "cohort", home / "subjects", home / "review", study_name=f"Test {HOSTILE}", sample=3
    )


def _visit_of(subject: str) -> dict[str, str]:
    number = int(subject[1:]) - 1
    return {"subject": f"P{number // 2 + 1}", "visit": str(number % 2 + 1)}


def _draw(folder: Path, manual: bool) -> None:
    folder.mkdir(parents=True)
    rows, columns = review_pictures.PICTURE_SIZE
    view = SliceView((rows / 2, columns / 2), (1.0, 1.0), (rows, columns))
    planes = [np.full((rows, columns), 40 * n, np.uint8) for n in range(SLICES_PER_SUBJECT)]
    labels = np.zeros((rows, columns), np.uint8)
    labels[100:180, 100:180] = 5
    review_pictures.write_grey(folder / "slices.jpg", [(plane, view) for plane in planes])
    names = ("contours.png", "manual.png") if manual else ("contours.png",)
    if manual:
        Image.fromarray(planes[1]).save(folder / "sagittal.jpg")
        lines = [[10, 30 * n, 200, 30 * n - 5] for n in range(SLICES_PER_SUBJECT, 1, -1)] + [None]
        told = json.dumps({"size": [columns, rows], "lines": lines})
        (folder / "sagittal.json").write_text(told)
    for name in names:
        review_pictures.write_contours(folder / name, [(labels, view)] * SLICES_PER_SUBJECT)
