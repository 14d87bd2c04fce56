"""Prediction of a stack: number formats, batches, threads and the fused network agree."""

from pathlib import Path

import numpy as np
import pytest
import torch
from network_subjects import disc_stack

from paravert.anatomy import LABEL_VALUES, OTHER_SIDE
from paravert.network.architecture import NORMALISATIONS, Architecture
from paravert.network.device import low_format
from paravert.network.fused import FusedUNet, can_fuse
from paravert.network.model import Model, load_model
from paravert.network.predict import Predictor
from paravert.network.unet import UNet
from phantom_slices import phantom_slices

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[2] / "models/synthetic.safetensors"
SPACING_MM = (2.0, 2.5)
needs_bfloat16 = pytest.mark.skipif(
    low_format(CPU, "prediction") is None, reason="the processor does not compute in bfloat16"
)
FORMATS = [None, pytest.param(torch.bfloat16, marks=needs_bfloat16)]


def untrained(width=8, levels=4, normalisation="none"):
    torch.manual_seed(7)
    network = UNet(Architecture(width=width, levels=levels, normalisation=normalisation)).eval()
    return network.to(memory_format=torch.channels_last).requires_grad_(False)


@pytest.mark.parametrize("low", FORMATS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_slices_at_once_and_threads_change_no_label(low, normalisation):
    model = Model(untrained(normalisation=normalisation), 3.0)
    predictor = Predictor(model, CPU, low, judging=True)
    image = np.concatenate([disc_stack(seed)[0].array for seed in range(3)])
    before = torch.get_num_threads()
    found = []
    for batch_size, threads in ((1, 1), (2, 1), (5, 1), (11, 1), (12, 2)):
        torch.set_num_threads(threads)
        given = {"apart_mm": 4.0, "batch_size": batch_size}
        found.append(predictor.stack_predicted(image, SPACING_MM, **given))
    torch.set_num_threads(before)
    assert len(np.unique(found[0].labels)) > 2
    for other in found[1:]:
        np.testing.assert_array_equal(other.labels, found[0].labels)
        if normalisation == "none":  # these are of the same bits, not only the same labels
            np.testing.assert_array_equal(other.expected_iou, found[0].expected_iou)


@pytest.mark.parametrize(("width", "levels"), [(8, 4), (5, 2), (16, 6)])
@torch.inference_mode()
def test_the_fused_network_is_the_network(width, levels):
    network = untrained(width, levels)
    images = torch.randn(3, 1, 64, 96)
    torch.testing.assert_close(FusedUNet(network)(images), network(images), rtol=1e-4, atol=1e-4)


@needs_bfloat16
@torch.inference_mode()
def test_the_fused_network_keeps_the_image_and_the_logits_whole():
    """An image scaled beyond the 8 bits of bfloat16, and logits that differ below them."""
    network = untrained()
    fused = FusedUNet(network, torch.bfloat16)
    image = torch.full((1, 1, 16, 16), 1.001)
    assert image.bfloat16().eq(1).all()
    assert not torch.equal(fused(image), fused(torch.ones_like(image)))
    logits = fused(torch.randn(1, 1, 64, 64))
    assert logits.dtype == torch.float32
    assert (logits.bfloat16().float() != logits).float().mean() > 0.9


def test_only_a_network_without_normalisation_is_fused():
    for normalisation in NORMALISATIONS:
        assert can_fuse(untrained(normalisation=normalisation)) == (normalisation == "none")
    with pytest.raises(ValueError, match="batch"):
        FusedUNet(untrained(normalisation="batch"))


def test_without_the_fused_parts_the_labels_are_nearly_the_same(monkeypatch):
    image, model = disc_stack(0)[0].array, Model(untrained(), 3.0)
    fused = Predictor(model, CPU).stack_labels(image, SPACING_MM, apart_mm=5.0)
    monkeypatch.setattr("paravert.network.predict.can_fuse", lambda network: False)
    plain = Predictor(model, CPU).stack_labels(image, SPACING_MM, apart_mm=5.0)
    assert (fused == plain).mean() > 0.99


@pytest.fixture(scope="module")
def phantoms():
    """Images of three phantom volunteers and their pixel spacing, four slices each."""
    drawn = [phantom_slices(2021, 22, index, 4) for index in range(3)]
    return [(phantom.images, phantom.pixel_mm) for phantom in drawn]


@needs_bfloat16
def test_bfloat16_moves_neither_labels_nor_areas(phantoms):
    model = load_model(SHIPPED)
    same = muscle = 0
    whole_px, low_px = (np.zeros((len(phantoms), len(LABEL_VALUES))) for _ in range(2))
    for number, (image, pixel_mm) in enumerate(phantoms):
        whole, low = (
            Predictor(model, CPU, form).stack_labels(image, (pixel_mm, pixel_mm), apart_mm=np.inf)
            for form in (None, torch.bfloat16)
        )
        either = (whole > 0) | (low > 0)
        same, muscle = same + (whole == low)[either].sum(), muscle + either.sum()
        for px, labels in ((whole_px, whole), (low_px, low)):
            px[number] = [(labels == value).sum() for value in LABEL_VALUES]
    assert whole_px.min() > 500
    assert same / muscle > 0.995
    np.testing.assert_allclose(low_px, whole_px, rtol=0.01)
    np.testing.assert_allclose(low_px.sum(axis=0), whole_px.sum(axis=0), rtol=0.005)


# --- flipped -------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", FORMATS)
def test_flipped_a_mirror_image_gets_the_mirrored_labels(low):
    model = Model(untrained(), 3.0)
    image = disc_stack(0)[0].array[:, :48, :48]  # a multiple of the stride: no padding on one side
    predictors = [Predictor(model, CPU, low, flip=flip) for flip in (True, False)]
    (both, both_mirrored), (plain, plain_mirrored) = (
        [
            one.stack_labels(turned, (3.0, 3.0), apart_mm=5.0)
            for turned in (image, image[:, :, ::-1].copy())
        ]
        for one in predictors
    )
    swap = np.array(OTHER_SIDE, np.uint8)
    np.testing.assert_array_equal(both_mirrored, swap[both[:, :, ::-1]])
    assert (plain_mirrored != swap[plain[:, :, ::-1]]).any()
