"""How far a build is, as one number from TensorRT's nested phases. Knows nothing about graphs or options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_mtl.backends.tensorrt.api import Library

__all__ = ["STEPS", "Phases", "monitor_of"]

STEPS = 1000
"""A build has that many units of progress."""


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The phases that are running, and the share of the whole that is done. Never goes back."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report
        self._running: dict[str, _Phase] = {}
        self._share = 0.0
        self.failure: BaseException | None = None

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins within `parent`."""
        self._running[name] = _Phase(parent, max(int(steps), 1))

    def step(self, name: str, number: int) -> bool:
        """A step of a phase is done. False, for the library to stop, where reporting failed or was interrupted."""
        phase = self._running.get(name)
        if phase is not None:
            phase.done = min(int(number) + 1, phase.steps)
        return self._tell(self._done())

    def finish(self, name: str) -> None:
        """A phase ends; its last step may not have been told of."""
        phase = self._running.pop(name, None)
        if phase is not None and phase.parent is None:
            self._tell(1.0)

    def _done(self) -> float:
        outer = [name for name, phase in self._running.items() if phase.parent is None]
        return max((self._share_of(name, depth=0) for name in outer), default=self._share)

    def _share_of(self, name: str, *, depth: int) -> float:
        phase = self._running[name]
        if depth > len(self._running):  # a phase that is its own ancestor
            return 0.0
        inner = [child for child, other in self._running.items() if other.parent == name]
        part = max((self._share_of(child, depth=depth + 1) for child in inner), default=0.0)
        return min((phase.done + part) / phase.steps, 1.0)

    def _tell(self, share: float) -> bool:
        """Exceptions must not pass through the library's C++: they wait in `failure`."""
        if self.failure is not None:
            return False
        try:
            if share > self._share or share == 1.0:
                self._share = max(share, self._share)
                self._report(int(STEPS * self._share), STEPS)
        except BaseException as exc:
            self.failure = exc
            return False
        return True


def monitor_of(library: Library, phases: Phases) -> Any:
    """An IProgressMonitor that tells `phases`."""
    base: Any = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]
        """Passes on what the library tells."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase or None, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return phases.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
