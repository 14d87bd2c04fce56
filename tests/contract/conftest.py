"""The rules as Snakemake reads them, and the commands that it plans, on a sheet of one phantom."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from loaded_rules import loaded_rules

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {
    "sheet": "sheet.csv",
    "export": ["csv"],
    "convert_dicom": {"series_description": ["t2", "T2 tse"]},
    "train_network": {"trained_on": "T2 of {site}"},
    "fit_models": {"covariates": ["dose{mg}"]},
    "write_report": {"study_name": "Back {pain}"},
}
TARGETS = (
    "all",
    "all_dicomseg",
    "train_network",
    "pretrain_network",
    "train_levels",
    "train_axial_levels",
)


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A folder with a sheet of one phantom volunteer, of whom nothing was made yet."""
    folder = tmp_path_factory.mktemp("study")
    images = "results/phantoms/S0001"
    (folder / "sheet.csv").write_text(
        f"subject,images,truth,dose{{mg}}\nS0001,{images}/dicom,{images}/truth.nii.gz,5\n"
    )
    (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


@pytest.fixture(scope="session")
def rules(study):
    """What each rule that runs a command says, by its name."""
    return loaded_rules(study)


@pytest.fixture(scope="session")
def planned(study):
    """The words of the commands, without the redirection, that a dry run of all targets prints."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile"]
    command += ["--configfile", "study.yaml", "--dry-run", "--printshellcmds", "--", *TARGETS]
    done = subprocess.run(command, cwd=study, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    mark = "python -m paravert "
    lines = [line.partition(mark)[2] for line in done.stdout.splitlines() if mark in line]
    return [shlex.split(line.partition(" 2> ")[0]) for line in lines]
