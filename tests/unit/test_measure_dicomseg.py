"""DICOM segmentations, read back by pydicom alone, highdicom, SimpleITK and our own converter."""

import re
import shutil
import sys

import highdicom
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
import SimpleITK
from skimage.color import lab2rgb

from paravert import __version__, shard_tables, shards, tables
from paravert.anatomy import LABELS, label_value
from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging.convert import convert_subject
from paravert.imaging.dicom import read_dicom
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.measure.dicom_images import mr_images, stack_names, stored_pixels
from paravert.measure.dicomseg import dicomseg
from paravert.subject_folder import SubjectFolder

MODEL = "ab" * 32
PLACE_MM = 1e-4
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VALUES = {label.name: label.value for label in LABELS}


def turned(x_deg=0.0, y_deg=0.0, z_deg=0.0):
    a, b, c = np.deg2rad([x_deg, y_deg, z_deg])
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def affine_of(column_mm, row_mm, slice_mm, turn, first=(81.3, 97.7, -412.9)):
    """RAS; columns towards the left, rows towards the back, slices towards the head."""
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-column_mm, -row_mm, slice_mm])
    affine[:3, 3] = first
    return affine


AFFINES = {
    "axial": affine_of(0.625, 0.625, 6.6, turned()),
    "anisotropic": affine_of(0.5, 1.25, 4.0, turned()),
    "oblique": affine_of(0.7, 0.7, 4.4, turned(x_deg=21)),
    "double oblique, anisotropic": affine_of(0.45, 0.9, 5.0, turned(17, -9, 4)),
}


def random_labels(shape, seed=1, values=tuple(range(1, 9))):
    """A label map without order: any mix-up of voxels, rows, slices or sides shows."""
    draw = np.random.default_rng(seed)
    labels = draw.choice([0, *values], size=shape).astype(np.uint8)
    labels[1:2] = 0  # a slice without muscles
    return labels


def random_image(shape, seed=2):
    return np.random.default_rng(seed).integers(-900, 3000, shape).astype(np.int16)


def put_stack(home, number, labels, affine, image=None, thickness_mm=4.0, given=False):
    image = random_image(labels.shape, seed=number) if image is None else image
    kinds = {"image": image, "labels": labels} | ({"given": labels} if given else {})
    for kind, array in kinds.items():
        write_volume(SubjectFolder(home).stack_file(kind, number), Volume(array, affine))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    rows = []
    for index in range(len(labels)):
        row = {"stack": number, "slice": index, "position_mm": float(index), "tilt_deg": 0.0}
        row |= {"column_spacing_mm": spacing[0], "row_spacing_mm": spacing[1]}
        row |= {"slab_mm": spacing[2], "slab_source": "positions", "thickness_mm": thickness_mm}
        rows.append(row | {"affine": affine.ravel().tolist(), "overlaps": False, "warnings": []})
    path = home / "slices.parquet"
    before = pq.read_table(path).to_pylist() if path.is_file() else []
    tables.write(path, tables.GEOMETRY, tables.from_rows(tables.GEOMETRY, before + rows), {})


def segment_table(folder, subjects, quarantined=(), model=MODEL):
    def segmented(task, scratch):
        if task.subject in quarantined:
            raise SubjectFault(Reason.BLANK_IMAGES, "every slice holds a single value")
        return shards.Product([{"labels_source": "network"}])

    tasks = [shards.Task(subject, {"model": model}) for subject in (*subjects, *quarantined)]
    out = folder / "segment.parquet"
    records = folder / "records"  # apart from the labels, which the step would replace
    shards.work_through("segment_muscles", tasks, segmented, folder=records, out=out)
    return out


def export(folder, *subjects, quarantined=(), workers=1, model=MODEL):
    segment = segment_table(folder, subjects, quarantined, model)
    dicomseg(segment, folder, folder / "dicomseg.parquet", model, workers=workers)
    return pq.read_table(folder / "dicomseg.parquet").to_pylist()


def export_of(folder, labels, affine=AFFINES["axial"], **options):
    """Export one stack; return the segmentation's file."""
    put_stack(folder / "S1", 1, labels, affine, **options)
    export(folder, "S1")
    return folder / "S1/dicomseg/stack-01.dcm"


