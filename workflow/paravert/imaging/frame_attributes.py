"""Attributes of one frame, from the data set or from its functional groups.

Multi-frame images store attributes of all frames and of each frame in functional groups (PS3.3,
C.7.6.16). An attribute is read from the first place that has it; if it is malformed there, it is
unknown, and no other place is tried.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from paravert.imaging.header_values import finite_number, finite_numbers, is_present, texts

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
DIRECTION = "DiffusionGradientDirectionSequence"  # nested in a functional group


@dataclass(frozen=True, eq=False)
class FrameAttributes:
    """The places where the attributes of a frame may be.

    data: the data set. items: the frame's own item of functional groups and the shared one; empty
    for a classic image. groups: the functional groups in these items.
    """

    data: Dataset
    items: tuple[Dataset, ...] = ()
    groups: tuple[Dataset, ...] = ()

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """Return a value of exactly `count` finite numbers, (count,), or None."""
        place = self._place_of(keyword)
        return None if place is None else finite_numbers(place, keyword, count)

    def number(self, keyword: str) -> float | None:
        """Return a finite number, or None."""
        place = self._place_of(keyword)
        return None if place is None else finite_number(place, keyword)

    def rescale_number(self, keyword: str, default: float) -> float:
        """Return a number of the rescale: `default` where it is absent, NaN where malformed."""
        if self._place_of(keyword) is None:
            return default
        found = self.number(keyword)
        return np.nan if found is None else found

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the strings of a multi-valued element in upper case; () where unknown."""
        place = self._place_of(keyword)
        return () if place is None else texts(place, keyword)

    def sequence(self, keyword: str) -> list[Dataset]:
        """Return the items of a sequence of the frame, else of all frames, else of the data set."""
        found = (_items_of(place, keyword) for place in (*self.items, self.data))
        return next((items for items in found if items), [])

    def _place_of(self, keyword: str) -> Dataset | None:
        return next((place for place in self._places(keyword) if is_present(place, keyword)), None)

    def _places(self, keyword: str) -> Iterator[Dataset]:
        group = OWN_GROUP.get(keyword)
        for item in self.items if group else ():
            yield from _items_of(item, group)[:1]
        if not (self.items and keyword in OWN_GROUP_ONLY):
            yield from self.groups
            yield self.data


def attributes_of_frames(data: Dataset) -> list[FrameAttributes]:
    """Return the attributes of each frame of a multi-frame image."""
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
