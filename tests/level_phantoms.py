"""Phantoms whose levels are known, and the real studies, for the benchmarks of levels."""

from pathlib import Path

import numpy as np

from paravert.imaging.geometry import LPS_TO_RAS
from paravert.imaging.volume import Volume
from paravert.network.find_levels import SliceGeometry
from paravert.network.predict import Predictor
from paravert.synthesis.body import body_of
from paravert.synthesis.phantom_files import affine_of
from paravert.synthesis.protocol import (
    SAGITTAL_PIXEL_MM,
    SAGITTAL_SPACING_MM,
    protocol_of,
    sagittal_series,
)
from paravert.synthesis.signal import render_planes
from paravert.synthesis.volunteers import population_member
from real_scans import scan_labels

LUMBAR = (1.5, 2.5, 3.5, 4.5, 5.5)
STUDIES = {
    "lumbar_study_cc0": ("T1_AX", ("T1_SAG", "T2_SAG", "STIR_SAG")),
    "lumbar_study_cc0_15t": ("T2_AX", ("T1_SAG", "T2_SAG")),
}


def sagittal_phantom(seed: int, index: int) -> tuple[Volume, dict[float, np.ndarray]]:
    """Return the sagittal series of a phantom and the true centre of each lumbar disc, (3,) LPS."""
    person = population_member(seed, index)
    body, protocol = body_of(person), protocol_of(person, index)
    _, images = sagittal_series(body, protocol)
    array = np.stack([image for image, _ in reversed(images)])  # from left to right
    plane = images[-1][1]
    size = array.shape[1]
    corner = plane.centre - (size - 1) / 2 * SAGITTAL_PIXEL_MM * (plane.across + plane.down)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = (SAGITTAL_PIXEL_MM * axis for axis in (plane.across, plane.down))
    affine[:3, 2], affine[:3, 3] = np.array([-SAGITTAL_SPACING_MM, 0, 0]), corner
    turn = np.deg2rad(protocol.rotation_deg)
    c, s = np.cos(turn), np.sin(turn)
    spine = body.spine
    levels = np.array(LUMBAR)
    axis = np.column_stack((spine.middle(levels), spine.height_mm(levels)))
    places = axis @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + protocol.offset_mm
    return Volume(array, LPS_TO_RAS @ affine), dict(zip(LUMBAR, places, strict=True))


def axial_phantom(seed: int, index: int) -> tuple[Volume, np.ndarray]:
    """Return the axial series of a phantom and the level of each slice, at the column's middle."""
    person = population_member(seed, index)
    body, protocol = body_of(person), protocol_of(person, index)
    planes = [protocol.plane(number) for number in range(protocol.slices)]
    cuts = [protocol.in_body(plane) for plane in planes]
    images = [one.image for one in render_planes(body, cuts, protocol.grid, protocol.acquisition)]
    levels = np.linspace(-1, 8, 9001)
    spine = body.spine
    axis = np.column_stack((spine.middle(levels), spine.height_mm(levels)))
    axis = protocol.in_scanner(axis)
    heights = [(axis - plane.centre) @ np.cross(plane.across, plane.down) for plane in planes]
    true = np.array([levels[np.abs(height).argmin()] for height in heights])
    return Volume(np.stack(images), affine_of(protocol)), true


def kept_phantom(seed: int, index: int, cache: Path | None) -> tuple[Volume, np.ndarray]:
    """Return a phantom as `axial_phantom` does, from the cache if it is there."""
    file = cache and cache / f"{seed}_{index}.npz"
    if file is None or not file.is_file():
        volume, true = axial_phantom(seed, index)
        if file is None:
            return volume, true
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, array=volume.array.astype(np.float16), affine=volume.affine, true=true)
    held = np.load(file)
    return Volume(held["array"].astype(np.float32), held["affine"]), held["true"]


def geometry_of(stacks: list[Volume]) -> SliceGeometry:
    """Return where the slices of some stacks lie."""
    numbers, index, affines, shapes = [], [], [], []
    for number, stack in enumerate(stacks, start=1):
        for place in range(len(stack.array)):
            own = stack.affine.copy()
            own[:3, 3] += place * stack.affine[:3, 2]
            numbers.append(number)
            index.append(place)
            affines.append(LPS_TO_RAS @ own)
            shapes.append(stack.array.shape[1:])
    return SliceGeometry(*map(np.array, (numbers, index, affines, shapes)))


def labelled(predictor: Predictor, image: Volume) -> Volume:
    """Return the labels of a stack by the network."""
    return image.with_array(scan_labels(predictor, image))