def frames(data):
    """The frames of a segmentation from bits and functional groups: label, position, mask."""
    rows, columns = data.Rows, data.Columns
    count = int(data.NumberOfFrames) * rows * columns
    bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")[:count]
    names = {item.SegmentNumber: item.SegmentLabel for item in data.SegmentSequence}
    groups = data.PerFrameFunctionalGroupsSequence
    for group, mask in zip(groups, bits.reshape(-1, rows, columns).astype(bool), strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        yield names[number], position, mask


def label_map(data, affine, shape):
    """Put a segmentation back on a grid; each pixel of it must lie on one of the grid's."""
    shared = data.SharedFunctionalGroupsSequence[0]
    direction = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    labels = np.zeros(shape, np.uint8)
    last = np.array([shape[2] - 1, shape[1] - 1])
    for name, position, mask in frames(data):
        index = np.linalg.inv(LPS @ affine) @ [*position, 1.0]
        slice_ = int(np.rint(index[2]))
        far = position + direction[:3] * column_mm * last[0] + direction[3:] * row_mm * last[1]
        expected = LPS @ affine @ np.array([[0, 0, slice_, 1], [*last, slice_, 1]]).T
        assert np.abs(np.array([position, far]) - expected[:3].T).max() < PLACE_MM
        assert not labels[slice_][mask].any()
        labels[slice_][mask] = VALUES[name]
    return labels


@pytest.mark.parametrize("slices", [1, 5])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_labels_come_back_voxel_for_voxel_in_their_place(tmp_path, affine, slices):
    labels = random_labels((slices, 23, 17))
    data = pydicom.dcmread(export_of(tmp_path, labels, affine))
    assert np.array_equal(label_map(data, affine, labels.shape), labels)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_highdicom_reads_the_same_labels_from_the_images(tmp_path, affine):
    labels = random_labels((5, 23, 17))
    segmentation = highdicom.seg.segread(export_of(tmp_path, labels, affine))
    files = sorted((tmp_path / "S1/dicomseg/image/stack-01").iterdir())
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    read = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(read, labels)
    volume = segmentation.get_volume(combine_segments=True)
    there = volume.affine @ [0, 0, 0, 1]
    index = np.linalg.inv(LPS @ affine) @ there
    assert np.allclose(index, np.rint(index), atol=1e-4)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("thickness_mm", [3.5, None])
def test_our_converter_reads_the_stack_back_from_the_images(tmp_path, affine, thickness_mm):
    labels = random_labels((5, 23, 17))
    export_of(tmp_path, labels, affine, thickness_mm=thickness_mm)
    (stack,) = read_dicom(tmp_path / "S1/dicomseg/image").stacks
    image = read_volume(SubjectFolder(tmp_path / "S1").stack_file("image", 1))
    assert np.array_equal(stack.volume.array, image.array)
    assert stack.volume.array.dtype == image.array.dtype
    assert np.abs(stack.volume.affine - affine).max() < PLACE_MM
    assert {slice_.thickness_mm for slice_ in stack.slices} == {thickness_mm}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_simpleitk_reads_the_same_images_in_the_same_place(tmp_path, affine):
    labels = random_labels((5, 23, 17))
    export_of(tmp_path, labels, affine)
    reader = SimpleITK.ImageSeriesReader()
    place = str(tmp_path / "S1/dicomseg/image/stack-01")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(place))
    image = reader.Execute()
    expected = read_volume(SubjectFolder(tmp_path / "S1").stack_file("image", 1)).array
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), expected)
    for index in ((0, 0, 0), (16, 22, 4)):
        point = image.TransformIndexToPhysicalPoint(index)
        assert np.abs(np.array(point) - (LPS @ affine @ [*index, 1.0])[:3]).max() < PLACE_MM


