"""Answers and targets of any kind: a tensor, or lists and mappings of such."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["mapped", "tensors"]


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same lists and mappings with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(one, change) for key, one in value.items()}
    return [mapped(one, change) for one in value]


def tensors(value: Any) -> list[Tensor]:
    """All tensors in it, in order; anything else is left out."""
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for one in inner for tensor in tensors(one)]
