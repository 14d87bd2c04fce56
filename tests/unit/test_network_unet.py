"""The network's layers and parameters against the paper and a count by formula."""

import pytest
import torch
from torch import nn

from paravert.network.architecture import NORMALISATIONS, Architecture, layer_table
from paravert.network.unet import UNet

SMALL = Architecture(width=4)


def closed_form_parameters(width: int, levels: int) -> int:
    """Count weights and biases by summing the geometric series by hand, 9 outputs, 1 input.

    Level l has c = w 2^l channels. Encoder: 9 c c/2 + 9 c c + 2 c (first level: 9 w instead of
    9 c c/2). Decoder, for c of all levels but the deepest: 4 * 2c * c + c, 9 * 2c * c + c, 9 c c + c.
    """
    squares = width**2 * (4**levels - 1) // 3  # sum of c² over all levels
    squares_above = width**2 * (4 ** (levels - 1) - 1) // 3
    channels, channels_above = width * (2**levels - 1), width * (2 ** (levels - 1) - 1)
    encoder = 9 * squares + 9 * (squares - width**2) // 2 + 9 * width + 2 * channels
    decoder = (8 + 18 + 9) * squares_above + 3 * channels_above
    return encoder + decoder + 9 * width + 9


def test_the_defaults_are_the_papers():
    paper = Architecture()
    assert paper.levels == 6
    assert paper.dropout == 0.03
    assert paper.channels == (64, 128, 256, 512, 1024, 2048)


@pytest.mark.parametrize(("width", "levels"), [(4, 6), (8, 5), (3, 2)])
def test_the_number_of_parameters_follows_from_the_paper(width, levels):
    network = UNet(Architecture(width=width, levels=levels))
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == closed_form_parameters(width, levels)


def test_every_level_doubles_the_channels_and_halves_the_image():
    seen = []
    network = UNet(SMALL)
    for level in network.encoder:
        level.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape)))
    network(torch.zeros(1, 1, 64, 64))
    assert seen == [(1, 4 * 2**level, 64 >> level, 64 >> level) for level in range(6)]


def test_the_layer_table_tells_what_the_network_does():
    seen = []
    network = UNet(SMALL)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Dropout):
            module.register_forward_hook(
                lambda module, given, made: seen.append((type(module), *made.shape[1:3]))
            )
    network(torch.zeros(1, 1, 64, 64))
    kinds = {
        "convolution": nn.Conv2d,
        "classes": nn.Conv2d,
        "transposed convolution": nn.ConvTranspose2d,
        "dropout": nn.Dropout,
    }
    table = layer_table(SMALL, 64)
    told = [(kinds[row.kind], row.channels, row.size_px) for row in table if row.kind in kinds]
    assert told == seen


def test_a_size_that_does_not_halve_evenly_has_no_layer_table():
    with pytest.raises(ValueError, match="multiple of 32"):
        layer_table(Architecture(), 100)


def test_every_activation_is_a_leaky_relu_of_slope_one_percent():
    network = UNet(SMALL)
    slopes = [m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.01] * (2 * 6 + 2 * 5)
    assert not any(isinstance(m, nn.ReLU | nn.Sigmoid) for m in network.modules())


def test_dropout_of_three_percent_is_in_the_encoder_only():
    network = UNet(SMALL)
    places = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    assert places == {f"encoder.{level}.dropout": 0.03 for level in range(6)}


def test_upsampling_is_by_transposed_convolutions():
    network = UNet(SMALL)
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in network.modules()) == 5
    assert not any(isinstance(m, nn.Upsample) for m in network.modules())


def test_nine_probabilities_add_up_to_one_at_every_pixel():
    probabilities = UNet(SMALL).eval()(torch.randn(2, 1, 64, 96)).softmax(dim=1)
    assert probabilities.shape == (2, 9, 64, 96)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 64, 96))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_each_normalisation_has_a_layer_before_each_activation(normalisation):
    network = UNet(Architecture(width=8, levels=3, normalisation=normalisation))
    kinds = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)
    found = sum(isinstance(m, kinds) for m in network.modules())
    assert found == (0 if normalisation == "none" else 2 * 3 + 2 * 2)
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, 9, 16, 16)


@pytest.mark.parametrize(
    "fault", [{"width": 0}, {"levels": 1}, {"normalisation": "layer"}, {"dropout": 1.0}]
)
def test_an_impossible_architecture_is_refused(fault):
    with pytest.raises(ValueError, match=next(iter(fault)).rstrip("s")):
        Architecture(**fault)


def test_activations_keep_their_scale_through_the_untrained_network():
    torch.manual_seed(0)
    with torch.no_grad():
        logits = UNet(Architecture(width=16)).eval()(torch.randn(2, 1, 128, 128))
    assert 0.2 < logits.std() < 5