def test_each_image_tells_the_thickness_of_its_own_slice(tmp_path):
    export_of(tmp_path, random_labels((3, 20, 20)))
    path = tmp_path / "S1/slices.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["thickness_mm"] = [3.0, None, 5.0][row["slice"]]
    # The order of rows in a file means nothing.
    data = tables.from_rows(tables.GEOMETRY, rows[::-1])
    tables.write(path, tables.GEOMETRY, data, {})
    (tmp_path / "S1/dicomseg.json").unlink()
    export(tmp_path, "S1")
    images = [
        pydicom.dcmread(file) for file in sorted((tmp_path / "S1/dicomseg/image").rglob("*"))[1:]
    ]
    assert [image.SliceThickness for image in images] == [3.0, None, 5.0]


@pytest.mark.parametrize(("thickness_mm", "told"), [(3.5, 3.5), (None, 6.6)])
def test_a_segmentation_of_unknown_thickness_tells_the_spacing(tmp_path, thickness_mm, told):
    path = export_of(tmp_path, random_labels((3, 20, 20)), thickness_mm=thickness_mm)
    groups = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0]
    measures = groups.PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(told, abs=1e-6)
    assert float(measures.SpacingBetweenSlices) == pytest.approx(6.6, abs=1e-6)


def test_left_and_right_lie_on_the_patients_left_and_right(tmp_path):
    labels = np.zeros((3, 20, 30), np.uint8)
    for label in LABELS:
        first = 16 if label.side == "left" else 2  # columns run towards the left
        labels[:, 2 * label.value : 2 * label.value + 2, first : first + 10] = label.value
    data = pydicom.dcmread(export_of(tmp_path, labels, AFFINES["oblique"]))
    middle = (LPS @ AFFINES["oblique"] @ [14.5, 10, 1, 1])[0]
    for item in data.SegmentSequence:
        (side,) = item.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence
        assert (side.CodeValue, side.CodeMeaning) in (("7771000", "Left"), ("24028007", "Right"))
        assert item.SegmentLabel.endswith(side.CodeMeaning.lower())
        of_this = [f for f in frames(data) if f[0] == item.SegmentLabel]
        assert len(of_this) == 3
        for _, position, mask in of_this:
            x = position[0] + np.nonzero(mask)[1].mean() * 0.7
            assert (x > middle) == (side.CodeMeaning == "Left")  # x of LPS grows to the left


def test_segments_are_coded_named_and_coloured(tmp_path):
    data = pydicom.dcmread(export_of(tmp_path, random_labels((4, 40, 40))))
    codes = {"psoas_major": "68455001", "quadratus_lumborum": "127954009"}
    codes |= {"erector_spinae": "44947003", "multifidus": "5709001"}
    assert len(data.SegmentSequence) == 8
    for label, item in zip(LABELS, data.SegmentSequence, strict=True):
        assert item.SegmentNumber == label.value
        assert item.SegmentLabel == item.SegmentDescription == label.name
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodingSchemeDesignator, kind.CodeValue) == ("SCT", codes[label.muscle])
        category = item.SegmentedPropertyCategoryCodeSequence[0]
        assert (category.CodeValue, category.CodeMeaning) == ("91723000", "Anatomical Structure")
        lightness, a, b = np.array(item.RecommendedDisplayCIELabValue, float) / 65535
        lab = [100 * lightness, 255 * a - 128, 255 * b - 128]  # PS3.3 C.10.7.1.1
        rgb = lab2rgb(lab, illuminant="D65")  # the white point of the formulas that viewers share
        expected = np.frombuffer(bytes.fromhex(label.colour[1:]), np.uint8)
        assert np.abs(255 * rgb - expected).max() < 1


def test_segments_are_numbered_without_gaps_where_muscles_are_absent(tmp_path):
    labels = random_labels((4, 20, 20), values=(2, 5, 8))
    path = export_of(tmp_path, labels)
    data = pydicom.dcmread(path)
    named = [(item.SegmentNumber, item.SegmentLabel) for item in data.SegmentSequence]
    assert named == [(1, "psoas major right"), (2, "erector spinae left"), (3, "multifidus right")]
    assert np.array_equal(label_map(data, AFFINES["axial"], labels.shape), labels)
    (row,) = pq.read_table(tmp_path / "dicomseg.parquet").to_pylist()
    expected = {"subject": "S1", "stack": 1, "segments": 3, "frames": 9, "image_error": 0.0}
    assert row == expected


