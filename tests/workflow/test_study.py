"""The whole study on real DICOM files: what is done, what is not done again, what is told."""

import csv
import json
import re
import shutil

import highdicom
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from paravert.network.model_file import split_file, write_split
from studies import MODEL, Study, copy_of_the_workflow

pytestmark = pytest.mark.workflow

SHARD_RULES = {
    "convert_dicom",
    "segment_muscles",
    "measure_area",
    "measure_fat",
    "score_overlap",
    "draw_preview",
}


def cohort(study, table):
    return pd.read_parquet(study.folder / f"results/cohort/{table}.parquet")


def edit(study, module, old, new):
    path = study.folder / "workflow/paravert" / module
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


def test_phantoms_of_a_cohort_of_any_size_are_drawn(tmp_path):
    copy_of_the_workflow(tmp_path)
    study = Study(tmp_path)
    study.settings["make_phantoms"] = {"seed": 1, "volunteers": 10001}
    for phantom in ("T9999", "T10000_2"):
        study.add(phantom, f"results/phantoms/{phantom}/dicom")
    done = study.run("--dry-run", "--printshellcmds")
    assert "--volunteers 10001 --subject T10000_2 --subject T9999" in done.stdout + done.stderr


def test_faulty_subjects_stand_in_the_ledger_and_the_others_are_analysed(finished):
    assert finished.first_run.returncode == 0, finished.first_run.stderr[-5000:]
    last = finished.first_run.stderr.strip().splitlines()[-1]
    assert last == "5 subjects: 3 analysed, 2 quarantined (no-dicom 1, truncated-pixels 1)"
    ledger = cohort(finished, "ledger").set_index("subject")
    assert ledger.reason["EMPTY"] == "no-dicom"
    assert ledger.reason["CUT"] == "truncated-pixels"
    assert set(ledger.stage.dropna()) == {"convert_dicom"}
    assert list(ledger.index[ledger.status == "analysed"]) == ["S0001", "S0002", "S0003"]
    assert set(cohort(finished, "subjects").subject) == {"S0001", "S0002", "S0003"}


def test_areas_and_sides_are_those_of_the_phantoms(finished, phantoms):
    truth = pd.read_parquet(phantoms / "truth.parquet")
    keys = ["subject", "slice", "muscle", "side"]
    both = cohort(finished, "slices").merge(truth, on=keys, suffixes=("", "_truth"))
    assert len(both) == len(truth)
    means = both.groupby(["subject", "muscle", "side"])[["csa_mm2", "csa_mm2_truth"]].mean()
    error = (means.csa_mm2 / means.csa_mm2_truth - 1).abs()
    assert error.groupby("muscle").median().max() < 0.08
    assert (
        cohort(finished, "overlap").iou.groupby([cohort(finished, "overlap").muscle]).median().min()
        > 0.8
    )


def test_volumes_are_the_sum_of_the_slices(finished):
    slices = cohort(finished, "slices")
    slices["ml"] = slices.csa_mm2 * slices.slab_mm / 1000
    by_hand = slices.groupby(["subject", "muscle", "side"]).ml.sum()
    muscles = cohort(finished, "muscles").set_index(["subject", "muscle", "side"])
    pd.testing.assert_series_equal(
        muscles.volume_ml.sort_index(), by_hand.sort_index(), check_names=False
    )


def test_a_second_run_has_nothing_to_do(study):
    done = study.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stderr + done.stdout


def test_a_copy_of_a_study_in_another_place_has_nothing_to_do(study, phantoms, tmp_path):
    moved = shutil.copytree(phantoms, tmp_path / "elsewhere")
    for row in study.rows:
        for column in {"images", "truth"} & row.keys():
            row[column] = row[column].replace(str(phantoms), str(moved))
    shutil.rmtree(study.folder / ".snakemake")
    assert study.planned() == set()


def test_a_warning_more_another_log_text_and_a_function_renamed_rerun_nothing(study):
    edit(study, "errors.py", "    MULTI_STACK", '    NEW_WARNING = "new-warning"\n    MULTI_STACK')
    edit(study, "shards.py", '"%s: %d computed, %d held"', '"%s: %d made, %d kept"')
    area = study.folder / "workflow/paravert/measure/area.py"
    area.write_text(area.read_text().replace("_area_rows", "_table_lines"))
    assert study.planned() == set()


