"""Loads an engine beside the running one, in a thread that a coroutine of the executor waits for. Imports nothing of ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

from edge_mtl.engine import Engine
from edge_mtl.errors import EdgeMtlError
from edge_mtl_ros.loading import load_engine
from edge_mtl_ros.settings import Settings

__all__ = ["Loading"]


class Loading:
    """Loads an engine in a thread; awaiting it lets the executor do other work, five milliseconds apart.

    The executors up to Jazzy call a waiting coroutine without pause, which would take the processor from the inference.
    """

    def __init__(self, settings: Settings, progress: Callable[[str, int, int], None]) -> None:
        self._done = threading.Event()
        self._engine: Engine | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(settings, progress), name="edge_mtl-reload", daemon=True).start()

    def _run(self, settings: Settings, progress: Callable[[str, int, int], None]) -> None:
        try:
            self._engine = load_engine(settings, progress=progress)
        except BaseException as exc:
            self._error = exc
        finally:
            self._done.set()

    def __await__(self) -> Generator[None, None, None]:
        while not self._done.wait(0.005):
            yield

    def ended(self, timeout_s: float) -> bool:
        """Whether loading is over, after waiting for it this long."""
        return self._done.wait(timeout_s)

    def result(self) -> Engine:
        """The engine; raises what loading raised."""
        if self._engine is None:
            raise self._error or EdgeMtlError("loading ended without an engine")
        return self._engine
