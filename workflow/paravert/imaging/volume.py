"""Volumes: an image or label map with its affine; writing and reading our NIfTI files of them."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from paravert.imaging.geometry import voxel_spacing_mm

ORTHOGONALITY_TOLERANCE = 1e-4  # NIfTI stores the affine in float32
COMPRESSION_LEVEL = 1  # of isal, which has 0 to 3; higher ones save 2 % more


@dataclass(frozen=True)
class Volume:
    """The voxels of a stack of parallel, evenly spaced slices: an image or a label map.

    array: (slices, rows, columns). Axial: slices from caudal to cranial, rows towards the patient's
    back, columns towards the patient's left; this is not checked. affine: 4 x 4, voxel index
    (column, row, slice, 1) to RAS in mm, as in NIfTI files: in the reverse order of the array's
    axes. Raises ValueError unless the array is 3-D and the affine finite, orthogonal (axes at right
    angles, of any length) and right-handed.
    """

    array: np.ndarray
    affine: np.ndarray

    def __post_init__(self):
        if self.array.ndim != 3:
            raise ValueError(
                f"array has shape {self.array.shape}, expected (slices, rows, columns)"
            )
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise ValueError(f"affine {self.affine} is not a finite 4 x 4 matrix")
        axes = self.affine[:3, :3] / voxel_spacing_mm(self.affine)
        if not np.allclose(axes.T @ axes, np.eye(3), atol=ORTHOGONALITY_TOLERANCE):
            raise ValueError(f"the axes of affine {self.affine} are not orthogonal")
        if np.linalg.det(axes) < 0:
            raise ValueError(f"affine {self.affine} is not right-handed")

    @property
    def column_spacing_mm(self) -> float:
        """Distance between the centres of neighbouring columns, in mm."""
        return float(np.linalg.norm(self.affine[:3, 0]))

    @property
    def row_spacing_mm(self) -> float:
        """Distance between the centres of neighbouring rows, in mm."""
        return float(np.linalg.norm(self.affine[:3, 1]))

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between the centres of neighbouring slices, in mm."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """(row spacing, column spacing) in mm, as PixelSpacing of DICOM (0028,0030)."""
        return self.row_spacing_mm, self.column_spacing_mm

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel in the image plane, in mm2."""
        return self.row_spacing_mm * self.column_spacing_mm

    def with_array(self, array: np.ndarray) -> "Volume":
        """Return a new volume of another array with the affine of this one; neither is copied.

        array: (slices, rows, columns), ValueError if not 3-D; that it has the size of this volume's
        is not checked.
        """
        return Volume(array, self.affine)


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume as compressed NIfTI-1 (.nii.gz), in the type of its array.

    path: file, replaced if it exists; its folder is made. Sets sform and qform to the affine, and mm
    as the unit. The file has no time stamp: equal volumes give equal files. nibabel refuses arrays
    of bool, float16 and 64-bit integers with an error.
    """
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.affine)
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(igzip.compress(image.to_bytes(), COMPRESSION_LEVEL, mtime=0))


def read_volume(path: Path) -> Volume:
    """Return the volume in a file that `write_volume` wrote: array (slices, rows, columns) and affine.

    path: .nii.gz. The array has the data type of the file; values are not rescaled.
    """
    image = nib.Nifti1Image.from_bytes(igzip.decompress(path.read_bytes()))
    return Volume(np.asanyarray(image.dataobj).transpose(2, 1, 0), image.affine)


def read_shape(path: Path) -> tuple[int, int, int]:
    """Return (slices, rows, columns) of a .nii.gz file that `write_volume` wrote; reads its header only."""
    columns, rows, slices = nib.load(path).shape
    return slices, rows, columns


def voxel_digest(volume: Volume) -> str:
    """Return the SHA-256 (hex) of the voxels of a volume, their shape and type; not of the affine."""
    kind = f"{volume.array.shape} {volume.array.dtype.str}".encode()
    return sha256(kind + np.ascontiguousarray(volume.array).tobytes()).hexdigest()


def qform_of(affine: np.ndarray) -> np.ndarray:
    """Return an affine as the qform of a NIfTI-1 file stores it (a quaternion of single precision), 4 x 4.

    affine: 4 x 4, voxel index to RAS in mm, with orthogonal axes, as `Volume.affine`.
    """
    header = nib.Nifti1Header()
    header.set_qform(affine, code="scanner")
    return header.get_qform()


def blank_slices(array: np.ndarray) -> np.ndarray:
    """Return which slices are blank, all pixels of one value (any value, not only 0), bool (slices,).

    array: (slices, rows, columns).
    """
    flat = array.reshape(len(array), -1)
    return flat.min(axis=1) == flat.max(axis=1)
