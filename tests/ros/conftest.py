"""The ROS package on the path, and rclpy where it is installed.

Tests of the modules without ROS run anywhere. Those that need rclpy are skipped, with this reason, unless the extra
`ros-test` is installed: pip install -e ".[cpu,build,bags,ros-test]" in an environment of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "edge_mtl"
sys.path.insert(0, str(PACKAGE))


@pytest.fixture(scope="session")
def ros_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of all processes of these tests: a domain of their own on this machine only."""
    import random

    from edge_mtl_ros.profile import use_shared_memory

    before = dict(os.environ)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 100))
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros-log"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("ros-cache"))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE), str(PACKAGE.parents[2]), os.environ.get("PYTHONPATH", "")])
    os.environ["OMP_NUM_THREADS"] = "1"
    use_shared_memory()
    try:
        yield dict(os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)
