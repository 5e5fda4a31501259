"""The node's parameters in ROS: declared, judged together at every change, restored. What they mean is in `settings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from edge_mtl_ros.settings import PARAMETERS, Parameter, Settings

__all__ = ["NodeParameters"]


class NodeParameters:
    """Declares all parameters of a node and keeps the newest valid set.

    Args:
        node: their owner.
        on_change: called with the new settings after a change was accepted.
    Attributes:
        settings: the newest valid set.
    Raises:
        ValueError: those given at the start are not valid.
    """

    def __init__(self, node: Node, *, on_change: Callable[[Settings], None]) -> None:
        self._node, self._on_change = node, on_change
        for parameter in PARAMETERS:
            node.declare_parameter(parameter.name, parameter.default, _descriptor(parameter))
        self.settings = Settings.of(self._values())
        node.add_on_set_parameters_callback(self._judge)

    def restore(self, settings: Settings, names: Sequence[str]) -> None:
        """Set some parameters to what they are in `settings`."""
        self._node.set_parameters_atomically([RosParameter(name, value=getattr(settings, name)) for name in names])

    def _judge(self, changes: list[RosParameter]) -> SetParametersResult:
        """All of a change or nothing."""
        values = self._values() | {change.name: change.value for change in changes}
        try:
            self.settings = Settings.of(values)
        except ValueError as exc:
            return SetParametersResult(successful=False, reason=str(exc))
        self._on_change(self.settings)
        return SetParametersResult(successful=True)

    def _values(self) -> dict[str, Any]:
        return {parameter.name: self._node.get_parameter(parameter.name).value for parameter in PARAMETERS}


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What `ros2 param describe` shows: read-only marks, ranges, texts."""
    result = ParameterDescriptor(description=parameter.description, read_only=parameter.read_only)
    result.dynamic_typing = parameter.any_type
    if parameter.choices:
        result.additional_constraints = f"One of: {', '.join(map(repr, parameter.choices))}"
    if parameter.limits is not None:
        low, high = parameter.limits
        if isinstance(parameter.default, float):
            result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
        else:
            result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return result
