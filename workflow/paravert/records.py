"""The result of one step for one subject on disk: its files, a record (JSON), and a mark.

The record is written after all files, so that a killed process leaves no incomplete result. The
mark is a file that exists while the subject is computed: it tells the parent process which subject
a dead worker was computing. Crashes are counted per subject and step.
"""

import filecmp
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

ANALYSED, QUARANTINED = "analysed", "quarantined"
LEFTOVER_SECONDS = (
    3600  # a scratch folder older than this is of a dead process: no step takes that long
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one step of the workflow for one subject: analysed, or quarantined and why.

    subject: name of the scan. status: ANALYSED ("analysed") or QUARANTINED ("quarantined").
    fingerprint: SHA-256 (hexadecimal) of the step's name and version and of all that the result
    depends on, from `plan.result_fingerprint`. warnings: codes (errors.Caution). stage: name of the
    step that quarantined the subject, and reason: its code (errors.Reason); both None if analysed.
    message: details of the reason or of a warning; None if there are none. identity: fingerprint of
    the oldest result since which the files are the same (only convert_dicom compares them); by
    default the result's own. Later steps depend on the identity, so they keep their results if this
    step makes the same files again.
    """

    subject: str
    status: str
    fingerprint: str
    warnings: tuple[str, ...] = ()
    stage: str | None = None
    reason: str | None = None
    message: str | None = None
    identity: str = ""

    def __post_init__(self):
        object.__setattr__(self, "identity", self.identity or self.fingerprint)


@dataclass(frozen=True)
class Result:
    """The outcome of one step for one subject, and the rows that it adds to the step's table.

    outcome: analysed or quarantined, with reason and warnings. rows: one dict per row, {column:
    value}, without subject and the other columns of tables.OUTCOME; empty if quarantined. held:
    whether the result was kept from an earlier run and not computed in this one. passing: whether
    the next run tries the subject again (`SubjectFault`).
    """

    outcome: Outcome
    rows: list[dict]
    held: bool = False
    passing: bool = False


@dataclass(frozen=True)
class StoredResult:
    """Fingerprints and changed files of the stored result of one step for one subject.

    fingerprint: SHA-256 (hexadecimal) of the step, its version and all that the result depends on.
    identity: fingerprint of the oldest result since which the files are the same. upstream:
    identity of the previous step's result from which it was made; None for the first step. All
    three are None if there is no stored result. changed: paths, relative to the subject's folder,
    of its files that were changed or removed since they were written.
    """

    fingerprint: str | None = None
    identity: str | None = None
    upstream: str | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultStore:
    """Reads and writes the stored result of one step for one subject: its files and a record.

    The record (JSON) holds the outcome, the table rows, and size and time of each file. home:
    folder of the scan in results/subjects; `begun` makes it. step: name of the step. record: file
    name of the record in home. owns: names of the files and folders in home that only this step
    writes.
    """

    home: Path
    step: str
    record: str
    owns: tuple[str, ...]

    def held(self, fingerprint: str) -> Result | None:
        """Return the stored result if it has this fingerprint and unchanged files, otherwise None.

        fingerprint: SHA-256 (hexadecimal) that the wanted result would have. The returned Result
        has `held` True.
        """
        record = self._read()
        if record is None or record["outcome"]["fingerprint"] != fingerprint:
            return None
        if self._changed(record):
            return None
        return Result(outcome_of(record["outcome"]), record["rows"], held=True)

    def stored(self) -> StoredResult:
        """Return fingerprints of the stored result, and which of its files were changed since."""
        record = self._read()
        if record is None:
            return StoredResult()
        outcome = outcome_of(record["outcome"])
        changed = self._changed(record)
        return StoredResult(outcome.fingerprint, outcome.identity, record["upstream"], changed)

    def identity_of_same(self, scratch: Path) -> str:
        """Return the identity of the stored result if its files equal those in a folder, else "".

        Identity: fingerprint of the oldest result since which the files are the same. scratch:
        folder with the files of a new result; names and bytes are compared. "" also if stored files
        were changed since they were written.
        """
        record = self._read()
        names = _files(scratch, (path.name for path in scratch.iterdir()))
        if record is None or self._changed(record) or sorted(record["files"]) != names:
            return ""
        if not all(filecmp.cmp(self.home / n, scratch / n, shallow=False) for n in names):
            return ""
        return outcome_of(record["outcome"]).identity

    @contextmanager
    def begun(self, fingerprint: str) -> Iterator[Path]:
        """Mark the subject as being computed and yield an empty scratch folder, for a `with` block.

        fingerprint: SHA-256 (hexadecimal) of the result to be made; it is written into the mark. If
        the process is killed, the mark remains and shows which subject it was computing. Otherwise
        mark and folder are removed when the block ends. Scratch folders that dead processes left
        for this step are removed first, those of other computers once they are an hour old.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        with self._scratch() as scratch:
            mark = {"fingerprint": fingerprint, "parent": os.getppid()}
            _write_json(self._mark, mark, Path(scratch))
            try:
                yield Path(scratch)
            finally:
                self._mark.unlink(missing_ok=True)

    @property
    def was_left(self) -> bool:
        """Whether the subject is marked: a process computes it now, or was killed while it did."""
        return self._mark.exists()

    def count_crash(self, fingerprint: str) -> bool:
        """Return whether a worker of this process died on the subject; if so, count the crash once.

        To be called when no worker runs any more. The mark of `begun` tells; it is removed when the
        crash is counted. fingerprint: SHA-256 (hexadecimal) of the result that the worker was to
        make. False if there is no mark with this fingerprint, or if the mark names another parent
        process: that one died too or still runs, and nothing is counted.
        """
        mark = _read_json(self._mark)
        if mark != {"fingerprint": fingerprint, "parent": os.getpid()}:
            return False
        note = {"fingerprint": fingerprint, "times": self.crashes(fingerprint) + 1}
        with self._scratch() as scratch:
            _write_json(self._crashes, note, Path(scratch))
        self._mark.unlink(missing_ok=True)
        return True

    def crashes(self, fingerprint: str) -> int:
        """Return how many crashes `count_crash` has counted on a result; 0 if none.

        fingerprint: SHA-256 (hexadecimal) of that result. The count starts anew after `put` and
        `forget_crashes`, and at a crash on a result with another fingerprint.
        """
        note = _read_json(self._crashes)
        return note["times"] if note and note["fingerprint"] == fingerprint else 0

    def put(self, scratch: Path, result: Result, upstream: str | None = None) -> None:
        """Store a result: move its files into the subject's folder, then write the record (JSON).

        scratch: folder with the files, on the same file system as the subject's folder. result:
        outcome and table rows. upstream: identity of the previous step's result (`Outcome`), None
        for the first step. The old record is removed first and the new one is written last, so that
        a killed process leaves a complete result or none. Files of an earlier result of this step
        that the new one lacks are deleted; the crash count is reset. Raises ValueError for a file
        that the step does not own, and for rows with NaN or infinity.
        """
        self._forget()
        names = _files(scratch, (path.name for path in scratch.iterdir()))
        for name in names:
            if name.split(os.sep)[0] not in self.owns:
                raise ValueError(f"{self.step} wrote {name}, expected {' or '.join(self.owns)}")
            (self.home / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / name, self.home / name)
        self._remove_all_but(names)
        record = {
            "outcome": asdict(result.outcome),
            "upstream": upstream,
            "files": {name: _file_state(self.home / name) for name in names},
            "rows": result.rows,
        }
        _write_json(self.home / self.record, record, scratch)
        self.forget_crashes()

    def clear(self) -> None:
        """Delete the record and all files of the stored result; the number of crashes stays."""
        self._forget()
        self._remove_all_but([])

    def forget_crashes(self) -> None:
        """Reset the number of crashes of this step on this subject to 0."""
        self._crashes.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self.home / f".{self.step}-begun"

    @property
    def _crashes(self) -> Path:
        return self.home / f".{self.step}-deaths"

    def _read(self) -> dict | None:
        return _read_json(self.home / self.record)

    def _changed(self, record: dict) -> tuple[str, ...]:
        return tuple(
            name
            for name, state in record["files"].items()
            if state is None or _file_state(self.home / name) != state
        )

    def _forget(self) -> None:
        (self.home / self.record).unlink(missing_ok=True)

    def _remove_all_but(self, names: list[str]) -> None:
        for stale in set(_files(self.home, self.owns)) - set(names):
            (self.home / stale).unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Remove the scratch folders of dead processes; those of other nodes by their age."""
        for scratch in self.home.glob(f".{self.step}-*"):
            if scratch.is_dir() and _is_left(scratch, self.step):
                shutil.rmtree(scratch, ignore_errors=True)

    def _scratch(self) -> tempfile.TemporaryDirectory:
        prefix = f".{self.step}-{os.getpid()}-{os.uname().nodename}-"
        return tempfile.TemporaryDirectory(dir=self.home, prefix=prefix)


def _is_left(scratch: Path, step: str) -> bool:
    """Return whether the process that made a scratch folder is dead, on other nodes by its age."""
    made = re.fullmatch(rf"\.{step}-(\d+)-(.*)-[^-]*", scratch.name)
    if made and made[2] == os.uname().nodename:
        return not _is_alive(int(made[1]))
    try:
        return time.time() - scratch.stat().st_mtime > LEFTOVER_SECONDS
    except FileNotFoundError:  # its process has just ended
        return False


def _is_alive(process: int) -> bool:
    """Return whether a process runs. A zombie, dead but not waited for by a parent, does not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def outcome_of(fields: dict) -> Outcome:
    """Return an Outcome from its fields as they were read from JSON.

    fields: {name of a field of Outcome: value}; the list `warnings` becomes a tuple.
    """
    return Outcome(**{**fields, "warnings": tuple(fields["warnings"])})


def _read_json(path: Path) -> dict | None:
    """Return the content of a JSON file, None if it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _write_json(path: Path, value: dict, scratch: Path) -> None:
    """Write a file completely or not at all; scratch: a folder on the same file system."""
    draft = scratch / "draft"
    draft.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
    os.replace(draft, path)


def _file_state(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _files(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the files below these entries of a folder, relative to it."""
    found = []
    for entry in (folder / name for name in names):
        below = entry.rglob("*") if entry.is_dir() else [entry]
        found += [str(file.relative_to(folder)) for file in below if file.is_file()]
    return sorted(found)
