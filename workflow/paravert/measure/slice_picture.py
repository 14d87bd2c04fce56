"""Pictures of slices with outlined muscles, in a fixed palette, at any pixel spacing.

A canvas is an array (rows, columns), uint8, of indices into PALETTE: one byte per pixel and small
files. Grey values are interpolated, indices and colours never.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from paravert.anatomy import LABELS

GREYS = 48  # shades of grey; fewer make smaller files
TINTS = 16  # shades of each muscle's colour, from dark to bright signal
OPACITY = 0.30
BLACK, WHITE = 0, GREYS - 1
WINDOW_PERCENTILES = (1.0, 99.5)
INSIDE = 128  # of 255: the interpolated mask is at least one half


def _palette() -> np.ndarray:
    greys = np.repeat(np.linspace(0, 255, GREYS)[:, None], 3, axis=1)
    under = np.repeat(np.linspace(0, 255, TINTS)[:, None], 3, axis=1)
    pure = np.array([label.rgb for label in LABELS], dtype=float)
    tints = [(1 - OPACITY) * under + OPACITY * colour for colour in pure]
    return np.round(np.concatenate([greys, *tints, pure])).astype(np.uint8)


# RGB, (entries, 3): 48 greys, then 16 tints of each muscle, then the eight pure colours.
PALETTE = _palette()


def pure_colour(value: int | np.ndarray) -> int | np.ndarray:
    """Return the index in PALETTE of the untinted colour of a label value.

    value: 1 to 8, or an integer array of them; the result has its shape.
    """
    return GREYS + len(LABELS) * TINTS + value - 1


@dataclass(frozen=True)
class SliceView:
    """Which part of a slice a picture shows, and at what scale.

    centre: (row, column) of the slice that lies in the middle of the picture; whole numbers are
    centres of pixels. pixels_per_pixel: slice pixels per picture pixel down the rows, and across the
    columns; they differ if slice pixels are not square. size: (rows, columns) of the picture.
    """

    centre: tuple[float, float]
    pixels_per_pixel: tuple[float, float]
    size: tuple[int, int]

    def crop(self, plane: np.ndarray) -> np.ndarray:
        """Return the part of a grey slice that this view shows, uint8 of shape `size`.

        plane: uint8 (rows, columns). It is resampled by linear interpolation; pixels outside the
        slice are 0.
        """
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

    def crop_labels(self, labels: np.ndarray) -> np.ndarray:
        """Return the part of a label map that this view shows, uint8 of shape `size`, 0 outside.

        labels: integers 0-8 (rows, columns). Each label is resampled as a mask, as in `crop`, and
        kept where this is at least one half; label values are not interpolated.
        """
        cropped = np.zeros(self.size, dtype=np.uint8)
        for label in LABELS:
            mask = labels == label.value
            if mask.any():
                cropped[self.crop(mask.astype(np.uint8) * 255) >= INSIDE] = label.value
        return cropped


def windowed(image: np.ndarray) -> np.ndarray:
    """Return a stack as grey values 0-255, uint8 (slices, rows, columns).

    image: the same shape, any intensity scale. The 1st percentile of the pixels of the whole stack
    that are not exactly 0 (air) becomes 0, their 99.5th percentile 255. A stack in which both are
    equal (such as a single value beside 0) becomes 0. Percentiles are of every second row and
    column.
    """
    known = image[:, ::2, ::2]
    low, high = np.percentile(known[known != 0] if known.any() else known, WINDOW_PERCENTILES)
    if low == high:
        return np.zeros(image.shape, dtype=np.uint8)
    return (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def draw_slice(
    grey: np.ndarray, labels: np.ndarray, truth: np.ndarray | None, view: SliceView
) -> np.ndarray:
    """Return a picture of one slice with tinted and outlined muscles, uint8 of shape `view.size`.

    The values are indices into PALETTE. grey: image of the slice, uint8 (rows, columns). labels:
    label map of that shape, integers 0-8. truth: manual label map of that shape, whose outlines are
    thin white lines; None if there is none. view: part and scale of the picture.
    """
    signal = view.crop(grey).astype(np.uint16)
    canvas = (signal * (GREYS - 1) // 255).astype(np.uint8)
    shown = view.crop_labels(labels)
    muscle = shown > 0
    first = GREYS + (shown[muscle].astype(np.uint16) - 1) * TINTS
    canvas[muscle] = first + signal[muscle] * (TINTS - 1) // 255
    outline = rim(shown, 2)
    canvas[outline] = pure_colour(shown[outline])
    if truth is not None:
        canvas[rim(view.crop_labels(truth), 1)] = WHITE
    return canvas


def rim(labels: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels of each label within `width` pixels of its border, bool (rows, columns).

    labels: integers (rows, columns), 0 background. Border: where one of a pixel's four neighbours has
    another value; the edge of the image is none. Background pixels are never in the result.
    """
    inner = labels
    for _ in range(width):
        inner = np.where(find_boundaries(inner, connectivity=1, mode="inner"), 0, inner)
    return inner != labels


def write_text(
    canvas: np.ndarray, text: str, at: tuple[int, int], size: int, anchor: str = "lm"
) -> None:
    """Write white text with a black rim into a picture, in place.

    canvas: uint8 (rows, columns), indices into PALETTE; changed. text: one line. at: (row, column)
    of the anchor. size: of the font, in pixels. anchor: Pillow's code for what lies there; "lm":
    left end, middle of the height.
    """
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
    """Return a picture of indices into PALETTE, uint8 (rows, columns), as a Pillow image of mode P."""
    picture = Image.fromarray(canvas, mode="P")
    picture.putpalette(PALETTE.tobytes())
    return picture
