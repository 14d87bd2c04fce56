"""Where a fat fraction can be had: by header and pixels, on phantoms and real images."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from measure_scene import scene
from test_measure_steps import put_subject

from fat_contrasts import CONTRASTS, contrast_slices
from paravert import shards, tables
from paravert.imaging.dicom import read_dicom
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.measure.fat import fat_fractions, measure_fat
from paravert.measure.fat_domain import NOT_SEEN, FatContrast, domain_of, fat_contrast
from paravert.shard_tables import read_outcomes
from paravert.subject_folder import SubjectFolder
from real_scans import DIXON, MASK, read_nifti

MM = (1.0, 1.0)
BRIGHT = ("T1", "T2", "PD", "dixon-fat", "in-phase")
DARK = ("STIR", "fat-suppressed", "dixon-water")
ORDINARY = FatContrast(12.0, 0.3)


def domain(header, contrast, skewness=0.3):
    return domain_of(header, FatContrast(contrast, skewness))


# --- header and pixels ----------------------------------------------------------------------------


@pytest.mark.parametrize("header", [*BRIGHT, "unknown"])
def test_bright_fat_has_a_fat_fraction(header):
    found = domain_of(header, ORDINARY)
    source = "pixels" if header == "unknown" else "header"
    assert (found.sequence, found.source, found.reason, found.differs) == (
        header, source, None, False,
    )  # fmt: skip


@pytest.mark.parametrize("header", [*DARK, "opposed-phase"])
def test_a_header_of_dark_fat_has_none(header):
    for seen in (FatContrast(-2.0, -0.3), FatContrast(2.0, 0.0), NOT_SEEN):
        found = domain_of(header, seen)
        assert (found.sequence, found.source, found.reason) == (header, "header", "fat-not-bright")
        assert not found.differs


@pytest.mark.parametrize("header", BRIGHT)
def test_pixels_of_dark_fat_decide_against_the_header(header):
    found = domain(header, -1.0)
    assert (found.sequence, found.source) == ("fat-suppressed", "pixels")
    assert (found.reason, found.differs) == ("fat-not-bright", True)


@pytest.mark.parametrize("header", DARK)
def test_pixels_of_bright_fat_decide_against_the_header(header):
    found = domain(header, 12.0)
    assert (found.sequence, found.source, found.reason) == ("unknown", "pixels", None)
    assert found.differs


def test_bright_fat_behind_the_muscles_does_not_speak_against_opposed_phase():
    found = domain_of("opposed-phase", ORDINARY)
    assert (found.sequence, found.reason, found.differs) == (
        "opposed-phase", "fat-not-bright", False,
    )  # fmt: skip


@pytest.mark.parametrize(("header", "reason"), [("unknown", "fat-not-bright"), ("T2", None)])
def test_muscle_darkened_by_fat_is_opposed_phase_unless_it_is_a_spin_echo(header, reason):
    assert domain(header, 12.0, skewness=-0.2).reason == reason


@pytest.mark.parametrize("header", ["T1", "unknown"])
def test_little_contrast_is_no_fat_fraction(header):
    assert domain(header, 2.9).reason == "low-contrast"
    assert domain(header, 3.0).reason is None
    assert domain(header, 0.9).reason == "fat-not-bright"


def test_without_fat_behind_the_muscles_the_header_decides():
    assert domain_of("T2", NOT_SEEN).reason is None
    found = domain_of("unknown", NOT_SEEN)
    assert (found.source, found.reason) == (None, "no-fat-reference")


# --- pixels ---------------------------------------------------------------------------------------


def test_contrast_is_counted_in_sd_of_muscle():
    subject = scene(noise=20, shares=(0.0,) * 8)
    seen = fat_contrast(subject.image, subject.labels, MM)
    assert seen.contrast == pytest.approx((700 - 150) / 20, rel=0.1)
    scaled = fat_contrast(3 * subject.image - 500, subject.labels, MM)
    assert scaled.contrast == pytest.approx(seen.contrast, rel=1e-4)


def test_fat_in_most_of_a_muscle_does_not_take_its_contrast():
    lean, fatty = (scene(noise=20, shares=(share,) * 8) for share in (0.0, 0.5))
    expected, found = (fat_contrast(one.image, one.labels, MM).contrast for one in (lean, fatty))
    assert found > 0.7 * expected


def test_without_noise_contrast_is_finite():
    subject = scene(noise=0, shares=(0.0,) * 8)
    assert fat_contrast(subject.image, subject.labels, MM).contrast == pytest.approx(1000)


def test_cut_off_or_masked_images_and_images_without_muscle_tell_nothing():
    subject = scene()
    to_the_edge = np.zeros_like(subject.labels)
    to_the_edge[:, 60:, 40:160] = 5
    masked = np.where(subject.labels > 0, np.abs(subject.image), 0)
    for image, labels in (
        (subject.image, to_the_edge),
        (masked, subject.labels),
        (subject.image, np.zeros_like(subject.labels)),
    ):
        assert np.isnan(fat_contrast(image, labels, MM).contrast)


@pytest.fixture(scope="module", params=[0, 11])
def phantoms(request):
    """Return the images of one volunteer by contrast; 0 is lean, 11 fatty."""
    names = [*CONTRASTS, "in-phase", "opposed-phase"]
    return {name: contrast_slices(name, request.param, 2) for name in names}


def reason_of(phantom, header="unknown"):
    image, labels, pixel_mm = phantom
    return domain_of(header, fat_contrast(image, labels, (pixel_mm,) * 2)).reason


@pytest.mark.parametrize("name", BRIGHT)
def test_phantoms_of_bright_fat_have_a_number(phantoms, name):
    image, labels, pixel_mm = phantoms[name]
    assert reason_of(phantoms[name]) is None
    assert reason_of(phantoms[name], header=name) is None
    columns = fat_fractions([image], [labels], [(pixel_mm,) * 2], [None])
    shown = columns["reason_otsu_subject"] != "absent"
    for method in ("otsu_subject", "otsu_muscle", "otsu_muscle_slice", "linear"):
        assert np.isfinite(columns[f"fat_fraction_{method}"][shown]).all()
    if name in ("T2", "dixon-fat"):
        assert np.isfinite(columns["fat_fraction_otsu_image"][shown]).all()


def test_a_threshold_over_the_image_that_separates_tissue_from_air_is_refused(phantoms):
    image, labels, pixel_mm = phantoms["PD"]
    columns = fat_fractions([image], [labels], [(pixel_mm,) * 2])
    shown = columns["reason_otsu_subject"] != "absent"
    assert set(columns["reason_otsu_image"][shown]) == {"low-contrast"}
    assert np.isnan(columns["fat_fraction_otsu_image"]).all()
    assert np.isnan(columns["eroded_otsu_image"]).all()
    assert np.isnan(columns["separability_otsu_image"]).all()


@pytest.mark.parametrize("name", DARK)
def test_phantoms_of_dark_fat_have_none_with_and_without_header(phantoms, name):
    for header in ("unknown", name, "T2"):
        assert reason_of(phantoms[name], header) == "fat-not-bright"


def test_phantoms_in_opposed_phase_have_none_by_their_header(phantoms):
    assert reason_of(phantoms["opposed-phase"], "opposed-phase") == "fat-not-bright"


def test_noise_that_hides_the_contrast_leaves_no_number(phantoms):
    image, labels, pixel_mm = phantoms["T1"]
    noise = np.random.default_rng(0).normal(0, 250, image.shape)
    assert reason_of((image + noise, labels, pixel_mm)) in ("low-contrast", "fat-not-bright")


@pytest.mark.real
def test_real_water_image_and_opposed_phase_have_none_and_the_others_a_number(real_data):
    water, fat = (read_nifti(real_data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(real_data / MASK.format("water")).array
    labels = np.choose(mask, [0, 6, 8, 7, 5]).astype(np.uint8)
    w, f, labels = water.array[::4].astype(float), fat.array[::4].astype(float), labels[::4]

    def reason(image, header="unknown"):
        return domain_of(header, fat_contrast(image, labels, water.pixel_spacing_mm)).reason

    for header in ("unknown", "T2", "dixon-water"):
        assert reason(w, header) == "fat-not-bright"
    assert reason(np.abs(w - f)) == "fat-not-bright"
    for image in (f, w + f, 0.2 * w + f, 0.8 * w + f):
        assert reason(image) is None


@pytest.mark.real
@pytest.mark.parametrize(
    ("series", "expected"), [("lumbar_study_cc0/T1_AX", "T1"), ("lumbar_study_cc0_15t/T2_AX", "T2")]
)
def test_headers_of_the_real_studies_name_their_sequence(real_data, series, expected):
    assert read_dicom(real_data / series).header["header_sequence"] == expected


# --- in the tables --------------------------------------------------------------------------------


def test_stacks_outside_have_their_reason_and_leave_the_others_alone():
    one, two = scene(seed=1, slices=2), scene(seed=2, slices=3)
    images, labels = [one.image, two.image], [one.labels, two.labels.copy()]
    labels[1][0][labels[1][0] == 3] = 0
    alone = fat_fractions(images[:1], labels[:1], [MM])
    columns = fat_fractions(images, labels, [MM, MM], [None, "low-contrast"])
    for method in tables.FAT_METHODS:
        value, reason = columns[f"fat_fraction_{method}"], columns[f"reason_{method}"]
        np.testing.assert_array_equal(value[:2], alone[f"fat_fraction_{method}"])
        assert np.isnan(value[2:]).all()
        assert np.isnan(columns[f"eroded_{method}"][2:]).all()
        assert reason[2, 2] == "absent"
        assert (np.delete(reason[2:].ravel(), 2) == "low-contrast").all()
        assert reason[0, 0] is None
    assert np.isnan(columns["separability_otsu_subject"][2:]).all()


def test_the_step_writes_sequence_reason_and_warning(tmp_path):
    home = tmp_path / "S1"
    segment = tmp_path / "segment.parquet"
    shards.work_through(
        "segment_muscles",
        [shards.Task("S1", {})],
        lambda task, scratch: shards.Product([{"labels_source": "sheet"}]),
        folder=tmp_path,
        out=segment,
    )
    put_subject(home, (3, 2), with_truth=False)
    geometry = pq.read_table(home / "slices.parquet").to_pylist()
    for row in geometry:  # the second stack says STIR, and its pixels do not
        row["header_sequence"] = "T1" if row["stack"] == 1 else "STIR"
    table = tables.from_rows(tables.GEOMETRY, geometry)
    tables.write(home / "slices.parquet", tables.GEOMETRY, table, {})
    _darken(home)
    measure_fat(segment, tmp_path, tmp_path / "fat.parquet")
    rows = pq.read_table(tmp_path / "fat.parquet").to_pylist()
    first, second = ([row for row in rows if row["stack"] == number] for number in (1, 2))
    assert {(row["sequence"], row["sequence_source"]) for row in first} == {
        ("fat-suppressed", "pixels")
    }
    for method in tables.FAT_METHODS:
        assert {row[f"reason_{method}"] for row in first} == {"fat-not-bright"}
        assert {row[f"fat_fraction_{method}"] for row in first} == {None}
        assert {row[f"eroded_{method}"] for row in first} == {None}
        assert {row[f"reason_{method}"] for row in second} == {None}
    assert {row["sequence"] for row in second} == {"unknown"}
    assert first[0]["fat_contrast"] < 0 < second[0]["fat_contrast"]
    outcome = outcome_of_s1(tmp_path / "fat.parquet")
    assert outcome.warnings == ("fat-not-bright", "sequence-differs-from-header")
    one, two = outcome.message.split(", stack 2: ")
    assert one.startswith(
        "stack 1: sequence T1 by the header, fat-suppressed by the pixels; fat minus"
    )
    assert two.startswith(
        "sequence STIR by the header, unknown by the pixels; fat minus muscle is "
    )


def outcome_of_s1(path):
    return next(outcome for outcome in read_outcomes(path) if outcome.subject == "S1")


def _darken(home):
    """Turn bright and dark round in the first stack, air left out."""
    path = SubjectFolder(home).stack_file("image", 1)
    volume = read_volume(path)
    array = np.where(volume.array > 80, 900 - volume.array, volume.array).astype(np.int16)
    write_volume(path, Volume(array, volume.affine))
