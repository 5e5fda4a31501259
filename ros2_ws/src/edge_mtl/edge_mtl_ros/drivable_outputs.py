"""Messages of the drivable area for planners: a grid of costs on the ground, and its cells as points.

Knows nav_msgs, sensor_msgs and tf; what a cell costs comes from `edge_mtl.tasks.drivable_grid`.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from edge_mtl.image.frames import Intrinsics
from edge_mtl.ros.transforms import ground_frame_of
from edge_mtl.tasks import Boxes, DepthMap, LabelMap, Result
from edge_mtl.tasks.drivable_grid import CameraPose, CostGrid, drivable_grid
from edge_mtl.tasks.floor import FloorPlane, find_floor
from edge_mtl.tasks.floor_tracking import FloorOptions, FloorTracker
from edge_mtl.tasks.points import CloudMaps, first_of
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.transforms import StaticTransforms, TransformSender

__all__ = ["DrivableOutputs"]

Array = np.ndarray
_GRID, _COSTS = "drivable_grid", "drivable_costs"
_MOST_FACTOR = 2.0
"""Between where depth has the ground and where it is; beyond it, depth is of something else."""
_UNKNOWN_MOUNT = FloorPlane.of_mount(height_m=1.0, pitch_deg=0.0)
"""Where nothing is known of the camera, all of the grid is unknown; this only says how large it is."""


class DrivableOutputs:
    """Makes the messages of the labels that know what may be driven on.

    Args:
        node: its owner, which publishes them.
        results: of any frame of the engine; they say which tasks there are.
        settings: asked for each frame, so that changes take effect at the next one; the classes are those of now.
    Attributes:
        types: of the messages by topic; none where no task of the bundle has such classes.
        tasks: those that the messages are made of.
        ground: for diagnostics: how it is known where the ground of the last frame is.
    """

    def __init__(self, node: Node, results: Mapping[str, Result], settings: Callable[[], Settings]) -> None:
        self._node, self._settings = node, settings
        self.classes, self.ground = settings().drivable_classes, ""
        labels = _drivable(results, settings().grid_options.costs)
        made_of = (labels, first_of(results, DepthMap), first_of(results, Boxes)) if labels is not None else ()
        self.tasks = frozenset(result.spec.name for result in made_of if result is not None)
        kinds = {_GRID: _grid_type(), _COSTS: PointCloud2} if self.tasks else {}
        self.types: dict[str, Any] = {name: kind for name, kind in kinds.items() if kind is not None}
        self._sender = TransformSender(node) if self.tasks else None
        self._static = StaticTransforms(node) if self.tasks else None
        self._tracker, self._frame, self._warned = FloorTracker(), "", False

    def messages(
        self, wanted: frozenset[str], results: Mapping[str, Result], *, header: Header, camera: Intrinsics | None
    ) -> Iterator[tuple[str, Any]]:
        """(topic, message) of those that are wanted, with the stamp of the image; nothing without a `camera`.

        The transform of the grid's frame is sent first.
        """
        if not wanted.intersection(self.types):
            return
        if camera is None:
            self.ground = "not known: without camera_info nothing is in metres"
            return
        if header.frame_id != self._frame:  # another camera
            self._tracker, self._frame = FloorTracker(), header.frame_id
        settings = self._settings()
        labels = _drivable(results, settings.grid_options.costs)
        if labels is None or not self._has_frame(settings):
            return
        depth, boxes = first_of(results, DepthMap), first_of(results, Boxes)
        maps = None if depth is None else CloudMaps(depth, labels, None)
        pose, scale = self._pose(settings, maps, camera, header)
        grid = drivable_grid(
            labels,
            camera,
            pose or CameraPose.over(_UNKNOWN_MOUNT),
            depth_m=None if depth is None else depth.depth_m * np.float32(scale),
            boxes=None if boxes is None else boxes.xyxy,
            options=settings.grid_options,
        )
        if pose is None:
            grid = grid.emptied()
        own = self._own_frame(settings, header, pose)
        for name in (_GRID, _COSTS):
            if name in wanted and name in self.types:
                yield name, self._grid_message(grid, own) if name == _GRID else _cloud(grid, own)

    def destroy(self) -> None:
        """Take no more part in tf."""
        for part in (self._sender, self._static):
            if part is not None:
                part.destroy()

    def _has_frame(self, settings: Settings) -> bool:
        """Whether the grid has a frame: one that is named, or one whose transform can be sent."""
        if settings.drivable_frame or (self._sender is not None and self._sender.available):
            return True
        if not self._warned:
            self._warned = True
            self._node.get_logger().warning(f"~/{_GRID} and ~/{_COSTS} need the package tf2_msgs, which is not installed")
        return False

    def _pose(
        self, settings: Settings, maps: CloudMaps | None, camera: Intrinsics, header: Header
    ) -> tuple[CameraPose | None, float]:
        """Where the camera is over the ground, and what depth is multiplied by; None where that is not known."""
        if settings.drivable_frame:
            pose = self._mounted(settings, header.frame_id)
        elif settings.floor_from == "mount":
            floor = FloorPlane.of_mount(height_m=settings.camera_height_m, pitch_deg=settings.camera_pitch_deg)
            pose, self.ground = CameraPose.over(floor), "as the camera is mounted"
        else:
            return self._looked_for(settings, maps, camera, header)
        return pose, 1.0 if pose is None or maps is None else _scale(settings, maps, camera, pose.floor)

    def _mounted(self, settings: Settings, frame: str) -> CameraPose | None:
        """By /tf_static; the ground is where the frame is, or as far below the camera as it is known to be."""
        found = None if self._static is None else self._static.frames.pose(frame, within=settings.drivable_frame)
        if found is None:
            self.ground = f"not known: /tf_static does not connect {frame} with {settings.drivable_frame}"
            return None
        rotation, position = found
        ground_m = position[2] - settings.camera_height_m if settings.camera_height_m > 0 else 0.0
        above_m = position[2] - ground_m
        self.ground = f"{above_m:.2f} m below by /tf_static"
        if above_m <= 0:
            self.ground = f"not known: the camera is below the ground by /tf_static ({above_m:.2f} m)"
            return None
        return CameraPose.of(rotation, position, ground_m=ground_m)

    def _looked_for(
        self, settings: Settings, maps: CloudMaps | None, camera: Intrinsics, header: Header
    ) -> tuple[CameraPose | None, float]:
        """By the depth of what may be driven on."""
        if maps is None:
            self.ground = "not known: without depth it needs floor_from: mount, or drivable_frame"
            return None, 1.0
        options = FloorOptions(
            classes=tuple(settings.grid_options.costs),
            stride=settings.obstacle_stride,
            keep_s=settings.floor_keep_s,
            height_m=settings.camera_height_m,
        )
        floor = self._tracker(maps, camera, header.stamp.sec + header.stamp.nanosec * 1e-9, options)
        if floor.plane is None:
            self.ground = "not seen: all of the grid is unknown"
            return None, floor.scale
        self.ground = floor.text
        return CameraPose.over(FloorPlane(floor.plane.up, settings.camera_height_m or floor.plane.height_m)), floor.scale

    def _own_frame(self, settings: Settings, header: Header, pose: CameraPose | None) -> Header:
        """The header of the messages."""
        if settings.drivable_frame or self._sender is None:
            return Header(stamp=header.stamp, frame_id=settings.drivable_frame)
        child = ground_frame_of(header.frame_id)
        if pose is not None:
            axes = np.array(pose.axes)
            self._sender.send(header, child, axes.T, -axes[2] * pose.floor.height_m)
        return Header(stamp=header.stamp, frame_id=child)

    def _grid_message(self, grid: CostGrid, header: Header) -> Any:
        message = self.types[_GRID](header=header)
        message.info.map_load_time = header.stamp
        message.info.height, message.info.width = grid.costs.shape
        message.info.resolution = grid.resolution_m
        place = message.info.origin
        place.position.x, place.position.y, place.position.z = (*grid.origin_m, grid.ground_m)
        place.orientation.w = 1.0
        message.data = array.array("b", grid.costs.tobytes())
        return message


def _drivable(results: Mapping[str, Result], costs: Mapping[str, int]) -> LabelMap | None:
    """The first labels with one of these classes, in any case."""
    wanted = {name.casefold() for name in costs}
    every = (result for result in results.values() if isinstance(result, LabelMap))
    return next((labels for labels in every if wanted.intersection(name.casefold() for name in labels.classes)), None)


def _scale(settings: Settings, maps: CloudMaps, camera: Intrinsics, floor: FloorPlane) -> float:
    """What puts the ground of the depth where it is; 1 where none is seen."""
    classes = tuple(settings.grid_options.costs)
    seen = find_floor(maps, camera, classes=classes, stride=settings.obstacle_stride, up=floor.up)
    factor = 1.0 if seen is None else floor.height_m / seen.height_m
    return factor if 1 / _MOST_FACTOR < factor < _MOST_FACTOR else 1.0


def _cloud(grid: CostGrid, header: Header) -> PointCloud2:
    """An unorganised cloud of x, y, z and cost of the cells that are known."""
    points = grid.points()
    names = ("x", "y", "z", "cost")
    fields = [PointField(name=name, offset=4 * at, datatype=PointField.FLOAT32, count=1) for at, name in enumerate(names)]
    message = PointCloud2(header=header, height=1, width=len(points), fields=fields, is_bigendian=False, is_dense=True)
    message.point_step, message.row_step = 16, 16 * len(points)
    message.data = array.array("B", np.ascontiguousarray(points, "<f4").tobytes())
    return message


def _grid_type() -> Any:
    """nav_msgs/OccupancyGrid where that package is installed, else None."""
    try:
        return import_module("nav_msgs.msg").OccupancyGrid
    except (ImportError, AttributeError):
        return None
