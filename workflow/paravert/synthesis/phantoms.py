"""Rule make_phantoms: phantom volunteers as DICOM studies with label maps and exact truth.

NEEDS a seed. MAKES the built-in cohort: a folder per scan, a subject sheet (subjects.tsv) that a study
reads like that of a user's own data, and tables of the truth.
"""

import csv
import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from paravert.errors import InputError, some_of
from paravert.shards import worker_pool
from paravert.steps import VERSIONS
from paravert.synthesis import dixon_signal
from paravert.synthesis.body import body_of
from paravert.synthesis.phantom_files import (
    TRUTH_MUSCLES,
    TRUTH_SLICES,
    affine_of,
    true_muscle_rows,
    true_slice_rows,
    write_disc_points,
    write_image,
    write_label_map,
)
from paravert.synthesis.protocol import (
    SCANNERS,
    PlacedImage,
    Protocol,
    Series,
    localizer_series,
    protocol_of,
    sagittal_series,
)
from paravert.synthesis.signal import render_planes
from paravert.synthesis.tissues import contrast_of
from paravert.synthesis.volunteers import PAPER_COUNT, Volunteer
from paravert.synthesis.volunteers import volunteers as draw_volunteers

log = logging.getLogger(__name__)

MADE, SHEET, TRUTH = "made.json", "subjects.tsv", "truth.parquet"


@dataclass(frozen=True)
class Scan:
    """One examination of a phantom volunteer.

    volunteer: the subject. index: of the volunteer in the cohort, from 0; it selects the protocol,
    and whether the axial series is a Dixon acquisition. visit: 1 or 2.
    """

    volunteer: Volunteer
    index: int
    visit: int

    @property
    def name(self) -> str:
        """The name of the scan: the subject, with _2 at the second visit (S0001, S0001_2)."""
        subject = self.volunteer.subject
        return subject if self.visit == 1 else f"{subject}_{self.visit}"


def make_phantoms(
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the cohort; made if absent.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same bytes.")],
    volunteers: Annotated[
        int,
        typer.Option(
            min=1, help="How many; 22 is the paper's cohort, any other a broad population."
        ),
    ] = PAPER_COUNT,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this subject, or its second visit, such as S0001_2; may be given again."
            " Without it: the first visit of all."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the subjects.")] = 1,
) -> None:
    """Write a cohort of phantom volunteers: DICOM, masks, truth and subject sheet.

    Writes <out>/<subject>/dicom/..., truth.nii.gz (masks) and levels.csv (discs) beside it. A second
    visit shows the same body on another scanner, in another position; its folder is <out>/<subject>_2.
    A folder that is complete from the same seed, number of volunteers and version is left unchanged;
    any other wanted folder that this command made is made anew. <out>/subjects.tsv, <out>/truth.parquet
    (per slice) and <out>/truth_muscles.parquet are written anew; they list the scans of all complete
    folders, also those of earlier runs. Raises InputError if a wanted subject is not in the cohort,
    or this command did not make its folder or subjects.tsv; ChildProcessError if a worker process died.
    """
    people = draw_volunteers(seed, volunteers)
    scans = [Scan(person, index, visit) for index, person in enumerate(people) for visit in (1, 2)]
    wanted = set(subject or [person.subject for person in people])
    unknown = sorted(wanted - {scan.name for scan in scans})
    if unknown:
        names = f"{people[0].subject} to {people[-1].subject}"
        fault = f"{', '.join(unknown)} not in a cohort of {volunteers}, {names}"
        raise InputError("--subject", fault)
    foreign = [name for name in sorted(wanted) if _is_foreign(out / name)]
    if (out / SHEET).exists() and not (out / TRUTH).exists():
        foreign.append(SHEET)
    if foreign:
        fault = f"{some_of(foreign)}: not made by make_phantoms, expected phantoms or nothing"
        raise InputError(out, fault)
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "seed": seed,
        "volunteers": volunteers,
        "version": VERSIONS["make_phantoms"],
    }
    make = partial(_make_one, out, settings)
    with worker_pool(workers) as pool:
        for line in pool.map(make, [scan for scan in scans if scan.name in wanted]):
            log.info("%s", line)
    there = [scan for scan in scans if _made(out, scan, settings) is not None]
    _write_cohort_files(out, there, settings)


def _make_one(out: Path, settings: dict, scan: Scan) -> str:
    """Make one scan in a temporary folder, rename it, and return a line for the log."""
    if _made(out, scan, settings) is not None:
        return f"{scan.name}: already made"
    draft, old, home = out / f".{scan.name}.part", out / f".{scan.name}.old", out / scan.name
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    draft.mkdir()
    truth = _write_study(draft, scan, settings["seed"])
    record = {"settings": settings, "truth": truth}
    (draft / MADE).write_text(json.dumps(record), encoding="utf-8")
    if home.exists():
        home.rename(old)  # a kill while it is deleted leaves no half of it under its name
    draft.rename(home)
    shutil.rmtree(old, ignore_errors=True)
    slices = 1 + truth["slices"][-1]["slice"]
    person = scan.volunteer
    return f"{scan.name}: {person.sex}, {person.age_years} years, {slices} slices"


def _is_foreign(home: Path) -> bool:
    """Return whether something is in the place of a scan's folder that this command did not make."""
    return os.path.lexists(home) and not (home / MADE).is_file()


def _made(out: Path, scan: Scan, settings: dict) -> dict | None:
    """Return the truth of a scan that is complete with these settings, else None.

    The truth is a dict as returned by `_write_study`.
    """
    path = out / scan.name / MADE
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return record["truth"] if record["settings"] == settings else None


