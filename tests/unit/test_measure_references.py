"""The references of the linear method, where other tissue lies beside lean muscle and fat.

Partly fatty pixels are brighter than lean muscle, vessels and fluid are darker than fat: only the
dark side of lean muscle and the bright side of fat are clean.
"""

import numpy as np
import pytest
from measure_scene import FAT, LEAN, scene

from paravert.measure.linear import reference_surfaces

NOISE = 15.0
SQUARE_MM = (1.0, 1.0)


def contaminated(share_of_pixels, from_signal, to_signal, chosen, seed=3):
    """Give a share of the chosen pixels signals spread evenly over a range; no shading."""
    subject = scene(noise=NOISE, shares=(0.0,) * 8)
    draw = np.random.default_rng(seed)
    other = chosen(subject) & (draw.random(subject.image.shape) < share_of_pixels)
    image = np.where(other, draw.uniform(from_signal, to_signal, other.shape), subject.image)
    return reference_surfaces(image, subject.labels, SQUARE_MM), np.nonzero(subject.labels)


def test_partly_fatty_pixels_do_not_lift_the_lean_reference():
    (lean, _), places = contaminated(
        0.6, LEAN, LEAN + 0.4 * (FAT - LEAN), lambda subject: subject.labels > 0
    )
    assert lean.at(places) == pytest.approx(LEAN, abs=NOISE)
    assert lean.width == pytest.approx(NOISE, rel=0.35)


def test_darker_tissue_beside_the_muscles_does_not_lower_the_fat_reference():
    (_, fat), places = contaminated(
        0.6, FAT - 0.4 * (FAT - LEAN), FAT, lambda subject: subject.labels == 0
    )
    assert fat.at(places) == pytest.approx(FAT, abs=NOISE)
    assert fat.width == pytest.approx(NOISE, rel=0.35)
