"""Fixtures of every test: tiny bundles, a private cache folder, no network. Tests of training are skipped without torch."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # also for tests that import the runtime by themselves
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a shell's background job: the commands under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from edge_mtl.bundle import Bundle
from edge_mtl.tasks import KINDS
from tests.bundles import make_bundle, make_image

with contextlib.suppress(ImportError):  # a machine with a GPU may have no more than pytest
    from hypothesis import HealthCheck, settings

    # A property holds on slow and busy machines too.
    settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any speed")

TRAINING_TESTS = ("test_model*.py", "test_train*.py", "test_study*.py")
TRAINING_PACKAGES = ("torch", "torchvision", "timm", "safetensors", "torchmetrics", "scipy", "rosbags", "tensorboard", "h5py")


class TrainingTests(pytest.Module):
    """A file of tests that may need packages of the extra "train": skipped, with the reason, where one is not installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as exc:
            missing = exc.__cause__.name if isinstance(exc.__cause__, ModuleNotFoundError) else None
            if missing not in TRAINING_PACKAGES:
                raise
            pytest.skip(f"needs {missing}: pip install -e '.[dev]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if any(fnmatch(module_path.name, pattern) for pattern in TRAINING_TESTS):
        module: pytest.Module = TrainingTests.from_parent(parent, path=module_path)
        return module
    return None


@pytest.fixture(scope="session", autouse=True)
def one_process_each() -> Iterator[None]:
    """Benchmarks start one process for an engine's start-up and memory, not three; how several are combined is tested apart."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("edge_mtl.bench.benchmark._PROCESSES", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """A test does not pull the plug; commands that tests start as processes wait for the disk as ever."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def private_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own cache folder and no bundle named by the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("EDGE_MTL_BUNDLE", raising=False)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may reach beyond this machine at run time."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0]) if isinstance(address, tuple) else ""
            try:
                local = host == "localhost" or ipaddress.ip_address(host).is_loopback
            except ValueError:
                local = False
            if not local:
                raise AssertionError(f"a test tried to reach {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with all three tasks, shared by the session: read it, never change it (see `own_bundle`)."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def own_bundle(tmp_path: Path) -> Bundle:
    """A bundle of this test's own, to build engines in, to corrupt or to remove."""
    return make_bundle(tmp_path / "tiny")


@pytest.fixture
def frame() -> np.ndarray:
    """(64, 96, 3) uint8 RGB, the network size of the tiny bundle."""
    return make_image(7)


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kind finished a result."""
    counts: Counter[str] = Counter()
    for kind in KINDS.values():

        def counting(*arguments: Any, _finish: Any = kind.finish, _name: str = kind.name) -> Any:
            counts[_name] += 1
            return _finish(*arguments)

        monkeypatch.setattr(kind, "finish", counting)
    return counts
