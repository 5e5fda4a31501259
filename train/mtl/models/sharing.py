"""Less than the whole backbone shared: every task has later stages and a decoder of its own. Knows nothing about losses.

    full       backbone 1 2 3 4 -> one decoder for all tasks            (no `TaskParts`)
    partial    backbone 1 .. k  -> per task: stages k+1 .. 4, decoder
    separate   nothing          -> per task: stages 1 .. 4, decoder     (as many single-task models)

Weights of a task are called as in its single-task model, behind `decoder.parts.<task>.`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mtl.models.aspp import AsppDecoder
from mtl.models.backbone import Backbone, Stages
from mtl.models.edge import EdgeDecoder
from mtl.models.head_network import HeadNetwork

__all__ = ["TaskPart", "TaskParts"]

IMAGE = -1
"""In `reads`: not a map of the shared stages but the image itself."""


class TaskPart(nn.Module):
    """The stages of one task that are not shared, and its decoder, or its own network where its answer is no map.

    Attributes:
        first: index of the first stage that is its own, from 0.
    """

    def __init__(self, backbone: Backbone | Stages, decoder: EdgeDecoder | AsppDecoder | HeadNetwork) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder
        self.first = backbone.first if isinstance(backbone, Stages) else 0

    def forward(self, shared: Mapping[int, Tensor], size: tuple[int, int], *, stride: int) -> dict[str, Any]:
        """Maps by stage (`IMAGE` for the image) and the image's size -> the raw answer of the one task."""
        maps = {**shared, **dict(enumerate(self.backbone(shared[self.first - 1]), start=self.first))}
        return self.decoder([maps[level] for level in self.decoder.reads], size, stride=stride)


class TaskParts(nn.Module):
    """One `TaskPart` per task, as a decoder of the shared stages.

    Attributes:
        stride: pixels of the image per pixel of the output.
        reads: which shared maps `forward` takes, from 0, finest first; (-1,), the image, where nothing is shared.
    """

    def __init__(self, parts: Mapping[str, TaskPart]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))
        self.stride = next((one.decoder.stride for one in parts.values() if not isinstance(one.decoder, HeadNetwork)), 4)
        also = {level for one in parts.values() for level in one.decoder.reads if level < one.first}
        self.reads: tuple[int, ...] = tuple(sorted({next(iter(parts.values())).first - 1, *also}))

    def forward(self, features: Sequence[Tensor], size: tuple[int, int], *, stride: int | None = None) -> dict[str, Any]:
        """The maps that it `reads` -> per task raw (B, C, H / stride, W / stride), or what its own network gives."""
        shared = dict(zip(self.reads, features, strict=True))
        raw: dict[str, Any] = {}
        for part in self.parts.values():
            raw.update(part(shared, size, stride=stride or self.stride))
        return raw

    def output_layers(self) -> dict[str, nn.Conv2d]:
        """The last layer of every task whose answer is a map."""
        maps = {task: part.decoder for task, part in self.parts.items() if not isinstance(part.decoder, HeadNetwork)}
        return {task: decoder.output_layers()[task] for task, decoder in maps.items()}
