"""Weightings of losses by value: against the formulas of their papers, TorchJD's own code, and themselves after a resume."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from mtl.config import parse_config
from mtl.models.configured import tasks_of
from mtl.settings import LossSettings, Stage
from mtl.tasks import chosen_tasks
from mtl.weighting import Weighting, WeightingError, make_weighting
from torch import Tensor, nn

from edge_mtl.tasks import NYU_TASKS

pytestmark = pytest.mark.training

TASK_NAMES = tuple(NYU_TASKS)

BY_VALUE = ("fixed", "uncertainty", "dwa", "rlw", "gls", "famo")
BY_GRADIENT = ("pcgrad", "cagrad", "nash_mtl", "imtl_g", "mgda", "aligned_mtl", "upgrad")

pytest.importorskip("torchjd")


class Toy(nn.Module):
    """Three tasks with quadratic losses on what a shared matrix makes of the input, and a gain of each task's own."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.shared = nn.Parameter(torch.randn(4, 5, generator=generator))
        self.gains = nn.Parameter(torch.ones(3))
        self.inputs = torch.randn(32, 5, generator=generator)
        self.targets = torch.randn(3, 1, 4, generator=generator) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1)

    def features(self) -> tuple[Tensor, ...]:
        return (torch.tanh(self.inputs @ self.shared.T),)

    def losses(self, features: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {
            task: ((features[0] * self.gains[index] - self.targets[index]) ** 2).mean() for index, task in enumerate(TASK_NAMES)
        }


def losses_of(*values: float) -> dict[str, Tensor]:
    return {task: torch.tensor(value, requires_grad=True) for task, value in zip(TASK_NAMES, values, strict=False)}


def gradients(losses: Mapping[str, Tensor]) -> list[float]:
    return [float(loss.grad) for loss in losses.values()]  # type: ignore[arg-type]


def weighting_of(name: str, **settings: float) -> Weighting:
    return make_weighting(LossSettings(weighting=name, **settings), tasks=TASK_NAMES)  # type: ignore[arg-type]


def advance(toy: Toy, weighting: Weighting, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
    features = toy.features()
    losses = toy.losses(features)
    optimizer.zero_grad()
    weights = weighting.backward(losses, features).weights
    optimizer.step()
    with torch.no_grad():
        seen = toy.losses(toy.features()) if weighting.needs_losses_after_step else losses
    weighting.after_step({task: float(value.detach()) for task, value in seen.items()}, step % 4 == 3)
    return weights


def test_fixed_weights_multiply() -> None:
    losses = losses_of(1.0, 2.0, 3.0)
    report = weighting_of("fixed", weights={"depth": 2.0, "normals": 0.5}).backward(losses)
    assert report.total == pytest.approx(1 + 2 * 2 + 0.5 * 3)
    assert report.weights == {"segmentation": 1.0, "depth": 2.0, "normals": 0.5}
    assert gradients(losses) == [1.0, 2.0, 0.5]


def test_a_stage_names_its_own_weights_and_the_settings_fill_the_gaps() -> None:
    weighting = weighting_of("fixed", weights={"depth": 2.0})
    weighting.weigh(Stage(height=32, width=32, steps=1, weights={"normals": 3.0}))
    assert weighting.backward(losses_of(1.0, 1.0, 1.0)).weights == {"segmentation": 1.0, "depth": 2.0, "normals": 3.0}


@pytest.mark.parametrize("name", BY_VALUE + BY_GRADIENT)
def test_one_task_alone_is_not_weighed(name: str) -> None:
    losses = {"depth": torch.tensor(0.3, requires_grad=True)}
    make_weighting(LossSettings(weighting=name), tasks=("depth",)).backward(losses, ())  # type: ignore[arg-type]
    assert gradients(losses) == [1.0]


def test_uncertainty_is_kendalls_sum_at_the_given_weights_and_learns() -> None:
    weighting = weighting_of("uncertainty", weights={"depth": 2.0})
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([0.3, -0.2, 1.0]))  # type: ignore[operator]
    losses = losses_of(1.0, 2.0, 3.0)
    report = weighting.backward(losses)
    s, values = np.array([0.3, -0.2, 1.0]), np.array([1.0, 4.0, 3.0])
    assert report.total == pytest.approx(float((values * np.exp(-s) + s).sum()), rel=1e-6)
    assert gradients(losses) == pytest.approx(list(np.exp(-s) * [1, 2, 1]), rel=1e-6)
    (own,) = weighting.parameters()
    assert own.grad.tolist() == pytest.approx(list(1 - values * np.exp(-s)), rel=1e-6)  # type: ignore[union-attr]


def test_uncertainty_is_twice_that_of_torchjd() -> None:
    from torchjd.scalarization import UW

    theirs = UW(3)
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (2 * theirs(values)).backward()
    losses = losses_of(1.0, 2.0, 3.0)
    weighting = weighting_of("uncertainty")
    weighting.backward(losses)
    assert gradients(losses) == values.grad.tolist()
    assert next(weighting.parameters()).grad.tolist() == theirs.log_var.grad.tolist()  # type: ignore[union-attr]


def test_dwa_weighs_by_how_slowly_the_mean_loss_of_an_epoch_falls() -> None:
    weighting = weighting_of("dwa")
    epochs = np.random.default_rng(0).uniform(0.5, 2, (3, 4, 3))
    for number, epoch in enumerate(epochs):
        weights = weighting.backward(losses_of(1.0, 1.0, 1.0)).weights
        if number < 2:
            assert list(weights.values()) == [1.0, 1.0, 1.0]
        for step, losses in enumerate(epoch):
            weighting.after_step(dict(zip(TASK_NAMES, losses.tolist(), strict=True)), step == 3)
    rate = epochs[2].mean(axis=0) / epochs[1].mean(axis=0)
    expected = 3 * np.exp(rate / 2) / np.exp(rate / 2).sum()
    assert list(weighting.backward(losses_of(1.0, 1.0, 1.0)).weights.values()) == pytest.approx(list(expected), rel=1e-5)


def test_dwa_equals_torchjd() -> None:
    from torchjd.scalarization import DWA

    ours, theirs = weighting_of("dwa"), DWA()
    for epoch in range(4):
        for step in range(3):
            numbers = np.random.default_rng([epoch, step]).uniform(0.5, 2, 3).tolist()
            losses, values = losses_of(*numbers), torch.tensor(numbers, requires_grad=True)
            ours.backward(losses)
            theirs(values).backward()
            assert gradients(losses) == pytest.approx(values.grad.tolist(), rel=1e-5)
            ours.after_step(dict(zip(TASK_NAMES, numbers, strict=True)), step == 2)
        theirs.step()


def test_a_loss_that_is_not_finite_does_not_enter_the_mean_of_the_epoch() -> None:
    weighting = weighting_of("dwa")
    for epoch in range(3):
        weighting.after_step(dict.fromkeys(TASK_NAMES, 1.0 + epoch), False)
        weighting.after_step({**dict.fromkeys(TASK_NAMES, 1.0), "depth": float("nan")}, True)
    assert list(weighting.backward(losses_of(1.0, 1.0, 1.0)).weights.values()) == [1.0, 1.0, 1.0]


def test_random_weights_follow_the_softmax_of_normal_numbers_and_leave_other_random_numbers_alone() -> None:
    weighting = weighting_of("rlw")
    before = torch.get_rng_state()
    drawn = np.array([list(weighting.backward(losses_of(1.0, 1.0, 1.0)).weights.values()) for _ in range(400)])
    assert torch.equal(before, torch.get_rng_state())
    assert drawn.sum(axis=1) == pytest.approx(3.0, rel=1e-5)
    assert drawn.mean(axis=0) == pytest.approx(1.0, abs=0.15)
    differences = np.log(drawn[:, 0] / drawn[:, 1])
    assert differences.std() == pytest.approx(np.sqrt(2), rel=0.1), "ln of a ratio is the difference of two normal numbers"
    assert len(np.unique(drawn[:, 0])) == 400


def test_runs_of_other_seeds_draw_other_weights() -> None:
    first, second, again = (
        make_weighting(LossSettings(weighting="rlw"), tasks=TASK_NAMES, seed=seed).backward(losses_of(1.0, 1.0, 1.0)).weights
        for seed in (0, 1, 0)
    )
    assert first == again != second


def test_gls_has_the_gradient_of_the_geometric_mean() -> None:
    from torchjd.scalarization import GeometricMean

    numbers = (0.7, 2.0, 0.05)
    losses, values = losses_of(*numbers), torch.tensor(numbers, requires_grad=True)
    report = weighting_of("gls").backward(losses)
    GeometricMean()(values).backward()
    assert report.total == pytest.approx(float(np.prod(numbers) ** (1 / 3)), rel=1e-6)
    assert gradients(losses) == pytest.approx(values.grad.tolist(), rel=1e-5)


def test_gls_does_not_see_the_scale_of_a_loss() -> None:
    small = weighting_of("gls").backward(losses_of(1.0, 2.0, 3.0))
    large = weighting_of("gls").backward(losses_of(1.0, 2000.0, 3.0))
    assert large.weights["depth"] * 2000 / large.total == pytest.approx(small.weights["depth"] * 2 / small.total, rel=1e-5)


@pytest.mark.parametrize("name", ["gls", "famo"])
def test_a_task_without_truth_in_a_batch_is_left_out(name: str) -> None:
    weights = weighting_of(name).backward(losses_of(1.0, 0.0, 4.0)).weights
    both = make_weighting(LossSettings(weighting=name), tasks=("segmentation", "normals"))  # type: ignore[arg-type]
    expected = both.backward({"segmentation": torch.tensor(1.0, requires_grad=True), "normals": torch.tensor(4.0)}).weights
    assert weights == pytest.approx({**expected, "depth": 0.0}, rel=1e-5)
    nothing = weighting_of(name).backward(losses_of(0.0, 0.0, 0.0))
    assert set(nothing.weights.values()) == {0.0}
    assert nothing.total == 0


def test_famo_equals_torchjd_over_many_steps() -> None:
    from torchjd.scalarization import FAMO

    ours, theirs = weighting_of("famo"), FAMO(3)
    for step in range(30):
        before, after = np.random.default_rng(step).uniform(0.5, 2, (2, 3))
        losses, values = losses_of(*before.tolist()), torch.tensor(before, dtype=torch.float32, requires_grad=True)
        ours.backward(losses)
        theirs(values).backward()
        assert gradients(losses) == pytest.approx(values.grad.tolist(), rel=1e-4)
        ours.after_step(dict(zip(TASK_NAMES, after.tolist(), strict=True)), False)
        theirs.update(torch.tensor(after, dtype=torch.float32))
    assert ours.logits.tolist() == pytest.approx(theirs._w.tolist(), rel=1e-3, abs=1e-5)


def test_famo_weighs_a_task_more_whose_loss_falls_less() -> None:
    weighting = weighting_of("famo")
    first = weighting.backward(losses_of(1.0, 1.0, 1.0)).weights
    weighting.after_step({"segmentation": 0.5, "depth": 1.0, "normals": 0.75}, False)
    then = weighting.backward(losses_of(1.0, 1.0, 1.0)).weights
    assert list(first.values()) == pytest.approx([1 / 3] * 3)
    assert then["depth"] > 1 / 3 > then["segmentation"]


@pytest.mark.parametrize("name", BY_VALUE + BY_GRADIENT)
def test_every_method_trains_every_task(name: str) -> None:
    toy = Toy()
    weighting = weighting_of(name)
    optimizer = torch.optim.Adam([*toy.parameters(), *weighting.parameters()], lr=0.05)
    start = {task: float(value.detach()) for task, value in toy.losses(toy.features()).items()}
    for step in range(20):
        advance(toy, weighting, optimizer, step)
    end = {task: float(value.detach()) for task, value in toy.losses(toy.features()).items()}
    assert all(end[task] < 0.95 * start[task] for task in TASK_NAMES), (start, end)


@pytest.mark.parametrize("name", BY_VALUE + BY_GRADIENT)
def test_a_resumed_run_goes_on_exactly(name: str) -> None:
    def run(steps: range, state: dict | None) -> tuple[list[dict[str, float]], dict]:
        toy, weighting = Toy(), weighting_of(name)
        optimizer = torch.optim.Adam([*toy.parameters(), *weighting.parameters()], lr=0.02)
        if state is not None:
            toy.load_state_dict(state["toy"])
            weighting.load_state_dict(state["weighting"])
            optimizer.load_state_dict(state["optimizer"])
        weights = [advance(toy, weighting, optimizer, step) for step in steps]
        parts = {"toy": toy, "weighting": weighting, "optimizer": optimizer}
        return weights, {key: part.state_dict() for key, part in parts.items()}

    whole, _ = run(range(12), None)
    first, state = run(range(9), None)
    second, _ = run(range(9, 12), state)
    assert first + second == whole
    if name not in ("fixed", "dwa"):
        assert len({tuple(weights.values()) for weights in whole}) > 5, "positive control: the weights do change"


@pytest.mark.parametrize("name", ["uncertainty", "rlw", "famo", "pcgrad"])
def test_what_a_method_has_learnt_is_in_its_state(name: str) -> None:
    """The positive control of the test above: without the state the weights are others."""
    toy, weighting = Toy(), weighting_of(name)
    optimizer = torch.optim.SGD([*toy.parameters(), *weighting.parameters()], lr=0.5)
    for step in range(3):
        advance(toy, weighting, optimizer, step)
    fresh, restored = weighting_of(name), weighting_of(name)
    restored.load_state_dict(weighting.state_dict())

    def answer(one: Weighting) -> dict[str, float]:
        features = toy.features()
        return one.backward(toy.losses(features), features).weights

    assert answer(weighting) == (known := answer(restored))
    changed = [key for key, value in fresh.state_dict().items() if not torch.equal(value, restored.state_dict()[key])]
    assert changed
    if name != "pcgrad":  # its order matters only where three tasks conflict
        assert answer(fresh) != known


@pytest.mark.parametrize("name", BY_VALUE + BY_GRADIENT)
def test_halves_of_an_accumulated_step_add_up(name: str) -> None:
    """Twice the same batch at a share of a half gives the gradients of the batch."""
    if name in ("rlw", "pcgrad"):
        pytest.skip("every batch draws again")
    once, twice = Toy(), Toy()
    for toy, shares in ((once, (1.0,)), (twice, (0.5, 0.5))):
        weighting = weighting_of(name)
        for share in shares:
            features = toy.features()
            weighting.backward(toy.losses(features), features, share=share)
    for first, second in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "package"),
    [("upgrad", "torchjd[quadprog-projector]"), ("cagrad", "torchjd[cagrad]")],
)
def test_a_missing_solver_is_a_typed_error_with_its_pip_command(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchjd._linalg._dual_cone
    import torchjd._mixins

    monkeypatch.setattr(torchjd._mixins, "find_spec", lambda name: None)
    with pytest.raises(WeightingError) as caught:
        weighting_of(name)
    assert f'pip install "{package}"' in str(caught.value)


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "imtl_g", "mgda", "aligned_mtl", "upgrad"])
def test_without_torchjd_the_error_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(WeightingError, match="pip install"):
        weighting_of(name)


def test_the_other_methods_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    for name in (*BY_VALUE, "nash_mtl"):
        weighting_of(name)


def test_the_settings_name_every_method_and_no_other() -> None:
    import typing

    import mtl.settings

    assert sorted(typing.get_args(mtl.settings.Weighting)) == sorted(BY_VALUE + BY_GRADIENT)
    with pytest.raises(WeightingError, match="expected one of"):
        weighting_of("pcgrda")


def test_tasks_come_in_one_order_whatever_the_settings_say() -> None:
    for order in itertools.permutations(TASK_NAMES):
        chosen = chosen_tasks(NYU_TASKS, order)
        assert make_weighting(LossSettings(), tasks=tuple(chosen)).tasks == TASK_NAMES
        assert tuple(tasks_of(parse_config({"model": {"tasks": list(order)}}))) == TASK_NAMES
