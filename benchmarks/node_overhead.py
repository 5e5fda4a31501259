"""What the ROS node costs beyond `Engine.predict`, and how old its answers are at 30 Hz.

    python benchmarks/node_overhead.py BUNDLE --seconds 20 --out benchmarks/results/node-overhead.json

Run it in an environment with rclpy (extra `ros-test`, or a sourced ROS). Two processes over DDS: this one is the camera and
the listener of segmentation, depth and normals, which it takes as bytes; the other one answers and measures itself, see
node_inside.py. Five runs:

- relay: rclpy alone, images in and bytes of the same size out. What DDS and rclpy cost here, and no node could avoid.
- delay: the node with an engine that sleeps. The node's own work, with nothing beside it on the processor.
- engine: the node with the real engine and a camera that waits for the answer.
- at 30 Hz: the same, with a camera that waits for nothing. Its ages include waiting for the frame before, which is there
  as soon as one frame takes longer than a period.
- at 30 Hz, fresh: the same with `max_age_s` so small that a frame which had to wait is left out, and the next one is taken
  when it comes: younger answers, fewer of them.

`overhead` is the node's own time for a frame: from the moment when the image was there until the last `publish` came back,
less `Engine.predict`, less the wait for the frame before. `age` is from the camera's `publish` to the arrival of the last map.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import struct
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "ros2_ws" / "src" / "edge_mtl")]
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", "91")
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

from edge_mtl_ros.profile import use_shared_memory  # noqa: E402

use_shared_memory()  # before rclpy is imported

from conditions import Conditions  # noqa: E402

from edge_mtl import Engine  # noqa: E402
from edge_mtl.bundle import Bundle, find  # noqa: E402
from edge_mtl.files import write_atomic  # noqa: E402
from tests.bundles import make_image  # noqa: E402
from tests.ros.harness import NAME, NodeProcess, Partner, image_message, wait_until  # noqa: E402

MAPS = ("segmentation", "depth", "normals")
INSIDE = Path(__file__).with_name("node_inside.py")
SPARSE_HZ, CAMERA_HZ = 5.0, 30.0
FRESH_S = 0.005
GOAL = {"overhead_ms": 3.0, "age_ms": "1.2 * predict + 8"}


class Listener:
    """Notes when the maps of each stamp were there. Takes bytes: making messages of them is the listener's own cost."""

    def __init__(self, partner: Partner) -> None:
        from edge_mtl_ros.events import no_events
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image

        self.arrived_s: dict[int, dict[str, float]] = {}
        for name in MAPS:

            def note(serialised: bytes, name: str = name) -> None:
                seconds, nanoseconds = struct.unpack_from("<iI", serialised, 4)  # after the four bytes that tell the encoding
                self.arrived_s.setdefault(seconds * 1_000_000_000 + nanoseconds, {})[name] = time.monotonic()

            partner.node.create_subscription(
                Image, f"{NAME}/{name}", note, QoSProfile(depth=5), raw=True, event_callbacks=no_events()
            )

    def answered_s(self, stamp: int) -> float | None:
        """When the last map of a stamp was there; None while one is missing."""
        arrived = self.arrived_s.get(stamp, {})
        return max(arrived.values()) if len(arrived) == len(MAPS) else None


