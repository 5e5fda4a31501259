"""Several processes learn what one would: the same losses, gradients and weights, whatever weighs the losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtl import microbatches
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Batch
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.microbatches import split
from mtl.parallel import ALONE, Parallel, ParallelError, PeerFailed, launched
from mtl.settings import RunSettings

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS
from tests.nyu_frames import nyu_frame
from tests.tiny_training import made_up_batch, tiny_settings, tiny_training, together

pytestmark = pytest.mark.training

FROZEN = {"optimizer.batch_norm": "frozen", "losses.class_weights": "true", "losses.label_smoothing": "0.1"}
WEIGHTINGS = ("fixed", "uncertainty", "dwa", "rlw", "gls", "famo", "pcgrad", "imtl_g")
STEPS = 3


def settings_of(weighting: str, **changes: str) -> RunSettings:
    given = {**FROZEN, "losses.weighting": weighting, "losses.depth": "2.0", **changes}
    return tiny_settings(Path("rooms"), Path("runs"), **given)


def learn(parallel: Parallel, settings: RunSettings, blind: bool = False) -> dict[str, Any]:
    """Three steps on this process's part of three batches: the losses of each and the weights at the end."""
    if blind:  # every part counts the same, however little truth it has
        microbatches.part_factors.__code__ = (lambda own, total, *, parts: own.float() * 0 + 1.0).__code__
    training = tiny_training(settings, parallel=parallel)
    reports = []
    for step in range(STEPS):
        reports.append(training.advance(split(made_up_batch(4, seed=step), parallel.world)[parallel.rank]))
    return {
        "losses": [report.losses for report in reports],
        "weights": [report.weights for report in reports],
        "norms": [report.gradient_norm for report in reports],
        "model": {name: value.numpy() for name, value in training.model.state_dict().items()},
        "weighting": {name: value.numpy() for name, value in training.weighting.state_dict().items()},
    }


