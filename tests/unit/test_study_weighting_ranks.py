"""Weightings in a run of several processes: every rank sees its part of a batch, all use the weights of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mtl.settings import LossSettings
from mtl.weighting import make_weighting, tapped
from torch import Tensor

TASKS = ("segmentation", "depth", "normals")
METHODS = ("rlw", "gls", "famo", "uncertainty", "dwa", "pcgrad", "nash_mtl", "mgda", "upgrad")

pytest.importorskip("torchjd")


def _ranks(rank: int, store: str, results: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for name in METHODS:
        made = make_weighting(LossSettings(weighting=name), tasks=TASKS)  # type: ignore[arg-type]
        for step in range(2):
            made.zero_grad()
            losses, features = _part(step, slice(rank * 3, rank * 3 + 3))
            weights = made.backward(losses, features).weights
            made.after_step(_after(losses), True)
        state = {key: value.clone() for key, value in made.state_dict().items()}
        found[name] = (weights, state, [p.grad.clone() for p in made.parameters() if p.grad is not None])
    torch.save(found, f"{results}-{rank}")
    torch.distributed.destroy_process_group()


def _after(losses: dict[str, Tensor]) -> dict[str, float]:
    return {task: float(loss.detach()) * fall for (task, loss), fall in zip(losses.items(), (0.9, 0.8, 0.5), strict=True)}


def _part(step: int, rows: slice) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Losses of some of six frames, means over frames, and the features they share."""
    generator = torch.Generator().manual_seed(step)
    inputs, matrix, own = (torch.randn(shape, generator=generator) for shape in ((6, 4), (4, 4), (3, 4)))
    features = tapped([torch.tanh(inputs[rows] @ matrix.requires_grad_())])
    return {task: ((features[0] @ own[i] - i) ** 2).mean() for i, task in enumerate(TASKS)}, features


def test_two_ranks_with_half_a_batch_each_weigh_as_one_with_all_of_it(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_ranks, (str(tmp_path / "store"), str(tmp_path / "result")), nprocs=2)
    first, second = (torch.load(tmp_path / f"result-{rank}", weights_only=False) for rank in range(2))
    for name, (weights, state, gradients) in first.items():
        assert weights == second[name][0], f"{name}: equal on all ranks, bit for bit"
        whole = make_weighting(LossSettings(weighting=name), tasks=TASKS)  # type: ignore[arg-type]
        for step in range(2):
            whole.zero_grad()
            losses, features = _part(step, slice(0, 6))
            expected = whole.backward(losses, features).weights
            whole.after_step(_after(losses), True)
        assert weights == pytest.approx(expected, rel=1e-3), name
        for key, value in whole.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(state[key], second[name][1][key], rtol=0, atol=0)
        for mine, other in zip(gradients, second[name][2], strict=True):
            assert torch.equal(mine, other)
