"""The sagittal picture of a subject: a slice through the spine, and where axial slices cut it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.measure.labelled_stack import LabelledStack
from paravert.measure.slice_picture import SliceView, windowed
from paravert.network.find_levels import SliceGeometry
from paravert.subject_folder import REVIEW_FOLDER, SAGITTAL_LINES, SAGITTAL_PICTURE

HEIGHT_PX = 420
MOST_WIDTH_PX = 1680  # JPEG ends at 65,500; wider ones are lower
JPEG_QUALITY = 80
STEPS = 200  # places along a line that are tried


def write_sagittal(
    folder: Path, volume: Volume, geometry: SliceGeometry, stacks: Sequence[LabelledStack]
) -> None:
    """Write the sagittal slice nearest to the middle of the body, and where axial slices cut it.

    folder: exists; gets sagittal.jpg and sagittal.json (size of the picture, and per axial slice the
    two ends of a line in pixels, or null). The picture is 420 pixels high, or lower where it would be
    more than 1680 wide. volume: the sagittal series, (slices, rows, columns), from
    `imaging.sagittal_series.read_sagittal`. geometry: position of each axial slice. stacks: labels of
    the same slices, ordered by stack number; the middle is midway between left and right muscles, or
    that of the images if no slice shows both sides.
    """
    rows, columns = volume.array.shape[1:]
    to_lps = LPS_TO_RAS @ volume.affine
    place = np.linalg.inv(to_lps) @ np.append(_middle_lps(geometry, stacks), 1)
    number = int(np.clip(round(place[2]), 0, len(volume.array) - 1))
    high_mm, wide_mm = volume.row_spacing_mm * rows, volume.column_spacing_mm * columns
    mm = max(high_mm / HEIGHT_PX, wide_mm / MOST_WIDTH_PX)  # per pixel of the picture
    down, across = mm / volume.row_spacing_mm, mm / volume.column_spacing_mm
    height, width = max(1, round(high_mm / mm)), max(1, round(wide_mm / mm))
    view = SliceView(((rows - 1) / 2, (columns - 1) / 2), (down, across), (height, width))
    grey = windowed(volume.array[number : number + 1])[0]
    Image.fromarray(view.crop(grey)).save(folder / SAGITTAL_PICTURE, quality=JPEG_QUALITY)
    plane = to_lps.copy()
    plane[:3, 3] += number * to_lps[:3, 2]
    scale = np.array([across, down] * 2)
    lines = (cut_lines(plane, (rows, columns), geometry) + 0.5) / scale
    told = [None if np.isnan(line).any() else line.round(1).tolist() for line in lines]
    text = json.dumps({"size": [width, height], "lines": told}, separators=(",", ":"))
    (folder / SAGITTAL_LINES).write_text(text, encoding="ascii")


def read_sagittal_lines(home: Path) -> tuple[list[int], list[list[float] | None]] | None:
    """Return size and lines of a subject's sagittal picture: ([width, height], [line per axial slice]).

    home: folder of the scan in results/subjects. A line is where an axial slice cuts the picture,
    [x, y, x, y] of its ends in pixels from the upper left, or None if it does not; lines are ordered by
    stack number, then from caudal to cranial. Returns None if there is no sagittal picture.
    """
    file = home / REVIEW_FOLDER / SAGITTAL_LINES
    if not file.is_file():
        return None
    told = json.loads(file.read_text(encoding="ascii"))
    return told["size"], told["lines"]


def _middle_lps(geometry: SliceGeometry, stacks: Sequence[LabelledStack]) -> np.ndarray:
    """Return the point midway between the left and the right muscles, (3,), LPS in mm.

    geometry: position of each axial slice. stacks: their labels. Without slices that show both
    sides, the centre of the images.
    """
    places = []
    planes = (labels for stack in stacks for labels in stack.labels)
    for labels, affine in zip(planes, geometry.affines, strict=True):
        sides = [np.argwhere(side) for side in ((labels > 0) & (labels % 2 == s) for s in (0, 1))]
        if all(len(side) for side in sides):
            row, column = np.mean([side.mean(axis=0) for side in sides], axis=0)
            places.append(affine @ (column, row, 0, 1))
    if not places:
        rows, columns = geometry.shapes[0]
        places = [affine @ (columns / 2, rows / 2, 0, 1) for affine in geometry.affines]
    return np.mean(places, axis=0)[:3]


def cut_lines(plane: np.ndarray, shape: tuple[int, int], geometry: SliceGeometry) -> np.ndarray:
    """Return the lines along which axial slices cut a sagittal slice, float (slices, 4): x, y, x, y.

    plane: 4 x 4 matrix from (column, row, 0, 1) of the sagittal slice to LPS in mm. shape: its rows and
    columns. geometry: position of each axial slice. x is the column and y the row of an end of the
    line, 0: centre of the first; the end at the lower column comes first. Of 200 places across the
    columns the ends are the first and the last that lie in both images; NaN if fewer than two do, or if
    the axial slice is parallel to the columns of the sagittal image.
    """
    rows, columns = shape
    x = np.linspace(-0.5, columns - 0.5, STEPS)
    lines = np.full((len(geometry.affines), 4), np.nan)
    for line, affine, size in zip(lines, geometry.affines, geometry.shapes, strict=True):
        # Columns of a slice's image, rows, and distance from it.
        to_slice = np.linalg.inv(
            np.column_stack(
                (affine[:, :2], np.append(np.cross(*affine[:3, :2].T), 0), affine[:, 3])
            )
        )
        across, down, corner = (to_slice @ plane[:, axis] for axis in (0, 1, 3))
        if down[2] == 0:
            continue
        y = -(corner[2] + x * across[2]) / down[2]
        place = corner[:2, None] + across[:2, None] * x + down[:2, None] * y
        inside = (np.abs(place[0] + 0.5 - size[1] / 2) <= size[1] / 2) & (
            np.abs(place[1] + 0.5 - size[0] / 2) <= size[0] / 2
        )
        inside &= np.abs(y + 0.5 - rows / 2) <= rows / 2
        if inside.sum() > 1:
            first, last = np.flatnonzero(inside)[[0, -1]]
            line[:] = x[first], y[first], x[last], y[last]
    return lines
