"""What the ROS node costs beyond `Engine.predict`, and how old its answers are at 30 Hz.

    python benchmarks/node_overhead.py BUNDLE --seconds 20 --out benchmarks/results/node-overhead.json

Run it in an environment with rclpy (extra `ros-test`, or a sourced ROS). Two processes over DDS: this one is the camera and
the listener of segmentation, depth and normals, the other one is the node. Three figures:

- node time: from the camera's `publish` to the arrival of the last of the three maps, minus the time that `Engine.predict`
  took on the same pictures in the same process state, measured in turns with the node; transport both ways is in it.
- processor time: what the node's process used per answered frame, all its threads, minus what `Engine.predict` used here.
  Other programs on the machine change it little, unlike the two times by the clock.
- age at 30 Hz: from `publish` to the arrival of the last map, while the camera does not wait for anything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
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

from edge_mtl import Engine  # noqa: E402
from edge_mtl.bundle import find  # noqa: E402
from edge_mtl.device import fingerprint  # noqa: E402
from edge_mtl.files import write_atomic  # noqa: E402
from tests.bundles import picture  # noqa: E402
from tests.ros.harness import NodeProcess, Partner, image_message, stamp_ns, wait_until  # noqa: E402

MAPS = ("segmentation", "depth", "normals")


def answered_s(partner: Partner, stamp: int) -> float | None:
    """When the last map of a stamp arrived, monotonic; None while one is missing."""
    arrived = []
    for name in MAPS:
        for message, when in zip(reversed(partner.received[name]), reversed(partner.arrived_s[name]), strict=False):
            if stamp_ns(message) == stamp:
                arrived.append(when)
                break
    return max(arrived) if len(arrived) == len(MAPS) else None


def processor_s(pid: int) -> float:
    """Processor time of all threads that a process has now, in seconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def in_turns(partner: Partner, engine: Engine, frame: np.ndarray, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """(seconds through the node, seconds of Engine.predict here, its processor time), one after the other."""
    node_s, engine_s, processor = [], [], []
    for _ in range(rounds):
        start_s, used_s = time.perf_counter(), time.process_time()
        engine.predict(frame)
        engine_s.append(time.perf_counter() - start_s)
        processor.append(time.process_time() - used_s)
        time.sleep(0.02)
        stamp = time.time_ns()
        message = image_message(frame, stamp, encoding="rgb8")
        sent_s = time.monotonic()
        partner.images.publish(message)
        try:
            node_s.append(wait_until(lambda stamp=stamp: answered_s(partner, stamp), "the maps", timeout_s=5.0) - sent_s)
        except AssertionError:
            continue  # best effort: a frame may be lost
        forget_old(partner)
    return node_s, engine_s, processor


def at_30_hz(partner: Partner, frame: np.ndarray, seconds: float) -> tuple[list[float], int]:
    """(ages of the answers in seconds, frames sent) while the camera films."""
    for name in MAPS:
        partner.received[name].clear()
        partner.arrived_s[name].clear()
    sent: dict[int, float] = {}
    message = image_message(frame, 0, encoding="rgb8")
    start_s = time.monotonic()
    while time.monotonic() - start_s < seconds:
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        sent[stamp] = time.monotonic()
        partner.images.publish(message)
        time.sleep(max(0.0, start_s + len(sent) / 30 - time.monotonic()))
    time.sleep(1.0)
    last: dict[int, list[float]] = {}
    for name in MAPS:
        for answer, when in zip(partner.received[name], partner.arrived_s[name], strict=True):
            last.setdefault(stamp_ns(answer), []).append(when)
    return [max(arrivals) - sent[stamp] for stamp, arrivals in last.items() if len(arrivals) == len(MAPS)], len(sent)


def forget_old(partner: Partner) -> None:
    """Keep the listener's memory small."""
    for name in MAPS:
        del partner.received[name][:-3], partner.arrived_s[name][:-3]


def milliseconds(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    ordered = sorted(values)
    return {"p50": round(1e3 * statistics.median(ordered), 2), "p95": round(1e3 * ordered[int(0.95 * (len(ordered) - 1))], 2)}


def main() -> int:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    bundle = find(asked.bundle)
    frame = picture(1, height=asked.height, width=asked.width)
    with tempfile.TemporaryDirectory() as folder, Engine(bundle, threads=asked.threads or None) as engine:
        os.environ.setdefault("ROS_LOG_DIR", folder)
        arguments = ("-p", f"bundle:={bundle.path}", "-p", f"threads:={asked.threads}")
        node = NodeProcess(os.environ, *arguments, log=Path(folder) / "log")
        partner = Partner("benchmark")
        try:
            partner.listen(*MAPS)
            partner.wait_connected()
            partner.send_until("normals", frame, count=5)
            time.sleep(1.0)
            started_s = processor_s(node.process.pid)
            time.sleep(3.0)
            idle_s = (processor_s(node.process.pid) - started_s) / 3.0
            started_s, began_s = processor_s(node.process.pid), time.monotonic()
            node_s, engine_s, alone = in_turns(partner, engine, frame, asked.rounds)
            busy_s = processor_s(node.process.pid) - started_s - idle_s * (time.monotonic() - began_s)
            alone_s = statistics.mean(alone)
            beyond = [node - engine for node, engine in zip(node_s, engine_s, strict=False)]
            ages, sent = at_30_hz(partner, frame, asked.seconds)
            wait_until(partner.values, "diagnostics")
            values = partner.values()
        finally:
            partner.close()
            node.end()
        result: dict[str, Any] = {
            "what": "perception_node beyond Engine.predict, and age of its answers at 30 Hz; milliseconds",
            "date": time.strftime("%Y-%m-%d"),
            "commit": commit(),
            "device": fingerprint().to_dict(),
            "load_average": os.getloadavg(),
            "bundle": f"{bundle.name} revision {bundle.manifest.revision}",
            "engine": f"{engine.info.precision} on {engine.info.backend} {engine.info.runtime_version}",
            "threads": engine.info.threads,
            "frame": [asked.height, asked.width],
            "rounds": len(node_s),
            "engine_predict_ms": milliseconds(engine_s),
            "publish_to_last_map_ms": milliseconds(node_s),
            "beyond_predict_ms": milliseconds(beyond),
            "processor_ms_per_frame": {
                "node": round(1e3 * busy_s / asked.rounds, 2),
                "engine_predict": round(1e3 * alone_s, 2),
                "beyond_predict": round(1e3 * (busy_s / asked.rounds - alone_s), 2),
                "node_idle_share": round(idle_s, 4),
            },
            "at_30_hz": {"sent": sent, "answered": len(ages), "age_ms": milliseconds(ages) if ages else None},
            "node_says": {key: values[key] for key in ("received", "published", "dropped", "latency_p50_ms", "latency_p95_ms")},
        }
    print(json.dumps(result, indent=1))
    if asked.out is not None:
        write_atomic(asked.out, (json.dumps(result, indent=1) + "\n").encode())
    return 0


def commit() -> str:
    """The commit that was measured; "" outside a repository."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
