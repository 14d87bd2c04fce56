"""What every converted stack must fulfil, shared by the tests of imaging."""

import numpy as np

from dicom_writer import phantom

LPS = np.diag([-1, -1, 1, 1])


def positions_of(affine, rows, columns, index=0):
    row, column = np.mgrid[:rows, :columns]
    grid = np.stack([column, row, np.full_like(row, index), np.ones_like(row)], axis=-1)
    return (grid @ (LPS @ affine).T)[..., :3]


def assert_is_phantom(stack, function=phantom, tolerance=1):
    """Every voxel has the phantom's value at the place that the affines give it."""
    volume = stack.volume
    slices, rows, columns = volume.array.shape
    assert len(stack.slices) == slices
    for index in range(slices):
        by_volume = positions_of(volume.affine, rows, columns, index)
        by_slice = positions_of(stack.slices[index].affine, rows, columns)
        assert np.abs(by_volume - by_slice).max() < 1e-3
        assert np.abs(volume.array[index] - function(by_slice)).max() <= tolerance
    steps = (LPS @ volume.affine)[:3, :3]
    assert steps[0, 0] > 0  # columns run to the patient's left
    assert steps[1, 1] > 0  # rows run to the back
    assert steps[2, 2] > 0  # slices run to the head
