"""A volunteer's body: all parts in painting order, and their tissues in sections of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from paravert.anatomy import LABELS
from paravert.synthesis.body_part import BodyPart
from paravert.synthesis.canal import canal, foramina
from paravert.synthesis.flanks import flanks
from paravert.synthesis.muscles import muscle_tubes
from paravert.synthesis.organs import organs, vessels
from paravert.synthesis.raster import PixelGrid
from paravert.synthesis.solids import CutPlane, Outlines
from paravert.synthesis.spine import DRAWN_HEIGHT_CM, Spine
from paravert.synthesis.tissues import Tissue, TissueSignal, contrast_of
from paravert.synthesis.trunk import trunk_of, trunk_parts
from paravert.synthesis.variation import (
    PHANTOM,
    Variation,
    cleft_part,
    defect_part,
    strand_part,
)
from paravert.synthesis.vertebrae import vertebrae
from paravert.synthesis.volunteers import Volunteer

MUSCLE_GAP_MM = 0.25  # fat plane round each muscle
FATTY_GAP_MM = 1.5  # added to it per fat fraction
FASCIA_MM = 1.0
# Where shapes that vary by themselves meet, the larger muscle gives way: it loses less of itself.
SMALLER_LAST = sorted(LABELS, key=lambda label: -label.value)
BOX_MARGIN_MM = 2.0  # more than any outline is widened


@dataclass(frozen=True)
class Body:
    """One volunteer's body: spine, signal of the tissues, and parts in painting order."""

    volunteer: Volunteer
    spine: Spine
    contrast: TissueSignal
    parts: tuple[BodyPart, ...]
    corners: np.ndarray  # (parts, 8, 3), bounding boxes

    def tissues(self, planes: Sequence[CutPlane], grid: PixelGrid) -> np.ndarray:
        """Return the tissue at every pixel centre of planes, (planes, rows, columns) uint8.

        planes: parallel, of the same axes; together they take much less time than one by one.
        """
        picture = bytearray(len(planes) * grid.rows * grid.columns)
        for part, cut in zip(self.parts, self._cut(planes, grid), strict=True):
            if cut.any():
                _paint(picture, part, planes, np.flatnonzero(cut), grid)
        return np.frombuffer(picture, np.uint8).reshape(len(planes), *grid.shape)

    def _cut(self, planes: Sequence[CutPlane], grid: PixelGrid) -> np.ndarray:
        """Return which parts may be seen in planes, by bounding boxes, (parts, planes) bool."""
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
    """Build the body of a volunteer; the last few are kept."""
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
        yield cleft_part(spine, cleft, muscles)
    for strand in (*variation.loops, *variation.strands):
        yield strand_part(spine, strand)
    yield from foramina(spine)
    yield from vertebrae(spine, rng)
    yield from canal(spine, rng)
    for defect in variation.defects:
        yield defect_part(spine, defect)


def _paint(
    picture: bytearray, part: BodyPart, planes: Sequence[CutPlane], cut: np.ndarray, grid: PixelGrid
) -> None:
    """Paint the rim and the inside of a part, run by run: faster with bytes than with arrays.

    cut: numbers of the planes that the part may be cut by.
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
