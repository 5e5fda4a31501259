"""The whole path of a frame under random schedules: stamps, queue, worker thread, engines that fail and are exchanged.

The engine's depth is made of the image, and every image is of one grey, so that what was published can be
compared with its header.
"""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from edge_mtl_ros.frame_queue import StampOrder
from edge_mtl_ros.scheduler import FrameScheduler
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.stream import Answer, Stream
from edge_mtl_ros.worker import Worker
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl import InferenceError, Prediction, Timing
from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import NYU_TASKS, DepthMap

DEPTH: Any = NYU_TASKS["depth"]
SIDE = 4
MOMENTS = st.sampled_from([0.0, 0.0, 0.0005, 0.002])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), MOMENTS, st.sampled_from(["good", "good", "good", "broken", "stale"])),
        st.tuples(st.just("frame"), MOMENTS, st.sampled_from(["good", "good", "good", "broken", "stale"])),
        st.tuples(st.just("fail"), st.integers(1, 4)),
        st.tuples(st.just("slow"), st.sampled_from([0.0, 0.001, 0.004])),
        st.just(("exchange",)),
        st.just(("restart",)),
        st.just(("deafen",)),
        st.just(("listen",)),
    ),
    min_size=1,
    max_size=60,
)


class GreyEngine:
    """Answers the depth that the image's grey encodes; fails and takes its time as its plan says."""

    def __init__(self, plan: SimpleNamespace) -> None:
        self.info = SimpleNamespace(input_size=(SIDE, SIDE))
        self._plan = plan

    def predict(self, frame: np.ndarray, **_: Any) -> Prediction:
        seen = frame.copy()
        time.sleep(self._plan.seconds)
        if self._plan.failures > 0:
            self._plan.failures -= 1
            raise InferenceError("the runtime failed")
        return Prediction(
            results={"depth": DepthMap(DEPTH, seen.astype(np.float32) @ np.array([1.0, 256.0, 0.0], np.float32))},
            timing=Timing(),
            intrinsics=Intrinsics(1, 1, 0, 0),
            intrinsics_assumed=True,
            frame_size=seen.shape[:2],
        )

    def close(self) -> None: ...


class Kept:
    """Where answers go: what the header says beside what the depth was made of."""

    def __init__(self) -> None:
        self.listening, self.answers = True, []

    def wanted(self, **_: bool) -> frozenset[str]:
        return frozenset({"depth"} if self.listening else ())

    def tasks(self, wanted: frozenset[str]) -> tuple[str, ...]:
        return tuple(wanted)

    def publish(self, wanted: frozenset[str], answer: Answer) -> None:
        self.answers.append((answer.header, set(answer.prediction["depth"].depth_m.ravel().astype(int).tolist())))


def grey_message(number: int, *, broken: bool) -> Any:
    pixels = np.tile(np.array([number % 256, number // 256, 0], np.uint8), (SIDE, SIDE, 1))
    data = pixels.tobytes()[: 5 if broken else None]
    return SimpleNamespace(header=number, encoding="rgb8", height=SIDE, width=SIDE, step=3 * SIDE, data=data)


@given(steps=STEPS, max_age_s=st.sampled_from([0.0, 0.001]))
@settings(max_examples=120, deadline=None)
def test_no_frame_goes_out_twice_late_or_under_another_header(steps: list[tuple[Any, ...]], max_age_s: float) -> None:
    plan, kept = SimpleNamespace(seconds=0.0, failures=0), Kept()
    frames: FrameScheduler[Any] = FrameScheduler(("",))
    queue = frames.queues[""]
    queue.max_age_s = max_age_s
    order = StampOrder()
    quiet = SimpleNamespace(info=len, warning=len, error=len)
    worker = Worker(
        frames,
        [Stream("", queue, settings=Settings)],
        settings=Settings,
        log=quiet,
        reopen=lambda: GreyEngine(plan),  # type: ignore[arg-type, return-value]
        give_up=lambda reason: None,
    )
    worker.exchange(GreyEngine(plan), {"": kept})  # type: ignore[arg-type, dict-item]
    worker.start()
    number, sent = 1, set()
    try:
        for step in steps:
            match step:
                case ("frame", seconds, kind):
                    time.sleep(seconds)
                    number += kind != "stale"
                    if order.accept(number):
                        if kind != "broken":
                            sent.add(number)
                        queue.offer(grey_message(number, broken=kind == "broken"))
                    else:
                        queue.leave_out("stale_stamp")
                case ("fail", count):
                    plan.failures = count
                case ("slow", seconds):
                    plan.seconds = seconds
                case ("exchange",):
                    worker.exchange(GreyEngine(plan), {"": kept})  # type: ignore[arg-type, dict-item]
                case ("restart",):
                    assert worker.stop()
                    worker.start()
                case ("deafen",):
                    kept.listening = False
                case ("listen",):
                    kept.listening = True
            assert queue.counts().exact
    finally:
        assert worker.stop()
    counts = queue.counts()
    assert counts.exact
    assert counts.waiting == counts.working == 0
    headers = [header for header, _ in kept.answers]
    assert all(earlier < later for earlier, later in itertools.pairwise(headers)), f"twice or out of order: {headers}"
    assert all(contents == {header} for header, contents in kept.answers), "maps of one frame under the header of another"
    assert set(headers) <= sent
    assert counts.published == len(headers)
