"""The encoder: a timm backbone that returns one feature map per stage, whole or cut between two stages.

Knows nothing about tasks or decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError
from mtl.models.efficientnet_lite import as_timm, read_published
from mtl.models.mobilenet_tflite import mobilenet_from_tflite
from mtl.models.torchvision_ops import make_timm_importable

make_timm_importable()

import timm  # noqa: E402  (its import needs the line above)

from mtl.models.pvt_variants import PVT_VARIANTS  # noqa: E402  (it makes timm know them)

__all__ = ["PVT_V2_NAMES", "STAGES", "Backbone", "Stages", "build_backbone"]

PVT_V2_NAMES: tuple[str, ...] = (*(f"pvt_v2_b{size}" for size in range(6)), "pvt_v2_b2_li", *PVT_VARIANTS)
"""The backbones that the deploy rewrite knows; any other timm model with `features_only` trains and exports plainly."""

STAGES = 4
"""Stages of every backbone that are used."""

_DOWNLOAD_ERRORS = ("huggingface", "connect", "resolve", "network", "offline", "timed out", "urlopen", "max retries")


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
        self._first = len(info.channels()) - STAGES
        self.channels: tuple[int, ...] = tuple(info.channels()[self._first :])
        self.strides: tuple[int, ...] = tuple(info.reduction()[self._first :])
        self._channels_last = str(getattr(net, "output_fmt", "NCHW")).upper().endswith("NHWC")

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) float -> four maps (B, channels[i], H / strides[i], W / strides[i]), finest first."""
        features = list(self.net(image))[self._first :]
        return [f.permute(0, 3, 1, 2).contiguous() for f in features] if self._channels_last else features

    def part(self, first: int, last: int) -> Stages:
        """Stages `first` to `last` (from 0, the last one excluded) with the same layers, not copies.

        Raises:
            BuildError: a backbone that is not a plain sequence of layers.
        """
        if first == last:
            return Stages(self, {}, (), first=first)
        returns = getattr(self.net, "return_layers", None)
        if not isinstance(self.net, nn.ModuleDict) or not isinstance(returns, dict):
            raise BuildError(
                f"the stages of {self.name} cannot be told apart: it cannot be shared in part. "
                f'Use sharing "full" or "separate", or a backbone such as {PVT_V2_NAMES[2]} or resnet50'
            )
        ends = [list(self.net).index(name) + 1 for name in list(returns)[self._first :]]
        starts = [0, *ends[:-1]]
        names = list(self.net)[starts[first] : ends[last - 1]]
        layers = {name: self.net[name] for name in names}
        return Stages(self, layers, tuple(list(returns)[self._first :][first:last]), first=first)


class Stages(nn.Module):
    """Consecutive stages of a backbone. The names of their weights are those of the whole backbone.

    Attributes:
        name: timm's name of the model.
        channels, strides: of all four stages of the whole backbone, finest first.
        first, last: which stages these are, from 0, the last one excluded; with none, `forward` gives nothing.
    """

    def __init__(self, whole: Backbone, layers: dict[str, nn.Module], ends: tuple[str, ...], *, first: int) -> None:
        super().__init__()
        self.name, self.channels, self.strides = whole.name, whole.channels, whole.strides
        self.net = nn.ModuleDict(layers)
        self.first, self.last = first, first + len(ends)
        self._ends = ends
        self._channels_last = whole._channels_last

    def forward(self, x: Tensor) -> list[Tensor]:
        """The image (B, 3, H, W), or the map of the stage before -> one map (B, C, h, w) per stage."""
        if self._channels_last and self.first > 0:
            x = x.permute(0, 2, 3, 1)
        features = []
        for name, layer in self.net.items():
            x = layer(x)
            if name in self._ends:
                features.append(x.permute(0, 3, 1, 2).contiguous() if self._channels_last else x)
        return features


