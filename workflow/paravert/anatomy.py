"""The eight muscles (four per side): names, label values, colours; names of vertebral levels."""

import re
from dataclasses import dataclass

MUSCLES = ("psoas_major", "quadratus_lumborum", "erector_spinae", "multifidus")
SIDES = ("left", "right")
BACKGROUND = 0


@dataclass(frozen=True)
class Label:
    """One muscle on one side of the body, with its value in label maps (integer images).

    value: voxel value, 1 to 8; 0 is background. muscle: name, one of MUSCLES. side: the subject's
    own side, "left" or "right". colour: sRGB as hexadecimal text such as "#2ca02c", after Fig. 2 of
    the paper (Niemeyer et al.).
    """

    value: int
    muscle: str
    side: str
    colour: str

    @property
    def name(self) -> str:
        """The readable name of muscle and side, such as "psoas major left"."""
        return f"{self.muscle} {self.side}".replace("_", " ")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as red, green and blue, 0 to 255 each."""
        return tuple(bytes.fromhex(self.colour[1:]))


LABELS = (
    Label(1, "psoas_major", "left", "#2ca02c"),
    Label(2, "psoas_major", "right", "#1f77b4"),
    Label(3, "quadratus_lumborum", "left", "#ff7f0e"),
    Label(4, "quadratus_lumborum", "right", "#9467bd"),
    Label(5, "erector_spinae", "left", "#8c564b"),
    Label(6, "erector_spinae", "right", "#e6c619"),
    Label(7, "multifidus", "left", "#7f7f7f"),
    Label(8, "multifidus", "right", "#e377c2"),
)
LABEL_VALUES = tuple(label.value for label in LABELS)
CLASSES = 1 + len(LABELS)  # background and the eight muscles

# By label value 0-8: the value of the same muscle on the other side.
OTHER_SIDE = (BACKGROUND, 2, 1, 4, 3, 6, 5, 8, 7)


def label_value(muscle: str, side: str) -> int:
    """Return the voxel value, 1 to 8, of a muscle on one side in label maps.

    muscle: one of MUSCLES, such as "psoas_major". side: the subject's own, "left" or "right".
    Raises KeyError for other names.
    """
    return _VALUES[muscle, side]


_VALUES = {(label.muscle, label.side): label.value for label in LABELS}


# --- vertebral levels ----------------------------------------------------------------------------

# A level is a number: 1.0 mid L1, 1.5 disc L1/2, 5.0 mid L5, 6.0 S1; 0.0 is T12.
# In people with four or six lumbar vertebrae, S1 is 5.0 or 7.0.
USUAL_LUMBAR = 5
THORACIC, SACRAL = 12, 5
DISC_LEVELS = (1.5, 2.5, 3.5, 4.5, 5.5)  # L1/2 to L5/S1
STANDARD_LEVELS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5)
USUAL_PITCH_MM = 35.0  # height of a lumbar vertebra with its disc, used if one level alone is known
_LEVEL_NAME = re.compile(r"(th|[tdls])(\d{1,2})(?:[/_-]?(th|[tdls])?(\d{1,2}))?", re.IGNORECASE)


def level_name(level: float, n_lumbar: int = USUAL_LUMBAR) -> str:
    """Return the name of the vertebra or disc nearest to a level, such as "L4", "L4/5" or "L5/S1".

    level: position along the spine in vertebrae: 1.0 is the middle of L1, 1.5 the disc L1/2, 0.0
    T12, n_lumbar + 1 the middle of S1; its range is not checked. n_lumbar: number of lumbar
    vertebrae of the subject, usually 5. Values between are rounded to the nearest half: 1.3 is the
    disc L1/2. A quarter is as near to both and gives the vertebra: 1.25 is L1, 1.75 is L2.
    """
    doubled = round(2 * level)
    upper, lower = (_vertebra(number, n_lumbar) for number in (doubled // 2, doubled // 2 + 1))
    if doubled % 2 == 0:
        return upper
    return f"{upper}/{lower[1:] if lower[0] == upper[0] else lower}"


def level_number(name: str, n_lumbar: int = USUAL_LUMBAR) -> float | None:
    """Return the vertebral level that a name of a vertebra or disc means, None for any other text.

    name: a vertebra ("L4", "Th12") or the disc between two neighbours ("L4/5", "L4/L5", "L5-S1"),
    in any case, with or without spaces. n_lumbar: number of lumbar vertebrae of the subject.
    Returns 1.0 for the middle of L1, 1.5 for the disc L1/2, 0.0 for T12, n_lumbar + 1 for S1. None
    also if the subject has no such vertebra, or if a disc's vertebrae are not neighbours.
    """
    found = _LEVEL_NAME.fullmatch(name.replace(" ", ""))
    if not found:
        return None
    first, number, second, lower = found.groups()
    upper = _number(first, int(number), n_lumbar)
    if lower is None or upper is None:
        return upper
    below = _number(second or first, int(lower), n_lumbar)
    return upper + 0.5 if below == upper + 1 else None


def _vertebra(level: int, n_lumbar: int) -> str:
    region = "T" if level < 1 else "L" if level <= n_lumbar else "S"
    return f"{region}{level - _before(region, n_lumbar)}"


def _number(letters: str, number: int, n_lumbar: int) -> float | None:
    region = {"TH": "T", "D": "T"}.get(letters.upper(), letters.upper())
    lowest = {"T": THORACIC, "L": n_lumbar, "S": SACRAL}[region]
    return float(number + _before(region, n_lumbar)) if 1 <= number <= lowest else None


def _before(region: str, n_lumbar: int) -> int:
    """Return the level of the vertebra above a region, T, L or S."""
    return {"T": -THORACIC, "L": 0, "S": n_lumbar}[region]
