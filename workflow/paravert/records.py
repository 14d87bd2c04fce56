"""What a step keeps of one subject: its files, a record of what made them, a mark while at work.

A subject's files and record appear whole or not at all, whatever kills the process. By the mark, a
process that lives on tells at whose work another one died; who had better be tried alone is noted.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ANALYSED, QUARANTINED = "analysed", "quarantined"
LEFTOVER_SECONDS = 24 * 3600  # no subject takes a day: such a scratch folder belongs to nobody


@dataclass(frozen=True)
class Outcome:
    """What became of one subject in one step; stage and reason only if quarantined.

    message: what was found, of the reason or of a warning.
    """

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


@dataclass(frozen=True)
class Found:
    """What lies in a place: the fingerprint in its record and that of the step before, if known.

    harmed: files that are no longer as the record has them.
    """

    fingerprint: str | None = None
    upstream: str | None = None
    harmed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a step keeps what it made of one subject.

    home: the subject's folder. record: name of the record. owns: files and folders of a subject
    that this step alone writes.
    """

    home: Path
    step: str
    record: str
    owns: tuple[str, ...]

    def held(self, fingerprint: str) -> Result | None:
        """Return the result if it was made from that and every file is as it was written."""
        record = self._read()
        if record is None or record["outcome"]["fingerprint"] != fingerprint:
            return None
        if self._harmed(record):
            return None
        return Result(outcome_of(record["outcome"]), record["rows"], held=True)

    def found(self) -> Found:
        """Return what lies there, whatever it was made from."""
        record = self._read()
        if record is None:
            return Found()
        fingerprint = record["outcome"]["fingerprint"]
        return Found(fingerprint, record["upstream"], self._harmed(record))

    @contextmanager
    def begun(self, fingerprint: str) -> Iterator[Path]:
        """Mark the subject as begun and give an empty folder for its files; both are gone at the end."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        with tempfile.TemporaryDirectory(dir=self.home, prefix=f".{self.step}-") as scratch:
            mark = {"fingerprint": fingerprint, "parent": os.getppid()}
            _write_json(self._mark, mark, Path(scratch))
            try:
                yield Path(scratch)
            finally:
                self._mark.unlink(missing_ok=True)

    @property
    def was_left(self) -> bool:
        """Whether somebody is at work on the subject, or was when the process was killed."""
        return self._mark.exists()

    def count_death(self, fingerprint: str) -> bool:
        """Note that a child of this process died, and return True, if it was at work on the subject.

        A process that is killed together with its parent counts for nobody: that comes from outside.
        """
        mark = _read_json(self._mark)
        if mark != {"fingerprint": fingerprint, "parent": os.getpid()}:
            return False
        note = {"fingerprint": fingerprint, "times": self.deaths(fingerprint) + 1}
        with tempfile.TemporaryDirectory(dir=self.home, prefix=f".{self.step}-") as scratch:
            _write_json(self._deaths, note, Path(scratch))
        self._mark.unlink(missing_ok=True)
        return True

    def deaths(self, fingerprint: str) -> int:
        """Return how often a process died at work on the subject from the same."""
        note = _read_json(self._deaths)
        return note["times"] if note and note["fingerprint"] == fingerprint else 0

    def put(self, scratch: Path, result: Result, upstream: str | None = None) -> None:
        """Move a result's files home; the record goes first and comes back last.

        upstream: fingerprint of the result of the step before that this one was made from.
        A kill at any moment leaves either a whole result or none that a rerun would take. Whatever
        an earlier result left in the step's own places is removed.
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
        self.forget_deaths()

    def clear(self) -> None:
        """Leave no result of the subject in this step."""
        self._forget()
        self._remove_all_but([])

    def forget_deaths(self) -> None:
        """Let the subject be tried afresh."""
        self._deaths.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self.home / f".{self.step}-begun"

    @property
    def _deaths(self) -> Path:
        return self.home / f".{self.step}-deaths"

    def _read(self) -> dict | None:
        return _read_json(self.home / self.record)

    def _harmed(self, record: dict) -> tuple[str, ...]:
        files = record["files"].items()
        states = {name: _file_state(self.home / name) for name, _ in files}
        return tuple(name for name, state in files if states[name] is None or states[name] != state)

    def _forget(self) -> None:
        (self.home / self.record).unlink(missing_ok=True)

    def _remove_all_but(self, names: list[str]) -> None:
        for stale in set(_files(self.home, self.owns)) - set(names):
            (self.home / stale).unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Remove the scratch folders of jobs that were killed long ago."""
        for scratch in self.home.glob(f".{self.step}-*"):
            if scratch.is_dir() and time.time() - scratch.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(scratch, ignore_errors=True)


def outcome_of(fields: dict) -> Outcome:
    """Return an outcome from what JSON kept of it."""
    return Outcome(**{**fields, "warnings": tuple(fields["warnings"])})


def _read_json(path: Path) -> dict | None:
    """Return what a file holds, or None where there is none or it was left damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _write_json(path: Path, value: dict, scratch: Path) -> None:
    """Write a file whole or not at all; scratch: a folder on the same file system."""
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
    """Return the files below some of a folder's entries, relative to it."""
    found = []
    for entry in (folder / name for name in names):
        below = entry.rglob("*") if entry.is_dir() else [entry]
        found += [str(file.relative_to(folder)) for file in below if file.is_file()]
    return sorted(found)
