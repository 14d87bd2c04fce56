"""Variations of a body against the phantom's anatomy, and the parts that they add."""

from dataclasses import dataclass

import numpy as np

from paravert.anatomy import LABELS, SIDES, label_value
from paravert.synthesis.body_part import BodyPart
from paravert.synthesis.solids import Tube, ellipse
from paravert.synthesis.spine import Spine
from paravert.synthesis.tissues import Tissue


@dataclass(frozen=True)
class Defect:
    """What an operation left behind the spine: an oval that replaces bone and muscle.

    levels: first and last. centre_mm, radii_mm: (x, y) in the spine's local frame, drawn for the
    reference man. fill: fat, scar, fluid, fibrous tissue, or the void round an implant.
    """

    levels: tuple[float, float]
    centre_mm: tuple[float, float]
    radii_mm: tuple[float, float]
    fill: Tissue


@dataclass(frozen=True)
class Strand:
    """A nerve, vessel or loop of bowel that runs down through fat.

    levels: first and last. centre_mm: (x, y) in the spine's local frame where it begins, drift_mm:
    how far it moves per level, both for the reference man. rim: the wall of a hollow one.
    """

    levels: tuple[float, float]
    centre_mm: tuple[float, float]
    drift_mm: tuple[float, float]
    radius_mm: float
    tissue: Tissue
    rim: Tissue | None = None


@dataclass(frozen=True)
class Cleft:
    """A wedge of fat that parts the erector spinae from behind.

    side: 1 for the left, -1. levels: first and last. place: of its mouth, from the muscle's medial
    edge, 0, to its lateral one, 1. width_mm: of its mouth, depth_mm, and lean_mm, by how much its end
    lies further to the side, all for the reference man.
    """

    side: int
    levels: tuple[float, float]
    place: float
    width_mm: float
    depth_mm: float
    lean_mm: float


@dataclass(frozen=True)
class Hip:
    """Where the iliac wings are, and how thick the iliacus.

    crest: moved down by so many levels. width: distance from the spine, and iliacus, thickness,
    both against the phantom's. back_mm: moved back, for the reference man.
    """

    crest: float = 0.0
    width: float = 1.0
    back_mm: float = 0.0
    iliacus: float = 1.0


@dataclass(frozen=True)
class PsoasCourse:
    """How the psoas goes from the spine to the pelvis.

    leaves: the level. per_level_mm: (x, y) from there on, for the reference man. taller: how many
    times its height against its width grows from L3/L4 to L5.
    """

    leaves: float = 5.0
    per_level_mm: tuple[float, float] = (19.0, -17.0)
    taller: float = 1.0


@dataclass(frozen=True)
class Variation:
    """How a body differs from the phantom's.

    lost: share of each muscle's area that fat within its fascia has taken, in the order of
    anatomy.LABELS. correction: how far its outlines are moved from those drawn by hand towards real
    ones, 1 in full; None: not, and they vary by chance alone. shape: how strongly they vary as real
    ones do, 1 as much (`shape_modes`). hip: where its bones are. kidneys: by how much the left and
    the right one are moved: x and y in mm, and levels. strands: through fat. clefts: of the back.
    psoas: its course, where outlines are moved towards real ones. loops: of bowel about the spine.
    """

    lost: tuple[float, ...] = (0.0,) * len(LABELS)
    correction: float | None = None
    shape: float = 1.0
    defects: tuple[Defect, ...] = ()
    hip: Hip = Hip()
    kidneys: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),) * len(SIDES)
    strands: tuple[Strand, ...] = ()
    clefts: tuple[Cleft, ...] = ()
    psoas: PsoasCourse = PsoasCourse()
    loops: tuple[Strand, ...] = ()


PHANTOM = Variation()

CLEFT_REACH_MM = 6.0  # how far the mouth of a cleft goes on behind the muscle, and looks beside it
WALL_MM = 1.5  # of a hollow loop


def defect_part(spine: Spine, defect: Defect) -> BodyPart:
    """Return the oval that an operation left."""
    outline = ellipse(defect.centre_mm, defect.radii_mm)
    return BodyPart(spine.organ(*defect.levels, outline), defect.fill)


def cleft_part(spine: Spine, cleft: Cleft, muscles: dict[int, Tube]) -> BodyPart:
    """Return the wedge of fat in one of the erector spinae, of the muscles by label value."""
    label = label_value("erector_spinae", "left" if cleft.side > 0 else "right")

    def outline(level: float) -> np.ndarray:
        ring = spine.nearest_ring(muscles[label], level) * (cleft.side, 1) / spine.scale
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

    tube = spine.organ(*cleft.levels, outline, 16)
    return BodyPart(tube, Tissue.FAT, over=frozenset({label, Tissue.SEPTUM}))


def strand_part(spine: Spine, strand: Strand) -> BodyPart:
    """Return the nerve, vessel or loop, where it runs through fat."""

    def outline(level: float) -> np.ndarray:
        down = level - strand.levels[0]
        centre = tuple(np.array(strand.centre_mm) + down * np.array(strand.drift_mm))
        return ellipse(centre, (strand.radius_mm,) * 2, vertices=16)

    tube = spine.organ(*strand.levels, outline, 6)
    return BodyPart(tube, strand.tissue, strand.rim, WALL_MM, over=frozenset({Tissue.VISCERAL_FAT}))
