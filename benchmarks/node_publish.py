"""What `publish` costs the process of the node: by message, size, and who listens.

    python benchmarks/node_publish.py --out benchmarks/results/node-publish.json

Needs rclpy (extra `ros-test`, or a sourced ROS). The messages are filled as the node fills them and published with its QoS and
its transport profile, with no inference beside them. Only the call of `publish` is timed, which serialises and, in the default
synchronous mode, also sends. Each message goes to three topics in turn: nobody listens to the first, a subscription in this
process to the second, one in another process to the third, in another order each round. The next is published once the one
before has arrived.

`clock` is the time that passes, `processor` what the calling thread computes of it, which other processes of the machine
disturb less. `times` compares the processor time with that of the same message to nobody, round by round.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "ros2_ws" / "src" / "edge_mtl")]

from arguments import size  # noqa: E402
from conditions import Conditions  # noqa: E402

from edge_mtl.bench.statistics import FEWEST_SAMPLES, median_interval, ratio_interval  # noqa: E402
from edge_mtl.files import write_atomic  # noqa: E402

LISTENERS = ("nobody", "this process", "another process")
MAPS = {"labels": ("mono8", np.uint8), "depth": ("32FC1", np.float32), "depth in mm": ("16UC1", np.uint16)}
CLOUD = "cloud"
WARM_UP = 3
PATIENCE_S = 20.0
LOST_S = 2.0
Sample = tuple[float, float]
"""Seconds of one call: by the clock, and of the thread's processor time."""
Publish = Callable[[Any], Sample]
"""Publishes one message with a publisher that it is given."""


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message of one size."""

    name: str
    encoding: str
    size: tuple[int, int]
    bytes: int
    kind: type
    publish: Publish


def timed(publisher: Any, message: Any) -> Sample:
    """What one call takes."""
    start_s, used_s = time.perf_counter(), time.thread_time()
    publisher.publish(message)
    return time.perf_counter() - start_s, time.thread_time() - used_s


def map_of(name: str, values: np.ndarray) -> Message:
    """An image of an (H, W) map."""
    from edge_mtl_ros.messages import ImageMessage
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    image, encoding, header = ImageMessage(), MAPS[name][0], Header(frame_id="camera")

    def publish(publisher: Any) -> Sample:
        with image.holding(encoding, values, header) as message:
            return timed(publisher, message)

    return Message(name, encoding, values.shape, values.nbytes, Image, publish)


def cloud_of(depth_m: np.ndarray) -> Message:
    """A cloud of an (H, W) float32 map."""
    from edge_mtl_ros.messages import CloudMessage
    from sensor_msgs.msg import PointCloud2
    from std_msgs.msg import Header

    from edge_mtl.image.frames import Intrinsics
    from edge_mtl.tasks import DepthMap
    from edge_mtl.tasks.depth import DepthSpec
    from edge_mtl.tasks.points import CloudMaps

    height, width = depth_m.shape
    maps = CloudMaps(DepthMap(DepthSpec("depth", "depth"), depth_m), None, None)
    camera, rgb = Intrinsics(width, width, width / 2, height / 2), np.zeros((height, width, 3), np.uint8)
    cloud = CloudMessage(normals=False).filled(maps, header=Header(frame_id="camera"), camera=camera, rgb=rgb)
    what = (CLOUD, f"{cloud.point_step} B a point", (height, width), len(cloud.data))
    return Message(*what, PointCloud2, partial(timed, message=cloud))


def messages_of(sizes: Sequence[tuple[int, int]]) -> list[Message]:
    """Maps and clouds of each size (height, width), as the node fills them."""
    random, found = np.random.default_rng(0), list[Message]()
    for each in sizes:
        found += [map_of(name, (random.random(each) * 200).astype(dtype)) for name, (_, dtype) in MAPS.items()]
        found.append(cloud_of(random.random(each, np.float32)))
    return found


def topic(message: Message, listener: str) -> str:
    """Where a message goes for one of `LISTENERS`."""
    height, width = message.size
    return f"{message.name}_{height}x{width}_to_{listener}".replace(" ", "_")


def quality() -> Any:
    """Of the node's maps."""
    from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy

    return QoSProfile(depth=1, history=QoSHistoryPolicy.KEEP_LAST, reliability=QoSReliabilityPolicy.RELIABLE)


@contextmanager
def spinning(node: Any) -> Iterator[None]:
    """Its callbacks, in a thread of their own."""
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    executor, over = SingleThreadedExecutor(), threading.Event()
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            while not over.is_set():
                executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)
        executor.shutdown(timeout_sec=2)


def listen(node: Any, messages: Sequence[Message], listener: str, arrived: Callable[[], object]) -> None:
    """Subscribe; messages come as bytes, because making objects of them is the listener's own cost."""
    from edge_mtl_ros.events import no_events

    for each in messages:
        node.create_subscription(
            each.kind, topic(each, listener), lambda _: arrived(), quality(), raw=True, event_callbacks=no_events()
        )


def other_process(sizes: Sequence[tuple[int, int]]) -> None:
    """The listener in another process: says of each message that it came, until standard input ends."""
    import rclpy
    from std_msgs.msg import Empty

    rclpy.init()
    node = rclpy.create_node("other_process")
    came = node.create_publisher(Empty, "came", 10)
    listen(node, messages_of(sizes), LISTENERS[2], lambda: came.publish(Empty()))
    with spinning(node):
        sys.stdin.read()
    node.destroy_node()
    rclpy.try_shutdown()


