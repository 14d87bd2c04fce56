"""Variations of a body relative to the phantoms, and random people to train a network on.

Sizes, side differences, shapes and fat vary more than in a population, so that no subject of a
study should lie outside the training distribution (domain randomisation, Billot 2023). Some people
have atrophy or signs of an operation.
"""

from dataclasses import dataclass, replace

import numpy as np

from paravert.anatomy import LABELS, MUSCLES, SIDES, label_value
from paravert.synthesis.tissues import Tissue
from paravert.synthesis.volunteers import LEVELS, Volunteer, population_member


@dataclass(frozen=True)
class Defect:
    """The site of an operation: an oval that replaces all tissue in it, such as bone and muscle.

    levels: first and last vertebral level (1.0 mid L1, 5.0 mid L5). centre_mm, radii_mm: (x, y), to
    the left of and behind the spine's axis, for a body height of 178 cm. fill: tissue in it.
    """

    levels: tuple[float, float]
    centre_mm: tuple[float, float]
    radii_mm: tuple[float, float]
    fill: Tissue


@dataclass(frozen=True)
class Strand:
    """A nerve, vessel or bowel loop from cranial to caudal; it replaces only visceral fat and tissue of its `rim`.

    levels: first and last vertebral level (1.0 mid L1, 5.0 mid L5). centre_mm: (x, y) of its
    cranial end, to the left of and behind the spine's axis; drift_mm: change of the centre per
    level; radius_mm: all for a body height of 178 cm. tissue: inside it. rim: tissue of its wall;
    None: no wall.
    """

    levels: tuple[float, float]
    centre_mm: tuple[float, float]
    drift_mm: tuple[float, float]
    radius_mm: float
    tissue: Tissue
    rim: Tissue | None = None


@dataclass(frozen=True)
class Cleft:
    """A wedge of fat that enters the erector spinae from behind.

    side: 1 left, -1 right. levels: first and last vertebral level (1.0 mid L1, 5.0 mid L5). place:
    position of its opening across the muscle, 0 at the medial edge, 1 at the lateral edge.
    width_mm, depth_mm: at the muscle's surface, and from there to the tip, midway between these
    levels; a tenth at the ends. lean_mm: lateral offset of its tip. All for a height of 178 cm.
    """

    side: int
    levels: tuple[float, float]
    place: float
    width_mm: float
    depth_mm: float
    lean_mm: float


@dataclass(frozen=True)
class Hip:
    """Position of the iliac wings and thickness of the iliacus, relative to the phantoms.

    crest: caudal shift in vertebral levels. width: factor of the distance from the midline.
    back_mm: shift towards the back, for a body height of 178 cm. iliacus: factor of its thickness.
    """

    crest: float = 0.0
    width: float = 1.0
    back_mm: float = 0.0
    iliacus: float = 1.0


@dataclass(frozen=True)
class PsoasCourse:
    """Course of the psoas from the spine to the pelvis, relative to the drawn outlines.

    leaves: vertebral level at which it leaves the spine (5.0 mid L5). per_level_mm: (x, y) shift per
    level from there on, to the left and to the back, of the left muscle, for a body height of 178 cm,
    in addition to the course of the drawn outlines, which moves down to mid L5. taller: factor of the
    ratio of depth (front to back) to width of its section, reached at mid L5; 1 down to the disc L3/L4.
    """

    leaves: float = 5.0
    per_level_mm: tuple[float, float] = (19.0, -17.0)
    taller: float = 1.0


