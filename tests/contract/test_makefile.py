"""Targets of the Makefile that change files: what they change, and what they leave."""

import shutil
import subprocess
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
KINDS = ("safetensors", "json", "curve.csv", "curve.png", "reliability.csv", "reliability.png")
PINNED = [f"synthetic.{kind}" for kind in KINDS]


def make(target, folder):
    words = ["make", "-s", "-f", REPOSITORY / "Makefile", target]
    subprocess.run(words, cwd=folder, check=True)


def put(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"new {name}")


def test_a_trained_model_is_pinned_and_the_other_networks_keep_their_hashes(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    (tmp_path / "models").mkdir()
    put(tmp_path / "results/models", *PINNED)
    model = {"file": "results/models/synthetic.safetensors", "sha256": "0123456789abcdef" * 4}
    (tmp_path / "results/models/synthetic.yaml").write_text(yaml.safe_dump({"model": model}))
    make("pin-model", tmp_path)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(PINNED)
    shipped, pinned = (
        yaml.safe_load((folder / "config/config.yaml").read_text())
        for folder in (REPOSITORY, tmp_path)
    )
    shipped["model"]["sha256"] = model["sha256"]
    assert pinned == shipped


def test_clean_deletes_all_results_but_trained_models(tmp_path):
    kept = ["README.md", "models/own.safetensors", "visits/models/own.safetensors"]
    put(tmp_path / "scratch", *kept, "report.html", "subjects/models/status.json", "visits/a/b")
    put(tmp_path / "scratch", "phantoms/S0001/made.json", "visits/README.txt", ".hidden")
    (tmp_path / "results").symlink_to("scratch")
    put(tmp_path, ".snakemake/log")
    make("clean", tmp_path)
    left = (path for path in (tmp_path / "scratch").rglob("*") if path.is_file())
    assert sorted(str(path.relative_to(tmp_path / "scratch")) for path in left) == sorted(kept)
    assert not (tmp_path / ".snakemake").exists()


def test_clean_does_without_results_of_visits(tmp_path):
    put(tmp_path / "results", "README.md", "report.html")
    make("clean", tmp_path)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["README.md"]
