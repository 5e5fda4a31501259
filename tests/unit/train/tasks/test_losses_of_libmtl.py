"""The study's losses, pixel by pixel in plain Python: as LibMTL's NYUv2 example defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mtl.losses import MultiTaskLoss
from mtl.settings import LossSettings
from mtl.tasks.depth import depth_loss
from mtl.tasks.labels import labels_loss
from mtl.tasks.normals import normals_loss

from edge_mtl.tasks import NYU_TASKS

pytestmark = pytest.mark.training

TASK_NAMES = tuple(NYU_TASKS)

STUDY = LossSettings(depth_kind="l1", normal_kind="dot", supervision="full")
PIXELS = (2, 5, 7)


def maps(seed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Raw predictions, depths below 0 among them, and truth with gaps and interpolated normals."""
    random = np.random.default_rng(seed)
    predicted = {
        "segmentation": random.normal(size=(2, 13, 5, 7)),
        "depth": random.normal(1.0, 2.0, (2, 1, 5, 7)),
        "normals": random.normal(size=(2, 3, 5, 7)),
    }
    label = random.integers(0, 13, PIXELS)
    label[random.random(PIXELS) < 0.3] = 255
    depth = random.uniform(0.5, 9, PIXELS) * (random.random(PIXELS) < 0.7)
    normals = random.normal(size=(*PIXELS, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals *= random.choice([0.0, 0.3, 1.0], (*PIXELS, 1))
    truth = {"segmentation": label, "depth": depth, "normals": normals}
    floats = {task: torch.from_numpy(value).float() for task, value in predicted.items()}
    return floats, {
        task: torch.from_numpy(v).long() if task == "segmentation" else torch.from_numpy(v).float() for task, v in truth.items()
    }


def slow(predicted: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> dict[str, float]:
    """One pixel after the other, numbers and no arrays."""
    terms: dict[str, list[float]] = {task: [] for task in TASK_NAMES}
    for b, y, x in np.ndindex(*PIXELS):
        label = int(truth["segmentation"][b, y, x])
        if label != 255:
            logits = [float(value) for value in predicted["segmentation"][b, :, y, x]]
            terms["segmentation"].append(math.log(sum(map(math.exp, logits))) - logits[label])
        depth = float(truth["depth"][b, y, x])
        if depth != 0:
            terms["depth"].append(abs(float(predicted["depth"][b, 0, y, x]) - depth))
        normal = [float(value) for value in truth["normals"][b, y, x]]
        if any(normal):
            raw = [float(value) for value in predicted["normals"][b, :, y, x]]
            length = math.sqrt(sum(value * value for value in raw))
            terms["normals"].append(1 - sum(p / length * g for p, g in zip(raw, normal, strict=True)))
    return {task: sum(values) / len(values) for task, values in terms.items()}


@pytest.mark.parametrize("seed", range(5))
def test_the_studys_losses_are_those_of_its_protocol(seed: int) -> None:
    predicted, truth = maps(seed)
    losses = MultiTaskLoss(STUDY, NYU_TASKS, stride=1)(predicted, truth, None)
    assert {task: float(loss) for task, loss in losses.items()} == pytest.approx(slow(predicted, truth), rel=1e-5)


def test_the_cosine_differs_where_true_normals_are_interpolated() -> None:
    """The positive control: the two kinds are not the same loss, but equal for unit normals."""
    predicted, truth = maps(0)
    args = truth["normals"].permute(0, 3, 1, 2) + 0.1 * predicted["normals"], truth["normals"]
    assert abs(float(normals_loss(*args)) - float(normals_loss(*args, kind="dot"))) > 0.1
    unit = torch.nn.functional.normalize(truth["normals"], dim=-1)
    assert float(normals_loss(args[0], unit)) == pytest.approx(float(normals_loss(args[0], unit, kind="dot")), rel=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_a_batch_without_a_normal_has_loss_0_and_no_gradient(kind: str) -> None:
    predicted = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = normals_loss(predicted, torch.zeros(1, 2, 2, 3), kind=kind)
    loss.backward()
    assert float(loss.detach()) == 0
    assert predicted.grad is not None
    assert not predicted.grad.any()


def test_a_prediction_of_length_0_has_a_finite_gradient() -> None:
    predicted = torch.zeros(1, 3, 1, 1, requires_grad=True)
    normals_loss(predicted, torch.tensor([[[[0.0, 0.0, 1.0]]]]), kind="dot").backward()
    assert predicted.grad is not None
    assert torch.isfinite(predicted.grad).all()


def test_a_depth_below_0_is_trained_towards_the_truth() -> None:
    predicted = torch.tensor([[[[-1.0]]]], requires_grad=True)
    loss = depth_loss(predicted, torch.tensor([[[2.0]]]), kind="l1")
    loss.backward()
    assert float(loss.detach()) == 3
    assert predicted.grad is not None
    assert float(predicted.grad) == -1


def test_void_has_no_gradient() -> None:
    logits = torch.randn(1, 13, 1, 2, requires_grad=True)
    labels_loss(logits, torch.tensor([[[3, 255]]])).backward()
    assert logits.grad is not None
    assert not logits.grad[..., 1].any()
    assert logits.grad[..., 0].any()
