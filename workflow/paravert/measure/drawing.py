"""A slice with its muscles as a small picture in a fixed palette, whatever its pixel spacing.

A canvas is (rows, columns), uint8: entries of PALETTE, so that a picture needs one byte per pixel
and its file stays small. Drawn without interpolation of colours, hence the same bytes every time.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paravert.anatomy import LABELS

GREYS = 48  # enough for the eye; fewer make smaller files
TINTS = 16  # shades of grey under each muscle's colour
OPACITY = 0.30
BLACK, WHITE = 0, GREYS - 1
WINDOW_PERCENTILES = (1.0, 99.5)
INSIDE = 128  # of 255: half of a drawn pixel lies in the mask


def _colour_of(label) -> np.ndarray:
    return np.array([int(label.colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)


def _palette() -> np.ndarray:
    greys = np.repeat(np.linspace(0, 255, GREYS)[:, None], 3, axis=1)
    under = np.repeat(np.linspace(0, 255, TINTS)[:, None], 3, axis=1)
    tints = [(1 - OPACITY) * under + OPACITY * _colour_of(label) for label in LABELS]
    pure = [_colour_of(label)[None] for label in LABELS]
    return np.round(np.concatenate([greys, *tints, *pure])).astype(np.uint8)


# 48 greys, then 16 tints of each muscle, then the eight pure colours.
PALETTE = _palette()


def pure_colour(value: int) -> int:
    """Return the palette entry of a label value's own colour."""
    return GREYS + len(LABELS) * TINTS + value - 1


@dataclass(frozen=True)
class View:
    """The part of a slice that is drawn.

    centre: (row, column) of the slice's pixel in the middle. pixels_per_pixel: slice pixels per
    drawn pixel over (rows, columns); they differ where the slice's pixels are not square.
    size: (rows, columns) of the picture.
    """

    centre: tuple[float, float]
    pixels_per_pixel: tuple[float, float]
    size: tuple[int, int]

    def of(self, plane: np.ndarray) -> np.ndarray:
        """Return the part of a slice, (rows, columns) of uint8, interpolated; outside it is 0."""
        (rows, columns), (down, across) = self.size, self.pixels_per_pixel
        left = self.centre[1] + 0.5 - across * columns / 2
        top = self.centre[0] + 0.5 - down * rows / 2
        picture = Image.fromarray(plane).transform(
            (columns, rows),
            Image.Transform.AFFINE,
            (across, 0, left, 0, down, top),
            resample=Image.Resampling.BILINEAR,
        )
        return np.asarray(picture)


def windowed(image: np.ndarray) -> np.ndarray:
    """Return a stack, (slices, rows, columns), as uint8 between percentiles of its signal.

    Air is left out of the percentiles, as far as it is exactly 0; a stack of one value is black.
    """
    known = image[:, ::2, ::2]
    low, high = np.percentile(known[known != 0] if known.any() else known, WINDOW_PERCENTILES)
    if low == high:
        return np.zeros(image.shape, dtype=np.uint8)
    return (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def tile(grey: np.ndarray, labels: np.ndarray, truth: np.ndarray | None, view: View) -> np.ndarray:
    """Draw one slice: muscles tinted and outlined in their colours, truth as a thin white line.

    grey: (rows, columns), uint8. labels, truth: the same shape, 0 or a label value.
    """
    signal = view.of(grey).astype(np.uint16)
    canvas = (signal * (GREYS - 1) // 255).astype(np.uint8)
    for label in LABELS:
        mask = _mask(labels, label.value, view)
        if mask is not None:
            first = GREYS + (label.value - 1) * TINTS
            canvas[mask] = first + signal[mask] * (TINTS - 1) // 255
            canvas[_rim(mask, 2)] = pure_colour(label.value)
    for label in LABELS if truth is not None else ():
        mask = _mask(truth, label.value, view)
        if mask is not None:
            canvas[_rim(mask, 1)] = WHITE
    return canvas


def _mask(labels: np.ndarray, value: int, view: View) -> np.ndarray | None:
    mask = labels == value
    return view.of(mask.astype(np.uint8) * 255) >= INSIDE if mask.any() else None


def _rim(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the outermost pixels of a mask."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def write_text(
    canvas: np.ndarray, text: str, at: tuple[int, int], size: int, anchor: str = "lm"
) -> None:
    """Write white text with a black rim into a canvas; at: (row, column) of Pillow's anchor."""
    font = ImageFont.load_default(size)
    for stroke in (2, 0):
        layer = Image.new("L", (canvas.shape[1], canvas.shape[0]))
        draw = ImageDraw.Draw(layer)
        draw.text(at[::-1], text, fill=255, font=font, anchor=anchor, stroke_width=stroke)
        left, top, right, bottom = layer.getbbox() or (0, 0, 0, 0)
        ink = np.asarray(layer)[top:bottom, left:right].astype(np.uint16)
        under = canvas[top:bottom, left:right]
        under[ink > 0] = BLACK if stroke else ink[ink > 0] * WHITE // 255


def as_picture(canvas: np.ndarray) -> Image.Image:
    """Return a canvas as a picture with its palette."""
    picture = Image.fromarray(canvas, mode="P")
    picture.putpalette(PALETTE.tobytes())
    return picture
