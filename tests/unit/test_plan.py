import os

import pytest

from made_from import CONFIGURATION
from paravert import plan, shards
from paravert.anatomy import LABELS
from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.label_sources import OWN, label_source
from paravert.plan import path_test, shard_names, shard_plan
from paravert.shards import Product
from paravert.steps import STEPS, VERSIONS

SETTINGS = plan.step_settings(CONFIGURATION)
SUBJECTS = ["S1", "S2"]
MANY = [f"S{number:04d}" for number in range(1000)]
STEP_NAMES = [step.name for step in STEPS.values() if not step.extra]


class Shard:
    """A finished shard of two subjects, and what a run would find stale in it."""

    def __init__(self, folder):
        self.folder, self.patterns, self.settings = folder, [], SETTINGS
        self.rows, self.corrected = {}, {}
        for subject in SUBJECTS:
            images = folder / "images" / subject
            images.mkdir(parents=True)
            (images / "1.dcm").write_text(subject)
            self.rows[subject] = {"subject": subject, "images": str(images)}

    @property
    def tables(self):
        return self.folder / "shards/0"

    def table(self, step):
        return self.tables / f"{STEPS[step].table.name}.parquet"

    def convert(self, fault=None):
        self.converted = []

        def do(task, scratch):
            self.converted.append(task.subject)
            if fault:
                raise fault
            return Product([{"stacks": 1, "slices": 20}], (Caution.MULTI_STACK,))

        tasks = [
            shards.Task(name, plan.conversion_inputs(row, self.patterns), plan.images_away(row))
            for name, row in self.rows.items()
        ]
        shards.work_through("convert_dicom", tasks, do, **self.place("convert_dicom"))

    def make(self):
        self.convert()
        for name in STEP_NAMES[1:]:
            self.follow(name)
        return self

    def follow(self, name):
        before, segments = self.table(STEPS[name].after), name == "segment_muscles"
        files = {name: row.get("levels", "") for name, row in self.rows.items()}
        how = {"settings": SETTINGS[name]} if name in SETTINGS else {}
        how |= {"files": files} if name == "find_levels" else {}
        how["besides"] = {other: self.table(other) for other in STEPS[name].besides}
        do = lambda task, scratch: Product([{"labels_source": "network"}] if segments else [])  # noqa: E731
        shards.work_after(before, name, do, **how, **self.place(name))

    def place(self, step):
        return {"folder": self.folder / "subjects", "out": self.table(step)}

    def stale(self):
        subjects = sorted(self.rows)
        how = self.patterns, self.settings, OWN, self.corrected
        return plan.stale_steps(self.tables, subjects, self.rows, *how)

    def check(self):
        shards = {"0": sorted(self.rows)}
        plan.check_shard_tables(self.folder / "shards", shards, self.settings, self.rows)


@pytest.fixture
def shard(tmp_path):
    return Shard(tmp_path).make()


def test_a_finished_shard_is_not_stale(shard):
    assert shard.stale() == set()
    shard.check()


def images_change(shard):
    (shard.folder / "images/S1/1.dcm").write_text("other images")


def labels_are_given(shard):
    labels = shard.folder / "labels.nii.gz"
    labels.write_text("labels")
    shard.rows["S2"]["labels"] = str(labels)


def labels_are_corrected(shard):
    shard.corrected = {"S2": shard.folder / "images/S2"}


def a_subject_is_added(shard):
    shard.rows["S3"] = {"subject": "S3", "images": str(shard.folder / "images/S1")}


def a_subject_is_removed(shard):
    del shard.rows["S2"]


def patterns_change(shard):
    shard.patterns = ["T2"]


def the_table_is_cut_off(shard):
    table = shard.table("convert_dicom")
    table.write_bytes(table.read_bytes()[:-100])


def the_footer_is_damaged(shard):
    table = shard.table("convert_dicom")
    content = bytearray(table.read_bytes())
    content[-60:-40] = b"\xff" * 20
    table.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        images_change,
        labels_are_given,
        labels_are_corrected,
        a_subject_is_added,
        a_subject_is_removed,
        patterns_change,
        the_table_is_cut_off,
        the_footer_is_damaged,
    ],
)
def test_conversion_from_something_else_is_stale(shard, change):
    change(shard)
    assert shard.stale() == {"convert_dicom"}


@pytest.mark.parametrize("step", STEP_NAMES)
def test_a_step_of_another_version_is_stale(shard, step, monkeypatch):
    monkeypatch.setitem(VERSIONS, step, VERSIONS[step] + 1)
    assert shard.stale() == {step}


