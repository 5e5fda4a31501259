"""The ROS 2 node as a command that is killed: it starts, is asked to reload with an engine that it builds first, and ends.

Needs rclpy, so it is run by the environment of `make test-ros`. Node and asker share a process, and speak over the network:
shared memory of nodes that are killed is Fast DDS's, which takes it back by itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "ros2_ws" / "src" / "edge_mtl"
PRELOADED = ("rclpy", "edge_mtl_ros.main", "edge_mtl_ros.perception_node", "tests.ros.harness")

__all__ = ["PACKAGE", "PRELOADED", "build_and_reload"]


def build_and_reload(folder: Path) -> int:
    """Run the node until it has reloaded; 3 where the reload was refused."""
    from edge_mtl_ros.main import main
    from edge_mtl_ros.profile import PROFILE_VARIABLES

    from tests.ros.conftest import own_domain

    domain, _held = own_domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    os.environ["ROS_LOG_DIR"] = str(folder.parent / "ros-log")
    os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(PACKAGE / "config" / "fastdds_udp.xml")))
    sys.argv = ["perception_node"]
    answers: list[bool] = []
    threading.Thread(target=_ask, args=(answers,), daemon=True).start()
    parameters = {"bundle": folder / "tiny", "backend": "onnxruntime", "threads": 1}
    code = main(["--ros-args", *(word for name, value in parameters.items() for word in ("-p", f"{name}:={value}"))])
    return code or (0 if answers == [True] else 3)


def _ask(answers: list[bool]) -> None:
    from tests.ros.harness import Partner, wait_until

    partner = Partner("asker")
    try:
        wait_until(lambda: partner.state() == "active", "active", timeout_s=200.0)
        assert partner.set(build="int8").successful
        answers.append(partner.reload().success)
    finally:
        partner.close()
        os.kill(os.getpid(), signal.SIGTERM)