def test_a_raised_version_reruns_its_step_and_not_those_before(study):
    edit(study, "steps.py", '"measure_fat": ', '"measure_fat": 1')
    planned = study.planned()
    assert "measure_fat" in planned
    assert not planned & (SHARD_RULES - {"measure_fat"})


def test_dicom_segmentations_are_made_when_asked_for_and_only_then(study):
    assert not list((study.folder / "results").rglob("*dicomseg*"))
    done = study.run("--", "all_dicomseg")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Converting the images" not in done.stderr
    for subject in ("S0001", "S0002", "S0003"):
        home = study.folder / "results/subjects" / subject
        labels = np.asarray(nib.load(home / "labels/stack-01.nii.gz").dataobj)
        data = highdicom.seg.segread(home / "dicomseg/stack-01.dcm")
        assert str(data.PatientID) == subject
        # Voxel counts suffice here: where each one lies is proven in the unit tests.
        held = np.bincount(labels.ravel(), minlength=9)[1:]
        masks = [
            data.get_volume(segment_numbers=[number]).array.sum() for number in data.segment_numbers
        ]
        assert masks == [count for count in held if count]
    assert not (study.folder / "results/subjects/CUT/dicomseg").exists()
    assert "3 computed, 0 held" in study.log("dicomseg")
    assert study.planned() == set()
    assert study.planned("--", "all_dicomseg") == set()
    # Once they are there, they follow the labels.
    corrected = study.folder / "corrected/S0001"
    corrected.mkdir(parents=True)
    shutil.copy(study.folder / "results/subjects/S0001/labels/stack-01.nii.gz", corrected)
    assert {"convert_dicom", "dicomseg"} <= study.planned()
    shutil.rmtree(corrected)
    # Also where a larger cohort has other shards.
    study.settings["subjects_per_shard"] = 1
    assert {"segment_muscles", "dicomseg"} <= study.planned()


def test_another_covariate_gathers_again_and_measures_nothing(study):
    study.rows[0]["age_years"] = "77"
    planned = study.planned()
    assert "gather_cohort" in planned
    assert not planned & SHARD_RULES


def test_another_configured_fat_fraction_measures_nothing(study):
    study.settings["gather_cohort"] = {"fat_fraction": "linear"}
    planned = study.planned()
    assert "gather_cohort" in planned
    assert not planned & SHARD_RULES


def test_only_an_added_subject_is_computed(study, phantoms):
    study.add("ADDED", phantoms / "S0002/dicom")
    done = study.gather()
    assert done.returncode == 0, done.stderr[-3000:]
    for rule in SHARD_RULES:
        assert sum(map(int, re.findall(r"(\d+) computed", study.log(rule)))) == 1, rule
    assert "6 subjects: 4 analysed" in done.stderr.splitlines()[-1]


def test_a_touched_image_computes_its_subject_again(study, phantoms):
    shutil.copytree(phantoms / "S0003/dicom", study.folder / "own")
    study.rows[2]["images"] = str(study.folder / "own")
    study.run("--until", "convert_dicom")
    first = next((study.folder / "own").rglob("*.dcm"))
    first.write_bytes(first.read_bytes())
    done = study.run("--until", "convert_dicom")
    assert done.returncode == 0
    assert re.findall(r"convert_dicom: (\w+): computed", study.log("convert_dicom")) == ["S0003"]


def test_one_subject_alone(study):
    # The unit tests draw the figures and write the report of one subject.
    done = study.run("--config", "subjects=S0002", "--until", "fit_models", "write_tables")
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(cohort(study, "ledger").subject) == ["S0002"]
    assert set(cohort(study, "slices").subject) == {"S0002"}
    assert "1 subject: 1 analysed" in done.stderr.splitlines()[-1]
    study.gather()
    assert len(cohort(study, "ledger")) == 5
    assert "0 computed" in study.log("convert_dicom")