def test_a_stack_without_labels_has_no_segmentation_and_the_others_have(tmp_path):
    home = tmp_path / "S1"
    labels = [random_labels((4, 20, 20), seed) for seed in (1, 2, 3)]
    labels[1][:] = 0
    for number, one in enumerate(labels, start=1):
        affine = affine_of(0.6, 0.7, 4.0, turned(5 * number), first=(80, 90, 100.0 * number))
        put_stack(home, number, one, affine)
    rows = export(tmp_path, "S1")
    assert [(row["stack"], row["segments"], row["frames"]) for row in rows] == [
        (1, 8, 24),
        (2, 0, 0),
        (3, 8, 24),
    ]
    files = {str(p.relative_to(home / "dicomseg")) for p in (home / "dicomseg").glob("*.dcm")}
    assert files == {"stack-01.dcm", "stack-03.dcm"}
    assert not (home / "dicomseg/image/stack-02").exists()
    first, third = (pydicom.dcmread(home / f"dicomseg/stack-0{n}.dcm") for n in (1, 3))
    assert first.StudyInstanceUID == third.StudyInstanceUID
    assert first.FrameOfReferenceUID == third.FrameOfReferenceUID
    assert first.SeriesInstanceUID != third.SeriesInstanceUID
    affine = read_volume(SubjectFolder(home).stack_file("labels", 3)).affine
    assert np.array_equal(label_map(third, affine, labels[2].shape), labels[2])


def test_labels_of_the_network_name_its_model_and_those_of_the_sheet_do_not(tmp_path):
    labels = random_labels((3, 20, 20))
    put_stack(tmp_path / "S1", 1, labels, AFFINES["axial"])
    put_stack(tmp_path / "S1", 2, labels, AFFINES["oblique"], given=True)
    export(tmp_path, "S1")
    ours, given = (
        pydicom.dcmread(tmp_path / f"S1/dicomseg/stack-0{n}.dcm").SegmentSequence[0] for n in (1, 2)
    )
    assert ours.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = ours.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmVersion == __version__
    assert algorithm.AlgorithmParameters == f"model_sha256={MODEL}"
    assert given.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert given.SegmentAlgorithmName == "label map corrected by hand or of the subject sheet"
    assert "SegmentationAlgorithmIdentificationSequence" not in given


def test_values_that_are_not_whole_are_off_by_half_a_step_at_most(tmp_path):
    labels = random_labels((4, 20, 20))
    image = np.random.default_rng(3).normal(40, 9, labels.shape).astype(np.float32)
    export_of(tmp_path, labels, image=image)
    (stack,) = read_dicom(tmp_path / "S1/dicomseg/image").stacks
    span = float(image.max()) - float(image.min())
    (row,) = pq.read_table(tmp_path / "dicomseg.parquet").to_pylist()
    error = np.abs(stack.volume.array.astype(float) - image).max()
    rounding = np.spacing(np.float32(image.max()))  # the converter keeps float32
    assert 0 < row["image_error"] <= 1.001 * span / 65535 / 2
    assert error <= row["image_error"] + rounding


def test_whole_numbers_too_large_for_int16_and_constants_are_kept():
    large = np.array([[[0, 40000], [65535, 7]]], np.float32)
    for values in (large, large + 100000, large - 65535, np.full((2, 3, 4), 0.5, np.float32)):
        content = stored_pixels(values)
        assert content.error == 0
        assert np.array_equal(content.pixels * content.slope + content.intercept, values)


def data_elements(path):
    with pydicom.dcmread(path) as data:
        yield from data.file_meta
        yield from data.iterall()


def files_of(home):
    return sorted((home / "dicomseg").rglob("*.dcm"))


def test_two_runs_give_the_same_bytes(tmp_path):
    for run in ("first", "second"):
        put_stack(tmp_path / run / "S1", 1, random_labels((4, 20, 20)), AFFINES["oblique"])
        export(tmp_path / run, "S1")
    first, second = (files_of(tmp_path / run / "S1") for run in ("first", "second"))
    assert len(first) == 5
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def own_uids(home):
    values = {str(e.value) for path in files_of(home) for e in data_elements(path) if e.VR == "UI"}
    known = {pydicom.uid.MRImageStorage, pydicom.uid.SegmentationStorage}
    known |= {pydicom.uid.ExplicitVRLittleEndian, highdicom_implementation()}
    return values - {str(uid) for uid in known} - {str(pydicom.uid.PYDICOM_IMPLEMENTATION_UID)}


