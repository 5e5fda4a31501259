"""Depth that was stored in steps: nothing within half a step is wrong, also after a zoom and for another camera."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mtl.datasets.augment import View, apply_view
from mtl.datasets.frame import Frame
from mtl.settings import DataSettings, LossSettings
from mtl.tasks import LossTerms, head_of
from mtl.tasks.depth import depth_loss

from edge_mtl.tasks import NYU_TASKS

pytestmark = pytest.mark.training

SPEC = NYU_TASKS["depth"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("l1", 0.2), ("relative_l1", 0.2 / 2.1), ("log_l1", math.log(2.3 / 2.1))],
)
def test_a_prediction_is_as_wrong_as_it_is_far_from_the_nearest_value_of_the_step(kind: str, expected: float) -> None:
    guess = torch.tensor([[[[2.05, 1.95, 2.3, 9.0]]]], requires_grad=True)
    target = torch.tensor([[[[2.0, 0.1], [2.0, 0.1], [2.0, 0.1], [0.0, 0.1]]]])  # the last one is unknown
    loss = depth_loss(guess, target, kind=kind)
    assert loss.item() == pytest.approx(expected / 3, rel=1e-5)
    loss.backward()
    assert guess.grad is not None
    assert guess.grad[0, 0, 0, [0, 1, 3]].abs().max() == 0
    assert guess.grad[0, 0, 0, 2] > 0


def test_half_a_step_grows_with_the_depth_in_another_camera() -> None:
    head, data = head_of(SPEC), DataSettings(depth_step_m=0.04)
    depth = np.full((32, 64), 2.0, np.float32)
    frame = Frame(np.zeros((32, 64, 3), np.uint8), {"depth": head.within(SPEC, depth, data)}, (30.0, 30.0, 31.5, 15.5))
    seen = apply_view(frame, View((8, 16, 16, 32)), {"depth": SPEC}, size=(32, 64))
    found = seen.truths["depth"]
    assert found.shape == (32, 64, 2)
    np.testing.assert_allclose(found[..., 1] / found[..., 0], 0.01, rtol=1e-5)
    assert found[0, 0, 0] != pytest.approx(2.0)  # the canonical camera is another one
    target = head.collate(SPEC, [found, None])
    assert float(head.count(SPEC, target, LossTerms(LossSettings(), 4))) == 32 * 64
    assert head.within(SPEC, depth, DataSettings()) is depth
