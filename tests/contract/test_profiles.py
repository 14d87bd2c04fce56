"""Profiles and rules ask Snakemake and Slurm for what was measured to work."""

import os
from pathlib import Path

import pytest
import yaml
from snakemake.cli import get_argument_parser

from loaded_rules import loaded_rules
from paravert.cluster import COHORT_SECONDS, cohort_minutes

REPOSITORY = Path(__file__).parents[2]
PROFILES = {file.parent.name: file for file in REPOSITORY.glob("profiles/*/config.yaml")}
SETTINGS = {name: yaml.safe_load(file.read_text()) for name, file in PROFILES.items()}
SUBJECTS = 100_000  # of the cohort for which the rules are loaded
COMMANDS = REPOSITORY / "profiles/slurm/commands"


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    sheet = tmp_path_factory.mktemp("rules") / "sheet.csv"
    rows = "\n".join(f"S{number},images" for number in range(SUBJECTS))
    sheet.write_text(f"subject,images\n{rows}\n")
    return loaded_rules(sheet)


@pytest.mark.parametrize("name", PROFILES)
def test_every_entry_is_an_option_of_snakemake(name):
    options = {
        option for action in get_argument_parser()._actions for option in action.option_strings
    }
    assert {f"--{key}" for key in SETTINGS[name]} <= options


def test_no_entry_of_the_slurm_profile_is_overruled_by_the_default_one():
    assert not SETTINGS["slurm"].keys() & SETTINGS["default"].keys()


def test_the_command_as_typed_finds_the_slurm_profile():
    assert (REPOSITORY / "slurm").readlink() == Path("profiles/slurm")


def test_jobs_that_fail_on_a_cluster_are_seen_and_submitted_again():
    assert SETTINGS["slurm"]["executor"] == "slurm"
    assert SETTINGS["slurm"]["slurm-status-command"] == "squeue"
    assert SETTINGS["slurm"]["slurm-no-requeue"] is True
    assert SETTINGS["slurm"]["retries"] == 2
    assert SETTINGS["default"]["rerun-incomplete"] is True
    assert SETTINGS["default"]["keep-going"] is True


# Unless told otherwise, Snakemake adds up the minutes of all jobs in the queue.
def test_memory_and_time_are_bounded_for_each_job():
    assert SETTINGS["slurm"]["resources"].keys() == {"mem_mb", "runtime"}
    assert SETTINGS["slurm"]["set-resource-scopes"] == {"runtime": "local"}


# With squeue, an ended job must be seen before Slurm forgets it: within MinJobAge, 300 s by default.
def test_the_first_look_at_a_job_comes_early_enough_for_squeue():
    assert 3 * SETTINGS["slurm"]["slurm-init-seconds-before-status-checks"] <= 300


# What was measured to fail under load or on a cluster.
@pytest.mark.parametrize("name", PROFILES)
def test_no_profile_uses_what_is_known_to_fail(name):
    assert not {"slurm-array-jobs", "groups", "group-components"} & SETTINGS[name].keys()


def test_no_rule_uses_what_is_known_to_fail(rules):
    for name, rule in rules.items():
        assert not [key for key in ("has_run", "has_service") if rule[key]], name


def test_every_command_that_stands_before_one_of_slurm_can_be_run():
    commands = [file for file in COMMANDS.iterdir() if file.suffix != ".sh"]
    assert {file.name for file in commands} == {"sbatch", "squeue", "sacct"}
    assert all(os.access(file, os.X_OK) for file in commands)


@pytest.mark.parametrize("step", COHORT_SECONDS)
def test_a_rule_over_the_cohort_asks_for_minutes_by_its_size(rules, step):
    assert rules[step]["minutes"] == cohort_minutes(step, SUBJECTS)
    assert rules[step]["minutes"] > cohort_minutes(step, 1)


def test_no_rule_has_retries_of_its_own(rules):  # they would replace those of the profile
    assert {rule["retries"] for rule in rules.values()} == {None}
