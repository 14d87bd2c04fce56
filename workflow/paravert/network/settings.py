"""Settings of a training: a section of the configuration, and what the training loop takes from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from paravert.configuration import SCHEMA, check_section
from paravert.errors import InputError
from paravert.network.architecture import Architecture
from paravert.network.unet import Model, load_model
from paravert.provenance import file_sha256

LOSSES = ("iou", "cross_entropy_iou")
# Options that the trainings share.
OutModel = Annotated[Path, typer.Option(help="model to write (.safetensors)")]
TrainingThreads = Annotated[int, typer.Option(help="processor cores to use; 0: all")]


@dataclass(frozen=True)
class Settings:
    """Settings of a training loop; the paper's where it names one, else as marked.

    size_px: side of the training crops (not stated). spacing_mm: pixel size of the network's grid
    (not stated). loss: "iou" is the paper's. finish_with_iou_fraction: last share of the training
    with the paper's loss alone. learning_rate: of Adam, at the start; it falls as a cosine to zero
    (schedule not stated). epochs: passes over the training slices (not stated). minutes: time in
    place of epochs; 0 counts epochs. average: decay of the exponential moving average of the weights;
    0 keeps the last weights (the paper's). Raises ValueError for a value that makes no training.
    """

    architecture: Architecture
    size_px: int
    spacing_mm: float
    loss: str
    finish_with_iou_fraction: float
    learning_rate: float
    batch_size: int
    epochs: int
    minutes: float
    seed: int
    average: float = 0.0
    validation_fraction: float = 0.0

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise ValueError(f"loss {self.loss!r}, expected one of {', '.join(LOSSES)}")
        if self.size_px < 1 or self.size_px % self.architecture.stride:
            raise ValueError(
                f"size_px {self.size_px}, expected a multiple of {self.architecture.stride}"
            )
        for name in ("spacing_mm", "learning_rate", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}, expected above 0")
        if self.epochs < 1 and self.minutes <= 0:
            raise ValueError(
                f"{self.epochs} epochs and {self.minutes} minutes, expected one above 0"
            )
        for name in ("finish_with_iou_fraction", "validation_fraction", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}, expected 0 or more and below 1")


def prepared(section: Mapping[str, Any]) -> tuple[Settings, Model | None, dict[str, str]]:
    """Return the settings that a section of the configuration makes, and the model to train on.

    Also what the card tells of that model, whose architecture and pixel size take the place of the
    section's. None and {} for a training from scratch. Raises InputError for settings that make no
    training.
    """
    names = {field.name for field in fields(Settings)}
    given = {name: value for name, value in section.items() if name in names}
    start, start_told = None, {}
    if section["start_from"]:
        file = Path(section["start_from"])
        start, start_told = load_model(file), {"started_from_sha256": file_sha256(file)}
        given["spacing_mm"] = start.spacing_mm
    try:
        if start is not None:
            architecture = start.network.architecture
        else:
            shape = [section[name] for name in ("width", "levels", "normalisation")]
            architecture = Architecture(*shape, section.get("dropout", 0.0))
        return Settings(architecture=architecture, **given), start, start_told
    except ValueError as error:
        raise InputError("settings of the training", str(error)) from error


def read_section(name: str, settings: str) -> dict[str, Any]:
    """Return a whole section of the configuration, checked against the schema.

    settings: the section as JSON, or the path of a configuration file (YAML) that holds it. Raises
    InputError for a section that is faulty or lacks a key.
    """
    section = _parsed(name, settings)
    check_section(name, section)
    return section


def _parsed(name: str, settings: str) -> object:
    if settings.lstrip().startswith("{"):
        try:
            return json.loads(settings)
        except ValueError as error:
            raise InputError("settings", f"no JSON ({error})") from None
    try:
        document = yaml.safe_load(Path(settings).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(settings, f"may not be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise InputError(settings, "no YAML, expected a configuration") from None
    if not isinstance(document, dict) or name not in document:
        raise InputError(settings, f"no section {name}, expected a configuration with one")
    return document[name]


def settings_help(name: str) -> str:
    """Return the help of a command's option --settings: each key of its section, described."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    keys = schema["properties"][name]["properties"]
    told = "".join(f"\n\n{key}: {value['description']}" for key, value in keys.items())
    return (
        f"all keys of {name}: as JSON, or a configuration file that holds this section, as"
        f" config/config.yaml does with the defaults. The keys:{told}"
    )
