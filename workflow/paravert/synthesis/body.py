"""A volunteer's body: its parts in painting order, and tissue maps of planes through it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from paravert.anatomy import LABELS, label_value
from paravert.synthesis.muscles import muscle_tubes
from paravert.synthesis.organs import organs, vessels
from paravert.synthesis.raster import PixelGrid
from paravert.synthesis.solids import CutPlane, Outlines, Tube, ellipse
from paravert.synthesis.spine import DRAWN_HEIGHT_CM, Spine
from paravert.synthesis.tissues import BodyPart, Tissue, TissueSignal, contrast_of
from paravert.synthesis.trunk import flanks, trunk_of, trunk_parts
from paravert.synthesis.variation import PHANTOM, Cleft, Defect, Strand, Variation
from paravert.synthesis.vertebrae import canal, foramina, vertebrae
from paravert.synthesis.volunteers import Volunteer

MUSCLE_GAP_MM = 0.25  # width of the fat around each muscle
FATTY_GAP_MM = 1.5  # added width at a fat fraction of 1
FASCIA_MM = 1.0
# Painting order of muscles that may overlap: the smaller ones last, as the larger ones lose less.
SMALLER_LAST = sorted(LABELS, key=lambda label: -label.value)
CLEFT_REACH_MM = 6.0  # a cleft begins this far behind the muscle's surface
WALL_MM = 1.5  # of a bowel loop
BOX_MARGIN_MM = 2.0  # more than any part's margin_mm


@dataclass(frozen=True)
class Body:
    """The body of one phantom volunteer, in LPS mm.

    Mid L3 is at z = 0, the spine's axis at x = 0 in mid L1 and mid L5, its foremost point at y = 0
    (`Spine.middle` gives the axis at each level).

    volunteer: sex, age, height, weight, muscle areas and fat fractions. spine: its axis. contrast:
    MR signal of its tissues. parts: tubes filled with a tissue, in painting order: later ones
    replace earlier ones where they overlap (all of them, or those named in `BodyPart.over`).
    corners: (parts, 8, 3), corners of the bounding box of each part's tube, LPS mm; `BodyPart.margin_mm`
    is not included.
    """

    volunteer: Volunteer
    spine: Spine
    contrast: TissueSignal
    parts: tuple[BodyPart, ...]
    corners: np.ndarray

    def tissues(self, planes: Sequence[CutPlane], grid: PixelGrid) -> np.ndarray:
        """Return the tissue at each pixel of planes through the body, uint8 (planes, rows, columns).

        Values: labels 1-8 of the muscles, or `Tissue`; 0 (AIR) outside the body. planes: in coordinates
        of the body (LPS, mm, mid L3 at z = 0), nearly axial, at least one, all with the same axes (not
        checked). grid: the pixel centres, about the centre of each plane. One call for several planes
        is faster than one call each.
        """
        picture = bytearray(len(planes) * grid.rows * grid.columns)
        for part, cut in zip(self.parts, self._cut(planes, grid), strict=True):
            if cut.any():
                _paint(picture, part, planes, np.flatnonzero(cut), grid)
        return np.frombuffer(picture, np.uint8).reshape(len(planes), *grid.shape)

    def _cut(self, planes: Sequence[CutPlane], grid: PixelGrid) -> np.ndarray:
        """Return which parts may meet which planes, bool (parts, planes), by bounding boxes."""
        centres = np.stack([plane.centre for plane in planes])
        axes = np.stack((planes[0].normal, planes[0].across, planes[0].down), axis=1)
        corners = self.corners @ axes
        low, high = (ends[:, None] - centres @ axes for ends in (corners.min(1), corners.max(1)))
        u0, u1, v0, v1 = grid.bounds
        start = (0.0, u0 - BOX_MARGIN_MM, v0 - BOX_MARGIN_MM)
        stop = (0.0, u1 + BOX_MARGIN_MM, v1 + BOX_MARGIN_MM)
        return ((low < stop) & (high > start)).all(axis=2)


@lru_cache(maxsize=4)
def body_of(volunteer: Volunteer, variation: Variation = PHANTOM) -> Body:
    """Return the body of a phantom volunteer: tubes filled with tissues, in LPS mm.

    volunteer: sex, age, height, weight, muscle areas and fat fractions. variation: how the body differs
    from the phantoms (atrophy, shapes, traces of operations). `Body` has the origin. A pure function of
    its arguments; the last four bodies are cached.
    """
    rng = np.random.default_rng([volunteer.seed, 1])
    spine = Spine(
        scale=volunteer.height_cm / DRAWN_HEIGHT_CM,
        bend_mm=float(np.clip(rng.normal(8.0, 2.5), 2, 14)),
        sway_mm=float(rng.normal(0, 1.5)),
    )
    parts = tuple(_parts(volunteer, variation, spine, rng))
    corners = np.stack([part.tube.corners for part in parts])
    return Body(volunteer, spine, contrast_of(volunteer.seed, volunteer.age_years), parts, corners)


def _parts(
    volunteer: Volunteer, variation: Variation, spine: Spine, rng: np.random.Generator
) -> Iterator[BodyPart]:
    """Yield the parts of a body in painting order."""
    muscles = within_fascia = muscle_tubes(volunteer, spine, variation, wasted=False)
    if any(variation.lost):
        muscles = muscle_tubes(volunteer, spine, variation)
    trunk = trunk_of(volunteer, rng)
    yield from trunk_parts(trunk, spine, within_fascia)
    yield from organs(spine, trunk, rng, variation.kidneys)
    yield from vessels(spine, trunk, rng)
    yield from flanks(spine, rng, variation.hip)
    back = [within_fascia[label.value] for label in LABELS if label.value >= 5]
    for tube in back:
        yield BodyPart(tube, Tissue.FASCIA, margin_mm=FASCIA_MM)
    if any(variation.lost):
        for tube in within_fascia.values():
            yield BodyPart(tube, Tissue.VISCERAL_FAT)
    for label in LABELS if variation.correction is None else SMALLER_LAST:
        tube = muscles[label.value]
        fat = float(np.mean(volunteer.fat_fraction[label.value - 1]))
        yield BodyPart(tube, Tissue.SEPTUM, margin_mm=MUSCLE_GAP_MM + FATTY_GAP_MM * fat)
        yield BodyPart(tube, label.value)
    for cleft in variation.clefts:
        yield _cleft(spine, cleft, muscles)
    for strand in (*variation.loops, *variation.strands):
        yield _strand(spine, strand)
    yield from foramina(spine)
    yield from vertebrae(spine, rng)
    yield from canal(spine, rng)
    for defect in variation.defects:
        yield _defect(spine, defect)


def _defect(spine: Spine, defect: Defect) -> BodyPart:
    """Return the oval of an operation."""
    outline = ellipse(defect.centre_mm, defect.radii_mm)
    return BodyPart(spine.organ(*defect.levels, outline), defect.fill)


def _cleft(spine: Spine, cleft: Cleft, muscles: dict[int, Tube]) -> BodyPart:
    """Return the wedge of fat in one erector spinae. muscles: tubes by label value."""
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


def _strand(spine: Spine, strand: Strand) -> BodyPart:
    """Return a nerve, vessel or bowel loop; it replaces visceral fat, and walls like its own."""

    def outline(level: float) -> np.ndarray:
        down = level - strand.levels[0]
        centre = tuple(np.array(strand.centre_mm) + down * np.array(strand.drift_mm))
        return ellipse(centre, (strand.radius_mm,) * 2, vertices=16)

    tube = spine.organ(*strand.levels, outline, 6)
    return BodyPart(tube, strand.tissue, strand.rim, WALL_MM, over=frozenset({Tissue.VISCERAL_FAT}))


def _paint(
    picture: bytearray, part: BodyPart, planes: Sequence[CutPlane], cut: np.ndarray, grid: PixelGrid
) -> None:
    """Paint a part into picture, the bytes of a tissue map (planes, rows, columns).

    cut: indices of the planes that may meet the part. Runs of pixels are written as bytes, which
    is faster than arrays.
    """
    if part.rim is None:
        painted = ((part.tissue, -part.margin_mm),)
    else:
        painted = ((part.rim, 0.0), (part.tissue, part.rim_mm))
    insets_mm = tuple(by_mm for _, by_mm in painted)
    sections = part.tube.sections([planes[number] for number in cut], insets_mm)
    for (tissue, _), section in zip(painted, sections, strict=True):
        runs = grid.spans(Outlines(section.points, cut[section.plane]))
        starts_and_stops = zip(*(ends.tolist() for ends in runs), strict=True)
        if part.over is None:
            row = bytearray([tissue]) * grid.columns
            for start, stop in starts_and_stops:
                picture[start:stop] = row[: stop - start]
        else:
            over = bytes({*part.over, painted[0][0]})
            table = bytes.maketrans(over, bytes([tissue]) * len(over))
            for start, stop in starts_and_stops:
                picture[start:stop] = picture[start:stop].translate(table)
