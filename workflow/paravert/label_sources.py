"""Label values of other segmentation programs: the muscle and side of each value."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from paravert.anatomy import LABELS, MUSCLES, SIDES, label_value
from paravert.errors import InputError

SETTING = "convert_dicom.labels_from"
CORRECTED = "corrected"  # folder beside the sheet: label maps corrected by hand, of own values
LARGEST_VALUE = 65535  # in a table of the configuration


@dataclass(frozen=True)
class LabelSource:
    """The meaning of the voxel values that another segmentation program writes into label maps.

    name: of the source, one of SOURCES or "table" for a table in the configuration. values: {value
    of the program: value in paravert's label maps, 1 to 8 as in anatomy.LABELS}; several values may
    mean one muscle. largest: largest value that the program writes for any organ, so that a label
    map with a larger value is refused; None if unknown. told: program and version, for messages.
    """

    name: str
    values: Mapping[int, int]
    largest: int | None = None
    told: str = ""

    @property
    def is_own(self) -> bool:
        """Whether the source is paravert itself, so that no value has to be translated."""
        return self.name == OWN.name

    @property
    def labels(self) -> tuple[int, ...]:
        """The label values (1 to 8, as in anatomy.LABELS) that the source can give, ascending."""
        return tuple(sorted(set(self.values.values())))


def _both_sides(**lefts: tuple[int, int]) -> dict[int, int]:
    """Return {foreign value: value of LABELS}; lefts: by muscle the values (left, right)."""
    return {
        value: label_value(muscle, side)
        for muscle, values in lefts.items()
        for side, value in zip(SIDES, values, strict=True)
    }


OWN = LabelSource("paravert", {label.value: label.value for label in LABELS}, told="paravert")
# MuscleMap/MuscleMap, docs/muscle-anatomy.md and README.md, whole-body model 1.1 and 1.2.
MUSCLEMAP = LabelSource(
    "musclemap",
    _both_sides(
        multifidus=(5101, 5102),
        erector_spinae=(5111, 5112),
        psoas_major=(5121, 5122),
        quadratus_lumborum=(5131, 5132),
    ),
    told="MuscleMap, whole-body model",
)
# wasserth/TotalSegmentator, totalsegmentator/map_to_binary.py, task total_mr since 2.5.0; unchanged in
# 3 (resources/improvements_in_v3.md). Iliopsoas: 48, 49. Autochthon (46, 47) is erector spinae and
# multifidus in one. Versions 2.2.1 to 2.4 had 56 classes, with iliopsoas 46, 47.
TOTALSEGMENTATOR_MR = LabelSource(
    "totalsegmentator_mr",
    _both_sides(psoas_major=(48, 49)),
    largest=50,
    told="TotalSegmentator 2.5 or later, total_mr",
)
SOURCES = {source.name: source for source in (OWN, MUSCLEMAP, TOTALSEGMENTATOR_MR)}


def label_source(setting: str | Mapping) -> LabelSource:
    """Return the meaning of foreign label values by the setting convert_dicom.labels_from.

    setting: a key of SOURCES ("paravert", "musclemap", "totalsegmentator_mr"), or a table {foreign
    value: [muscle, side]}, not empty, with values from 1 to 65535 (int, or text of digits), and
    names of anatomy.MUSCLES and SIDES; several values may mean one muscle. Raises InputError whose
    message lists every fault.
    """
    if isinstance(setting, str) and setting in SOURCES:
        return SOURCES[setting]
    if not isinstance(setting, Mapping) or not setting:
        expected = f"{', '.join(SOURCES)} or a table {{value: [muscle, side]}}"
        raise InputError(SETTING, f"{setting!r}, expected {expected}")
    faults = [fault for value, muscle in setting.items() for fault in _faults(value, muscle)]
    if faults:
        raise InputError(SETTING, "; ".join(faults))
    values = {int(value): label_value(*muscle) for value, muscle in setting.items()}
    return LabelSource("table", dict(sorted(values.items())), told="the configured table")


def _faults(value: object, muscle: object) -> Iterator[str]:
    # Keys that were written as JSON are text.
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LARGEST_VALUE):
        yield f"value {value!r}, expected a whole number from 1 to {LARGEST_VALUE}"
    if not (isinstance(muscle, list | tuple) and len(muscle) == 2):
        yield f"{value}: {muscle!r}, expected [muscle, side]"
        return
    for found, known in zip(muscle, (MUSCLES, SIDES), strict=True):
        if found not in known:
            yield f"{value}: {found!r}, expected one of {', '.join(known)}"


def as_option(setting: str | Mapping) -> str:
    """Return the setting convert_dicom.labels_from as text for a command line.

    A name of SOURCES stays as it is; a table {value: [muscle, side]} becomes JSON. `from_option`
    reads both.
    """
    return setting if isinstance(setting, str) else json.dumps(setting)


def from_option(text: str) -> LabelSource:
    """Return the meaning of foreign label values that a command-line option describes.

    text: what `as_option` wrote: a key of SOURCES, or a table {value: [muscle, side]} as JSON.
    Raises InputError for other text, whose message lists every fault.
    """
    try:
        return label_source(json.loads(text) if text.startswith("{") else text)
    except json.JSONDecodeError as error:
        raise InputError(SETTING, f"no JSON ({error.msg}), expected a table as JSON") from None
