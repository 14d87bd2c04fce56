"""The step: sheet in; volumes, slices and one row per subject out."""

import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

from dicom_writer import (
    Plan,
    labels_phantom,
    phantom,
    plan_affine,
    store,
    turn,
    write_nifti,
    write_series,
)
from paravert import tables
from paravert.imaging.convert import convert_dicom
from paravert.imaging.volume import read_volume, write_volume
from paravert.subject_folder import SubjectFolder

DISCS = [
    Plan(slices=3, centre=(0, 0, -40)).turned(turn("x", 15)),
    Plan(slices=4, centre=(0, -5, 30)).turned(turn("x", 4)),
]


def convert(home, rows, **options):
    """Convert subjects; rows: columns of the sheet by subject."""
    columns = ("images", "truth", "labels")
    lines = ["\t".join(("subject", *columns))]
    lines += [
        "\t".join([name, *(str(row.get(c, "")) for c in columns)]) for name, row in rows.items()
    ]
    sheet = home / "subjects.tsv"
    sheet.write_text("\n".join(lines) + "\n")
    out = home / "shard" / "convert.parquet"
    convert_dicom(sheet, list(rows), home / "results", out, **options)
    told = {row["subject"]: row for row in pq.read_table(out).to_pylist()}
    return told, home / "results"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    home = tmp_path_factory.mktemp("cohort")
    write_series(home / "S1", DISCS)
    for name, plan in zip("ba", DISCS, strict=True):
        write_nifti(home / "S1-truth" / f"{name}.nii.gz", plan, labels_phantom, dtype=np.uint8)
    write_nifti(home / "S2.nii.gz", Plan(), flips=(True, False, True))
    write_nifti(home / "S2-labels.nii.gz", Plan(), labels_phantom, dtype=np.uint8)
    (home / "S3").mkdir()
    for path in write_series(home / "S4", Plan())[:1]:
        path.write_bytes(path.read_bytes()[:-99])
    rows = {
        "S1": {"images": home / "S1", "truth": home / "S1-truth"},
        "S2": {"images": home / "S2.nii.gz", "labels": home / "S2-labels.nii.gz"},
        "S3": {"images": home / "S3"},
        "S4": {"images": home / "S4"},
        "S5": {"images": home / "nowhere"},
    }
    told, results = convert(home, rows)
    return home, rows, told, results


def test_each_subject_is_one_row_with_its_outcome(converted):
    _, _, told, _ = converted
    outcomes = {name: (row["status"], row["reason"]) for name, row in told.items()}
    assert outcomes == {
        "S1": ("analysed", None),
        "S2": ("analysed", None),
        "S3": ("quarantined", "no-dicom"),
        "S4": ("quarantined", "truncated-pixels"),
        "S5": ("quarantined", "no-dicom"),
    }
    facts = ("stacks", "slices", "has_truth", "has_labels", "header_sex", "manufacturer")
    assert [told["S1"][name] for name in facts] == [2, 7, True, False, "F", "Siemens"]
    assert [told["S2"][name] for name in facts] == [1, 5, False, True, None, None]
    assert [told[name]["header_sequence"] for name in ("S1", "S2")] == ["T2", None]
    assert told["S1"]["warnings"] == ["multi-stack"]
    assert all(told["S3"][name] is None for name in facts)


def test_each_slice_has_the_class_of_its_sequence_and_that_of_nifti_is_unknown(converted):
    _, _, _, results = converted
    for subject, expected in (("S1", "T2"), ("S2", "unknown")):
        rows = pq.read_table(SubjectFolder(results / subject).slices_file).to_pylist()
        assert {row["header_sequence"] for row in rows} == {expected}


def test_volumes_and_masks_lie_beside_each_other_on_one_grid(converted):
    _, _, _, results = converted
    for subject, kind in (("S1", "truth"), ("S2", "given")):
        home = results / subject
        assert SubjectFolder(home).stack_numbers(kind) == SubjectFolder(home).stack_numbers("image")
        for number in SubjectFolder(home).stack_numbers("image"):
            image = read_volume(SubjectFolder(home).stack_file("image", number))
            mask = read_volume(SubjectFolder(home).stack_file(kind, number))
            assert image.array.shape == mask.array.shape
            assert np.array_equal(image.affine, mask.affine)
            assert (image.array.dtype, mask.array.dtype) == (np.int16, np.uint8)


