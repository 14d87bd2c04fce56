"""Prediction of a stack: number formats, batches and both implementations of the network agree."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from network_subjects import disc_stack
from torch import nn

import paravert
from paravert.anatomy import LABEL_VALUES, OTHER_SIDE
from paravert.network.architecture import NORMALISATIONS, Architecture
from paravert.network.model import Model
from paravert.network.openvino_unet import (
    BFLOAT16,
    FLOAT32,
    OpenVinoUNet,
    best_number_format,
    openvino,
)
from paravert.network.predict import Predictor, read_model
from paravert.network.unet import GpuUNet, UNet
from phantom_slices import phantom_slices

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[2] / "models/synthetic.safetensors"
SPACING_MM = (2.0, 2.5)
needs_bfloat16 = pytest.mark.skipif(
    best_number_format() != BFLOAT16, reason="the processor does not compute in bfloat16"
)
FORMATS = [FLOAT32, pytest.param(BFLOAT16, marks=needs_bfloat16)]


def untrained(width=8, levels=4, normalisation="none"):
    """Return a network with random weights; normalisation layers are no identity."""
    torch.manual_seed(7)
    network = UNet(Architecture(width=width, levels=levels, normalisation=normalisation)).eval()
    network.requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm):
            layer.weight.uniform_(0.5, 1.5), layer.bias.normal_(0, 0.2)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2), layer.running_var.uniform_(0.5, 1.5)
    return network


def predictor_in(number_format, model, **options):
    predictor = Predictor(model, **options)
    predictor._forward = OpenVinoUNet(model.architecture, model.weights, number_format)
    return predictor


def random_images(count, rows=64, columns=96):
    return np.random.default_rng(1).normal(size=(count, 1, rows, columns)).astype(np.float32)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize(("width", "levels"), [(8, 4), (5, 2), (16, 6)])
def test_openvino_computes_what_torch_computes(width, levels, normalisation):
    network = untrained(width, levels, normalisation)
    model, images = Model(network, 3.0), random_images(3)
    found = OpenVinoUNet(model.architecture, model.weights, FLOAT32)(images)
    expected = GpuUNet(network, CPU)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_batch_size_changes_no_bit(number_format, normalisation):
    model = Model(untrained(normalisation=normalisation), 3.0)
    image = np.concatenate([disc_stack(seed)[0].array for seed in range(3)])
    found = [
        predictor_in(number_format, model, judging=True, batch_size=batch_size).stack_predicted(
            image, SPACING_MM, apart_mm=4.0
        )
        for batch_size in (1, 2, 5, 11, 12, None)
    ]
    assert len(np.unique(found[0].labels)) > 2
    for other in found[1:]:
        np.testing.assert_array_equal(other.labels, found[0].labels)
        np.testing.assert_array_equal(other.expected_iou, found[0].expected_iou)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_where_a_gpus_memory_runs_out_images_are_computed_in_halves(monkeypatch, most):
    network, images = untrained(), random_images(7)
    expected, forward = GpuUNet(network, CPU)(images), UNet.forward

    def limited(self, images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, images)

    monkeypatch.setattr(UNet, "forward", limited)
    np.testing.assert_allclose(GpuUNet(network, CPU)(images), expected, atol=1e-4)


def test_memory_that_does_not_suffice_for_one_image_is_an_error(monkeypatch):
    def none_left(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(UNet, "forward", none_left)
    with pytest.raises(torch.OutOfMemoryError):
        GpuUNet(untrained(), CPU)(random_images(3))


@pytest.mark.parametrize("silently", [True, False])
def test_memory_that_runs_out_on_a_processor_is_a_memory_error(silently):
    """OpenVINO raises RuntimeError, or returns what an earlier call left, of another shape."""

    def infer(images, **named):
        if silently:
            return {0: earlier}
        raise RuntimeError("std::bad_alloc")

    model, images = Model(untrained(), 3.0), random_images(3)
    network = OpenVinoUNet(model.architecture, model.weights)
    expected, earlier = network(images), network(images[:1])
    network._request = SimpleNamespace(infer=infer)
    with pytest.raises(MemoryError):
        network(images)
    np.testing.assert_array_equal(network(images), expected)  # the next subject is not affected


def test_images_that_the_levels_cannot_halve_are_refused():
    model = Model(untrained(), 3.0)
    with pytest.raises(ValueError, match="multiples of 8"):
        OpenVinoUNet(model.architecture, model.weights)(random_images(1, 63, 64))


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(Path(paravert.__file__).parents[1]), **more}


def test_segmentation_needs_no_torch_and_reports_its_use_to_nobody(tmp_path):
    code = (
        "import sys, threading; import paravert.network.segment; "
        "sys.exit('torch' in sys.modules or sys.modules.get('openvino_telemetry') is not None"
        " or len(threading.enumerate()) > 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(HOME=str(tmp_path)))
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())  # OpenVINO's telemetry keeps its client's name there


def test_the_number_format_is_recorded():
    model = Model(untrained(), 3.0)
    assert Predictor(model).computed_on == f"cpu {best_number_format()}"
    capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert best_number_format() == (BFLOAT16 if capable else FLOAT32)


@pytest.fixture(scope="module")
def phantoms():
    """Images of three phantom volunteers and their pixel spacing, four slices each."""
    drawn = [phantom_slices(2021, 22, index, 4) for index in range(3)]
    return [(phantom.images, phantom.pixel_mm) for phantom in drawn]


@needs_bfloat16
def test_bfloat16_moves_neither_labels_nor_areas(phantoms):
    model = read_model(SHIPPED)
    same = muscle = 0
    whole_px, low_px = (np.zeros((len(phantoms), len(LABEL_VALUES))) for _ in range(2))
    for number, (image, pixel_mm) in enumerate(phantoms):
        whole, low = (
            predictor_in(form, model).stack_labels(image, (pixel_mm, pixel_mm), apart_mm=np.inf)
            for form in (FLOAT32, BFLOAT16)
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


@pytest.mark.parametrize("number_format", FORMATS)
def test_flipped_a_mirror_image_gets_the_mirrored_labels(number_format):
    model = Model(untrained(), 3.0)
    image = disc_stack(0)[0].array[:, :48, :48]  # a multiple of the stride: no padding on one side
    predictors = [predictor_in(number_format, model, flip=flip) for flip in (True, False)]
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
