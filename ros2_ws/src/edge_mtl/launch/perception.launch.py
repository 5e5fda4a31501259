"""Start perception_node with remapped camera topics.

ros2 launch edge_mtl perception.launch.py image:=/camera/color/image_raw camera_info:=/camera/color/camera_info
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

PARAMETERS = {
    "bundle": (str, "Folder or name of the bundle."),
    "autostart": (bool, "Configure and activate at start: true or false."),
    "use_sim_time": (bool, "Time from /clock: true or false."),
}
"""Arguments that go over the file of parameters where they are given."""


def generate_launch_description() -> LaunchDescription:
    """One lifecycle node that starts itself; a parameter file, a bundle and the camera's topics may be given."""
    defaults = Path(get_package_share_directory("edge_mtl")) / "config" / "perception.yaml"
    arguments = {
        "image": ("/camera/color/image_raw", "Topic of the colour images."),
        "camera_info": ("/camera/color/camera_info", "Topic of their camera."),
        "params_file": (str(defaults), "File of parameters."),
        "namespace": ("", "Namespace of the node."),
        "respawn": ("true", "Start the node again when it ends by itself, as it does when its device is lost."),
        **{name: ("", f"{why} Empty: what the file of parameters says.") for name, (_, why) in PARAMETERS.items()},
    }
    declared = [DeclareLaunchArgument(name, default_value=text, description=why) for name, (text, why) in arguments.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=_node)])


def _node(context: LaunchContext) -> list[LifecycleNode]:
    """The node; of two values of a parameter the later one wins, so only those that were given follow the file."""
    value = LaunchConfiguration
    given = {
        name: ParameterValue(value(name), value_type=kind)
        for name, (kind, _) in PARAMETERS.items()
        if value(name).perform(context)
    }
    node = LifecycleNode(
        package="edge_mtl",
        executable="perception_node",
        name="perception_node",
        namespace=value("namespace"),
        output="screen",
        respawn=value("respawn"),
        respawn_delay=2.0,
        parameters=[value("params_file"), *([given] if given else [])],
        remappings=[("image", value("image")), ("camera_info", value("camera_info"))],
    )
    return [node]
