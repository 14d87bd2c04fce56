"""How the slices of a series lie: which are measured, and which are set aside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paravert.errors import Caution
from paravert.imaging import grouping
from paravert.imaging.checks import has_orientation
from paravert.imaging.frames import Frame
from paravert.imaging.geometry import AXIAL_TILT_DEG, cranial_normal, tilt_deg

AXIAL, OTHER, LOCALIZER, NOWHERE = "axial", "other", "localizer", "nowhere"
OTHER_PLANE_DEG = 75.0  # steeper slices are sagittal or coronal; up to here, oblique ones of a disc
# A localizer shows every plane with about as many slices; a scout among axial slices is alone.
AXIAL_PER_OTHER = 2


@dataclass(frozen=True, eq=False)
class Plane:
    """How a series lies, and what of it is measured if it is chosen.

    frames: axial ones, and those that do not say how they lie. tilts_deg: of all that say so.
    steep_deg: tilts of those set aside as too steep. scouts: whether localizers were set aside.
    """

    kind: str
    frames: tuple[Frame, ...] = ()
    tilts_deg: tuple[float, ...] = ()
    steep_deg: tuple[float, ...] = ()
    scouts: bool = False

    @property
    def cautions(self) -> frozenset[Caution]:
        """What to tell of the slices of the series that are set aside."""
        told = {
            Caution.OFF_AXIS_SLICES_EXCLUDED: bool(self.steep_deg),
            Caution.LOCALIZER_EXCLUDED: self.scouts,
        }
        return frozenset(caution for caution, holds in told.items() if holds)

    @property
    def note(self) -> str | None:
        """How many slices were too steep, and how steep they are."""
        if not self.steep_deg:
            return None
        low, high = min(self.steep_deg), max(self.steep_deg)
        tilt = f"{low:.1f}" if high - low < 0.1 else f"{low:.1f} to {high:.1f}"
        one = len(self.steep_deg) == 1
        slices = "1 slice" if one else f"{len(self.steep_deg)} slices"
        aside = f"{slices} tilted by {tilt} degrees {'was' if one else 'were'} set aside"
        return f"{aside}, expected at most {AXIAL_TILT_DEG:g}"


def plane_of(frames: Sequence[Frame]) -> Plane:
    """Return how the frames of a series lie, judged stack by stack.

    Frames that do not say how they lie count as lying like the others.
    """
    own = [frame for frame in frames if "LOCALIZER" not in frame.image_type]
    if not own:
        return Plane(LOCALIZER)
    placed = [frame for frame in own if has_orientation(frame)]
    if not placed:
        return Plane(NOWHERE)
    tilts = _tilts_deg(placed)
    axial, others = (tilts <= AXIAL_TILT_DEG).sum(), (tilts > OTHER_PLANE_DEG).sum()
    if not axial:
        return Plane(OTHER, tilts_deg=tuple(tilts))
    if axial <= AXIAL_PER_OTHER * others:
        return Plane(LOCALIZER, tilts_deg=tuple(tilts))
    steep = {id(frame): tilt for frame, tilt in zip(placed, tilts, strict=True)}
    steep = {key: float(tilt) for key, tilt in steep.items() if tilt > AXIAL_TILT_DEG}
    kept = tuple(frame for frame in own if id(frame) not in steep)
    return Plane(AXIAL, kept, tuple(tilts), tuple(steep.values()), scouts=len(own) < len(frames))


def _tilts_deg(frames: Sequence[Frame]) -> np.ndarray:
    """Return the tilt of each frame: that of its orientation, so that no stack is torn apart."""
    right = np.array([frame.directions[0] for frame in frames])
    down = np.array([frame.directions[1] for frame in frames])
    tilts = np.empty(len(frames))
    for members in grouping.orientation_clusters(right, down):
        normal = cranial_normal(right[members].mean(axis=0), down[members].mean(axis=0))
        tilts[members] = tilt_deg(normal)
    return tilts
