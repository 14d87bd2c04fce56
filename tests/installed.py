"""The package as pip installs it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "workflow", "config", "models")


def source_of_the_package(folder: Path) -> Path:
    """Copy what the package is built from into a folder, since a build writes there, and return it."""
    for part in BUILT_FROM:
        if (REPOSITORY / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(REPOSITORY / part, folder / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / part, folder)
    return folder


def install(home: Path, source: Path) -> Path:
    """Make a virtual environment, let pip install paravert there, and return its Python.

    The other packages are not installed again: the environment sees those of this Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    packages = home / f"lib/python{sysconfig.get_python_version()}/site-packages"
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    command = [home / "bin/python", "-P", "-m", "pip", *words, source]
    subprocess.run(command, check=True, env=plain_environment())
    return home / "bin/python"


def plain_environment() -> dict[str, str]:
    """Return the environment variables without the folder of the repository's package."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