@pytest.mark.long
def test_a_subject_of_its_own_shard_has_the_same_numbers(study):
    before = {name: cohort(study, name) for name in ("slices", "muscles", "subjects", "overlap")}
    study.settings["subjects_per_shard"] = 1
    done = study.gather()
    assert done.returncode == 0, done.stderr[-3000:]
    assert (study.folder / "results/shards/S0001/area.parquet").is_file()
    for name, table in before.items():
        keys = [key for key in ("subject", "stack_id", "slice", "muscle", "side") if key in table]
        pd.testing.assert_frame_equal(
            cohort(study, name).sort_values(keys, ignore_index=True),
            table.sort_values(keys, ignore_index=True),
        )


def test_too_many_quarantined_fail_the_run_after_the_ledger_is_written(study):
    study.settings["max_quarantined_fraction"] = 0.2
    done = study.run("--", "results/summary.txt")
    assert done.returncode != 0
    assert "expected at most a share of 0.2 quarantined" in done.stderr
    assert len(cohort(study, "ledger")) == 5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": {"sha256": "0" * 64}}, "SHA-256 is"),
        ({"measure": 1}, "measure"),
        ({"segment_muscles": {"device": "gpu"}}, "gpu"),
        ({"sheet": "none.tsv"}, "none.tsv: no such file"),
        ({"subjects": "S0099"}, "S0099"),
        ({"subject": "S0001"}, "unknown setting subject, did you mean subjects?"),
        ({"convert_dicom": {"series_description": ["t2("]}}, "no regular expression"),
    ],
)
def test_a_faulty_configuration_stops_the_run_before_it_starts(study, settings, told):
    study.settings.update(settings)
    done = study.run("--forceall")
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "Converting the images" not in done.stderr


def test_cuda_that_is_absent_is_an_error(study):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    study.settings["segment_muscles"] = {"device": "cuda"}
    done = study.run("--forcerun", "segment_muscles")
    assert done.returncode != 0
    assert "cuda" in done.stderr


def test_every_fault_of_a_sheet_is_told(study):
    study.rows[0]["sex"] = "X"
    study.rows[1]["subject"] = "S0001"
    done = study.run()
    assert done.returncode != 0
    assert "line 2, sex: 'X'" in done.stderr
    assert "line 3, subject: 'S0001' is already on line 2" in done.stderr


@pytest.mark.parametrize("through", ["study", "link"])
def test_labels_that_a_run_would_overwrite_are_not_taken(study, through):
    (study.folder.parent / "link").symlink_to(study.folder)
    home = study.folder.parent / through
    study.rows[0]["labels"] = str(home / "results/subjects/S0001/labels/stack-01.nii.gz")
    done = study.run()
    assert done.returncode != 0
    assert "labels of S0001 lies in results/subjects, expected a copy elsewhere" in done.stderr


def test_corrected_labels_are_used_as_they_are_for_their_subject_alone(study):
    own = study.folder / "results/subjects/S0002/labels/stack-01.nii.gz"
    corrected = study.folder / "corrected.nii.gz"
    image = nib.load(own)
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 1] = 0
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), corrected)
    before = cohort(study, "slices")
    study.rows[1]["labels"] = str(corrected)
    done = study.gather()
    assert done.returncode == 0, done.stderr[-3000:]
    after = cohort(study, "slices")
    gone = (after.subject == "S0002") & (after.muscle == "psoas_major") & (after.side == "left")
    assert (after.csa_mm2[gone] == 0).all()
    assert after.csa_mm2[~gone].equals(before.csa_mm2[~gone])
    assert re.findall(r"measure_area: (\w+): computed", study.log("measure_area")) == ["S0002"]
    subjects = cohort(study, "subjects").set_index("subject")
    assert subjects.labels_source["S0002"] == "sheet"