def test_points_of_the_sheet_and_their_changes_make_the_levels_stale_and_then_the_previews(shard):
    points = shard.folder / "points.csv"
    points.write_text("name,x_mm,y_mm,z_mm")
    shard.rows["S2"]["levels"] = str(points)
    assert shard.stale() == {"find_levels"}
    with pytest.raises(InputError, match="find_levels"):
        shard.check()
    shard.follow("find_levels")
    assert shard.stale() == {"draw_preview"}  # they name the levels
    with pytest.raises(InputError, match="draw_preview"):
        shard.check()
    shard.follow("draw_preview")
    assert shard.stale() == set()
    shard.check()
    points.write_text("name,x_mm,y_mm,z_mm\nL4,0,0,0")
    assert shard.stale() == {"find_levels"}


def test_another_model_of_levels_makes_the_levels_stale(shard):
    shard.settings = SETTINGS | {"find_levels": {"model_sha256": "another"}}
    assert shard.stale() == {"find_levels"}


@pytest.mark.parametrize("key", SETTINGS["segment_muscles"])
def test_another_setting_of_the_segmentation_makes_its_table_stale(shard, key):
    shard.settings = SETTINGS | {"segment_muscles": SETTINGS["segment_muscles"] | {key: "another"}}
    assert shard.stale() == {"segment_muscles"}


def test_what_follows_from_an_earlier_conversion_is_stale_and_refused(shard):
    images_change(shard)
    shard.convert()
    assert shard.stale() == {"segment_muscles"}
    with pytest.raises(InputError, match=r"0/segment.parquet: .* --forcerun segment_muscles"):
        shard.check()
    for name in STEP_NAMES[1:-1]:
        shard.follow(name)
    assert shard.stale() == {STEP_NAMES[-1]}


def test_tables_of_other_subjects_are_refused(shard):
    a_subject_is_added(shard)
    with pytest.raises(InputError, match=r"0/convert.parquet: made from another sheet"):
        shard.check()


def test_images_that_are_away_make_nothing_stale_and_keep_what_is_finished(shard):
    (shard.folder / "images").rename(shard.folder / "away")
    assert shard.stale() == set()
    shard.check()
    shard.rows["S3"] = {"subject": "S3", "images": str(shard.folder / "away/S1")}
    assert shard.stale() == {"convert_dicom"}
    shard.convert()
    assert shard.converted == ["S3"]
    (shard.folder / "away").rename(shard.folder / "images")
    shard.rows["S3"]["images"] = str(shard.folder / "images/S1")
    shard.convert()
    assert shard.converted == []


def test_a_subject_whose_cause_may_pass_is_tried_again_by_the_next_run(tmp_path):
    shard = Shard(tmp_path)
    for fault in (MemoryError(), SubjectFault(Reason.UNREADABLE_HEADER, "EIO", passing=True)):
        shard.convert(fault)
        assert shard.stale() == {"convert_dicom"}
    shard.convert(SubjectFault(Reason.UNREADABLE_HEADER, "EACCES"))
    assert shard.converted == SUBJECTS
    assert shard.stale() == set()
    shard.convert()
    assert shard.converted == []


def test_the_reason_of_a_quarantined_subject_stays_while_its_images_are_away(tmp_path):
    shard = Shard(tmp_path)
    fault = SubjectFault(Reason.TRUNCATED_PIXELS, "10 bytes, expected 20")
    shard.convert(fault)
    (tmp_path / "images").rename(tmp_path / "away")
    assert shard.stale() == set()
    shard.convert(fault)
    assert shard.converted == []


def test_a_subject_that_was_never_converted_is_not_kept_by_images_that_are_away(tmp_path):
    shard = Shard(tmp_path)
    (tmp_path / "images/S1").rename(tmp_path / "elsewhere")
    shard.convert()
    assert shard.converted == SUBJECTS


