"""The node's parameters in ROS: declared, judged together at every change, restored. What they mean is in `settings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from edge_mtl_ros.settings import OF_A_CAMERA, PARAMETERS, Parameter, Settings, Value

__all__ = ["NodeParameters"]


class NodeParameters:
    """Declares all parameters of a node and keeps the newest valid set.

    Args:
        node: their owner.
        on_change: called after a change was accepted.
    Attributes:
        settings: the newest valid set.
        of_cameras: the same with each camera's own values, by its name; "" where it is the only one and has none.
        own_scales: `depth_scale` of those cameras that have one of their own, by name.
    Raises:
        ValueError: those given at the start are not valid.
    """

    def __init__(self, node: Node, *, on_change: Callable[[], None]) -> None:
        self._node, self._on_change = node, on_change
        for parameter in PARAMETERS:
            node.declare_parameter(parameter.name, _ros_value(parameter.default), _descriptor(parameter))
        self.settings = Settings.of(self._values())
        for camera in self.settings.cameras:
            for parameter in PARAMETERS:
                if parameter.of_camera:
                    node.declare_parameter(f"{camera}.{parameter.name}", None, _descriptor(parameter, camera))
        self.of_cameras = Settings.of_cameras(self._values(self.settings.cameras))
        given = {camera: node.get_parameter(f"{camera}.depth_scale").value for camera in self.settings.cameras}
        self.own_scales = {camera: value for camera, value in given.items() if value is not None}
        node.add_on_set_parameters_callback(self._judge)

    def restore(self, settings: Settings, names: Sequence[str]) -> None:
        """Set some parameters to what they are in `settings`."""
        self._node.set_parameters_atomically([RosParameter(name, value=getattr(settings, name)) for name in names])

    def _judge(self, changes: list[RosParameter]) -> SetParametersResult:
        """All of a change or nothing."""
        values = self._values(self.settings.cameras) | {change.name: change.value for change in changes}
        try:
            self.settings, self.of_cameras = Settings.of(values), Settings.of_cameras(values)
        except ValueError as exc:
            return SetParametersResult(successful=False, reason=str(exc))
        self._on_change()
        return SetParametersResult(successful=True)

    def _values(self, cameras: Sequence[str] = ()) -> dict[str, Any]:
        """What is declared, of these cameras too, whose own values may be none or have been deleted."""
        names = [parameter.name for parameter in PARAMETERS]
        names += [f"{camera}.{name}" for camera in cameras for name in OF_A_CAMERA]
        return {name: self._node.get_parameter(name).value for name in names if self._node.has_parameter(name)}


def _ros_value(value: Value) -> Any:
    """A value as ROS has it, where an empty list has no type: one empty text stands for it."""
    return (list(value) or [""]) if isinstance(value, tuple) else value


def _descriptor(parameter: Parameter, camera: str = "") -> ParameterDescriptor:
    """What `ros2 param describe` shows: read-only marks, ranges, texts. A value of a camera's own need not be given."""
    result = ParameterDescriptor(description=parameter.description, read_only=parameter.read_only)
    result.dynamic_typing = parameter.any_type or bool(camera)
    if camera:
        result.read_only = parameter.effect != "at once"
        result.description += f" Of the camera {camera}; not set: as {parameter.name}."
    if parameter.choices:
        result.additional_constraints = f"One of: {', '.join(map(repr, parameter.choices))}"
    if parameter.limits is not None:
        low, high = parameter.limits
        if isinstance(parameter.default, float):
            result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
        else:
            result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return result