def test_figures_and_tables_of_the_paper_are_there(finished):
    results = finished.folder / "results"
    for number, name in enumerate(
        ["network", "examples", "reconstructions", "iou", "csa", "fat_fraction"], start=1
    ):
        for kind in ("svg", "png", "csv"):
            assert (results / f"figures/fig{number}_{name}.{kind}").stat().st_size > 100
    with (results / "tables/table1_iou.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8
    assert not (results / "tables/change.csv").exists()  # nobody came twice
    report = (results / "report.html").read_text()
    for subject in ("S0001", "EMPTY", "CUT", "truncated-pixels"):
        assert subject in report


def cells(path):
    for column in pd.read_parquet(path).columns:
        yield column, pd.read_parquet(path)[column].astype(str).str.cat(sep="\n")


def test_no_result_tells_where_the_images_were(finished, phantoms):
    results = finished.folder / "results"
    for file in results.rglob("*"):
        if file.suffix == ".parquet":
            text = "\n".join(f"{column}\n{text}" for column, text in cells(file))
        elif file.suffix in (
            ".json",
            ".js",
            ".csv",
            ".yaml",
            ".html",
            ".txt",
            ".svg",
            ".log",
            ".md",
        ):
            text = file.read_text()
        else:
            continue
        assert str(phantoms) not in text, file


def test_a_model_of_our_own_is_not_trained_again_by_the_study(study):
    own = study.folder / "results/models"
    own.mkdir()
    for kind in ("safetensors", "json"):
        shutil.copy2((study.folder / MODEL["file"]).with_suffix(f".{kind}"), own / f"own.{kind}")
    study.settings["model"] = MODEL | {"file": "results/models/own.safetensors"}
    assert "train_network" not in study.planned()
    assert "train_network" not in study.planned("--forceall")


@pytest.mark.long
def test_a_model_that_is_fitted_to_own_masks_is_judged_by_the_others_and_goes_anywhere(study):
    study.settings["train_network"] = {
        "start_from": MODEL["file"],
        "loss": "cross_entropy_iou",
        "learning_rate": 1e-6,
        "epochs": 1,
    }
    done = study.run("--", "train_network")
    assert done.returncode == 0, done.stderr[-3000:]
    models = study.folder / "results/models"
    parts = pd.read_csv(models / "own.split.csv").set_index("subject").part
    assert sorted(parts) == ["training", "training", "validation"]
    card = json.loads((models / "own.json").read_text())
    assert min(told["median_iou"] for told in card["validation_iou"].values()) > 0.8
    assert not study.planned("--", "train_network")
    start = study.folder / MODEL["file"]
    write_split(start, ["S0001"], [])  # who may validate depends on it
    assert study.planned("--", "train_network") == {"train_network"}
    split_file(start).unlink()

    done = study.run("--configfile", "study.yaml", "results/models/own.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    overlap = cohort(study, "overlap")
    judges = overlap.groupby("subject").held_out.all()
    assert dict(judges) == dict(parts == "validation")
    table1 = pd.read_csv(study.folder / "results/tables/table1_iou.csv")
    assert set(table1.n_subjects) == {1}
    assert table1.iou_median.min() > 0.8

    # Another hospital: a folder of its own, and the model wherever it was put.
    models.rename(study.folder / "handed_on")
    (study.folder / "hospital").mkdir()
    shutil.copy(study.folder / "sheet.tsv", study.folder / "hospital")
    there = ("--directory", "hospital", "--configfile", "study.yaml", "handed_on/own.yaml")
    assert study.planned(*there) >= {"segment_muscles", "score_overlap", "write_tables"}
    assert "train_network" not in study.planned(*there)


def test_a_training_does_not_start_from_the_file_that_it_will_write(study):
    own = study.folder / "results/models/own.safetensors"
    own.parent.mkdir()
    shutil.copy2(study.folder / MODEL["file"], own)
    study.settings["train_network"] = {"start_from": "results/models/own.safetensors"}
    done = study.run("--", "train_network")
    assert done.returncode != 0
    assert "give the new model another name" in done.stderr
    assert "Traceback" not in done.stderr
    assert own.is_file()
    (study.folder / "link").symlink_to(study.folder)  # as of a home folder
    linked = study.folder / "link/results/models/own.safetensors"
    study.settings["train_network"] = {"start_from": str(linked)}
    assert "give the new model another name" in study.run("--", "train_network").stderr
    assert own.is_file()
    study.settings["train_network"]["name"] = "second"
    assert study.planned("--", "train_network") == {"train_network"}


def test_a_training_that_fails_leaves_the_earlier_model_of_its_name(study):
    models = study.folder / "results/models"
    models.mkdir()
    files = {
        models / f"own.{suffix}": suffix
        for suffix in ("safetensors", "json", "yaml", "curve.csv", "curve.png", "split.csv")
    }
    for file, suffix in files.items():
        file.write_text(suffix)
    study.settings["train_network"] = {"start_from": MODEL["file"], "size_px": 100}
    done = study.run("--forcerun", "train_network", "--", "train_network")
    assert done.returncode != 0
    assert "size_px 100, expected a multiple of 32" in done.stderr
    assert {file: file.read_text() for file in files} == files
    # On a cluster a process per job has the outputs, and the main process restores them.
    job = ("--mode", "remote", "--cores", "1", "--force", "--nolock", "--ignore-incomplete")
    done = study.run(*job, "--target-jobs", "train_network:", "--allowed-rules", "train_network")
    assert "size_px 100, expected a multiple of 32" in done.stderr
    kept = study.folder / ".snakemake/backups/results/models"
    assert {file: (kept / file.name).read_text() for file in files} == files


def test_a_start_that_is_not_there_is_told_in_one_sentence(study):
    study.settings["train_network"] = {"start_from": "models/absent.safetensors"}
    done = study.run("--dry-run", "--", "train_network")
    assert done.returncode != 0
    assert (
        "train_network.start_from: models/absent.safetensors: no such file"
        in done.stdout + done.stderr
    )


def test_a_start_is_the_file_that_is_named_whatever_lies_beside_the_settings(study):
    for folder in ("handed_on", "results/models"):
        own = study.folder / folder / "own.safetensors"
        own.parent.mkdir()
        for kind in (".safetensors", ".json"):
            shutil.copy2((study.folder / MODEL["file"]).with_suffix(kind), own.with_suffix(kind))
    settings = study.folder / "results/models/own.yaml"
    chosen = MODEL | {"file": "results/models/own.safetensors"}
    settings.write_text(yaml.safe_dump({"model": chosen}))
    start = {"start_from": "handed_on/own.safetensors", "name": "next"}
    study.settings["train_network"] = start
    asked = ("--configfile", "study.yaml", "results/models/own.yaml", "--dry-run")
    done = study.run("--printshellcmds", *asked, "--", "train_network")
    assert done.returncode == 0, done.stderr
    assert '"start_from": "handed_on/own.safetensors"' in done.stdout + done.stderr


def test_a_failed_run_does_not_tell_of_an_earlier_ledger(study):
    study.settings["segment_muscles"] = {"fill_holes": False}
    (study.folder / "workflow/paravert/network/predict.py").write_text("raise ZeroDivisionError\n")
    done = study.run()
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr
    assert "analysed" not in done.stderr.splitlines()[-1]


def test_regular_expressions_with_braces_reach_the_command(study):
    study.settings["convert_dicom"] = {"series_description": [r"ax.{0,3}t2 \w+"]}
    done = study.run("--dry-run", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    assert r"--series-description 'ax.{0,3}t2 \w+'" in done.stdout + done.stderr


def test_a_cohort_of_which_nobody_can_be_analysed_still_ends_with_its_report(study):
    misspelt = {"truht": "masks/Meier.nii", "age_year": "50"}
    study.rows = [row | misspelt for row in study.rows if row["subject"] in ("EMPTY", "CUT")]
    done = study.run()
    assert done.returncode == 0, done.stderr[-3000:]
    *_, mask, age, last = done.stderr.splitlines()
    assert last.startswith("2 subjects: 0 analysed, 2 quarantined")
    assert mask == "sheet.tsv: column truht: did you mean truth? It is not used"
    assert age.startswith("sheet.tsv: column age_year: did you mean age_years? It is carried")
    assert "truht" not in cohort(study, "ledger")
    assert "truncated-pixels" in (study.folder / "results/report.html").read_text()
