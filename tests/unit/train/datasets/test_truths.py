"""Frames that lack a truth: they train the other tasks, and a task that no frame of a batch has is not part of the step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mtl.datasets.augment import apply_view, whole_view
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Batch
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.evaluate import evaluate
from mtl.losses import MultiTaskLoss
from mtl.microbatches import on_device, split
from mtl.parallel import Parallel
from mtl.settings import LossSettings, RunSettings
from mtl.weighting import make_weighting

from edge_mtl.tasks import NYU_TASKS
from tests.synthetic_data import RectanglesRequest
from tests.tiny_training import made_up_batch, tiny_settings, tiny_training, together

pytestmark = pytest.mark.training

TASKS = ("things", "depth")


def batch(lacking: int) -> Batch:
    plan = BatchPlan(seed=1, stage=0, size=(64, 96), batch=2, stride=4, augment=AugmentSettings(mode="none"))
    return StepBatches(RectanglesRequest(TASKS, "train", 2, lacking), plan)[0]


def without(whole: Batch, task: str) -> Batch:
    return Batch(whole.image, {name: value for name, value in whole.targets.items() if name != task}, whole.phase)


def test_a_frame_without_a_truth_is_unknown_in_the_target_and_nothing_else_changes() -> None:
    whole, lacking = batch(0), batch(2)
    known = [bool((depth > 0).any()) for depth in lacking.targets["depth"]]
    assert sorted(known) == [False, True]
    assert torch.equal(lacking.targets["things"], whole.targets["things"])
    kept = known.index(True)
    assert torch.equal(lacking.targets["depth"][kept], whole.targets["depth"][kept])


def test_a_truth_that_no_frame_has_is_no_target() -> None:
    assert set(batch(1).targets) == {"things"}


def test_a_task_without_a_target_has_no_loss_but_the_others_do() -> None:
    answers = {"segmentation": torch.zeros(1, 13, 4, 4), "depth": torch.ones(1, 1, 4, 4), "normals": torch.ones(1, 3, 4, 4)}
    loss = MultiTaskLoss(LossSettings(), NYU_TASKS, stride=1)
    assert list(loss(answers, {"depth": torch.full((1, 4, 4), 2.0)}, None)) == ["depth"]
    assert loss.counts({"depth": torch.full((1, 4, 4), 2.0)}, device=torch.device("cpu")).tolist() == [0.0, 16.0, 0.0]


def settings_of(**changes: str) -> RunSettings:
    from pathlib import Path

    return tiny_settings(Path("nowhere"), Path("nowhere"), **changes)


@pytest.mark.parametrize(
    "weighting",
    ["fixed", "uncertainty", "dwa", "rlw", "gls", "famo", "pcgrad", "nash_mtl", "imtl_g", "mgda", "aligned_mtl"],
)
def test_every_weighting_takes_a_step_without_a_task(weighting: str) -> None:
    pytest.importorskip("torchjd")
    training = tiny_training(settings_of(**{"losses.weighting": weighting}))
    layer = training.model.decoder.output_layers()["depth"]
    before = layer.weight.detach().clone()
    report = training.advance(without(made_up_batch(4), "depth"))
    assert report.finite
    assert set(report.losses) == set(report.weights) == {"segmentation", "normals"}
    assert torch.equal(layer.weight, before), "nothing is learnt where nothing is known"
    assert set(training.advance(made_up_batch(4)).losses) == {"segmentation", "depth", "normals"}


def test_the_uncertainty_of_an_absent_task_stays() -> None:
    weighting = make_weighting(LossSettings(weighting="uncertainty"), tasks=("first", "second"))
    weighting.backward({"second": torch.tensor(3.0, requires_grad=True)})
    assert weighting.log_variance.grad.tolist() == [0.0, pytest.approx(1.0 - 3.0)]


def test_a_batch_without_any_truth_changes_nothing() -> None:
    training = tiny_training(settings_of())
    before = [value.clone() for value in training.model.parameters()]
    whole = made_up_batch(4)
    report = training.advance(Batch(whole.image, {}, whole.phase))
    assert (report.losses, report.finite) == ({}, True)
    assert all(torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))


def weights_after(parallel: Parallel, settings: RunSettings) -> tuple[set[str], list[float]]:
    """A step in which only the first process has depth."""
    training = tiny_training(settings, parallel=parallel)
    own = split(made_up_batch(4), parallel.world)[parallel.rank]
    report = training.advance(own if parallel.is_first else without(own, "depth"))
    layer = training.model.decoder.output_layers()["depth"]
    return set(report.losses), layer.weight.detach().flatten().tolist()


def test_a_truth_that_one_process_lacks_is_learnt_from_the_other() -> None:
    (code, first), (other_code, second) = together(weights_after, 2, settings_of(**{"losses.weighting": "uncertainty"}))
    assert code == other_code == 0
    assert first == second
    assert first[0] == {"segmentation", "depth", "normals"}
    untouched = tiny_training(settings_of()).model.decoder.output_layers()["depth"].weight.detach().flatten().tolist()
    assert first[1] != untouched


def test_ragged_targets_are_cut_and_moved_like_maps() -> None:
    boxes = [torch.zeros(count, 4) for count in (2, 0, 5, 1)]
    whole = Batch(torch.zeros(4, 8, 8, 3), {"boxes": boxes, "scene": torch.arange(4)}, None)
    first, second = split(whole, 2)
    assert [len(one) for one in second.targets["boxes"]] == [5, 1]
    assert first.targets["scene"].tolist() == [0, 1]
    moved = on_device(whole, torch.device("meta"))
    assert {one.device.type for one in (*moved.targets["boxes"], moved.targets["scene"], moved.image)} == {"meta"}


def test_frames_without_a_truth_are_left_out_of_its_measures() -> None:
    def predict(images: np.ndarray) -> dict[str, torch.Tensor]:
        shape = (len(images), 1, 16, 24)
        return {"things": torch.rand(len(images), 13, 16, 24), "depth": torch.full(shape, 2.0)}

    some, none = RectanglesRequest(TASKS, "test", 4, 2), RectanglesRequest(TASKS, "test", 4, 1)
    measured = [evaluate(predict, frames, frames.tasks, size=(64, 96)) for frames in (some, none)]
    assert np.isfinite(measured[0]["depth_rel"])
    assert np.isnan(measured[1]["depth_rel"])
    assert all(np.isfinite(one["miou"]) for one in measured)


def test_a_view_has_the_truths_that_the_frame_has() -> None:
    source = RectanglesRequest(TASKS, "train", 2, 1)
    seen = apply_view(source[0], whole_view((64, 96), aspect=1.5), source.tasks, size=(32, 64))
    assert set(seen.truths) == {"things"}
