"""Variation."""

from dataclasses import dataclass, replace

import numpy as np

from paravert.anatomy import LABELS, MUSCLES, SIDES, label_value
from paravert.synthesis.tissues import Tissue
from paravert.synthesis.volunteers import LEVELS, Volunteer, population_member


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


# --- random people -----------------------------------------------------------------------------


# Standard deviations of the logarithm of a muscle's area, beyond that of the population.
OF_PERSON, OF_MUSCLE, OF_SIDE, OF_LEVEL = 0.12, 0.22, 0.09, 0.06
# Most people's outlines lie near the real ones; some lie near those drawn by hand.
CORRECTION, SHAPE = (-0.1, 0.9, 1.2), (0.7, 1.4)
ATROPHIC_SHARE = 0.3  # of the people
MOST_LOST = {  # of the area within the fascia, by atrophy
    "psoas_major": 0.3,
    "quadratus_lumborum": 0.4,
    "erector_spinae": 0.4,
    "multifidus": 0.6,
}
OPERATED_SHARE = 0.08
# The hip bones: by how many levels lower, how far from the spine, how far back; the iliacus.
CREST_DOWN, HIP_WIDTH, HIP_BACK_MM, ILIACUS = (-0.4, 0.2), (0.85, 1.05), (-18, 4), (0.8, 2.6)
# The psoas on its way to the pelvis: where it leaves the spine, how far it goes to the side and
# forwards per level, and how much taller than wide it becomes.
LEAVES_LEVEL, TO_THE_SIDE_MM, FORWARDS_MM, TALLER = (4.2, 5.0), (8, 22), (8, 28), (0.8, 1.5)
KIDNEY_SD = (6.0, 6.0, 0.3)  # to the side and back in mm, down in levels
# The cleft behind the erector spinae, where longissimus and iliocostalis part: how many sides have
# one, where its mouth lies across the muscle, how wide and how deep it is.
CLEFT_SHARE, CLEFT_PLACE, CLEFT_WIDTH_MM, CLEFT_DEPTH_MM = 0.7, (0.1, 0.6), (1.5, 14), (3, 16)
FILLS = (Tissue.EPIDURAL_FAT, Tissue.INTERSPINOUS, Tissue.CSF, Tissue.FASCIA, Tissue.GAS)


@dataclass(frozen=True)
class _Strands:
    """Between which bounds strands of a kind are drawn.

    count: how many. first, length: in levels. x_mm: on either side. drift_sd_mm: per level.
    """

    count: tuple[int, int]
    first: tuple[float, float]
    length: tuple[float, float]
    x_mm: tuple[float, float]
    y_mm: tuple[float, float]
    drift_sd_mm: float
    radius_mm: tuple[float, float]
    tissues: tuple[Tissue, ...]
    rim: Tissue | None = None


NERVES_AND_VESSELS = _Strands(  # in the fat between psoas and sacrum
    count=(8, 32),
    first=(4.2, 5.8),
    length=(0.4, 1.6),
    x_mm=(26, 64),
    y_mm=(-24, 30),
    drift_sd_mm=9,
    radius_mm=(0.7, 3.0),
    tissues=(Tissue.ROOT, Tissue.VESSEL_WALL, Tissue.ARTERY, Tissue.VEIN, Tissue.FASCIA),
)
BOWEL = _Strands(  # and the like around the spine: against psoas and quadratus in slim people
    count=(0, 120),
    first=(-0.5, 6.0),
    length=(0.5, 3.0),
    x_mm=(15, 105),
    y_mm=(-80, 22),
    drift_sd_mm=12,
    radius_mm=(5.0, 20.0),
    tissues=(
        Tissue.BOWEL_WALL,
        Tissue.BOWEL_CONTENT,
        Tissue.BOWEL_FLUID,
        Tissue.PANCREAS,
        Tissue.GAS,
    ),
    rim=Tissue.BOWEL_WALL,
)


def varied_person(seed: int, index: int) -> tuple[Volunteer, Variation]:
    """Draw person number index of a seed: a pure function of both."""
    rng = np.random.default_rng([seed, index, 61])
    person = population_member(seed, index)
    areas = np.array(person.area_mm2) * _scatter(rng)
    hip = _hip(rng)
    variation = Variation(
        lost=_lost(rng),
        correction=float(rng.triangular(*CORRECTION)),
        shape=float(rng.uniform(*SHAPE)),
        defects=_defects(rng),
        hip=hip,
        kidneys=tuple(tuple(move.tolist()) for move in rng.normal(0, KIDNEY_SD, (len(SIDES), 3))),
        strands=_strands(rng, NERVES_AND_VESSELS),
        clefts=_clefts(rng),
        psoas=_psoas_course(rng, hip),
        loops=_strands(rng, BOWEL),
    )
    return replace(person, area_mm2=tuple(tuple(row.tolist()) for row in areas)), variation


