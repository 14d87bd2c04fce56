"""Real-world values (0040,9096) beside stored ones: a warning where they would scale slices apart.

They are not applied. An image may have several mappings, each with a unit of its own and to another
quantity, and nothing says which of them is the signal; a scanner whose signal needs a scale writes
it as the rescale, which is applied, and the mapping is equal to that or constant.
"""

from collections.abc import Sequence

import numpy as np

from paravert.imaging.frames import Frame

TOLERANCE = 1e-3  # of the scale: the rescale is written as text, rounded
USUAL_VALUE = 1000.0  # of the signal: an offset counts by what it is beside it


def scales_differ(frames: Sequence[Frame]) -> bool:
    """Tell whether, after the rescale, mappings give slices other scales or offsets.

    False where no frame has a mapping; True where only some have.
    """
    counts = {len(frame.real_world) for frame in frames}
    if len(counts) > 1:
        return True
    slope = np.array([frame.slope for frame in frames])
    if counts == {0} or not slope.all():
        return False
    intercept = np.array([frame.intercept for frame in frames])
    mappings = np.array([frame.real_world for frame in frames])  # (frames, mappings, 2)
    scale = mappings[..., 0] / slope[:, None]
    offset = mappings[..., 1] - scale * intercept[:, None]
    return any(_vary(s, o) for s, o in zip(scale.T, offset.T, strict=True))


def _vary(scale: np.ndarray, offset: np.ndarray) -> bool:
    """Tell whether the scale and offset (frames,) of one mapping differ; NaN is a table instead."""
    unknown = np.isnan(scale) | np.isnan(offset)
    if unknown.any():
        return not unknown.all()
    allowed = TOLERANCE * np.abs(scale).max()
    return bool(np.ptp(scale) > allowed or np.ptp(offset) > allowed * USUAL_VALUE)
