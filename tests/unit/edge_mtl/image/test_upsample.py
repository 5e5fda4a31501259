"""Many planes: the same classes as upsampling all of them gives, and a confidence that needs each plane once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_mtl.image import upsample
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.upsample import upsampled_argmax, upsampled_confidence

SHAPE, SIZE = (24, 32), (96, 128)


def planes(count: int, *, steps: float = 0.0, spread: float = 3.0) -> np.ndarray:
    """(count, 24, 32) float32, smooth; `steps` rounds them, so that there are ties."""
    coarse = np.random.default_rng(count).normal(0, spread, (count, 4, 5)).astype(np.float32)
    found = np.stack([cv2.resize(plane, SHAPE[::-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])
    return np.round(found / steps) * np.float32(steps) if steps else found


def upsampled(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in logits])


def softmax_at_best(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    full = upsampled(logits, size).astype(np.float64)
    return 1.0 / np.exp(full - full.max(axis=0)).sum(axis=0)


@pytest.mark.parametrize("count", [2, 13, 19, 40, 150, 255])
@pytest.mark.parametrize("steps", [0.0, 2.0])
def test_classes_are_those_of_all_planes_upsampled_bit_for_bit(count: int, steps: float) -> None:
    logits = planes(count, steps=steps)
    expected = upsampled(logits, SIZE).argmax(axis=0)
    assert np.array_equal(upsampled_argmax(logits, SIZE, pool=BufferPool()), expected)
    assert len(np.unique(expected)) > min(count, 10) / 2


@pytest.mark.parametrize("count", [13, 150])
def test_planes_looked_at_in_parts_may_win_where_they_may_together(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = planes(count)
    corners = np.stack([logits[:, :-1, :-1], logits[:, 1:, :-1], logits[:, :-1, 1:], logits[:, 1:, 1:]])
    expected = corners.max(axis=0) >= corners.min(axis=0).max(axis=0)
    for some in (1, 7 * logits[0].nbytes, 1 << 30):
        monkeypatch.setattr(upsample, "_CORNER_BYTES", some)
        assert np.array_equal(upsample._candidates(logits, BufferPool()), expected)


@pytest.mark.parametrize("count", [2, 13, 40, 150, 255])
@pytest.mark.parametrize("size", [SIZE, (97, 131), (24, 32), (480, 640)])
def test_the_confidence_is_the_softmax_at_the_best(count: int, size: tuple[int, int]) -> None:
    logits = planes(count)
    found = upsampled_confidence(logits, size, pool=BufferPool())
    assert found.dtype == np.float32
    assert np.abs(found - softmax_at_best(logits, size)).max() < 1e-5


def test_logits_too_far_apart_for_one_pass_take_two() -> None:
    """With steps of 400 within a cell all exponentials of one pass vanish between the samples."""
    logits = planes(40, spread=400.0)
    assert (logits - logits.max(axis=0)).min() < -800
    found = upsampled_confidence(logits, SIZE, pool=BufferPool())
    assert np.isfinite(found).all()
    assert np.abs(found - softmax_at_best(logits, SIZE)).max() < 1e-3
    at_once = upsample._one_pass_confidence(logits - logits.max(axis=0), SIZE, BufferPool())
    assert not np.abs(at_once - softmax_at_best(logits, SIZE)).max() < 0.1, "the control: one pass is wrong here"


def test_one_row_of_samples_has_a_confidence() -> None:
    logits = planes(40)[:, :1]
    found = upsampled_confidence(np.ascontiguousarray(logits), (4, 128), pool=BufferPool())
    assert np.abs(found - softmax_at_best(logits, (4, 128))).max() < 1e-5
