"""IoU per muscle as lines of text: median and lower quartile of all sections, median of large ones."""

from collections.abc import Iterator

import numpy as np

from paravert.imaging.label_maps import Overlap
from paravert.network.validate import by_muscle

LARGE_MM2 = 200.0  # smaller are sections at the ends of a muscle, or cut by the image's edge


def overlap_lines(overlap: Overlap, spacing_mm: float) -> Iterator[str]:
    """Yield a line per muscle. spacing_mm: of the square pixels."""
    large = overlap.pixels_truth * spacing_mm**2 >= LARGE_MM2
    of_large = by_muscle(np.where(large, overlap.iou, np.nan))
    for muscle, row in by_muscle(overlap.iou).items():
        yield (
            f"  {muscle:20s} IoU {row['median_iou']:.3f}, quarter {row['lower_quartile']:.3f}, "
            f"{row['slices']}; large ones {of_large[muscle]['median_iou']:.3f}, "
            f"{of_large[muscle]['slices']}"
        )
