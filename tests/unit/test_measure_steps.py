import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from measure_scene import scene

from paravert import shard_tables, shards, tables
from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging.volume import Volume, read_volume, write_volume
from paravert.measure.area import measure_area
from paravert.measure.fat import measure_fat
from paravert.measure.preview import draw_preview
from paravert.measure.score_overlap import score_overlap
from paravert.subject_folder import SubjectFolder

ROW_MM, COLUMN_MM, SLICE_MM, TILT_DEG = 1.25, 0.75, 4.0, 12.0
STACKS = {"S1": (3, 2), "S2": (2,), "S3": ()}
STEPS = (measure_area, measure_fat, score_overlap, draw_preview)


def put_subject(home: Path, slices_per_stack, with_truth):
    rows, first_mm = [], 0.0
    for number, slices in enumerate(slices_per_stack, start=1):
        subject = scene(slices=slices, seed=number)
        affine = np.diag([-COLUMN_MM, -ROW_MM, SLICE_MM, 1.0])
        kinds = {"image": np.round(subject.image).astype(np.int16), "labels": subject.labels}
        if with_truth:
            kinds["truth"] = np.roll(subject.labels, 1, axis=2)
        for kind, array in kinds.items():
            write_volume(SubjectFolder(home).stack_file(kind, number), Volume(array, affine))
        np.save(
            SubjectFolder(home).predicted_iou_file(number), np.full((slices, 8), 0.875, np.float32)
        )
        for index in range(slices):
            place = {"stack": number, "slice": index, "position_mm": first_mm + SLICE_MM * index}
            size = {"row_spacing_mm": ROW_MM, "column_spacing_mm": COLUMN_MM}
            size |= {"tilt_deg": TILT_DEG, "slab_mm": SLICE_MM, "slab_source": "positions"}
            rest = {"affine": affine.ravel().tolist(), "overlaps": number > 1, "warnings": []}
            rows.append(place | size | rest)
        first_mm += 100.0
    tables.write(
        home / "slices.parquet", tables.GEOMETRY, tables.from_rows(tables.GEOMETRY, rows), {}
    )


def segmented(task: shards.Task, scratch: Path) -> shards.Product:
    if not STACKS[task.subject]:
        raise SubjectFault(Reason.BLANK_IMAGES, "every pixel is 0")
    return shards.Product([{"labels_source": "sheet"}])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    tasks = [shards.Task(subject, {}) for subject in STACKS]
    segment = folder / "segment.parquet"
    shards.work_through("segment_muscles", tasks, segmented, folder=folder, out=segment)
    for subject, slices in STACKS.items():
        if slices:
            put_subject(folder / subject, slices, with_truth=subject == "S1")
    for step in STEPS:
        step(segment, folder, folder / f"{step.__name__}.parquet")
    return folder


def rows_of(results, step):
    return pq.read_table(results / f"{step.__name__}.parquet").to_pylist()


def test_every_slice_muscle_and_side_has_a_row(results):
    for step in (measure_area, measure_fat):
        keys = [(row["subject"], row["stack"], row["slice"]) for row in rows_of(results, step)]
        assert len(keys) == 8 * (3 + 2 + 2)
        assert set(keys) == {
            (subject, number, index)
            for subject, stacks in STACKS.items()
            for number, slices in enumerate(stacks, start=1)
            for index in range(slices)
        }


def test_area_follows_from_pixels_spacing_and_tilt(results):
    labels = scene(slices=3, seed=1).labels
    row = rows_of(results, measure_area)[8 + 4]
    assert (row["muscle"], row["side"], row["slice"]) == ("erector_spinae", "left", 1)
    assert row["pixels"] == (labels[1] == 5).sum()
    assert row["csa_mm2"] == pytest.approx(row["pixels"] * ROW_MM * COLUMN_MM)
    assert row["csa_axial_mm2"] == pytest.approx(row["csa_mm2"] * np.cos(np.deg2rad(TILT_DEG)))
    assert (row["position_mm"], row["slab_mm"], row["overlaps"]) == (SLICE_MM, SLICE_MM, False)


def test_an_iou_is_predicted_of_what_is_there(results):
    rows = rows_of(results, measure_area)
    assert all(row["predicted_iou"] == (0.875 if row["pixels"] else None) for row in rows)


