"""The last layer of a head: a 1x1 convolution that stays in float32 when the rest runs in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["OutputConv"]


class OutputConv(nn.Conv2d):
    """1x1 convolution to a task's channels, outside autocast: eight bits of mantissa are steps of 0.8 % in depth."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(input)
        with torch.autocast(device, enabled=False):
            return super().forward(input.float())