def test_nibabel_reads_the_same_values_at_the_same_millimetres(converted):
    _, _, _, results = converted
    for number in (1, 2):
        image = nib.load(SubjectFolder(results / "S1").stack_file("image", number))
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
        assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-4)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        voxels = np.argwhere(np.ones(image.shape, bool))
        points = nib.affines.apply_affine(image.affine, voxels) * [-1, -1, 1]
        assert np.abs(image.get_fdata().ravel() - phantom(points)).max() <= 1


def test_a_quarantined_subject_leaves_no_files(converted):
    _, _, _, results = converted
    assert [path.name for path in (results / "S4").iterdir()] == ["status.json"]


def test_a_second_run_takes_everything_as_it_is(converted, caplog):
    home, rows, told, results = converted
    images = [SubjectFolder(results / "S1").stack_file("image", number) for number in (1, 2)]
    before = [os.stat(path).st_mtime_ns for path in images]
    again, _ = convert(home, rows)
    assert again == told
    assert [os.stat(path).st_mtime_ns for path in images] == before


def test_workers_change_nothing(converted, tmp_path):
    home, rows, told, _ = converted
    with_two, results = convert(tmp_path, rows, workers=2)
    assert with_two == told
    one = (home / "results/S1/image/stack-01.nii.gz").read_bytes()
    assert (results / "S1/image/stack-01.nii.gz").read_bytes() == one


def test_configured_patterns_reach_the_choice(tmp_path):
    write_series(tmp_path / "S1", Plan(slices=3), "T1 TRA")
    write_series(tmp_path / "S1", Plan(slices=4), "T2 TRA")
    rows = {"S1": {"images": tmp_path / "S1"}}
    assert convert(tmp_path, rows)[0]["S1"]["reason"] == "ambiguous-series"
    assert convert(tmp_path, rows, series_description=["T2"])[0]["S1"]["slices"] == 4


SAGITTAL = Plan(right=(0, 1, 0), down=(0, 0, -1), slices=7, gap=4.0)
CORONAL = Plan(right=(1, 0, 0), down=(0, 0, -1), slices=1)


def test_every_series_is_told_with_its_plane_and_why_it_was_passed_over(tmp_path):
    home = tmp_path / "S1"
    write_series(home / "1", SAGITTAL, "T2 SAG Doe^Jane", edit=sequence("T2"))
    write_series(home / "2", [CORONAL, replace(SAGITTAL, slices=1), Plan(slices=1)], "3 planes")
    write_series(home / "3", Plan(slices=3), "T1 TRA", edit=sequence("T1"))
    write_series(home / "4", Plan(slices=4, gap=5.5), "T2 TRA", edit=sequence("T2"))
    write_series(home / "5", CORONAL, "COR")
    write_series(home / "6", Plan(slices=2), "nowhere", edit=no_orientation)
    told, _ = convert(tmp_path, {"S1": {"images": home}}, series_description=["T2"])
    columns = [column.name for column in tables.SERIES_COLUMNS]
    assert [tuple(row[name] for name in columns) for row in told["S1"]["series"]] == [
        (1, "sagittal", "T2", 7, pytest.approx(4.0), False, "non-axial"),
        (2, "localizer", "T2", 3, None, False, "localizer"),
        (3, "axial", "T1", 3, pytest.approx(6.0), False, "series-description"),
        (4, "axial", "T2", 4, pytest.approx(5.5), True, None),
        (5, "coronal", "T2", 1, None, False, "non-axial"),
        (6, "unknown", "T2", 2, None, False, "no-orientation"),
    ]
    assert told["S1"]["slices"] == 4


def sequence(kind):
    def edit(data, number):
        data.ScanningSequence = "SE"
        data.RepetitionTime, data.EchoTime = (600, 10) if kind == "T1" else (4000, 100)

    return edit


def no_orientation(data, number):
    del data.ImageOrientationPatient


def test_a_nifti_image_is_one_series(converted):
    _, _, told, _ = converted
    (row,) = told["S2"]["series"]
    expected = {"plane": "axial", "sequence": "unknown", "n_slices": 5, "chosen": True}
    assert row == expected | {
        "series_number": 1,
        "spacing_mm": row["spacing_mm"],
        "series_reason": None,
    }
    assert row["spacing_mm"] == pytest.approx(Plan().gap)


