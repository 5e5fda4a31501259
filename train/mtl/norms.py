"""How batch normalisation behaves in training: own statistics, shared ones, or none. Knows layers, no losses or data."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError
from mtl.parallel import ALONE, Parallel

__all__ = ["named_statistics", "norm_statistics", "train_with"]

Model = TypeVar("Model", bound=nn.Module)

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def train_with(model: Model, batch_norm: str, *, device: torch.device, parallel: Parallel = ALONE) -> Model:
    """The model in training mode, its batch normalisation as `optimizer.batch_norm` says.

    Raises:
        BuildError: "synced" statistics of several processes on CPUs, which PyTorch does not have.
    """
    if batch_norm == "synced" and parallel.world > 1:
        if device.type != "cuda":
            raise BuildError('optimizer.batch_norm "synced" needs GPUs. Use "local", or "frozen"')
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.train()
    if batch_norm == "frozen":
        for layer in model.modules():
            if isinstance(layer, _NORMS):
                layer.eval()
    return model


def norm_statistics(model: nn.Module) -> list[Tensor]:
    """Running means and variances, in the order of the layers."""
    return list(named_statistics(model).values())


def named_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Running means and variances by their names in the model's state, in the order of the layers."""
    layers = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, _NORMS))
    found = {
        f"{name}.{key}": value
        for name, layer in layers
        for key, value in (("running_mean", layer.running_mean), ("running_var", layer.running_var))
    }
    return {name: value for name, value in found.items() if value is not None}
