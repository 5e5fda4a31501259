"""What only a machine with ROS can show: its rclpy imports every module of the node, its launch loads every file, and its
vision_msgs has the fields that the node fills.

`colcon test` runs this; what the node promises is tested in the repository's tests/ros.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import edge_mtl_ros
import pytest

from edge_mtl.ros.vision import VISION_DEFINITIONS

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


def test_vision_msgs_names_classes_as_the_node_does() -> None:
    messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is on no package index")
    named = messages.LabelInfo(class_map=[messages.VisionClass(class_id=255, class_name="wall")], threshold=0.0)
    assert named.class_map[0].class_name == "wall"
    info = messages.VisionInfo(method="edge_mtl", database_location="/node/classes.segmentation", database_version=0x7FFFFFFF)
    assert info.database_version == 0x7FFFFFFF


def test_vision_msgs_has_the_fields_of_boxes_and_classes_that_the_node_fills() -> None:
    messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is on no package index")
    for name, fields in VISION_DEFINITIONS.items():
        known = getattr(messages, name).get_fields_and_field_types()
        assert {field.partition(" ")[2] for field in fields} == set(known), name
