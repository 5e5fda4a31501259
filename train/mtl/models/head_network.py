"""The network of a task whose answer is no map: it reads stages of the backbone, beside the decoder of the maps.

Knows the form of such networks; each kind has its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["HeadNetwork"]


class HeadNetwork(nn.Module):
    """Stages in, the raw answer of one task out. Takes the place of a decoder where nothing else is to be decoded.

    Attributes:
        task: whose answer it is.
        reads: which stages `forward` takes, from 0, finest first.
        stride: of maps; it has none, and stands for 4 where a network has no decoder.
    """

    stride = 4

    def __init__(self, task: str, reads: Sequence[int]) -> None:
        super().__init__()
        self.task, self.reads = task, tuple(reads)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int] = (0, 0), *, stride: int = 4) -> dict[str, Any]:
        """The stages that it `reads` -> its raw answer by task, as `Head.answer` takes it; size and stride change nothing."""
        return {self.task: self.raw(features)}

    @abstractmethod
    def raw(self, features: Sequence[Tensor]) -> Any:
        """The stages that it `reads` -> its raw answer."""

    @abstractmethod
    def class_layers(self) -> tuple[nn.Conv2d, ...]:
        """The last layers that have an output for each class: they start fresh where classes change."""
