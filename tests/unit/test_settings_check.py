from pathlib import Path

import pytest
import yaml

from paravert.configuration import PATTERNS, SCHEMA, check_configuration, check_files
from paravert.errors import InputError

SHIPPED = Path(__file__).parents[2] / "config/config.yaml"


@pytest.fixture
def settings():
    return yaml.safe_load(SHIPPED.read_text())


def put(settings, setting, value):
    """Give a setting, named with dots, a value, and return it."""
    *sections, key = setting.split(".")
    for section in sections:
        settings = settings[section]
    settings[key] = value
    return value


def fault(settings):
    with pytest.raises(InputError) as caught:
        check_configuration(settings)
    return str(caught.value)


def test_the_shipped_configuration_has_no_fault(settings):
    check_configuration(settings)


@pytest.mark.parametrize("told", ["1e-3", "1.0e3"])
def test_a_number_that_yaml_takes_for_text_is_told(settings, told):
    put(settings, "train_network.learning_rate", yaml.safe_load(told))
    assert "a finite number, which YAML reads with point and sign: 1.0e-3" in fault(settings)


def test_every_fault_is_told_at_once(settings):
    settings["subject"] = "S0001"
    settings["segment_muscles"] |= {"device": "gpu", "fill_holes": 0}
    del settings["model"]["sha256"]
    with pytest.raises(InputError) as caught:
        check_configuration(settings)
    told = str(caught.value).splitlines()
    assert len(told) == 5
    assert "unknown setting subject, did you mean subjects?" in str(caught.value)
    assert "segment_muscles.device is 'gpu', expected auto, cpu or cuda: " in str(caught.value)
    assert "segment_muscles.fill_holes is 0, expected true or false" in str(caught.value)
    assert "no setting model.sha256" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("model.sha256", "1ca9", "64 hexadecimal digits"),
        ("find_levels.sha256", "1ca9", "64 hexadecimal digits"),
        ("sex_codes", {1: "X"}, "F or M"),
        ("export", ["csv", "csv"], "each entry once"),
        ("max_quarantined_fraction", 1.5, "at most 1"),
        ("subjects_per_shard", 0, "at least 1"),
        ("train_network.learning_rate", 0, "more than 0"),
        ("pretrain_network.average", 1, "less than 1"),
        ("train_network.name", "a b", "letters, digits, _ and -, the first a letter or digit"),
        ("sheet", "", "text without tabs and line breaks"),
        ("subjects", 1.5, "text or a whole number"),
    ],
)
def test_what_is_expected_is_told_in_words(settings, setting, value, expected):
    put(settings, setting, value)
    assert f", expected {expected}" in fault(settings)


def test_every_pattern_of_the_schema_has_words():
    def patterns(schema):
        if isinstance(schema, dict):
            yield from filter(lambda value: isinstance(value, str), [schema.get("pattern")])
            for below in schema.values():
                yield from patterns(below)

    assert set(patterns(yaml.safe_load(SCHEMA.read_text()))) == PATTERNS.keys()


def test_a_subject_may_be_named_by_a_number(settings):
    check_configuration(settings | {"subjects": 12})


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "setting",
    [
        "max_quarantined_fraction",
        "segment_muscles.neighbours_mm",
        "train_network.learning_rate",
        "train_network.minutes",
        "seed",
    ],
)
def test_a_number_that_is_none_or_infinite_is_told(settings, setting, value):
    found = put(settings, setting, yaml.safe_load(value))
    kind = "a whole number" if setting == "seed" else "a finite number"
    assert f"{setting} is {found!r}, expected {kind}" in fault(settings)


def test_no_number_of_the_schema_takes_nan(settings):
    schema = yaml.safe_load(
        (SHIPPED.parents[1] / "workflow/schemas/config.schema.yaml").read_text()
    )
    for section, below in schema["properties"].items():
        for key, value in below.get("properties", {}).items():
            if value.get("type") in ("number", "integer"):
                changed = settings | {section: settings[section] | {key: float("nan")}}
                assert f"{section}.{key} is nan" in fault(changed)


def test_a_whole_number_is_written_as_one(settings):
    put(settings, "subjects_per_shard", 64.0)
    put(settings, "write_tables.bootstrap_samples", True)
    told = fault(settings)
    assert "subjects_per_shard is 64.0, expected a whole number" in told
    assert "write_tables.bootstrap_samples is True, expected a whole number" in told


