"""Rules, commands and functions are one thing under one name."""

import ast
import errno
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
import yaml

from paravert.__main__ import COMMANDS, application, main
from paravert.errors import InputError
from paravert.network.settings import read_section
from paravert.steps import STEPS, VERSIONS

REPOSITORY = Path(__file__).parents[2]
WITHOUT_RULE = {
    "make_sheet",
    "calibrate_network",
    "write_dictionary",
    "apply_centiles",
    "compare_labels",
}


def function_of(command):
    return getattr(importlib.import_module(f"paravert.{COMMANDS[command]}"), command)


def test_every_rule_is_a_command_and_every_command_a_rule(rules):
    assert set(rules) == set(COMMANDS) - WITHOUT_RULE


def test_a_rule_calls_the_command_of_its_name(rules):
    for name, rule in rules.items():
        (called,) = re.findall(r"python -m paravert (\S+)", rule["shell"])
        assert called in (name, "{params.command}")


def test_the_planned_commands_are_those_of_the_rules(planned):
    assert {words[0] for words in planned} == set(COMMANDS) - WITHOUT_RULE


def test_a_rule_passes_options_that_the_command_accepts(planned):
    for name, *options in planned:
        command = typer.main.get_command(application(name))
        with command.make_context(name, options) as context:
            assert context.params


def test_no_command_names_the_tables_of_all_shards(planned):
    """Linux limits a command that Snakemake passes to bash to 128 KiB: some 2,700 tables."""
    (words,) = (" ".join(options) for name, *options in planned if name == "train_network")
    assert "results/shards" in words
    assert "convert.parquet" not in words


def test_words_in_braces_reach_the_commands(planned):
    words = {name: " ".join(options) for name, *options in planned}
    assert "T2 of {site}" in words["train_network"]
    assert "--covariates dose{mg}" in words["fit_models"]
    for name in ("write_report", "write_review"):
        assert "--study-name Back {pain}" in words[name]


@pytest.mark.parametrize("command", ["train_network", "pretrain_network"])
def test_a_training_takes_its_whole_section_and_tells_each_key_in_its_help(command, capsys):
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
    section = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())[command]
    keys = schema["properties"][command]["properties"]
    assert read_section(command, json.dumps(section)) == section
    assert read_section(command, str(REPOSITORY / "config/config.yaml")) == section
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = capsys.readouterr().out
    for key in keys:
        assert f"{key}: " in told
        lacking = {name: value for name, value in section.items() if name != key}
        with pytest.raises(InputError, match=f"no setting {command}.{key}, expected one"):
            read_section(command, json.dumps(lacking))
    assert "seed" not in inspect.signature(function_of(command)).parameters


def test_a_rule_says_what_it_needs(rules):
    for name, rule in rules.items():
        assert rule["log"], name
        assert rule["shell"].endswith(("2> {log}", "2> >(tee {log} >&2)")), name
        assert rule["message"], name
        for first, second in rule["needs"].values():
            assert second == 2 * first > 0 or name == "accept_ledger", name
        assert rule["version"] == VERSIONS[name], name


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_is_typed_and_explained(command):
    function = function_of(command)
    assert function.__doc__
    assert len(function.__doc__.splitlines()[0]) <= 90
    for name, annotation in get_type_hints(function, include_extras=True).items():
        if name != "return":
            options = [a for a in get_args(annotation) if isinstance(a, typer.models.ParameterInfo)]
            assert options, f"{command} {name} has no typer.Option or typer.Argument"
            assert options[0].help, f"{command} {name} is not explained"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("make_phantoms --out a --seed 1 --volunteers 0", "--volunteers"),
        ("make_phantoms --out a --seed 1 --workers 0", "--workers"),
        ("make_phantoms --out a --seed -1", "--seed"),
        ("draw_anatomies --out a --workers 0", "--workers"),
        ("make_sheet a --out b --workers -1", "--workers"),
    ],
)
def test_a_number_out_of_range_is_told_without_a_traceback(words, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert f"'{option}'" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_number_has_a_least_value(command):
    for name, annotation in get_type_hints(function_of(command), include_extras=True).items():
        told = [a for a in get_args(annotation) if isinstance(a, typer.models.ParameterInfo)]
        if told and {int, float} & {get_args(annotation)[0], *get_args(get_args(annotation)[0])}:
            assert told[0].min is not None, f"{command} {name}"
            if name in ("workers", "threads") and not told[0].min:
                assert "0: " in told[0].help, f"{command} does not tell what 0 {name} are"


def test_a_folder_that_is_closed_to_the_user_is_told_without_a_traceback(monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "out/sheet")

    monkeypatch.setattr("paravert.__main__._run", refuse)
    assert main(["draw_anatomies"]) == 1
    assert capsys.readouterr().err == "paravert draw_anatomies: Permission denied (out/sheet)\n"


WITHOUT_INPUT = {"make_phantoms", "draw_anatomies", "train_levels", "write_dictionary"}
WORDS = {"--subject": "S1", "--model-sha256": "0", "--fat-fraction": "linear", "--formats": "csv"}


def words_of(command, path):
    """Yield the words of a command with all options that are required, the inputs at one path."""
    for option in typer.main.get_command(application(command)).params:
        if option.required:
            name = option.opts[0]
            yield from [name] if name.startswith("--") else []
            yield WORDS.get(name, str(path.parent / "out" if name == "--out" else path))


def exit_code(words):
    """Return the exit code of a command; exceptions that it leaves uncaught are raised."""
    try:
        return main(words)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("where", ["nowhere", "file", "folder"])
@pytest.mark.parametrize("command", sorted(set(COMMANDS) - WITHOUT_INPUT))
def test_an_input_that_is_not_there_or_empty_is_told_without_a_traceback(
    command, where, tmp_path, capsys
):
    if (command, where) == ("make_sheet", "folder"):
        pytest.skip("an archive without images has a sheet without rows")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert exit_code([command, *words_of(command, tmp_path / where)]) in (1, 2)
    assert f"{tmp_path / where}" in capsys.readouterr().err


def test_validation_slices_that_are_not_there_are_told_without_a_traceback(tmp_path, capsys):
    model, wrong = REPOSITORY / "models/synthetic.safetensors", tmp_path / "nowhere.parquet"
    words = ["calibrate_network", "--model", model, "--validation", wrong, "--out", tmp_path / "m"]
    assert exit_code([str(word) for word in words]) == 2
    assert "nowhere.parquet: not a table of draw_anatomies" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["{}", "./{}", "{}/", "--out={}"])
