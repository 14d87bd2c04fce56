"""Reads the headers of all files of an archive once, in parallel; an interrupted run resumes.

The index is a SQLite file beside the sheet. It contains identifiers from the headers, so only its
owner may read it. It is deleted once the sheet is written.
"""

import errno
import os
import pickle
import sqlite3
import time
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from tqdm import tqdm

from paravert import __version__
from paravert.archive.headers import ArchiveFile, read_files
from paravert.errors import InputError, Reason, SubjectFault
from paravert.provenance import digest
from paravert.shards import worker_pool

FILES_PER_CHUNK = 50
CHUNKS_PER_WORKER = 4  # waiting, so that no worker is idle
COMMIT_SECONDS = 1.0
OWNER_ONLY = 0o600
# folder: its bytes, as a path need not be UTF-8.
TABLES = """
CREATE TABLE IF NOT EXISTS chunks (digest TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS parts (
    chunk TEXT, patient_id TEXT, issuer TEXT, study TEXT, folder BLOB, images INTEGER, files BLOB);
CREATE INDEX IF NOT EXISTS by_study ON parts (patient_id, issuer, study);
CREATE INDEX IF NOT EXISTS by_folder ON parts (folder);
"""


class Study(NamedTuple):
    """Identifiers of an examination as in the headers; "" if absent.

    patient_id: PatientID (0010,0020). issuer: IssuerOfPatientID (0010,0021). study:
    StudyInstanceUID (0020,000D).
    """

    patient_id: str
    issuer: str
    study: str


@dataclass(frozen=True)
class Tree:
    """The files and folders of an archive, sorted.

    files: (path, size in bytes, modification time in ns) of each; -1 and 0 if unknown. folders:
    paths of all folders, the archive's own included. closed: those that may not be read, or lie in
    a folder that may not be entered. All paths begin with that of the archive's folder as it was
    given.
    """

    files: tuple[tuple[str, int, int], ...]
    folders: tuple[str, ...]
    closed: tuple[str, ...]


def list_tree(folder: Path, leave_out: Iterable[Path] = ()) -> Tree:
    """Return all files and folders below a folder, at any depth, with size and time of each file.

    folder: of the archive. leave_out: files that are not listed, as absolute paths whose folders are
    resolved (without links). Links are followed; each folder is listed once. Pipes, sockets and devices
    are not listed, as conversion does not read them. Folders that cannot be read are in `Tree.closed`.
    """
    closed: list[str] = []
    files, folders, seen = [], [], {_place_on_disk(str(folder))}
    left_out = frozenset(leave_out)
    walk = os.walk(folder, onerror=lambda error: closed.append(error.filename), followlinks=True)
    for place, below, names in walk:
        folders.append(place)
        found = {name: _place_on_disk(f"{place}/{name}") for name in sorted(below, reverse=True)}
        closed += [f"{place}/{name}" for name, inode in found.items() if inode is None]
        new = {inode: name for name, inode in found.items() if inode is not None}
        below[:] = sorted(name for inode, name in new.items() if inode not in seen)
        seen |= new.keys()
        kept = set(names) - _names_in(place, left_out)
        states = ((path, _state(path)) for path in (f"{place}/{name}" for name in kept))
        files += [(path, *state) for path, state in states if state]
    return Tree(tuple(sorted(files)), tuple(sorted([*folders, *closed])), tuple(sorted(closed)))


def _names_in(folder: str, files: Collection[Path]) -> set[str]:
    """Return the names of those files that are in a folder; files: their folders are resolved."""
    place = Path(os.path.realpath(folder))
    return {file.name for file in files if file.parent == place}