def test_a_path_that_is_too_long_or_leads_in_a_circle_is_away(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for path in (tmp_path / ("x" * 300), tmp_path / "circle"):
        assert plan.images_away({"images": str(path)})


def test_number_of_shards_is_the_next_power_of_two():
    for count, per_shard, expected in [(22, 64, 1), (64, 64, 1), (65, 64, 2), (1000, 64, 16)]:
        assert len(set(shard_names(MANY[:count], per_shard).values())) == expected


def test_a_subject_keeps_its_shard_while_the_cohort_does_not_double():
    before, after = shard_names(MANY[:900], 64), shard_names(MANY[:1000], 64)
    assert all(after[subject] == shard for subject, shard in before.items())


def test_order_of_the_sheet_does_not_move_subjects():
    assert shard_names(MANY[::-1], 64) == shard_names(MANY, 64)


def test_one_subject_per_shard_names_the_shard_after_it():
    assert shard_names(["S1", "S2"], 1) == {"S1": "S1", "S2": "S2"}


def test_a_selection_changes_no_shard():
    whole, chosen = shard_plan(MANY, 64), shard_plan(MANY, 64, "S0007, S0400")
    assert sorted(sum(chosen.values(), [])) == ["S0007", "S0400"]
    for shard, subjects in chosen.items():
        assert set(subjects) <= set(whole[shard])


def test_an_unknown_selected_subject_is_named():
    with pytest.raises(InputError, match="subjects: S9999 is not in a.csv, nearest to S9999: S"):
        shard_plan(MANY, 64, "S0001,S9999", "a.csv")


def test_the_digest_of_the_cohort_tells_covariates_and_absent_images_but_no_paths():
    def made_from(images="a/S1", sex="F", away=frozenset()):
        rows = {"S1": {"subject": "S1", "images": images, "sex": sex}}
        return plan.cohort_made_from({"0": ["S1"]}, rows, away, "{}", "none", [])

    assert made_from() == made_from(images="b/S1")
    assert len({made_from(), made_from(sex="M"), made_from(away={"S1"})}) == 3


def test_the_digest_of_the_ledger_tells_other_shard_tables_whatever_their_times(shard):
    def gathered():
        return plan.gathered_from("cohort", shard.folder / "shards", ["0"])

    first, table = gathered(), shard.table("draw_preview")
    times = table.stat().st_mtime_ns
    images_change(shard)
    shard.make()
    os.utime(table, ns=(times, times))
    assert gathered() != first
    table.unlink()
    assert gathered() != first


def test_the_digest_of_the_cohort_tells_the_content_of_files_and_not_their_time(tmp_path):
    file = tmp_path / "ratings.csv"

    def made_from(content, time):
        file.write_text(content)
        os.utime(file, (time, time))
        return plan.cohort_made_from({}, {}, set(), "{}", "none", [file])

    assert made_from("pass", 2) == made_from("pass", 1)
    assert made_from("pass", 2) != made_from("fail", 1)


def test_a_second_mask_counts_where_it_is_given_and_leaves_other_subjects_finished(tmp_path):
    bare = {"subject": "S1", "images": str(tmp_path)}
    assert "truth2" not in plan.conversion_inputs(bare, [])
    assert "truth2" not in plan.conversion_inputs(bare | {"truth2": ""}, [])
    assert plan.conversion_inputs(bare | {"truth2": str(tmp_path)}, [])["truth2"] != "none"


def test_label_values_count_only_for_subjects_with_labels_of_another_program():
    bare, given = {"images": ""}, {"images": "", "labels": "nowhere.nii.gz"}
    musclemap = label_source("musclemap")
    table = {value: [label.muscle, label.side] for value, label in enumerate(LABELS, start=11)}
    orders = [label_source(dict(sorted(table.items(), reverse=turned))) for turned in (True, False)]
    assert plan.conversion_inputs(bare, [], musclemap) == plan.conversion_inputs(bare, [])
    assert "labels_from" not in plan.conversion_inputs(given, [])
    told = [plan.conversion_inputs(given, [], source) for source in (*orders, musclemap, OWN)]
    assert told[0] == told[1]
    assert told[1] != told[2] != told[3] == plan.conversion_inputs(given, [])


def test_a_path_leads_into_a_folder_also_through_links(tmp_path):
    own = tmp_path / "study/results/subjects"
    (own / "A").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "study")
    (tmp_path / "other/subjects").mkdir(parents=True)
    leads_there = path_test(own)
    for path in (
        "study/results/subjects",
        "link/results/subjects/A/image",
        "study/../link/results/subjects/",
    ):
        assert leads_there(str(tmp_path / path)), path
    for path in ("other/subjects/A", "study/results", "study/results/subjects2/A"):
        assert not leads_there(str(tmp_path / path)), path


def test_a_path_leads_into_a_folder_that_is_a_link_itself(tmp_path):
    (tmp_path / "scratch/big").mkdir(parents=True)
    (tmp_path / "subjects").symlink_to(tmp_path / "scratch/big")
    leads_there = path_test(tmp_path / "subjects")
    for path in ("scratch/big/A/labels", "subjects/A/labels", "scratch/big"):
        assert leads_there(str(tmp_path / path)), path
    assert not leads_there(str(tmp_path / "scratch/A"))
