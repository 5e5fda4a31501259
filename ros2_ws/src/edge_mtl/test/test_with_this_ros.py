"""What only a machine with ROS can show: with its rclpy every module of the node imports, with its launch every file loads.

`colcon test` runs this; what the node promises is tested in the repository's tests/ros.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import edge_mtl_ros
import pytest

LAUNCH = Path(__file__).resolve().parent.parent / "launch"


@pytest.mark.parametrize("name", sorted(module.name for module in pkgutil.iter_modules(edge_mtl_ros.__path__)))
def test_a_module_imports(name: str) -> None:
    importlib.import_module(f"edge_mtl_ros.{name}")


@pytest.mark.parametrize("name", sorted(path.name for path in LAUNCH.glob("*.launch.*")))
def test_a_launch_file_loads(name: str) -> None:
    launch = pytest.importorskip("launch", reason="launch and launch_ros are on no package index")
    sources = importlib.import_module("launch.launch_description_sources")
    context = launch.LaunchContext()
    description = sources.AnyLaunchDescriptionSource(str(LAUNCH / name)).get_launch_description(context)
    assert "image" in [argument.name for argument in description.get_launch_arguments()] or name.startswith("camera")
