"""The settings of a model file (.safetensors) and its checks; without torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors

from paravert.errors import InputError
from paravert.network.architecture import Architecture, weight_shapes
from paravert.network.card_file import card_file, read_card
from paravert.provenance import file_sha256

LEAST_MM, MOST_MM = 0.2, 5.0  # of the grid's pixels, as for a training
METADATA_KEY, FORMAT = "paravert", 1


@dataclass(frozen=True)
class ModelSettings:
    """What a model is beside its weights.

    spacing_mm: pixel size of the grid that it was trained on. calibration: the knots of its
    `confidence.Calibration`.
    """

    architecture: Architecture
    spacing_mm: float
    calibration: dict = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """Return the settings as metadata of a safetensors file.

        One key: several would be written in random order, and the file's hash would change.
        """
        return {METADATA_KEY: json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)}


def read_settings(path: Path) -> ModelSettings:
    """Return a model file's settings.

    Raises InputError if it is not one of this format, or its weights are not of its architecture.
    """
    _check_there(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except safetensors.SafetensorError as error:
        raise InputError(path, f"not a model file ({error}), expected safetensors") from None
    try:
        settings = _settings(metadata.get(METADATA_KEY, "{}"))
        _check_shapes(shapes, settings.architecture)
    except ValueError as error:
        raise InputError(path, f"a model with {error}") from None
    return settings


def _settings(metadata: str) -> ModelSettings:
    """Return the settings in the metadata. Raises ValueError for anything else."""
    try:
        told = json.loads(metadata)
    except (ValueError, RecursionError):
        raise ValueError("metadata that are no JSON") from None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        found = told.get("format") if isinstance(told, dict) else "unknown"
        raise ValueError(f"format {found!r:.40}, expected {FORMAT}")
    spacing_mm = told.get("spacing_mm")
    if type(spacing_mm) not in (int, float) or not LEAST_MM <= spacing_mm <= MOST_MM:
        raise ValueError(f"spacing_mm {spacing_mm!r:.40}, expected {LEAST_MM} to {MOST_MM}")
    architecture = Architecture.of_fields(told.get("architecture"))
    return ModelSettings(architecture, float(spacing_mm), _calibration(told.get("calibration", {})))


def _calibration(told: object) -> dict:
    if not isinstance(told, dict) or not all(map(_is_line, told.values())):
        raise ValueError("an odd calibration, expected two rising lines of shares for each muscle")
    return told


def _is_line(line: object) -> bool:
    """Tell whether this is a pair of lists of equal length with rising values from 0 to 1."""
    if not (isinstance(line, list) and len(line) == 2 and all(isinstance(x, list) for x in line)):
        return False
    if not all(type(share) in (int, float) and 0 <= share <= 1 for x in line for share in x):
        return False
    return len(line[0]) == len(line[1]) > 0 and all(sorted(x) == x for x in line)


def _check_shapes(shapes: dict[str, tuple[int, ...]], architecture: Architecture) -> None:
    expected = weight_shapes(architecture)
    differing = sorted(
        name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name)
    )
    if differing:
        name = differing[0]
        found = f"{name} {shapes.get(name, 'absent')}, expected {expected.get(name, 'none')}"
        raise ValueError(f"weights that are not of its architecture: {found}")


def check_model(path: Path, expected_sha256: str) -> None:
    """Raise InputError unless the file exists, has the expected SHA-256 and is a model."""
    _check_there(path)
    try:
        found = file_sha256(path)
    except OSError as error:
        raise InputError(path, f"the model may not be read ({error.strerror})") from None
    if found != expected_sha256:
        raise InputError(path, f"the model's SHA-256 is {found}, expected {expected_sha256}")
    read_settings(path)


def check_card(model: Path) -> None:
    """Raise InputError unless the card beside a model is complete and has the model's architecture."""
    of_card, own = read_card(model).architecture, read_settings(model).architecture
    if of_card != own:
        raise InputError(card_file(model), f"the card of another model ({of_card}), expected {own}")


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(path, "no such model file")
