"""Digests of values and files, and the state of input files."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_IROTH, S_ISDIR, S_ISLNK, S_ISREG

# Raised by os.stat for a path that does not exist, or cannot (ValueError).
NOTHING_THERE = (FileNotFoundError, NotADirectoryError, ValueError)


def digest(value: object) -> str:
    """Return the SHA-256 of a value, written as JSON, as 64 hexadecimal digits.

    value: anything that JSON can hold; values of other types enter as their str(), tuples as lists; a
    key of a dict of another type raises TypeError. The order of dict keys does not matter; the order of
    lists does.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(path: Path) -> str:
    """Return a digest (SHA-256, hexadecimal) of sizes and modification times of files at a path.

    path: a file, whose name does not matter, or a folder, with all files at any depth and their
    names. No file is opened. Returns "absent" if there is neither. Files and folders that cannot be
    read enter the digest as unreadable instead of raising, so that the digest changes once they can
    be read.
    """
    try:
        own = os.stat(path)
    except NOTHING_THERE:
        return "absent"
    except OSError as error:
        return digest(_state("", error))
    if S_ISREG(own.st_mode):
        return digest(_state(str(path), own))
    if not S_ISDIR(own.st_mode):
        return "absent"
    start = len(os.path.join(path, ""))
    return digest(sorted((place[start:], *_state(place, found)) for place, found in _walk(path)))


def _state(path: str, found: os.stat_result | OSError) -> list:
    if isinstance(found, OSError):
        return ["unreadable", found.errno]
    # A file that everybody may read needs no second system call.
    readable = found.st_mode & S_IROTH or S_ISLNK(found.st_mode) or os.access(path, os.R_OK)
    return [found.st_size, found.st_mtime_ns, *([] if readable else ["unreadable"])]


def files_below(folder: Path) -> list[Path]:
    """Return the paths of all files at any depth below a folder, sorted.

    The paths begin with `folder`. Links to folders are followed, each folder once. Broken links are
    listed as files, so that a missing target is noticed. Raises OSError if a folder cannot be
    listed or a file cannot be examined.
    """
    files = []
    for place, found in _walk(folder):
        if isinstance(found, OSError):
            raise found
        files.append(Path(place))
    return sorted(files)


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result | OSError]]:
    """Yield the files below a folder, each with its state; a broken link with its own.

    For what cannot be read, the error is in place of the state.
    """
    waiting, seen = [str(folder)], set()
    while waiting:
        path = waiting.pop()
        try:
            found = _followed(path)
            if S_ISDIR(found.st_mode):
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    waiting += [f"{path}/{name}" for name in os.listdir(path)]
                continue
        except OSError as error:
            yield path, error
            continue
        if S_ISREG(found.st_mode) or S_ISLNK(found.st_mode):
            yield path, found


def _followed(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)
