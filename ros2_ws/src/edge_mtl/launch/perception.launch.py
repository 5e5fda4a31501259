"""Start perception_node with remapped camera topics, and again when it ends by itself, but not for ever.

ros2 launch edge_mtl perception.launch.py image:=/camera/color/image_raw camera_info:=/camera/color/camera_info

With several cameras {camera} stands for the name of each:
ros2 launch edge_mtl perception.launch.py cameras:=front,left image:=/{camera}/image_raw camera_info:=/{camera}/camera_info
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from edge_mtl_ros.main import WRONG_ARGUMENTS
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

PARAMETERS = {
    "bundle": (str, "Folder or name of the bundle."),
    "build": (str, "Build an engine of this precision first if there is none: int8, fp16, bf16 or fp32."),
    "image_transport": (str, "raw or compressed."),
    "points": (bool, "Publish the cloud: true or false."),
    "autostart": (bool, "Configure and activate at start: true or false."),
    "use_sim_time": (bool, "Time from /clock: true or false."),
}
"""Arguments that go over the file of parameters where they are given."""

CAMERA = "{camera}"
"""Stands for the name of a camera in the topics of several."""

MOST_ENDS, WINDOW_S = 10, 300.0
"""After so many ends within that time the node is not started again; as in edge-mtl.service."""


def generate_launch_description() -> LaunchDescription:
    """One lifecycle node that starts itself; a parameter file, a bundle and the camera's topics may be given."""
    defaults = Path(get_package_share_directory("edge_mtl")) / "config" / "perception.yaml"
    arguments = {
        "image": ("/camera/color/image_raw", "Topic of the colour images."),
        "camera_info": ("/camera/color/camera_info", "Topic of their camera."),
        "cameras": ("", f"Names of several cameras with commas between; {CAMERA} in image and camera_info stands for each."),
        "params_file": (str(defaults), "File of parameters."),
        "name": ("perception_node", "Name of the node."),
        "namespace": ("", "Namespace of the node."),
        "respawn": ("true", "Start the node again when it ends by itself, as it does when its device is lost."),
        "log_level": ("info", "debug, info, warn, error or fatal."),
        **{name: ("", f"{why} Empty: what the file of parameters says.") for name, (_, why) in PARAMETERS.items()},
    }
    declared = [DeclareLaunchArgument(name, default_value=text, description=why) for name, (text, why) in arguments.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[RegisterEventHandler | LifecycleNode]:
    """The node, and what ends its restarts. Of two values of a parameter the later wins: only those given follow the file."""
    value = LaunchConfiguration
    file = Path(value("params_file").perform(context)).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"params_file:={file}: a file of parameters was expected, and there is none. Give its full path."
        )
    given = {
        name: ParameterValue(value(name), value_type=kind)
        for name, (kind, _) in PARAMETERS.items()
        if value(name).perform(context)
    }
    cameras = [name for name in value("cameras").perform(context).replace(" ", "").split(",") if name]
    node = LifecycleNode(
        package="edge_mtl",
        executable="perception_node",
        name=value("name"),
        namespace=value("namespace"),
        output="screen",
        respawn=value("respawn"),
        respawn_delay=2.0,
        parameters=[str(file), *([given] if given else []), *([{"cameras": cameras}] if cameras else [])],
        remappings=_remapped(context, cameras),
        arguments=["--ros-args", "--log-level", value("log_level")],
    )
    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_limited(time.monotonic))), node]


def _remapped(context: LaunchContext, cameras: list[str]) -> list[tuple[str, LaunchConfiguration | str]]:
    """What the node listens to, and the topics in place of it."""
    if not cameras:
        return [(name, LaunchConfiguration(name)) for name in ("image", "camera_info")]
    found: list[tuple[str, LaunchConfiguration | str]] = []
    for name in ("image", "camera_info"):
        topic = LaunchConfiguration(name).perform(context)
        if CAMERA not in topic:
            raise ValueError(
                f"{name}:={topic}: with cameras:={','.join(cameras)} a topic with {CAMERA} in it was expected, for the name of "
                f"each. Give one such as {name}:=/{CAMERA}/color/{name}"
            )
        found += [(f"{camera}/{name}", topic.replace(CAMERA, camera)) for camera in cameras]
    return found


def _limited(now_s: Callable[[], float]) -> Callable[[ProcessExited, LaunchContext], list[LogInfo | EmitEvent]]:
    """What follows the end of the process: nothing, so that it is started again, or its shutdown, which takes that back.

    Not by launch's own limit of restarts: Humble has none, and it counts those of a whole life.
    """
    ends_s: list[float] = []

    def ended(event: ProcessExited, context: LaunchContext) -> list[LogInfo | EmitEvent]:
        ends_s.append(now_s())
        lately = [end for end in ends_s if end > ends_s[-1] - WINDOW_S]
        if event.returncode == WRONG_ARGUMENTS:
            why = "its arguments or parameters are wrong: see what it said last"
        elif len(lately) >= MOST_ENDS:
            why = f"it ended {len(lately)} times within {WINDOW_S:g} s"
        else:
            return []
        return [
            LogInfo(msg=f"perception_node is not started again: {why}."),
            EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action))),
        ]

    return ended
