"""Values of DICOM attributes of a file or frame; a malformed value is unknown.

Attributes are named by keyword, such as PixelSpacing. Multi-frame images store attributes of all
frames and of each frame in functional groups (PS3.3, C.7.6.16). An attribute of a frame is read
from the first place that has it; if it is malformed there, no other place is tried. Malformed
values raise errors in `value_of` only; a damaged sequence raises those of pydicom.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from pydicom.charset import default_encoding, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

BINARY = ("FD", "FL", "US", "SS", "UL", "SL")  # a zero byte is a value in these VRs, not padding
# pydicom converts a value when it is accessed, and raises these where it is malformed.
VALUE_ERRORS = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
    NotImplementedError,
    BytesLengthException,
)
CACHED_ELEMENTS = 512  # the files of a series share most of their values

# The functional group that an attribute belongs to.
OWN_GROUP = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
# In other groups these belong to another image; the rest may be left there by a conversion.
OWN_GROUP_ONLY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
NO_PLACE = Dataset()
DIRECTION = "DiffusionGradientDirectionSequence"  # nested in a functional group

UNDECODABLE = "\ufffd"  # replaces bytes that are invalid in the declared encoding
ESCAPE = b"\x1b"  # switches the character set (ISO 2022)
PERSON_TAGS = {
    "PatientID": "PatientID (0010,0020)",
    "PatientName": "PatientName (0010,0010)",
    "PatientBirthDate": "PatientBirthDate (0010,0030)",
}
Readings = frozenset[str]  # one value decoded by each possible encoding; empty if unknown


def value_of(data: Dataset, keyword: str) -> object:
    """Return the value of a DICOM element as pydicom converts it; None if absent.

    keyword: DICOM keyword, such as PixelSpacing, looked up at the top level of `data` only, not in
    nested sequences. An empty element gives pydicom's empty value, such as "" or None. Conversions are
    cached: do not modify the value. Raises one of VALUE_ERRORS (pydicom's, such as ValueError) if the
    value is malformed.
    """
    element = data.get_item(_tag(keyword))
    if not isinstance(element, RawDataElement):
        return None if element is None else element.value
    encodings = data.original_character_set or default_encoding
    names = (encodings,) if isinstance(encodings, str) else tuple(encodings)
    return _converted(element._replace(value_tell=0), names)


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


@lru_cache(CACHED_ELEMENTS)
def _converted(element: RawDataElement, encodings: tuple[str, ...]) -> object:
    return convert_raw_data_element(element, encoding=list(encodings)).value


def sop_class(data: Dataset) -> str:
    """Return SOPClassUID (0008,0016), otherwise MediaStorageSOPClassUID (0002,0002), otherwise "".

    data: data set of a file; the second is read from its file meta information, if it has one.
    """
    meta = getattr(data, "file_meta", None)
    return text(data, "SOPClassUID") or (text(meta, "MediaStorageSOPClassUID") if meta else "")


def text(data: Dataset, keyword: str) -> str:
    """Return the value of a DICOM element as text, without outer blanks; "" if absent or malformed.

    keyword: DICOM keyword, such as Manufacturer, looked up at the top level of `data` only. Several
    values are joined by backslashes, as in the file.
    """
    try:
        value = value_of(data, keyword)
        if isinstance(value, MultiValue):
            value = "\\".join(map(str, value))
        return "" if value is None else str(value).strip(" \0")
    except VALUE_ERRORS:
        return ""


def texts(data: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a DICOM element as texts in upper case; () if absent or malformed.

    keyword: DICOM keyword, such as ImageType, looked up at the top level of `data` only.
    """
    try:
        value = value_of(data, keyword)
    except VALUE_ERRORS:
        return ()
    if value is None or value == "":
        return ()
    values = value if isinstance(value, (MultiValue, list)) else [value]
    return tuple(str(word).strip(" \0").upper() for word in values)


def is_present(data: Dataset, keyword: str) -> bool:
    """Return whether a DICOM element is present and not empty or blank; its value may be malformed.

    keyword: DICOM keyword, such as Rows, looked up at the top level of `data` only.
    """
    element = data.get_item(_tag(keyword))
    if element is None:
        return False
    value = element.value
    if not isinstance(value, bytes):
        return value not in (None, "")
    padding = b"" if dictionary_VR(keyword) in BINARY else b" \0"
    return bool(value.strip(padding) if padding else value)


def finite_numbers(data: Dataset, keyword: str, count: int) -> np.ndarray | None:
    """Return the numbers of a DICOM element, float64 (count,); None unless exactly `count` finite ones.

    keyword: DICOM keyword, such as PixelSpacing, looked up at the top level of `data` only. count: 2
    or more; for a single number use `finite_number`.
    """
    try:
        values = np.asarray(value_of(data, keyword), dtype=float)
    except VALUE_ERRORS:
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def finite_number(data: Dataset, keyword: str) -> float | None:
    """Return the number in a DICOM element; None if absent, or anything but one finite number.

    keyword: DICOM keyword, such as EchoTime, looked up at the top level of `data` only.
    """
    try:
        value = value_of(data, keyword)
        found = math.nan if value is None else float(value)
    except VALUE_ERRORS:
        return None
    return found if math.isfinite(found) else None


def whole_number(data: Dataset, keyword: str) -> int | None:
    """Return the whole number in a DICOM element, 3 also for 3.0; None if absent or anything else.

    keyword: DICOM keyword, such as Rows, looked up at the top level of `data` only.
    """
    found = finite_number(data, keyword)
    return None if found is None or found != int(found) else int(found)


def within(value: float | None, limits: tuple[float, float]) -> float | None:
    """Return the value if it lies within the limits (lowest, highest), both included; otherwise None.

    value: a number, or None if unknown.
    """
    return value if value is not None and limits[0] <= value <= limits[1] else None


# --- attributes of one frame ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FrameAttributes:
    """The DICOM attributes of one frame (slice), looked up in every place of its file where they may be.

    data: data set of the file. items: item of the frame in PerFrameFunctionalGroupsSequence
    (5200,9230), then that of SharedFunctionalGroupsSequence (5200,9229), which holds for all
    frames; empty for a classic image. groups: functional groups (nested data sets) in these items.
    An attribute is read from the first place that has it (empty values count as absent): its own
    functional group (OWN_GROUP) of the frame, then of all frames; any other group of the frame,
    then of all frames; the file. If it is malformed there, it is unknown. In a multi-frame image,
    position, orientation and pixel spacing are read from their own functional group only.
    """

    data: Dataset
    items: tuple[Dataset, ...] = ()
    groups: tuple[Dataset, ...] = ()

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """Return the numbers of a DICOM keyword, float64 (count,), from the first place that has it.

        count: 2 or more. None if it is absent or is not exactly `count` finite numbers there.
        """
        return finite_numbers(self._place_of(keyword), keyword, count)

    def number(self, keyword: str) -> float | None:
        """Return the number of a DICOM keyword, from the first place that has it.

        None if it is absent or is not one finite number there.
        """
        return finite_number(self._place_of(keyword), keyword)

    def rescale_number(self, keyword: str, default: float) -> float:
        """Return RescaleSlope or RescaleIntercept of the frame: `default` if absent, NaN if malformed.

        keyword: one of these two.
        """
        if self._place_of(keyword) is NO_PLACE:
            return default
        found = self.number(keyword)
        return np.nan if found is None else found

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the values of a DICOM keyword as texts in upper case, from the first place that has it.

        () if it is absent, or malformed there.
        """
        return texts(self._place_of(keyword), keyword)

    def sequence(self, keyword: str) -> list[Dataset]:
        """Return the items of a DICOM sequence: of the frame, otherwise of all frames, otherwise of the file.

        keyword: of a functional group or a sequence at the top level, not one nested deeper. [] if
        it is empty or absent in all three.
        """
        found = (_items_of(place, keyword) for place in (*self.items, self.data))
        return next((items for items in found if items), [])

    def _place_of(self, keyword: str) -> Dataset:
        places = (place for place in self._places(keyword) if is_present(place, keyword))
        return next(places, NO_PLACE)

    def _places(self, keyword: str) -> Iterator[Dataset]:
        group = OWN_GROUP.get(keyword)
        for item in self.items if group else ():
            yield from _items_of(item, group)[:1]
        if not (self.items and keyword in OWN_GROUP_ONLY):
            yield from self.groups
            yield self.data


def attributes_of_frames(data: Dataset) -> list[FrameAttributes]:
    """Return the attributes of each frame (slice) of a multi-frame image, in the order of the file.

    data: data set of the file. [] if it describes no frames in PerFrameFunctionalGroupsSequence
    (5200,9230), as a classic image.
    """
    shared = _items_of(data, "SharedFunctionalGroupsSequence")[:1]
    common = [group for item in shared for group in _groups(item)]
    return [
        FrameAttributes(data, (item, *shared), (*_groups(item), *common))
        for item in _items_of(data, "PerFrameFunctionalGroupsSequence")
    ]


def _groups(item: Dataset) -> list[Dataset]:
    """Return the functional groups in an item: the first item of each of its sequences.

    Private sequences are left out: they may hold standard attributes of another image.
    """
    groups = (e for e in item if e.VR == "SQ" and not e.tag.is_private)
    found = [element.value[0] for element in groups if element.value]
    return [*found, *(nested for group in found for nested in _items_of(group, DIRECTION)[:1])]


def _items_of(data: Dataset, keyword: str) -> list[Dataset]:
    return list(data.get(keyword) or [])


# --- identity of the patient: compared between files, never written ------------------------------


def patient_readings(data: Dataset) -> tuple[Readings, ...]:
    """Return the readings of PatientID, PatientName and PatientBirthDate: one set of texts for each.

    data: data set of a file, of which these values were not accessed yet: pydicom converts them at the
    first access, and of a converted one only the text in the declared encoding is returned. Readings of
    a value: the texts that its bytes give in each character encoding that DICOM defines; empty if
    unknown. Of a name, each component group is a text, in upper case. Some archives declare a wrong
    encoding or none, so that one name has two forms.
    """
    return tuple(_readings(data, keyword) for keyword in PERSON_TAGS)


def count_different(values: Sequence[Readings]) -> int:
    """Return how many different values there are, for example how many different patients.

    values: readings (possible texts) of each. Values are the same if they have a reading in common,
    directly or through other values. Unknown values (no reading) are not counted.
    """
    groups: list[Readings] = []
    for value in set(values) - {frozenset()}:
        meeting = [group for group in groups if group & value]
        groups = [group for group in groups if not group & value]
        groups.append(value.union(*meeting))
    return len(groups)


def _readings(data: Dataset, keyword: str) -> Readings:
    found = {text(data, keyword)}
    element = data.get_item(_tag(keyword))
    raw = element.value if isinstance(element, RawDataElement) else None
    if isinstance(raw, bytes) and not (raw.isascii() and ESCAPE not in raw):
        found |= _decoded(raw)
    if keyword == "PatientName":  # its component groups are one name in several scripts
        found = {group.upper().rstrip("^ ") for name in found for group in name.split("=")}
    return frozenset(unicodedata.normalize("NFKC", r) for r in found if r and UNDECODABLE not in r)


@lru_cache(64)
def _decoded(raw: bytes) -> frozenset[str]:
    found = set()
    for encoding in set(python_encoding.values()):
        try:
            found.add(raw.decode(encoding).strip(" \0"))
        except (UnicodeDecodeError, LookupError):
            continue
    return frozenset(found)
