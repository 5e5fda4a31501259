"""Fixtures of the tests that need a GPU. Where something is missing, a test is skipped and the reason names what is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_mtl.backends import available
from edge_mtl.backends.tensorrt.api import Library, find_library
from edge_mtl.bundle import DEMO_BUNDLE, MANIFEST, Bundle
from edge_mtl.cuda import BINDINGS, Cuda, open_cuda
from edge_mtl.cuda.presence import no_gpu
from edge_mtl.errors import BackendUnavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def gpu() -> None:
    """A CUDA GPU."""
    if reason := no_gpu():
        pytest.skip(f"needs a CUDA GPU: {reason}")


@pytest.fixture(params=tuple(BINDINGS))
def cuda(request: pytest.FixtureRequest, gpu: None) -> Iterator[Cuda]:
    """The GPU through each binding that is here."""
    try:
        opened = open_cuda(binding=request.param)
    except BackendUnavailable as exc:
        pytest.skip(f"needs {request.param}: {exc}")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def library(gpu: None) -> Library:
    """TensorRT, or TensorRT for RTX."""
    try:
        return find_library()
    except BackendUnavailable as exc:
        pytest.skip(f"needs TensorRT: {exc}")


@pytest.fixture(scope="session")
def onnxruntime_cuda(gpu: None) -> None:
    """ONNX Runtime with its CUDA provider."""
    found = available()["onnxruntime-cuda"]
    if not found.usable:
        pytest.skip(f"needs onnxruntime-gpu: {found.reason}")


@pytest.fixture(scope="session")
def demo() -> Bundle:
    """The demo bundle."""
    if not (DEMO_BUNDLE / MANIFEST).is_file():
        pytest.skip(f"needs the demo bundle {DEMO_BUNDLE.name}")
    return Bundle.open(DEMO_BUNDLE)
