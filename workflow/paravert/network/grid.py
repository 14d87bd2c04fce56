"""From an image's grid to the network's and exactly back.

Both grids cover the same rectangle: the network's has round(extent / spacing) pixels per axis, and
its spacing is what then follows, so that nothing is shifted. Pixel i of n lies at (i + 1/2) / n of
the extent on either grid (`align_corners=False`).
"""

import numpy as np
import torch
from torch.nn import functional

CLIPPED_PERCENTILES = (0.5, 99.5)  # single bright vessels must not set the scale of a stack


def network_size(shape: tuple[int, int], spacing_mm: tuple[float, float], network_mm: float):
    """Return rows and columns on the network's grid of an image of this shape and spacing."""
    return tuple(
        max(1, round(pixels * spacing / network_mm))
        for pixels, spacing in zip(shape, spacing_mm, strict=True)
    )


def standardise(image: np.ndarray) -> np.ndarray:
    """Return a stack's intensities with zero mean and unit variance, as float32.

    Values outside the stack's own 0.5 and 99.5 percentiles are set to these before. A stack of one
    value becomes zero. Nothing but this stack counts: no other subject, no batch.
    """
    low, high = np.percentile(image, CLIPPED_PERCENTILES)
    clipped = np.clip(image, low, high).astype(np.float64)
    spread = clipped.std()
    return ((clipped - clipped.mean()) / (spread if spread > 0 else 1)).astype(np.float32)


def resampled(slices: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return (n, channels, rows, columns) on another grid over the same rectangle.

    Bilinear; where the grid becomes coarser, averaged over the width of the new pixels.
    """
    if tuple(slices.shape[2:]) == tuple(size):
        return slices
    coarser = size[0] < slices.shape[2] or size[1] < slices.shape[3]
    return functional.interpolate(
        slices.contiguous(), size=size, mode="bilinear", align_corners=False, antialias=coarser
    )


def padded(slices: torch.Tensor, multiple: int) -> torch.Tensor:
    """Return (n, channels, rows, columns) with rows and columns grown to multiples of a number.

    The last row and column are repeated: a mirror image would show a second muscle beyond the edge,
    zero would draw an edge through tissue that goes on.
    """
    rows, columns = (-size % multiple for size in slices.shape[2:])
    return functional.pad(slices, (0, columns, 0, rows), mode="replicate")


def labels_on_image(logits: torch.Tensor, size: tuple[int, int], shape: tuple[int, int]):
    """Return labels, uint8 (n, rows, columns), on the image's own grid.

    logits: (n, classes, rows, columns) on the padded network grid; size: rows and columns of the
    network grid without padding; shape: of the image. The logits are interpolated, not the labels,
    so that outlines lie between the pixels of the network.
    """
    fine = resampled(logits[:, :, : size[0], : size[1]], shape)
    return fine.max(dim=1).indices.to(torch.uint8)  # max is 3 times as fast as argmax here


def labels_on_network(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a label map, uint8 (slices, rows, columns), on the network's grid: the largest share.

    The counterpart of `labels_on_image` for the truth that a network is trained on.
    """
    classes = torch.arange(int(labels.max()) + 1)
    result = [
        resampled((torch.from_numpy(one)[None] == classes[:, None, None])[None].float(), size)
        for one in labels
    ]
    return torch.cat(result).max(dim=1).indices.to(torch.uint8).numpy()
