"""What a model file tells before its weights are read; without torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors

from paravert.errors import InputError
from paravert.network.architecture import Architecture
from paravert.provenance import file_sha256

METADATA_KEY, FORMAT = "paravert", 1


@dataclass(frozen=True)
class ModelSettings:
    """What a model is beside its weights.

    spacing_mm: pixel size of the grid that it was trained on. calibration: knots of the lines from
    expected to found IoU by muscle (`confidence.Calibration`).
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
    """Return a model file's settings. Raises InputError if it is not one of this format."""
    _check_there(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            told = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except safetensors.SafetensorError as error:
        raise InputError(path, f"not a model file ({error}), expected safetensors") from error
    if told.get("format") != FORMAT:
        raise InputError(path, f"model format {told.get('format')}, expected {FORMAT}")
    architecture = Architecture(**told["architecture"])
    return ModelSettings(architecture, float(told["spacing_mm"]), told.get("calibration", {}))


def check_model(path: Path, expected_sha256: str) -> None:
    """Raise InputError unless the file is there and its SHA-256 is the expected one."""
    _check_there(path)
    found = file_sha256(path)
    if found != expected_sha256:
        raise InputError(path, f"the model's SHA-256 is {found}, expected {expected_sha256}")


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(path, "no such model file")