@pytest.mark.parametrize("out", ["folder", "file/dictionary.md"])
def test_a_path_is_told_in_each_form_in_which_it_is_given(word, out, tmp_path, monkeypatch, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    words = [word.format(out)] if word.startswith("--") else ["--out", word.format(out)]
    assert exit_code(["write_dictionary", *words]) in (1, 2)
    assert out.partition("/")[0] in capsys.readouterr().err


def test_a_missing_file_that_nobody_named_is_a_bug_of_ours(monkeypatch):
    def fail(*words):
        raise FileNotFoundError(errno.ENOENT, "No such file", "elsewhere")

    monkeypatch.setattr("paravert.__main__._run", fail)
    with pytest.raises(FileNotFoundError):
        main(["write_dictionary", "--out", "here"])


def test_a_full_disk_is_told_once(monkeypatch, capsys):
    def fail(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("paravert.__main__._run", fail)
    assert main(["write_dictionary", "--out", "here"]) == 1
    assert capsys.readouterr().err == "paravert write_dictionary: No space left on device\n"


@pytest.mark.parametrize(
    "command", ["pretrain_network", "train_network", "train_levels", "train_axial_levels"]
)
def test_a_training_whose_model_to_write_is_a_folder_does_not_begin(command, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert exit_code([command, *words_of(command, tmp_path / "nowhere")]) == 2
    assert "Invalid value for '--out'" in capsys.readouterr().err


def test_the_overview_names_every_command(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(command in told for command in COMMANDS)


def test_an_unknown_command_is_told_without_a_traceback(capsys):
    assert main(["measure"]) == 2
    assert "no command 'measure'" in capsys.readouterr().err


def test_shard_steps_are_commands_of_the_modules_that_the_shards_name():
    for step in STEPS.values():
        assert COMMANDS[step.name] == step.module


def modules():
    return sorted((REPOSITORY / "workflow/paravert").rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_rooms_keep_to_their_libraries_and_to_the_flow_of_data(path):
    room = path.parent.relative_to(REPOSITORY / "workflow/paravert").parts
    room = room[0] if room else ""
    order = ["synthesis", "imaging", "archive", "network", "measure", "study"]
    for name in imports(path):
        top = name.split(".")[0]
        assert top != "torch" or room == "network"
        assert top != "pandas" or room == "study"
        if top == "paravert" and room in order and len(name.split(".")) > 1:
            other = name.split(".")[1]
            if other in order:
                assert order.index(other) <= order.index(room), f"{path}: {name}"
                assert room not in ("imaging", "archive") or other != "synthesis"


HEAVY = {"pandas", "torch", "scipy.optimize", "scipy.stats", "matplotlib.pyplot"}


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_a_job_of_a_shard_starts_without_heavy_libraries(step):
    needed = {"torch"} if step.name == "segment_muscles" else set()
    assert not HEAVY & imported_by(step.module) - needed


def imported_by(*modules):
    """Return the names of all modules that a process has after importing some of paravert."""
    names = ", ".join(f"paravert.{module}" for module in modules)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    words = [sys.executable, "-c", f"import sys, {names}; print(*sys.modules)"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_commands_over_the_cohort_that_fit_no_model_start_without_statsmodels():
    commands = ("gather_cohort", "fit_centiles", "apply_centiles", "write_review", "export_tables")
    assert "statsmodels" not in imported_by(*(COMMANDS[command] for command in commands))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_no_module_prints_exits_or_swallows_faults(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit")
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("Exception", "BaseException", "everything"), f"line {node.lineno}"
