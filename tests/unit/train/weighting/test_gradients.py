"""Gradient methods: the one backward pass, the Gramian, and each method against its paper's formula on small numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mtl.models import build_model
from mtl.settings import LossSettings
from mtl.weighting import WeightingError, gradient_cosines, make_weighting, tapped
from mtl.weighting.gradient_weighting import GradientWeighting
from mtl.weighting.gradients import backward_to, encoder_backward, gramian, task_gradients
from torch import Tensor, nn

from edge_mtl.tasks import NYU_TASKS

pytestmark = pytest.mark.training

TASK_NAMES = tuple(NYU_TASKS)

pytest.importorskip("torchjd")

METHODS = ("pcgrad", "cagrad", "nash_mtl", "imtl_g", "mgda", "aligned_mtl", "upgrad")
CONFLICT = np.array([[1.0, 0.2, -0.3], [-0.8, 1.0, 0.1], [0.1, -0.9, 0.7]])
"""Three gradients (rows) of which every two point apart."""


def method(name: str, count: int = 3) -> GradientWeighting:
    made = make_weighting(LossSettings(weighting=name), tasks=TASK_NAMES[:count])  # type: ignore[arg-type]
    assert isinstance(made, GradientWeighting)
    return made


def weights_of(name: str, jacobian: np.ndarray) -> np.ndarray:
    """Weights of the rows of a Jacobian, through the whole path with its normalisation."""
    made = method(name, len(jacobian))
    return made._weights(torch.from_numpy(jacobian @ jacobian.T)).numpy()


class Chain(nn.Module):
    """Two shared stages, the second on top of the first, and three tasks that read both."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.first, self.second = (nn.Parameter(torch.randn(4, 4, generator=generator)) for _ in range(2))
        self.own = nn.Parameter(torch.randn(3, 4, 8, generator=generator))
        self.inputs = torch.randn(6, 4, generator=generator)

    def features(self) -> tuple[Tensor, ...]:
        early = torch.tanh(self.inputs @ self.first)
        return early, torch.tanh(early @ self.second)

    def losses(self, features: tuple[Tensor, ...]) -> dict[str, Tensor]:
        joined = torch.cat(features, dim=1)
        return {task: ((joined @ self.own[i].T - i) ** 2).mean() for i, task in enumerate(TASK_NAMES)}

    @property
    def shared(self) -> list[Tensor]:
        return [self.first, self.second]


def test_the_encoder_gets_the_weighted_gradients_and_the_tasks_their_own() -> None:
    chain, weights = Chain(), torch.tensor([0.2, -1.5, 3.0])
    each = chain.losses(chain.features()).values()
    reference = [torch.autograd.grad(loss, [*chain.shared, chain.own], retain_graph=True) for loss in each]
    features = tapped(chain.features())
    losses = list(chain.losses(features).values())
    encoder_backward(features, backward_to(features, losses), weights.tolist())
    for index, parameter in enumerate(chain.shared):
        expected = sum(float(weight) * parts[index] for weight, parts in zip(weights, reference, strict=True))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(chain.own.grad, sum(parts[2] for parts in reference))


def test_the_encoder_is_passed_once_however_many_tasks_there_are() -> None:
    chain = Chain()
    early, late = chain.features()
    assert late.grad_fn is not None
    visits: list[int] = []
    late.grad_fn.register_hook(lambda *_: visits.append(1))
    features = tapped((early, late))
    losses = chain.losses(features)
    gradient_cosines(losses, features)
    assert not visits
    make_weighting(LossSettings(weighting="mgda"), tasks=TASK_NAMES).backward(losses, features)
    assert len(visits) == 1


@pytest.mark.parametrize("name", ["fixed", *METHODS])
def test_a_part_of_one_task_is_passed_once(name: str) -> None:
    """Not once more per task, with zeros, as it would be if the losses were taken out of one tensor."""
    chain, visits = Chain(), dict.fromkeys(TASK_NAMES, 0)
    features = tapped(chain.features())
    losses = chain.losses(features)

    def count(task: str) -> None:
        visits[task] += 1

    for task, loss in losses.items():
        assert loss.grad_fn is not None
        loss.grad_fn.register_hook(lambda *_, task=task: count(task))
    make_weighting(LossSettings(weighting=name), tasks=TASK_NAMES).backward(losses, features)  # type: ignore[arg-type]
    assert visits == dict.fromkeys(TASK_NAMES, 1)


def test_features_that_are_not_tapped_are_refused_rather_than_counted_twice() -> None:
    chain = Chain()
    features = chain.features()
    with pytest.raises(RuntimeError, match="second time"):
        make_weighting(LossSettings(weighting="mgda"), tasks=TASK_NAMES).backward(chain.losses(features), features)