def _place_on_disk(path: str) -> tuple[int, int] | None:
    """Return device and inode of a folder; None if the way to it is closed."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _state(path: str) -> tuple[int, int] | None:
    """Return size and time of a file, -1 and 0 if unknown; None for a pipe, socket or device."""
    try:
        found = os.stat(path)
    except OSError:  # reading the file reports it
        return -1, 0
    return (found.st_size, found.st_mtime_ns) if S_ISREG(found.st_mode) else None


class Index:
    """The headers of an archive's files, in a SQLite file; a `with` statement closes it at its end.

    path: of the SQLite file; made if absent, for its owner only. archive: folder that `fill` will
    read; entries of another archive or another version of paravert are deleted; until it is closed,
    no other process can open the file. None: the index, made by an earlier call, is only read. Raises
    InputError, also at the end of the `with` statement, if the file is not an SQLite file or another
    process has it open; OSError if the disk is full.
    """

    def __init__(self, path: Path, archive: Path | None = None):
        self.path = path
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY))
        self._base = sqlite3.connect(path)
        if archive is not None:
            self._begin(digest([__version__, TABLES, str(archive)]))

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._base.close()
        if isinstance(error, sqlite3.Error):
            raise _told(error, self.path) from error

    def _begin(self, origin: str) -> None:
        try:
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")  # from the first change on
            self._base.executescript(f"BEGIN EXCLUSIVE; {TABLES} COMMIT;")
        except sqlite3.Error as error:
            raise _told(error, self.path) from error
        (known,) = self._base.execute("PRAGMA user_version").fetchone()
        number = int(origin[:7], 16)
        if known != number:
            self._base.executescript("DELETE FROM chunks; DELETE FROM parts;")
            self._base.execute(f"PRAGMA user_version = {number}")
            self._base.commit()

    # --- writing ---------------------------------------------------------------------------------

    def fill(self, tree: Tree, workers: int) -> None:
        """Read the headers of all files that are not in the index yet, with a progress bar.

        tree: files and folders of the archive; entries of files that are missing from it, or differ
        in size or modification time, are removed from the index first. workers: number of
        processes, 1 or more; 1 reads in this process. Raises ChildProcessError if one of them died;
        calling it again continues where it stopped.
        """
        done = {name for (name,) in self._base.execute("SELECT digest FROM chunks")}
        chunks = dict(_chunks(tree.files))
        with self._base:
            for gone in done - chunks.keys():
                self._base.execute("DELETE FROM chunks WHERE digest = ?", [gone])
                self._base.execute("DELETE FROM parts WHERE chunk = ?", [gone])
            self._base.execute("DELETE FROM parts WHERE chunk NOT IN (SELECT digest FROM chunks)")
            self._add("", [_part(None, path, [_closed(path)]) for path in tree.closed])
        waiting = {name: paths for name, paths in chunks.items() if name not in done}
        left = sum(map(len, waiting.values()))
        bar = tqdm(
            total=len(tree.files), initial=len(tree.files) - left, unit=" files", disable=None
        )
        committed = time.monotonic()
        with bar:
            for name, (parts, lasting) in _read_chunks(waiting, workers):
                self._add(name, parts)
                if lasting:
                    self._base.execute("INSERT INTO chunks VALUES (?)", [name])
                bar.update(len(waiting[name]))
                if time.monotonic() - committed > COMMIT_SECONDS:
                    self._base.commit()
                    committed = time.monotonic()
            self._base.commit()

    def _add(self, chunk: str, parts: Sequence[tuple]) -> None:
        rows = [(chunk, *part) for part in parts]
        self._base.executemany("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    # --- reading ---------------------------------------------------------------------------------

    def folders(self) -> dict[Study, dict[str, int]]:
        """Return {identifiers of an examination: {folder: number of its images there, 0 or more}}.

        Folders are paths as in the `Tree`. An identifier that a file lacks is "". Damaged images
        are counted. Files without `ArchiveFile.origin`, such as those that are not DICOM, are left
        out.
        """
        found: dict[Study, dict[str, int]] = defaultdict(dict)
        query = """SELECT patient_id, issuer, study, folder, SUM(images) FROM parts
            WHERE patient_id IS NOT NULL GROUP BY patient_id, issuer, study, folder"""
        for *study, folder, images in self._base.execute(query):
            found[Study(*study)][os.fsdecode(folder)] = images
        return dict(found)

    def files_of(self, places: Iterable[tuple[Study, str]]) -> list[ArchiveFile]:
        """Return the DICOM files of an examination, sorted by path.

        places: pairs (identifiers in the headers, folder) of the examination, as in
        `Examination.places`.
        """
        where = "patient_id = ? AND issuer = ? AND study = ? AND folder = ?"
        found = (self._select(where, (*study, os.fsencode(folder))) for study, folder in places)
        return sorted((file for files in found for file in files), key=lambda file: file.path)

    def others_below(self, folder: str) -> list[ArchiveFile]:
        """Return the files without `ArchiveFile.origin` in or below a folder, sorted by path.

        Folders that cannot be read are among them, as a file with a fault. folder: its path, as in
        the `Tree`.
        """
        where = "patient_id IS NULL AND (folder = ? OR (folder > ? AND folder < ?))"
        place = os.fsencode(folder)
        found = self._select(where, (place, place + b"/", place + b"0"))  # 0 follows / in ASCII
        return sorted(found, key=lambda file: file.path)

    def _select(self, where: str, values: Sequence[str | bytes]) -> Iterator[ArchiveFile]:
        for (blob,) in self._base.execute(f"SELECT files FROM parts WHERE {where}", values):
            yield from pickle.loads(zlib.decompress(blob))


def _told(error: sqlite3.Error, path: Path) -> Exception:
    """Return what to raise for an error of SQLite; the error itself if its cause is unknown."""
    match error.sqlite_errorname:
        case "SQLITE_FULL":
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        case "SQLITE_BUSY":
            return InputError(path, "in use, expected no other make_sheet that writes this sheet")
        case "SQLITE_NOTADB" | "SQLITE_CORRUPT":
            return InputError(path, "no index, expected none: remove it")
    return error


def _chunks(files: Sequence[tuple[str, int, int]]) -> Iterator[tuple[str, list[Path]]]:
    """Yield the files of each folder in groups, with a digest of their paths, sizes and times."""
    by_folder: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for file in files:
        by_folder[os.path.dirname(file[0])].append(file)
    for members in by_folder.values():
        for start in range(0, len(members), FILES_PER_CHUNK):
            chunk = members[start : start + FILES_PER_CHUNK]
            yield digest(chunk), [Path(path) for path, *_ in chunk]


def _read_chunks(
    chunks: dict[str, list[Path]], workers: int
) -> Iterator[tuple[str, tuple[list[tuple], bool]]]:
    """Yield the digest of each chunk and what `_read_chunk` returns, in any order."""
    if workers == 1:
        yield from ((name, _read_chunk(paths)) for name, paths in chunks.items())
        return
    names = iter(chunks)
    running: dict[Future, str] = {}
    with worker_pool(workers) as pool:
        while True:
            while len(running) < CHUNKS_PER_WORKER * workers and (name := next(names, None)):
                running[pool.submit(_read_chunk, chunks[name])] = name
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _read_chunk(paths: Sequence[Path]) -> tuple[list[tuple], bool]:
    """Return the parts of the files of one folder, and whether they are to be read once only.

    There is one part per `Study`, and one for files without origin. Read again are files with a fault
    that may pass (`SubjectFault.passing`).
    """
    by_study: dict[Study | None, list[ArchiveFile]] = defaultdict(list)
    files = read_files(paths)
    for file in files:
        origin = file.origin
        study = origin and Study(origin.patient_id, origin.issuer, origin.study)
        by_study[study].append(file)
    folder = str(paths[0].parent)
    parts = [_part(study, folder, own) for study, own in by_study.items()]
    return parts, not any(file.fault and file.fault.passing for file in files)


def _part(study: Study | None, folder: str, files: Sequence[ArchiveFile]) -> tuple:
    images = sum(file.is_image for file in files)
    blob = zlib.compress(pickle.dumps(list(files), pickle.HIGHEST_PROTOCOL))
    return (*(study or (None, None, None)), os.fsencode(folder), images, blob)


def _closed(folder: str) -> ArchiveFile:
    fault = SubjectFault(Reason.UNREADABLE_HEADER, "images: a folder may not be read")
    return ArchiveFile(Path(folder), fault=fault)
