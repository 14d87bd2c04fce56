"""The paper's loss against IoU counted on hard masks."""

import pytest
import torch
from torch.nn import functional

from paravert.network.fit import cross_entropy_iou, iou_loss, loss_at, soft_iou

CERTAIN = 100.0  # a logit so large that its probability is 1


def drawn(seed: int, classes: int = 9, size: int = 24) -> torch.Tensor:
    return torch.randint(0, classes, (3, size, size), generator=torch.Generator().manual_seed(seed))


def certain(labels: torch.Tensor) -> torch.Tensor:
    return CERTAIN * functional.one_hot(labels, 9).movedim(-1, 1).float()


def test_soft_iou_of_hard_masks_is_the_counted_iou_over_the_batch():
    prediction, truth = drawn(1), drawn(2)
    found = soft_iou(certain(prediction).softmax(dim=1), truth)
    for value in range(1, 9):
        a, b = prediction == value, truth == value
        counted = float((a & b).sum() / (a | b).sum())
        assert found[value - 1].item() == pytest.approx(counted, abs=1e-6)


def test_a_perfect_prediction_has_loss_zero():
    truth = drawn(1)
    assert iou_loss(certain(truth), truth).item() == pytest.approx(0, abs=1e-6)
    assert cross_entropy_iou(certain(truth), truth).item() == pytest.approx(0, abs=1e-6)


def test_a_prediction_without_overlap_has_loss_one():
    truth = drawn(1)
    useless = certain((truth + 1) % 9)
    assert iou_loss(useless, truth).item() == pytest.approx(1, abs=1e-6)


def test_half_a_muscle_has_half_the_loss():
    truth = torch.zeros(1, 10, 10, dtype=torch.long)
    truth[:, 2:4, :] = 5
    half = truth.clone()
    half[:, 3, :] = 0
    assert iou_loss(certain(half), truth).item() == pytest.approx(0.5, abs=1e-6)


def test_a_muscle_absent_from_the_batch_does_not_change_the_loss():
    truth = drawn(3, classes=4)
    prediction = truth.clone()
    iou = soft_iou(certain(prediction).softmax(dim=1), truth)
    assert iou.isnan().tolist() == [False] * 3 + [True] * 5
    assert iou_loss(certain(prediction), truth).item() == pytest.approx(0, abs=1e-6)


def test_the_background_is_no_muscle():
    truth = torch.zeros(1, 8, 8, dtype=torch.long)
    truth[:, 0, 0] = 1
    assert iou_loss(certain(torch.zeros_like(truth)), truth).item() == pytest.approx(1, abs=1e-6)


def test_a_step_down_the_gradient_improves_the_overlap():
    truth = drawn(4)
    logits = torch.randn(3, 9, 24, 24, requires_grad=True)
    before = iou_loss(logits, truth)
    before.backward()
    assert torch.isfinite(logits.grad).all()
    after = iou_loss(logits.detach() - 100 * logits.grad, truth)
    assert after < before


def test_a_batch_without_any_muscle_has_a_finite_gradient():
    logits = torch.randn(1, 9, 8, 8, requires_grad=True)
    loss = iou_loss(logits, torch.zeros(1, 8, 8))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", [iou_loss, cross_entropy_iou])
def test_the_loss_of_a_network_that_computes_nan_is_nan(loss):
    logits = torch.randn(3, 9, 24, 24)
    logits[0, :, 3, 5] = torch.nan
    assert loss(logits, drawn(6)).isnan()


@pytest.mark.parametrize("loss", [iou_loss, cross_entropy_iou])
def test_the_loss_is_of_float32_whatever_the_logits_are(loss):
    logits, truth = torch.randn(3, 9, 24, 24, dtype=torch.bfloat16), drawn(5)
    found = loss(logits, truth)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(logits.float(), truth).item(), abs=1e-6)


def test_the_last_share_is_trained_with_the_papers_loss_alone():
    at = [loss_at("cross_entropy_iou", share, 0.25) for share in (0, 0.74, 0.76, 0.99)]
    assert at == [cross_entropy_iou, cross_entropy_iou, iou_loss, iou_loss]
    assert loss_at("cross_entropy_iou", 0.99, 0) is cross_entropy_iou
    assert loss_at("iou", 0, 0) is iou_loss