@pytest.mark.parametrize("section", ["convert_dicom", "model", "train_network", "sheet"])
def test_what_is_left_empty_is_told_in_one_sentence(settings, section):
    put(settings, section, None)
    kind = "text" if section == "sheet" else "settings below it"
    told = fault(settings)
    assert f"\n  {section} is empty, expected {kind}" in told
    assert len(told.splitlines()) == 2


@pytest.mark.parametrize("setting", ["sheet", "model.file"])
def test_a_file_without_a_name_is_told(settings, setting):
    put(settings, setting, "")
    assert f"{setting} is empty, expected" in fault(settings)


@pytest.mark.parametrize("setting", ["model.sha256", "train_network.name", "pretrain_network.name"])
def test_a_name_does_not_end_with_a_line_break(settings, setting):
    section, key = setting.split(".")
    put(settings, setting, settings[section][key] + "\n")
    assert f"{setting} is " in fault(settings)


@pytest.mark.parametrize(
    "setting", ["sheet", "model.file", "train_network.start_from", "pretrain_network.start_from"]
)
@pytest.mark.parametrize("text", ["a\nb", "a\n", "\ta"])
def test_a_path_holds_no_line_break_or_tab(settings, setting, text):
    put(settings, setting, text)
    assert f"{setting} is {text!r}" in fault(settings)


def test_a_control_character_is_told_wherever_it_stands(settings):
    put(settings, "train_network.trained_on", "T2 images\nof 10 patients\n")
    check_configuration(settings)
    put(settings, "train_network.trained_on", "T2\0")
    put(settings, "convert_dicom.series_description", ["t1", "t2\x0b"])
    told = fault(settings)
    assert "train_network.trained_on holds the control character U+0000, expected text" in told
    assert "convert_dicom.series_description.1 holds the control character U+000B" in told


def test_a_key_that_is_no_text_is_unknown(settings):
    assert "unknown setting 5, " in fault(settings | {5: 1})
    put(settings, "train_network", settings["train_network"] | {True: 1})
    assert "unknown setting train_network.True, " in fault(settings)


# --- the files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\nsheet: a\nseed: 2\n", "seed stands there twice (lines 1 and 3), expected once"),
        ("model: {file: a, file: b}", "model.file stands there twice (lines 1 and 1)"),
        ('{"seed": 1,\n\t"seed": 2}', "seed stands there twice (lines 1 and 2)"),
        ("train_network:\n  seed: 1\ntrain_network:\n  width: 8\n", "train_network stands there"),
        ("a: 1\na: 2\na: 3", "(lines 1 and 2); a stands there twice (lines 1 and 3)"),
    ],
)
def test_a_key_that_stands_twice_in_a_file_is_told_with_its_lines(tmp_path, text, told):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        check_files([SHIPPED, file])
    assert str(caught.value).startswith(f"{file}: ")
    assert told in str(caught.value)


def test_the_same_key_in_two_sections_or_files_is_not_twice(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("train_network: &a\n  seed: 1\npretrain_network: *a\nmodel:\n  seed: 1\n")
    check_files([file, file, *SHIPPED.parent.glob("*.yaml")])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty file, expected settings"),
        (b"# sheet: a", "an empty file, expected settings"),
        (b"- a\n- b\n", "a list or a single value, expected settings"),
        (b"sheet", "a list or a single value, expected settings"),
        (b"seed: \xff", "not UTF-8, expected a configuration"),
        (b"seed: \x01", "no text, expected a configuration"),
        ("seed: 1".encode("utf-16"), "not UTF-8, expected a configuration"),
        ("seed: 1".encode("utf-16-le"), "no text, expected a configuration"),
        (b"a: 1\nb: [1\n", "line 3: "),
        (b"a: 1\n b: 2\n", "line 2: mapping values are not allowed here, expected YAML"),
        (b"[" * 100_000, "no text"),
    ],
)
def test_a_file_that_is_no_configuration_is_told_in_one_sentence(tmp_path, content, told):
    file = tmp_path / "own.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        check_files([file])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_a_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="may not be read"):
        check_files([tmp_path])
