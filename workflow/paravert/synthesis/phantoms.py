"""The built-in cohort: phantom volunteers as DICOM studies with manual masks and exact truth."""

import csv
import json
import logging
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from paravert.errors import InputError
from paravert.steps import VERSIONS
from paravert.synthesis.truth import TRUTH_MUSCLES, TRUTH_SLICES, write_table
from paravert.synthesis.volunteer_study import write_study
from paravert.synthesis.volunteers import PAPER_COUNT, Volunteer
from paravert.synthesis.volunteers import volunteers as draw_volunteers

log = logging.getLogger(__name__)

MADE = "made.json"
SHEET_COLUMNS = (
    "subject",
    "images",
    "truth",
    "sex",
    "age_years",
    "height_cm",
    "weight_kg",
    "site",
    "group",
)


def make_phantoms(
    out: Annotated[Path, typer.Option(help="Folder of the cohort; made if absent.")],
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same bytes.")],
    volunteers: Annotated[
        int, typer.Option(help="How many; 22 is the paper's cohort, any other a broad population.")
    ] = PAPER_COUNT,
    subject: Annotated[
        list[str] | None, typer.Option(help="Only this subject; may be given again. None: all.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the subjects.")] = 1,
) -> None:
    """Write a cohort of phantom volunteers: DICOM, masks, truth and subject sheet.

    Makes <out>/<subject>/dicom/..., <out>/<subject>/truth.nii.gz, and for all subjects that are
    there <out>/subjects.tsv, <out>/truth.parquet (per slice) and <out>/truth_muscles.parquet. A
    subject already complete from the same seed and version is left alone.
    """
    people = draw_volunteers(seed, volunteers)
    wanted = subject or [person.subject for person in people]
    unknown = sorted(set(wanted) - {person.subject for person in people})
    if unknown:
        names = f"{people[0].subject} to {people[-1].subject}"
        fault = f"{', '.join(unknown)} not in a cohort of {volunteers}, {names}"
        raise InputError("--subject", fault)
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "seed": seed,
        "volunteers": volunteers,
        "version": VERSIONS["make_phantoms"],
    }
    make = partial(_make_one, out, people, settings)
    chosen = [index for index, person in enumerate(people) if person.subject in set(wanted)]
    for line in _each(make, chosen, workers):
        log.info("%s", line)
    there = [person for person in people if _made(out, person, settings) is not None]
    _write_cohort_files(out, there, settings)


def _each(make, chosen: list[int], workers: int) -> Iterable[str]:
    if workers == 1:
        yield from map(make, chosen)
        return
    with ProcessPoolExecutor(max_workers=workers) as pool:
        yield from pool.map(make, chosen)


def _make_one(out: Path, people: tuple[Volunteer, ...], settings: dict, index: int) -> str:
    """Make one subject under a temporary name and move it in place; returns what to log."""
    volunteer = people[index]
    if _made(out, volunteer, settings) is not None:
        return f"{volunteer.subject}: already made"
    draft, home = out / f".{volunteer.subject}.part", out / volunteer.subject
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    truth = write_study(draft, volunteer, index, settings["seed"])
    record = {"settings": settings, "truth": truth}
    (draft / MADE).write_text(json.dumps(record), encoding="utf-8")
    shutil.rmtree(home, ignore_errors=True)
    draft.rename(home)
    slices = 1 + truth["slices"][-1]["slice"]
    return f"{volunteer.subject}: {volunteer.sex}, {volunteer.age_years} years, {slices} slices"


def _made(out: Path, volunteer: Volunteer, settings: dict) -> dict | None:
    """Return the truth of a subject that is complete from these settings, or None."""
    path = out / volunteer.subject / MADE
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return record["truth"] if record["settings"] == settings else None


def _write_cohort_files(out: Path, people: list[Volunteer], settings: dict) -> None:
    truths = [_made(out, person, settings) for person in people]
    write_table(
        out / "truth.parquet", (r for truth in truths for r in truth["slices"]), TRUTH_SLICES
    )
    rows = (row for truth in truths for row in truth["muscles"])
    write_table(out / "truth_muscles.parquet", rows, TRUTH_MUSCLES)
    with (out / "subjects.tsv").open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file, delimiter="\t", lineterminator="\n")
        sheet.writerow(SHEET_COLUMNS)
        sheet.writerows(_sheet_row(person) for person in people)


def _sheet_row(person: Volunteer) -> tuple:
    return (
        person.subject,
        f"{person.subject}/dicom",
        f"{person.subject}/truth.nii.gz",
        person.sex,
        person.age_years,
        f"{person.height_cm:g}",
        f"{person.weight_kg:g}",
        "phantom",
        "volunteer" if person.subject.startswith("S") else "population",
    )
