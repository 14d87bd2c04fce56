"""A part of the body: one solid with its tissue."""

from dataclasses import dataclass

from paravert.synthesis.solids import Tube
from paravert.synthesis.tissues import Tissue

CAVITY = frozenset(
    {
        Tissue.VISCERAL_FAT,
        Tissue.LIVER,
        Tissue.SPLEEN,
        Tissue.KIDNEY,
        Tissue.MEDULLA,
        Tissue.URINE,
        Tissue.PANCREAS,
        Tissue.BOWEL_WALL,
        Tissue.BOWEL_CONTENT,
        Tissue.BOWEL_FLUID,
        Tissue.GAS,
    }
)


@dataclass(frozen=True)
class BodyPart:
    """A tube filled with one tissue and, where rim is given, with another along its edge.

    tissue: a Tissue or a label value. rim_mm: width of the edge inside the outline.
    margin_mm: by how much a part without a rim is widened. over: the tissues that may be painted
    over; None stands for all.
    """

    tube: Tube
    tissue: int
    rim: int | None = None
    rim_mm: float = 0.0
    margin_mm: float = 0.0
    over: frozenset[int] | None = None
