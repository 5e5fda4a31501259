"""The layers of the edge decoder. Knows nothing about stages, necks or the tasks' outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvNormAct", "Exchange", "Merge", "Rays", "Separable", "initialise", "upsample_x2"]


def upsample_x2(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W), nearest."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Separable(nn.Sequential):
    """Depthwise k x k, then 1x1, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__(ConvNormAct(inputs, inputs, kernel, groups=inputs), ConvNormAct(inputs, outputs))


class Merge(nn.Module):
    """A coarse map meets one twice as fine: ReLU(BN(W [up(coarse), fine])).

    W is held as its two column blocks: a 1x1 convolution commutes with nearest upsampling, so the coarse block runs at
    a quarter of the pixels and nothing is concatenated.
    """

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(coarse, outputs, 1, bias=False)
        self.fine = nn.Conv2d(fine, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, coarse, H, W), (B, fine, 2H, 2W) -> (B, outputs, 2H, 2W)."""
        return F.relu(self.norm(upsample_x2(self.coarse(coarse)) + self.fine(fine)), inplace=True)


class Message(nn.Module):
    """What one task takes from all of them: gate(own) * features(all), added to its own; without a gate, all of it."""

    def __init__(self, width: int, tasks: int, *, gated: bool = True) -> None:
        super().__init__()
        self.mix = ConvNormAct(width * tasks, width)
        self.spread = ConvNormAct(width, width, 5, groups=width)
        self.gate = nn.Conv2d(width, width, 1) if gated else None

    def forward(self, own: Tensor, everything: Tensor) -> Tensor:
        message = self.spread(self.mix(everything))
        return own + (message if self.gate is None else F.hardsigmoid(self.gate(own)) * message)


class Exchange(nn.Module):
    """Every task reads the features of all tasks through a gate of its own. In and out: one (B, width, H, W) per task."""

    def __init__(self, width: int, tasks: Sequence[str], *, gated: bool = True) -> None:
        super().__init__()
        self.messages = nn.ModuleDict({task: Message(width, len(tasks), gated=gated) for task in tasks})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        everything = torch.cat([features[task] for task in self.messages], dim=1)
        return {task: message(features[task], everything) for task, message in self.messages.items()}


class Rays(nn.Module):
    """x + W r, where r is where a pixel looks: (column, row) from the centre of the map, in halves of its height."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same."""
        return x + self.offset(x.shape[2], x.shape[3]).to(x)

    def offset(self, rows: int, columns: int) -> Tensor:
        """(1, width, rows, columns): what is added at this size."""
        down = (torch.arange(rows, device=self.weight.device) * 2 + 1 - rows) / rows
        right = (torch.arange(columns, device=self.weight.device) * 2 + 1 - columns) / rows
        along_columns, along_rows = self.weight.T[:, None, :, None, None]
        return along_columns * right + along_rows * down[:, None]


def initialise(module: nn.Module) -> None:
    """He initialisation by fan-in, which is right for depthwise convolutions too; biases zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
