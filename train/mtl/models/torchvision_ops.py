"""Lets timm be imported beside a torch and a torchvision of different builds. Knows nothing about models.

timm imports torchvision, and a torchvision whose compiled part does not load into this torch (a PyPI wheel beside a
CPU-only torch, say) fails at import, because operators that it describes have no schema. We run none of them: the schemas
alone are enough, and they are only defined when torchvision has not brought its own.
"""

from __future__ import annotations

import importlib
import importlib.util

import torch

__all__ = ["make_timm_importable"]

_SCHEMAS: dict[str, str] = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_LIBRARIES: list[torch.library.Library] = []  # a definition lives as long as its library object


def make_timm_importable() -> bool:
    """Define the operators' schemas if torchvision cannot be imported without them.

    Returns:
        Whether anything had to be defined.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False  # timm itself says what is missing
    try:
        importlib.import_module("torchvision")  # first as it is: its compiled part may load, and then defines everything
    except RuntimeError:
        missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(_SCHEMAS[name])
        _LIBRARIES.append(library)
        return bool(missing)
    return False
