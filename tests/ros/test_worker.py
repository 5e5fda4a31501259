"""The worker thread without ROS: failures of the runtime, degradation, unsubscribed topics, maps of the network's size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from edge_mtl_ros.degradation import Degradation
from edge_mtl_ros.loading import Interrupted, load_engine
from edge_mtl_ros.scheduler import FrameScheduler
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.stream import Answer, Stream
from edge_mtl_ros.worker import Worker

from edge_mtl import Engine, InferenceError
from edge_mtl.bundle import Bundle
from edge_mtl.cuda.errors import CudaError
from edge_mtl.ros import Camera
from tests.bundles import make_image


@pytest.mark.parametrize(("self_test", "frames"), [("load", 1), ("all", 2)])
def test_the_parameter_says_how_many_golden_frames_are_compared(tiny_bundle: Bundle, self_test: str, frames: int) -> None:
    settings = Settings.of({"bundle": str(tiny_bundle.path), "self_test": self_test, "threads": 1})
    with load_engine(settings, progress=lambda step, done, total: None) as engine:
        assert engine.info.self_test is not None
        assert engine.info.self_test.frames == frames


class Published:
    """Where answers go: kept; `topics` is what somebody listens to, `lacking` those of which there is nothing to send."""

    def __init__(self) -> None:
        self.topics = {"segmentation", "depth", "normals", "points"}
        self.lacking: set[str] = set()
        self.answers: list[tuple[frozenset[str], Any]] = []
        self.results: list[tuple[str, ...]] = []
        self.keep: Callable[[Any], None] = lambda depth: None

    def wanted(self, *, points: bool, vectors: bool) -> frozenset[str]:
        left_out = {"points"} - ({"points"} if points else set()) | (set() if vectors else {"normals"})
        return frozenset(self.topics - left_out)

    def tasks(self, wanted: frozenset[str]) -> tuple[str, ...]:
        asked = wanted | ({"depth"} if "points" in wanted else set())
        return tuple(name for name in ("segmentation", "depth", "normals") if name in asked)

    def unscaled(self, withhold: str) -> frozenset[str]:
        return {"none": frozenset[str](), "points": frozenset({"points"}), "all": frozenset({"points", "depth"})}[withhold]

    def publish(self, wanted: frozenset[str], answer: Answer) -> frozenset[str]:
        camera = None if answer.prediction is None else answer.prediction.intrinsics
        self.answers.append((wanted, (answer.header, answer.map_size, camera, answer.rgb().shape)))
        self.results.append(() if answer.prediction is None else tuple(answer.prediction.results))
        self.keep(None if answer.prediction is None else answer.prediction.depth)
        return wanted - self.lacking


class Quiet:
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def message(number: int, *, height: int = 64, width: int = 96) -> Any:
    pixels = make_image(number % 5, height=height, width=width)
    return SimpleNamespace(
        header=f"header {number}",
        encoding="rgb8",
        height=height,
        width=width,
        step=3 * width,
        data=pixels.tobytes(),
        is_bigendian=0,
    )


CAMERA = Camera.of(width=96, height=64, k=(80.0, 0, 47.5, 0, 80.0, 31.5, 0, 0, 1))


class Bench:
    """A worker and all it needs."""

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        *,
        reopen: Callable[[], Engine] | None = None,
        engine: Engine | None = None,
    ) -> None:
        frames: FrameScheduler[Any] = FrameScheduler(("",))
        self.queue = frames.queues[""]
        self.published, self.given_up = Published(), []
        self.stream = Stream("", self.queue, settings=lambda: settings)
        self.cameras = self.stream.cameras
        self.worker = Worker(
            frames,
            [self.stream],
            settings=lambda: settings,
            log=Quiet(),
            reopen=reopen or (lambda: Engine(bundle, threads=1)),
            give_up=self.given_up.append,
        )
        self.worker.exchange(engine or Engine(bundle, threads=1), {"": self.published})
        self.worker.start()

    def send(self, number: int, **size: int) -> None:
        self.deliver(message(number, **size))

    def deliver(self, sent: Any) -> None:
        self.queue.offer(sent)
        end_s = time.monotonic() + 20
        while self.queue.counts().waiting + self.queue.counts().working and time.monotonic() < end_s:
            time.sleep(0.002)

    def close(self) -> None:
        assert self.worker.stop()
        engine = self.worker.exchange(None, {})
        if engine is not None:
            engine.close()
        assert self.queue.counts().exact


def failing(engine: Engine | None, times: int, error: InferenceError | None = None) -> None:
    """Let the next predictions of an engine fail as a runtime does."""
    assert engine is not None
    predict, left = engine.predict, [times]

    def fails(*arguments: Any, **options: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise error or InferenceError("the device is lost")
        return predict(*arguments, **options)

    engine.predict = fails  # type: ignore[method-assign]


def wait_until_over(worker: Worker) -> None:
    """Until the worker's thread has ended by itself."""
    end_s = time.monotonic() + 20
    while worker._thread is not None and worker._thread.is_alive() and time.monotonic() < end_s:
        time.sleep(0.005)


