"""What other people's code calls the weights that we have too. Knows names and shapes only.

- LibMTL's NYUv2 example (median-research-group/LibMTL, examples/nyu, hard parameter sharing): `encoder.*` and
  `decoders.<task>.*`, where a decoder is torchvision's DeepLabHead: `0.convs.*`, `0.project.*`, `1`, `2`, `4`.
- PVT v2 as its authors publish it (whai362/PVT): `patch_embed1.*`, `block1.0.*`, `norm1.*`; timm knows how to read it.
- timm's own names, with or without `features_only`, and torchvision's ResNets, which timm follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["TASKS_OF_LIBMTL", "backbone_names", "head_names", "is_passing", "split_libmtl"]

TASKS_OF_LIBMTL: dict[str, str] = {"segmentation": "segmentation", "depth": "depth", "normal": "normals", "normals": "normals"}
"""LibMTL's name of a task -> ours."""

_ANCHORS = ("patch_embed1.proj.weight", "patch_embed.proj.weight", "conv1.weight")
_CLASSIFIERS = ("head.", "fc.", "classifier.", "norm.")
_HEAD = (
    (r"0\.convs\.0\.([01])\.", r"point.\1."),
    (r"0\.convs\.1\.([01])\.", r"dilated.0.\1."),
    (r"0\.convs\.2\.([01])\.", r"dilated.1.\1."),
    (r"0\.convs\.3\.([01])\.", r"dilated.2.\1."),
    (r"0\.convs\.4\.1\.", r"pooling.project.0."),
    (r"0\.convs\.4\.2\.", r"pooling.project.1."),
    (r"0\.project\.([01])\.", r"project.\1."),
    (r"1\.", r"smooth.0."),
    (r"2\.", r"smooth.1."),
    (r"4\.", r"output."),
)


def is_passing(name: str) -> bool:
    """Whether a weight served training alone: the loss weights that some of LibMTL's weightings learn."""
    return name == "loss_scale"


def split_libmtl(weights: Mapping[str, Tensor]) -> tuple[dict[str, str], dict[str, dict[str, str]], list[str]]:
    """Names of a file -> (backbone, heads, others).

    Returns:
        The backbone's {name within the encoder: name in the file}, the same per task of the file, and names that belong
        to neither. A file without `encoder.` is a backbone alone.
    """
    if not any(name.startswith("encoder.") for name in weights):
        return {name: name for name in weights}, {}, []
    encoder: dict[str, str] = {}
    heads: dict[str, dict[str, str]] = {}
    others: list[str] = []
    for name in weights:
        part, _, rest = name.partition(".")
        if part == "encoder":
            encoder[rest] = name
        elif part == "decoders" and "." in rest:
            task, _, inner = rest.partition(".")
            heads.setdefault(task, {})[inner] = name
        else:
            others.append(name)
    return encoder, heads, others


def backbone_names(names: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Names of a backbone -> ({timm's name with `features_only`: name in the file}, names of a classifier, which are left)."""
    found = [name for anchor in _ANCHORS for name in names if name == anchor or name.endswith("." + anchor)]
    wrapper = "" if not found else _wrapper(min(found, key=len))
    renamed: dict[str, str] = {}
    left: list[str] = []
    for name, origin in names.items():
        inner = name.removeprefix(wrapper)
        if inner.startswith(_CLASSIFIERS):
            left.append(origin)
        else:
            renamed[_timm_name(inner)] = origin
    return renamed, left


def head_names(names: Mapping[str, str]) -> dict[str, str]:
    """Names of torchvision's DeepLabHead -> {ours: name in the file}; a name that is none of them stays as it is."""
    renamed: dict[str, str] = {}
    for name, origin in names.items():
        ours = next((re.sub("^" + old, new, name) for old, new in _HEAD if re.match(old, name)), name)
        renamed[ours] = origin
    return renamed


def _wrapper(name: str) -> str:
    """ "backbone.patch_embed1.proj.weight" -> "backbone."."""
    anchor = next(anchor for anchor in _ANCHORS if name.endswith(anchor))
    return name[: -len(anchor)]


def _timm_name(name: str) -> str:
    """As `timm.models.pvt_v2.checkpoint_filter_fn`, then as `features_only` flattens names."""
    name = re.sub(r"^patch_embed1\.", "patch_embed.", name)
    name = re.sub(r"^patch_embed([234])\.", lambda match: f"stages.{int(match[1]) - 1}.downsample.", name)
    name = name.replace("dwconv.dwconv.", "dwconv.")
    name = re.sub(r"^block([1-4])\.(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks.{match[2]}.", name)
    name = re.sub(r"^norm([1-4])\.", lambda match: f"stages.{int(match[1]) - 1}.norm.", name)
    return re.sub(r"^(stages|layers)\.(\d+)\.", r"\1_\2.", name)
