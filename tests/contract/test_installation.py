"""What `pip install` gives: a package that works without the repository."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import paravert
from installed import install, plain_environment, source_of_the_package

REPOSITORY = Path(__file__).parents[2]
DATA = """
import sys
from pathlib import Path
import paravert
from paravert.configuration import check_configuration
from paravert.sheet import read_sheet
from paravert.study import report
import yaml
assert Path(paravert.__file__).is_relative_to(sys.argv[1]), paravert.__file__
check_configuration(yaml.safe_load(Path(sys.argv[2]).read_text()))
print(read_sheet(Path(sys.argv[3])).rows[0]["subject"])
print(*sorted(path.name for path in report.TEMPLATES.iterdir()))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return source_of_the_package(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory, source):
    return install(tmp_path_factory.mktemp("environment"), source).parents[1]


def run(*words, folder):
    done = subprocess.run(
        words, cwd=folder, env=plain_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_console_script_and_the_module_are_the_same_program(environment, tmp_path):
    script = run(environment / "bin/paravert", "--help", folder=tmp_path)
    module = run(environment / "bin/python", "-m", "paravert", "--help", folder=tmp_path)
    assert script == module
    assert "convert_dicom" in script


def test_a_command_of_the_installed_package_works(environment, tmp_path):
    out = tmp_path / "a new folder/README.md"
    run(environment / "bin/paravert", "write_dictionary", "--out", out, folder=tmp_path)
    assert out.read_text() == (REPOSITORY / "results/README.md").read_text()


def test_the_installed_package_holds_its_schemas_and_templates(environment, tmp_path):
    files = (REPOSITORY / "config/config.yaml", REPOSITORY / "config/subjects.tsv")
    told = run(environment / "bin/python", "-c", DATA, environment, *files, folder=tmp_path)
    subject, *templates = told.split()
    assert subject
    assert templates == sorted(path.name for path in (REPOSITORY / "workflow/report").iterdir())


def test_a_wheel_holds_every_module_and_data_file(source, tmp_path):
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    run(sys.executable, "-P", *words, tmp_path, source, folder=tmp_path)
    (wheel,) = tmp_path.glob(f"paravert-{paravert.__version__}-*.whl")
    package = REPOSITORY / "workflow/paravert"
    expected = {
        str(path.relative_to(package.parent))
        for pattern in ("**/*.py", "schemas/*", "report/*", "config/config.yaml", "models/*.json")
        for path in package.glob(pattern)
    }
    assert expected <= set(zipfile.ZipFile(wheel).namelist())