def measure(messages: Sequence[Message], rounds: int) -> tuple[dict[tuple[Message, str], list[Sample]], int]:
    """Samples by message and listener, one a round, and how many messages did not arrive."""
    import rclpy
    from std_msgs.msg import Empty

    here, node, arrived = rclpy.create_node("this_process"), rclpy.create_node("publishing"), threading.Semaphore(0)
    listen(here, messages, LISTENERS[1], arrived.release)
    here.create_subscription(Empty, "came", lambda _: arrived.release(), 10)
    publishers = {
        (each, who): node.create_publisher(each.kind, topic(each, who), quality()) for each in messages for who in LISTENERS
    }
    samples: dict[tuple[Message, str], list[Sample]] = {key: [] for key in publishers}
    lost = 0
    try:
        with spinning(here):
            wait_connected(publishers, partial(here.count_publishers, "came"))
            for number in range(WARM_UP + rounds):
                for each, who in turns(messages, number):
                    while arrived.acquire(blocking=False):  # a message that came too late
                        pass
                    sample = each.publish(publishers[each, who])
                    came = who == LISTENERS[0] or arrived.acquire(timeout=LOST_S)
                    if number >= WARM_UP:
                        samples[each, who].append(sample)
                        lost += not came
    finally:
        here.destroy_node()
        node.destroy_node()
    return samples, lost


def turns(messages: Sequence[Message], number: int) -> Iterator[tuple[Message, str]]:
    """The order of one round: all orders of the listeners take turns, because who comes before fills the processor's caches."""
    orders = list(itertools.permutations(LISTENERS))
    for each in messages:
        for who in orders[number % len(orders)]:
            yield each, who


def wait_connected(publishers: Mapping[tuple[Message, str], Any], answers: Callable[[], int]) -> None:
    """Raises TimeoutError where a subscription is not seen, or one too many."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        counts = {key: publisher.get_subscription_count() for key, publisher in publishers.items()}
        if answers() == 1 and all(count == (who != LISTENERS[0]) for (_, who), count in counts.items()):
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise TimeoutError(f"the listeners were not there after {PATIENCE_S:.0f} s")


def row(samples: Sequence[Sample], nobody: Sequence[Sample]) -> dict[str, Any]:
    """Medians in milliseconds with their intervals, and how many times the processor time of `nobody`, pair by pair."""
    clock, processor = (np.array([sample[at] for sample in samples]) * 1e3 for at in (0, 1))
    ms = {name: median_interval(values) for name, values in (("clock", clock), ("processor", processor))}
    times = ratio_interval([sample[1] for sample in samples], [sample[1] for sample in nobody])
    result: dict[str, Any] = {"count": len(samples), "clock_p90_ms": round(float(np.percentile(clock, 90)), 3)}
    for name, found in ms.items():
        result |= {f"{name}_ms": round(found.value, 3), f"{name}_sure": [round(found.low, 3), round(found.high, 3)]}
    return result | {"times": round(times.value, 2), "times_sure": [round(times.low, 2), round(times.high, 2)]}


def rows_of(samples: Mapping[tuple[Message, str], Sequence[Sample]]) -> list[dict[str, Any]]:
    """One for each message and listener."""
    rows = []
    for (message, who), found in samples.items():
        what = {"message": message.name, "encoding": message.encoding, "size": list(message.size), "bytes": message.bytes}
        rows.append(what | {"listener": who} | row(found, samples[message, LISTENERS[0]]))
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: processor time and, behind it, time by the clock, in ms; a column for each listener."""
    lines = [f"| message | size | kB | {' | '.join(LISTENERS)} |", "|---|---|---|" + "---|" * len(LISTENERS)]
    for first in range(0, len(rows), len(LISTENERS)):
        these = rows[first : first + len(LISTENERS)]
        height, width = these[0]["size"]
        cells = [f"{each['processor_ms']:.2f} ({each['clock_ms']:.2f})" for each in these]
        what = f"{these[0]['message']}, {these[0]['encoding']} | {height}x{width} | {these[0]['bytes'] / 1e3:,.0f}"
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=size, nargs="+", default=[(288, 384), (720, 1280)], metavar="HEIGHTxWIDTH")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--note", default="", help="kept in the results: what disturbed the machine, for example")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the figures there")
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rounds < FEWEST_SAMPLES:
        parser.error(f"--rounds should be {FEWEST_SAMPLES} or more; found {asked.rounds}")
    return asked


def main() -> int:
    """Parse, measure, print, write."""
    asked = parsed()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", "94")
    from edge_mtl_ros.profile import use_shared_memory

    use_shared_memory()  # before rclpy is imported
    if asked.listen:
        other_process(asked.sizes)
        return 0
    import rclpy

    conditions = Conditions(threads=1)
    words = [f"{height}x{width}" for height, width in asked.sizes]
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ROS_LOG_DIR", folder)
        rclpy.init(args=[])
        other = subprocess.Popen([sys.executable, __file__, "--listen", "--sizes", *words], stdin=subprocess.PIPE)
        try:
            samples, lost = measure(messages_of(asked.sizes), asked.rounds)
        finally:
            other.communicate(timeout=PATIENCE_S)
            rclpy.try_shutdown()
    rows = rows_of(samples)
    result: dict[str, Any] = {
        "what": "publish() of the node's messages: milliseconds of the calling thread, processor time and by the clock",
        **({"note": asked.note} if asked.note else {}),
        **conditions.describe(),
        "rounds": asked.rounds,
        "lost": lost,
        "rows": rows,
    }
    print(f"{result['device']['description']}; processor time (by the clock), ms; {lost} messages did not arrive")
    print(table(rows))
    if asked.out is not None:
        write_atomic(asked.out, (json.dumps(result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
