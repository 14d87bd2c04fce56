"""What a training depends on beside the data."""

from dataclasses import dataclass, field

from paravert.errors import InputError
from paravert.network.architecture import Architecture
from paravert.network.losses import LOSSES


@dataclass(frozen=True)
class Settings:
    """Settings of a training; the paper's where it names one, else as marked.

    size_px: side of the training crops (not stated). spacing_mm: pixel size of the network's grid
    (not stated). loss: "iou" is the paper's. finish_with_iou_fraction: last share of the training
    with the paper's loss alone. learning_rate: of Adam, at the start; it falls as a cosine to zero
    (schedule not stated). epochs: passes over the training slices (not stated). minutes: time in
    place of epochs; 0 counts epochs. average: share of the averaged weights that a step keeps, 0 for
    the last weights alone (the paper's). Raises ValueError for a value that makes no training.
    """

    architecture: Architecture = field(default_factory=Architecture)
    size_px: int = 256
    spacing_mm: float = 1.0
    loss: str = "iou"
    finish_with_iou_fraction: float = 0.0
    learning_rate: float = 0.001
    batch_size: int = 16
    epochs: int = 100
    minutes: float = 0.0
    average: float = 0.0
    validation_fraction: float = 0.2
    seed: int = 1

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


def checked_settings(architecture: tuple, **rest) -> Settings:
    """Return settings as a command was given them; raises InputError for those that make none.

    architecture: fields of Architecture, in order.
    """
    try:
        return Settings(architecture=Architecture(*architecture), **rest)
    except ValueError as error:
        raise InputError("settings of the training", str(error)) from error
