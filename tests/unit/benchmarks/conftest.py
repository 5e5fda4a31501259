"""Modules of benchmarks/, which is no package: its scripts import one another by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports one of them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module
