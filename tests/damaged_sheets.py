"""Subject sheets with random damage, and what becomes of them when they are read.

Whatever is done to a sheet, each of its lines becomes a row, or a fault is told.
"""

import random
import re
import resource
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from damaged_files import DAMAGES as DAMAGES_OF_BYTES
from paravert.errors import InputError
from paravert.sheet import read_sheet

SECONDS, MEMORY_BYTES = 5, 1 << 30  # what one sheet may cost
SUBJECTS = 40
OK, TOLD, TRACEBACK, LOST, SLOW, LARGE = (
    "rows",
    "told",
    "traceback",
    "rows lost or made",
    "over the time",
    "over the memory",
)
FAILURES = (TRACEBACK, LOST, SLOW, LARGE)


# --- the forms -----------------------------------------------------------------------------------


def _sheet(
    delimiter: str = "\t", end: str = "\n", encoding: str = "utf-8", quote: str = ""
) -> bytes:
    lines = [["subject", "images", "truth", "sex", "age_years", "site", "group"]]
    lines += [
        [f"S{n:03d}", f"dicom/Köln {n}", f"masks/{n}.nii.gz", "FM"[n % 2], f"{20 + n}.5", "Ulm", ""]
        for n in range(SUBJECTS)
    ]
    told = [delimiter.join(f"{quote}{cell}{quote}" for cell in cells) for cells in lines]
    return (end.join(told) + end).encode(encoding)


FORMS: dict[str, bytes] = {
    "tabs": _sheet(),
    "commas": _sheet(","),
    "quoted": _sheet(",", quote='"'),
    "quoted, tabs": _sheet("\t", quote='"'),
    "CR LF": _sheet(",", "\r\n"),
    "CR": _sheet("\t", "\r"),
    "byte order mark": _sheet(",", "\r\n", "utf-8-sig"),
    "semicolons": _sheet(";", "\r\n", "utf-8-sig"),
    "UTF-16": _sheet("\t", "\r\n", "utf-16"),
    "Windows-1252": _sheet(";", "\r\n", "cp1252"),
}


# --- the damage ----------------------------------------------------------------------------------

HOSTILE = [
    *('"', '""', '"x', 'x"', '"\n', "'", "\\", ",", "\t", ";", "\n", "\r", "\r\n", "\n\n"),
    *("\0", "\x0b", "\x0c", "\x1a", "\x1c", "\x85", "\u2028", "\u2029", "\ufeff", "\u200b", "\xa0"),
    *("x" * 5000, "," * 3000, '"' * 1001, "x" * 200_000),
]


def put_in(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return bytes with up to three hostile texts put in."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        text = chance.choice(HOSTILE).encode()
        content = content[:place] + text + content[place:]
        place = chance.randrange(len(content))
    return content


def moved(content: bytes, place: int, chance: random.Random) -> bytes:
    """Return bytes of which a run stands in another place."""
    end = place + chance.choice((1, 8, 64, 512))
    run, rest = content[place:end], content[:place] + content[end:]
    where = chance.randrange(len(rest) + 1)
    return rest[:where] + run + rest[where:]


DAMAGES: dict[str, Callable[[bytes, int, random.Random], bytes]] = {
    **DAMAGES_OF_BYTES,
    "put in": put_in,
    "moved": moved,
}


# --- the trials ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a sheet: OK, TOLD or one of FAILURES; what was told, and what it cost.

    peak_mb: the most memory that this process held up to here.
    """

    number: int
    form: str
    how: str
    result: str
    told: str
    seconds: float
    peak_mb: float


def run_trials(home: Path, seed: int, count: int) -> Iterator[Outcome]:
    """Damage and read so many sheets; home: a folder for them."""
    for number in range(count):
        yield run_trial(home, seed, number)


def run_trial(home: Path, seed: int, number: int) -> Outcome:
    """Damage a sheet and read it: seed and number give the same damage again."""
    form = list(FORMS)[number % len(FORMS)]
    how = list(DAMAGES)[number // len(FORMS) % len(DAMAGES)]
    chance = random.Random(f"{seed} {number}")
    content = FORMS[form]
    content = DAMAGES[how](content, chance.randrange(len(content)), chance)
    path = home / "sheet.csv"
    path.write_bytes(content)
    started, before = time.process_time(), _peak_bytes()  # of this process: others may be at work
    result, told = _read(path, content)
    seconds, peak = time.process_time() - started, _peak_bytes()
    # A peak that was there before is not this sheet's.
    if result in (OK, TOLD) and (seconds > SECONDS or peak > max(MEMORY_BYTES, before)):
        result = SLOW if seconds > SECONDS else LARGE
    return Outcome(number, form, how, result, told, seconds, peak / (1 << 20))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(path: Path, content: bytes) -> tuple[str, str]:
    try:
        rows = read_sheet(path).rows
    except InputError as fault:
        return TOLD, str(fault)
    except Exception:
        return TRACEBACK, traceback.format_exc()
    lines = lines_of(content)
    if len(rows) != len(lines) - 1:
        return LOST, f"{len(rows)} rows of {len(lines) - 1} lines"
    for row, line in zip(rows, lines[1:], strict=True):
        site = row["site"]
        found = site in line or site.replace('"', '""') in line
        if not (found and row["subject"] in line):
            return LOST, f"row {row} of line {line!r}"
    return OK, ""


def lines_of(content: bytes) -> list[str]:
    """Return the lines of a sheet that say anything, counted without the csv module."""
    text = _decoded(content).replace("\r\n", "\n").replace("\r", "\n")
    return [line for line in text.split("\n") if re.sub(r'[\s,;"]', "", line)]


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")