@dataclass(frozen=True)
class Variation:
    """How a body differs from the phantoms.

    lost: (8,), fraction (0-1) of each muscle's area replaced by fat within its fascia (atrophy),
        entry k of label k + 1 (anatomy.LABELS).
    correction: how far outlines are moved from the drawn to the real mean shape (`shape_modes`), 0
        none, 1 full; None: drawn outlines with random offsets.
    shape: factor of the SD of the shape modes, by which outlines vary between people; used only if
        correction is given.
    defects: sites of operations.
    hip: iliac wings and iliacus.
    kidneys: shift of the left and of the right kidney: to the left and to the back in mm for a body
        height of 178 cm, and caudal in vertebral levels.
    strands: nerves and vessels.
    clefts: wedges of fat in the erector spinae.
    psoas: its course; used only if correction is given.
    loops: bowel loops beside the spine.
    cover: how far the erector spinae covers the multifidus from behind at L2 and above (less below,
        0 from L4 on), as a share of the depth of the multifidus from front to back; used only if
        correction is given.
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
    cover: float = 0.0


PHANTOM = Variation()


# --- random people -----------------------------------------------------------------------------


# SD of the logarithm of a muscle's area, in addition to the population's.
OF_PERSON, OF_MUSCLE, OF_SIDE, OF_LEVEL = 0.12, 0.22, 0.09, 0.06
# Erector spinae and multifidus are large or small together, and the multifidus is somewhat smaller than
# in the phantoms: mean and SD of MF / (MF + ES) are near those of real masks (docs/septum.md).
BACK_CORRELATION = 0.5  # of OF_MUSCLE and OF_LEVEL of erector spinae and multifidus
MEAN_LOG_FACTOR = {"multifidus": np.array((-0.1, -0.1, -0.12, -0.05, -0.15))}  # L1 to L5
# `Variation.correction`: lowest, most frequent and highest value; `Variation.shape`: range.
CORRECTION, SHAPE = (-0.1, 0.9, 1.2), (0.7, 1.4)
COVER = (0.0, 0.22)  # range of `Variation.cover`
ATROPHIC_SHARE = 0.3  # of people
MOST_LOST = {  # largest fraction of the area within the fascia lost to atrophy
    "psoas_major": 0.3,
    "quadratus_lumborum": 0.4,
    "erector_spinae": 0.4,
    "multifidus": 0.6,
}
OPERATED_SHARE = 0.08  # of people
# Ranges of the values of `Hip`.
CREST_DOWN, HIP_WIDTH, HIP_BACK_MM, ILIACUS = (-0.4, 0.2), (0.85, 1.05), (-18, 4), (0.8, 2.6)
# Ranges of the values of `PsoasCourse`; shifts in mm per level.
LEAVES_LEVEL, TO_THE_SIDE_MM, FORWARDS_MM, TALLER = (4.2, 5.0), (8, 22), (8, 28), (0.8, 1.5)
KIDNEY_SD = (6.0, 6.0, 0.3)  # x and y in mm, vertebral levels
# The cleft between longissimus and iliocostalis: limit of the draw of presence (0.79 of the sides
# have one), and ranges of the values of `Cleft`.
CLEFT_SHARE, CLEFT_PLACE, CLEFT_WIDTH_MM, CLEFT_DEPTH_MM = 0.7, (0.1, 0.6), (1.5, 14), (3, 16)
FILLS = (Tissue.EPIDURAL_FAT, Tissue.INTERSPINOUS, Tissue.CSF, Tissue.FASCIA, Tissue.GAS)


@dataclass(frozen=True)
class _Strands:
    """Ranges (low, high) from which strands of one kind are drawn.

    count: number, high excluded. first, length: cranial end and length, vertebral levels. x_mm,
    y_mm: position, x on a random side. drift_sd_mm: SD of the shift per level. radius_mm: radius,
    uniform on a logarithmic scale.
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
BOWEL = _Strands(  # beside the spine, in contact with psoas and quadratus in slim people
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
    """Return one random person: a volunteer, and how its body differs from the phantoms.

    seed: of the people. index: number of the person, from 0. A pure function of its arguments.
    """
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
        cover=float(rng.uniform(*COVER)),
    )
    return replace(person, area_mm2=tuple(tuple(row.tolist()) for row in areas)), variation


def _scatter(rng: np.random.Generator) -> np.ndarray:
    """Return random factors of the muscle areas, (8, 5): anatomy.LABELS by L1 to L5."""
    total = np.full((len(LABELS), len(LEVELS)), rng.normal(0, OF_PERSON))
    deviations = np.array([OF_MUSCLE, *(OF_LEVEL,) * len(LEVELS)])
    own = {}
    for muscle in MUSCLES:
        own[muscle] = rng.normal(0, deviations)
        if muscle == "multifidus":
            own[muscle] *= np.sqrt(1 - BACK_CORRELATION**2)
            own[muscle] += BACK_CORRELATION * own["erector_spinae"]
        common = own[muscle][0] + own[muscle][1:] + MEAN_LOG_FACTOR.get(muscle, 0.0)
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
    """Draw a course; the nearer the hip bones, the smaller the lateral shift."""
    return PsoasCourse(
        leaves=float(rng.uniform(*LEAVES_LEVEL)),
        per_level_mm=(
            hip.width * float(rng.uniform(*TO_THE_SIDE_MM)),
            -float(rng.uniform(*FORWARDS_MM)),
        ),
        taller=float(np.exp(rng.uniform(*np.log(TALLER)))),
    )


def _clefts(rng: np.random.Generator) -> tuple[Cleft, ...]:
    """Draw the clefts of both sides; place and presence are correlated between sides."""
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
