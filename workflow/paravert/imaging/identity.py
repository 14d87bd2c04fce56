"""Whether headers speak of one person. What they say is only ever compared, never passed on."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from pydicom.charset import python_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from paravert.imaging.values import text

UNREADABLE = "\ufffd"  # stands for bytes that the told encoding does not have
ESCAPE = b"\x1b"  # switches the character set (ISO 2022)
PERSON_TAGS = {
    "PatientID": "PatientID (0010,0020)",
    "PatientName": "PatientName (0010,0010)",
    "PatientBirthDate": "PatientBirthDate (0010,0030)",
}

Readings = frozenset[str]  # what a value may say; empty if unknown


def person_of(data: Dataset) -> tuple[Readings, ...]:
    """Return what a header may say of the person, in the order of PERSON_TAGS."""
    return tuple(_readings(data, keyword) for keyword in PERSON_TAGS)


def different(values: Sequence[Readings]) -> int:
    """Count the values that have no reading in common, directly or through others."""
    groups: list[Readings] = []
    for value in set(values) - {frozenset()}:
        meeting = [group for group in groups if group & value]
        groups = [group for group in groups if not group & value]
        groups.append(value.union(*meeting))
    return len(groups)


def _readings(data: Dataset, keyword: str) -> Readings:
    """Return a value as its encoding says, and as every other that DICOM knows would have it.

    Archives declare another encoding than they write, or none: one name is then read in two ways.
    """
    found = {text(data, keyword)}
    element = data.get_item(Tag(keyword))
    raw = element.value if isinstance(element, RawDataElement) else None
    if isinstance(raw, bytes) and not (raw.isascii() and ESCAPE not in raw):
        found |= _decoded(raw)
    if keyword == "PatientName":  # its groups are one name in several scripts
        found = {group.upper().rstrip("^ ") for name in found for group in name.split("=")}
    return frozenset(unicodedata.normalize("NFKC", r) for r in found if r and UNREADABLE not in r)


@lru_cache(64)
def _decoded(raw: bytes) -> frozenset[str]:
    found = set()
    for encoding in set(python_encoding.values()):
        try:
            found.add(raw.decode(encoding).strip(" \0"))
        except (UnicodeDecodeError, LookupError):
            continue
    return frozenset(found)
