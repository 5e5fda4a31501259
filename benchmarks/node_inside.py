"""perception_node that measures its own steps, or a bare relay in its place; started by node_overhead.py.

    python node_inside.py node|delay|relay OUT.json --ros-args ...

- node: the node as it is.
- delay: `Engine.predict` sleeps and returns the maps of the first frame, so that nothing competes with the node's own work.
- relay: no node at all: rclpy takes each image and publishes three messages that were made before, as large as the maps.

At the end OUT.json holds the steps: median and 95th percentile by the clock, and the median of the thread's processor time.
"""

from __future__ import annotations

import array
import json
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

DELAY_S = 0.03
WARM_UP = 5
MAPS = {"segmentation": ("mono8", 1), "depth": ("32FC1", 4), "normals": ("32FC3", 12)}
HEIGHT, WIDTH = 480, 640
_Samples = dict[str, list[tuple[float, float]]]


def measured(owner: Any, name: str, label: Callable[..., str], samples: _Samples) -> None:
    """Let a function note its seconds by the clock and of the thread's processor time."""
    original = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        used_s, start_s = time.thread_time(), time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            samples[label(*arguments)].append((time.perf_counter() - start_s, time.thread_time() - used_s))

    setattr(owner, name, timed)


def node(samples: _Samples, *, delay: bool) -> int:
    """Run the node; return its exit code."""
    from edge_mtl_ros import main as process
    from edge_mtl_ros import receiving, stream, worker
    from edge_mtl_ros.outputs import Outputs
    from rclpy.publisher import Publisher

    from edge_mtl import Engine

    if delay:
        slow_down(Engine)
    streams: list[stream.Stream] = []
    made, one = stream.Stream.__init__, worker.Worker._one

    def make(self: stream.Stream, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        streams.append(self)

    def taken(self: worker.Worker, camera: stream.Stream, handle: Any) -> Any:
        now_s = time.monotonic()
        samples["take and put into the slot"].append((handle.offered_s - handle.arrived_s, 0.0))
        samples["slot, waiting for the frame before included"].append((now_s - handle.offered_s, 0.0))
        return one(self, camera, handle)

    stream.Stream.__init__, worker.Worker._one = make, taken  # type: ignore[method-assign, assignment]
    measured(worker.Worker, "_one", lambda *_: "one frame in the worker", samples)
    measured(worker, "image_of", lambda *_: "convert", samples)
    measured(Engine, "predict", lambda *_: "Engine.predict", samples)
    measured(Outputs, "publish", lambda *_: "publish all", samples)
    measured(Publisher, "publish", lambda publisher, _: f"publish {publisher.topic_name}", samples)
    measured(receiving.Receiver, "_check", lambda *_: "look at publishers", samples)
    code = process.main()
    for name, latencies in (("overhead", streams[0].overheads), ("latency", streams[0].latencies)):
        samples[name] = [(seconds, 0.0) for _, seconds in latencies._recent]
    return code


def slow_down(engine: Any) -> None:
    """Let predictions of full frames after the first take a known time and no processor."""
    predict = engine.predict
    first: list[Any] = []

    def sleep(self: Any, frame: Any, **options: Any) -> Any:
        if frame.shape[:2] != (HEIGHT, WIDTH):
            return predict(self, frame, **options)
        if not first:
            first.append(predict(self, frame, **options | {"tasks": None}))  # whatever the first one is asked for
        time.sleep(DELAY_S)
        return first[0]

    engine.predict = sleep


def relay(samples: _Samples) -> int:
    """Run the relay; its time is that from a ready image to the last `publish`."""
    from edge_mtl_ros.profile import use_shared_memory

    use_shared_memory()
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy
    from sensor_msgs.msg import Image

    rclpy.init()
    owner = rclpy.create_node("perception_node")
    publishers, messages = {}, {}
    for name, (encoding, size) in MAPS.items():
        publishers[name] = owner.create_publisher(Image, f"~/{name}", QoSProfile(depth=1))
        pixels = array.array("B", os.urandom(HEIGHT * WIDTH * size))
        messages[name] = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=WIDTH * size, data=pixels)
    measured(SingleThreadedExecutor, "_take_subscription", lambda *_: "take", samples)

    def answer(image: Any) -> None:
        used_s, start_s = time.thread_time(), time.perf_counter()
        for name, publisher in publishers.items():
            messages[name].header = image.header
            publisher.publish(messages[name])
        samples["publish all"].append((time.perf_counter() - start_s, time.thread_time() - used_s))

    camera = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    owner.create_subscription(Image, "image", answer, camera)
    executor = SingleThreadedExecutor()
    executor.add_node(owner)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()
    both = zip(samples["take"], samples["publish all"], strict=False)
    samples["overhead"] = [(take[0] + publish[0], take[1] + publish[1]) for take, publish in both]
    return 0


def summary(samples: _Samples) -> dict[str, dict[str, float]]:
    """Milliseconds by step, without the warm-up."""
    result = {}
    for name, values in samples.items():
        kept = values[WARM_UP:]
        if len(kept) < WARM_UP:
            continue
        clock = sorted(seconds for seconds, _ in kept)
        result[name] = {
            "count": len(kept),
            "p50": round(1e3 * statistics.median(clock), 3),
            "p95": round(1e3 * clock[int(0.95 * (len(clock) - 1))], 3),
            "processor_p50": round(1e3 * statistics.median(used for _, used in kept), 3),
        }
    return result


def main() -> int:
    """Run one of the three until a signal, then write what was measured."""
    mode, out = sys.argv[1], Path(sys.argv[2])
    del sys.argv[1:3]
    samples: _Samples = defaultdict(list)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = relay(samples) if mode == "relay" else node(samples, delay=mode == "delay")
    out.write_text(json.dumps(summary(samples)))
    return code


if __name__ == "__main__":
    sys.exit(main())