def test_gradients_of_the_tasks_own_parameters_keep_their_memory_format_and_what_was_there_before() -> None:
    """A fused optimiser wants gradients laid out as their parameters; accumulated steps add up."""
    weight = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    image = torch.randn(2, 3, 8, 8, requires_grad=True)
    expected = torch.autograd.grad(torch.nn.functional.conv2d(image, weight).pow(2).sum(), weight)[0]
    features = tapped([image])
    for count in (1, 2):
        losses = list(torch.nn.functional.conv2d(features[0], weight).pow(2).sum(dim=(0, 2, 3)))
        backward_to(features, losses, share=0.5)
        assert weight.grad is not None
        assert weight.grad.stride() == weight.stride()
        torch.testing.assert_close(weight.grad, 0.5 * count * expected)
    assert image.grad is None


def test_the_gramian_holds_the_inner_products_over_all_features() -> None:
    chain = Chain()
    features = tapped(chain.features())
    gradients = task_gradients(list(chain.losses(features).values()), features)
    rows = np.stack([np.concatenate([part.numpy().ravel() for part in parts]) for parts in gradients]).astype(float)
    np.testing.assert_allclose(gramian(gradients).numpy(), rows @ rows.T, rtol=1e-5)
    cosines = gradient_cosines(chain.losses(features), features)
    for i, j in itertools.combinations(range(3), 2):
        expected = rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
        assert cosines[TASK_NAMES[i], TASK_NAMES[j]] == pytest.approx(expected, abs=1e-5)


def test_cosines_of_conflict_agreement_and_nothing() -> None:
    x = torch.ones(4, requires_grad=True)
    losses = {"segmentation": x.sum(), "depth": (-2 * x).sum(), "normals": (x * 0.0).sum()}
    cosines = gradient_cosines(losses, [x])
    assert cosines["segmentation", "depth"] == pytest.approx(-1.0)
    assert np.isnan(cosines["segmentation", "normals"])
    assert gradient_cosines({"a": x.sum(), "b": 3 * x.sum()}, [x])["a", "b"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", METHODS)
def test_without_a_shared_representation_the_error_says_what_to_use(name: str) -> None:
    losses = {task: torch.tensor(1.0, requires_grad=True) for task in TASK_NAMES}
    with pytest.raises(WeightingError, match=r"model\.sharing"):
        method(name).backward(losses, ())


@pytest.mark.parametrize("name", METHODS)
def test_weights_do_not_depend_on_how_small_the_gradients_are(name: str) -> None:
    """TorchJD's solvers take gradients below 1e-2 in norm for zero; those of a mean over pixels often are."""
    expected = weights_of(name, CONFLICT)
    np.testing.assert_allclose(weights_of(name, 1e-6 * CONFLICT), expected, rtol=1e-3)
    np.testing.assert_allclose(weights_of(name, 1e6 * CONFLICT), expected, rtol=1e-3)


def test_torchjd_alone_does_depend_on_it() -> None:
    """The positive control of the test above."""
    from torchjd.aggregation import UPGradWeighting

    small = torch.from_numpy(1e-6 * CONFLICT)
    np.testing.assert_allclose(UPGradWeighting()(small @ small.T), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_tasks_that_agree_in_length_and_do_not_conflict_weigh_alike(name: str) -> None:
    weights = weights_of(name, np.eye(3))
    expected = 1 + 0.4 if name == "cagrad" else 1.0
    np.testing.assert_allclose(weights, expected, rtol=1e-3)


@pytest.mark.parametrize("gradients", [[[1.0, 0.0], [-0.5, 1.0]], [[1.0, 1.0], [3.0, 4.0]], [[0.1, 0.0], [-3.0, 2.0]]])
def test_mgda_of_two_tasks_is_the_closed_form(gradients: list[list[float]]) -> None:
    a, b = np.array(gradients)
    share = np.clip((b - a) @ b / ((a - b) @ (a - b)), 0, 1)
    np.testing.assert_allclose(weights_of("mgda", np.array(gradients)), [2 * share, 2 * (1 - share)], atol=1e-3)


def test_mgda_of_three_tasks_is_the_shortest_convex_combination() -> None:
    weights = weights_of("mgda", CONFLICT) / 3
    steps = np.linspace(0, 1, 201)
    grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1])
    shortest = np.linalg.norm(grid @ CONFLICT, axis=1).min()
    assert weights.sum() == pytest.approx(1)
    assert np.linalg.norm(weights @ CONFLICT) == pytest.approx(shortest, rel=0.02)


