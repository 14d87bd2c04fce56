"""Drawn outlines vary as real ones do, and stay outlines."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from skimage.measure import regionprops

from paravert.anatomy import MUSCLES, SIDES
from paravert.synthesis.muscles import DRAWN, LEARNT_SEPTUM, _back_muscles
from paravert.synthesis.raster import PixelGrid
from paravert.synthesis.shape_modes import CORRECTION_MM, shape_deviations
from paravert.synthesis.solids import Outlines, signed_area, spline
from paravert.synthesis.volunteers import AREA_MM2

BACK = ("multifidus", "erector_spinae")
MASK_VALUES = {"left": (150, 200), "right": (100, 50)}  # multifidus, erector spinae
MASK_PIXEL_MM = 0.6875
MASK_GRID = PixelGrid(160, 200, MASK_PIXEL_MM, MASK_PIXEL_MM, -10.0, 0.0)
STEP = 4  # every fourth mask will do


def mean_points(muscle, level):
    points = DRAWN[muscle] + CORRECTION_MM[muscle]
    lower = min(int(level) - 1, len(points) - 2)
    return points[lower] + (level - 1 - lower) * (points[lower + 1] - points[lower])


def drawn_area(points):
    return abs(signed_area(spline(points)))


def back_muscles(level, deviation, areas):
    """Outlines of multifidus and erector spinae as the phantom fits them to its areas."""
    points = [mean_points(muscle, level) for muscle in BACK]
    unit = np.sqrt(sum(drawn_area(p) for p in points))
    points = [p + unit * deviation[muscle] for p, muscle in zip(points, BACK, strict=True)]
    controls, wanted = (dict(zip(BACK, values, strict=True)) for values in (points, areas))
    outlines = _back_muscles(controls, LEARNT_SEPTUM, wanted, scale=1.0)
    return tuple(outlines[muscle] for muscle in BACK)


def crosses_itself(outline):
    """Whether two edges that are no neighbours meet."""
    a, b = outline, np.roll(outline, -1, axis=0)

    def turn(p, q, r):
        d, e = q - p, r - p
        return d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0]

    p, q, r, s = a[:, None], b[:, None], a[None], b[None]
    meet = (turn(p, q, r) * turn(p, q, s) < 0) & (turn(r, s, p) * turn(r, s, q) < 0)
    return bool(meet.any())


def test_the_same_seed_draws_the_same_shape():
    first, second = (shape_deviations(np.random.default_rng(4)) for _ in range(2))
    for side in SIDES:
        assert set(first[side]) == set(MUSCLES)
        for muscle in MUSCLES:
            assert first[side][muscle].shape == DRAWN[muscle].shape[1:]
            assert np.array_equal(first[side][muscle], second[side][muscle])


def test_deviations_are_zero_on_average_and_alike_on_both_sides():
    rng = np.random.default_rng(11)
    draws = [shape_deviations(rng) for _ in range(2000)]
    for muscle in MUSCLES:
        left, right = (np.array([draw[side][muscle] for draw in draws]) for side in SIDES)
        assert np.abs(left.mean(axis=0)).max() < 0.015
        assert left.std() == pytest.approx(right.std(), rel=0.1)
        alike = np.corrcoef(left.ravel(), right.ravel())[0, 1]
        assert (0.8 < alike < 0.98) if muscle in BACK else (0.2 < alike < 0.7)


@pytest.mark.parametrize("level", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_outlines_hardly_ever_cross_themselves(level):
    rng = np.random.default_rng(2)
    crossed = dict.fromkeys(MUSCLES, 0)
    for _ in range(500):
        deviation = shape_deviations(rng)["left"]
        areas = [AREA_MM2["M"][muscle][int(level) - 1] for muscle in BACK]
        outlines = dict(zip(BACK, back_muscles(level, deviation, areas), strict=True))
        for muscle in ("psoas_major", "quadratus_lumborum"):
            points = mean_points(muscle, level)
            unit = np.sqrt(drawn_area(points))
            outlines[muscle] = spline(points + unit * deviation[muscle])
        for muscle, outline in outlines.items():
            crossed[muscle] += crosses_itself(outline)
    assert max(crossed.values()) <= 5, crossed


def real_masks(real_data):
    with zipfile.ZipFile(real_data / "shapes" / "shot3_T1_labels_L4L5.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        for name in names[::STEP]:
            mask = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            yield {
                side: [(mask if side == "left" else mask[:, ::-1]) == value for value in values]
                for side, values in MASK_VALUES.items()
            }


def filled(outline):
    mask = np.zeros(MASK_GRID.shape, bool)
    alone = Outlines(outline, np.zeros(len(outline), int))
    for start, stop in zip(*MASK_GRID.spans(alone), strict=True):
        mask.ravel()[start:stop] = True
    return mask


def descriptors(subject):
    """Width by depth, solidity and slant of each muscle, and the erector's place by the multifidus.

    Averaged over both sides, which cancels a turn of the subject. subject: masks by side, mirrored
    to the left.
    """
    by_side = []
    for masks in subject.values():
        size = np.sqrt(sum(mask.sum() for mask in masks))
        centres, values = [], {}
        for muscle, mask in zip(BACK, masks, strict=True):
            rows, columns = np.nonzero(mask)
            values[muscle, "width by depth"] = columns.std() / rows.std()
            values[muscle, "slant"] = np.corrcoef(columns, rows)[0, 1]
            values[muscle, "solidity"] = regionprops(mask.astype(np.uint8))[0].solidity
            centres.append((columns.mean(), rows.mean()))
        values["apart", "x"], values["apart", "y"] = np.subtract(*centres[::-1]) / size
        by_side.append(values)
    return {key: np.mean([values[key] for values in by_side]) for key in by_side[0]}


@pytest.mark.real
def test_drawn_outlines_resemble_real_masks(real_data):
    rng = np.random.default_rng(7)
    real, drawn = [], []
    for subject in real_masks(real_data):
        real.append(descriptors(subject))
        deviation = shape_deviations(rng)
        copies = {}
        for side, masks in subject.items():
            areas = [mask.sum() * MASK_PIXEL_MM**2 for mask in masks]
            copies[side] = [filled(o) for o in back_muscles(4.5, deviation[side], areas)]
        drawn.append(descriptors(copies))
    for key in real[0]:
        of_real, of_drawn = (np.array([values[key] for values in rows]) for rows in (real, drawn))
        # real outlines are a little rougher, hence less solid, than any spline
        assert abs(of_drawn.mean() - of_real.mean()) < 0.7 * of_real.std(), key
        assert 0.65 < of_drawn.std() / of_real.std() < 1.6, key
