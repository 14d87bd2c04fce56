"""The structure of the paper's U-Net (Niemeyer 2021, Fig. 1): settings, layers, weight shapes."""

from dataclasses import dataclass
from itertools import pairwise

from paravert.anatomy import CLASSES

LEVELS_MOST = 7  # with 8, the deepest level of a slice of 128 x 128 pixels would have one pixel
LEAKY_SLOPE = 0.01  # slope of the leaky ReLU below 0: Niemeyer 2021, Network, (1)
KINDS = {"width": int, "levels": int, "normalisation": str, "dropout": int | float}
KIND_WORDS = {int: "a whole number", str: "a text", int | float: "a number"}
NORMALISATION_WEIGHTS = {
    "none": (),
    "batch": ("weight", "bias", "running_mean", "running_var"),
    "instance": ("weight", "bias"),
    "group": ("weight", "bias"),
}
NORMALISATIONS = tuple(NORMALISATION_WEIGHTS)
NORMALISATION_EPSILON = 1e-5  # torch's
CHANNELS_PER_GROUP = 8


@dataclass(frozen=True)
class Architecture:
    """The settings of a U-Net; the defaults are those of Niemeyer 2021, where it states a value.

    Defaults: 64, 6, "none", 0.03. width: channels of the first level, doubled at every level below (not
    stated; 64 in Ronneberger 2015); 1 or more. levels: number of resolutions, the image's own included, 2
    to 7 (the paper adds one to Ronneberger's five). normalisation: layers after the convolutions, "none",
    "batch", "instance" or "group" (the paper mentions none). dropout: probability, 0 or more and below 1,
    in the encoder. Raises ValueError for values outside these ranges.
    """

    width: int = 64
    levels: int = 6
    normalisation: str = "none"
    dropout: float = 0.03

    def __post_init__(self):
        if self.width < 1 or not 2 <= self.levels <= LEVELS_MOST:
            expected = f"a width of 1 or more and 2 to {LEVELS_MOST} levels"
            raise ValueError(f"width {self.width} and {self.levels} levels, expected {expected}")
        if self.normalisation not in NORMALISATIONS:
            raise ValueError(
                f"normalisation {self.normalisation!r}, expected one of {NORMALISATIONS}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}, expected 0 or more and below 1")

    @classmethod
    def of_fields(cls, values: object) -> "Architecture":
        """Return the architecture that a dict of its four fields describes, as read from JSON.

        values: {"width": int, "levels": int, "normalisation": str, "dropout": float}. Raises ValueError
        for anything but a dict with exactly these keys, values of these types (an int is a dropout,
        too) and in the ranges of `Architecture`.
        """
        if not isinstance(values, dict) or values.keys() != KINDS.keys():
            raise ValueError(f"no whole architecture, expected {', '.join(KINDS)}")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, KINDS[name]):
                raise ValueError(f"{name} {value!r:.40}, expected {KIND_WORDS[KINDS[name]]}")
        return cls(**values)

    @property
    def channels(self) -> tuple[int, ...]:
        """Number of channels of each level, from the image's own resolution downwards (property)."""
        return tuple(self.width * 2**level for level in range(self.levels))

    @property
    def stride(self) -> int:
        """2 ** (levels - 1), of which rows and columns of an input image must be multiples (property)."""
        return 2 ** (self.levels - 1)


def normalisation_groups(channels: int) -> int:
    """Return the number of groups for group normalisation of a layer with that many channels.

    channels / 8, so that a group has 8 channels; 1 if 8 does not divide the number of channels.
    """
    return channels // CHANNELS_PER_GROUP if channels % CHANNELS_PER_GROUP == 0 else 1


@dataclass(frozen=True)
class Layer:
    """One layer of the U-Net, as Figure 1 of Niemeyer 2021 draws it.

    part: encoder, decoder or head. kind: input, convolution (3 x 3, leaky ReLU), dropout, pooling
    (2 x 2, maximum), transposed convolution (2 x 2), skip (the encoder's channels concatenated with
    the decoder's) or classes (1 x 1 convolution, softmax). level: 1 has the image's resolution,
    each further one half that of the level before. channels: of the layer's output. size_px: rows,
    equal to columns, of the layer's output.
    """

    part: str
    kind: str
    level: int
    channels: int
    size_px: int


def layer_table(architecture: Architecture, size_px: int) -> list[Layer]:
    """Return the layers of a U-Net in the order in which a square image passes them.

    From the input to the classes. A dropout layer is listed even if its probability is 0;
    normalisation layers are left out. size_px: rows, equal to columns, of the image, above 0.
    Raises ValueError unless it is a multiple of the architecture's stride, 2 ** (levels - 1).
    """
    if size_px % architecture.stride:
        raise ValueError(f"{size_px} px, expected a multiple of {architecture.stride}")
    layers = [Layer("encoder", "input", 1, 1, size_px)]
    for level, channels in enumerate(architecture.channels, start=1):
        size = size_px >> (level - 1)
        if level > 1:
            layers.append(Layer("encoder", "pooling", level, channels // 2, size))
        for kind in ("convolution", "convolution", "dropout"):
            layers.append(Layer("encoder", kind, level, channels, size))
    for level in range(architecture.levels - 1, 0, -1):
        channels, size = architecture.channels[level - 1], size_px >> (level - 1)
        layers.append(Layer("decoder", "transposed convolution", level, channels, size))
        layers.append(Layer("decoder", "skip", level, 2 * channels, size))
        layers += [Layer("decoder", "convolution", level, channels, size)] * 2
    return [*layers, Layer("head", "classes", 1, CLASSES, size_px)]


def weight_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight tensor of a U-Net, {name: shape}.

    Of a U-Net with 1 input channel and 9 classes. Names are those of the torch module `unet.UNet` and of
    the model file, such as "head.weight". Convolutions are (channels out, channels in, rows, columns),
    transposed ones (channels in, channels out, rows, columns), num_batches_tracked of batch normalisation
    is (), all others (channels,).
    """
    channels = architecture.channels
    shapes: dict[str, tuple[int, ...]] = {}
    for level, (above, here) in enumerate(zip((1, *channels), channels, strict=False)):
        shapes |= _two_convolutions(f"encoder.{level}", above, here, architecture.normalisation)
    for level, (here, below) in enumerate(reversed(list(pairwise(channels)))):
        place = f"decoder.{level}"
        shapes |= {f"{place}.up.weight": (below, here, 2, 2), f"{place}.up.bias": (here,)}
        shapes |= _two_convolutions(place, 2 * here, here, architecture.normalisation)
    return shapes | {"head.weight": (CLASSES, channels[0], 1, 1), "head.bias": (CLASSES,)}


def _two_convolutions(
    place: str, channels_in: int, channels: int, normalisation: str
) -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of two convolutions, each with its normalisation; place: prefix of the names."""
    shapes: dict[str, tuple[int, ...]] = {}
    # Convolution 0 is followed by a normalisation, if there is one, and a leaky ReLU.
    second = 2 if normalisation == "none" else 3
    for number, given in ((0, channels_in), (second, channels)):
        one = f"{place}.convolutions.{number}"
        shapes |= {f"{one}.weight": (channels, given, 3, 3), f"{one}.bias": (channels,)}
        for name in NORMALISATION_WEIGHTS[normalisation]:
            shapes[f"{place}.convolutions.{number + 1}.{name}"] = (channels,)
        if normalisation == "batch":
            shapes[f"{place}.convolutions.{number + 1}.num_batches_tracked"] = ()
    return shapes
