"""The rules as Snakemake reads them, and the commands that it plans, on a sheet of one phantom."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {"sheet": "sheet.csv", "convert_dicom": {"series_description": ["t2", "T2 tse"]}}
TARGETS = ("all", "all_dicomseg", "train_network", "pretrain_network")
# A process of its own: reading the rules changes the environment and the working directory.
READ_RULES = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from snakemake.api import ConfigSettings, OutputSettings, ResourceSettings, SnakemakeApi

def needs(rule):
    # in the first and in the second attempt, for the shard of the sheet
    shard = SimpleNamespace(shard="0", part="training")
    asked = {"mem_mb": [], "runtime": []}
    for attempt in (1, 2):
        for name, values in asked.items():
            resource = rule.resources[name]
            values.append(resource.evaluate(wildcards=shard, threads=2, attempt=attempt).value)
    return asked

snakefile, configuration = map(Path, sys.argv[1:])
with SnakemakeApi(OutputSettings()) as api:
    settings = ConfigSettings(configfiles=[configuration])
    loaded = api.workflow(ResourceSettings(cores=1), config_settings=settings, snakefile=snakefile)
    rules = {
        rule.name: {
            "shell": rule.shellcmd,
            "log": bool(rule.log),
            "benchmark": bool(rule.benchmark),
            "conda": str(rule.conda_env),
            "message": rule.message,
            "needs": needs(rule),
            "retries": rule._restart_times,
            "version": rule.params.get("version"),
        }
        for rule in loaded._workflow.rules
        if rule.shellcmd
    }
print(json.dumps(rules))
"""


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A folder with a sheet of one phantom volunteer, of whom nothing was made yet."""
    folder = tmp_path_factory.mktemp("study")
    images = "results/phantoms/S0001"
    (folder / "sheet.csv").write_text(
        f"subject,images,truth\nS0001,{images}/dicom,{images}/truth.nii.gz\n"
    )
    (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


def run(folder, *words):
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def rules(study):
    """What each rule that runs a command says, by its name."""
    return json.loads(run(study, "-c", READ_RULES, REPOSITORY / "Snakefile", "study.yaml"))


@pytest.fixture(scope="session")
def planned(study):
    """The words of the commands, without the redirection, that a dry run of all targets prints."""
    words = ("--snakefile", REPOSITORY / "Snakefile", "--configfile", "study.yaml", "--dry-run")
    told = run(study, "-m", "snakemake", *words, "--printshellcmds", "--", *TARGETS)
    mark = "python -m paravert "
    lines = [line.partition(mark)[2] for line in told.splitlines() if mark in line]
    return [shlex.split(line.partition(" 2> ")[0]) for line in lines]
