"""What ROS messages say of cameras and tasks, without ROS: for the node, whose messages are rclpy's, and for recorded bags."""

from edge_mtl.ros.cameras import Camera, camera_of
from edge_mtl.ros.compression import compress
from edge_mtl.ros.images import ENCODINGS, decode_compressed, decode_image, image_of
from edge_mtl.ros.lenses import LensFault, lens_fault, rectified
from edge_mtl.ros.topics import TaskTopic, class_topics, task_topics, vision_topics

__all__ = [
    "ENCODINGS",
    "Camera",
    "LensFault",
    "TaskTopic",
    "camera_of",
    "class_topics",
    "compress",
    "decode_compressed",
    "decode_image",
    "image_of",
    "lens_fault",
    "rectified",
    "task_topics",
    "vision_topics",
]