def _scatter(rng: np.random.Generator) -> np.ndarray:
    """Return factors of the area, (muscles and sides, levels)."""
    total = np.full((len(LABELS), len(LEVELS)), rng.normal(0, OF_PERSON))
    for muscle in MUSCLES:
        common = rng.normal(0, OF_MUSCLE) + rng.normal(0, OF_LEVEL, len(LEVELS))
        for side in SIDES:
            total[label_value(muscle, side) - 1] += common + rng.normal(0, OF_SIDE)
    return np.exp(total)


def _lost(rng: np.random.Generator) -> tuple[float, ...]:
    if rng.random() > ATROPHIC_SHARE:
        return PHANTOM.lost
    severity = rng.uniform(0.2, 1.0)
    return tuple(
        float(np.clip(severity * MOST_LOST[label.muscle] * rng.uniform(0.3, 1.0), 0, 0.6))
        for label in LABELS
    )


def _defects(rng: np.random.Generator) -> tuple[Defect, ...]:
    if rng.random() > OPERATED_SHARE:
        return ()
    first = rng.uniform(1.5, 4.5)
    return (
        Defect(
            levels=(first, first + rng.uniform(0.8, 2.5)),
            centre_mm=(rng.normal(0, 8), rng.uniform(38, 62)),
            radii_mm=(rng.uniform(5, 20), rng.uniform(8, 22)),
            fill=FILLS[rng.integers(len(FILLS))],
        ),
    )


def _strands(rng: np.random.Generator, kind: _Strands) -> tuple[Strand, ...]:
    return tuple(_strand(rng, kind) for _ in range(rng.integers(*kind.count)))


def _strand(rng: np.random.Generator, kind: _Strands) -> Strand:
    first = rng.uniform(*kind.first)
    return Strand(
        levels=(first, first + rng.uniform(*kind.length)),
        centre_mm=(rng.choice((-1, 1)) * rng.uniform(*kind.x_mm), rng.uniform(*kind.y_mm)),
        drift_mm=tuple(rng.normal(0, kind.drift_sd_mm, 2).tolist()),
        radius_mm=float(np.exp(rng.uniform(*np.log(kind.radius_mm)))),
        tissue=kind.tissues[rng.integers(len(kind.tissues))],
        rim=kind.rim,
    )


def _hip(rng: np.random.Generator) -> Hip:
    return Hip(
        crest=float(rng.uniform(*CREST_DOWN)),
        width=float(rng.uniform(*HIP_WIDTH)),
        back_mm=float(rng.uniform(*HIP_BACK_MM)),
        iliacus=float(rng.uniform(*ILIACUS)),
    )


def _psoas_course(rng: np.random.Generator, hip: Hip) -> PsoasCourse:
    """Draw a course that goes the less far to the side the nearer the hip bones are."""
    return PsoasCourse(
        leaves=float(rng.uniform(*LEAVES_LEVEL)),
        per_level_mm=(
            hip.width * float(rng.uniform(*TO_THE_SIDE_MM)),
            -float(rng.uniform(*FORWARDS_MM)),
        ),
        taller=float(np.exp(rng.uniform(*np.log(TALLER)))),
    )


def _clefts(rng: np.random.Generator) -> tuple[Cleft, ...]:
    """Draw the clefts of both sides, which are alike."""
    place, share = rng.uniform(*CLEFT_PLACE), rng.random()
    return tuple(
        Cleft(
            side=side,
            levels=(rng.uniform(-0.5, 2.5), rng.uniform(2.8, 5.2)),
            place=float(np.clip(place + rng.normal(0, 0.08), *CLEFT_PLACE)),
            width_mm=float(rng.uniform(*CLEFT_WIDTH_MM)),
            depth_mm=float(rng.uniform(*CLEFT_DEPTH_MM)),
            lean_mm=float(rng.normal(0, 5)),
        )
        for side in (1, -1)
        if 0.7 * share + 0.3 * rng.random() < CLEFT_SHARE
    )
