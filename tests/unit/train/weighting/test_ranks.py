"""Weightings in a run of several processes: every rank sees its part of a batch, all use the weights of the whole."""

from __future__ import annotations

import pytest
import torch
from mtl.parallel import ALONE, Parallel
from mtl.settings import LossSettings
from mtl.weighting import make_weighting, tapped
from torch import Tensor

from tests.tiny_training import together

pytestmark = pytest.mark.training

TASKS = ("segmentation", "depth", "normals")
METHODS = ("rlw", "gls", "famo", "uncertainty", "dwa", "nash_mtl")
"""Those that come without TorchJD, whose import takes longer than all of this; nash_mtl stands for the gradient methods."""


Found = dict[str, tuple[dict[str, float], dict[str, list[float]]]]


def weigh(parallel: Parallel) -> Found:
    """Two steps of every method: the last weights, and what the method knows then, its parameters' gradients included."""
    found: Found = {}
    for name in METHODS:
        made = make_weighting(LossSettings(weighting=name), tasks=TASKS)  # type: ignore[arg-type]
        weights: dict[str, float] = {}
        for step in range(2):
            made.zero_grad()
            count = 6 // parallel.world
            losses, features = _part(step, slice(parallel.rank * count, (parallel.rank + 1) * count))
            weights = made.backward(losses, features).weights
            made.after_step(_after(losses), True)
        known = {key: value.flatten().tolist() for key, value in made.state_dict().items()}
        known.update({f"gradient of {key}": p.grad.tolist() for key, p in made.named_parameters() if p.grad is not None})
        found[name] = (weights, known)
    return found


def _after(losses: dict[str, Tensor]) -> dict[str, float]:
    return {task: float(loss.detach()) * fall for (task, loss), fall in zip(losses.items(), (0.9, 0.8, 0.5), strict=True)}


def _part(step: int, rows: slice) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Losses of some of six frames, means over frames, and the features they share."""
    generator = torch.Generator().manual_seed(step)
    inputs, matrix, own = (torch.randn(shape, generator=generator) for shape in ((6, 4), (4, 4), (3, 4)))
    features = tapped([torch.tanh(inputs[rows] @ matrix.requires_grad_())])
    return {task: ((features[0] @ own[i] - i) ** 2).mean() for i, task in enumerate(TASKS)}, features


def test_two_ranks_with_half_a_batch_each_weigh_as_one_with_all_of_it() -> None:
    results = together(weigh, 2)
    assert [code for code, _ in results] == [0, 0], results
    first, second = (found for _, found in results)
    assert first == second, "equal on all ranks, bit for bit"
    for name, (weights, known) in weigh(ALONE).items():
        assert first[name][0] == pytest.approx(weights, rel=1e-3), name
        for key, values in known.items():
            assert first[name][1][key] == pytest.approx(values, rel=1e-3, abs=1e-5), (name, key)


def test_halves_alone_would_weigh_otherwise() -> None:
    """The positive control: without the other rank's half the weights are not those of the whole batch."""
    for name in ("gls", "famo", "nash_mtl"):
        made = [make_weighting(LossSettings(weighting=name), tasks=TASKS) for _ in range(2)]  # type: ignore[arg-type]
        weights = [one.backward(*_part(0, slice(0, count))).weights for one, count in zip(made, (3, 6), strict=True)]
        assert weights[0] != pytest.approx(weights[1], rel=1e-2), name
