"""How long perception_node takes to answer while it builds an engine: in configure, in a reload, and with nothing to do.

    python benchmarks/node_answers.py BUNDLE --out benchmarks/results/node-answers.json

Needs rclpy (extra `ros-test`, or a sourced ROS). This process asks for the state and for a parameter, one after the other, as
long as each phase lasts, and notes when /diagnostics come. Each build is of a copy of the bundle without engines. Times are
milliseconds from the request to the answer, DDS and this process included; `idle` is what they cost with nothing beside them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "ros2_ws" / "src" / "edge_mtl")]
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", "93")
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

from edge_mtl_ros.profile import use_shared_memory  # noqa: E402

use_shared_memory()  # before rclpy is imported

from conditions import Conditions  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from edge_mtl import Engine  # noqa: E402
from edge_mtl.bundle import Bundle, find  # noqa: E402
from edge_mtl.errors import EdgeMtlError  # noqa: E402
from edge_mtl.files import write_atomic  # noqa: E402
from tests.ros.harness import NAME, NodeProcess, Partner, wait_until  # noqa: E402

PAUSE_S = 0.05
UNANSWERED_S = 10.0
PHASE_S = 3600.0
"""Longest time that a build may take."""
GOAL = {"p95_ms": 100}


class Questions:
    """Asks the node again and again, and notes how long each answer took."""

    def __init__(self, partner: Partner) -> None:
        self._clients = {
            "get_state": (partner.node.create_client(GetState, f"{NAME}/get_state"), GetState.Request()),
            "get_parameters": (
                partner.node.create_client(GetParameters, f"{NAME}/get_parameters"),
                GetParameters.Request(names=["stability"]),
            ),
        }
        self._node = partner.node
        self._heard: list[float] = []
        partner.node.create_subscription(DiagnosticArray, "/diagnostics", lambda _: self._heard.append(time.monotonic()), 10)
        for client, _ in self._clients.values():
            client.wait_for_service(UNANSWERED_S)
        wait_until(lambda: self._heard, "diagnostics")

    def until_answered(self, kind: Any, service: str, request: Any, node: NodeProcess) -> dict[str, Any]:
        """Call a service that builds an engine, and ask until its answer is there."""
        client = self._node.create_client(kind, f"{NAME}/{service}")
        client.wait_for_service(UNANSWERED_S)
        called = client.call_async(request)
        result = self.during(called.done)
        if not called.done() or not called.result().success:
            raise RuntimeError(f"{service} failed:\n{node.text[-2000:]}")
        return result

    def during(self, over: Callable[[], bool]) -> dict[str, Any]:
        """Ask until a phase is over: milliseconds by question, and between two messages of /diagnostics."""
        taken: dict[str, list[float]] = {name: [] for name in self._clients}
        unanswered, start_s = 0, time.monotonic()
        while not over() and time.monotonic() - start_s < PHASE_S:
            for name, seconds in taken.items():
                answer, took_s = self._ask(name)
                seconds.append(took_s)
                unanswered += answer is None
            time.sleep(PAUSE_S)
        heard = [when for when in self._heard if when >= start_s]
        gaps = [later - earlier for earlier, later in itertools.pairwise(heard)]
        return {
            "seconds": round(time.monotonic() - start_s, 1),
            "unanswered": unanswered,
            **{name: milliseconds(seconds) for name, seconds in taken.items()},
            "diagnostics_gap": milliseconds(gaps),
        }

    def _ask(self, name: str) -> tuple[Any, float]:
        """(answer, seconds that it took); None after UNANSWERED_S."""
        client, request = self._clients[name]
        answered = threading.Event()
        start_s = time.monotonic()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(UNANSWERED_S):
            client.remove_pending_request(future)
            return None, UNANSWERED_S
        return future.result(), time.monotonic() - start_s


def milliseconds(values: list[float]) -> dict[str, float]:
    """Count, median, 95th percentile and maximum."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(1e3 * statistics.median(ordered), 1),
        "p95": round(1e3 * ordered[int(0.95 * (len(ordered) - 1))], 1),
        "max": round(1e3 * ordered[-1], 1),
    }


def without_engines(bundle: Bundle, folder: Path) -> Path:
    """A copy of a bundle for which no engine was built."""
    shutil.copytree(bundle.path, folder, ignore=shutil.ignore_patterns("engines"))
    return folder


def measure(bundle: Bundle, asked: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """The three phases in one process of the node."""
    first, second = without_engines(bundle, folder / "first"), without_engines(bundle, folder / "second")
    parameters = {
        "bundle": first,
        "threads": asked.threads,
        "build": asked.build,
        "backend": asked.backend,
        "autostart": "false",
    }
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    node, partner = NodeProcess(os.environ, *arguments, log=folder / "log"), Partner("benchmark")
    phases: dict[str, dict[str, Any]] = {}
    try:
        questions = Questions(partner)
        transition = ChangeState.Request()
        transition.transition.id = Transition.TRANSITION_CONFIGURE
        phases["configure"] = questions.until_answered(ChangeState, "change_state", transition, node)
        end_s = time.monotonic() + asked.idle_s
        phases["idle"] = questions.during(lambda: time.monotonic() > end_s)
        if not partner.set(bundle=str(second)).successful:
            raise RuntimeError("the node refuses the bundle")
        phases["reload"] = questions.until_answered(Trigger, "reload", Trigger.Request(), node)
    finally:
        partner.close()
        node.end()
    return phases


def main() -> int:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--build", default="int8", help="precision of the engines that are built")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--idle-s", type=float, default=20.0, help="length of the phase without work")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    try:
        bundle = find(asked.bundle)
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    with Engine(bundle, precision="fp32", threads=asked.threads or None) as engine:
        conditions = Conditions(threads=engine.info.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ROS_LOG_DIR", folder)
        phases = measure(bundle, asked, Path(folder))
    result: dict[str, Any] = {
        "what": "answers of perception_node while it builds an engine; milliseconds",
        **conditions.describe(),
        "bundle": f"{bundle.name} revision {bundle.manifest.revision}",
        "build": f"{asked.build} on {asked.backend}",
        "goal": GOAL,
        "phases": phases,
    }
    print(json.dumps(result, indent=1))
    if asked.out is not None:
        write_atomic(asked.out, (json.dumps(result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