def test_two_failures_are_transient(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings())
    failing(bench.worker.engine, 2)
    for number in range(4):
        bench.send(number)
    counts = bench.queue.counts()
    assert (counts.published, counts.drops["failed"]) == (2, 2)
    assert bench.worker.failure == ""
    bench.close()


def test_three_failures_in_a_row_open_the_engine_again(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings())
    first = bench.worker.engine
    failing(first, 10)
    for number in range(4):
        bench.send(number)
    assert bench.worker.engine is not first
    assert bench.queue.counts().published == 1
    assert bench.given_up == []
    bench.close()


def test_an_engine_that_cannot_be_closed_does_not_keep_the_new_one_from_running(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings())
    first = bench.worker.engine
    assert first is not None
    failing(first, 10)
    close = first.close
    first.close = lambda: 1 / 0  # type: ignore[method-assign, assignment]
    for number in range(4):
        bench.send(number)
    assert bench.worker.engine is not first
    assert bench.queue.counts().published == 1
    assert bench.given_up == []
    close()
    bench.close()


def test_the_end_of_the_process_while_the_engine_is_opened_again_is_no_failure(tiny_bundle: Bundle) -> None:
    def interrupted() -> Engine:
        raise Interrupted

    bench = Bench(tiny_bundle, Settings(), reopen=interrupted)
    failing(bench.worker.engine, 10)
    for number in range(3):
        bench.send(number)
    wait_until_over(bench.worker)
    counts = bench.queue.counts()
    assert (counts.drops["failed"], counts.drops["stopped"]) == (2, 1)
    assert bench.given_up == []
    bench.close()


def test_failures_that_stay_give_up_once_and_publish_nothing(tiny_bundle: Bundle) -> None:
    def reopened() -> Engine:
        engine = Engine(tiny_bundle, threads=1)
        failing(engine, 100)
        return engine

    bench = Bench(tiny_bundle, Settings(), reopen=reopened)
    failing(bench.worker.engine, 100)
    for number in range(6):
        bench.send(number)
    assert len(bench.given_up) == 1
    assert "device is lost" in bench.given_up[0]
    assert bench.published.answers == []
    bench.close()


@pytest.mark.parametrize(("sticky", "given_up", "opened"), [(True, 1, 0), (False, 0, 1)])
def test_a_device_that_this_process_cannot_use_again_gives_up_at_once(
    tiny_bundle: Bundle, sticky: bool, given_up: int, opened: int
) -> None:
    reopened: list[Engine] = []

    def reopen() -> Engine:
        reopened.append(Engine(tiny_bundle, threads=1))
        return reopened[-1]

    bench = Bench(tiny_bundle, Settings(), reopen=reopen)
    failing(bench.worker.engine, 3, CudaError("an illegal address", code="CUDA_ERROR_ILLEGAL_ADDRESS", sticky=sticky))
    for number in range(1 if sticky else 3):
        bench.send(number)
    assert (len(bench.given_up), len(reopened)) == (given_up, opened)
    bench.close()


def test_a_runtime_that_hangs_lets_nobody_wait_for_ever(tiny_bundle: Bundle) -> None:
    bench, over = Bench(tiny_bundle, Settings()), threading.Event()
    engine = bench.worker.engine
    assert engine is not None
    predict = engine.predict
    engine.predict = lambda *_, **__: over.wait() and 1 / 0  # type: ignore[method-assign, assignment]
    bench.queue.offer(message(1))
    while bench.worker.busy_since_s is None:
        time.sleep(0.002)
    assert not bench.worker.stop(timeout_s=0.05)
    with pytest.raises(InferenceError, match="hangs"):
        bench.worker.exchange(None, {})
    with pytest.raises(InferenceError, match="hangs"):
        bench.worker.start()
    over.set()
    wait_until_over(bench.worker)  # it ended after all
    engine.predict = predict  # type: ignore[method-assign]
    bench.worker.start()
    bench.send(2)
    assert bench.queue.counts().published == 1
    assert bench.worker.failure == ""
    bench.close()


def test_the_parts_of_the_latency_are_told_apart(tiny_bundle: Bundle) -> None:
    bench, entered, go_on = Bench(tiny_bundle, Settings()), threading.Event(), threading.Event()
    stream, engine = bench.stream, bench.worker.engine
    assert engine is not None
    predict = engine.predict

    def held(*arguments: Any, **options: Any) -> Any:
        entered.set()
        go_on.wait(20)
        return predict(*arguments, **options)

    engine.predict = held  # type: ignore[method-assign]
    bench.queue.offer(message(1))
    assert entered.wait(20)
    bench.queue.offer(message(2))  # waits for the one before
    time.sleep(0.05)
    go_on.set()
    end_s = time.monotonic() + 20
    while bench.queue.counts().published < 2 and time.monotonic() < end_s:
        time.sleep(0.002)
    parts = ([seconds for _, seconds in kept._recent] for kept in (stream.latencies, stream.predicting, stream.overheads))
    first, second = zip(*parts, strict=True)
    assert first[1] >= 0.05
    assert first[0] == pytest.approx(first[1] + first[2])
    assert second[0] - second[1] - second[2] >= 0.05  # the wait is not part of the node's own time
    assert first[2] >= 0
    assert second[2] >= 0
    bench.close()