def _write_cohort_files(out: Path, scans: list[Scan], settings: dict) -> None:
    """Write the subject sheet and both truth tables of these scans."""
    truths = [_made(out, scan, settings) for scan in scans]
    for name, kind, schema in (
        (TRUTH, "slices", TRUTH_SLICES),
        ("truth_muscles.parquet", "muscles", TRUTH_MUSCLES),
    ):
        rows = [row for truth in truths for row in truth[kind]]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / name)
    with (out / SHEET).open("w", newline="", encoding="utf-8") as file:
        with_visits = any(scan.visit > 1 for scan in scans)
        rows = [_sheet_row(scan, with_visits) for scan in scans]
        sheet = csv.DictWriter(file, rows[0], delimiter="\t", lineterminator="\n")
        sheet.writeheader()
        sheet.writerows(rows)


def _sheet_row(scan: Scan, with_visits: bool) -> dict:
    person = scan.volunteer
    visit = {"visit": scan.visit} if with_visits else {}
    return {
        "subject": person.subject,
        **visit,
        "images": f"{scan.name}/dicom",
        "truth": f"{scan.name}/truth.nii.gz",
        "levels": f"{scan.name}/levels.csv",
        "sex": person.sex,
        "age_years": person.age_years,
        "height_cm": f"{person.height_cm:g}",
        "weight_kg": f"{person.weight_kg:g}",
        "site": "phantom",
        "group": "volunteer" if person.subject.startswith("S") else "population",
    }


# --- one study -----------------------------------------------------------------------------------


def _write_study(folder: Path, scan: Scan, seed: int) -> dict:
    """Write the DICOM series, truth.nii.gz and levels.csv of a scan into a folder.

    The series lie in dicom/LOC, dicom/SAG_T2 and dicom/AX_T2 or dicom/AX_DIXON. Returns the rows of
    both truth tables, {"slices": [...], "muscles": [...]}.
    """
    volunteer, visit = scan.volunteer, scan.visit
    body = body_of(volunteer)
    if visit > 1:  # another scanner shows the tissues of the same body in other brightness
        contrast = contrast_of(volunteer.seed + visit, volunteer.age_years)
        body = replace(body, contrast=contrast)
    protocol = protocol_of(volunteer, scan.index, visit)
    planes = [protocol.plane(number) for number in range(protocol.slices)]
    cuts = [protocol.in_body(plane) for plane in planes]
    if maker := dixon_signal.VOLUNTEERS.get(scan.index):
        shown = list(dixon_signal.render_dixon(body, cuts, protocol.grid, protocol.acquisition))
        slices, axial = [one.truth for one in shown], _dixon_images(maker, protocol, shown)
    else:
        slices = list(render_planes(body, cuts, protocol.grid, protocol.acquisition))
        series = _axial_series(protocol, "AX_T2", 3, echo_ms=99.0, repetition_ms=4200.0)
        axial = [("AX_T2", series, [one.image for one in slices])]
    order = slice(None, None, -1) if protocol.cranial_first else slice(None)
    written = 0
    for name, series, images in axial:
        pictures = list(zip(images, planes, strict=True))
        numbers = 1 + np.random.default_rng([volunteer.seed, 71]).permutation(len(pictures))
        numbered = zip(pictures[order], written + numbers[order], itertools.count(1 + written))
        _write_series(folder / "dicom" / name, series, numbered, scan, seed)
        written += len(pictures)
    for series, pictures in (sagittal_series(body, protocol), localizer_series(body, protocol)):
        numbered = zip(pictures, itertools.count(1), itertools.count(1))
        _write_series(folder / "dicom" / series.name, series, numbered, scan, seed)
    labels = np.stack([one.labels for one in slices])
    write_label_map(folder / "truth.nii.gz", labels, affine_of(protocol))
    write_disc_points(folder / "levels.csv", body.spine, protocol)
    rows = true_slice_rows(scan.name, protocol, slices)
    return {"slices": rows, "muscles": true_muscle_rows(rows, protocol.spacing_mm)}


def _axial_series(protocol: Protocol, name: str, number: int, kind: str = "", **times) -> Series:
    return Series(
        name,
        number,
        kind,
        protocol.spacing_mm,
        protocol.acquisition.thickness_mm,
        protocol.pixel_mm,
        bits=protocol.bits,
        compressed=protocol.compressed,
        **times,
    )


def _dixon_images(
    maker: str, protocol: Protocol, slices: list[dixon_signal.DixonSlice]
) -> list[tuple[str, Series, list[np.ndarray]]]:
    """Return folder, series and images, from caudal to cranial, of each Dixon part."""
    numbers: dict[str, int] = {}
    found = []
    for part, (name, kind) in dixon_signal.NAMINGS[maker].items():
        number = numbers.setdefault(name, 3 + len(numbers))
        series = _axial_series(protocol, name, number, kind, **dixon_signal.TIMES[part])
        found.append(("AX_DIXON", series, [one.images[part] for one in slices]))
    return found


def _write_series(
    folder: Path,
    series: Series,
    numbered: Iterable[tuple[PlacedImage, int, int]],
    scan: Scan,
    seed: int,
) -> None:
    """Write the images of a series; numbered: each with the number of its file and its instance."""
    series = replace(series, scanner=SCANNERS[scan.visit - 1])
    folder.mkdir(parents=True, exist_ok=True)
    for (image, plane), number, instance in numbered:
        path = folder / f"IM{number:04d}.dcm"
        write_image(path, image, plane, series, instance, scan.volunteer, seed, scan.visit)
