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
    read_labelled_stacks,
    read_predicted_iou,
    stack_rows,
    with_unknown,
)
from paravert.subject_folder import SubjectFolder
from paravert.tables import NETWORK, SHEET


def slice_areas(labels: np.ndarray, pixel_area_mm2: float) -> np.ndarray:
    """Return the cross-sectional area of each muscle in each slice, in the image plane.

    labels: label map, (slices, rows, columns), values of LABELS or 0. pixel_area_mm2: area of one
    pixel. Returns float (slices, 8), mm2, column k of label k + 1 (anatomy.LABELS); 0 for an absent
    muscle. Source: the paper, CSA from labels and PixelSpacing (0028,0030).
    """
    return slice_pixels(labels) * pixel_area_mm2


def border_fractions(labels: np.ndarray) -> np.ndarray:
    """Return the share of each muscle's outline in each slice that lies at the border of the image.

    The outline is those pixels of the muscle of which one of the four neighbours is no pixel of it.
    labels: label map, (slices, rows, columns), values of LABELS or 0. Returns float (slices, 8), column
    k of label k + 1 (anatomy.LABELS); NaN for an absent muscle.
    """
    inner = np.zeros(labels.shape, dtype=bool)
    middle = labels[:, 1:-1, 1:-1]
    inner[:, 1:-1, 1:-1] = (
        (middle == labels[:, :-2, 1:-1])
        & (middle == labels[:, 2:, 1:-1])
        & (middle == labels[:, 1:-1, :-2])
        & (middle == labels[:, 1:-1, 2:])
    )
    at_border = labels.copy()
    at_border[:, 1:-1, 1:-1] = 0
    with np.errstate(invalid="ignore"):
        return slice_pixels(at_border) / slice_pixels(np.where(inner, 0, labels))


def axial_areas(areas_mm2: np.ndarray, tilt_deg: np.ndarray) -> np.ndarray:
    """Return areas projected onto the plane perpendicular to the body's long axis.

    areas_mm2: float (slices, 8), in the image plane, column k of label k + 1 (anatomy.LABELS).
    tilt_deg: (slices,), angle in degrees between slice normal and long axis. Returns float (slices,
    8), mm2: area times the cosine of the tilt, which is exact for a muscle that runs along the long
    axis.
    """
    return areas_mm2 * np.cos(np.deg2rad(tilt_deg))[:, None]


def slice_centroids(
    labels: np.ndarray, spacing_mm: tuple[float, float], position_mm: np.ndarray
) -> np.ndarray:
    """Return the centroid of each muscle in each slice, in mm along the columns, the rows and the normal.

    labels: label map, (slices, rows, columns), values of LABELS or 0. spacing_mm: between rows, and
    between columns. position_mm: (slices,), along the normal of the slices. Returns float (slices, 8, 3),
    muscle k of label k + 1 (anatomy.LABELS); NaN for an absent muscle.
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
    """Return the direction of muscles in each of some parallel slices, unit vectors (slices, ..., 3).

    centroids_mm: (slices, ..., 3), centroid in each slice, in mm; NaN where the muscle is absent. The
    direction runs from the centroid in the slice before to that in the slice after; at an end of the
    stack or of the muscle, from or to the slice's own. NaN if neither neighbour shows the muscle.
    """
    before, after = np.roll(centroids_mm, 1, axis=0), np.roll(centroids_mm, -1, axis=0)
    before[0], after[-1] = np.nan, np.nan
    before = np.where(np.isnan(before), centroids_mm, before)
    after = np.where(np.isnan(after), centroids_mm, after)
    steps = after - before
    length = np.linalg.norm(steps, axis=-1, keepdims=True)
    return steps / np.where(length > 0, length, np.nan)


def across_areas(areas_mm2: np.ndarray, centroids_mm: np.ndarray) -> np.ndarray:
    """Return areas projected onto the plane across each muscle's own direction.

    areas_mm2: float (slices, 8), in the image plane. centroids_mm: see `slice_centroids`. Returns float
    (slices, 8), mm2: area times the cosine between the slice normal and the muscle's direction (see
    `muscle_directions`); 0 for an absent muscle, NaN where no neighbouring slice shows it.
    """
    cosine = np.abs(muscle_directions(centroids_mm)[..., 2])
    return np.where(areas_mm2 == 0, 0.0, areas_mm2 * cosine)


def measure_area(
    segment: SegmentTable, folder: SubjectsFolder, out: OutTable, workers: Workers = 1
) -> None:
    """Measure the cross-sectional area of every muscle in every slice.

    Writes a row per subject, stack, slice, muscle and side.
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
