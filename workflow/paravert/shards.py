"""Who works on whom: shards, fingerprints, atomic writes and the isolation of faults.

A step works through the subjects of one shard. For each subject it leaves its files below
`<folder>/<subject>/` and one record (JSON): the fingerprint of what made them, the outcome and
the subject's rows. A rerun takes a subject as it is while fingerprint and files hold.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from paravert import tables
from paravert.errors import Caution, SubjectFault
from paravert.provenance import code_fingerprint, digest

log = logging.getLogger(__name__)

ANALYSED, QUARANTINED = "analysed", "quarantined"
LEFTOVER_SECONDS = 24 * 3600  # no subject takes a day: such a scratch folder belongs to nobody


@dataclass(frozen=True)
class Step:
    """A rule that works per shard: its command, its module, the shard table and the record.

    owns: files and folders of a subject that this step alone writes.
    extra: made only when asked for, and no part of the cohort.
    """

    name: str
    module: str
    table: tables.Table
    record: str
    owns: tuple[str, ...] = ()
    extra: bool = False


STEPS = {
    step.name: step
    for step in (
        Step(
            "convert_dicom",
            "imaging.convert",
            tables.CONVERT,
            "status.json",
            owns=("image", "truth", "given", "slices.parquet"),
        ),
        Step("segment_muscles", "network.segment", tables.SEGMENT, "segment.json", ("labels",)),
        Step("measure_area", "measure.area", tables.AREA, "area.json"),
        Step("measure_fat", "measure.fat", tables.FAT, "fat.json"),
        Step("score_overlap", "measure.overlap", tables.SHARD_OVERLAP, "overlap.json"),
        Step("draw_preview", "measure.preview", tables.PREVIEW, "preview.json", ("preview.png",)),
        Step(
            "dicomseg",
            "measure.dicomseg",
            tables.DICOMSEG,
            "dicomseg.json",
            owns=("dicomseg",),
            extra=True,
        ),
    )
}
COHORT_STEPS = tuple(step for step in STEPS.values() if not step.extra)


@dataclass(frozen=True)
class Task:
    """One subject and what its result depends on beside the code (JSON-able, hashed)."""

    subject: str
    depends_on: dict


@dataclass(frozen=True)
class Product:
    """What a step made of one subject: rows of its table (without `subject`) and warnings."""

    rows: list[dict]
    warnings: tuple[Caution, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one subject in one step; stage, reason and message only if quarantined."""

    subject: str
    status: str
    fingerprint: str
    warnings: tuple[str, ...] = ()
    stage: str | None = None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Result:
    """What a shard table takes from one subject; held: taken as it was, not computed."""

    outcome: Outcome
    rows: list[dict]
    held: bool = False


# --- who works on whom ---------------------------------------------------------------------------