def test_a_fault_in_publishing_ends_neither_the_thread_nor_the_accounts(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings())
    publish = bench.published.publish
    bench.published.publish = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    bench.send(1)
    assert "ZeroDivisionError" in bench.stream.failure
    bench.published.publish = publish  # type: ignore[method-assign]
    bench.send(2)
    assert bench.queue.counts().published == 1
    bench.close()


def test_a_missed_budget_leaves_out_points_then_normals(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings(points=True, points_rate_hz=0.0, latency_budget_ms=0.001))
    bench.cameras.put(CAMERA)
    now = [0.0]
    bench.worker.degradation._clock = lambda: now[0]  # two seconds pass between frames
    bench.worker.degradation._changed_s = 0.0
    for number in range(5):
        now[0] += 2.0
        bench.send(number)
    made = [wanted & {"points", "normals"} for wanted, _ in bench.published.answers]
    assert made[0] == {"points", "normals"}
    assert made.index({"normals"}) < made.index(set())
    bench.close()


def test_whoever_listens_to_shed_normals_only_gets_them_again(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings(latency_budget_ms=60_000.0))
    bench.published.topics = {"normals"}
    now = [0.0]
    bench.worker.degradation = Degradation(clock=lambda: now[0])
    bench.worker.degradation._level = 2
    bench.send(1)
    assert bench.published.answers == []
    assert bench.queue.counts().drops["shed"] == 1
    assert bench.queue.counts().drops["unsubscribed"] == 0
    for number in range(2, 6):
        now[0] += 2.0
        bench.send(number)
    assert bench.worker.degradation.level == 1
    assert bench.published.answers
    bench.close()


def test_what_was_left_out_is_made_again_after_a_new_start_or_engine(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings())
    bench.worker.degradation._level, bench.worker.failure = 3, "inference failed"
    assert bench.worker.stop()
    bench.worker.start()
    assert (bench.worker.degradation.level, bench.worker.failure) == (0, "")
    bench.worker.degradation._level, bench.worker.failure, bench.stream.bad_values = 3, "inference failed", 7
    previous = bench.worker.exchange(Engine(tiny_bundle, threads=1), {"": bench.published})
    assert previous is not None
    previous.close()
    assert (bench.worker.degradation.level, bench.worker.failure, bench.stream.bad_values) == (0, "", 0)
    bench.close()


def test_nobody_listening_costs_no_prediction(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings())
    bench.published.topics = set()
    failing(bench.worker.engine, 100)
    bench.send(1)
    assert bench.queue.counts().drops["unsubscribed"] == 1
    bench.close()


def test_images_of_16_bits_are_predicted_by_the_bits_that_are_set_and_a_dark_one_is_named_once(tiny_bundle: Bundle) -> None:
    pixels = make_image(1, height=64, width=96)
    words = np.rint(pixels * (4095 / 255)).astype(">u2")
    seen: dict[int, list[np.ndarray]] = {12: [], 16: []}
    warned: dict[int, list[str]] = {12: [], 16: []}
    for bits in (12, 16):
        engine = Engine(tiny_bundle, threads=1)
        predict = engine.predict
        engine.predict = lambda frame, _bits=bits, _predict=predict, **k: seen[_bits].append(frame) or _predict(frame, **k)  # type: ignore[method-assign, func-returns-value]
        bench = Bench(tiny_bundle, Settings(image_bits=bits), engine=engine)
        bench.worker._log = SimpleNamespace(warning=warned[bits].append)  # type: ignore[assignment]
        for number in range(3):
            sent = message(number)
            sent.encoding, sent.step, sent.data, sent.is_bigendian = "rgb16", 96 * 6, words.tobytes(), 1
            bench.deliver(sent)
        assert bench.queue.counts().published == 3
        assert [remark.text for remark in bench.stream.remarks()] == warned[bits]
        bench.close()
    assert np.array_equal(seen[12][0], pixels)
    assert warned[12] == []
    assert seen[16][0].max() <= 16
    assert len(warned[16]) == 1
    assert "image_bits:=12" in warned[16][0]


def test_maps_of_the_networks_size_have_no_bars_and_their_camera_fits(tiny_bundle: Bundle) -> None:
    settings = Settings(bundle=str(tiny_bundle.path), output_size="network", threads=1)
    bench = Bench(tiny_bundle, settings, engine=load_engine(settings, progress=lambda *_: None))
    bench.send(1, height=120, width=120)  # the network is 64x96: bars left and right
    header, shape, intrinsics, rgb = bench.published.answers[0][1]
    assert header == "header 1"
    assert shape == (64, 64)
    assert rgb == (64, 64, 3)
    assert intrinsics.cx == pytest.approx(31.5, abs=0.51)
    assert np.isfinite(intrinsics.as_tuple()).all()
    bench.close()