def test_fat_stands_in_the_row_of_its_stack(results):
    rows = [row for row in rows_of(results, measure_fat) if row["subject"] == "S1"]
    found = np.array([row["fat_fraction_otsu_subject"] for row in rows]).reshape(5, 8)
    truth = np.concatenate([scene(slices=3, seed=1).share, scene(slices=2, seed=2).share])
    assert found == pytest.approx(truth, abs=0.002)


def test_subject_without_truth_has_no_overlap(results):
    rows = rows_of(results, score_overlap)
    assert {row["subject"] for row in rows} == {"S1"}
    assert all(0.7 < row["iou"] < 1 for row in rows)
    assert not any(row["labels_given"] for row in rows)


def test_a_stack_whose_labels_were_given_says_so(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    shutil.copytree(folder / "S1/labels", folder / "S1/given")
    for file in (folder / "S1/given").iterdir():
        if not file.name.startswith("stack-02.nii"):
            file.unlink()
    for step, record in ((score_overlap, "overlap.json"), (measure_area, "area.json")):
        (folder / "S1" / record).unlink(missing_ok=True)
        step(folder / "segment.parquet", folder, folder / f"{step.__name__}.parquet")
    rows = rows_of(folder, score_overlap)
    assert {(row["stack"], row["labels_given"]) for row in rows} == {(1, False), (2, True)}
    rows = [row for row in rows_of(folder, measure_area) if row["subject"] == "S1"]
    told = {(row["stack"], row["labels_source"]) for row in rows}
    assert told == {(1, "network"), (2, "sheet")}


def test_quarantined_subject_is_passed_on_with_its_reason(results):
    for step in STEPS:
        outcomes = shard_tables.read_outcomes(results / f"{step.__name__}.parquet")
        assert [outcome.reason for outcome in outcomes] == [None, None, "blank-images"]


def test_each_analysed_subject_has_its_preview(results):
    assert (results / "S1" / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "S2" / "preview.png").is_file()
    assert not (results / "S3" / "preview.png").exists()


def test_number_of_workers_changes_no_number(results, tmp_path):
    for step in (measure_area, measure_fat, score_overlap):
        for record in ("area.json", "fat.json", "overlap.json"):
            for subject in STACKS:
                (results / subject / record).unlink(missing_ok=True)
        out = tmp_path / "again.parquet"
        step(results / "segment.parquet", results, out, workers=2)
        assert pq.read_table(out).equals(pq.read_table(results / f"{step.__name__}.parquet"))


def test_slices_in_which_nobody_drew_are_not_scored(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    path = SubjectFolder(folder / "S1").stack_file("truth", 1)
    truth = read_volume(path)
    drawn = truth.array.copy()
    drawn[1] = 0
    write_volume(path, truth.with_array(drawn))
    (folder / "S1/overlap.json").unlink(missing_ok=True)
    score_overlap(folder / "segment.parquet", folder, folder / "overlap.parquet")
    scored = {
        (r["stack"], r["slice"]) for r in pq.read_table(folder / "overlap.parquet").to_pylist()
    }
    assert scored == {(1, 0), (1, 2), (2, 0), (2, 1)}


def test_a_mask_that_does_not_meet_the_network_is_told(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    swap = np.array([0, 2, 1, 3, 4, 5, 6, 7, 8], np.uint8)

    def told():
        (folder / "S1/overlap.json").unlink(missing_ok=True)
        score_overlap(folder / "segment.parquet", folder, folder / "overlap.parquet")
        outcome = shard_tables.read_outcomes(folder / "overlap.parquet")[0]
        return outcome.warnings, outcome.message

    assert told() == ((), None)
    for number in (1, 2):
        path = SubjectFolder(folder / "S1").stack_file("truth", number)
        truth = read_volume(path)
        write_volume(path, truth.with_array(swap[truth.array]))
        if number == 1:  # three slices are too few
            assert told() == ((), None)
    assert told() == (
        ("mask-unlike-network",),
        "truth: Dice with the network of psoas_major left 0.00, psoas_major right 0.00",
    )
    shutil.copytree(folder / "S1/labels", folder / "S1/given")
    assert told() == ((), None)


def test_the_second_rater_is_compared_with_the_first_where_both_drew(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    home = SubjectFolder(folder / "S1")
    truth = read_volume(home.stack_file("truth", 1))
    drawn = np.roll(truth.array, 1, axis=1)
    drawn[1] = 0  # the slice was not drawn by the second rater, nor was this muscle
    drawn[drawn == 8] = 0
    write_volume(home.stack_file("truth2", 1), truth.with_array(drawn))
    (folder / "S1/overlap.json").unlink(missing_ok=True)
    score_overlap(folder / "segment.parquet", folder, folder / "overlap.parquet")
    rows = pq.read_table(folder / "overlap.parquet").to_pylist()
    right_multifidus = ("multifidus", "right")
    for row in rows:
        both = row["stack"] == 1 and row["slice"] != 1
        both &= (row["muscle"], row["side"]) != right_multifidus
        assert (row["pixels_truth2"] is not None) == both
    row = next(
        r for r in rows if (r["stack"], r["slice"]) == (1, 0) and r["muscle"] == "psoas_major"
    )
    label = 1 if row["side"] == "left" else 2
    one, two = truth.array[0] == label, drawn[0] == label
    assert row["pixels_truth2"] == two.sum()
    assert row["iou_raters"] == pytest.approx((one & two).sum() / (one | two).sum())
    assert row["pixels_truth"] == one.sum()


def test_muscles_that_nobody_drew_are_not_scored(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    first, second = (SubjectFolder(folder / "S1").stack_file("truth", number) for number in (1, 2))
    for path, drawn in ((first, (1, 5)), (second, (1, 6))):
        truth = read_volume(path)
        array = np.where(np.isin(truth.array, drawn), truth.array, 0)
        write_volume(path, truth.with_array(array))
    (folder / "S1/overlap.json").unlink(missing_ok=True)
    score_overlap(folder / "segment.parquet", folder, folder / "overlap.parquet")
    rows = pq.read_table(folder / "overlap.parquet").to_pylist()
    found = {(row["stack"], row["muscle"], row["side"]) for row in rows}
    assert found == {
        (stack, *muscle)
        for stack in (1, 2)
        for muscle in (
            ("psoas_major", "left"), ("erector_spinae", "left"), ("erector_spinae", "right")
        )
    }  # fmt: skip
    # Drawn in another stack of the subject: here it is missing, and what was found is wrong.
    assert {r["iou"] for r in rows if (r["stack"], r["side"]) == (1, "right")} == {0.0}


def test_missing_labels_are_told_and_not_taken_for_absent_muscles(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    SubjectFolder(folder / "S1").stack_file("labels", 2).unlink()
    (folder / "S1/area.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="stack-02.nii.gz: no such file"):
        measure_area(folder / "segment.parquet", folder, folder / "area.parquet")


def fat_of(folder, change):
    """Return the columns of `fat` of a subject of three slices after a change of its files."""
    home, segment = folder / "S1", folder / "segment.parquet"
    tasks = [shards.Task("S1", {})]
    shards.work_through("segment_muscles", tasks, segmented, folder=folder, out=segment)
    put_subject(home, (3,), with_truth=False)
    change(SubjectFolder(home))
    measure_fat(segment, folder, folder / "fat.parquet")
    return pq.read_table(folder / "fat.parquet").to_pydict()


def blank_slice(files, kind):
    """Set the second slice of an image or label map to 0."""
    volume = read_volume(files.stack_file(kind, 1))
    array = volume.array.copy()
    array[1] = 0
    write_volume(files.stack_file(kind, 1), volume.with_array(array))


def test_a_blank_slice_has_no_fat_and_changes_no_other(tmp_path):
    def labelled(files):
        blank_slice(files, "image")

    def not_labelled(files):
        blank_slice(files, "image")
        blank_slice(files, "labels")

    found, expected = fat_of(tmp_path / "a", labelled), fat_of(tmp_path / "b", not_labelled)
    for method in tables.FAT_METHODS:
        assert found[f"fat_fraction_{method}"] == expected[f"fat_fraction_{method}"]
        assert found[f"fat_fraction_{method}"][:8] != [None] * 8
        assert found[f"reason_{method}"][8:16] == ["single-value"] * 8


@pytest.mark.parametrize("blank", ["water", "fat"])
def test_a_slice_in_which_one_dixon_part_is_blank_has_no_dixon_fat(tmp_path, blank):
    def with_parts(files):
        for kind in ("water", "fat"):
            whole = read_volume(files.stack_file("image", 1))
            write_volume(files.stack_file(kind, 1), whole.with_array(whole.array // 2))
        blank_slice(files, blank)

    found = fat_of(tmp_path, with_parts)
    assert found["reason_dixon"] == [None] * 8 + ["single-value"] * 8 + [None] * 8
    assert [value is None for value in found["fat_fraction_dixon"]] == [
        reason is not None for reason in found["reason_dixon"]
    ]
