"""Rule measure_area: cross-sectional area of each muscle in each slice."""

from functools import partial
from pathlib import Path

import numpy as np

from paravert import shards
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
        "border_fraction": border_fractions(stack.labels),
        "predicted_iou": np.where((pixels == 0) & ~np.isnan(predicted_iou), 0.0, predicted_iou),
    }
    unknown = ("pixels", "csa_mm2", "csa_axial_mm2", "border_fraction")
    return with_unknown(stack_rows(stack.number, columns), stack, unknown, ("csa_reason",))
