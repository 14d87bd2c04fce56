"""Reading and checking the card beside a model; without torch."""

import json
from dataclasses import dataclass
from pathlib import Path

from paravert.errors import InputError
from paravert.network.architecture import Architecture, layer_table


@dataclass(frozen=True)
class Card:
    """What a study takes from a model's card.

    note: on its use. trained_on: the training images in words, may be empty. size_px: side of the
    training slices.
    """

    note: str
    trained_on: str
    architecture: Architecture
    size_px: int


def card_file(model: Path) -> Path:
    """Return the file that is a model's card."""
    return model.with_suffix(".json")


def read_card(model: Path) -> Card:
    """Return a model's card. Raises InputError if it is absent, unreadable or incomplete."""
    path = card_file(model)
    told = _object(path)
    settings = told.get("settings")
    if not isinstance(settings, dict):
        raise InputError(
            path, "a model's card without its settings, expected architecture and size"
        )
    for name in ("note", "trained_on"):
        if not isinstance(told.get(name), str):
            raise InputError(path, f"a model's card without {name}, expected a text")
    size_px = settings.get("size_px")
    try:
        architecture = Architecture.of_fields(settings.get("architecture"))
        if type(size_px) is not int or size_px < 1:
            raise ValueError(f"size_px {size_px!r}, expected a number of pixels")
        layer_table(architecture, size_px)
    except ValueError as error:
        raise InputError(path, f"a model's card with {error}") from None
    return Card(told["note"], told["trained_on"], architecture, size_px)


def _object(path: Path) -> dict:
    """Return the JSON object that is the whole content of a file."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "no such file, expected the card beside the model") from None
    except OSError as error:
        raise InputError(path, f"the model's card may not be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(path, "not UTF-8, expected a model's card (JSON)") from None
    except (ValueError, RecursionError):
        raise InputError(path, "no JSON, expected a model's card") from None
    if not isinstance(told, dict):
        raise InputError(path, "no JSON object, expected a model's card")
    return told
