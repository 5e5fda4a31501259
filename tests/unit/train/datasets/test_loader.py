"""Batches are a function of (seed, stage, step); the learning rate and the moving average are functions of the step."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Batch, Frame
from mtl.datasets.loader import BatchPlan, StepBatches, batches
from mtl.ema import Ema
from mtl.geometry import canonical_intrinsics
from mtl.schedule import learning_rate
from mtl.settings import OptimizerSettings

from edge_mtl.tasks import NYU_TASKS
from tests.nyu_frames import nyu_frame

pytestmark = pytest.mark.training

CAMERA = (30.0, 30.0, 31.5, 15.5)


@dataclass(frozen=True)
class Numbered:
    """Frames whose label is their number."""

    count: int
    tasks = NYU_TASKS

    def open(self) -> Numbered:
        return self

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Frame:
        image = np.random.default_rng(index).integers(0, 255, (32, 64, 3), np.uint8)
        normals = np.zeros((32, 64, 3), np.float32)
        normals[..., 2] = -1
        return nyu_frame(image, np.full((32, 64), index, np.uint8), np.full((32, 64), 2.0, np.float32), normals, CAMERA)


def plan(*, seed: int = 1, stage: int = 0, stride: int = 4) -> BatchPlan:
    return BatchPlan(seed=seed, stage=stage, size=(32, 64), batch=3, stride=stride, augment=AugmentSettings())


def same(first: Batch, second: Batch) -> bool:
    equal = all(torch.equal(first.targets[task], second.targets[task]) for task in first.targets)
    return equal and torch.equal(first.image, second.image) and first.phase == second.phase


def test_a_batch_depends_on_its_step_alone() -> None:
    in_order = StepBatches(Numbered(10), plan())
    everything = [in_order[step] for step in range(8)]
    assert same(StepBatches(Numbered(10), plan())[6], everything[6])
    assert not same(StepBatches(Numbered(10), plan(seed=2))[6], everything[6])
    assert not same(StepBatches(Numbered(10), plan(stage=1))[6], everything[6])


def test_worker_processes_change_nothing() -> None:
    here = list(batches(Numbered(10), plan(), first=2, last=6, workers=0))
    there = list(batches(Numbered(10), plan(), first=2, last=6, workers=2))
    assert len(here) == len(there) == 4
    assert all(same(a, b) for a, b in zip(here, there, strict=True))


def test_every_frame_is_seen_once_in_every_pass() -> None:
    source = StepBatches(Numbered(6), plan())
    seen = [int(label) for step in range(4) for label in source[step].targets["segmentation"][:, 0, 0]]
    assert sorted(seen[:6]) == list(range(6))
    assert sorted(seen[6:]) == list(range(6))
    assert seen[:6] != seen[6:]


def test_loading_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(batches(Numbered(4), plan(), first=0, last=1, workers=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("stride", "shape"), [(4, (3, 8, 16)), (0, (3, 32, 64)), (1, (3, 32, 64))])
def test_targets_have_one_pixel_per_cell_or_all(stride: int, shape: tuple[int, ...]) -> None:
    batch = StepBatches(Numbered(4), plan(stride=stride))[0]
    assert tuple(batch.targets["segmentation"].shape) == shape
    assert tuple(batch.targets["normals"].shape) == (*shape, 3)
    assert tuple(batch.image.shape) == (3, 32, 64, 3)
    assert (batch.phase is not None) == (stride > 1)


def test_a_plan_says_for_which_camera_depth_is_given() -> None:
    own, canonical = (
        StepBatches(Numbered(4), replace(plan(), augment=AugmentSettings(mode="none"), canonical=canonical))[0]
        for canonical in (False, True)
    )
    assert own.targets["depth"].unique().tolist() == [2.0]
    expected = 2.0 * canonical_intrinsics(32, 64)[0] / CAMERA[0]
    assert canonical.targets["depth"].unique().tolist() == pytest.approx([expected])


def test_the_rate_warms_up_and_decays_to_its_floor() -> None:
    settings = OptimizerSettings(lr=1.0, warmup=0.1, floor=0.01)
    rates = [learning_rate(step, steps=100, settings=settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.01)


def test_the_average_follows_quickly_first_and_slowly_later() -> None:
    model = torch.nn.BatchNorm1d(1)
    ema = Ema(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.num_batches_tracked.fill_(7)
    ema.update(model, 0)
    assert float(ema.model.weight) == pytest.approx(1 * 0.1 + 2 * 0.9)
    before = float(ema.model.weight)
    ema.update(model, 10_000)
    assert float(ema.model.weight) == pytest.approx(before * 0.9 + 2 * 0.1)
    assert int(ema.model.num_batches_tracked) == 7
    assert not ema.model.training


def test_closing_ends_the_processes_whatever_still_refers_to_the_batches() -> None:
    coming = batches(Numbered(10), plan(), first=0, last=100, workers=1)
    next(coming)
    assert len(multiprocessing.active_children()) == 1
    coming.close()
    assert multiprocessing.active_children() == []
    coming.close()
    batches(Numbered(10), plan(), first=0, last=1, workers=0).close()
