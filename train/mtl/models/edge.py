"""The decoder made for the edge: stages in, one map per task at stride 4 out. Knows nothing about backbones or losses.

    stages 8 16 32 -> 1x1 laterals, global context                      (shared)
    stride 16      -> one branch per task
    stride 8       -> each branch meets the laterals again; 1x1 output, upsampled (bilinear) to stride 4

Built for integer inference: convolution + batch norm + ReLU everywhere (unsigned activations), hard-sigmoid gates, no softmax,
and nearest x2 upsampling, which is exact on integers, commutes with the 1x1 convolutions around it, and still contains
bilinear upsampling: nearest x2 followed by the 3x3 kernel [1 2 1] x [1 2 1] / 16 is bilinear with half-pixel centres.

Each part can be switched off, and others on, with `EdgeOptions`, so that an ablation can judge it. Off since one did
(docs/studies/rooms-main): a top-down neck, gated messages between the tasks at stride 16, after the idea of MTI-Net
(Vandenhende et al. 2020) and InvPT (Ye & Xu 2022), and a way up to stride 4. They cost time and gained nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from mtl.models.edge_blocks import ConvNormAct, Exchange, Merge, Rays, Separable, initialise, upsample_x2
from mtl.models.output import OutputConv

__all__ = ["EdgeDecoder", "EdgeOptions"]

_KERNELS = (3, 3, 5, 5)


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """What the edge decoder is made of; the defaults are the decoder, everything else is for ablations.

    Attributes:
        exchange: tasks read each other at stride 16; never with a single task.
        gated: what a task reads in the exchange goes through a gate of its own; otherwise it is added as it is.
        context: the mean of the coarsest map is added to every pixel of it.
        top_down: a neck, in which every stage meets the coarser ones. Without it the branches read the laterals; only
            stride 32 still joins stride 16, where the branches start, or the deepest stage would be lost.
        fine: the branches go up to stride 4; otherwise they predict at stride 8 and the maps are upsampled (bilinear).
        last_stage_only: the neck is fed from stride 32 alone: is it the finer stages that help, or the way up?
        rays: where a pixel looks is added at strides 32 and 16, through a linear map that starts at zero. Depth along z
            and normals in the camera's frame depend on that direction, which convolutions only guess from their padding
            (cf. CoordConv, Liu et al. 2018, and CAM-Convs, Facil et al. 2019). Constant at a given size: nearly free.
        slim: what the branches read at stride 4, where pixels are many, is as narrow as they are there.
    """

    exchange: bool = False
    gated: bool = True
    context: bool = True
    top_down: bool = False
    fine: bool = False
    last_stage_only: bool = False
    rays: bool = False
    slim: bool = True

    def __post_init__(self) -> None:
        if self.last_stage_only and not self.top_down:
            raise BuildError("last_stage_only needs top_down: without the neck nothing leads from stride 32 to the finer maps")


class Branch(nn.Module):
    """One task's way up from stride 16 to its output map: at stride 4, or at stride 8 when not `fine`."""

    def __init__(self, width: int, neck4_width: int, fine_width: int, channels: int, *, fine: bool) -> None:
        super().__init__()
        self.merge8 = Merge(width, width, width)
        self.refine8 = Separable(width, width)
        self.merge4 = Merge(width, neck4_width, fine_width) if fine else None
        self.refine4 = Separable(fine_width, fine_width) if fine else None
        self.output = OutputConv(fine_width if fine else width, channels)

    def forward(self, x16: Tensor, neck8: Tensor, neck4: Tensor | None) -> Tensor:
        x = self.refine8(self.merge8(x16, neck8))
        if self.merge4 is not None and self.refine4 is not None:
            x = self.refine4(self.merge4(x, neck4))
        return self.output(x)


