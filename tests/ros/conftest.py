"""The ROS package on the path, and rclpy where it is installed.

Tests of the modules without ROS run anywhere. Those that need rclpy are skipped, with this reason, unless the extra
`ros-test` is installed: pip install -e ".[cpu,build,bags,ros-test]" in an environment of its own.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "edge_mtl"
sys.path.insert(0, str(PACKAGE))


@pytest.fixture(scope="session")
def ros_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of all processes of these tests: a domain of their own on this machine only."""
    from edge_mtl_ros.profile import use_shared_memory

    before, (domain, held) = dict(os.environ), own_domain()
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros-log"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("ros-cache"))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE), str(PACKAGE.parents[2]), os.environ.get("PYTHONPATH", "")])
    os.environ["OMP_NUM_THREADS"] = "1"
    use_shared_memory()
    try:
        yield dict(os.environ)
    finally:
        os.close(held)
        os.environ.clear()
        os.environ.update(before)


def own_domain() -> tuple[int, int]:
    """A domain that no other run of these tests on this machine has, and the descriptor whose lock says so."""
    for domain in random.SystemRandom().sample(range(1, 101), 100):
        with suppress(OSError):  # a file of another user
            held = os.open(Path(tempfile.gettempdir(), f"edge-mtl-tests-domain-{domain}.lock"), os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return domain, held
            except OSError:  # taken
                os.close(held)
    raise AssertionError("every domain is taken by other runs of these tests")
