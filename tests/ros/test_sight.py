"""Silence while images come, and cameras that see nothing: found, and not found where the node is only slow or unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pytest
from edge_mtl_ros.frame_queue import LatestFrameQueue, Outcome
from edge_mtl_ros.sight import LOST, ImageWatch, SilenceWatch

from tests.bundles import make_image

AFTER_S = 0.4


class Life:
    """A queue, a watch, and a clock that both go by."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.queue: LatestFrameQueue[int] = LatestFrameQueue(clock=lambda: self.now_s)
        self.queue.open()
        self.watch = SilenceWatch(clock=lambda: self.now_s)
        self.listening = True

    def look(self) -> Mapping[str, int] | None:
        found = self.watch.look(self.queue.counts(), listening=self.listening, after_s=AFTER_S)
        return None if found is None else found.lost

    def frames(self, outcome: Outcome, *, seconds: float) -> list[Mapping[str, int] | None]:
        """What is said each 0.1 s while frames come at 20 Hz and end so."""
        said = []
        for number in range(round(seconds * 20)):
            self.queue.offer(number)
            handle = self.queue.take(0.0)
            assert handle is not None
            self.queue.finish(handle, outcome)
            self.now_s += 0.05
            if number % 2:
                said.append(self.look())
        return said


@pytest.mark.parametrize("outcome", ["rejected", "shed", "withheld"])
def test_frames_of_which_none_is_published_are_silence_with_its_reason(outcome: Outcome) -> None:
    life = Life()
    said = life.frames(outcome, seconds=2.0)
    assert said[:4] == [None] * 4, "not before the silence has lasted"
    assert all(lost is not None and set(lost) == {outcome} for lost in said[6:])
    assert said[-1] == {outcome: 38}  # the first two came before the first look


@pytest.mark.parametrize("outcome", ["aged", "stale_stamp"])
def test_frames_that_never_reach_the_worker_are_silence_too(outcome: Outcome) -> None:
    life = Life()
    said = []
    for _ in range(20):
        life.queue.leave_out(outcome)
        life.now_s += 0.1
        said.append(life.look())
    assert said[-1] == {outcome: 19}


def test_a_published_frame_ends_the_silence_and_so_does_the_last_listener() -> None:
    life = Life()
    assert life.frames("rejected", seconds=2.0)[-1]
    assert life.frames("published", seconds=1.0)[2:] == [None] * 8
    assert life.frames("rejected", seconds=2.0)[-1]
    life.listening = False
    assert life.frames("rejected", seconds=1.0) == [None] * 10
    life.listening = True
    assert life.frames("rejected", seconds=0.4) == [None] * 4, "counted from when somebody listens again"


@pytest.mark.parametrize("outcome", ["published", "unsubscribed"])
def test_a_node_that_works_or_that_nobody_asks_is_not_silent(outcome: Outcome) -> None:
    assert Life().frames(outcome, seconds=2.0) == [None] * 20


def test_a_slow_network_is_not_blind() -> None:
    life, said = Life(), []
    for number in range(3):
        life.queue.offer(number)
        handle = life.queue.take(0.0)
        assert handle is not None
        for _ in range(10):  # a second a frame
            life.now_s += 0.1
            said.append(life.look())
        life.queue.finish(handle, "published")
        said.append(life.look())
        life.queue.leave_out("aged")  # one that waited for it too long
    assert said == [None] * 33


def test_what_is_lost_is_an_end_that_frames_come_to() -> None:
    assert set(LOST) < set(get_args(Outcome))


def seen(watch: ImageWatch, images: Any, *, hertz: float = 10.0, start_s: float = 0.0) -> list[str]:
    """Kinds of remarks after all of these images."""
    for index, image in enumerate(images):
        watch.see(image, start_s + index / hertz)
    return [remark.kind for remark in watch.remarks(5.0)]


def noisy(index: int) -> np.ndarray:
    """One scene with the noise of a sensor."""
    noise = np.random.default_rng(index).integers(-2, 3, (64, 96, 3))
    return np.clip(make_image(1, height=64, width=96).astype(int) + noise, 0, 255).astype(np.uint8)


def test_an_image_that_is_repeated_is_said_after_five_seconds_and_its_end_is_seen() -> None:
    watch, image = ImageWatch(), noisy(0)
    assert seen(watch, [image.copy() for _ in range(45)]) == []
    assert seen(watch, [image.copy() for _ in range(10)], start_s=4.5) == ["repeats"]
    assert watch.remarks(0.0) == ()
    assert watch.remarks(60.0) == ()
    assert seen(watch, [noisy(1)], start_s=5.6) == []


def test_a_scene_that_stands_still_is_not_a_camera_that_does() -> None:
    assert seen(ImageWatch(), [noisy(index) for index in range(80)]) == []


def test_one_pixel_that_moves_is_enough() -> None:
    image = noisy(0)
    images = []
    for index in range(80):
        changed = image.copy()
        changed[33, 50 + index % 2] = 255 - changed[33, 50 + index % 2]
        images.append(changed)
    large = [np.repeat(np.repeat(image, 9, axis=0), 9, axis=1) for image in images]
    for frame in large:  # the pixel is not among those that are looked at first
        frame[:] = large[0]
    for index, frame in enumerate(large):
        frame[301, 457] = index
    assert seen(ImageWatch(), large) == []


@pytest.mark.parametrize("level", [0, 3, 128, 252])
def test_images_without_contrast_are_said_whatever_their_noise_and_a_few_bad_pixels(level: int) -> None:
    random, frames = np.random.default_rng(0), []
    for _ in range(60):
        frame = random.integers(level, level + 4, (480, 640, 3)).astype(np.uint8)
        frame[random.integers(0, 480, 50), random.integers(0, 640, 50)] = 255
        frames.append(frame)
    assert seen(ImageWatch(), frames) == ["no contrast"]
    assert seen(ImageWatch(), frames[:45]) == []


def test_a_dim_wall_has_contrast() -> None:
    shade = np.linspace(20, 32, 96)[None, :, None]
    frames = [np.broadcast_to(shade + index % 2, (64, 96, 3)).astype(np.uint8) for index in range(80)]
    assert seen(ImageWatch(), frames) == []


def test_images_with_a_pause_between_are_not_one_run() -> None:
    watch, image = ImageWatch(), noisy(0)
    assert seen(watch, [image.copy() for _ in range(40)]) == []
    assert seen(watch, [image.copy() for _ in range(40)], start_s=60.0) == []
    dark = np.zeros_like(image)
    watch.see(dark, 100.0)
    watch.see(dark + 1, 107.0)
    assert watch.remarks(5.0) == ()


def test_an_image_of_another_size_is_another_one() -> None:
    watch, image = ImageWatch(), noisy(0)
    frames = [image if index % 2 else image[:32] for index in range(80)]
    assert seen(watch, frames) == []
