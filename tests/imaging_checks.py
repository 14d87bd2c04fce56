"""What every converted stack must fulfil, and the step run on one subject, for the tests."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq

from dicom_writer import labels_phantom, phantom
from paravert.imaging.convert import convert_dicom

LPS = np.diag([-1, -1, 1, 1])
SUBJECT = "S1"


def positions_of(affine, rows, columns, index=0):
    row, column = np.mgrid[:rows, :columns]
    grid = np.stack([column, row, np.full_like(row, index), np.ones_like(row)], axis=-1)
    return (grid @ (LPS @ affine).T)[..., :3]


def assert_is_phantom(stack, function=phantom, tolerance=1):
    """Every voxel of a stack in memory has the phantom's value at the place of the affines."""
    places = [slice_.affine for slice_ in stack.slices]
    assert_shows(function, stack.volume.array, stack.volume.affine, places, tolerance=tolerance)


def assert_shows(function, array, affine, places, *, tolerance=1, drift_mm=1e-3):
    """Every voxel of (slices, rows, columns) has a function's value at its place in the patient.

    affine: of the volume. places: affine of each slice. drift_mm: how far the two may be apart.
    """
    slices, rows, columns = array.shape
    assert len(places) == slices
    for index, place in enumerate(places):
        by_slice = positions_of(place, rows, columns)
        apart = np.abs(positions_of(affine, rows, columns, index) - by_slice).max()
        assert apart <= drift_mm, f"slice {index} lies {apart:.3f} mm off its volume's grid"
        wrong = np.abs(array[index] - function(by_slice)).max()
        assert wrong <= tolerance, f"slice {index} differs from the phantom by up to {wrong:g}"
    steps = (LPS @ affine)[:3, :3]
    assert steps[0, 0] > 0  # columns run to the patient's left
    assert steps[1, 1] > 0  # rows run to the back
    assert steps[2, 2] > 0  # slices run to the head


# --- the step, judged by what it wrote -----------------------------------------------------------


@dataclass(frozen=True)
class Converted:
    """What the step wrote of one subject: its row of the shard, and its folder."""

    row: dict
    home: Path

    @property
    def slices(self) -> list[dict]:
        return pq.read_table(self.home / "slices.parquet").to_pylist()

    def files(self, kind: str) -> dict[int, Path]:
        """Return the NIfTI files of a kind by the number of their stack."""
        found = sorted((self.home / kind).glob("stack-*.nii.gz"))
        return {int(file.name[6:8]): file for file in found}


def convert_one(home, images, *, truth="", labels="", patterns=()) -> Converted:
    """Run convert_dicom on one subject; paths are relative to home, where the sheet lies."""
    sheet = home / "subjects.tsv"
    sheet.write_text(
        f"subject\timages\ttruth\tlabels\n{SUBJECT}\t{images}\t{truth}\t{labels}\n",
        encoding="utf-8",
    )
    out = home / "convert.parquet"
    convert_dicom(sheet, [SUBJECT], home / "results", out, series_description=list(patterns))
    (row,) = pq.read_table(out).to_pylist()
    return Converted(row, home / "results" / SUBJECT)


def convert_several(home, rows) -> dict[str, dict]:
    """Run convert_dicom on several subjects; return the row of each.

    rows: columns of the sheet, the paths relative to home, by subject.
    """
    columns = ("images", "truth", "labels")
    lines = ["\t".join(("subject", *columns))]
    lines += ["\t".join([name, *(row.get(c, "") for c in columns)]) for name, row in rows.items()]
    sheet = home / "subjects.tsv"
    sheet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = home / "convert.parquet"
    convert_dicom(sheet, list(rows), home / "results", out)
    return {row["subject"]: row for row in pq.read_table(out).to_pylist()}


def assert_outcome(case, converted):
    """A converted subject is what its case expects, by the files alone."""
    row = converted.row
    told = f"{row['reason']}: {row['message']}, warnings {row['warnings']}"
    assert row["reason"] == case.reason, told
    assert row["status"] == ("quarantined" if case.reason else "analysed")
    if case.reason:
        assert row["message"]
        assert case.told in row["message"]
        assert [path.name for path in converted.home.iterdir()] == ["status.json"]
        return
    assert set(row["warnings"]) == set(case.cautions), told
    rows = [[r for r in converted.slices if r["stack"] == n + 1] for n in range(row["stacks"])]
    assert tuple(len(members) for members in rows) == case.stacks
    assert sum(case.stacks) == row["slices"]
    assert sum(r["overlaps"] for members in rows for r in members) == case.overlaps
    images = converted.files("image")
    assert list(images) == list(range(1, len(case.stacks) + 1))
    slabs_mm = np.broadcast_to(case.slab_mm, len(rows))
    for number, (members, slab_mm) in enumerate(zip(rows, slabs_mm, strict=True), start=1):
        _assert_stack(case, nib.load(images[number]), members, slab_mm)
    for kind, role in (("truth", case.truth), ("given", case.labels)):
        masks = converted.files(kind)
        assert tuple(masks) == (case.masks if role else ())
        for number, file in masks.items():
            _assert_mask(case, nib.load(file), nib.load(images[number]), rows[number - 1])


def _assert_stack(case, image, rows, slab_mm):
    array = np.asanyarray(image.dataobj).transpose(2, 1, 0)
    assert array.dtype == case.dtype
    places = [np.array(r["affine"]).reshape(4, 4) for r in rows]
    assert_shows(
        case.values, array, image.affine, places, tolerance=case.tolerance, drift_mm=case.drift_mm
    )
    assert np.allclose(image.get_qform(), image.affine, atol=0.05)
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    normal = image.affine[:3, 2] / spacing[2]
    tilt = np.degrees(np.arctan2(np.hypot(normal[0], normal[1]), normal[2]))
    assert [r["slice"] for r in rows] == list(range(len(rows)))
    for r, place in zip(rows, places, strict=True):
        told = (r["column_spacing_mm"], r["row_spacing_mm"], r["slab_mm"])
        assert np.allclose(told, spacing, atol=1e-4)
        assert abs(r["slab_mm"] - slab_mm) < case.slab_tolerance_mm
        assert r["slab_source"] == ("positions" if len(rows) > 1 else case.slab_source)
        assert abs(r["tilt_deg"] - tilt) < 1e-3
        middle = place @ [(image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2, 0, 1]
        assert abs(r["position_mm"] - normal @ middle[:3]) < 1e-2


def _assert_mask(case, mask, image, rows):
    array = np.asanyarray(mask.dataobj).transpose(2, 1, 0)
    assert array.dtype == np.uint8
    assert np.array_equal(mask.affine, image.affine)
    for index, row in enumerate(rows):
        place = np.array(row["affine"]).reshape(4, 4)
        positions = positions_of(place, *array.shape[1:])
        assert set(np.unique(labels_phantom(positions))) == set(range(9))
        assert np.array_equal(array[index], case.mask_values(positions))
