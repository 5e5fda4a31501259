"""The bindings themselves, over a CUDA driver that is not there: the suite of `tests/gpu` runs against a C library of ours.

That library, `tests/fakes/driver.cpp`, is compiled here and loaded as libcuda.so.1 by fresh interpreters.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_mtl.cuda.driver_library import DriverLibrary
from tests.fakes.driver import PYCUDA, ROOT, compile_driver, run_with

RUN = """
import pytest
sys.exit(pytest.main(["-rs", "-p", "no:cacheprovider", "-o", "addopts=", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Path:
    """Folder with our libcuda.so.1."""
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.mark.parametrize("binding", ["cuda-bindings", "pycuda"])
def test_the_gpu_suite_of_the_cuda_layer_passes_over_the_driver(driver, binding):
    if binding == "cuda-bindings" and not _installed("cuda.bindings"):
        pytest.skip("needs cuda-bindings")
    packages = [PYCUDA] if binding == "pycuda" and not _installed("pycuda") else []
    done = run_with(driver, packages, RUN, "tests/gpu/test_gpu_cuda.py", "-k", f"{binding} and not pytorch")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "failed" not in done.stdout
    assert "skipped" not in done.stdout, done.stdout[-2000:]


GRAPHS = """
import ctypes
from edge_mtl.cuda.driver_library import begin_capture, driver_library, end_capture
from edge_mtl.cuda.errors import CudaError
class Stream:
    handle = 0
driver, stream, raw = driver_library(), Stream(), ctypes.CDLL("libcuda.so.1")
assert driver.missing == (), driver.missing
made, context = ctypes.c_void_p(), ctypes.c_void_p()
raw.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
raw.cuCtxPushCurrent_v2(context)
raw.cuStreamCreate(ctypes.byref(made), 1)
stream.handle = made.value
begin_capture(driver, stream)
graph = end_capture(driver, stream)
graph.launch(stream)
graph.free()
graph.free()
begin_capture(driver, stream)
try:
    driver.call("cuStreamSynchronize", stream.handle)
except CudaError as exc:
    print(exc.code)
try:
    end_capture(driver, stream)
except CudaError as exc:
    print(exc.code, exc.sticky)
driver.call("cuStreamSynchronize", stream.handle)
driver.call("cuCtxPopCurrent_v2", ctypes.byref(context))
print(driver.codes["out of memory"])
"""


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def test_graphs_by_way_of_the_drivers_own_library(driver):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver)}
    done = subprocess.run(
        [sys.executable, "-c", GRAPHS], capture_output=True, text=True, env=environment, timeout=120, cwd=ROOT
    )
    assert done.stdout.split() == [
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        "False",
        "CUDA_ERROR_OUT_OF_MEMORY",
    ], done.stderr


def test_a_driver_without_graphs_is_recognised():
    class Old:
        def __getattr__(self, name):
            if "Graph" in name:
                raise AttributeError(name)
            return lambda *arguments: 0

    assert DriverLibrary(Old()).missing == (
        "cuGraphInstantiateWithFlags",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
        "cuGraphDestroy",
    )
