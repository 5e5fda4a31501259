"""Small tensors that all processes of a run agree on. Knows torch.distributed and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["from_first_rank", "mean_over_ranks"]


def mean_over_ranks(values: Tensor) -> Tensor:
    """`values` averaged over all ranks, bit for bit equal on all of them; `values` itself in a single process."""
    if not _several():
        return values
    total = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / dist.get_world_size()


def from_first_rank(values: Tensor) -> Tensor:
    """`values` of rank 0 on every rank."""
    if not _several():
        return values
    agreed = values.detach().clone(memory_format=torch.contiguous_format)
    dist.broadcast(agreed, src=0)
    return agreed


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