def learn_all(parallel: Parallel, cases: Mapping[str, RunSettings]) -> dict[str, Any]:
    return {name: learn(parallel, settings) for name, settings in cases.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes that are compared with this one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cases() -> dict[str, RunSettings]:
    return {name: settings_of(name) for name in WEIGHTINGS}


@pytest.fixture(scope="module")
def by_two(cases: dict[str, RunSettings]) -> list[dict[str, Any]]:
    """What each of two processes found, by weighting."""
    results = together(learn_all, 2, cases)
    assert [code for code, _ in results] == [0, 0], results
    return [found for _, found in results]


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_two_processes_learn_what_one_does(name: str, cases: dict[str, RunSettings], by_two: list[dict[str, Any]]) -> None:
    one, two = learn(ALONE, cases[name]), by_two[0][name]
    assert_same_course(one, two)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_all_processes_have_the_same_weights_bit_for_bit(name: str, by_two: list[dict[str, Any]]) -> None:
    first, second = by_two[0][name], by_two[1][name]
    for part in ("model", "weighting"):
        assert not [key for key, value in first[part].items() if not np.array_equal(value, second[part][key])]


def assert_same_course(one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    for ours, theirs in zip(one["losses"], two["losses"], strict=True):
        assert theirs == pytest.approx(ours, rel=2e-4)
    for ours, theirs in zip(one["weights"], two["weights"], strict=True):
        assert theirs == pytest.approx(ours, rel=2e-3, abs=2e-3)
    assert two["norms"] == pytest.approx(one["norms"], rel=2e-3)
    away = np.concatenate([np.abs(value - two["model"][key]).ravel() for key, value in one["model"].items()])
    assert np.quantile(away, 0.99) < 2e-4  # three steps of Adam at up to 1e-3 each


def test_parts_that_count_the_same_whatever_truth_they_have_learn_something_else() -> None:
    settings = settings_of("fixed")
    [(_, blind), _] = together(learn, 2, settings, True)
    with pytest.raises(AssertionError):
        assert_same_course(learn(ALONE, settings), blind)


def test_a_batch_in_four_parts_one_after_the_other_teaches_the_same() -> None:
    whole = learn(ALONE, settings_of("uncertainty"))
    assert_same_course(whole, learn(ALONE, settings_of("uncertainty", **{"loop.accumulate": "4"})))


def test_two_processes_with_their_own_statistics_are_two_parts_one_after_the_other() -> None:
    local = settings_of("fixed", **{"optimizer.batch_norm": "local"})
    parts = settings_of("fixed", **{"optimizer.batch_norm": "local", "loop.accumulate": "2"})
    [(_, two), (_, other)] = together(learn, 2, local)
    one = learn(ALONE, parts)
    for run in (one, two):  # the statistics themselves are gathered in another order
        run["model"] = {key: value for key, value in run["model"].items() if "running" not in key}
    assert_same_course(one, two)
    assert not [key for key, value in two["model"].items() if not np.array_equal(value, other["model"][key])]


def fail_second(parallel: Parallel) -> str:
    def action() -> str:
        if parallel.rank == 1:
            raise BuildError("the second process has no disk")
        return "done"

    return parallel.first_then_others(action)


def die_in_step(parallel: Parallel, settings: RunSettings) -> str:
    training = tiny_training(settings, parallel=parallel)
    if parallel.rank == 1:
        raise BuildError("the second process has no disk")
    with parallel.watched():
        training.advance(split(made_up_batch(4), 2)[0])
    return "went on"


@pytest.mark.parametrize("work", ["setting up", "a step"])
def test_a_process_that_fails_ends_the_others(work: str) -> None:
    results = together(fail_second, 2) if work == "setting up" else together(die_in_step, 2, settings_of("fixed"))
    (first_code, first), (second_code, second) = results
    assert first_code == second_code == 1
    assert first.startswith("PeerFailed: another process of this run")
    assert second == "BuildError: the second process has no disk"


def bad_then_good(parallel: Parallel, settings: RunSettings) -> tuple[bool, bool, bool]:
    """A step in which only the second process meets an infinite depth, then a good one."""
    training = tiny_training(settings, parallel=parallel)
    before = [value.clone() for value in training.model.state_dict().values()]
    bad = split(spoilt(made_up_batch(4)), parallel.world)[parallel.rank]
    refused = not training.advance(bad).finite
    kept = all(torch.equal(a, b) for a, b in zip(before, training.model.state_dict().values(), strict=True) if a.ndim)
    went_on = training.advance(split(made_up_batch(4, seed=1), parallel.world)[parallel.rank]).finite
    return refused, kept, went_on


def spoilt(batch: Batch) -> Batch:
    """An infinite depth in the last frame."""
    depth = batch.targets["depth"].clone()
    depth[-1, :4] = torch.inf
    return Batch(batch.image, {**batch.targets, "depth": depth}, batch.phase)


@pytest.mark.parametrize("weighting", ["uncertainty", "imtl_g", "famo"])
def test_a_batch_without_a_finite_loss_changes_nothing(weighting: str) -> None:
    settings = settings_of(weighting, **{"optimizer.batch_norm": "local"})
    assert bad_then_good(ALONE, settings) == (True, True, True)


def test_a_bad_part_in_one_process_stops_the_step_in_all() -> None:
    results = together(bad_then_good, 2, settings_of("fixed", **{"optimizer.batch_norm": "local"}))
    assert results == [(0, (True, True, True))] * 2


def test_synced_statistics_are_refused_without_gpus() -> None:
    with pytest.raises(BuildError, match="needs GPUs"):
        tiny_training(settings_of("fixed", **{"optimizer.batch_norm": "synced"}), parallel=Parallel(rank=0, world=2))


class Numbered:
    """Frames that show their number."""

    tasks = NYU_TASKS

    def open(self) -> Numbered:
        return self

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        shape = (32, 64)
        normals = np.zeros((*shape, 3), np.float32)
        normals[..., 2] = -1.0
        image, label = np.full((*shape, 3), 30 * index, np.uint8), np.full(shape, index, np.uint8)
        return nyu_frame(image, label, np.full(shape, 1.0 + index, np.float32), normals, (60.0, 60.0, 31.5, 15.5))


def test_the_parts_of_a_batch_are_the_batch() -> None:
    def plan(part: tuple[int, int]) -> BatchPlan:
        return BatchPlan(seed=3, stage=0, size=(32, 64), batch=4, stride=4, augment=AugmentSettings(), part=part)

    whole = StepBatches(Numbered(), plan((0, 1)))[5]
    parts = [StepBatches(Numbered(), plan((index, 2)))[5] for index in range(2)]
    assert {part.phase for part in parts} == {whole.phase}
    assert torch.equal(torch.cat([part.image for part in parts]), whole.image)
    for task, value in whole.targets.items():
        assert torch.equal(torch.cat([part.targets[task] for part in parts]), value)


def test_without_torchrun_a_process_is_alone() -> None:
    with launched("cpu", environment={}) as parallel:
        assert parallel is ALONE
    assert ALONE.first_then_others(lambda: 3) == 3
    assert isinstance(PeerFailed(""), ParallelError)
