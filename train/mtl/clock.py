"""Where the time of a run went: steps, and waiting for data. Knows nothing about what is trained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Clock"]

T = TypeVar("T")


@dataclass(slots=True)
class Clock:
    """Seconds of training, all stages and all parts of an interrupted run together.

    Attributes:
        training_s: of steps and of waiting for their batches; not of evaluations, checkpoints or setting up, which the
            first batch of this process belongs to: its workers are only starting.
        waiting_s: of that, waiting for batches.
        images: frames trained on.
    """

    training_s: float = 0.0
    waiting_s: float = 0.0
    images: int = 0

    def waited_for(self, source: Iterator[T]) -> Iterator[T]:
        """The items of `source`; the time until each is there counts as waiting."""
        while True:
            began = time.monotonic()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.waiting_s += time.monotonic() - began
            yield item

    def step(self, seconds: float, images: int) -> None:
        """A step was taken, `seconds` after the one before it."""
        self.training_s += seconds
        self.images += images

    @property
    def images_per_s(self) -> float:
        """Mean speed; 0 before the first step."""
        return self.images / self.training_s if self.training_s > 0 else 0.0

    @property
    def data_wait(self) -> float:
        """Share of the time that was spent waiting for data, 0..1."""
        return self.waiting_s / self.training_s if self.training_s > 0 else 0.0