class EdgeDecoder(nn.Module):
    """Features of strides 4, 8, 16, 32 -> raw maps at stride 4, one per task.

    Args:
        channels: of the four feature maps, finest first.
        outputs: output channels per task.
        width: channels of the neck and of the branches at strides 16 and 8.
        fine_width: channels of the branches at stride 4, where pixels are many; `width // 2` when not given.
        options: which parts it has.
    Attributes:
        reads: which of the four feature maps `forward` takes, from 0, finest first.
    """

    stride = 4

    def __init__(
        self,
        channels: Sequence[int],
        outputs: Mapping[str, int],
        *,
        width: int,
        fine_width: int | None = None,
        options: EdgeOptions | None = None,
    ) -> None:
        super().__init__()
        options = options or EdgeOptions()
        fine_width = fine_width or width // 2
        widths = (fine_width if options.slim else width, width, width, width)
        self._finest = 0 if options.fine else 1
        levels = range(self._finest, 4)
        self.reads: tuple[int, ...] = (3,) if options.last_stage_only else tuple(levels)
        self.laterals = nn.ModuleDict({str(level): ConvNormAct(channels[level], widths[level]) for level in self.reads})
        self.context = nn.Conv2d(width, width, 1) if options.context else None
        necks = levels if options.top_down else ()
        self.necks = nn.ModuleDict({str(level): Separable(widths[level], widths[level], _KERNELS[level]) for level in necks})
        narrowed = options.slim and options.fine and options.top_down
        self.narrow = nn.Conv2d(width, fine_width, 1, bias=False) if narrowed else None
        self.rays = nn.ModuleList(Rays(width) for _ in range(2)) if options.rays else None
        self.enter = nn.ModuleDict({task: Separable(width, width) for task in outputs})
        exchanged = options.exchange and len(outputs) > 1
        self.exchange = Exchange(width, list(outputs), gated=options.gated) if exchanged else None
        self.branches = nn.ModuleDict(
            {task: Branch(width, widths[0], fine_width, count, fine=options.fine) for task, count in outputs.items()}
        )
        self.apply(initialise)

    @staticmethod
    def strides(options: EdgeOptions | None = None) -> tuple[int, ...]:
        """Of the feature maps that it needs, the last ones of a backbone: those of stride 4 where it is `fine` only."""
        return (4, 8, 16, 32) if options is not None and options.fine else (8, 16, 32)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int], *, stride: int = 4) -> dict[str, Tensor]:
        """The maps that it `reads` -> raw (B, C, H/4, W/4) per task, whatever the image's size (H, W); stride 4 only."""
        maps = self._neck(features)
        entered = {task: enter(maps[2]) for task, enter in self.enter.items()}
        if self.exchange is not None:
            entered = self.exchange(entered)
        raw = {task: branch(entered[task], maps[1], maps.get(0)) for task, branch in self.branches.items()}
        if self._finest == 0:
            return raw
        return {task: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) for task, x in raw.items()}

    def output_layers(self) -> dict[str, nn.Conv2d]:
        """The last layer of every task."""
        return {task: branch.output for task, branch in self.branches.items()}

    def _neck(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """What the branches read: level (0: stride 4, 1: 8, 2: 16) -> (B, width, h, w)."""
        seen = {level: self.laterals[str(level)](value) for level, value in zip(self.reads, features, strict=True)}
        x = seen[3]
        if self.context is not None:
            x = x + F.relu(self.context(x.mean(dim=(2, 3), keepdim=True)))
        if self.rays is not None:
            x = self.rays[0](x)
        if self.necks:
            x = self.necks["3"](x)
        maps = {}
        for level in range(2, self._finest - 1, -1):
            if self.necks or level == 2:
                up = upsample_x2(self.narrow(x) if self.narrow is not None and level == 0 else x)
                x = seen[level] + up if level in seen else up
            else:
                x = seen[level]
            if self.rays is not None and level == 2:
                x = self.rays[1](x)
            maps[level] = x = self.necks[str(level)](x) if self.necks else x
        return maps
