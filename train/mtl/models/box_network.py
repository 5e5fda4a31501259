"""The network of boxes: at every stride a score for each class and four distances, for every cell.

    stages 8 16 32 -> 1x1 laterals, each level joined by the coarser one (nearest x2, added), separable 3x3
    each level     -> one separable tower for scores and one for boxes, 1x1 outputs

After RTMDet (Lyu et al. 2022, arXiv:2212.07784): one answer per cell, no anchors, no bins of distances. Made for integers:
convolution + batch norm + ReLU throughout, scores and boxes of every level are outputs of their own, with scales of their
own, and distances are cut at zero instead of passed through an exponential. Levels share no layer: 26,000 weights more
than shared towers at width 64, and each level has ranges and statistics of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from mtl.models.edge_blocks import ConvNormAct, Separable, initialise, upsample_x2
from mtl.models.head_network import HeadNetwork
from mtl.models.output import OutputConv

__all__ = ["BoxNetwork"]

_FEW = -4.6
"""Bias of scores: a probability of 0.01, as boxes are rare (Lin et al. 2017, arXiv:1708.02002)."""
_NEAR = 2.0
"""Bias of distances, in strides."""
_OUTPUT_STD = 0.01


class BoxNetwork(HeadNetwork):
    """See the module.

    Args:
        channels, strides: of the backbone's stages, finest first.
        levels: strides of the outputs, each twice the one before.
        classes: how many.
        width: channels of all layers between.
    Raises:
        BuildError: the backbone has no stage of a level, or a level is not twice the one before.
    """

    def __init__(
        self,
        task: str,
        channels: Sequence[int],
        strides: Sequence[int],
        *,
        levels: Sequence[int],
        classes: int,
        width: int = 64,
    ) -> None:
        lacking = [level for level in levels if level not in strides]
        steps = [b for a, b in pairwise(levels) if b != 2 * a]
        if lacking or steps:
            raise BuildError(
                f"{task} has boxes at strides {', '.join(map(str, levels))}, and the backbone has stages at "
                f"{', '.join(map(str, strides))}: each level should be one of them and twice the one before. Change levels"
            )
        stages = [len(strides) - 1 - list(reversed(strides)).index(level) for level in levels]  # the deepest of equal strides
        super().__init__(task, stages)
        self.levels = tuple(levels)
        self.laterals = nn.ModuleDict(
            {str(level): ConvNormAct(channels[stage], width) for level, stage in zip(levels, stages, strict=True)}
        )
        self.joins, self.score_towers, self.box_towers = (
            nn.ModuleDict({str(level): Separable(width, width) for level in levels}) for _ in range(3)
        )
        scores, boxes = ({str(level): OutputConv(width, count) for level in levels} for count in (classes, 4))
        self.scores, self.boxes = nn.ModuleDict(scores), nn.ModuleDict(boxes)
        self.apply(initialise)
        for layers, bias in ((scores, _FEW), (boxes, _NEAR)):
            for layer in layers.values():
                nn.init.normal_(layer.weight, std=_OUTPUT_STD)
                if layer.bias is not None:
                    nn.init.constant_(layer.bias, bias)

    def raw(self, features: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """The stages of its levels -> "scores" (B, classes, h, w) logits and "boxes" (B, 4, h, w) by level, finest first.

        Boxes are distances from the cell's centre to the left, top, right and bottom side, in strides, 0 or more.
        """
        joined: list[Tensor] = []
        for level, feature in reversed(list(zip(self.levels, features, strict=True))):
            x = self.laterals[str(level)](feature)
            joined.insert(0, self.joins[str(level)](x + upsample_x2(joined[0]) if joined else x))
        scores, boxes = [], []
        for level, x in zip(self.levels, joined, strict=True):
            scores.append(self.scores[str(level)](self.score_towers[str(level)](x)))
            boxes.append(F.relu(self.boxes[str(level)](self.box_towers[str(level)](x))))
        return {"scores": scores, "boxes": boxes}

    def class_layers(self) -> tuple[nn.Conv2d, ...]:
        """Those of the scores."""
        return tuple(layer for layer in self.scores.values() if isinstance(layer, nn.Conv2d))
