"""Model files and cards are read, or refused with a message, without torch."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import save_file

from paravert.errors import InputError
from paravert.network.architecture import (
    LEVELS_MOST,
    NORMALISATIONS,
    Architecture,
    weight_shapes,
)
from paravert.network.model_file import (
    Card,
    ModelSettings,
    check_card,
    check_model,
    check_sha256,
    read_card,
    read_settings,
)
from paravert.network.unet import UNet
from paravert.provenance import file_sha256

SMALL = Architecture(width=2, levels=3, dropout=0.0)
LINES = {"psoas_major": [[0.0, 0.5, 1.0], [0.0, 0.4, 0.9]]}
SETTINGS = {"format": 1, **asdict(ModelSettings(SMALL, 3.0, LINES))}
CARD = {
    "note": "Not real.",
    "trained_on": "wax",
    "weights_sha256": "0" * 64,
    "settings": {"architecture": asdict(SMALL), "size_px": 64},
}


def write_model(path, metadata, shapes=None):
    shapes = shapes or weight_shapes(SMALL)
    weights = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    save_file(weights, path, metadata)
    return path


def told_of(read, path, *more):
    """Return the sentence that a reader has for a file, which is one."""
    with pytest.raises(InputError) as caught:
        read(path, *more)
    assert str(caught.value).startswith(str(path.parent))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("levels", [2, 5])
def test_the_shapes_of_the_weights_are_those_of_the_network(normalisation, levels):
    architecture = Architecture(width=3, levels=levels, normalisation=normalisation)
    network = UNet(architecture).state_dict()
    assert weight_shapes(architecture) == {name: tuple(one.shape) for name, one in network.items()}


def test_a_whole_model_file_is_read(tmp_path):
    path = write_model(tmp_path / "a.safetensors", {"paravert": json.dumps(SETTINGS)})
    assert read_settings(path) == ModelSettings(SMALL, 3.0, LINES)
    check_model(path, file_sha256(path))


def with_architecture(**fields):
    return json.dumps(SETTINGS | {"architecture": asdict(SMALL) | fields})


METADATA = {
    "no JSON": ({"paravert": "{"}, "metadata that are no JSON"),
    "nested too deep": ({"paravert": "[" * 100_000}, "metadata that are no JSON"),
    "a list": ({"paravert": "[]"}, "format 'unknown'"),
    "null": ({"paravert": "null"}, "format 'unknown'"),
    "another format": ({"paravert": '{"format": 2}'}, "format 2, expected 1"),
    "nothing more": ({"paravert": '{"format": 1}'}, "spacing_mm None, expected 0.2 to 5.0"),
    "spacing text": ({"paravert": json.dumps(SETTINGS | {"spacing_mm": "3"})}, "spacing_mm '3'"),
    "spacing NaN": ({"paravert": json.dumps(SETTINGS | {"spacing_mm": np.nan})}, "spacing_mm nan"),
    "spacing tiny": ({"paravert": json.dumps(SETTINGS | {"spacing_mm": 1e-9})}, "spacing_mm 1e-09"),
    "no architecture": (
        {"paravert": json.dumps(SETTINGS | {"architecture": None})},
        "no whole architecture, expected width, levels, normalisation, dropout",
    ),
    "unknown field": ({"paravert": with_architecture(depth=3)}, "no whole architecture"),
    "width text": ({"paravert": with_architecture(width="2")}, "width '2', expected a whole"),
    "width true": ({"paravert": with_architecture(width=True)}, "width True, expected a whole"),
    "width 0": ({"paravert": with_architecture(width=0)}, "width 0 and 3 levels"),
    "width huge": (
        {"paravert": with_architecture(width=10**12)},
        "weights that are not of its architecture: decoder.0.convolutions.0.bias (4,), expected",
    ),
    "levels huge": ({"paravert": with_architecture(levels=10**9)}, f"2 to {LEVELS_MOST} levels"),
    "normalisation": (
        {"paravert": with_architecture(normalisation="batch")},
        "convolutions.1.bias absent, expected (4,)",
    ),
    "dropout NaN": ({"paravert": with_architecture(dropout=np.nan)}, "dropout nan, expected 0"),
    "dropout text": (
        {"paravert": with_architecture(dropout="0")},
        "dropout '0', expected a number",
    ),
    "calibration": (
        {"paravert": json.dumps(SETTINGS | {"calibration": [1]})},
        "an odd calibration, expected two rising lines",
    ),
}
LINES_AT_FAULT = [
    *(None, 1, [], [[], []], [[0.1]], [[0.1], [0.1, 0.2]], [[0.1, "b"], [0.1, 0.2]]),
    *([[0.3, 0.1], [0.1, 0.2]], [[0.1, 0.2], [0.1, np.nan]], [[0.1, 2.0], [0.1, 0.2]]),
]


@pytest.mark.parametrize(("metadata", "told"), METADATA.values(), ids=METADATA)
def test_odd_metadata_of_a_model_are_told_in_one_sentence(tmp_path, metadata, told):
    path = write_model(tmp_path / "a.safetensors", metadata)
    assert f"{path}: a model with " in told_of(read_settings, path)
    assert told in told_of(read_settings, path)


@pytest.mark.parametrize("metadata", [None, {"paravert-levels": "{}"}])
def test_a_model_of_another_program_or_network_is_told(tmp_path, metadata):
    path = write_model(tmp_path / "a.safetensors", metadata)
    assert told_of(read_settings, path) == f"{path}: not a segmentation model of paravert"


def test_another_sha256_is_told_with_its_setting(tmp_path):
    path = write_model(tmp_path / "a.safetensors", {})
    found = file_sha256(path)
    told = told_of(check_sha256, path, "", "find_levels.sha256")
    assert told == (
        f"{path}: its SHA-256 is {found}, expected none (setting find_levels.sha256); "
        "restore the file or correct the setting"
    )
    assert "expected 01 (setting model.sha256); " in told_of(check_model, path, "01")


@pytest.mark.parametrize("line", LINES_AT_FAULT, ids=str)
def test_an_odd_line_of_a_calibration_is_told(tmp_path, line):
    settings = SETTINGS | {"calibration": LINES | {"multifidus": line}}
    path = write_model(tmp_path / "a.safetensors", {"paravert": json.dumps(settings)})
    assert "an odd calibration" in told_of(read_settings, path)


def test_weights_of_another_shape_or_name_are_told(tmp_path):
    metadata = {"paravert": json.dumps(SETTINGS)}
    shapes = weight_shapes(SMALL)
    told = told_of(
        read_settings,
        write_model(tmp_path / "a.safetensors", metadata, shapes | {"head.bias": (3,)}),
    )
    assert "head.bias (3,), expected (9,)" in told
    told = told_of(
        read_settings, write_model(tmp_path / "b.safetensors", metadata, shapes | {"more": (1,)})
    )
    assert "more (1,), expected none" in told
    del shapes["head.bias"]
    told = told_of(read_settings, write_model(tmp_path / "c.safetensors", metadata, shapes))
    assert "head.bias absent, expected (9,)" in told


def test_a_file_that_is_no_safetensors_is_told_before_anything_runs(tmp_path):
    path = write_model(tmp_path / "a.safetensors", {"paravert": json.dumps(SETTINGS)})
    whole = path.read_bytes()
    for content in (b"", b"weights", whole[:-1], whole[:200], b"\xff" * 64, bytes(64)):
        path.write_bytes(content)
        assert "not a model file" in told_of(check_by_its_hash, path)
    assert "no such model file" in told_of(check_by_its_hash, tmp_path / "b")
    assert "no such model file" in told_of(check_by_its_hash, tmp_path)


def check_by_its_hash(path):
    check_model(path, file_sha256(path) if path.is_file() else "")


# --- the card ------------------------------------------------------------------------------------


def without(*names):
    card = json.loads(json.dumps(CARD))
    *sections, last = names
    place = card
    for section in sections:
        place = place[section]
    del place[last]
    return card


def with_settings(**changed):
    return CARD | {"settings": CARD["settings"] | changed}


CARDS = {
    "empty": (b"", "no JSON, expected a model's card"),
    "cut": (json.dumps(CARD).encode()[:-1], "no JSON"),
    "nested too deep": (b"[" * 100_000, "no JSON"),
    "Latin-1": (b'{"note": "\xfc"}', "not UTF-8"),
    "binary": (bytes(range(256)), "not UTF-8"),
    "a list": (b"[]", "no JSON object, expected a model's card"),
    "null": (b"null", "no JSON object"),
    "a number": (b"1", "no JSON object"),
    "an object": (b"{}", "without its settings"),
    "settings null": (CARD | {"settings": None}, "without its settings"),
    "settings a list": (CARD | {"settings": []}, "without its settings"),
    "no note": (without("note"), "without note, expected a text"),
    "note a number": (CARD | {"note": 1}, "without note, expected a text"),
    "no trained_on": (without("trained_on"), "without trained_on, expected a text"),
    "trained_on null": (CARD | {"trained_on": None}, "without trained_on"),
    "no hash": (without("weights_sha256"), "without weights_sha256, expected a text"),
    "no architecture": (without("settings", "architecture"), "no whole architecture, expected"),
    "no width": (without("settings", "architecture", "width"), "no whole architecture, expected"),
    "no size": (without("settings", "size_px"), "size_px None, expected a number of pixels"),
    "size text": (with_settings(size_px="64"), "size_px '64'"),
    "size true": (with_settings(size_px=True), "size_px True"),
    "size 0": (with_settings(size_px=0), "size_px 0"),
    "size odd": (with_settings(size_px=63), "63 px, expected a multiple of 4"),
}


@pytest.mark.parametrize(("card", "told"), CARDS.values(), ids=CARDS)
def test_an_odd_card_is_told_in_one_sentence(tmp_path, card, told):
    path = tmp_path / "a.json"
    path.write_bytes(card if isinstance(card, bytes) else json.dumps(card).encode())
    assert told in told_of(read_card, tmp_path / "a.safetensors")


def test_a_whole_card_is_read_and_an_absent_one_told(tmp_path):
    model = tmp_path / "a.safetensors"
    assert "no such file, expected the card" in told_of(read_card, model)
    model.with_suffix(".json").mkdir()
    assert "the model's card may not be read (Is a directory)" in told_of(read_card, model)
    model.with_suffix(".json").rmdir()
    model.with_suffix(".json").write_text(json.dumps(CARD))
    assert read_card(model) == Card("Not real.", "wax", "0" * 64, SMALL, 64)


def test_the_card_of_another_network_is_told(tmp_path):
    model = write_model(tmp_path / "a.safetensors", {"paravert": json.dumps(SETTINGS)})
    card = model.with_suffix(".json")
    card.write_text(json.dumps(CARD | {"weights_sha256": file_sha256(model)}))
    check_card(model)
    card.write_text(json.dumps(with_settings(architecture=asdict(SMALL) | {"width": 3})))
    assert "the card of another model" in told_of(check_card, model)
    card.write_text(json.dumps(CARD))  # same architecture, other weights
    told = f"{card}: the card of another model (weights_sha256 {'0' * 64}), expected that of a.safe"
    assert told_of(check_card, model).startswith(told)
