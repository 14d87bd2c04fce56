"""The shape of the paper's U-Net, told without torch: settings, layers, sizes, parameters."""

from collections.abc import Iterator
from dataclasses import dataclass

from paravert.anatomy import CLASSES

LEAKY_SLOPE = 0.01  # Niemeyer 2021, Network: (1)
NORMALISATIONS = ("none", "batch", "instance", "group")


@dataclass(frozen=True)
class Architecture:
    """What is free in the paper's U-Net, with the paper's value where it names one.

    width: channels of the first level, doubled at every level below (not stated; Ronneberger: 64).
    levels: six, "one additional layer" to Ronneberger's five. dropout: in the encoder.
    normalisation: of the layers, one of NORMALISATIONS (none is mentioned).
    Raises ValueError for a value that makes no network.
    """

    width: int = 64
    levels: int = 6
    normalisation: str = "none"
    dropout: float = 0.03

    def __post_init__(self):
        if self.width < 1 or self.levels < 2:
            raise ValueError(
                f"width {self.width} and {self.levels} levels, expected at least 1 and 2"
            )
        if self.normalisation not in NORMALISATIONS:
            raise ValueError(
                f"normalisation {self.normalisation!r}, expected one of {NORMALISATIONS}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}, expected 0 or more and below 1")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, from the image's own resolution downwards."""
        return tuple(self.width * 2**level for level in range(self.levels))

    @property
    def stride(self) -> int:
        """What rows and columns of an input must be multiples of."""
        return 2 ** (self.levels - 1)


@dataclass(frozen=True)
class Layer:
    """One layer as the figure draws it.

    part: encoder, decoder or head. kind: input, convolution (3 x 3, leaky ReLU), dropout,
    pooling (2 x 2, maximum), transposed convolution (2 x 2), skip (channels of the encoder put
    beside those of the decoder) or classes (1 x 1, softmax).
    level: 1 is the image's resolution. channels, size_px: of what comes out.
    """

    part: str
    kind: str
    level: int
    channels: int
    size_px: int


def layer_table(architecture: Architecture, size_px: int) -> list[Layer]:
    """Return the layers in the order in which a square image passes them, as the figure needs.

    size_px: rows and columns of the image. Raises ValueError unless every level halves it evenly.
    """
    if size_px % architecture.stride:
        raise ValueError(f"{size_px} px, expected a multiple of {architecture.stride}")
    return [
        Layer("encoder", "input", 1, 1, size_px),
        *_encoder(architecture, size_px),
        *_decoder(architecture, size_px),
        Layer("head", "classes", 1, CLASSES, size_px),
    ]


def _encoder(architecture: Architecture, size_px: int) -> Iterator[Layer]:
    for level, channels in enumerate(architecture.channels, start=1):
        size = size_px >> (level - 1)
        if level > 1:
            yield Layer("encoder", "pooling", level, channels // 2, size)
        yield Layer("encoder", "convolution", level, channels, size)
        yield Layer("encoder", "convolution", level, channels, size)
        yield Layer("encoder", "dropout", level, channels, size)


def _decoder(architecture: Architecture, size_px: int) -> Iterator[Layer]:
    for level in range(architecture.levels - 1, 0, -1):
        channels, size = architecture.channels[level - 1], size_px >> (level - 1)
        yield Layer("decoder", "transposed convolution", level, channels, size)
        yield Layer("decoder", "skip", level, 2 * channels, size)
        yield Layer("decoder", "convolution", level, channels, size)
        yield Layer("decoder", "convolution", level, channels, size)
