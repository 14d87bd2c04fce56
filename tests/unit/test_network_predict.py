"""Prediction of a stack: number formats, batches and both implementations of the network agree."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import paravert
from network_subjects import disc_stack
from paravert.anatomy import OTHER_SIDE
from paravert.network.architecture import NORMALISATIONS, Architecture
from paravert.network.openvino_unet import OpenVinoUNet
from paravert.network.predict import Predictor
from paravert.network.unet import GpuUNet, Model, UNet

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[2] / "models/synthetic.safetensors"
SPACING_MM = (2.0, 2.5)


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


def random_images(count, rows=64, columns=96):
    return np.random.default_rng(1).normal(size=(count, 1, rows, columns)).astype(np.float32)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize(("width", "levels"), [(8, 4), (5, 2), (16, 6)])
def test_openvino_computes_what_torch_computes(width, levels, normalisation):
    network = untrained(width, levels, normalisation)
    model, images = Model(network, 3.0), random_images(3)
    found = OpenVinoUNet(model.architecture, model.weights)(images)
    expected = GpuUNet(network, CPU)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_batch_size_changes_no_bit(normalisation):
    model = Model(untrained(normalisation=normalisation), 3.0)
    image = np.concatenate([disc_stack(seed)[0].array for seed in range(3)])
    found = [
        Predictor(model, with_expected_iou=True, batch_size=batch_size).stack_predicted(
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


def test_segmentation_needs_no_torch_and_does_not_report_its_use(tmp_path):
    code = (
        "import sys, threading; import paravert.network.segment; "
        "sys.exit('torch' in sys.modules or sys.modules.get('openvino_telemetry') is not None"
        " or len(threading.enumerate()) > 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(HOME=str(tmp_path)))
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())  # OpenVINO's telemetry keeps its client's name there


def test_the_number_format_is_recorded():
    assert Predictor(Model(untrained(), 3.0)).computed_on == "cpu float32"


# --- flipped -------------------------------------------------------------------------------------


def test_flipped_a_mirror_image_gets_the_mirrored_labels():
    model = Model(untrained(), 3.0)
    image = disc_stack(0)[0].array[:, :48, :48]  # a multiple of the stride: no padding on one side
    predictors = [Predictor(model, flip=flip) for flip in (True, False)]
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
