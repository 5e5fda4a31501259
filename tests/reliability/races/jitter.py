"""Random sleeps before the calls in which processes and threads meet: each seed is another interleaving."""

from __future__ import annotations

import fcntl
import io
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["disturb"]

_CALLS = (
    (os, "replace"),
    (os, "fsync"),
    (os, "open"),
    (os, "unlink"),
    (os, "scandir"),
    (io, "open"),
    (fcntl, "flock"),
    (shutil, "copy2"),
)
_MOST_S = (0.0, 0.0005, 0.003, 0.02)


def disturb(seed: int) -> None:
    """Let this process sleep before every such call from now on, as `seed` says; it ends with the process."""
    dice = random.Random(seed)
    sys.setswitchinterval(dice.choice((1e-6, 1e-5, 1e-4, 5e-3)))
    for module, name in _CALLS:
        setattr(module, name, _late(getattr(module, name), dice, dice.choice(_MOST_S)))


def _late(call: Callable[..., Any], dice: random.Random, most_s: float) -> Callable[..., Any]:
    if most_s == 0.0:
        return call

    def late(*arguments: Any, **options: Any) -> Any:
        if dice.random() < 0.5:
            time.sleep(dice.random() * most_s)
        return call(*arguments, **options)

    return late
