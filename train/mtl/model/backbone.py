"""The shared encoder: a timm backbone that returns one feature map per stage. Knows nothing about tasks or decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError
from mtl.model.torchvision_ops import make_timm_importable

make_timm_importable()

import timm  # noqa: E402  (its import needs the line above)

__all__ = ["PVT_V2_NAMES", "Backbone", "build_backbone"]

PVT_V2_NAMES: tuple[str, ...] = (*(f"pvt_v2_b{size}" for size in range(6)), "pvt_v2_b2_li")
"""The backbones that the deploy rewrite knows; any other timm model with `features_only` trains and exports plainly."""

_STAGES = 4


class Backbone(nn.Module):
    """A timm feature extractor, cut to its last four stages, channels first.

    Attributes:
        name: timm's name of the model.
        channels: channels of each feature map, finest first.
        strides: pixels of the input per pixel of each feature map.
    """

    def __init__(self, name: str, net: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.net = net
        info = net.feature_info
        self._first = len(info.channels()) - _STAGES
        self.channels: tuple[int, ...] = tuple(info.channels()[self._first :])
        self.strides: tuple[int, ...] = tuple(info.reduction()[self._first :])
        self._channels_last = str(getattr(net, "output_fmt", "NCHW")).upper().endswith("NHWC")

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) float -> four maps (B, channels[i], H / strides[i], W / strides[i]), finest first."""
        features = list(self.net(image))[self._first :]
        return [f.permute(0, 3, 1, 2).contiguous() for f in features] if self._channels_last else features


def build_backbone(
    name: str,
    *,
    pretrained: bool | Path = False,
    drop_path: float = 0.0,
    output_stride: int | None = None,
) -> Backbone:
    """Make a backbone by its timm name.

    Args:
        name: for example "pvt_v2_b0"; any timm model that supports `features_only` and has four stages or more.
        pretrained: True downloads timm's ImageNet weights, a path reads them from a local file
            (.safetensors, .pth, .bin: timm's own or the authors' format).
        drop_path: rate of stochastic depth in the last block, rising linearly from 0 in the first.
        output_stride: 8 or 16 dilates the last stages of a CNN (the study's ResNet uses 8); None leaves it at 32.
    Raises:
        BuildError: unknown name, no such weights, weights that do not fit, or fewer than four stages.
    """
    if not timm.is_model(name):
        raise BuildError(f"unknown backbone {name!r}: expected a timm model such as {', '.join(PVT_V2_NAMES)}")
    if isinstance(pretrained, Path) and not pretrained.is_file():
        raise BuildError(f"no pretrained weights at {pretrained}: expected a timm checkpoint. Give its path, or none")
    options: dict[str, object] = {}
    if isinstance(pretrained, Path):
        options["pretrained_cfg_overlay"] = {"file": str(pretrained)}
    if drop_path > 0:
        options["drop_path_rate"] = drop_path
    if output_stride is not None:
        options["output_stride"] = output_stride
    if name.startswith("swin"):
        options["strict_img_size"] = False  # its default refuses sizes that are not square
    try:
        net = timm.create_model(name, features_only=True, pretrained=bool(pretrained), **options)
    except Exception as exc:  # whatever timm, torch or the download raises
        source = str(pretrained) if isinstance(pretrained, Path) else "downloaded" if pretrained else "random"
        raise BuildError(f"backbone {name} could not be made with {source} weights: {exc}") from exc
    if len(net.feature_info.channels()) < _STAGES:
        found = len(net.feature_info.channels())
        raise BuildError(f"backbone {name} has {found} stages: expected at least {_STAGES}. Choose a hierarchical backbone")
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # PVT's keys are few: plain products are faster to train on a CPU and export plainly
    return Backbone(name, net)


def check_divisible(image: Tensor | Sequence[int], *, by: int) -> None:
    """Raise BuildError unless height and width (the last two sizes) are multiples of `by`."""
    height, width = (image.shape if isinstance(image, torch.Tensor) else image)[-2:]
    if height % by or width % by:
        raise BuildError(f"input is {height} x {width}: expected multiples of {by}. Letterbox the frame to such a size")
