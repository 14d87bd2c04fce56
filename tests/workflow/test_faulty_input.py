"""Input at fault stops a run before it starts: plain sentences, no traceback, no place in the code."""

import json
import re

import pytest
import yaml

from made_from import CONFIGURATION
from paravert.provenance import file_sha256
from studies import MODEL, Study, copy_of_the_workflow

pytestmark = pytest.mark.workflow

LEVELS = CONFIGURATION["find_levels"]


@pytest.fixture(scope="module")
def workflow_copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    copy_of_the_workflow(folder)
    return folder


@pytest.fixture
def study(workflow_copy):
    study = Study(workflow_copy)
    study.add("S1", workflow_copy / "images", sex="F")
    return study


def told_by(study, *arguments):
    """Return what a run says that ends before it starts."""
    done = study.run("--dry-run", *arguments)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert "Job stats" not in told
    assert not re.search(r"Traceback|in file |File |line \d+, in |\.py|\.smk|Snakefile", told), told
    return told.partition("FaultyInput:\n")[2]


SETTINGS = {
    "nan": ("max_quarantined_fraction: .nan", "max_quarantined_fraction is nan, expected a finite"),
    "inf": ("train_network: {minutes: .inf}", "train_network.minutes is inf, expected a finite"),
    "twice": ("seed: 1\nseed: 2", "seed stands there twice (lines 2 and 3), expected once"),
    "empty section": ("convert_dicom:", "convert_dicom is empty, expected settings below it"),
    "list": ("convert_dicom: [a]", "convert_dicom is ['a'], expected settings below it"),
    "name": ('train_network: {name: "own\\n"}', "train_network.name is 'own\\n', expected"),
    "pattern": ("convert_dicom: {series_description: ['(']}", "'(' is no regular expression"),
    "start": ("train_network: {start_from: none}", "train_network.start_from: none: no such file"),
    "no sheet": ("sheet:", "sheet is empty, expected text"),
    "empty sheet": ('sheet: ""', "sheet is empty, expected"),
    "folder": ("sheet: models", "models: a folder, expected the subject sheet"),
    "absent": ("sheet: none.csv", "none.csv: no such file in "),
    "binary": (f"sheet: {MODEL['file']}", f"{MODEL['file']}: a binary file, expected text"),
    "whom": ("subjects: S9", "subjects: S9 is not in sheet.tsv, nearest to S9: S1"),
    "kind": (
        f"find_levels: {{model: {MODEL['file']}, sha256: {MODEL['sha256']}}}",
        f"{MODEL['file']}: not a model that finds discs in sagittal slices",
    ),
    "segmentation": (
        f"model: {{file: {LEVELS['axial_model']}, sha256: {LEVELS['axial_sha256']}}}",
        f"{LEVELS['axial_model']}: not a segmentation model of paravert",
    ),
    "braces, ratings": (
        "review: {ratings: ['{A} 1.csv']}",
        "{A} 1.csv: a word in braces, or a name such as <results>, which Snakemake replaces; rename",
    ),
    "braces, model": (
        "train_network: {start_from: 'models/{A} 1.csv'}",
        "models/{A} 1.csv: a word in braces, or a name such as <results>, which Snakemake replaces;",
    ),
    "no, name": (
        "columns: {no: Number}",
        "columns.False is true or false, expected a name in quotes",
    ),
    "no, value": (
        "fit_models: {covariates: [no]}",
        "fit_models.covariates.0 is False, expected text in quotes, as YAML reads yes, no, on",
    ),
    "results, blank": (
        "pathvars: {results: my results}",
        "pathvars.results is 'my results', expected",
    ),
    "results, slash": ("pathvars: {results: out/}", "pathvars.results is 'out/', expected a path"),
    "results, dot": ("pathvars: {results: ./out}", "pathvars.results is './out', expected a path"),
    "another SHA-256": (f"find_levels: {{sha256: '{64 * '0'}'}}", "(setting find_levels.sha256); "),
}


