"""Dixon acquisitions as scanners write them: one study, fat converted, water beside it."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_writer import (
    Plan,
    labels_phantom,
    of_macos,
    phantom,
    store,
    write_enhanced,
    write_nifti,
    write_series,
)
from imaging_cases.case import PLAN, each, pixels, values
from imaging_cases.plausible import mapping
from imaging_checks import assert_is_phantom, convert_one
from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.convert import convert_subject, read_images
from paravert.imaging.nifti import read_nifti
from paravert.imaging.sequence import name_without_part
from paravert.imaging.volume import read_volume
from paravert.plan import conversion_inputs
from paravert.shards import Task

WATER, FAT, IN, OUT = PARTS = ("water", "fat", "in", "out")
SHOWN = {WATER: 2, FAT: 1, IN: 3, OUT: 5, "other": 7}  # the phantom's signal is divided by this
SCOUT = Plan(slices=1, right=(0, 1, 0), down=(0, 0, -1))
DERIVED, ORIGINAL = ("DERIVED", "PRIMARY"), ("ORIGINAL", "PRIMARY")


def part(home, name, description, image_type, shown, plan=PLAN, **changed):
    """Write the images of a part; name: of its series and folder."""
    edit = each(
        pixels(lambda signal, _: signal // SHOWN[shown], plan),
        values(SeriesDescription=description, ImageType=[*image_type], **changed),
    )
    return write_series(home, plan, name, edit=edit)


def series_per_part(described):
    """Return what writes a series for each part; described: part, description, ImageType."""

    def write(home):
        for number, (shown, description, image_type) in enumerate(described):
            part(home, f"series-{number}", description, image_type, shown)

    return write


def philips(home, *, echoes=False, maps=True):
    marks = {WATER: "W", FAT: "F", IN: "IP", OUT: "OP"} | ({"other": "FF"} if maps else {})
    for shown, mark in marks.items():
        folder = home / mark
        part(folder, "one", "mDIXON-All_BH", (*DERIVED, mark, mark, "DERIVED"), shown)
    for number, echo in enumerate((1.2, 2.4) if echoes else ()):
        kind = (*ORIGINAL, "M_FFE", "M", "FFE")
        part(home / f"echo-{number}", "one", "mDIXON-All_BH", kind, "other", EchoTime=echo)


def philips_multi_frame(home):
    """One file; FrameType (0008,9007) of each frame names its part."""
    plans = [PLAN] * len(PARTS)
    words = dict(zip(PARTS, ("WATER", "FAT", "IN_PHASE", "OUT_OF_PHASE"), strict=True))

    def edit(data):
        frames = np.frombuffer(data.PixelData, "<u2").reshape(-1, data.Rows, data.Columns)
        seen, shown = {}, []
        groups = data.PerFrameFunctionalGroupsSequence
        for frame, group in zip(frames, groups, strict=True):
            place = tuple(group.PlanePositionSequence[0].ImagePositionPatient)
            own = PARTS[seen.setdefault(place, 0)]
            seen[place] += 1
            group.MRImageFrameTypeSequence = [Dataset()]
            group.MRImageFrameTypeSequence[0].FrameType = [*DERIVED, "DIXON", words[own]]
            shown.append(frame.astype(int) // SHOWN[own])
        store(data, np.stack(shown))

    write_enhanced(home / "enhanced", plans, edit=edit)


def siemens(
    parts=("WATER", "FAT", "IN_PHASE", "OPP_PHASE"), before=("DIXON",), name="t1_vibe_dixon_tra"
):
    ends = ("W", "F", "in", "opp")
    return series_per_part(
        [
            (shown, f"{name}_{end}", (*ORIGINAL, *before, mark, "NORM"))
            for shown, end, mark in zip(PARTS, ends, parts, strict=True)
        ]
    )


def ge(maps):
    fronts = ("WATER: ", "FAT: ", "InPhase: ", "OutPhase: ")
    described = [
        (shown, f"{front}Ax LAVA-Flex", (*DERIVED, "DIXON", mark))
        for shown, front, mark in zip(
            PARTS, fronts, ("WATER", "FAT", "IN_PHASE", "OUT_PHASE"), strict=True
        )
    ]
    described += [
        ("other", "FatFrac: Ax IDEAL IQ", (*DERIVED, "DIXON", "FAT_FRACTION")),
        ("other", "R2*: Ax IDEAL IQ", (*DERIVED, "OTHER")),
    ] * maps
    return series_per_part(described)


MAKERS = {
    "Siemens": siemens(),
    "Siemens, UK Biobank": siemens(name="Dixon_BH_17s"),
    "Siemens, several echoes": siemens(before=("M", "ND", "DIXON")),
    "Siemens, letters": siemens(("W", "F", "IN", "OPP"), before=()),
    "Siemens, by the description": siemens(("DIS2D",) * 4, before=("M", "ND")),
    "Siemens, map first": series_per_part(
        [
            ("other", "t1_vibe_dixon_tra_FF", (*DERIVED, "DIXON", "FAT_FRACTION")),
            (WATER, "t1_vibe_dixon_tra_W", (*ORIGINAL, "DIXON", "WATER")),
            (FAT, "t1_vibe_dixon_tra_F", (*ORIGINAL, "DIXON", "FAT")),
        ]
    ),
    "GE": ge(maps=False),
    "GE, with maps": ge(maps=True),
    "GE, by the description": series_per_part(
        [
            (WATER, "WATER: Ax IDEAL T2", (*DERIVED, "OTHER")),
            (FAT, "FAT: Ax IDEAL T2", (*DERIVED, "OTHER")),
        ]
    ),
    "Philips": philips,
    "Philips, with echoes": lambda home: philips(home, echoes=True),
    "Philips, multi-frame": philips_multi_frame,
    "Canon": series_per_part(
        [
            (shown, f"FFE3D WFS Ax ({word})", (*DERIVED, "M"))
            for shown, word in zip(PARTS, ("WATER", "FAT", "IN", "OUT"), strict=True)
        ]
    ),
    "water and fat alone": series_per_part(
        [(WATER, "dixon_W", (*ORIGINAL, "DIXON", "WATER")), (FAT, "dixon_F", (*ORIGINAL, "DIXON", "FAT"))]
    ),
}  # fmt: skip


def of_water(points):
    return phantom(points) // SHOWN[WATER]


@pytest.mark.parametrize("maker", MAKERS)
def test_parts_as_a_maker_names_them_are_one_study(tmp_path, maker):
    MAKERS[maker](tmp_path)
    images = read_images(str(tmp_path))
    (stack,) = images.stacks
    assert_is_phantom(stack)
    assert stack.fat is None  # the stack itself shows it
    assert_is_phantom(replace(stack, volume=stack.volume.with_array(stack.water)), of_water)
    assert images.header["header_sequence"] == "dixon-fat"
    assert not images.cautions - {Caution.SPACING_TAG_MISMATCH}


def test_the_step_keeps_water_beside_the_stack(tmp_path):
    siemens()(tmp_path / "images")
    converted = convert_one(tmp_path, "images")
    image, water = (read_volume(converted.files(kind)[1]) for kind in ("image", "water"))
    assert np.array_equal(water.array, image.array // SHOWN[WATER])
    assert np.array_equal(water.affine, image.affine)
    assert not converted.files("fat")


def test_stacks_at_the_discs_have_water_each(tmp_path):
    discs = [Plan(slices=3, centre=(0, 0, -60)), Plan(slices=4, centre=(0, 0, 30))]
    for shown, mark in ((WATER, "WATER"), (FAT, "FAT")):
        for number, plan in enumerate(discs):
            folder = tmp_path / f"{shown}-{number}"
            part(folder, shown, f"dixon_{shown[0]}", (*ORIGINAL, "DIXON", mark), shown, plan)
    stacks = read_images(str(tmp_path)).stacks
    assert [len(stack.water) for stack in stacks] == [3, 4]
    for stack in stacks:
        assert np.array_equal(stack.water, stack.volume.array // SHOWN[WATER])


def fault_of(folder, patterns=()):
    with pytest.raises(SubjectFault) as fault:
        read_images(str(folder), patterns)
    return fault.value


def test_an_acquisition_counts_as_one_series_beside_another(tmp_path):
    siemens()(tmp_path)
    write_series(tmp_path, PLAN, "t2_tse_tra")
    assert fault_of(tmp_path).reason == Reason.AMBIGUOUS_SERIES
    assert "2 axial series" in fault_of(tmp_path).message
    assert read_images(str(tmp_path), ["dixon"]).stacks[0].water is not None
    assert read_images(str(tmp_path), ["_W$"]).stacks[0].water is not None
    assert read_images(str(tmp_path), ["t2_tse"]).stacks[0].water is None


def test_two_acquisitions_are_told_apart_by_their_names(tmp_path):
    siemens(name="t1_dixon_pre")(tmp_path / "pre")
    for shown, mark, end in ((WATER, "WATER", "W"), (FAT, "FAT", "F")):
        kind = (*ORIGINAL, "DIXON", mark)
        part(tmp_path / "post", f"post-{shown}", f"t1_dixon_post_{end}", kind, shown)
    assert "2 axial series" in fault_of(tmp_path).message
    assert read_images(str(tmp_path), ["post"]).stacks[0].water is not None


def test_an_acquisition_that_was_repeated_is_ambiguous(tmp_path):
    siemens()(tmp_path / "first")
    for shown, mark, end in ((WATER, "WATER", "W"), (FAT, "FAT", "F")):
        kind = (*ORIGINAL, "DIXON", mark, "NORM")
        name = f"t1_vibe_dixon_tra_{end}"
        part(tmp_path / "second", f"again-{shown}", name, kind, "other")
    assert fault_of(tmp_path).reason == Reason.DUPLICATE_POSITIONS_CONFLICT


@pytest.mark.parametrize("lacking", [0, 2, 4])
def test_water_without_one_of_its_slices_is_no_pair(tmp_path, lacking):
    siemens()(tmp_path)
    files = sorted((tmp_path / "series-0").iterdir())
    files[lacking].unlink()
    fault = fault_of(tmp_path)
    assert fault.reason == Reason.DIXON_PARTS_DIFFER
    assert "fat has 5 slices" in fault.message


@pytest.mark.parametrize(
    ("descriptions", "name"),
    [
        (("WATER: Ax LAVA-Flex", "FAT: Ax LAVA-Flex", "OutPhase: Ax LAVA-Flex"), "ax lava flex"),
        (("t1_vibe_dixon_tra_W", "t1_vibe_dixon_tra_opp", "t1_vibe_dixon_tra_FF"), "t1 vibe dixon tra"),
        (("Dixon_BH_17s_in", "Dixon_BH_17s_F"), "dixon bh 17s"),
    ],
)  # fmt: skip
def test_the_name_of_an_acquisition_is_that_of_its_parts_without_the_part(descriptions, name):
    assert {name_without_part(description) for description in descriptions} == {name}


@pytest.mark.parametrize(
    ("changed", "caution"),
    [
        (
            {"RealWorldValueMappingSequence": [mapping(4, 0)]},
            Caution.REAL_WORLD_VALUES_DIFFER,
        ),
        ({"FrameOfReferenceUID": "1.2.3"}, Caution.FRAME_OF_REFERENCE_DIFFERS),
    ],
)
def test_what_differs_between_water_and_fat_is_told(tmp_path, changed, caution):
    for shown, more in ((WATER, changed), (FAT, {})):
        kind = (*ORIGINAL, "DIXON", shown.upper())
        part(tmp_path, shown, f"dixon_{shown}", kind, shown, **more)
    assert read_images(str(tmp_path)).cautions == {caution}


# --- NIfTI ---------------------------------------------------------------------------------------


def nifti_pair(home, names=("water.nii.gz", "fat.nii.gz"), plans=(PLAN, PLAN)):
    for name, plan, function in zip(names, plans, (of_water, phantom), strict=True):
        write_nifti(home / name, plan, function)
    return home


@pytest.mark.parametrize(
    "names",
    [
        ("water.nii.gz", "fat.nii.gz"),
        ("TUM01_water_img_L2-L5.nii", "TUM01_fat_img_L2-L5.nii"),
        ("sub-01_dixon_W.nii.gz", "sub-01_dixon_F.nii.gz"),
    ],
)
def test_files_in_a_folder_are_paired_by_their_names(tmp_path, names):
    nifti_pair(tmp_path, names)
    write_nifti(tmp_path / "fat_label.nii.gz", PLAN)
    write_nifti(tmp_path / "in_phase.nii.gz", PLAN)
    write_nifti(tmp_path / "water_fat.nii.gz", PLAN)
    of_macos(tmp_path / names[1])
    (stack,) = read_images(str(tmp_path)).stacks
    assert_is_phantom(stack)
    assert np.array_equal(stack.water, stack.volume.array // SHOWN[WATER])


def test_columns_of_the_sheet_name_the_parts(tmp_path):
    nifti_pair(tmp_path)
    write_nifti(tmp_path / "t2.nii.gz", PLAN, lambda points: phantom(points) // 9)
    water, fat = (str(tmp_path / f"{name}.nii.gz") for name in ("water", "fat"))
    images = read_images(str(tmp_path / "t2.nii.gz"), (), water, fat)
    assert_is_phantom(images.stacks[0], lambda points: phantom(points) // 9)
    assert np.array_equal(
        images.stacks[0].fat, read_nifti(tmp_path / "fat.nii.gz").stacks[0].volume.array
    )
    assert images.note is None


def test_a_pair_whose_origins_differ_is_paired_by_voxels_and_told(tmp_path):
    nifti_pair(tmp_path, plans=(replace(PLAN, centre=(4, -3, 207)), PLAN))
    images = read_images(str(tmp_path))
    assert images.cautions == {Caution.DIXON_ORIGINS_DIFFER}
    assert images.note == "water is paired voxel by voxel, its origin lies 200 mm from the image's"


@pytest.mark.parametrize("column", ["water", "fat"])
def test_a_mask_on_the_grid_of_a_part_lies_on_the_stack(tmp_path, column):
    away = replace(PLAN, centre=(4, -3, 207))
    plans = {"images": PLAN, "water": PLAN, "fat": PLAN, column: away}
    row = {name: str(write_nifti(tmp_path / f"{name}.nii", plans[name])) for name in plans}
    row["truth"] = str(write_nifti(tmp_path / "truth.nii", away, labels_phantom, dtype=np.uint8))
    task = Task("S1", {})
    product = convert_subject({"S1": row}, task, tmp_path / "out")
    assert product.rows[0]["has_truth"]
    image, mask = (
        read_volume(tmp_path / f"out/{name}/stack-01.nii.gz") for name in ("image", "truth")
    )
    assert np.array_equal(mask.affine, image.affine)
    (stack,) = read_images(row["images"]).stacks
    drawn = replace(stack, volume=mask)  # the boxes are the same at all heights
    assert_is_phantom(drawn, labels_phantom)
    elsewhere = replace(PLAN, centre=(4, -3, 107))
    write_nifti(tmp_path / "truth.nii", elsewhere, labels_phantom, dtype=np.uint8)
    with pytest.raises(SubjectFault, match="matches 0 stacks"):
        convert_subject({"S1": row}, task, tmp_path / "again")


def test_a_blank_slice_of_a_part_is_told(tmp_path):
    top = PLAN.corner(4)[2]

    def blank_at_the_top(points):
        return np.where(np.abs(points[..., 2] - top) < 1, 7, of_water(points))

    for name, function in (("water", blank_at_the_top), ("fat", phantom), ("t2", phantom)):
        write_nifti(tmp_path / f"{name}.nii", PLAN, function)
    water, fat, t2 = (str(tmp_path / f"{name}.nii") for name in ("water", "fat", "t2"))
    for images in (
        read_images(t2, (), water, fat),
        read_images(t2, (), fat, water),
        read_images(str(tmp_path)),
    ):
        assert images.cautions == {Caution.BLANK_SLICE}
        assert images.note.endswith(": blank-slice in slice 4 of stack 1")
        assert not any(slice_.cautions for slice_ in images.stacks[0].slices)
    told = read_images(water, (), fat, water)  # the images themselves have that slice
    assert (told.cautions, told.note) == ({Caution.BLANK_SLICE}, None)


def test_a_blank_slice_of_a_dicom_part_is_told(tmp_path):
    siemens()(tmp_path)
    files = {file: dcmread(file) for file in tmp_path.rglob("*") if file.is_file()}
    water = {file: data for file, data in files.items() if "WATER" in data.ImageType}
    file = max(water, key=lambda file: water[file].ImagePositionPatient[2])
    store(water[file], np.full((PLAN.rows, PLAN.columns), 7))
    water[file].save_as(file)
    images = read_images(str(tmp_path))
    assert Caution.BLANK_SLICE in images.cautions
    assert images.note == "water: blank-slice in slice 4 of stack 1"


def test_a_fault_of_a_part_is_told_with_its_column(tmp_path):
    nifti_pair(tmp_path, plans=(replace(PLAN, gap=0.01), PLAN))
    with pytest.raises(SubjectFault, match="water: slices 0.01 mm apart"):
        read_images(str(tmp_path))


@pytest.mark.parametrize(
    "other",
    [
        Plan(slices=6),
        Plan(row_spacing=3.0),
        Plan(gap=5.0),
        Plan(rows=41),
    ],
)
def test_a_pair_on_different_grids_is_no_pair(tmp_path, other):
    nifti_pair(tmp_path, plans=(other, PLAN))
    assert fault_of(tmp_path).reason == Reason.DIXON_PARTS_DIFFER


def test_one_part_alone_and_several_of_one_name_are_faults(tmp_path):
    nifti_pair(tmp_path)
    with pytest.raises(SubjectFault, match="water is given and fat is not"):
        read_images(str(tmp_path / "fat.nii.gz"), (), str(tmp_path / "water.nii.gz"), "")
    with pytest.raises(SubjectFault, match="fat: no such file"):
        read_images(
            str(tmp_path / "fat.nii.gz"),
            (),
            str(tmp_path / "water.nii.gz"),
            str(tmp_path / "x.nii"),
        )
    write_nifti(tmp_path / "second_fat.nii", PLAN)
    assert fault_of(tmp_path).reason == Reason.AMBIGUOUS_SERIES
    (tmp_path / "water.nii.gz").unlink()
    assert fault_of(tmp_path).reason == Reason.NO_DICOM


@pytest.mark.parametrize("column", ["water", "fat"])
def test_a_changed_dixon_image_changes_what_a_conversion_depends_on(tmp_path, column):
    file = tmp_path / "part.nii"
    file.write_bytes(b"one")
    row = {"images": "", column: str(file)}
    before = conversion_inputs(row, [])
    file.write_bytes(b"another")
    assert conversion_inputs(row, []) != before


def test_steep_slices_of_any_part_of_an_acquisition_are_told(tmp_path):
    part(tmp_path, "a", "t1_dixon_FAT", (*ORIGINAL, "DIXON", "FAT"), FAT)
    part(tmp_path, "b", "t1_dixon_WATER", (*ORIGINAL, "DIXON", "WATER"), WATER)
    edit = values(SeriesDescription="t1_dixon_WATER", ImageType=[*ORIGINAL, "DIXON", "WATER"])
    write_series(tmp_path / "scout", SCOUT, "b", edit=edit)
    images = read_images(str(tmp_path))
    assert images.stacks[0].water is not None
    assert Caution.OFF_AXIS_SLICES_EXCLUDED in images.cautions
    assert images.note.startswith("1 slice tilted by 90.0 degrees was set aside")


# --- one image twice -----------------------------------------------------------------------------


@pytest.mark.parametrize("maker", ["Siemens", "Philips, multi-frame"])
def test_dicom_water_and_fat_of_one_image_are_no_pair(tmp_path, maker, monkeypatch):
    monkeypatch.setitem(SHOWN, WATER, SHOWN[FAT])
    MAKERS[maker](tmp_path)
    fault = fault_of(tmp_path)
    assert fault.reason == Reason.DIXON_PARTS_DIFFER
    assert "water and fat hold the same voxels" in fault.message


def test_nifti_water_and_fat_of_one_image_are_no_pair(tmp_path):
    nifti_pair(tmp_path)
    write_nifti(tmp_path / "t2.nii.gz", PLAN, lambda points: phantom(points) // 9)
    water, fat, t2 = (str(tmp_path / f"{name}.nii.gz") for name in ("water", "fat", "t2"))
    with pytest.raises(SubjectFault, match="water and fat hold the same voxels"):
        read_images(t2, (), water, water)
    assert read_images(water, (), water, fat).stacks[0].fat is not None
    write_nifti(tmp_path / "water.nii.gz", PLAN, phantom)
    assert "hold the same voxels" in fault_of(tmp_path).message


def test_blank_water_and_fat_are_blank_images(tmp_path):
    for name in ("water.nii", "fat.nii"):
        write_nifti(tmp_path / name, PLAN, lambda points: np.zeros(points.shape[:-1]))
    assert fault_of(tmp_path).reason == Reason.BLANK_IMAGES


@pytest.mark.parametrize("most", [1.0, 100.0])
def test_a_map_of_fat_fractions_is_no_fat_image(tmp_path, most):
    write_nifti(tmp_path / "water.nii.gz", PLAN, phantom, dtype=np.float32)
    write_nifti(tmp_path / "map.nii.gz", PLAN, lambda p: most / 4095 * phantom(p), dtype=np.float32)
    water, fat = (str(tmp_path / f"{name}.nii.gz") for name in ("water", "map"))
    with pytest.raises(SubjectFault, match="expected two images of one scale and no map") as caught:
        read_images(fat, (), water, fat)
    assert caught.value.reason == Reason.DIXON_PARTS_DIFFER
    (tmp_path / "map.nii.gz").rename(tmp_path / "fat_percent.nii.gz")
    assert fault_of(tmp_path).reason == Reason.NO_DICOM
