"""config.yaml, its schema, the rules that read it and the manual say the same."""

from pathlib import Path

import jsonschema
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
RULE_TEXT = "".join(file.read_text() for file in (REPOSITORY / "workflow/rules").glob("*.smk"))


def keys(properties, prefix=()):
    for name, value in properties.items():
        if "properties" in value:
            yield from keys(value["properties"], (*prefix, name))
        else:
            yield (*prefix, name), value


KEYS = dict(keys(SCHEMA["properties"]))


def settings(mapping, prefix=()):
    for name, value in mapping.items():
        if isinstance(value, dict) and value:
            yield from settings(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def config(name):
    return yaml.safe_load((REPOSITORY / "config" / name).read_text())


def test_the_default_configuration_names_every_key_with_its_default():
    written = dict(settings(config("config.yaml")))
    assert set(written) == set(KEYS)
    for key, value in KEYS.items():
        if "default" in value and key[0] != "make_phantoms":
            assert written[key] == value["default"], key


@pytest.mark.parametrize(
    "name", sorted(file.name for file in (REPOSITORY / "config").glob("*.yaml"))
)
def test_shipped_configurations_fit_the_schema(name):
    merged = config("config.yaml")
    for key, value in config(name).items():
        if key == "pathvars":  # Snakemake's own
            continue
        merged[key] = {**merged[key], **value} if isinstance(value, dict) else value
    jsonschema.validate(merged, SCHEMA)


def test_every_key_is_described_and_every_object_closed():
    assert all(value.get("description") for value in KEYS.values())
    objects = [SCHEMA, *(v for v in SCHEMA["properties"].values() if "properties" in v)]
    assert all(value["additionalProperties"] is False for value in objects)


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_key_is_read(key):
    section = f'config["{key[0]}"]'
    whole = section + "".join(f'["{name}"]' for name in key[1:])
    in_whole_section = f'training_settings("{key[0]}")' in RULE_TEXT
    # gather_cohort reads them from the resolved configuration: see test_study_flags.py
    assert whole in RULE_TEXT or in_whole_section or key[0] == "flags"


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_every_key_is_in_the_manual(key):
    assert f"`{'.'.join(key)}`" in (REPOSITORY / "config/README.md").read_text()


def test_the_data_dictionary_is_in_step_with_the_tables():
    from paravert.codebook import dictionary

    assert (REPOSITORY / "results/README.md").read_text() == dictionary()