def shard_names(subjects: Sequence[str], subjects_per_shard: int) -> dict[str, str]:
    """Return each subject's shard.

    The number of shards is the next power of two, so that it changes only when the cohort doubles;
    the shard follows from a stable hash of the name. With one subject per shard it is the name.
    """
    if subjects_per_shard == 1:
        return {subject: subject for subject in subjects}
    shards = 1 << max(0, (-(-len(subjects) // subjects_per_shard) - 1)).bit_length()
    width = len(f"{shards - 1:x}")
    return {subject: f"{_stable_hash(subject) % shards:0{width}x}" for subject in subjects}


def shard_plan(
    subjects: Sequence[str], subjects_per_shard: int, selection: str = ""
) -> dict[str, list[str]]:
    """Return the subjects of each shard that has any, both in order.

    selection: subjects at hand, comma-separated; empty for all. A selection changes no subject's
    shard. Raises LookupError for a selected subject that is not in the cohort.
    """
    wanted = [name.strip() for name in selection.split(",") if name.strip()] or list(subjects)
    unknown = sorted(set(wanted) - set(subjects))
    if unknown:
        raise LookupError(f"subjects {', '.join(unknown)} are not in the sheet")
    chosen = set(wanted)
    plan: dict[str, list[str]] = {}
    for subject, shard in shard_names(subjects, subjects_per_shard).items():
        if subject in chosen:
            plan.setdefault(shard, []).append(subject)
    return {shard: sorted(plan[shard]) for shard in sorted(plan)}


def _stable_hash(subject: str) -> int:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big")


# --- working through a shard ---------------------------------------------------------------------


def work_through(
    step_name: str,
    tasks: Sequence[Task],
    do: Callable[[Task, Path], Product],
    *,
    folder: Path,
    out: Path,
    upstream: Iterable[Outcome] = (),
    workers: int = 1,
) -> None:
    """Do a step for every subject of a shard and write the shard's table.

    do: makes one subject's product, writing its files into the empty folder it is given; they are
    moved to `<folder>/<subject>/` when it returns. Raises SubjectFault for faulty data (the subject
    is quarantined); any other exception fails the job. With workers > 1 it must be picklable.
    upstream: outcomes of the step before; who was quarantined there is passed on.
    """
    step = STEPS[step_name]
    work = partial(_work_one, step, do, folder)
    results = [Result(outcome, []) for outcome in upstream if outcome.status == QUARANTINED]
    passed_on = len(results)
    for result in _with_progress(_in_turn(work, tasks, workers), step.name, len(tasks)):
        _log_line(step, result)
        results.append(result)
    held = sum(result.held for result in results)
    log.info("%s: %d computed, %d held", step.name, len(results) - held - passed_on, held)
    write_shard_table(out, step, sorted(results, key=lambda result: result.outcome.subject))


def work_after(
    shard_table: Path,
    step_name: str,
    do: Callable[[Task, Path], Product],
    *,
    folder: Path,
    out: Path,
    workers: int = 1,
    depends_on: dict | None = None,
) -> None:
    """Do a step for every subject that the step before, of this shard table, analysed.

    depends_on: what results depend on beside those of the step before and the code. The rest is as
    in `work_through`.
    """
    tasks, outcomes = tasks_after(shard_table)
    tasks = [Task(task.subject, task.depends_on | (depends_on or {})) for task in tasks]
    work_through(step_name, tasks, do, folder=folder, out=out, upstream=outcomes, workers=workers)


def tasks_after(shard_table: Path) -> tuple[list[Task], list[Outcome]]:
    """Return a task per subject that the step before analysed, and all its outcomes."""
    outcomes = read_outcomes(shard_table)
    tasks = [
        Task(outcome.subject, {"upstream": outcome.fingerprint})
        for outcome in outcomes
        if outcome.status == ANALYSED
    ]
    return tasks, outcomes


def _in_turn(work: Callable, tasks: Sequence[Task], workers: int) -> Iterator:
    if workers == 1 or len(tasks) < 2:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(max_workers=workers) as pool:
        yield from pool.map(work, tasks)


def _with_progress(results: Iterator, name: str, total: int) -> Iterator:
    watched = sys.stderr.isatty()
    return iter(tqdm(results, desc=name, total=total, unit="subject", disable=not watched))


def _log_line(step: Step, result: Result) -> None:
    outcome = result.outcome
    how = "held" if result.held else "computed"
    told = [f"{outcome.reason}: {outcome.message}"] if outcome.reason else outcome.warnings
    log.info("%s: %s: %s, %s %s", step.name, outcome.subject, how, outcome.status, " ".join(told))


def _work_one(step: Step, do: Callable[[Task, Path], Product], folder: Path, task: Task) -> Result:
    home = folder / task.subject
    fingerprint = digest([step.name, code_fingerprint(step.module), task.depends_on])
    held = _held_result(home, step, fingerprint)
    if held is not None:
        return held
    home.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(home, step)
    with tempfile.TemporaryDirectory(dir=home, prefix=f".{step.name}-") as scratch:
        result = _attempt(step, do, task, Path(scratch), fingerprint)
        _put_in_place(home, step, Path(scratch), result)
    return result


def _attempt(step: Step, do: Callable, task: Task, scratch: Path, fingerprint: str) -> Result:
    try:
        product = do(task, scratch)
    except SubjectFault as fault:
        for path in scratch.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        outcome = Outcome(
            subject=task.subject,
            status=QUARANTINED,
            fingerprint=fingerprint,
            stage=step.name,
            reason=str(fault.reason),
            message=fault.message,
        )
        return Result(outcome, [])
    warnings = tuple(sorted({str(warning) for warning in product.warnings}))
    return Result(Outcome(task.subject, ANALYSED, fingerprint, warnings), product.rows)


# --- records -------------------------------------------------------------------------------------


def _held_result(home: Path, step: Step, fingerprint: str) -> Result | None:
    record = _read_record(home / step.record)
    if record is None or record["outcome"]["fingerprint"] != fingerprint:
        return None
    if any(_file_state(home / name) != state for name, state in record["files"].items()):
        return None
    return Result(_outcome(record["outcome"]), record["rows"], held=True)


def _read_record(path: Path) -> dict | None:
    """Return a record, or None where there is none or it was left damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _outcome(fields: dict) -> Outcome:
    return Outcome(**{**fields, "warnings": tuple(fields["warnings"])})


def _file_state(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _put_in_place(home: Path, step: Step, scratch: Path, result: Result) -> None:
    """Move a step's files home; the record goes first and comes back last.

    A kill at any moment leaves either a whole result or none that a rerun would take. Whatever an
    earlier result left in the step's own places is removed.
    """
    (home / step.record).unlink(missing_ok=True)
    names = _files(scratch, (path.name for path in scratch.iterdir()))
    for name in names:
        if name.split(os.sep)[0] not in step.owns:
            raise ValueError(f"{step.name} wrote {name}, expected {' or '.join(step.owns)}")
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch / name, home / name)
    for stale in set(_files(home, step.owns)) - set(names):
        (home / stale).unlink(missing_ok=True)
    record = {
        "outcome": asdict(result.outcome),
        "files": {name: _file_state(home / name) for name in names},
        "rows": result.rows,
    }
    draft = scratch / "record"
    draft.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    os.replace(draft, home / step.record)


def _files(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the files below some of a folder's entries, relative to it."""
    found = []
    for entry in (folder / name for name in names):
        below = entry.rglob("*") if entry.is_dir() else [entry]
        found += [str(file.relative_to(folder)) for file in below if file.is_file()]
    return sorted(found)


def _remove_leftovers(home: Path, step: Step) -> None:
    """Remove the scratch folders of jobs that were killed long ago."""
    for scratch in home.glob(f".{step.name}-*"):
        if time.time() - scratch.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(scratch, ignore_errors=True)


# --- shard tables --------------------------------------------------------------------------------


def write_shard_table(path: Path, step: Step, results: Sequence[Result]) -> None:
    """Write a shard's rows, with the outcome of every subject in the file's metadata."""
    rows = []
    for result in results:
        told = told_by(result.outcome) if step.table.per_subject else {}
        told["subject"] = result.outcome.subject
        subject_rows = result.rows or ([{}] if step.table.per_subject else [])
        rows += [told | row for row in subject_rows]
    metadata = {"outcomes": json.dumps([asdict(result.outcome) for result in results])}
    tables.write(path, step.table, tables.from_rows(step.table, rows), metadata)


def told_by(outcome: Outcome) -> dict:
    """Return an outcome as a row of the columns tables.OUTCOME."""
    told = asdict(outcome)
    told.pop("fingerprint")
    return told


def read_outcomes(path: Path) -> list[Outcome]:
    """Return the outcomes that a shard table carries, by subject."""
    metadata = pq.read_schema(path).metadata
    return [_outcome(fields) for fields in json.loads(metadata[b"outcomes"])]


def read_shard_rows(path: Path) -> pa.Table:
    """Return the rows of a shard table."""
    return pq.read_table(path)
