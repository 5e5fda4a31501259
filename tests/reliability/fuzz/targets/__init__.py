"""The targets: every module here has `TARGETS`, a sequence of `Target`. Heavy packages are imported by `open`, not before."""

from __future__ import annotations

import importlib
import pkgutil

from tests.reliability.fuzz.target import Target

__all__ = ["all_targets"]


def all_targets() -> dict[str, tuple[str, Target]]:
    """Module and target by the target's name."""
    found: dict[str, tuple[str, Target]] = {}
    for entry in pkgutil.iter_modules(__path__, f"{__name__}."):
        for target in importlib.import_module(entry.name).TARGETS:
            if target.name in found:
                raise ValueError(f"two targets are called {target.name}: in {found[target.name][0]} and {entry.name}")
            found[target.name] = (entry.name, target)
    return found
