"""What varied people have and phantoms have not: clefts of the back, strands, defects."""

import numpy as np

from paravert.anatomy import label_value
from paravert.synthesis.frame import Frame
from paravert.synthesis.geometry import Tube, ellipse
from paravert.synthesis.parts import Part
from paravert.synthesis.tissues import Tissue
from paravert.synthesis.variation import Cleft, Defect, Strand

CLEFT_REACH_MM = 6.0  # how far the mouth of a cleft goes on behind the muscle, and looks beside it
WALL_MM = 1.5  # of a hollow loop


def defect_part(frame: Frame, defect: Defect) -> Part:
    """Return the oval that an operation left."""
    outline = ellipse(defect.centre_mm, defect.radii_mm)
    return Part(frame.organ(*defect.levels, outline), defect.fill)


def cleft_part(frame: Frame, cleft: Cleft, muscles: dict[int, Tube]) -> Part:
    """Return the wedge of fat in one of the erector spinae, of the muscles by label value."""
    label = label_value("erector_spinae", "left" if cleft.side > 0 else "right")

    def outline(level: float) -> np.ndarray:
        ring = frame.nearest_ring(muscles[label], level) * (cleft.side, 1) / frame.scale
        x = ring[:, 0].min() + cleft.place * np.ptp(ring[:, 0])
        beside = np.abs(ring[:, 0] - x) < CLEFT_REACH_MM
        back = ring[beside, 1].max()
        first, last = cleft.levels
        grown = np.sqrt(
            np.clip(4 * (level - first) * (last - level) / (last - first) ** 2, 0.01, 1)
        )
        half = grown * cleft.width_mm / 2
        end = (x + cleft.lean_mm, back - grown * cleft.depth_mm)
        mouth = back + CLEFT_REACH_MM
        medial = (x - 1.6 * half, mouth), (x - half, back)
        lateral = (x + half, back), (x + 1.6 * half, mouth)
        return np.array([*medial, end, *lateral]) * (cleft.side, 1)

    tube = frame.organ(*cleft.levels, outline, 16)
    return Part(tube, Tissue.FAT, over=frozenset({label, Tissue.SEPTUM}))


def strand_part(frame: Frame, strand: Strand) -> Part:
    """Return the nerve, vessel or loop, where it runs through fat."""

    def outline(level: float) -> np.ndarray:
        down = level - strand.levels[0]
        centre = tuple(np.array(strand.centre_mm) + down * np.array(strand.drift_mm))
        return ellipse(centre, (strand.radius_mm,) * 2, vertices=16)

    tube = frame.organ(*strand.levels, outline, 6)
    return Part(tube, strand.tissue, strand.rim, WALL_MM, over=frozenset({Tissue.VISCERAL_FAT}))