def highdicom_implementation():
    return "1.2.826.0.1.3680043.9.7433.1.1"


def test_uids_follow_from_image_subject_and_stack(tmp_path):
    labels = random_labels((4, 20, 20))
    other_labels = random_labels((4, 20, 20), seed=9)
    image, other_image = random_image(labels.shape, 5), random_image(labels.shape, 6)
    made = {
        "as it is": ("S1", labels, image),
        "other subject": ("S2", labels, image),
        "other image": ("S1", labels, other_image),
        "other labels": ("S1", other_labels, image),
    }
    uids = {}
    for name, (subject, drawn, shown) in made.items():
        put_stack(tmp_path / name / subject, 1, drawn, AFFINES["axial"], image=shown)
        export(tmp_path / name, subject)
        uids[name] = own_uids(tmp_path / name / subject)
    assert all(
        re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for found in uids.values() for uid in found
    )
    assert not uids["as it is"] & uids["other subject"]
    assert not uids["as it is"] & uids["other image"]
    shared = uids["as it is"] & uids["other labels"]
    assert len(shared) == 3 + 4  # study, frame of reference, series of images; images
    new = pydicom.dcmread(tmp_path / "other labels/S1/dicomseg/stack-01.dcm")
    assert {new.SOPInstanceUID, new.SeriesInstanceUID}.isdisjoint(uids["as it is"])


def test_nothing_tells_a_date_or_a_time(tmp_path):
    export_of(tmp_path, random_labels((3, 20, 20)))
    told = {
        (element.keyword, str(element.value))
        for path in files_of(tmp_path / "S1")
        for element in data_elements(path)
        if element.VR in ("DA", "TM", "DT") and element.value
    }
    assert told == {("ContentDate", "19700101"), ("ContentTime", "000000")}


def test_nothing_of_the_input_but_voxels_and_place_is_passed_on(tmp_path):
    labels = random_labels((4, 20, 20))
    volume = Volume(random_image(labels.shape), AFFINES["oblique"])
    name = stack_names("S9", {1: "0" * 64})[1]
    scanner = tmp_path / "scanner"
    scanner.mkdir()
    for index, image in enumerate(mr_images(volume, stored_pixels(volume.array), [4.0] * 4, name)):
        image.PatientName, image.PatientID = "Planted^Person", "PLANTED1"
        image.PatientBirthDate, image.StudyDate = "19430217", "20190523"
        image.InstitutionName = image.StationName = image.ProtocolName = "Planted Place"
        image.StudyDescription = image.SeriesDescription = image.AccessionNumber = "Planted Text"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.840.777.1", "1.2.840.777.2"
        image.FrameOfReferenceUID, image.SOPInstanceUID = "1.2.840.777.3", f"1.2.840.777.4.{index}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(scanner / f"{index}.dcm", enforce_file_format=True)
    home = tmp_path / "results/S1"
    home.mkdir(parents=True)
    row = {"S1": {"subject": "S1", "images": str(scanner)}}
    convert_subject(row, shards.Task("S1", {}), home)
    stack = read_volume(SubjectFolder(home).stack_file("image", 1))
    write_volume(SubjectFolder(home).stack_file("labels", 1), stack.with_array(labels))
    export(tmp_path / "results", "S1")
    assert len(files_of(home)) == 5
    for path in files_of(home):
        content = path.read_bytes()
        for planted in (b"lanted", b"LANTED", b"1943", b"20190523", b"840.777", b"scanner"):
            assert planted not in content
        data = pydicom.dcmread(path)
        assert (data.PatientID, str(data.PatientName)) == ("S1", "S1^")