def processor_s(pid: int) -> float:
    """Processor time of all threads that a process has now, in seconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def film(partner: Partner, listener: Listener, frame: np.ndarray, *, hertz: float, count: int) -> dict[int, float]:
    """Send frames; when each stamp was sent. Below 30 Hz the next frame also waits for the answer of the one before."""
    sent: dict[int, float] = {}
    message = image_message(frame, 0, encoding="rgb8")
    start_s = time.monotonic()
    for number in range(count):
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        sent[stamp] = time.monotonic()
        partner.images.publish(message)
        time.sleep(max(0.0, start_s + (number + 1) / hertz - time.monotonic()))
        if hertz < CAMERA_HZ:
            with suppress(AssertionError):  # best effort: a frame may be lost
                wait_until(partial(listener.answered_s, stamp), "the maps", timeout_s=2.0)
    time.sleep(1.0)
    return sent


def run(
    mode: str,
    bundle: Bundle,
    frame: np.ndarray,
    *,
    threads: int,
    hertz: float,
    count: int,
    folder: Path,
    max_age_s: float = 0.0,
) -> dict[str, Any]:
    """One process under one camera: its steps, ages of its answers, its processor time per answered frame."""
    out = folder / "steps.json"
    arguments = ("-p", f"bundle:={bundle.path}", "-p", f"threads:={threads}", "-p", f"max_age_s:={max_age_s}")
    command = [sys.executable, str(INSIDE), mode, str(out)]
    process = NodeProcess(os.environ, *arguments, log=folder / "log", command=command)
    partner = Partner("benchmark")
    try:
        listener = Listener(partner)
        wait_until(partner.images.get_subscription_count, "somebody who takes images")
        wait_until(lambda: film(partner, listener, frame, hertz=SPARSE_HZ, count=1) and listener.arrived_s, "an answer")
        film(partner, listener, frame, hertz=SPARSE_HZ, count=5)
        started_s, pid = processor_s(process.process.pid), process.process.pid
        filmed_s = time.monotonic()
        sent = film(partner, listener, frame, hertz=hertz, count=count)
        filmed_s, used_s = time.monotonic() - filmed_s, processor_s(pid) - started_s
    finally:
        partner.close()
        code = process.end(signal.SIGTERM)
    assert code == 0, process.text
    ages = [answered - when for stamp, when in sent.items() if (answered := listener.answered_s(stamp)) is not None]
    return {
        "hertz": hertz,
        "sent": len(sent),
        "answered": len(ages),
        "answers_per_s": round(len(ages) / filmed_s, 1),
        "age_ms": milliseconds(ages),
        "processor_ms_per_answer": round(1e3 * used_s / max(1, len(ages)), 2),
        "steps_ms": json.loads(out.read_text()),
    }


def milliseconds(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    ordered = sorted(values)
    return {"p50": round(1e3 * statistics.median(ordered), 2), "p95": round(1e3 * ordered[int(0.95 * (len(ordered) - 1))], 2)}


def verdict(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The two figures that have a goal, and the floor below the first."""
    predict = runs["at_30_hz"]["steps_ms"]["Engine.predict"]["p50"]
    return {
        "relay_ms": runs["relay"]["steps_ms"]["overhead"]["p50"],
        "overhead_ms": runs["delay"]["steps_ms"]["overhead"]["p50"],
        "overhead_with_engine_ms": runs["engine"]["steps_ms"]["overhead"]["p50"],
        "predict_ms": predict,
        "age_at_30_hz_ms": runs["at_30_hz"]["age_ms"]["p50"],
        "age_at_30_hz_fresh_ms": runs["at_30_hz_fresh"]["age_ms"]["p50"],
        "age_goal_ms": round(1.2 * predict + 8, 2),
        "goal": GOAL,
    }


def main() -> int:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    bundle = find(asked.bundle)
    with Engine(bundle, threads=asked.threads or None) as engine:
        info = engine.info
    frame = make_image(1, height=480, width=640)
    runs: dict[str, dict[str, Any]] = {}
    conditions = Conditions(threads=info.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ROS_LOG_DIR", folder)
        camera = int(asked.seconds * CAMERA_HZ)
        for name, mode, hertz, count, max_age_s in (
            ("relay", "relay", SPARSE_HZ, asked.rounds, 0.0),
            ("delay", "delay", SPARSE_HZ, asked.rounds, 0.0),
            ("engine", "node", SPARSE_HZ, asked.rounds, 0.0),
            ("at_30_hz", "node", CAMERA_HZ, camera, 0.0),
            ("at_30_hz_fresh", "node", CAMERA_HZ, camera, FRESH_S),
        ):
            runs[name] = run(
                mode,
                bundle,
                frame,
                threads=asked.threads,
                hertz=hertz,
                count=count,
                folder=Path(folder),
                max_age_s=max_age_s,
            )
    result: dict[str, Any] = {
        "what": "perception_node beyond Engine.predict, and age of its answers at 30 Hz; milliseconds",
        **conditions.describe(),
        "bundle": f"{bundle.name} revision {bundle.manifest.revision}",
        "engine": f"{info.precision} on {info.backend} {info.runtime_version}",
        "frame": [480, 640],
        "verdict": verdict(runs),
        "runs": runs,
    }
    print(json.dumps(result, indent=1))
    if asked.out is not None:
        write_atomic(asked.out, (json.dumps(result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
