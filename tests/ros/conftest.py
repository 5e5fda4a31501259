"""The ROS package on the path, and rclpy where it is installed.

Tests of the modules without ROS run anywhere. Those that need rclpy are skipped, with this reason, unless the extra
`ros-test` is installed: pip install -e ".[cpu,build,bags,ros-test]" in an environment of its own.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@pytest.fixture(scope="session")
def with_vision(ros_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a node, and this process, with vision_msgs."""
    if importlib.util.find_spec("vision_msgs") is not None:
        yield ros_environment
        return
    if not all(map(shutil.which, ("gcc", "g++"))) or not (Path(sys.prefix) / "share" / "std_msgs").is_dir():
        pytest.skip("needs vision_msgs, or the wheels of ROS, gcc and g++ to make its messages")
    with _made("vision_msgs", tmp_path_factory.mktemp("vision")) as folder:
        yield ros_environment | {"PYTHONPATH": os.pathsep.join([str(folder), ros_environment["PYTHONPATH"]])}


@pytest.fixture(scope="session")
def with_tf2(ros_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a node, and this process, with tf2_msgs."""
    if importlib.util.find_spec("tf2_msgs") is not None:
        yield ros_environment
        return
    if not all(map(shutil.which, ("gcc", "g++"))) or not (Path(sys.prefix) / "share" / "std_msgs").is_dir():
        pytest.skip("needs tf2_msgs, or the wheels of ROS, gcc and g++ to make its messages")
    with _made("tf2_msgs", tmp_path_factory.mktemp("tf2")) as folder:
        yield ros_environment | {"PYTHONPATH": os.pathsep.join([str(folder), ros_environment["PYTHONPATH"]])}


@contextmanager
def _made(name: str, folder: Path) -> Iterator[Path]:
    """A package of messages in a folder on the path."""
    command = [sys.executable, "-m", "tests.ros.vision_messages", str(folder), name]
    made = subprocess.run(command, cwd=PACKAGE.parents[2], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))


@pytest.fixture
def without_vision(ros_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a node for which vision_msgs is not there, whether it is installed or not."""
    package = tmp_path / "site" / "vision_msgs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('vision_msgs is not here')\n")
    return ros_environment | {"PYTHONPATH": os.pathsep.join([str(package.parent), ros_environment["PYTHONPATH"]])}


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
