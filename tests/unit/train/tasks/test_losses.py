"""Losses against slow NumPy references, and the identity behind supervising one pixel per cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mtl.losses import MultiTaskLoss
from mtl.settings import LossSettings
from mtl.tasks import chosen_tasks
from mtl.tasks.depth import depth_loss
from mtl.tasks.head import at_phase
from mtl.tasks.labels import labels_loss
from mtl.tasks.normals import normals_loss
from torch.nn import functional as F

from edge_mtl.tasks import NYU_TASKS

pytestmark = pytest.mark.training

TASK_NAMES = tuple(NYU_TASKS)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 13, 4, 6)).astype(np.float32)
LABEL = RNG.integers(0, 13, (2, 4, 6)).astype(np.uint8)
LABEL[0, :2] = 255
DEPTH = RNG.uniform(0.5, 5, (2, 1, 4, 6)).astype(np.float32)
TRUE_DEPTH = RNG.uniform(0.5, 5, (2, 4, 6)).astype(np.float32)
TRUE_DEPTH[1, 1] = 0
NORMALS = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
TRUE_NORMALS = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
TRUE_NORMALS /= np.linalg.norm(TRUE_NORMALS, axis=-1, keepdims=True)
TRUE_NORMALS[0, 3] = 0


def torched(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def test_cross_entropy_skips_void() -> None:
    total, count = 0.0, 0
    for b, y, x in np.ndindex(2, 4, 6):
        if LABEL[b, y, x] != 255:
            logits = LOGITS[b, :, y, x].astype(float)
            total += np.log(np.exp(logits).sum()) - logits[LABEL[b, y, x]]
            count += 1
    logits, label = torched(LOGITS, LABEL)
    assert float(labels_loss(logits, label.long())) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("kind", ["log_l1", "relative_l1", "l1"])
def test_depth_losses_skip_unknown_depth(kind: str) -> None:
    total, count = 0.0, 0
    for b, y, x in np.ndindex(2, 4, 6):
        p, g = float(DEPTH[b, 0, y, x]), float(TRUE_DEPTH[b, y, x])
        if g > 0:
            total += {"log_l1": abs(np.log(p / g)) if g else 0, "relative_l1": abs(p - g) / g, "l1": abs(p - g)}[kind]
            count += 1
    assert float(depth_loss(*torched(DEPTH, TRUE_DEPTH), kind=kind)) == pytest.approx(total / count, rel=1e-5)


def test_the_normal_loss_is_one_minus_cosine_over_known_normals() -> None:
    total, count = 0.0, 0
    for b, y, x in np.ndindex(2, 4, 6):
        p, g = NORMALS[b, :, y, x].astype(float), TRUE_NORMALS[b, y, x].astype(float)
        if g.any():
            total += 1 - (p / np.linalg.norm(p)) @ g
            count += 1
    assert float(normals_loss(*torched(NORMALS, TRUE_NORMALS))) == pytest.approx(total / count, rel=1e-5)


def test_a_batch_without_any_truth_gives_zero_loss_and_finite_gradients() -> None:
    logits, depth, normals = (torch.from_numpy(a.copy()).requires_grad_() for a in (LOGITS, DEPTH, NORMALS))
    losses = [
        labels_loss(logits, torch.full((2, 4, 6), 255)),
        depth_loss(depth, torch.zeros(2, 4, 6), kind="log_l1"),
        normals_loss(normals, torch.zeros(2, 4, 6, 3)),
    ]
    torch.stack(losses).sum().backward()
    assert [float(loss.detach()) for loss in losses] == [0, 0, 0]
    assert all(torch.isfinite(value.grad).all() for value in (logits, depth, normals))


@pytest.mark.parametrize("stride", [2, 4])
def test_a_phase_is_the_upsampled_map_at_those_pixels(stride: int) -> None:
    maps = torch.from_numpy(LOGITS)
    full = F.interpolate(maps, scale_factor=stride, mode="bilinear", align_corners=False)
    for y in range(stride):
        for x in range(stride):
            expected = full[:, :, y::stride, x::stride]
            torch.testing.assert_close(at_phase(maps, stride=stride, phase=(y, x)), expected, atol=1e-5, rtol=1e-5)


def test_phase_supervision_is_full_supervision_on_average() -> None:
    maps = dict(zip(TASK_NAMES, torched(LOGITS, DEPTH, NORMALS), strict=True))
    label = torch.from_numpy(RNG.integers(0, 13, (2, 16, 24)))
    depth = torch.from_numpy(RNG.uniform(1, 5, (2, 16, 24)).astype(np.float32))
    normals = F.normalize(torch.from_numpy(RNG.normal(size=(2, 16, 24, 3)).astype(np.float32)), dim=-1)
    targets = dict(zip(TASK_NAMES, (label, depth, normals), strict=True))
    loss = MultiTaskLoss(LossSettings(), NYU_TASKS, stride=4)
    full = loss(maps, targets, None)
    for task in TASK_NAMES:
        phases = [
            loss(maps, {name: value[:, y::4, x::4] for name, value in targets.items()}, (y, x))[task]
            for y in range(4)
            for x in range(4)
        ]
        torch.testing.assert_close(torch.stack(phases).mean(), full[task], rtol=1e-4, atol=1e-4)


def test_only_the_tasks_of_the_model_have_a_loss() -> None:
    maps = dict(zip(TASK_NAMES, torched(LOGITS, DEPTH, NORMALS), strict=True))
    targets = dict(zip(TASK_NAMES, torched(LABEL, TRUE_DEPTH, TRUE_NORMALS), strict=True))
    losses = MultiTaskLoss(LossSettings(), chosen_tasks(NYU_TASKS, ("normals", "depth")), stride=1)(maps, targets, None)
    assert list(losses) == ["depth", "normals"]
    assert float(losses["normals"]) == float(normals_loss(maps["normals"], targets["normals"]))
