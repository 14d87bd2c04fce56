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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
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


@dataclass(frozen=True)
class Step:
    """A rule that works per shard: its command, its module, the shard table and the record."""

    name: str
    module: str
    table: tables.Table
    record: str


STEPS = {
    step.name: step
    for step in (
        Step("convert_dicom", "imaging.convert", tables.CONVERT, "status.json"),
        Step("segment_muscles", "network.segment", tables.SEGMENT, "segment.json"),
        Step("measure_area", "measure.area", tables.AREA, "area.json"),
        Step("measure_fat", "measure.fat", tables.FAT, "fat.json"),
        Step("score_overlap", "measure.overlap", tables.SHARD_OVERLAP, "overlap.json"),
        Step("draw_preview", "measure.preview", tables.PREVIEW, "preview.json"),
    )
}


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
    results = [(outcome, []) for outcome in upstream if outcome.status == QUARANTINED]
    done = _in_turn(work, tasks, workers)
    for task, result in zip(tasks, _with_progress(done, step.name, len(tasks)), strict=True):
        _log_line(step, task, result[0])
        results.append(result)
    write_shard_table(out, step, sorted(results, key=lambda result: result[0].subject))


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


def _log_line(step: Step, task: Task, outcome: Outcome) -> None:
    if outcome.status == QUARANTINED:
        log.warning("%s: %s: %s: %s", step.name, task.subject, outcome.reason, outcome.message)
    else:
        log.info("%s: %s: done %s", step.name, task.subject, " ".join(outcome.warnings))


def _work_one(
    step: Step, do: Callable[[Task, Path], Product], folder: Path, task: Task
) -> tuple[Outcome, list[dict]]:
    home = folder / task.subject
    fingerprint = digest([step.name, code_fingerprint(step.module), task.depends_on])
    held = _held_result(home, step, fingerprint)
    if held is not None:
        return held
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=f".{step.name}-") as scratch:
        outcome, rows = _attempt(step, do, task, Path(scratch), fingerprint)
        _put_in_place(home, step, Path(scratch), outcome, rows)
    return outcome, rows


def _attempt(step, do, task, scratch, fingerprint) -> tuple[Outcome, list[dict]]:
    try:
        product = do(task, scratch)
    except SubjectFault as fault:
        for path in scratch.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return (
            Outcome(
                subject=task.subject,
                status=QUARANTINED,
                fingerprint=fingerprint,
                stage=step.name,
                reason=str(fault.reason),
                message=fault.message,
            ),
            [],
        )
    warnings = tuple(sorted({str(warning) for warning in product.warnings}))
    return Outcome(task.subject, ANALYSED, fingerprint, warnings), product.rows


# --- records -------------------------------------------------------------------------------------


def _held_result(home: Path, step: Step, fingerprint: str) -> tuple[Outcome, list[dict]] | None:
    record = _read_record(home / step.record)
    if record is None or record["outcome"]["fingerprint"] != fingerprint:
        return None
    if any(_file_state(home / name) != state for name, state in record["files"].items()):
        return None
    return _outcome(record["outcome"]), record["rows"]


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


def _put_in_place(home: Path, step: Step, scratch: Path, outcome: Outcome, rows: list) -> None:
    """Move a step's files home; the record goes first and comes back last.

    A kill at any moment leaves either a whole result or none that a rerun would take.
    """
    old = _read_record(home / step.record) or {"files": {}}
    (home / step.record).unlink(missing_ok=True)
    names = [str(file.relative_to(scratch)) for file in scratch.rglob("*") if file.is_file()]
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch / name, home / name)
    for stale in set(old["files"]) - set(names):
        (home / stale).unlink(missing_ok=True)
    record = {
        "outcome": asdict(outcome),
        "files": {name: _file_state(home / name) for name in sorted(names)},
        "rows": rows,
    }
    draft = scratch / "record"
    draft.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    os.replace(draft, home / step.record)


# --- shard tables --------------------------------------------------------------------------------


def write_shard_table(path: Path, step: Step, results: list[tuple[Outcome, list[dict]]]) -> None:
    """Write a shard's rows, with the outcome of every subject in the file's metadata."""
    rows = []
    for outcome, subject_rows in results:
        told = _told_by(outcome) if step.table.per_subject else {"subject": outcome.subject}
        subject_rows = subject_rows or ([{}] if step.table.per_subject else [])
        rows += [told | row for row in subject_rows]
    metadata = {"outcomes": json.dumps([asdict(outcome) for outcome, _ in results])}
    tables.write(path, step.table, tables.from_rows(step.table, rows), metadata)


def _told_by(outcome: Outcome) -> dict:
    told = asdict(replace(outcome))
    told.pop("fingerprint")
    return told


def read_outcomes(path: Path) -> list[Outcome]:
    """Return the outcomes that a shard table carries, by subject."""
    metadata = pq.read_schema(path).metadata
    return [_outcome(fields) for fields in json.loads(metadata[b"outcomes"])]


def read_shard_rows(path: Path) -> pa.Table:
    """Return the rows of a shard table."""
    return pq.read_table(path)
