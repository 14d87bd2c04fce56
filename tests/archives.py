"""An archive as a hospital exports it: people with several examinations, series and other files."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage

from dicom_writer import Plan, uid, write_series

SAGITTAL = Plan(right=(0, 1, 0), down=(0, 0, -1))
STUDIES = ("lumbar_study_cc0", "lumbar_study_cc0_15t")  # of one real man


def put_series(
    folder: Path,
    patient: str,
    study: str,
    series: str,
    *,
    plan: Plan | Sequence[Plan] | None = None,
    number: int = 1,
    name: str = "",
    **values: object,
) -> list[Path]:
    """Write a series into a folder of its name; values: by keyword, None takes an element away."""

    def edit(data, _):
        data.PatientID, data.PatientName = patient, f"{patient or 'NOBODY'}^SECRET"
        data.StudyInstanceUID, data.SeriesInstanceUID = uid(patient, study), uid(study, series)
        data.StudyDate, data.SeriesNumber = "20200305", number
        data.SeriesDescription = name or series
        for keyword, value in values.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)

    return write_series(folder, plan or Plan(), series, edit=edit)


def put_ct(folder: Path, patient: str) -> None:
    """Write a CT of the abdomen."""
    values = {"SOPClassUID": CTImageStorage, "Modality": "CT"}
    put_series(folder, patient, "ct", "abdomen", **values)


def five_people(archive: Path, *, visits: bool = True) -> Path:
    """Write phantoms of five people: ANNA and BERT come twice, CLEO has three axial series.

    DORA has a CT alone, EMIL's folder is empty. visits: whether the second visits are there.
    """
    born = {"PatientBirthDate": "19591231"}
    for year, age in (("2020", "060Y"), ("2018", "058Y"))[: 2 if visits else 1]:
        anna = {"StudyDate": f"{year}0305", "PatientAge": age, **born}
        put_series(archive / "site-1/ANNA" / year, "ANNA", year, "axial", **anna)
        put_series(archive / "site-1/ANNA" / year, "ANNA", year, "sagittal", plan=SAGITTAL, **anna)
    for year in ("2019", "2021")[: 2 if visits else 1]:
        bert = {"StudyDate": f"{year}0401", "PatientAge": None, "PatientSex": "M", **born}
        put_series(archive / "site-2/BERT" / year, "BERT", f"B{year}", "t2_tse_tra", **bert)
    three = {"t2_tse_tra": (100, 4000), "t1_tse_tra": (12, 600), "pd_tra": (15, 3000)}
    for number, (series, (echo, repetition)) in enumerate(three.items(), start=1):
        times = {"EchoTime": echo, "RepetitionTime": repetition}
        put_series(archive / "site-2/CLEO", "CLEO", "C", series, number=number, **times)
    put_ct(archive / "site-2/DORA", "DORA")
    (archive / "site-1/EMIL").mkdir(parents=True)
    return archive


def put_real_studies(archive: Path, data: Path) -> None:
    """Copy both real studies of one man into an archive."""
    for study in STUDIES:
        shutil.copytree(data / study, archive / "site-3" / study)


def put_other_files(archive: Path, count: int) -> None:
    """Write files that are no DICOM into some folders of an archive."""
    bytes_of = np.random.default_rng(1).bytes
    for number in range(count):
        folder = archive / ("site-1/ANNA/2020", "site-2/CLEO", "papers")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"note-{number}.txt").write_bytes(b"text" + bytes_of(100))
