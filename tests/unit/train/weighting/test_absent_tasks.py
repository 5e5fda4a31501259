"""Batches without truth of a task: no zero enters a mean, no state of that task moves, the others go on as always."""

from __future__ import annotations

import math

import pytest
import torch
from mtl.settings import LossSettings
from mtl.weighting import Weighting, make_weighting, tapped
from mtl.weighting.dwa import DynamicWeightAverage
from mtl.weighting.famo import Famo
from mtl.weighting.gradient_weighting import GradientWeighting
from mtl.weighting.rlw import RandomWeighting
from mtl.weighting.uncertainty import Uncertainty
from torch import Tensor

pytestmark = pytest.mark.training

TASKS = ("a", "b", "c")


def made(name: str) -> Weighting:
    return make_weighting(LossSettings(weighting=name, weights={"b": 2.0}), tasks=TASKS)  # type: ignore[arg-type]


def losses(**values: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses value * p with p = 1 of each task: the gradient of p is the weight times the value."""
    parameters = {task: torch.ones((), requires_grad=True) for task in values}
    return {task: parameters[task] * value for task, value in values.items()}, parameters


def weights(weighting: Weighting, **values: float) -> dict[str, float]:
    """The weight that each present task's loss got, fixed weights included."""
    found, parameters = losses(**values)
    report = weighting.backward(found)
    assert math.isfinite(report.total)
    return {task: float(parameters[task].grad) / values[task] for task in values}  # type: ignore[arg-type]


def test_fixed_weights_do_not_see_what_is_absent() -> None:
    weighting = made("fixed")
    found, parameters = losses(a=3.0, b=5.0)
    assert weighting.backward(found).total == 3.0 + 2.0 * 5.0
    assert {task: float(p.grad) for task, p in parameters.items()} == {"a": 3.0, "b": 10.0}  # type: ignore[arg-type]


def test_the_geometric_mean_is_of_the_losses_that_there_are() -> None:
    weighting = made("gls")
    found, parameters = losses(a=2.0, b=4.0)  # b counts 8: sqrt(2 * 8) = 4
    assert weighting.backward(found).total == pytest.approx(4.0)
    slopes = {task: float(p.grad) for task, p in parameters.items()}  # type: ignore[arg-type]
    assert slopes == pytest.approx({"a": 2.0, "b": 2.0})
    assert weights(weighting, c=7.0) == pytest.approx({"c": 1.0})


def test_random_weights_of_a_task_do_not_depend_on_who_else_is_there() -> None:
    whole, part = made("rlw"), made("rlw")
    assert isinstance(part, RandomWeighting)
    every, some = weights(whole, a=1.0, b=1.0, c=1.0), weights(part, a=1.0, c=1.0)
    assert some == pytest.approx({"a": every["a"], "c": every["c"]})
    assert int(part.draws) == 1


class TestDwa:
    @staticmethod
    def epoch(weighting: Weighting, *steps: dict[str, float]) -> None:
        for number, step in enumerate(steps):
            weighting.after_step(step, number == len(steps) - 1)

    def test_means_are_over_the_steps_that_had_the_task(self) -> None:
        weighting = made("dwa")
        assert isinstance(weighting, DynamicWeightAverage)
        self.epoch(weighting, {"a": 4.0, "b": 1.0}, {"c": 6.0}, {"a": 2.0, "c": 2.0})
        assert weighting.history[1].tolist() == [3.0, 1.0, 4.0]

    def test_an_epoch_without_a_task_leaves_its_history(self) -> None:
        weighting = made("dwa")
        assert isinstance(weighting, DynamicWeightAverage)
        self.epoch(weighting, {"a": 4.0, "b": 4.0, "c": 4.0})
        self.epoch(weighting, {"a": 2.0, "b": 4.0, "c": 1.0})
        self.epoch(weighting, {"a": 1.0, "b": 4.0})
        assert weighting.history.tolist() == [[2.0, 4.0, 4.0], [1.0, 4.0, 1.0]]
        rates = torch.tensor([0.5, 1.0, 0.25])
        expected = 3 * torch.softmax(rates / 2, dim=0)
        assert weights(weighting, a=1.0, c=1.0) == pytest.approx({"a": float(expected[0]), "c": float(expected[2])})

    def test_a_checkpoint_with_one_count_for_all_tasks_is_read(self) -> None:
        weighting = made("dwa")
        weighting.load_state_dict({**weighting.state_dict(), "steps": torch.tensor(5)})
        assert weighting.state_dict()["steps"].tolist() == [5, 5, 5]


class TestFamo:
    def test_an_absent_task_keeps_its_logit_and_its_moments(self) -> None:
        weighting, pair = made("famo"), make_weighting(LossSettings(weighting="famo"), tasks=("a", "c"))
        assert isinstance(weighting, Famo)
        assert isinstance(pair, Famo)
        for step in range(4):
            here = {"a": 3.0, "c": 1.0 + step}
            found = weights(weighting, **here)
            assert found == pytest.approx(weights(pair, **here))
            after = {"a": 2.0, "c": 1.0 + 0.9 * step}
            weighting.after_step(after, False)
            pair.after_step(after, False)
        for name in ("logits", "first", "second", "steps"):
            assert getattr(weighting, name)[[0, 2]].tolist() == pytest.approx(getattr(pair, name).tolist())
            assert float(getattr(weighting, name)[1]) == 0.0
        assert float(weighting.logits[0]) != 0.0

    def test_a_task_that_was_there_before_does_not_drift_while_it_is_absent(self) -> None:
        weighting = made("famo")
        assert isinstance(weighting, Famo)
        for here in (TASKS, TASKS, ("a", "c"), ("a", "c")):
            if len(here) == 2:
                kept = {name: float(getattr(weighting, name)[1]) for name in ("logits", "first", "second", "steps")}
            weights(weighting, **dict.fromkeys(here, 3.0))
            weighting.after_step({task: 1.0 + number for number, task in enumerate(here)}, False)
        assert kept == {name: float(getattr(weighting, name)[1]) for name in kept}
        assert kept["logits"] != 0.0
        assert weighting.steps.tolist() == [4, 2, 4]

    def test_the_first_step_is_that_of_adam(self) -> None:
        weighting = made("famo")
        assert isinstance(weighting, Famo)
        weights(weighting, a=math.e, c=1.0)
        weighting.after_step({"a": 1.0, "c": 1.0}, False)  # ln fell by 1 and 0; z = 1/2 each: gradient 1/4 and -1/4
        assert weighting.first.tolist() == pytest.approx([0.025, 0.0, -0.025])
        assert weighting.logits.tolist() == pytest.approx([-0.025, 0.0, 0.025], rel=1e-5)

    def test_a_checkpoint_with_one_count_for_all_tasks_is_read(self) -> None:
        weighting = made("famo")
        weighting.load_state_dict({**weighting.state_dict(), "steps": torch.tensor(7)})
        assert weighting.state_dict()["steps"].tolist() == [7, 7, 7]


def test_a_gradient_method_solves_for_the_tasks_that_are_there() -> None:
    """Gradients (3, 0) of a and (0, 4) of c on the features: each is made of one length, and b is not part of it."""
    weighting = made("nash_mtl")
    assert isinstance(weighting, GradientWeighting)
    with torch.no_grad():
        weighting.last.copy_(torch.tensor([1.0, 7.0, 1.0]))
    x = torch.ones(2, requires_grad=True)
    features = tapped([x * 1.0])
    found = {"a": 3.0 * features[0][0], "c": 4.0 * features[0][1]}
    report = weighting.backward(found, features)
    assert report.weights["c"] / report.weights["a"] == pytest.approx(3.0 / 4.0, rel=1e-5)
    assert float(x.grad[0]) == pytest.approx(float(x.grad[1]), rel=1e-5)  # type: ignore[index]
    assert float(weighting.last[1]) == 7.0
    assert report.weights["b"] == 0.0


class TestUncertainty:
    @staticmethod
    def step(weighting: Uncertainty, optimizer: torch.optim.Optimizer, **values: float) -> None:
        optimizer.zero_grad()
        found, _ = losses(**values)
        weighting.backward(found)
        with weighting.leaving_absent(found, optimizer):
            optimizer.step()

    def test_an_absent_task_keeps_its_variance_and_its_moments(self) -> None:
        weighting = made("uncertainty")
        assert isinstance(weighting, Uncertainty)
        optimizer = torch.optim.AdamW(weighting.parameters(), lr=0.1, weight_decay=0.0)
        self.step(weighting, optimizer, a=3.0, b=4.0, c=5.0)
        state = optimizer.state[weighting.log_variance]
        kept = [one[1].clone() for one in (weighting.log_variance.data, state["exp_avg"], state["exp_avg_sq"])]
        others = weighting.log_variance.data[[0, 2]].clone()
        for _ in range(3):
            self.step(weighting, optimizer, a=3.0, c=5.0)
        assert [float(one[1]) for one in (weighting.log_variance.data, state["exp_avg"], state["exp_avg_sq"])] == [
            float(one) for one in kept
        ]
        assert not torch.equal(weighting.log_variance.data[[0, 2]], others)

    def test_with_every_task_there_nothing_is_held(self) -> None:
        plain, held = made("uncertainty"), made("uncertainty")
        for weighting, holding in ((plain, False), (held, True)):
            optimizer = torch.optim.AdamW(weighting.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                found, _ = losses(a=3.0, b=4.0, c=5.0)
                weighting.backward(found)
                if holding:
                    with weighting.leaving_absent(found, optimizer):
                        optimizer.step()
                else:
                    optimizer.step()
        assert torch.equal(plain.state_dict()["log_variance"], held.state_dict()["log_variance"])

    def test_the_report_has_no_term_of_an_absent_task(self) -> None:
        weighting = made("uncertainty")
        with torch.no_grad():
            weighting.log_variance.copy_(torch.tensor([0.0, 5.0, math.log(2.0)]))  # type: ignore[union-attr,operator]
        found, parameters = losses(a=3.0, c=4.0)
        assert weighting.backward(found).total == pytest.approx(3.0 + 4.0 / 2 + math.log(2.0))
        assert float(parameters["c"].grad) == pytest.approx(2.0)  # type: ignore[arg-type]
