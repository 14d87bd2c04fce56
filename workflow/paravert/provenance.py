"""What made a result: digests of values and files, the state of input folders."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of a JSON-able value; the order of dict keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(path: Path) -> str:
    """Return a digest of the names, sizes and modification times below a path; "absent" if none.

    Cheap enough to ask for every subject before a run: no file is opened, and each is asked once.
    """
    if path.is_file():
        stat = path.stat()
        return digest([stat.st_size, stat.st_mtime_ns])
    if not path.is_dir():
        return "absent"
    start = len(os.path.join(path, ""))
    return digest(
        sorted((name[start:], stat.st_size, stat.st_mtime_ns) for name, stat in _walk(path))
    )


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder in order, links to folders followed, each folder once.

    Links that lead nowhere count as files: what is missing must not go unnoticed.
    """
    return sorted(Path(name) for name, _ in _walk(folder)) if folder.is_dir() else []


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below a folder, each with its state; a broken link with its own."""
    waiting, seen = [(str(folder), os.stat(folder))], set()
    while waiting:
        home, own = waiting.pop()
        if (own.st_dev, own.st_ino) in seen:
            continue
        seen.add((own.st_dev, own.st_ino))
        for name in _listed(home):
            path = f"{home}/{name}"
            stat = _followed(path)
            if S_ISREG(stat.st_mode) or S_ISLNK(stat.st_mode):
                yield path, stat
            elif S_ISDIR(stat.st_mode):
                waiting.append((path, stat))


def _listed(folder: str) -> list[str]:
    """Return the names in a folder; none where it may not be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _followed(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)
