"""What counts as a number: see `edge_mtl.numbers`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from edge_mtl.depth_scale import check_factor
from edge_mtl.errors import DepthScaleError, FrameError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.image.frames import Intrinsics
from edge_mtl.numbers import is_number

HUGE = 10**400


@pytest.mark.parametrize("value", [0, -1.5, 1 << 60, np.float32(2), np.int8(3)])
def test_numbers_are_numbers(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [True, np.bool_(True), "1", None, [1], 1j, Decimal(1), np.ones(1)])
def test_what_only_looks_like_one_is_none(value: Any) -> None:
    assert not is_number(value)


@pytest.mark.parametrize("value", [HUGE, -HUGE, float("inf"), float("nan"), np.float32("inf")])
def test_what_no_float_holds_is_no_number(value: Any) -> None:
    assert not is_number(value)
    with pytest.raises(FrameError, match="intrinsics should be finite"):
        Intrinsics(value, 500.0, 320.0, 240.0)
    with pytest.raises(ValueError, match="should be a number"):
        Budget({"miou": value})
    with pytest.raises(DepthScaleError):
        check_factor(value)
