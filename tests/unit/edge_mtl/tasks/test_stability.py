"""The temporal filter removes flicker where the image stands still, smears nothing where it moves, and the metric tells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.errors import FrameError
from edge_mtl.image import frames
from edge_mtl.image.frames import Intrinsics
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.tasks import VOID
from edge_mtl.tasks.stability import Stability, StabilityMeter, TemporalFilter
from tests.bundles import answer_of, make_image

HEIGHT, WIDTH = 48, 64


def prediction(
    labels: np.ndarray | None, depth: np.ndarray | None = None, normals: np.ndarray | None = None, **changes: object
) -> Prediction:
    shape = next(maps for maps in (labels, depth, normals) if maps is not None).shape[:2]
    confidence = changes.pop("make_confidence", None)
    results = answer_of({"segmentation": labels, "depth": depth, "normals": normals}, confidence=confidence).results
    made = Prediction(results, Timing(), Intrinsics(50, 50, 32, 24), False, (shape[0], shape[1]))
    return replace(made, **changes)  # type: ignore[arg-type]


def still_stream(count: int = 30, *, seed: int = 0) -> Iterator[tuple[np.ndarray, Prediction]]:
    """An image that stands still but for noise, with maps that flicker: 10 % wrong classes, 3 % depth, 5 degrees."""
    random = np.random.default_rng(seed)
    base = make_image(1, height=HEIGHT, width=WIDTH).astype(float)
    for _ in range(count):
        frame = np.clip(base + random.normal(0, 2, base.shape), 0, 255).astype(np.uint8)
        labels = np.where(random.random((HEIGHT, WIDTH)) < 0.1, 5, 2).astype(np.uint8)
        depth = (2.0 * np.exp(random.normal(0, 0.03, labels.shape))).astype(np.float32)
        normals = np.array([0, 0, -1.0]) + random.normal(0, 0.06, (*labels.shape, 3))
        normals = (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float32)
        yield frame, prediction(labels, depth, normals)


def measured(smooth: Callable[[np.ndarray, Prediction], Prediction]) -> Stability:
    meter = StabilityMeter()
    for frame, found in still_stream():
        meter.update(frame, smooth(frame, found))
    return meter.compute()


def test_flicker_of_all_three_heads_at_least_halves_on_a_still_image() -> None:
    raw, smooth = measured(lambda frame, found: found), measured(TemporalFilter())
    assert raw.still_share > 0.95
    assert raw.pairs == 29
    assert smooth.label_flicker is not None
    assert smooth.depth_flicker is not None
    assert smooth.normal_flicker_deg is not None
    assert raw.label_flicker == pytest.approx(0.18, abs=0.02)
    assert smooth.label_flicker < 0.5 * raw.label_flicker
    assert smooth.depth_flicker < 0.5 * raw.depth_flicker
    assert smooth.normal_flicker_deg < 0.5 * raw.normal_flicker_deg


def test_a_filter_of_weight_one_and_one_vote_changes_nothing() -> None:
    same = TemporalFilter(weight=1.0, votes=1)
    for frame, found in still_stream(5):
        smooth = same(frame, found)
        assert np.array_equal(smooth.segmentation, found.segmentation)
        assert np.allclose(smooth.depth, found.depth, rtol=1e-6)
        assert np.allclose(smooth.normals, found.normals, atol=1e-6)


def test_what_moves_is_answered_by_the_newest_frame_alone() -> None:
    smooth = TemporalFilter()
    for step in range(12):
        frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        depth = np.full((HEIGHT, WIDTH), 4.0, np.float32)
        box = (slice(12, 36), slice(4 * step, 4 * step + 16))
        frame[box], labels[box], depth[box] = 220, 7, 1.0
        found = smooth(frame, prediction(labels, depth))
        assert np.array_equal(found.segmentation, labels)
        assert np.allclose(found.depth, depth)


def test_a_moving_camera_switches_the_filter_off() -> None:
    scene = make_image(3, height=HEIGHT, width=WIDTH * 2)
    random = np.random.default_rng(1)
    smooth = TemporalFilter()
    for step in range(8):
        frame = np.ascontiguousarray(scene[:, 6 * step : 6 * step + WIDTH])
        labels = random.integers(0, 13, (HEIGHT, WIDTH)).astype(np.uint8)
        found = smooth(frame, prediction(labels))
        assert (found.segmentation == labels).mean() > 0.8


def test_a_change_that_lasts_is_believed_though_the_image_stands_still() -> None:
    smooth = TemporalFilter(votes=3)
    frame = make_image(1, height=HEIGHT, width=WIDTH)
    for _ in range(10):
        smooth(frame, prediction(np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 2.0, np.float32)))
    answers = [
        smooth(frame, prediction(np.full((HEIGHT, WIDTH), 4, np.uint8), np.full((HEIGHT, WIDTH), 3.0, np.float32)))
        for _ in range(4)
    ]
    assert [int(answer.segmentation[0, 0]) for answer in answers] == [0, 0, 4, 4]
    assert answers[0].depth[0, 0] == pytest.approx(3.0)  # half as far again is not noise


def test_unknown_places_stay_unknown_and_known_ones_return_at_once() -> None:
    smooth = TemporalFilter()
    frame = make_image(1, height=HEIGHT, width=WIDTH)
    labels, depth = np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 2.0, np.float32)
    normals = np.tile(np.array([0, 0, -1], np.float32), (HEIGHT, WIDTH, 1))
    smooth(frame, prediction(labels, depth, normals))
    holes = labels.copy(), depth.copy(), normals.copy()
    holes[0][0, 0], holes[1][0, 0], holes[2][0, 0] = VOID, np.nan, np.nan
    found = smooth(frame, prediction(*holes))
    assert found.segmentation[0, 0] == VOID
    assert np.isnan(found.depth[0, 0])
    assert np.isnan(found.normals[0, 0]).all()
    found = smooth(frame, prediction(labels, depth, normals))
    assert found.segmentation[0, 0] == 0
    assert found.depth[0, 0] == pytest.approx(2.0)
    assert np.array_equal(found.normals[0, 0], [0, 0, -1])


def test_another_size_a_missing_head_and_a_reset_start_again() -> None:
    smooth = TemporalFilter()
    meter = StabilityMeter()
    for size in ((48, 64), (24, 32), (48, 64)):
        frame = make_image(2, height=size[0], width=size[1])
        for value in (1, 2):
            labels = np.full(size, value, np.uint8)
            found = smooth(frame, prediction(labels))
            meter.update(frame, found)
            assert found.depth is None
            assert found.normals is None
            smooth.reset()
            assert (found.segmentation == value).all()
    assert meter.compute().pairs == 3
    assert meter.compute().depth_flicker is None


def test_a_task_that_a_frame_was_not_asked_for_starts_again() -> None:
    smooth = TemporalFilter()
    frame, labels = make_image(1, height=HEIGHT, width=WIDTH), np.zeros((HEIGHT, WIDTH), np.uint8)
    metres = [np.full((HEIGHT, WIDTH), value, np.float32) for value in (2.0, 2.2)]
    assert (smooth(frame, prediction(labels, metres[0])).depth == metres[0]).all()
    assert (smooth(frame, prediction(labels, metres[1])).depth < metres[1]).all()  # it has a past
    assert smooth(frame, prediction(labels)).depth is None
    assert np.allclose(smooth(frame, prediction(labels, metres[1])).depth, metres[1])  # which is too long ago now


def test_confidence_is_still_computed_only_when_asked_for() -> None:
    asked = []
    frame = make_image(1, height=HEIGHT, width=WIDTH)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    source = prediction(labels, make_confidence=lambda: asked.append(1) or np.ones((HEIGHT, WIDTH)))
    found = TemporalFilter()(frame, source)
    assert asked == []
    assert found.confidence.min() == 1
    assert TemporalFilter()(frame, prediction(labels)).confidence is None


def test_results_do_not_change_when_later_frames_come() -> None:
    smooth = TemporalFilter()
    kept = [(found, found.segmentation.copy(), found.depth.copy()) for found in (smooth(*pair) for pair in still_stream(6))]
    for found, labels, depth in kept:
        assert np.array_equal(found.segmentation, labels)
        assert np.array_equal(found.depth, depth)


def test_a_stream_can_be_smoothed_and_is_not_by_default(tiny_bundle: Bundle) -> None:
    random = np.random.default_rng(0)
    base = make_image(4).astype(float)
    frames = [np.clip(base + random.normal(0, 3, base.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    with Engine(tiny_bundle, threads=1) as engine:
        plain, smooth, by_hand = StabilityMeter(), StabilityMeter(), TemporalFilter()
        for frame, raw, filtered in zip(
            frames, engine.stream(frames), engine.stream(frames, stability=TemporalFilter()), strict=True
        ):
            expected = by_hand(frame, raw)
            assert np.array_equal(filtered.segmentation, expected.segmentation)
            assert np.array_equal(filtered.depth, expected.depth, equal_nan=True)
            assert np.array_equal(raw.segmentation, engine.predict(frame).segmentation)
            plain.update(frame, raw)
            smooth.update(frame, filtered)
    before, after = plain.compute(), smooth.compute()
    assert before.depth_flicker is not None
    assert after.depth_flicker is not None
    assert after.depth_flicker < 0.7 * before.depth_flicker


def test_options_and_frames_that_make_no_sense_are_refused() -> None:
    for options in ({"weight": 0.0}, {"weight": 1.5}, {"votes": 0}, {"votes": 256}):
        with pytest.raises(ValueError, match=next(iter(options))):
            TemporalFilter(**options)
    with pytest.raises(FrameError, match="predicted"):
        TemporalFilter()(make_image(0), prediction(np.zeros((HEIGHT, WIDTH), np.uint8)))


def test_a_frame_of_16_bits_is_scaled_once_and_remarked_on_once(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled: list[tuple[int, ...]] = []
    scale = frames.to_8_bits

    def counted(pixels: np.ndarray, **options: Any) -> np.ndarray:
        scaled.append(pixels.shape)
        return scale(pixels, **options)

    monkeypatch.setattr(frames, "to_8_bits", counted)
    dark = make_image(1, height=HEIGHT, width=WIDTH).astype(np.uint16) * 16  # of a camera that fills 12 bits
    meter = StabilityMeter()
    with Engine(tiny_bundle, backend="onnxruntime", precision="fp32", threads=1, self_test="off") as engine:
        with pytest.warns(UserWarning, match="fills the lowest 12 only") as told:
            (found, _) = engine.stream([dark, dark], stability=TemporalFilter())
        assert (len(scaled), len(told)) == (2, 2), "one of each for a frame"
        meter.update(dark, found)
        assert len(scaled) == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found.overlay(dark)


def test_the_filter_sees_16_bits_as_it_sees_8() -> None:
    image = make_image(1, height=HEIGHT, width=WIDTH)
    grey = TemporalFilter.look(image).grey
    for wide in (image.astype(np.uint16) * 257, (image.astype(np.uint16) * 257).astype(">u2")):
        assert np.abs(TemporalFilter.look(wide).grey - grey).max() < 1.0
