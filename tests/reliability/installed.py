"""The SDK's tests of what is installed: those that need the wheel, its extras, pytest and hypothesis, and no checkout of it.

Gates that install the wheel somewhere else lay these tests beside it, without the sources.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

from tests.packaging.distributions import ROOT

__all__ = ["PYTEST", "TESTS", "counts", "failures", "lay_out"]

TESTS = (
    "tests/contract/test_engine_contract.py",
    "tests/unit/edge_mtl/image/test_frames.py",
    "tests/unit/edge_mtl/image/test_upsample.py",
    "tests/unit/edge_mtl/onnx_graph",
    "tests/unit/edge_mtl/test_bundle.py",
    "tests/unit/edge_mtl/test_device.py",
    "tests/unit/edge_mtl/test_prediction.py",
)
PYTEST = (
    "-m",
    "pytest",
    "-m",
    "not slow and not training",
    "-k",
    "not onnxruntime-graph and not openvino-graph and not openvino-host",
    "--tb=line",
)
"""After `python`, before paths. Of the contract's four kinds of engines one is tried, to be quick."""


def lay_out(folder: Path) -> Path:
    """A folder with the tests and pytest's settings; the package itself is not in it."""
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    return folder


def counts(said: str) -> Counter[str]:
    """What pytest's last line counts: "passed", "failed", "skipped", "errors" ..."""
    found = re.findall(r"(\d+) (passed|failed|skipped|errors?|xfailed)\b", said.strip().rpartition("\n")[2])
    return Counter({name.removesuffix("s") if name == "errors" else name: int(count) for count, name in found})


def failures(said: str) -> list[str]:
    """The tests that pytest's summary names, each with its reason."""
    return [" ".join(line.split()) for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