def test_quarantined_subjects_are_passed_on_and_held_ones_taken_as_they_are(tmp_path, caplog):
    for subject in ("S1", "S2"):
        put_stack(tmp_path / subject, 1, random_labels((3, 20, 20)), AFFINES["axial"])
    rows = export(tmp_path, "S1", "S2", quarantined=("S3",), workers=2)
    assert [row["subject"] for row in rows] == ["S1", "S2"]
    outcomes = shard_tables.read_outcomes(tmp_path / "dicomseg.parquet")
    assert [outcome.reason for outcome in outcomes] == [None, None, "blank-images"]
    shutil.rmtree(tmp_path / "S2/dicomseg")
    before = (tmp_path / "S1/dicomseg/stack-01.dcm").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        assert export(tmp_path, "S1", "S2", quarantined=("S3",)) == rows
    assert "dicomseg: 1 computed, 1 held" in caplog.text
    assert (tmp_path / "S1/dicomseg/stack-01.dcm").stat().st_mtime_ns == before
    export(tmp_path, "S1", "S2", quarantined=("S3",), model="cd" * 32)
    data = pydicom.dcmread(tmp_path / "S1/dicomseg/stack-01.dcm")
    algorithm = data.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmParameters == f"model_sha256={'cd' * 32}"


def test_without_highdicom_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    segment = segment_table(tmp_path, ())
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match="highdicom: not installed.*pip install highdicom"):
        dicomseg(segment, tmp_path, tmp_path / "dicomseg.parquet", MODEL)


def test_codes_of_the_standard_mean_what_they_are_used_for():
    """pydicom's copy of the context groups of PS3.16; two muscles stand in none of them."""
    from pydicom.sr.codedict import codes

    for code, keyword in (
        ("91723000", "AnatomicalStructure"),
        ("44947003", "ErectorSpinaeMuscle"),
        ("127954009", "SkeletalMuscle"),
        ("7771000", "Left"),
        ("24028007", "Right"),
    ):
        assert getattr(codes.SCT, keyword).value == code
    assert codes.SCT.IntercostalLymphNode.value == "64038003"  # not psoas major
    assert label_value("psoas_major", "left") == 1


def test_two_visits_are_one_patient_with_two_studies(tmp_path):
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[:, 2:4, 2:4] = 1
    for scan in ("A_1", "A_2"):
        put_stack(tmp_path / scan, 1, labels, AFFINES["axial"])
    (tmp_path / "sheet.csv").write_text("subject,visit,images\nA,1,a\nA,2,b\n")
    segment = segment_table(tmp_path, ("A_1", "A_2"))
    dicomseg(segment, tmp_path, tmp_path / "out.parquet", MODEL, sheet=tmp_path / "sheet.csv")
    first, second = (
        pydicom.dcmread(tmp_path / scan / "dicomseg/stack-01.dcm") for scan in ("A_1", "A_2")
    )
    assert first.PatientID == second.PatientID == "A"
    assert first.StudyInstanceUID != second.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_scans_that_become_visits_of_one_subject_become_one_patient(tmp_path):
    for scan in ("A_1", "A_2"):
        put_stack(tmp_path / scan, 1, random_labels((3, 20, 20)), AFFINES["axial"])
    segment, sheet = segment_table(tmp_path, ("A_1", "A_2")), tmp_path / "sheet.csv"
    for text, patients in (
        ("subject,images\nA_1,a\nA_2,b\n", ["A_1", "A_2"]),
        ("subject,visit,images\nA,1,a\nA,2,b\n", ["A", "A"]),
    ):
        sheet.write_text(text)
        dicomseg(segment, tmp_path, tmp_path / "out.parquet", MODEL, sheet=sheet)
        files = [tmp_path / scan / "dicomseg/stack-01.dcm" for scan in ("A_1", "A_2")]
        assert [pydicom.dcmread(file).PatientID for file in files] == patients


def test_a_subject_with_the_longest_name_has_a_valid_patient_name():
    subject = "0123456789abcdef" * 4  # such as a SHA-256
    volume = Volume(random_image((2, 4, 5)), AFFINES["axial"])
    name = stack_names(subject, {1: "ab" * 32})[1]
    for image in mr_images(volume, stored_pixels(volume.array), [4.0, 4.0], name):
        assert image.PatientName.family_name == image.PatientID == subject
        assert len(str(image.PatientName)) <= 64