def pcgrad(jacobian: np.ndarray, orders: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Algorithm 1 of the paper on the gradients themselves."""
    total = np.zeros(jacobian.shape[1])
    for i, order in enumerate(orders):
        own = jacobian[i].copy()
        for j in order:
            if j != i and own @ jacobian[j] < 0:
                own -= own @ jacobian[j] / (jacobian[j] @ jacobian[j]) * jacobian[j]
        total += own
    return total


def test_pcgrad_draws_one_of_the_papers_orders_and_all_of_them_in_time() -> None:
    orders = list(itertools.permutations(range(3)))
    possible = [pcgrad(CONFLICT, (a, b, c)) for a in orders for b in orders for c in orders]
    made = method("pcgrad")
    products = torch.from_numpy(CONFLICT @ CONFLICT.T)
    before = torch.get_rng_state()
    drawn = [made._weights(products).numpy() @ CONFLICT for _ in range(300)]
    assert torch.equal(before, torch.get_rng_state()), "other random numbers are left alone"
    assert all(np.isclose(direction, possible, rtol=1e-6).all(axis=1).any() for direction in drawn)
    assert len(np.unique(np.round(drawn, 6), axis=0)) == len(np.unique(np.round(possible, 6), axis=0))
    np.testing.assert_allclose(np.mean(drawn, axis=0), np.mean(possible, axis=0), atol=0.08)


def test_pcgrad_of_two_tasks_needs_no_order() -> None:
    jacobian = CONFLICT[:2]
    np.testing.assert_allclose(weights_of("pcgrad", jacobian) @ jacobian, pcgrad(jacobian, ((0, 1), (0, 1))), rtol=1e-6)


@pytest.mark.parametrize("jacobian", [CONFLICT[:2], CONFLICT[1:] * [[1.0], [0.2]]])
def test_cagrad_is_the_dual_of_the_paper(jacobian: np.ndarray) -> None:
    mean = jacobian.mean(axis=0)
    radius = 0.4 * np.linalg.norm(mean)
    share = np.linspace(0, 1, 20_001)[:, None]
    combined = share * jacobian[0] + (1 - share) * jacobian[1]
    lengths = np.linalg.norm(combined, axis=1)
    best = int(np.argmin(combined @ mean + radius * lengths))
    expected = mean + radius * combined[best] / lengths[best]
    np.testing.assert_allclose(weights_of("cagrad", jacobian) @ jacobian / 2, expected, rtol=1e-3, atol=1e-4)


def test_imtl_g_has_equal_projections_on_every_gradient() -> None:
    jacobian = CONFLICT * [[1.0], [5.0], [0.1]]
    weights = weights_of("imtl_g", jacobian)
    projections = jacobian @ (weights @ jacobian) / np.linalg.norm(jacobian, axis=1)
    np.testing.assert_allclose(projections, projections[0], rtol=1e-6)
    assert weights.sum() == pytest.approx(3)


def test_aligned_mtl_gives_all_principal_components_the_shortest_length() -> None:
    left, lengths, right = np.linalg.svd(CONFLICT)
    aligned = lengths.min() * left @ right
    np.testing.assert_allclose(weights_of("aligned_mtl", CONFLICT) @ CONFLICT, aligned.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (1.0, 4.0, 0.3), (1e-3, 1.0, 30.0)])
def test_nash_mtl_solves_the_bargain(scales: tuple[float, ...]) -> None:
    jacobian = CONFLICT * np.array(scales)[:, None]
    weights = weights_of("nash_mtl", jacobian)
    assert (weights > 0).all()
    shares = weights * (jacobian @ (weights @ jacobian))  # a (G a), the same for every task
    np.testing.assert_allclose(shares, shares.mean(), rtol=0.1 if min(scales) < 0.01 else 1e-4)


def test_nash_mtl_finds_what_the_papers_solver_finds() -> None:
    pytest.importorskip("cvxpy")
    pytest.importorskip("ecos")
    from torchjd.aggregation import NashMTL

    jacobian = CONFLICT * [[1.0], [2.0], [0.5]]
    theirs = NashMTL(n_tasks=3, max_norm=0.0)
    for _ in range(3):
        expected = theirs.weighting(torch.from_numpy(jacobian)).numpy()
    weights = weights_of("nash_mtl", jacobian)
    np.testing.assert_allclose(weights / weights.sum(), expected / expected.sum(), rtol=0.01)


def test_nash_mtl_of_gradients_that_cancel_is_finite() -> None:
    weights = weights_of("nash_mtl", np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights[0], weights[1])


def upgrad(jacobian: np.ndarray) -> np.ndarray:
    """The sum of the projections of all gradients onto the dual cone, by trying every set of active constraints."""
    total = np.zeros(jacobian.shape[1])
    for gradient in jacobian:
        best: np.ndarray | None = None
        for size in range(len(jacobian) + 1):
            for active in itertools.combinations(range(len(jacobian)), size):
                rows = jacobian[list(active)]
                found = gradient - rows.T @ np.linalg.lstsq(rows.T, gradient, rcond=None)[0] if active else gradient
                closer = best is None or np.linalg.norm(found - gradient) < np.linalg.norm(best - gradient)
                if (jacobian @ found >= -1e-9).all() and closer:
                    best = found
        assert best is not None
        total += best
    return total


def test_upgrad_adds_the_projections_onto_the_dual_cone() -> None:
    np.testing.assert_allclose(weights_of("upgrad", CONFLICT) @ CONFLICT, upgrad(CONFLICT), atol=2e-3)


@given(st.integers(0, 10_000), st.integers(2, 3))
@settings(max_examples=40, deadline=None)
def test_upgrad_raises_no_loss_to_first_order(seed: int, tasks: int) -> None:
    jacobian = np.random.default_rng(seed).normal(size=(tasks, 4))
    change = jacobian @ (weights_of("upgrad", jacobian) @ jacobian)
    assert (change >= -1e-3 * (jacobian**2).sum()).all()


def test_the_plain_sum_does_raise_one() -> None:
    """The positive control of the test above."""
    jacobian = np.array([[1.0, 0.0], [-3.0, 1.0]])
    assert (jacobian @ jacobian.sum(axis=0)).min() < 0


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_without_truth_of_a_task_weighs_the_others_as_if_it_were_not_there(name: str) -> None:
    jacobian = CONFLICT.copy()
    jacobian[1] = 0
    weights = weights_of(name, jacobian)
    assert np.isfinite(weights).all()
    assert weights[1] == 0
    np.testing.assert_allclose(weights[[0, 2]], weights_of(name, jacobian[[0, 2]]), rtol=1e-6)


class Failing(GradientWeighting):
    """A solver that gives up when told to."""

    fails = False

    def solve(self, products: Tensor) -> Tensor:
        if self.fails:
            raise ValueError("no solution")
        return torch.full((len(products),), 2.0)


def test_a_solver_that_fails_leaves_the_last_weights_and_a_hundred_failures_stop_the_run() -> None:
    made = Failing(LossSettings(weighting="mgda"), tasks=TASK_NAMES)
    chain = Chain()

    def weights() -> set[float]:
        features = tapped(chain.features())
        return set(made.backward(chain.losses(features), features).weights.values())

    assert weights() == {2.0}
    made.fails = True
    for _ in range(99):
        assert weights() == {2.0}
    with pytest.raises(WeightingError, match="100 batches in a row"):
        weights()
    made.fails = False
    assert weights() == {2.0}
    assert int(made.unsolved) == 0


@pytest.mark.parametrize("name", METHODS)
def test_gradients_that_are_not_finite_reach_the_loop_and_not_the_solver(name: str) -> None:
    chain, made = Chain(), method(name)
    features = tapped(chain.features())
    losses = chain.losses(features)
    losses["depth"] = losses["depth"] * float("nan")
    report = made.backward(losses, features)
    assert np.isnan(report.total)
    assert not torch.isfinite(chain.first.grad).all()  # type: ignore[arg-type]
    assert int(made.unsolved) == 0


def test_a_real_model_takes_a_step_with_weighted_gradients() -> None:
    torch.manual_seed(0)
    model = build_model("pvt_v2_b0", width=8).eval()
    image = torch.rand(1, 3, 32, 32)
    generator = torch.Generator().manual_seed(1)
    shared = [parameter for parameter in model.backbone.parameters() if parameter.ndim > 1][::10]
    targets = {task: torch.rand(value.shape, generator=generator) for task, value in model(image).items()}
    features = tapped(model.features(image))
    maps = model.from_features(features, (32, 32))
    losses = {task: ((maps[task] - targets[task]) ** 2).mean() for task in maps}
    reference = {task: torch.autograd.grad(loss, shared, retain_graph=True) for task, loss in losses.items()}
    weights = make_weighting(LossSettings(weighting="upgrad"), tasks=TASK_NAMES).backward(losses, features).weights
    for index, parameter in enumerate(shared):
        expected = sum(weight * reference[task][index] for task, weight in weights.items())
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is not None for parameter in model.parameters())
