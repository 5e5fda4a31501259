"""Small real networks for tests: a PVT v2 with few blocks, and weights as unkind as trained ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mtl.models import EdgeOptions, MultiTaskModel, build_model
from torch import nn


def as_if_trained(model: MultiTaskModel) -> MultiTaskModel:
    """Give every layer that a rewrite folds values that a wrong fold would show; returns the model in evaluation."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.normal_(0.0, 0.3, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0.0, 0.2, generator=generator)
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(3.0)
                if layer.bias is not None:
                    layer.bias.normal_(0.0, 0.3, generator=generator)
        for name, layer in model.named_modules():
            if name.endswith("output"):
                layer.weight.normal_(0.0, 0.3, generator=generator)
    return model.eval()


def small_model(*, tasks: Sequence[str] | None = None, mean: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> MultiTaskModel:
    """pvt_v2_b0 with five blocks instead of eight and an edge decoder of width 16 with every part, in evaluation."""
    torch.manual_seed(0)
    every = EdgeOptions(exchange=True, top_down=True, fine=True, slim=False)
    model = build_model("pvt_v2_b0", tasks=tasks, width=16, mean=mean, edge=every)
    for stage in ("stages_1", "stages_2", "stages_3"):
        blocks = getattr(model.backbone.net, stage).blocks
        del blocks[1:]
    return as_if_trained(model)
