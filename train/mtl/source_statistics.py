"""Running statistics of batch norms, one set for each source of a mixture.

In training a batch norm uses the statistics of the batch, which is of one source; what it remembers for inference would be
those of whichever sources came last. Here every source has its own memory. Knows layers; knows no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtl.norms import named_statistics

__all__ = ["SourceStatistics"]


class SourceStatistics:
    """What a model's batch norms remember of each source. The layers hold one set at a time.

    Args:
        model: its layers keep the tensors that they have.
        kept: statistics of sources to begin with, as of `by_source`.
    """

    def __init__(self, model: nn.Module, kept: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        self._layers = named_statistics(model)
        self._kept = {source: dict(values) for source, values in (kept or {}).items()}
        self._current = ""

    def use(self, source: str) -> None:
        """Let the layers remember `source` from now on; one that is new begins with what they remember of the one before."""
        if source == self._current:
            return
        self._put_away()
        self._fill(source)
        self._current = source

    @contextmanager
    def showing(self, source: str) -> Iterator[None]:
        """Within the block the layers have the statistics of `source`, or what they had where there are none of it."""
        held = self._copy()
        self._put_away()
        self._fill(source)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._layers.items():
                    value.copy_(held[name])

    def by_source(self) -> dict[str, dict[str, Tensor]]:
        """Copies of the statistics of every source so far, by the names that they have in the model's state."""
        self._put_away()
        return {source: {name: value.clone() for name, value in kept.items()} for source, kept in self._kept.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was. Raises KeyError, RuntimeError: it is of another model."""
        kept = {source: {name: values[name] for name in self._layers} for source, values in state["kept"].items()}
        self._kept = {source: {name: value.clone() for name, value in values.items()} for source, values in kept.items()}
        self._current = str(state["current"])
        self._fill(self._current)

    def state(self) -> dict[str, Any]:
        """What `restore` needs: tensors and plain containers."""
        return {"current": self._current, "kept": self.by_source()}

    def _put_away(self) -> None:
        if self._current:
            self._kept[self._current] = self._copy()

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._layers.items()}

    @torch.no_grad()
    def _fill(self, source: str) -> None:
        for name, value in self._kept.get(source, {}).items():
            self._layers[name].copy_(value)
