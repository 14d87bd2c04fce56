"""What lies at a path of the sheet; a path that may not be read is a fault of its subject."""

import os
from errno import errorcode
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from paravert.errors import Reason, SubjectFault
from paravert.provenance import NOTHING_THERE, files_below

FILE, FOLDER, NOTHING = "file", "folder", "nothing"


def found_at(place: Path, role: str) -> str:
    """Return whether a file, a folder or nothing is at a path; links are followed.

    role: column of the sheet that names the path. Raises SubjectFault (unreadable-header) where
    that may not be known: for lack of permission, too long a name, a circle of links.
    """
    try:
        mode = os.stat(place).st_mode
    except NOTHING_THERE:
        return NOTHING
    except OSError as error:
        raise unreadable(role, "the path", error) from error
    if S_ISREG(mode):
        return FILE
    return FOLDER if S_ISDIR(mode) else NOTHING


def files_at(place: Path, role: str) -> list[Path]:
    """Return the file at a path, or all files below the folder there, in order.

    Raises SubjectFault (unreadable-header) where a part of it may not be read: what it holds would
    be missing without notice.
    """
    found = found_at(place, role)
    if found != FOLDER:
        return [place] if found == FILE else []
    try:
        return files_below(place)
    except OSError as error:
        raise unreadable(role, "a folder", error) from error


def unreadable(role: str, what: str, error: OSError) -> SubjectFault:
    """Return what to tell of an error of the operating system: its code, but no path."""
    told = errorcode.get(error.errno, "no code")
    if isinstance(error, FileNotFoundError):
        found = f"{what} is gone, or a link to it leads nowhere"
    else:
        found = f"{what} may not be read ({told})"
    return SubjectFault(Reason.UNREADABLE_HEADER, f"{role}: {found}")
