"""Start perception_node with remapped camera topics.

ros2 launch edge_mtl perception.launch.py image:=/camera/color/image_raw camera_info:=/camera/color/camera_info
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    """One lifecycle node that starts itself; a parameter file, a bundle and the camera's topics may be given."""
    defaults = Path(get_package_share_directory("edge_mtl")) / "config" / "perception.yaml"
    arguments = {
        "image": ("/camera/color/image_raw", "Topic of the colour images."),
        "camera_info": ("/camera/color/camera_info", "Topic of their camera."),
        "bundle": ("", "Folder of the bundle; empty: the demo bundle."),
        "params_file": (str(defaults), "File of parameters."),
        "namespace": ("", "Namespace of the node."),
        "autostart": ("true", "Configure and activate at start."),
        "use_sim_time": ("false", "Time from /clock."),
        "respawn": ("true", "Start the node again when it ends by itself, as it does when its device is lost."),
    }
    value = {name: LaunchConfiguration(name) for name in arguments}
    node = LifecycleNode(
        package="edge_mtl",
        executable="perception_node",
        name="perception_node",
        namespace=value["namespace"],
        output="screen",
        respawn=value["respawn"],
        respawn_delay=2.0,
        parameters=[
            value["params_file"],
            {
                "bundle": ParameterValue(value["bundle"], value_type=str),
                "autostart": ParameterValue(value["autostart"], value_type=bool),
                "use_sim_time": ParameterValue(value["use_sim_time"], value_type=bool),
            },
        ],
        remappings=[("image", value["image"]), ("camera_info", value["camera_info"])],
    )
    declared = [DeclareLaunchArgument(name, default_value=text, description=why) for name, (text, why) in arguments.items()]
    return LaunchDescription([*declared, node])
