"""What counts as a number in a text file or from a caller: one answer for whoever reads one."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, TypeGuard

__all__ = ["is_number"]


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number, NumPy's included; true, false and whole numbers that no float can hold are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
