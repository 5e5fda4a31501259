"""An example: a USB camera and perception_node, with the Fast DDS profile that lets images through given to both.

ros2 launch edge_mtl camera.launch.py device:=/dev/video0 driver:=v4l2_camera

The driver is a package of its own: v4l2_camera or usb_cam. Arguments of perception.launch.py are handed on to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from edge_mtl_ros.profile import transport_variables
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

DRIVERS = {"v4l2_camera": "v4l2_camera_node", "usb_cam": "usb_cam_node_exe"}
"""Executables of the drivers, by package."""


def generate_launch_description() -> LaunchDescription:
    """A camera in the namespace `camera`, and the node that takes its images."""
    arguments = {
        "driver": ("v4l2_camera", f"Package of the camera driver: {' or '.join(DRIVERS)}."),
        "device": ("/dev/video0", "Its device."),
        "width": ("640", "Width of its images, pixels."),
        "height": ("480", "Height of its images, pixels."),
        "frame": ("camera_optical_frame", "Frame of the images: x right, y down, z forward."),
    }
    declared = [DeclareLaunchArgument(name, default_value=text, description=why) for name, (text, why) in arguments.items()]
    perception = Path(get_package_share_directory("edge_mtl")) / "launch" / "perception.launch.py"
    topics = {"image": "/camera/image_raw", "camera_info": "/camera/camera_info"}
    included = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(perception)), launch_arguments=topics.items())
    return LaunchDescription([*declared, OpaqueFunction(function=_camera), included])


def _camera(context: LaunchContext) -> list[LogInfo | Node]:
    """The driver that was named, with the profile in its environment."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("driver", "device", "width", "height", "frame")}
    driver = given["driver"]
    if driver not in DRIVERS:
        raise ValueError(f"driver:={driver}: {' or '.join(DRIVERS)} was expected.")
    try:
        get_package_share_directory(driver)
    except PackageNotFoundError:
        package = f"ros-$ROS_DISTRO-{driver.replace('_', '-')}"
        raise FileNotFoundError(f"driver:={driver}: the package is not installed. Run: sudo apt install {package}") from None
    variables, remark = transport_variables()
    camera = Node(
        package=driver,
        executable=DRIVERS[driver],
        name="camera",
        namespace="camera",
        output="screen",
        parameters=[_parameters(driver, given["device"], int(given["width"]), int(given["height"]), given["frame"])],
        additional_env=variables,
    )
    return [*([LogInfo(msg=remark)] if remark else []), camera]


def _parameters(driver: str, device: str, width: int, height: int, frame: str) -> dict[str, Any]:
    """The same wishes in the words of each driver."""
    if driver == "usb_cam":
        return {"video_device": device, "image_width": width, "image_height": height, "frame_id": frame, "pixel_format": "yuyv"}
    return {"video_device": device, "image_size": [width, height], "camera_frame_id": frame}
