"""Messages that are used again and again: images that carry a map without a copy in Python, and clouds filled in place.

Knows sensor_msgs and arrays; knows nothing about publishers. `publish()` serialises, so that using a message again is safe.
The setter of `data` is gone around: it copies, and on some distributions it looks at every byte, up to 300 ms a map.
"""

from __future__ import annotations

import array
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, PointCloud2, PointField

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks.labels import confidence_bytes
from edge_mtl.tasks.points import CloudMaps
from edge_mtl_ros.points import fill_cloud, point_type

__all__ = ["CloudMessage", "ImageMessage"]

Array = np.ndarray
_NOTHING = array.array("B")


class ImageMessage:
    """One sensor_msgs/Image."""

    def __init__(self) -> None:
        self._message = Image(is_bigendian=0)

    @contextmanager
    def holding(self, encoding: str, values: Array, header: Any) -> Iterator[Image]:
        """The message with a map's bytes, valid within the block; afterwards the map is nobody's again.

        Args:
            values: (H, W) or (H, W, C), of the encoding's type; copied only where it is not contiguous.
        """
        message, values = self._message, np.ascontiguousarray(values)
        message.header, message.encoding = header, encoding
        message.height, message.width = values.shape[:2]
        message.step = values.nbytes // max(1, values.shape[0])
        pixels = values.data.cast("B") if values.size else _NOTHING
        if _takes_views():
            message._data = pixels
        else:
            message.data = array.array("B", pixels.tobytes())
        try:
            yield message
        finally:
            message._data = _NOTHING


@lru_cache(maxsize=1)
def _takes_views() -> bool:
    """Whether a message serialises whatever has a buffer as it does an array, which all distributions did so far."""
    pixels = bytes(range(12))
    message = Image(height=2, width=2, step=6, encoding="rgb8")
    try:
        message._data = memoryview(pixels)
        return bytes(deserialize_message(serialize_message(message), Image).data) == pixels
    except Exception:
        return False


class CloudMessage:
    """One sensor_msgs/PointCloud2; its buffer is made once and written through a NumPy view.

    Args:
        normals: points carry them.
    """

    def __init__(self, *, normals: bool) -> None:
        self._type = point_type(normals=normals)
        self._message = PointCloud2()
        self._message.is_bigendian = False
        self._message.is_dense = False
        names = [name for name in self._type.names or () if name != "_padding"]
        offsets: Any = self._type.fields
        self._message.fields = [
            PointField(
                name=name,
                offset=int(offsets[name][1]),
                datatype=PointField.UINT8 if offsets[name][0] == np.uint8 else PointField.FLOAT32,
                count=1,
            )
            for name in names
        ]
        self._view: Array | None = None

    def filled(self, maps: CloudMaps, *, header: Any, camera: Intrinsics, rgb: Array) -> PointCloud2:
        """The message with the points of one frame, valid until the next call; see `fill_cloud` for `camera` and `rgb`."""
        message = self._message
        height, width = maps.depth.depth_m.shape
        if self._view is None or self._view.shape != (height, width):
            self._view = None
            size = self._type.itemsize
            message.data = array.array("B", bytes(height * width * size))
            self._view = np.frombuffer(message.data, self._type).reshape(height, width)  # after the setter, which may copy
            message.height, message.width = height, width
            message.point_step, message.row_step = size, size * width
        fill_cloud(
            self._view,
            depth_m=maps.depth.depth_m,
            camera=camera,
            rgb=rgb,
            labels=None if maps.labels is None else maps.labels.labels,
            confidence=None if maps.labels is None else confidence_bytes(maps.labels),
            normals=None if maps.normals is None else maps.normals.normals,
        )
        message.header = header
        return message
