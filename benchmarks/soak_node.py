"""perception_node under a 30 Hz camera for minutes: resident memory, descriptors and threads must stay flat.

    python benchmarks/soak_node.py --minutes 10
    python benchmarks/soak_node.py --minutes 1 --cameras 3 --bundle indoor-b0 --width 640 --height 480

With several cameras each films at 30 Hz, and `start` and `end` say what the node holds for all of them.

Needs rclpy (extra `ros-test`, or a sourced ROS). Exits with 1 where something grew, a frame is unaccounted for, or answers did
not come all the time: of the frames that no newer one replaced nine in ten are published, and every two seconds each map came.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "ros2_ws" / "src" / "edge_mtl")]
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", "92")
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

from edge_mtl_ros.profile import use_shared_memory  # noqa: E402

use_shared_memory()  # before rclpy is imported

from edge_mtl.files import write_atomic  # noqa: E402
from tests.bundles import make_bundle, make_image  # noqa: E402
from tests.ros.harness import NodeProcess, Partner, wait_until  # noqa: E402

MAPS = ("segmentation", "depth", "normals")
GROWTH_MIB = 10.0
CAMERA_HZ = 30.0
LOOK_S = 2.0
ANSWERED = 0.9
PARTS = ("published", "dropped", "rejected", "in_flight")


def resources(pid: int) -> dict[str, float]:
    """Resident MiB, descriptors and threads of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "resident_mib": round(int(fields["VmRSS"].split()[0]) / 1024, 1),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(fields["Threads"]),
    }


def topics(cameras: tuple[str, ...]) -> dict[str, list[str]]:
    """The maps by camera."""
    return {camera: [f"{camera}/{name}" if camera else name for name in MAPS] for camera in cameras}


def counts(values: dict[str, str]) -> dict[str, int]:
    """Frames by what became of them, from diagnostics."""
    return {name: int(values[name]) for name in ("received", *PARTS, "dropped_replaced")}


def answered(begin: dict[str, int], end: dict[str, int]) -> bool:
    """Whether what came in between was answered, but for what a newer frame replaced."""
    received, published, replaced = (end[name] - begin[name] for name in ("received", "published", "dropped_replaced"))
    return published > 0 and published >= ANSWERED * (received - replaced)


def main() -> int:
    """Film, look at the process every few seconds, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--cameras", type=int, choices=range(1, 9), default=1, help="so many on one engine")
    parser.add_argument("--bundle", default="", help="folder or name; a tiny one is made where none is given")
    parser.add_argument("--leak", action="store_true", help="of a node that keeps 1 MB a frame: the run has to find it")
    parser.add_argument("--out", type=Path, help="file for the result and its conditions")
    asked = parser.parse_args()
    from conditions import Conditions

    conditions = Conditions(threads=1)
    cameras = tuple(f"camera_{number}" for number in range(asked.cameras)) if asked.cameras > 1 else ("",)
    maps = topics(cameras)
    every = [name for names in maps.values() for name in names]
    frame = make_image(1, height=asked.height, width=asked.width)
    seen: list[dict[str, float]] = []
    heard: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ROS_LOG_DIR", folder)
        bundle = asked.bundle or make_bundle(Path(folder) / "tiny").path
        named = ("-p", f"cameras:=[{','.join(cameras)}]") if asked.cameras > 1 else ()
        arguments = ("-p", f"bundle:={bundle}", "-p", "threads:=1", *named)
        command = [sys.executable, str(ROOT / "tests" / "ros" / "faulty_node.py"), "leak"] if asked.leak else None
        node = NodeProcess(os.environ, *arguments, log=Path(folder) / "log", command=command)
        partner = Partner("soak", cameras=cameras)
        try:
            partner.listen(*every)
            partner.wait_connected()
            for camera, names in maps.items():
                partner.send_until(names[-1], frame, count=30 // asked.cameras, camera=camera)
            begin = counts(wait_until(partner.values, "diagnostics"))
            start_s = looked_s = due_s = time.monotonic()
            sent = 0
            while time.monotonic() < start_s + 60 * asked.minutes:
                for camera in cameras:
                    partner.send(frame, time.time_ns(), camera=camera)
                sent += len(cameras)
                if time.monotonic() - looked_s > LOOK_S:
                    looked_s = time.monotonic()
                    seen.append(resources(node.process.pid))
                    heard.append(min(len(partner.received[name]) for name in every))
                    for name in every:
                        partner.received[name].clear()
                        partner.arrived_s[name].clear()
                    del partner.diagnostics[: -2 * (1 + len(cameras))]
                due_s = max(due_s + 1 / CAMERA_HZ, time.monotonic() - 1 / CAMERA_HZ)
                time.sleep(max(0.0, due_s - time.monotonic()))
            sent_hz = sent / (time.monotonic() - start_s)
            time.sleep(1.5)
            accounts = counts(wait_until(partner.values, "diagnostics"))
        finally:
            partner.close()
            code = node.end()
    start, last = seen[len(seen) // 5], seen[-1]
    exact = accounts["received"] == sum(accounts[part] for part in PARTS)
    alive = answered(begin, accounts) and min(heard) > 0
    flat = (
        last["resident_mib"] - start["resident_mib"] <= GROWTH_MIB
        and last["descriptors"] <= start["descriptors"] + 2
        and last["threads"] <= start["threads"] + 1
    )
    verdicts = {"exact": exact, "flat": flat, "alive": alive, "exit_code": code}
    filmed = {"cameras": len(cameras), "sent": sent, "sent_hz": round(sent_hz, 2)}
    result = {**filmed, "start": start, "end": last, **accounts, "fewest_maps": min(heard), **verdicts}
    print(json.dumps(result))
    if asked.out is not None:
        what = {"what": "resources of perception_node under cameras of 30 Hz", "bundle": asked.bundle or "tiny"}
        about = what | {"frame": [asked.height, asked.width], **conditions.describe()}
        write_atomic(asked.out, (json.dumps(about | {"result": result}, indent=1) + "\n").encode())
    return 0 if exact and flat and alive and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
