"""The key file: the pseudonym of each person. Readable by its owner only, and not part of the results."""

import csv
import os
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from paravert.archive.examinations import DICOM, Person
from paravert.errors import InputError

COLUMNS = (
    "subject",
    "visit",
    "source",
    "patient_id",
    "issuer_of_patient_id",
    "examination",
    "date",
)
LETTER, DIGITS = "P", 6
OWNER_ONLY = 0o600


class Key:
    """Pseudonyms of people, read from the key file if it exists; new people get random ones.

    path: of the key file, which `write` writes: CSV with the columns subject (the pseudonym),
    visit, source, patient_id, issuer_of_patient_id, examination, date (COLUMNS). Raises InputError
    if the file exists but cannot be read or is not a key file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._rows = _read(path)
        found: dict[Person, set[str]] = defaultdict(set)
        for row in self._rows:
            found[_person_of(row)].add(row["subject"])
        self._subjects = {person: min(own) for person, own in found.items() if len(own) == 1}
        self._by_examination: dict[tuple[str, str], set[str]] = defaultdict(set)
        for row in self._rows:
            if row["source"] == DICOM:
                self._by_examination[DICOM, row["examination"]].add(row["subject"])

    def subjects_of(self, examinations: Iterable[tuple[Person, str]]) -> dict[Person, str]:
        """Return the pseudonym of each person, {person: pseudonym}; people without one get a new one.

        examinations: pairs (person, name of the examination), in any order. A person whom the key
        lacks, or has under several pseudonyms, gets a known one all the same if only the issuer is
        absent, here or in the key, and no other is known for this PatientID; or if the key has DICOM
        examinations of the person under exactly one pseudonym that no one else here has: the PatientID
        was corrected, or a spreadsheet program changed it in the key (007 to 7). New pseudonyms: "P"
        and six or more random digits. The key file is not changed: see `write`.
        """
        names: dict[Person, set[str]] = defaultdict(set)
        for person, name in examinations:
            names[person].add(name)
        asked = sorted(names)
        self._subjects |= self._without_issuer(asked)
        held = {self._subjects[person] for person in asked if person in self._subjects}
        taken = {row["subject"] for row in self._rows} | set(self._subjects.values())
        for person in asked:
            if person not in self._subjects:
                own = [
                    self._by_examination.get((person.source, name), set()) for name in names[person]
                ]
                known = set().union(*own) - held
                self._subjects[person] = known.pop() if len(known) == 1 else _draw(taken)
                held.add(self._subjects[person])
                taken.add(self._subjects[person])
        return {person: self._subjects[person] for person in asked}

    def _without_issuer(self, people: Iterable[Person]) -> dict[Person, str]:
        """Return pseudonyms of those whom the key has, but for the issuer of their PatientID."""
        alike: dict[Person, list[Person]] = defaultdict(list)
        for person in sorted({*people, *self._subjects}):
            alike[person._replace(issuer="")].append(person)
        found = {}
        for person in people:
            same = alike[person._replace(issuer="")]
            known = [self._subjects[other] for other in same if other in self._subjects]
            one_issuer = len({other.issuer for other in same} - {""}) == 1
            if person not in self._subjects and one_issuer and known:
                found[person] = known[0]
        return found

    def write(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Write the key file, readable by its owner only.

        rows: one per examination, {column: text} with all of COLUMNS, "" where unknown. Rows of the
        file as it was read whose subject and examination are not among them are written again, with
        an empty visit.
        """
        new = [dict(row) for row in rows]
        known = {_examination_of(row) for row in new}
        kept = [row | {"visit": ""} for row in self._rows if _examination_of(row) not in known]
        ordered = sorted([*new, *kept], key=lambda row: [row[name] for name in COLUMNS])
        write_table(self.path, COLUMNS, ordered, mode=OWNER_ONLY)


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"the key may not be read ({type(error).__name__})") from None
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise InputError(path, f"no key, expected the columns {', '.join(COLUMNS)}")
    for line, row in rows:
        if None in row or None in row.values():  # a cell too many, or too few
            more = "more" if None in row else "fewer"
            raise InputError(path, f"line {line} has {more} cells than the {len(COLUMNS)} columns")
    return [row for _, row in rows]


def _person_of(row: Mapping[str, str]) -> Person:
    lone = "" if row["patient_id"] else row["examination"]
    return Person(row["source"], row["patient_id"], row["issuer_of_patient_id"], lone)


def _examination_of(row: Mapping[str, str]) -> tuple[str, str]:
    return row["subject"], row["examination"]


def _draw(taken: set[str]) -> str:
    """Return an unused random pseudonym; it has more digits once half of the shorter ones are used."""
    digits = max(DIGITS, len(str(2 * len(taken))))
    while (name := f"{LETTER}{secrets.randbelow(10**digits):0{digits}}") in taken:
        pass
    return name


def write_table(
    path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]], mode: int = 0o666
) -> None:
    """Write rows as CSV (UTF-8), completely or not at all.

    path: of the file, replaced if it exists; its folder must exist. columns: their names, in order.
    rows: {column: value}; None or an absent column gives an empty cell. mode: permissions of the file,
    such as 0o600, from which the umask is taken. Raises ValueError for a row with another column.
    """
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    made = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(made, "w", encoding="utf-8", newline="") as file:
        form = {"fieldnames": list(columns), "restval": "", "lineterminator": "\n"}
        plain = csv.DictWriter(file, **form)
        # Python quotes a carriage return, which readers take for the end of a row, only from 3.13 on.
        quoted = csv.DictWriter(file, **form, quoting=csv.QUOTE_ALL)
        plain.writeheader()
        for row in rows:
            breaks = any("\r" in str(value) for value in row.values())
            (quoted if breaks else plain).writerow(row)
    os.replace(draft, path)