@pytest.mark.parametrize(("text", "sentence"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_at_fault_is_told(study, text, sentence):
    file = study.folder / "own.yaml"
    sheet = "" if "sheet:" in text else "sheet: sheet.tsv\n"
    file.write_text(f"{sheet or '# own'}\n{text}\n".replace("\n\n", "\n"))
    (study.folder / "{A} 1.csv").touch()
    assert sentence in told_by(study, "--configfile", "own.yaml", "--", "train_network")


def test_a_model_for_levels_that_is_empty_needs_no_empty_sha256(study):
    (study.folder / "own.yaml").write_text("sheet: sheet.tsv\nfind_levels: {model: ''}\n")
    done = study.run("--dry-run", "--printshellcmds", "--configfile", "own.yaml")
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert LEVELS["axial_sha256"] in told
    assert LEVELS["sha256"] not in told


def test_a_selected_name_that_looks_like_a_number_is_taken_as_it_is_written(study):
    study.rows = []
    for subject, visit in (("1", "2"), ("12", "1"), ("007", "1")):
        study.add(subject, study.folder / "images", visit=visit)
    for own, arguments, scan in (
        ("", ["subjects=1_2"], "1_2"),
        ("", ["subjects=007", "seed=2"], "007_1"),
        ("subjects: 12", ["subjects=1_2"], "1_2"),
        ("subjects: 1_2 # second visit", ["seed=2"], "1_2"),
    ):
        (study.folder / "own.yaml").write_text(f"sheet: sheet.tsv\n{own}\n")
        files = ["--configfile", "own.yaml", "--config", *arguments]
        done = study.run("--dry-run", "--printshellcmds", *files)
        told = done.stdout + done.stderr
        assert set(re.findall(r"--subject (\S+)", told)) == {scan}, told


FILES = {
    "binary": (b"\x89PNG\xff", "not UTF-8, expected a configuration (YAML)"),
    "empty": (b"", "an empty file, expected settings"),
    "list": (b"[1]", "a list or a single value, expected settings"),
    "no YAML": (b"a: [1", "line 1: expected ',' or ']'"),
    "twice": (b"seed: 1\nseed: 2", "seed stands there twice (lines 1 and 2)"),
}


@pytest.mark.parametrize(("content", "sentence"), FILES.values(), ids=FILES)
def test_the_shipped_configuration_edited_until_it_is_none_is_told(study, content, sentence):
    file = study.folder / "config/config.yaml"
    shipped = file.read_bytes()
    file.write_bytes(content)
    try:
        assert f"config/config.yaml: {sentence}" in told_by(study)
    finally:
        file.write_bytes(shipped)


def test_the_faults_of_a_sheet_are_told_with_their_lines(study):
    study.rows[0]["sex"] = "X"
    study.add("S2", "a\x0bb")
    told = told_by(study)
    assert "sheet.tsv: 2 faults in the subject sheet:" in told
    assert "line 2, sex: 'X', expected F or M" in told
    assert "line 3, images: the control character U+000B, expected text" in told


CARDS = {
    "list": ("[]", "no JSON object, expected a model's card"),
    "object": ("{}", "a model's card without its settings"),
    "no JSON": ("{", "no JSON, expected a model's card"),
    "absent": (None, "no such file, expected the card beside the model"),
}


@pytest.fixture
def model(study):
    """A copy of the shipped model, which the study is to use."""
    path = study.folder / "own/model.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((study.folder / MODEL["file"]).read_bytes())
    path.with_suffix(".json").write_bytes(
        (study.folder / MODEL["file"]).with_suffix(".json").read_bytes()
    )
    study.settings["model"] = {"file": "own/model.safetensors", "sha256": MODEL["sha256"]}
    return path


@pytest.mark.parametrize(("card", "sentence"), CARDS.values(), ids=CARDS)
def test_a_card_at_fault_is_told_before_anybody_is_converted(study, model, card, sentence):
    model.with_suffix(".json").unlink()
    if card is not None:
        model.with_suffix(".json").write_text(card)
    assert f"own/model.json: {sentence}" in told_by(study)


def test_a_model_of_an_impossible_width_is_told(study, model):
    content = model.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    settings = json.loads(header["__metadata__"]["paravert"])
    settings["architecture"]["width"] = 10**12
    header["__metadata__"]["paravert"] = json.dumps(settings)
    written = json.dumps(header).encode()
    model.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])
    study.settings["model"]["sha256"] = file_sha256(model)
    assert "weights that are not of its architecture" in told_by(study)


def test_the_split_beside_a_model_is_read_before_anybody_is_converted(study, model):
    model.with_suffix(".split.csv").write_text("who\nS1\n")
    try:
        assert "own/model.split.csv: columns ['who'], expected" in told_by(study)
    finally:
        model.with_suffix(".split.csv").unlink()


def test_what_is_whole_is_planned(study, model):
    (study.folder / "own.yaml").write_text(yaml.safe_dump(study.settings))
    assert "convert_dicom" in study.planned("--configfile", "own.yaml")
