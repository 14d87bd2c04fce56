"""The files of a model, read and checked without torch.

own.safetensors: weights, with the settings in its metadata. own.json: the card, which describes model
and training. own.split.csv: names of the training and validation subjects.
"""

import csv
import json
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors

from paravert.errors import InputError
from paravert.network.architecture import Architecture, layer_table, weight_shapes
from paravert.provenance import file_sha256

LEAST_MM, MOST_MM = 0.2, 5.0  # pixel size of the network's grid; as in the configuration's schema
METADATA_KEY, FORMAT = "paravert", 1
CARD_TEXTS = ("note", "trained_on", "weights_sha256")
SPLIT_COLUMNS = ["subject", "part"]
TRAINING, VALIDATION = "training", "validation"


@dataclass(frozen=True)
class ModelSettings:
    """The settings of a model, stored with its weights.

    architecture: settings of the U-Net. spacing_mm: pixel size (mm) of the network's grid. calibration:
    {name in anatomy.MUSCLES: (expected IoU, predicted IoU)}, as `knots` of `Calibration`: two equally
    long rising lists, 0-1; {} if not calibrated.
    """

    architecture: Architecture
    spacing_mm: float
    calibration: dict = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """Return the settings as the metadata of a safetensors file: JSON under one key.

        safetensors writes several keys in random order, which would change the file's SHA-256.
        """
        return {METADATA_KEY: json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)}


