"""What is installed is what was locked: versions, and hashes of each file for every platform."""

import re
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
    asked = {name_of(line) for line in wanted("requirements.in")}
    assert asked - LOCKED.keys() == {"torch"}
    assert not [name for name in LOCKED if re.match("torch|triton|nvidia-|cuda-", name)]


def test_torch_has_one_version_everywhere():
    (torch,) = [line for line in wanted("requirements.in") if name_of(line) == "torch"]
    assert wanted("torch.txt") == [torch]
    assert wanted("cpu.post-deploy.sh") == [f"python -m pip install {torch}"]


def test_every_way_to_install_takes_the_lock_first_and_then_torch():
    for file in ("Makefile", "envs/Dockerfile"):
        text = (REPOSITORY / file).read_text()
        hashed = text.index("--require-hashes --requirement")
        assert hashed < text.index("/torch.txt", hashed)
    conda = yaml.safe_load((ENVS / "cpu.yaml").read_text())["dependencies"]
    assert {"pip": ["-r cpu.txt"]} in conda
    assert wanted("gpu.txt") == ["-r cpu.txt"]