def test_a_volume_comes_back_as_it_was_written(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", Plan().turned(turn("x", 30)))
    volume = read_volume(tmp_path / "a.nii.gz")
    write_volume(tmp_path / "b.nii.gz", volume)
    again = read_volume(tmp_path / "b.nii.gz")
    assert np.array_equal(again.array, volume.array)
    assert np.array_equal(again.affine, volume.affine)


# --- slices.parquet ------------------------------------------------------------------------------

MIRRORED = Plan(slices=4, right=(-1, 0, 0), centre=(3, -9, 90))  # its slices run to the feet
STACKS = [  # from the feet upwards
    Plan(slices=3, centre=(0, 0, -60)).turned(turn("z", 5) @ turn("x", 15)),
    Plan(slices=1, centre=(0, -3, -10)).turned(turn("x", 8)),
    Plan(slices=1, centre=(1, -5, 30)).turned(turn("y", -4)),
    MIRRORED.turned(turn("x", 20)),
]
SLABS = [(6, "positions"), (5, "thickness"), (7, "tag"), (6, "positions")]
THICKNESS_MM = [5, 5, None, 5]
TILTS_DEG = [15, 8, 4, 20]
INVERTED, BLANK, DOUBLED, WITHOUT_THICKNESS = 0, 1, 2, 4  # slices by their number in the series


def described(data, number):
    data.RescaleSlope, data.RescaleIntercept = 1 + number, -10 * number
    if number == INVERTED:
        store(data, 4095 - phantom(STACKS[0].points(INVERTED)))
        data.PhotometricInterpretation = "MONOCHROME1"
    if number == BLANK:
        store(data, np.full((data.Rows, data.Columns), 7))
    if number == WITHOUT_THICKNESS:
        del data.SliceThickness
        data.SpacingBetweenSlices = 7


def canonical_place(plan, index):
    """Return the affine (RAS) of a planned slice, its columns counted towards the left."""
    mirrored = plan.right[0] < 0
    affine = np.eye(4)
    affine[:3, 0] = plan.column_spacing * np.asarray(plan.right) * (-1 if mirrored else 1)
    affine[:3, 1] = plan.row_spacing * np.asarray(plan.down)
    affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
    affine[:3, 2] /= np.linalg.norm(affine[:3, 2])
    affine[:3, 3] = plan.points(index)[0, -1 if mirrored else 0]
    return np.diag([-1, -1, 1, 1]) @ affine


@pytest.fixture(scope="module")
def described_slices(tmp_path_factory):
    """Rows of slices.parquet, each with its plan, its index there and its number in the series."""
    home = tmp_path_factory.mktemp("slices")
    paths = write_series(home / "S1", STACKS, edit=described)
    shutil.copyfile(paths[DOUBLED], home / "S1" / "copy")
    told, results = convert(home, {"S1": {"images": home / "S1"}})
    assert told["S1"]["status"] == "analysed"
    table = pq.read_table(results / "S1" / "slices.parquet")
    tables.check(tables.GEOMETRY, table.replace_schema_metadata(None))
    places = [(plan, index) for plan in STACKS for index in range(plan.slices)]
    numbers = [0, 1, 2, 3, 4, 8, 7, 6, 5]
    rows = table.to_pylist()
    return [(row, *places[number], number) for row, number in zip(rows, numbers, strict=True)]


def test_slices_are_counted_within_their_stacks(described_slices):
    found = [(row["stack"], row["slice"]) for row, *_ in described_slices]
    assert found == [(1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (4, 0), (4, 1), (4, 2), (4, 3)]


def test_each_slice_has_its_own_place(described_slices):
    for row, plan, index, _ in described_slices:
        expected = canonical_place(plan, index)
        expected[:3, 2] *= SLABS[row["stack"] - 1][0]
        assert row["affine"] == pytest.approx(expected.ravel(), abs=1e-6)
        middle = plan.points(index).reshape(-1, 3).mean(axis=0)
        upwards = plan.normal * np.sign(plan.normal[2])
        assert row["position_mm"] == pytest.approx(upwards @ middle, abs=1e-6)
        assert (row["row_spacing_mm"], row["column_spacing_mm"]) == pytest.approx((3.5, 2.5))
        assert row["tilt_deg"] == pytest.approx(TILTS_DEG[row["stack"] - 1], abs=1e-6)


def test_each_slice_has_its_length_and_where_that_comes_from(described_slices):
    for row, *_ in described_slices:
        length, source = SLABS[row["stack"] - 1]
        assert row["slab_mm"] == pytest.approx(length)
        assert row["slab_source"] == source
        assert row["thickness_mm"] == THICKNESS_MM[row["stack"] - 1]


def test_each_slice_has_its_own_rescale_and_warnings(described_slices):
    warnings = {
        INVERTED: ["monochrome1-inverted"],
        BLANK: ["blank-slice"],
        DOUBLED: ["duplicate-slice-dropped"],
    }
    for row, _, _, number in described_slices:
        assert (row["rescale_slope"], row["rescale_intercept"]) == (1 + number, -10 * number)
        assert row["warnings"] == warnings.get(number, [])
        assert row["overlaps"] is False


# --- the real study ------------------------------------------------------------------------------


@pytest.mark.real
def test_the_real_study_has_five_stacks_and_seventeen_slices(real_study, tmp_path):
    told, results = convert(tmp_path, {"REAL": {"images": real_study}})
    row = told["REAL"]
    assert (row["stacks"], row["slices"]) == (5, 17)
    assert row["warnings"] == ["multi-stack", "non-axial-excluded", "overlapping-stacks"]
    assert (row["header_sex"], row["header_age_years"], row["manufacturer"]) == ("M", 42, "Hitachi")
    found = [(one["plane"], one["n_slices"], one["chosen"]) for one in row["series"]]
    assert (found.count(("axial", 17, True)), len({one[2] for one in found})) == (1, 2)
    assert {one[0] for one in found} == {"axial", "sagittal"}
    assert next(one for one in row["series"] if one["chosen"])["spacing_mm"] == pytest.approx(
        4.5, abs=0.5
    )
    slices = pq.read_table(results / "REAL" / "slices.parquet").to_pylist()
    files = [pydicom.dcmread(path) for path in sorted((real_study / "T1_AX").iterdir())]
    files.sort(key=lambda data: data.ImagePositionPatient[2])
    assert len(slices) == len(files)
    for row, data in zip(slices, files, strict=True):
        right, down = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
        normal = np.cross(right, down)
        tilt = np.degrees(np.arctan2(np.hypot(normal[0], normal[1]), normal[2]))
        assert row["tilt_deg"] == pytest.approx(tilt, abs=1e-4)
        affine = np.diag([-1, -1, 1, 1]) @ np.array(row["affine"]).reshape(4, 4)
        assert affine[:3, 3] == pytest.approx(np.array(data.ImagePositionPatient, float), abs=1e-3)
        assert affine[:3, 0] == pytest.approx(right * 0.546875, abs=1e-5)
        assert affine[:3, 1] == pytest.approx(down * 0.546875, abs=1e-5)
        assert row["slab_mm"] == pytest.approx(4.5, abs=1e-3)
        array = read_volume(SubjectFolder(results / "REAL").stack_file("image", row["stack"])).array
        assert np.array_equal(array[row["slice"]], data.pixel_array)


@pytest.mark.real
def test_spacing_and_tilt_of_the_real_stacks_follow_from_their_positions(real_study, tmp_path):
    _, results = convert(tmp_path, {"REAL": {"images": real_study}})
    expected = {1: (4, 20.7), 2: (4, 12.3), 3: (3, 9.3), 4: (3, 3.1), 5: (3, 3.0)}
    files = [pydicom.dcmread(p, stop_before_pixels=True) for p in (real_study / "T1_AX").iterdir()]
    places = np.array(sorted(tuple(data.ImagePositionPatient)[::-1] for data in files))[:, ::-1]
    start = 0
    for number, (count, tilt) in expected.items():
        image = nib.load(SubjectFolder(results / "REAL").stack_file("image", number))
        assert image.shape == (512, 512, count)
        ends = places[start : start + count]
        spacing = np.linalg.norm(ends[-1] - ends[0]) / (count - 1)
        assert image.header.get_zooms() == pytest.approx((0.546875, 0.546875, spacing), abs=1e-4)
        normal = image.affine[:3, 2] / spacing
        assert np.degrees(np.arccos(normal[2])) == pytest.approx(tilt, abs=0.06)
        assert image.affine[:3, 3] * [-1, -1, 1] == pytest.approx(ends[0], abs=1e-3)
        start += count


def test_the_writer_places_its_slices_where_its_plan_says():
    plan = Plan().turned(turn("y", 20))
    by_affine = plan_affine(plan) @ [3, 2, 1, 1]
    assert by_affine[:3] * [-1, -1, 1] == pytest.approx(plan.points(1)[2, 3])
