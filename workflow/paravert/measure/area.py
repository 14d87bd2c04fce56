"""Rule measure_area: cross-sectional area of each muscle in each slice."""

from functools import partial
from pathlib import Path

import numpy as np

from paravert import shards
from paravert.anatomy import CLASSES, LABELS
from paravert.imaging.label_maps import slice_pixels
from paravert.measure.labelled_stack import (
    LabelledStack,
    OutTable,
    SegmentTable,
    SubjectsFolder,
    Workers,
    inner_pixels,
    read_labelled_stacks,
    read_predicted_iou,
    stack_rows,
    with_unknown,
)
from paravert.subject_folder import SubjectFolder
from paravert.tables import NETWORK, SHEET


def slice_areas(labels: np.ndarray, pixel_area_mm2: float) -> np.ndarray:
    """Return the cross-sectional area (mm2) of each muscle in each slice, in the image plane.

    labels: label map, integers (slices, rows, columns), 1 to 8 as in anatomy.LABELS, 0 background.
    pixel_area_mm2: area of one pixel in that plane. Returns float (slices, 8), column k for label
    value k + 1: number of pixels times pixel area; 0 for an absent muscle.
    """
    return slice_pixels(labels) * pixel_area_mm2


def border_fractions(labels: np.ndarray) -> np.ndarray:
    """Return the fraction (0 to 1) of each muscle's outline that lies on the edge of the image.

    The edge: first and last row and column. The outline: pixels of the muscle on this edge, and those
    with one of their four neighbours outside the muscle. labels: label map, integers (slices, rows,
    columns), 1 to 8 as in anatomy.LABELS, 0 background. Returns float (slices, 8), column k for label
    value k + 1; NaN for an absent muscle. A high value means that the image cuts the muscle off.
    """
    at_border = labels.copy()
    at_border[:, 1:-1, 1:-1] = 0
    with np.errstate(invalid="ignore"):
        return slice_pixels(at_border) / slice_pixels(np.where(inner_pixels(labels), 0, labels))


def axial_areas(areas_mm2: np.ndarray, tilt_deg: np.ndarray) -> np.ndarray:
    """Return areas projected onto the plane perpendicular to the body's long axis.

    areas_mm2: (slices, 8), mm2 in the plane of the image. tilt_deg: (slices,), angle in degrees
    between the slice normal and the long axis. Returns float (slices, 8), mm2: area times cosine of
    the tilt, which is exact for a muscle along the long axis.
    """
    return areas_mm2 * np.cos(np.deg2rad(tilt_deg))[:, None]


def slice_centroids(
    labels: np.ndarray, spacing_mm: tuple[float, float], position_mm: np.ndarray
) -> np.ndarray:
    """Return the centroid (mm) of each muscle in each slice, float (slices, 8, 3).

    labels: label map, integers (slices, rows, columns), 1 to 8 as in anatomy.LABELS, 0 background.
    spacing_mm: distance between rows, and between columns. position_mm: (slices,), position of each
    slice along the slice normal. Entry k of the second axis is label value k + 1. The last axis is
    (x, y, z): column index times spacing, row index times spacing, position along the normal. NaN
    for an absent muscle.
    """
    found = np.full((len(labels), len(LABELS), 3), np.nan)
    for number, plane in enumerate(labels):
        rows, columns = np.nonzero(plane)
        own = plane[rows, columns]
        counts = np.bincount(own, minlength=CLASSES)[1:]
        for axis, (place, step) in enumerate(((columns, spacing_mm[1]), (rows, spacing_mm[0]))):
            sums = np.bincount(own, weights=place, minlength=CLASSES)[1:]
            with np.errstate(invalid="ignore"):
                found[number, :, axis] = step * sums / counts
        found[number, counts > 0, 2] = position_mm[number]
    return found


def muscle_directions(centroids_mm: np.ndarray) -> np.ndarray:
    """Return the direction in which each muscle runs at each slice: unit vectors (slices, ..., 3).

    centroids_mm: (slices, ..., 3), centroid (x, y, z) of a muscle in each slice of a stack, in the
    order of the slices, mm; NaN where it is absent. The direction is from the centroid in the
    previous slice to that in the next one; where one of these is missing, from or to the slice's
    own centroid. NaN if two of the three are missing.
    """
    before, after = np.roll(centroids_mm, 1, axis=0), np.roll(centroids_mm, -1, axis=0)
    before[0], after[-1] = np.nan, np.nan
    before = np.where(np.isnan(before), centroids_mm, before)
    after = np.where(np.isnan(after), centroids_mm, after)
    steps = after - before
    length = np.linalg.norm(steps, axis=-1, keepdims=True)
    return steps / np.where(length > 0, length, np.nan)


def across_areas(areas_mm2: np.ndarray, centroids_mm: np.ndarray) -> np.ndarray:
    """Return areas projected onto the plane perpendicular to each muscle's own direction.

    areas_mm2: (slices, 8), mm2 in the plane of the image. centroids_mm: (slices, 8, 3), from
    `slice_centroids`. Returns float (slices, 8), mm2: area times the cosine of the angle between
    slice normal and muscle (`muscle_directions`); 0 for an absent muscle, NaN if no neighbouring
    slice shows it.
    """
    cosine = np.abs(muscle_directions(centroids_mm)[..., 2])
    return np.where(areas_mm2 == 0, 0.0, areas_mm2 * cosine)


def measure_area(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Measure the cross-sectional area of every muscle in every slice.

    Writes the shard's table `area` (tables.AREA): a row per subject, stack, slice, muscle and side,
    with pixels, areas in the image plane, across the body and across the muscle (mm2), the share of the
    outline at the image's edge, the predicted IoU, the source of the labels, and position, tilt, slab
    length and overlap of the slice. Areas are 0 for an absent muscle, null (csa_reason) for one that
    the source of given labels cannot label. The area across the muscle is also null if no neighbouring
    slice shows the muscle. Parameters and errors: as of `shards.work_after`, whose shard_table is
    `segment`.
    """
    do = partial(_measure_subject, folder)
    shards.work_after(segment, "measure_area", do, folder=folder, out=out, workers=workers)


def _measure_subject(folder: Path, task: shards.Task, scratch: Path) -> shards.Product:
    home = folder / task.subject
    given = SubjectFolder(home).stack_numbers("given")
    rows = []
    for stack in read_labelled_stacks(home):
        source = {"labels_source": SHEET if stack.number in given else NETWORK}
        areas = _area_rows(stack, read_predicted_iou(home, stack.number))
        rows += [row | source for row in areas]
    return shards.Product(rows)


def _area_rows(stack: LabelledStack, predicted_iou: np.ndarray) -> list[dict]:
    areas = slice_areas(stack.labels, stack.pixel_area_mm2)
    pixels = slice_pixels(stack.labels)
    columns = {
        "position_mm": stack.position_mm,
        "tilt_deg": stack.tilt_deg,
        "slab_mm": stack.slab_mm,
        "overlaps": stack.overlaps,
        "pixels": pixels,
        "csa_mm2": areas,
        "csa_axial_mm2": axial_areas(areas, stack.tilt_deg),
        "csa_across_mm2": across_areas(
            areas, slice_centroids(stack.labels, stack.spacing_mm, stack.position_mm)
        ),
        "border_fraction": border_fractions(stack.labels),
        "predicted_iou": np.where((pixels == 0) & ~np.isnan(predicted_iou), 0.0, predicted_iou),
    }
    unknown = ("pixels", "csa_mm2", "csa_axial_mm2", "csa_across_mm2", "border_fraction")
    return with_unknown(stack_rows(stack.number, columns), stack, unknown, ("csa_reason",))
