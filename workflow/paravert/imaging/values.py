"""Single values of a DICOM header, read tolerantly: what is malformed is unknown."""

import math
from functools import cache, lru_cache

import numpy as np
from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.tag import BaseTag, Tag

BINARY = ("FD", "FL", "US", "SS", "UL", "SL")  # zero is a value there
# What a malformed value raises; pydicom converts values when they are asked for.
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


# The files of a series repeat most of their values: those of so many elements are kept.
REMEMBERED = 512


def value_of(data: Dataset, keyword: str) -> object:
    """Return a value as pydicom converts it, None where absent; equal elements are converted once.

    Not to be changed by the caller. Raises one of VALUE_ERRORS where it is malformed.
    """
    element = data.get_item(_tag(keyword))
    if not isinstance(element, RawDataElement):
        return None if element is None else element.value
    encodings = data.original_character_set or default_encoding
    words = (encodings,) if isinstance(encodings, str) else tuple(encodings)
    return _converted(element._replace(value_tell=0), words)


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


@lru_cache(REMEMBERED)
def _converted(element: RawDataElement, encodings: tuple[str, ...]) -> object:
    return convert_raw_data_element(element, encoding=list(encodings)).value


def sop_class(data: Dataset) -> str:
    """Return SOPClassUID (0008,0016), from the file meta group where the data lack it."""
    meta = getattr(data, "file_meta", None)
    return text(data, "SOPClassUID") or (text(meta, "MediaStorageSOPClassUID") if meta else "")


def text(data: Dataset, keyword: str) -> str:
    """Return a value as text, without surrounding blanks; "" where absent or malformed."""
    try:
        value = value_of(data, keyword)
        return "" if value is None else str(value).strip(" \0")
    except VALUE_ERRORS:
        return ""


def texts(data: Dataset, keyword: str) -> tuple[str, ...]:
    """Return a value of several words in upper case; empty where absent or malformed."""
    try:
        value = value_of(data, keyword)
    except VALUE_ERRORS:
        return ()
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(word).strip(" \0").upper() for word in values)


def is_told(data: Dataset, keyword: str) -> bool:
    """Tell whether an element is there and not empty, well-formed or not."""
    element = data.get_item(_tag(keyword))
    if element is None:
        return False
    value = element.value
    if not isinstance(value, bytes):
        return value not in (None, "")
    padding = b"" if dictionary_VR(keyword) in BINARY else b" \0"
    return bool(value.strip(padding) if padding else value)


def numbers(data: Dataset, keyword: str, count: int) -> np.ndarray | None:
    """Return a value of so many finite numbers; None where it is absent or anything else."""
    try:
        values = np.asarray(value_of(data, keyword), dtype=float)
    except VALUE_ERRORS:
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def number(data: Dataset, keyword: str) -> float | None:
    """Return a finite number; None where it is absent or anything else."""
    try:
        value = value_of(data, keyword)
        found = math.nan if value is None else float(value)
    except VALUE_ERRORS:
        return None
    return found if math.isfinite(found) else None


def whole(data: Dataset, keyword: str) -> int | None:
    """Return a whole number; None where it is absent or malformed."""
    found = number(data, keyword)
    return None if found is None or found != int(found) else int(found)
