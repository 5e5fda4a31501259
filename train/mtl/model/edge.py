"""The decoder made for the edge: four stages in, one map per task at stride 4 out. Knows nothing about backbones or losses.

    stages 4 8 16 32 -> 1x1 laterals, global context, top-down neck     (shared)
    stride 16        -> one branch per task; the branches exchange gated messages where that is cheap
    strides 8, 4     -> each branch meets the neck again; 1x1 output at stride 4

Built for integer inference: convolution + batch norm + ReLU everywhere (unsigned activations), hard-sigmoid gates, no softmax,
and nearest x2 upsampling, which is exact on integers, commutes with the 1x1 convolutions around it, and still contains
bilinear upsampling: nearest x2 followed by the 3x3 kernel [1 2 1] x [1 2 1] / 16 is bilinear with half-pixel centres.

The exchange follows the idea of MTI-Net (Vandenhende et al. 2020) and InvPT (Ye & Xu 2022): tasks talk at low resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.model.output import OutputConv

__all__ = ["ConvNormAct", "EdgeDecoder", "Exchange", "Merge", "Separable", "upsample_x2"]


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
    """What one task takes from all of them: gate(own) * features(all), added to its own."""

    def __init__(self, width: int, tasks: int) -> None:
        super().__init__()
        self.mix = ConvNormAct(width * tasks, width)
        self.spread = ConvNormAct(width, width, 5, groups=width)
        self.gate = nn.Conv2d(width, width, 1)

    def forward(self, own: Tensor, everything: Tensor) -> Tensor:
        return own + F.hardsigmoid(self.gate(own)) * self.spread(self.mix(everything))


class Exchange(nn.Module):
    """Every task reads the features of all tasks through a gate of its own. In and out: one (B, width, H, W) per task."""

    def __init__(self, width: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.messages = nn.ModuleDict({task: Message(width, len(tasks)) for task in tasks})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        everything = torch.cat([features[task] for task in self.messages], dim=1)
        return {task: message(features[task], everything) for task, message in self.messages.items()}


class Branch(nn.Module):
    """One task's way up from stride 16 to its output map at stride 4."""

    def __init__(self, width: int, fine_width: int, channels: int) -> None:
        super().__init__()
        self.merge8 = Merge(width, width, width)
        self.refine8 = Separable(width, width)
        self.merge4 = Merge(width, width, fine_width)
        self.refine4 = Separable(fine_width, fine_width)
        self.output = OutputConv(fine_width, channels)

    def forward(self, x16: Tensor, neck8: Tensor, neck4: Tensor) -> Tensor:
        x8 = self.refine8(self.merge8(x16, neck8))
        return self.output(self.refine4(self.merge4(x8, neck4)))


class EdgeDecoder(nn.Module):
    """Features of strides 4, 8, 16, 32 -> raw maps at stride 4, one per task.

    Args:
        channels: of the four feature maps, finest first.
        outputs: output channels per task.
        width: channels of the neck and of the branches at strides 16 and 8.
        fine_width: channels of the branches at stride 4, where pixels are many; `width // 2` when not given.
        exchange: whether tasks read each other at stride 16; never with a single task.
    """

    stride = 4

    def __init__(
        self,
        channels: Sequence[int],
        outputs: Mapping[str, int],
        *,
        width: int,
        fine_width: int | None = None,
        exchange: bool = True,
    ) -> None:
        super().__init__()
        fine_width = fine_width or width // 2
        self.laterals = nn.ModuleList(ConvNormAct(count, width) for count in channels)
        self.context = nn.Conv2d(width, width, 1)
        self.necks = nn.ModuleList(Separable(width, width, kernel) for kernel in (3, 3, 5, 5))
        self.enter = nn.ModuleDict({task: Separable(width, width) for task in outputs})
        self.exchange = Exchange(width, list(outputs)) if exchange and len(outputs) > 1 else None
        self.branches = nn.ModuleDict({task: Branch(width, fine_width, count) for task, count in outputs.items()})
        self.apply(_initialise)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int], *, stride: int = 4) -> dict[str, Tensor]:
        """Four maps, finest first -> raw (B, C, H/4, W/4) per task, whatever the image's size (H, W); stride 4 only."""
        x4, x8, x16, x32 = (lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True))
        neck32 = self.necks[3](x32 + F.relu(self.context(x32.mean(dim=(2, 3), keepdim=True))))
        neck16 = self.necks[2](x16 + upsample_x2(neck32))
        neck8 = self.necks[1](x8 + upsample_x2(neck16))
        neck4 = self.necks[0](x4 + upsample_x2(neck8))
        entered = {task: enter(neck16) for task, enter in self.enter.items()}
        if self.exchange is not None:
            entered = self.exchange(entered)
        return {task: branch(entered[task], neck8, neck4) for task, branch in self.branches.items()}


def _initialise(module: nn.Module) -> None:
    """He initialisation by fan-in, which is right for depthwise convolutions too; biases zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
