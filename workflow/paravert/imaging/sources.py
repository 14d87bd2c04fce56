"""Where the values of one frame stand: in the data set, or in its functional groups.

Multi-frame images tell what all frames share and what each has of its own in functional groups
(PS3.3, C.7.6.16). Each value is taken from the first place that tells it; one that is malformed
there is unknown, and no other place is asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from paravert.imaging.values import is_told, number, numbers, texts

# The functional group that a value belongs to.
OWN_GROUP = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
# In other groups these are another image's; the rest may be left there by a conversion.
NOWHERE_ELSE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
DIRECTION = "DiffusionGradientDirectionSequence"  # inside a group


@dataclass(frozen=True, eq=False)
class Sources:
    """The places where the values of a frame may stand.

    data: the data set. items: the frame's own item of functional groups and the shared one; none
    of a classic image. groups: those in the items.
    """

    data: Dataset
    items: tuple[Dataset, ...] = ()
    groups: tuple[Dataset, ...] = ()

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """Return a value of so many finite numbers, or None."""
        source = self._telling(keyword)
        return None if source is None else numbers(source, keyword, count)

    def number(self, keyword: str) -> float | None:
        """Return a finite number, or None."""
        source = self._telling(keyword)
        return None if source is None else number(source, keyword)

    def scale(self, keyword: str, absent: float) -> float:
        """Return a number of the rescale: as told, `absent` if it is not, NaN if malformed."""
        if self._telling(keyword) is None:
            return absent
        found = self.number(keyword)
        return np.nan if found is None else found

    def words(self, keyword: str) -> tuple[str, ...]:
        """Return a value of several words in upper case; empty where unknown."""
        source = self._telling(keyword)
        return () if source is None else texts(source, keyword)

    def sequence(self, keyword: str) -> list[Dataset]:
        """Return the items of a sequence of the frame, else of all frames, else of the file."""
        found = (items_of(place, keyword) for place in (*self.items, self.data))
        return next((items for items in found if items), [])

    def _telling(self, keyword: str) -> Dataset | None:
        return next((place for place in self._places(keyword) if is_told(place, keyword)), None)

    def _places(self, keyword: str) -> Iterator[Dataset]:
        group = OWN_GROUP.get(keyword)
        for item in self.items if group else ():
            yield from items_of(item, group)[:1]
        if not (self.items and keyword in NOWHERE_ELSE):
            yield from self.groups
            yield self.data


def sources_of(data: Dataset) -> list[Sources]:
    """Return the sources of each frame of a multi-frame image."""
    shared = items_of(data, "SharedFunctionalGroupsSequence")[:1]
    common = [group for item in shared for group in _groups(item)]
    return [
        Sources(data, (item, *shared), (*_groups(item), *common))
        for item in items_of(data, "PerFrameFunctionalGroupsSequence")
    ]


def _groups(item: Dataset) -> list[Dataset]:
    """Return the functional groups in an item: the first item of each of its sequences.

    Private ones may hold another image's values under the standard's names: they are left out.
    """
    groups = (e for e in item if e.VR == "SQ" and not e.tag.is_private)
    found = [element.value[0] for element in groups if element.value]
    return [*found, *(direction for group in found for direction in items_of(group, DIRECTION)[:1])]


def items_of(data: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none where it is absent or empty."""
    return list(data.get(keyword) or [])
