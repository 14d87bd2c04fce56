"""Settings of a training, read from a section of the configuration."""

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

# Options that the trainings share.
OutModel = Annotated[Path, typer.Option(help="model to write (.safetensors)", dir_okay=False)]
TrainingThreads = Annotated[int, typer.Option(min=0, help="processor cores to use; 0: all")]


@dataclass(frozen=True)
class Settings:
    """Settings of a training loop; values not stated in Niemeyer 2021 are marked (*).

    architecture: settings of the U-Net.
    size_px: rows, equal to columns, of the training slices (*).
    spacing_mm: pixel size (mm) of the network's grid (*).
    loss: "iou" (the paper's, `iou_loss`) or "cross_entropy_iou" (*).
    finish_with_iou_fraction: last fraction of the training, 0-1, that uses the loss iou in any case
        (*).
    learning_rate: of Adam, at the start; it falls to 0 along a half cosine (*).
    batch_size: slices per step.
    epochs: passes over the training slices (*).
    minutes: training time; above 0, epochs is ignored; 0: use epochs (*).
    seed: of split, weights, order, dropout and augmentation, or of the synthetic training slices.
    average: decay of the exponential moving average of the weights; 0: the last weights are kept
        (*).
    validation_fraction: of the subjects, 0-1; 0 for synthetic slices.

    Ranges: those of the configuration's schema, against which `read_section` checks. Raises
    ValueError if size_px is not a multiple of the architecture's stride, 2 ** (levels - 1), or leaves
    a single value to normalise at the deepest level.
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
        if self.size_px % self.architecture.stride:
            fault = f"size_px {self.size_px}, expected a multiple of {self.architecture.stride}"
            raise ValueError(fault)
        together = {"instance": 1, "batch": self.batch_size}.get(self.architecture.normalisation)
        if together == 1 and self.size_px == self.architecture.stride:
            fault = f"normalisation {self.architecture.normalisation} of one pixel"
            raise ValueError(f"{fault}, expected size_px above {self.size_px}, or fewer levels")


def settings_and_start(section: Mapping[str, Any]) -> tuple[Settings, Model | None, dict[str, str]]:
    """Return the settings of a training, the model to start from, and its entry for the new card.

    section: from `read_section`; the starting model is the file section["start_from"], "" for none; it is
    loaded on the CPU. Its architecture (dropout included) and pixel size replace those of the section.
    Entry: {"started_from_sha256": SHA-256 of the file}, for model_card's data. Without start_from, model
    and entry are None and {}. Raises InputError if size_px does not fit the architecture (`Settings`), or
    the file is no model.
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
    """Return a section of the configuration, checked against the schema.

    name: "train_network" or "pretrain_network". settings: the section's keys and values as JSON
    (text that starts with "{"), or the path of a configuration file (YAML) with the section under
    its name. All keys of the schema must be there; none gets a default. Raises InputError if the
    text or file cannot be read or lacks the section, or the section lacks a key, has another one or
    a forbidden value.
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
    """Return the help text of a command's option --settings: what each key of its section means.

    name: of the section in the configuration's schema, which has the descriptions.
    """
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    keys = schema["properties"][name]["properties"]
    told = "".join(f"\n\n{key}: {value['description']}" for key, value in keys.items())
    return (
        f"all keys of {name}: as JSON, or a configuration file that holds this section, as"
        f" config/config.yaml does with the defaults. The keys:{told}"
    )
