"""The profiles say what was measured to work, say why, and say nothing that Snakemake ignores."""

import os
import re
from pathlib import Path

import pytest
import yaml
from snakemake.cli import get_argument_parser

from paravert.resources import COHORT_SECONDS, cohort_minutes

REPOSITORY = Path(__file__).parents[2]
PROFILES = {file.parent.name: file for file in REPOSITORY.glob("profiles/*/config.yaml")}
SETTINGS = {name: yaml.safe_load(file.read_text()) for name, file in PROFILES.items()}
RULE_FILES = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "workflow/rules").glob("*.smk"))]
COMMANDS = REPOSITORY / "profiles/slurm/commands"
ENTRY = re.compile(r" *(?P<key>[a-z_-]+):(?: [^#]*)?(?P<comment>#.*)?")


def uncommented(text):
    """Yield the entries with a comment neither above nor beside them."""
    before = ""
    for line in text.splitlines():
        entry = ENTRY.fullmatch(line)
        if entry and not entry["comment"] and not before.lstrip().startswith("#"):
            yield entry["key"]
        before = line


@pytest.mark.parametrize("name", PROFILES)
def test_every_entry_carries_a_comment(name):
    assert list(uncommented(PROFILES[name].read_text())) == []


def test_an_entry_without_comment_is_noticed():
    text = "# why\na: 1\nb: 2\n\nc: # why\n  d: 3 # why\n  e: 4\n"
    assert list(uncommented(text)) == ["b", "e"]


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
@pytest.mark.parametrize(
    "pattern", ["slurm-array-jobs", "group-components", r"\bservice\(", r"^\s+run:"]
)
def test_nothing_uses_what_is_known_to_fail(pattern):
    for file in (*RULE_FILES, *PROFILES.values()):
        assert not re.search(pattern, file.read_text(), re.MULTILINE), file


def test_every_command_that_stands_before_one_of_slurm_can_be_run():
    commands = [file for file in COMMANDS.iterdir() if file.suffix != ".sh"]
    assert {file.name for file in commands} == {"sbatch", "squeue", "sacct"}
    assert all(os.access(file, os.X_OK) for file in commands)


@pytest.mark.parametrize("step", COHORT_SECONDS)
def test_a_rule_over_the_cohort_asks_for_minutes_by_its_size(rules, step):
    assert rules[step]["needs"]["runtime"] == [cohort_minutes(step, 1), 2 * cohort_minutes(step, 1)]


def test_no_rule_has_retries_of_its_own(rules):  # those of the profile would multiply them
    assert not any(rule["retries"] for rule in rules.values())
