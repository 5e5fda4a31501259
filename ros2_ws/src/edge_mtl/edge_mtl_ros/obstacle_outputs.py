"""Messages for costmaps: obstacle points, floor points, a planar scan, and the transform of the scan's level frame.

Knows sensor_msgs and tf; what an obstacle is comes from `edge_mtl.tasks.obstacles`.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import LaserScan, PointCloud2, PointField
from std_msgs.msg import Header

from edge_mtl.image.frames import Intrinsics
from edge_mtl.ros.transforms import level_frame_of
from edge_mtl.tasks.floor_tracking import FloorTracker
from edge_mtl.tasks.obstacles import Surroundings, planar_scan, surroundings
from edge_mtl.tasks.points import CloudMaps
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.transforms import TransformSender

__all__ = ["OBSTACLE_TOPICS", "ObstacleOutputs"]

Array = np.ndarray
OBSTACLE_TOPICS = {"obstacles": PointCloud2, "ground": PointCloud2, "scan": LaserScan}
"""By name; all of them need the camera."""


class ObstacleOutputs:
    """Makes the messages of `OBSTACLE_TOPICS` from the maps of one frame.

    Args:
        node: its owner, which publishes them; /tf is published here.
        settings: asked for each frame, so that changes take effect at the next one.
    Attributes:
        floor: for diagnostics: whether the floor of the last frame was seen, and how.
    """

    def __init__(self, node: Node, settings: Callable[[], Settings]) -> None:
        self._node, self._settings = node, settings
        self._tracker, self._frame = FloorTracker(), ""
        self._scanned_s: float | None = None
        self._sender = TransformSender(node)
        self._warned = False
        self.floor = ""

    def messages(
        self, wanted: frozenset[str], maps: CloudMaps, *, header: Header, camera: Intrinsics | None
    ) -> Iterator[tuple[str, Any]]:
        """(topic, message) of those that are wanted, with the stamp of the image.

        Nothing without a `camera`: distances would be right only up to a factor. The transform of the scan's frame is sent
        first.
        """
        if not wanted.intersection(OBSTACLE_TOPICS):
            return
        if camera is None:
            self.floor = "not looked for: without camera_info there are no metres"
            return
        if header.frame_id != self._frame:  # another camera
            self._tracker, self._frame = FloorTracker(), header.frame_id
        settings, stamp_s = self._settings(), header.stamp.sec + header.stamp.nanosec * 1e-9
        limits = settings.obstacle_limits
        floor = self._tracker(maps, camera, stamp_s, settings.floor_options)
        self.floor = floor.text
        seen = surroundings(
            maps,
            camera,
            floor.plane,
            scale=floor.scale,
            limits=limits,
            floor_classes=settings.floor_class_names,
            ceiling_classes=settings.ceiling_class_names,
        )
        if "scan" in wanted and self._can_scan(settings):
            message = LaserScan(header=self._scan_header(header, seen, settings.scan_frame))
            scan = planar_scan(seen, camera, maps.depth.depth_m.shape[1], limits=limits)
            message.angle_min, message.angle_increment = scan.angle_min_rad, scan.angle_step_rad
            message.angle_max = scan.angle_min_rad + scan.angle_step_rad * (len(scan.ranges_m) - 1)
            message.range_min, message.range_max = 0.0, float(limits.range_m)
            message.scan_time = max(0.0, stamp_s - (stamp_s if self._scanned_s is None else self._scanned_s))
            message.ranges = array.array("f", scan.ranges_m.tobytes())
            self._scanned_s = stamp_s
            yield "scan", message
        if "obstacles" in wanted:
            yield "obstacles", _cloud(seen.points[seen.obstacle], header)
        if "ground" in wanted:
            yield "ground", _cloud(seen.points[seen.floor], header)

    def destroy(self) -> None:
        """Remove the publisher of /tf."""
        self._sender.destroy()

    def _can_scan(self, settings: Settings) -> bool:
        """Whether the scan has a frame: one that is named, or one whose transform can be sent."""
        if settings.scan_frame or self._sender.available:
            return True
        if not self._warned:
            self._warned = True
            self._node.get_logger().warning(
                "~/scan needs the package tf2_msgs, which is not installed, or a level frame in the parameter scan_frame"
            )
        return False

    def _scan_header(self, header: Header, seen: Surroundings, named: str) -> Header:
        if named:
            return Header(stamp=header.stamp, frame_id=named)
        child = level_frame_of(header.frame_id)
        self._sender.send(header, child, seen.axes.T)
        return Header(stamp=header.stamp, frame_id=child)


def _cloud(points: Array, header: Header) -> PointCloud2:
    """An unorganised cloud of (N, 3) float32 points without NaN; of none it is empty, which says that nothing is there."""
    names = ("x", "y", "z")
    fields = [PointField(name=name, offset=4 * at, datatype=PointField.FLOAT32, count=1) for at, name in enumerate(names)]
    message = PointCloud2(header=header, height=1, width=len(points), fields=fields, is_bigendian=False, is_dense=True)
    message.point_step, message.row_step = 12, 12 * len(points)
    message.data = array.array("B", np.ascontiguousarray(points, "<f4").tobytes())
    return message
