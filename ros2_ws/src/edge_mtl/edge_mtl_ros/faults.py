"""What to do when inference fails: continue, open the engine again, or give up. Knows counting, and nothing else."""

from __future__ import annotations

from typing import Literal

__all__ = ["FaultPolicy", "Remedy"]

Remedy = Literal["continue", "reopen", "give_up"]
_IN_A_ROW = 3


class FaultPolicy:
    """Three failures in a row open the engine again, once; three more without a success between give up.

    A failure that no engine of this process can recover from gives up at once.
    """

    def __init__(self) -> None:
        self._in_a_row = 0
        self._reopened = False
        self.failures = 0

    def failed(self, *, lost: bool = False) -> Remedy:
        """One frame failed in the runtime: what to do now.

        Args:
            lost: the device cannot be used again by this process.
        """
        self.failures += 1
        if lost:
            return "give_up"
        self._in_a_row += 1
        if self._in_a_row < _IN_A_ROW:
            return "continue"
        self._in_a_row = 0
        if self._reopened:
            return "give_up"
        self._reopened = True
        return "reopen"

    def succeeded(self) -> None:
        """One frame was predicted: whatever went wrong was transient."""
        self._in_a_row = 0
        self._reopened = False
