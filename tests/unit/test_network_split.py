"""The split into training and validation subjects, and its file."""

import json

import pytest
import torch

from network_subjects import make_cohort
from paravert.errors import InputError
from paravert.network.model_file import learnt_from, split_file, write_split
from paravert.network.samples import split_by_subject
from paravert.network.train import read_data
from trainings import section_of

SUBJECTS = [f"S{index:03d}" for index in range(60)]


def test_the_split_is_disjoint_and_complete():
    split = split_by_subject(SUBJECTS, 0.2, seed=1)
    assert len(split.validation) == 12
    assert sorted(split.training + split.validation) == SUBJECTS


def test_the_split_follows_the_seed_and_not_the_order():
    split = split_by_subject(SUBJECTS, 0.2, seed=1)
    assert split_by_subject(SUBJECTS[::-1], 0.2, seed=1) == split
    assert split_by_subject(SUBJECTS, 0.2, seed=2) != split


def test_one_subject_more_hardly_changes_the_split():
    before = split_by_subject(SUBJECTS, 0.2, seed=1).validation
    after = split_by_subject([*SUBJECTS, "S999"], 0.2, seed=1).validation
    assert len(set(before) ^ set(after)) <= 2


def test_two_subjects_are_one_to_train_and_one_to_validate():
    for fraction, count in ((0.2, 1), (0.0, 0)):
        split = split_by_subject(["A", "B"], fraction, seed=1)
        assert (len(split.training), len(split.validation)) == (2 - count, count)


def test_training_subjects_of_the_starting_model_are_not_used_for_validation():
    before = split_by_subject(SUBJECTS, 0.2, seed=1)
    after = split_by_subject(SUBJECTS, 0.2, seed=2, learnt_from=before.training)
    assert set(after.validation) <= set(before.validation)
    assert len(after.validation) == 12
    assert split_by_subject(SUBJECTS, 0.2, seed=1, learnt_from=SUBJECTS).validation == []


def test_a_split_is_written_and_read(tmp_path):
    model = tmp_path / "own.safetensors"
    assert learnt_from(model) == set()
    write_split(model, ["Z", "A", "B", "A"], ["C"])
    assert learnt_from(model) == {"A", "B", "Z"}
    assert split_file(model).read_text().splitlines()[-1] == "C,validation"


@pytest.mark.parametrize("text", ["", "who,part\nA,training\n"])
def test_a_file_that_is_no_split_is_told(tmp_path, text):
    model = tmp_path / "own.safetensors"
    split_file(model).write_text(text)
    with pytest.raises(InputError, match="own.split.csv: columns .*expected"):
        learnt_from(model)


def test_a_part_of_another_name_is_told_as_its_subjects_would_count_as_held_out(tmp_path):
    model = tmp_path / "own.safetensors"
    split_file(model).write_text("subject,part\nA,training\nB, training\n")
    with pytest.raises(InputError, match="B in part ' training', expected training or validation"):
        learnt_from(model)


def test_a_split_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    write_split(tmp_path / "own.safetensors", ["A"], [])

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    with pytest.raises(InputError, match="may not be read"):
        learnt_from(tmp_path / "own.safetensors")


def test_the_scans_of_a_subject_are_in_one_part(tmp_path):
    subject_of = {f"{name}_{visit}": name for name in "ABCD" for visit in (1, 2)}
    convert = make_cohort(tmp_path, list(subject_of))
    section = json.loads(section_of("train_network", validation_fraction=0.25))
    data = read_data(
        [convert], tmp_path / "subjects", section, 3.0, torch.device("cpu"), subject_of
    )
    (held_out,) = data.split.validation
    assert sorted([*data.split.training, held_out]) == list("ABCD")
    assert data.validation_scans == [[f"{held_out}_1", f"{held_out}_2"]]
    assert (data.card_entries["training_subjects"], data.card_entries["validation_subjects"]) == (
        3,
        1,
    )
    assert len(data.training) == 3 * len(data.validation)
    with pytest.raises(InputError, match="something drawn in their masks: 1, expected at least 2"):
        read_data(
            [convert],
            tmp_path / "subjects",
            section,
            3.0,
            torch.device("cpu"),
            dict.fromkeys(subject_of, "A"),
        )
