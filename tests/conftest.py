"""Fixtures of every test: tiny bundles, a private cache folder, no network."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

import numpy as np
import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # also for tests that import the runtime by themselves

from edge_mtl.bundle import Bundle
from tests.bundles import make_bundle, picture


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
    return picture(7)
