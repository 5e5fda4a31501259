"""The network of a frame's class: the mean of the last stage, then one linear layer, as the backbone's own classifier is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtl.models.head_network import HeadNetwork
from mtl.models.output import OutputConv

__all__ = ["ClassNetwork"]

_OUTPUT_STD = 0.01


class ClassNetwork(HeadNetwork):
    """See the module.

    Args:
        channels: of the backbone's stages, finest first.
        classes: how many.
    """

    def __init__(self, task: str, channels: Sequence[int], *, classes: int) -> None:
        super().__init__(task, (len(channels) - 1,))
        self.output = OutputConv(channels[-1], classes)
        nn.init.normal_(self.output.weight, std=_OUTPUT_STD)
        nn.init.constant_(self.output.bias, 0.0)

    def raw(self, features: Sequence[Tensor]) -> Tensor:
        """The last stage (B, C, h, w) -> logits (B, classes)."""
        (x,) = features
        logits: Tensor = self.output(x.mean(dim=(2, 3), keepdim=True))
        return logits.flatten(1)

    def class_layers(self) -> tuple[nn.Conv2d, ...]:
        """The only layer."""
        return (self.output,)
