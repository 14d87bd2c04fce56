"""What is installed is what was locked: versions, and hashes of each file for every platform."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
ENVS = REPOSITORY / "envs"
HASH = r" --hash=sha256:[0-9a-f]{64}"
LOCKED = {
    re.split(r"==", line)[0].lower().replace("_", "-"): line
    for line in (ENVS / "cpu.txt").read_text().replace(" \\\n   ", "").splitlines()
    if not line.startswith("#")
}


def name_of(line):
    return re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")


def wanted(name):
    lines = (ENVS / name).read_text().splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


@pytest.mark.parametrize("name", LOCKED)
def test_every_locked_package_has_a_version_and_hashes(name):
    assert re.fullmatch(rf"[\w.-]+==[\w.]+({HASH})+", LOCKED[name])


@pytest.mark.parametrize("name", ["numpy", "scipy", "pyarrow", "python-gdcm", "safetensors"])
def test_compiled_packages_have_hashes_for_many_platforms(name):
    assert len(re.findall(HASH, LOCKED[name])) >= 10


def test_everything_that_is_asked_for_is_locked_and_torch_alone_stands_apart():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = {name_of(line) for line in project["dependencies"]}
    asked |= {name_of(line) for line in project["optional-dependencies"]["test"]}
    assert asked - LOCKED.keys() == {"torch"}
    assert not [name for name in LOCKED if re.match("torch|triton|nvidia-|cuda-", name)]


def test_the_makefile_installs_the_lock_first_and_then_torch():
    text = (REPOSITORY / "Makefile").read_text()
    hashed = text.index("--require-hashes --requirement envs/cpu.txt")
    assert hashed < text.index("--requirement envs/torch.txt", hashed)


# Snakemake copies the file of a conda environment alone, and makes the environment anew if its text
# changes: so it names each version itself.
def test_the_conda_environment_has_the_locked_versions_and_needs_no_file_beside_it():
    (torch,) = wanted("torch.txt")
    (packages,) = [
        entry["pip"]
        for entry in yaml.safe_load((ENVS / "cpu.yaml").read_text())["dependencies"]
        if isinstance(entry, dict)
    ]
    assert packages == [*(line.split()[0] for line in LOCKED.values()), torch]


def test_the_conda_file_follows_from_the_lock(tmp_path):
    shutil.copytree(ENVS, tmp_path / "envs")
    file = tmp_path / "envs/cpu.yaml"
    file.write_text(file.read_text().partition("      - ")[0])
    subprocess.run(
        ["make", "-s", "-f", REPOSITORY / "Makefile", "conda-file"], cwd=tmp_path, check=True
    )
    assert file.read_text() == (ENVS / "cpu.yaml").read_text()


def test_every_rule_has_the_conda_environment(rules):
    (file,) = {rule["conda"] for rule in rules.values()}
    assert (REPOSITORY / "workflow/rules" / file).resolve() == ENVS / "cpu.yaml"
