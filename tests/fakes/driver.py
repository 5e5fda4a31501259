"""Compiles `driver.cpp`, a CUDA driver that is not there, and starts interpreters that find it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import edge_mtl.cuda

ROOT = Path(__file__).resolve().parents[2]
PYCUDA, TENSORRT = (ROOT / "tests" / "fakes" / name for name in ("packages", "rehearsal"))
"""What stands in for a package: the folder continues PYTHONPATH."""

SHOW_A_GPU = """
import sys
import edge_mtl.cuda.presence as presence
presence.no_gpu = lambda **_: ""
"""
"""The first lines of a program that is to see the GPU of this driver."""


def compile_driver(folder: Path) -> Path:
    """`folder`, with libcuda.so.1 in it; skips the test where there is no compiler."""
    compiler = next((name for name in ("g++", "clang++") if shutil.which(name)), None)
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C++ compiler: g++ or clang++")
    kernel = Path(edge_mtl.cuda.__file__).with_name("letterbox.cu")
    source = ROOT / "tests" / "fakes" / "driver.cpp"
    target = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([compiler, "-O1", "-w", f'-DLETTERBOX="{kernel}"', str(source), *target], check=True, capture_output=True)
    return folder


def run_with(
    driver: Path, packages: Sequence[Path], code: str, *arguments: str, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh interpreter, in the repository's root.

    Args:
        cache: of the user; that of whoever runs the tests by default.
    """
    path = os.pathsep.join(str(folder) for folder in (*packages, ROOT))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    environment |= {} if cache is None else {"XDG_CACHE_HOME": str(cache)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-c", SHOW_A_GPU + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600)
