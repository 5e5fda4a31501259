"""What cameras say in ROS messages, without ROS: for the node, whose messages are rclpy's, and for recorded bags."""

from edge_mtl.ros.cameras import Camera, camera_of
from edge_mtl.ros.images import ENCODINGS, decode_compressed, decode_image

__all__ = ["ENCODINGS", "Camera", "camera_of", "decode_compressed", "decode_image"]