def build_backbone(
    name: str,
    *,
    pretrained: bool | Path | Mapping[str, Tensor] = False,
    drop_path: float = 0.0,
    output_stride: int | None = None,
) -> Backbone:
    """Make a backbone by its timm name.

    Args:
        name: for example "pvt_v2_b0"; any timm model that supports `features_only` and has four stages or more.
        pretrained: True downloads timm's ImageNet weights, a path reads them from a local file
            (.safetensors, .pth, .bin: timm's own or the authors' format, or EfficientNet-Lite's as published for PyTorch;
            .tflite: MobileNetV2's, see `mobilenet_from_tflite`). A mapping has the weights of a backbone made by this function.
        drop_path: rate of stochastic depth in the last block, rising linearly from 0 in the first.
        output_stride: 8 or 16 dilates the last stages of a CNN (the study's ResNet uses 8); None leaves it at 32.
    Raises:
        BuildError: unknown name, no such weights, weights that do not fit or cannot be downloaded, or fewer than four
            stages.
        BackendUnavailable: a .tflite file without the package that reads it.
    """
    if not timm.is_model(name):
        raise BuildError(f"unknown backbone {name!r}: expected a timm model such as {', '.join(PVT_V2_NAMES)}")
    if isinstance(pretrained, Path) and not pretrained.is_file():
        raise BuildError(f"no pretrained weights at {pretrained}: expected a timm checkpoint. Give its path, or none")
    options: dict[str, object] = {}
    state_for = _state_of_others(name, pretrained) if isinstance(pretrained, Path) else None
    own = pretrained if isinstance(pretrained, Mapping) else None
    if isinstance(pretrained, Path) and state_for is None:
        options["pretrained_cfg_overlay"] = {"file": str(pretrained)}
    if drop_path > 0:
        options["drop_path_rate"] = drop_path
    if output_stride is not None:
        options["output_stride"] = output_stride
    if name.startswith("swin"):
        options["strict_img_size"] = False  # its default refuses sizes that are not square
    try:
        net = timm.create_model(name, features_only=True, pretrained=bool(pretrained) and state_for is own is None, **options)
    except Exception as exc:  # whatever timm, torch or the download raises
        if pretrained is True and _cannot_download(exc):
            raise BuildError(
                f"the ImageNet weights of {name} could not be downloaded ({_first_line(exc)}). Check the network, or download "
                "them elsewhere and give their path: --model.pretrained FILE; without them: --model.pretrained ''"
            ) from exc
        source = str(pretrained) if isinstance(pretrained, Path) else "downloaded" if pretrained else "random"
        others = ". Checkpoints of others: train/import_checkpoint.py" if isinstance(pretrained, Path) else ""
        raise BuildError(f"backbone {name} could not be made with {source} weights: {exc}{others}") from exc
    if state_for is not None:
        net.load_state_dict(state_for(net))
    if own is not None:
        _load_own(net, own, name)
    if len(net.feature_info.channels()) < STAGES:
        found = len(net.feature_info.channels())
        raise BuildError(f"backbone {name} has {found} stages: expected at least {STAGES}. Choose a hierarchical backbone")
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # PVT's keys are few: plain products are faster to train on a CPU and export plainly
    return Backbone(name, net)


def _load_own(net: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Copy the weights of a backbone of this package. Raises BuildError where they are another one's."""
    wanted, found = ({key: tuple(value.shape) for key, value in one.items()} for one in (net.state_dict(), weights))
    for key in (*wanted, *found):
        if wanted.get(key) != found.get(key):
            raise BuildError(
                f"the pretrained weights are not of {name}: {key} should be {wanted.get(key)}, found {found.get(key)}"
            )
    net.load_state_dict(dict(weights))


def _state_of_others(name: str, path: Path) -> Callable[[nn.Module], dict[str, Tensor]] | None:
    """What gives a network of timm its state from a file whose names timm does not know; None for any other file."""
    if path.suffix == ".tflite":
        return partial(mobilenet_from_tflite, path, backbone=name)
    published = read_published(path)
    return None if published is None else partial(as_timm, published, path=path, backbone=name)


def _cannot_download(error: BaseException) -> bool:
    """Whether an error, or one that led to it, is about the network or the hub."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    said = " ".join(f"{type(one).__module__} {type(one).__name__} {one}" for one in chain).lower()
    return any(word in said for word in _DOWNLOAD_ERRORS)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def check_divisible(image: Tensor | Sequence[int], *, by: int) -> None:
    """Raise BuildError unless height and width (the last two sizes) are multiples of `by`."""
    height, width = (image.shape if isinstance(image, torch.Tensor) else image)[-2:]
    if height % by or width % by or min(height, width) < by:
        raise BuildError(f"input is {height} x {width}: expected multiples of {by}. Letterbox the frame to such a size")