def read_settings(path: Path) -> ModelSettings:
    """Return the settings of a model file (.safetensors): architecture, pixel size and calibration.

    Raises InputError if the file is absent or not safetensors, if its settings are missing, of
    another format or out of range, or if names and shapes of its weights are not those of its
    architecture.
    """
    _check_there(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except safetensors.SafetensorError as error:
        raise InputError(path, f"not a model file ({error}), expected safetensors") from None
    if METADATA_KEY not in metadata:
        raise InputError(path, "not a segmentation model of paravert")
    try:
        settings = _settings(metadata[METADATA_KEY])
        _check_shapes(shapes, settings.architecture)
    except ValueError as error:
        raise InputError(path, f"a model with {error}") from None
    return settings


def _settings(metadata: str) -> ModelSettings:
    """Return the settings in JSON metadata. Raises ValueError if they are faulty."""
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
    """Return whether this is a pair of equally long lists of rising numbers, 0-1."""
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
    """Raise InputError unless a file is a model for segmentation with this SHA-256 (lower-case hex).

    path: of the file (.safetensors). Faults: absent or unreadable, another SHA-256, not
    safetensors, settings missing or out of range, weights that are not those of its architecture.
    """
    check_sha256(path, expected_sha256)
    read_settings(path)


def check_sha256(path: Path, expected_sha256: str, setting: str = "model.sha256") -> None:
    """Raise InputError if a model file is absent or unreadable, or has another SHA-256 than expected.

    The content is not checked. expected_sha256: lower-case hex; "" always fails. setting: name of the
    setting that has the expected one, for the message only.
    """
    _check_there(path)
    try:
        found = file_sha256(path)
    except OSError as error:
        raise InputError(path, f"the model may not be read ({error.strerror})") from None
    if found != expected_sha256:
        expected = f"expected {expected_sha256 or 'none'} (setting {setting})"
        raise InputError(
            path, f"its SHA-256 is {found}, {expected}; restore the file or correct the setting"
        )


def check_card(model: Path) -> None:
    """Raise InputError unless a model file has a valid card of its own beside it.

    model: the model file; its card is the file with the suffix .json. Faults of the card: those of
    `read_card`, another architecture, or the SHA-256 of other weights. Also raised if the model
    file itself is faulty (`read_settings`).
    """
    card, own = read_card(model), read_settings(model).architecture
    if card.architecture != own:
        fault = f"the card of another model ({card.architecture}), expected {own}"
        raise InputError(card_file(model), fault)
    if card.weights_sha256 != (found := file_sha256(model)):
        fault = f"the card of another model (weights_sha256 {card.weights_sha256})"
        raise InputError(card_file(model), f"{fault}, expected that of {model.name}, {found}")


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(path, "no such model file")


@dataclass(frozen=True)
class Card:
    """The parts of a model's card that reports and figures show, and the SHA-256 of its model file.

    note: sentence on the model's use. trained_on: description of the training images, may be "".
    weights_sha256: of the model file, hexadecimal. architecture: settings of the U-Net. size_px:
    rows, equal to columns, of the training slices.
    """

    note: str
    trained_on: str
    weights_sha256: str
    architecture: Architecture
    size_px: int


def card_file(model: Path) -> Path:
    """Return the path of a model file's card: own.safetensors has the card own.json."""
    return model.with_suffix(".json")


def read_card(model: Path) -> Card:
    """Return the card of a model file: note, training images, SHA-256, architecture, slice size.

    model: the model file, which need not exist; its card has the same name with the suffix .json.
    Raises InputError if the card is absent, unreadable or not JSON, if one of these fields is
    missing or faulty, or if the slice size is not a multiple of the architecture's stride.
    """
    path = card_file(model)
    told = _object(path)
    settings = told.get("settings")
    if not isinstance(settings, dict):
        raise InputError(
            path, "a model's card without its settings, expected architecture and size"
        )
    texts = [told.get(name) for name in CARD_TEXTS]
    for name, text in zip(CARD_TEXTS, texts, strict=True):
        if not isinstance(text, str):
            raise InputError(path, f"a model's card without {name}, expected a text")
    size_px = settings.get("size_px")
    try:
        architecture = Architecture.of_fields(settings.get("architecture"))
        if type(size_px) is not int or size_px < 1:
            raise ValueError(f"size_px {size_px!r}, expected a number of pixels")
        layer_table(architecture, size_px)
    except ValueError as error:
        raise InputError(path, f"a model's card with {error}") from None
    return Card(*texts, architecture, size_px)


def _object(path: Path) -> dict:
    """Return the JSON object in a file. Raises InputError if there is none."""
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


def split_file(model: Path) -> Path:
    """Return the path of the list of a model's training and validation subjects; it may not exist.

    model: the model file: own.safetensors has the list own.split.csv.
    """
    return model.with_suffix(".split.csv")


def split_digest(model: Path) -> str:
    """Return the SHA-256 (hex) of the list of a model's training and validation subjects.

    model: the model file; the list lies beside it (.split.csv). "" if there is no such file.
    """
    file = split_file(model)
    return file_sha256(file) if file.is_file() else ""


def write_split(model: Path, training: Collection[str], validation: Collection[str]) -> None:
    """Write the list of a model's training and validation subjects beside the model file.

    own.safetensors gets own.split.csv. Columns: subject, part (training or validation); a line per
    subject. An older list is replaced. model: the model file. training: names of its training subjects;
    the caller includes those of its starting model (`learnt_from`). validation: names of its validation
    subjects.
    """
    with split_file(model).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(SPLIT_COLUMNS)
        writer.writerows([subject, TRAINING] for subject in sorted(training))
        writer.writerows([subject, VALIDATION] for subject in sorted(validation))


def copy_split(source: Path | None, model: Path) -> None:
    """Give a model the list of training and validation subjects (.split.csv) of another one.

    source: the other model file; None, or one without a list: the model has none, and an older list
    beside it is deleted. model: the model file; may be the source itself.
    """
    given = split_file(source) if source else None
    if not (given and given.is_file()):
        split_file(model).unlink(missing_ok=True)
    elif given.resolve() != split_file(model).resolve():
        shutil.copyfile(given, split_file(model))


def learnt_from(model: Path) -> frozenset[str]:
    """Return the names of a model's training subjects, from the list beside the model file.

    Those of its starting model are among them if the training had its list; those of its validation
    are not. model: the model file; the list is a CSV (.split.csv) with the columns subject and
    part (training or validation). Empty if there is no list. Raises InputError if it is unreadable or
    not such a CSV.
    """
    path = split_file(model)
    if not path.is_file():
        return frozenset()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file, strict=True) if line]
    except OSError as error:
        raise InputError(path, f"may not be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"no CSV ({error}), expected columns {SPLIT_COLUMNS}") from None
    header = lines[0] if lines else []
    if header != SPLIT_COLUMNS or any(len(line) != len(SPLIT_COLUMNS) for line in lines):
        raise InputError(path, f"columns {header}, expected {SPLIT_COLUMNS} in every line")
    for subject, part in lines[1:]:
        if part not in (TRAINING, VALIDATION):
            fault = f"{subject} in part {part!r}, expected {TRAINING} or {VALIDATION}"
            raise InputError(path, fault)
    return frozenset(subject for subject, part in lines if part == TRAINING)
