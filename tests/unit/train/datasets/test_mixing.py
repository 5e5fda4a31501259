"""Frames mixed within a batch: image and truths of the same pixels, whatever is missing, in parts, at any step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Batch, Frame
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.datasets.mixing import class_mask, rectangle_mask

from edge_mtl.tasks import NYU_TASKS, VOID

pytestmark = pytest.mark.training

SIZE = (32, 64)
PLAIN = AugmentSettings(
    flip=0.0, scale_probability=0.0, brightness=0, contrast=0, gamma=0, colour=0, saturation=0, blur=0, noise=0
)


@dataclass(frozen=True)
class Coded:
    """Frames whose image, label, depth and normals all tell the frame's number and, by class, the half of the pixel."""

    lacking: str = ""
    tasks = NYU_TASKS

    def open(self) -> Coded:
        return self

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Frame:
        label = np.full(SIZE, 2 * index, np.uint8)
        label[:, 32:] += 1
        truths: dict[str, Any] = {
            "segmentation": label,
            "depth": 1.0 + label.astype(np.float32),
            "normals": np.stack([0 * label, np.sin(label / 9), -np.cos(label / 9)], -1).astype(np.float32),
        }
        if self.lacking and index % 2 == 0:
            del truths[self.lacking]
        height, width = SIZE
        return Frame(np.repeat(10 * label[..., None], 3, -1), truths, (42.0, 42.0, (width - 1) / 2, (height - 1) / 2))


def plan(shape: Any = "rectangle", *, stride: int = 4, mix: float = 1.0) -> BatchPlan:
    augment = replace(PLAIN, mix=mix, mix_shape=shape)
    return BatchPlan(seed=3, stage=0, size=SIZE, batch=4, stride=stride, augment=augment, canonical=False)


def at_targets(batch: Batch) -> np.ndarray:
    """The label that the image tells at the pixels of the targets."""
    top, left = batch.phase or (0, 0)
    step = 4 if batch.phase else 1
    return (batch.image[:, top::step, left::step, 0] // 10).numpy()


@pytest.mark.parametrize("stride", [0, 4])
@pytest.mark.parametrize("shape", ["rectangle", "classes"])
def test_all_truths_stay_those_of_the_pixels_that_were_pasted(shape: str, stride: int) -> None:
    frames = StepBatches(Coded(), plan(shape, stride=stride))
    mixed = 0
    for step in range(6):
        batch = frames[step]
        told = at_targets(batch)
        np.testing.assert_array_equal(batch.targets["segmentation"], told)
        np.testing.assert_allclose(batch.targets["depth"], 1.0 + told)
        np.testing.assert_allclose(batch.targets["normals"][..., 1], np.sin(told / 9), atol=1e-6)
        mixed += sum(len(np.unique(one // 2)) > 1 for one in told)
    assert mixed > 6  # most frames are of two


def test_a_truth_that_one_of_two_lacks_is_unknown_at_its_pixels() -> None:
    frames = StepBatches(Coded("depth"), plan())
    seen = set()
    for step in range(6):
        batch = frames[step]
        has = (at_targets(batch) // 2) % 2 == 1
        np.testing.assert_array_equal(batch.targets["depth"] > 0, has)
        seen |= {(bool(one.any()), bool(one.all())) for one in has}
    assert (True, False) in seen  # both in one frame


def test_frames_without_labels_are_mixed_by_rectangle() -> None:
    batch = StepBatches(Coded("segmentation"), plan("classes", stride=0))[0]
    assert any(len(np.unique(one // 2)) > 1 for one in at_targets(batch))


def test_a_batch_depends_on_its_step_and_not_on_its_parts() -> None:
    whole = StepBatches(Coded(), plan("classes"))
    expected = whole[4]
    later = StepBatches(Coded(), plan("classes"))[4]  # as a resumed run
    halves = [StepBatches(Coded(), replace(plan("classes"), part=(index, 2)))[4] for index in range(2)]
    assert torch.equal(later.image, expected.image)
    assert torch.equal(torch.cat([half.image for half in halves]), expected.image)
    for task, target in expected.targets.items():
        assert torch.equal(torch.cat([half.targets[task] for half in halves]), target)


def test_frames_that_are_not_mixed_are_what_they_were() -> None:
    before = StepBatches(Coded(), replace(plan(), augment=PLAIN))[2]
    rarely = StepBatches(Coded(), plan(mix=0.3))[2]
    same = [torch.equal(one, other) for one, other in zip(before.image, rarely.image, strict=True)]
    assert True in same
    assert False in same


def test_half_of_the_classes_are_taken_and_void_never() -> None:
    labels = np.array([[0, 1, 2, VOID], [3, 4, 4, VOID]], np.uint8)
    for seed in range(5):
        mask = class_mask(labels, np.random.default_rng(seed))
        assert len(np.unique(labels[mask])) == 3  # of five, rounded up
        assert not mask[labels == VOID].any()
        assert all(mask[labels == one].all() or not mask[labels == one].any() for one in range(5))
    assert not class_mask(np.full((2, 2), VOID, np.uint8), np.random.default_rng(0)).any()


def test_rectangles_have_the_shape_of_the_image_and_any_size() -> None:
    shares = []
    for seed in range(200):
        mask = rectangle_mask((60, 80), np.random.default_rng(seed))
        rows, columns = np.nonzero(mask)
        shares.append(mask.mean())
        assert len(rows) == 0 or len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert min(shares) < 0.05
    assert max(shares) > 0.6
