"""Parameters as ROS describes them: read-only marks, ranges, texts. What they mean is in `settings`."""

from __future__ import annotations

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from edge_mtl_ros.settings import Parameter

__all__ = ["descriptor"]


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    result = ParameterDescriptor(description=parameter.description, read_only=parameter.read_only)
    if parameter.choices:
        result.additional_constraints = f"One of: {', '.join(map(repr, parameter.choices))}"
    if parameter.limits is not None:
        low, high = parameter.limits
        if isinstance(parameter.default, float):
            result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
        else:
            result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return result
