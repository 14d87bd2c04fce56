"""The eight muscles (four per side): names, sides, label values and colours."""

from dataclasses import dataclass

MUSCLES = ("psoas_major", "quadratus_lumborum", "erector_spinae", "multifidus")
SIDES = ("left", "right")
BACKGROUND = 0


@dataclass(frozen=True)
class Label:
    """One muscle of one side (the subject's own) in a label map.

    value: voxel value, 1-8. muscle: one of MUSCLES. side: left or right. colour: sRGB as hex, after
    the paper's Fig. 2.
    """

    value: int
    muscle: str
    side: str
    colour: str

    @property
    def name(self) -> str:
        """Readable name, such as "psoas major left"."""
        return f"{self.muscle} {self.side}".replace("_", " ")


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
    """Return the label value, 1-8, of a muscle and side.

    muscle: one of MUSCLES. side: left or right. Raises KeyError for unknown names.
    """
    return _VALUES[muscle, side]


_VALUES = {(label.muscle, label.side): label.value for label in LABELS}
