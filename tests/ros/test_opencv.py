"""The node's process where OpenCV is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

CODE = "import sys; sys.modules['cv2'] = None; from edge_mtl_ros.main import main; sys.exit(main([]))"


def test_the_node_ends_with_the_repair_where_opencv_is_missing(ros_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, env=ros_environment, timeout=60
    )
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("perception_node: ")
    assert "Traceback" not in done.stderr
    assert "pip install" in done.stderr
