"""The processes of one run: who is first, what they agree on, and means over them. Knows torch.distributed, no training.

A run of several processes is started by torchrun, which ends all of them when one fails. Every process takes a part of the
same batches, so that the run learns what one process with the whole batches would; only the first one writes and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from edge_mtl.errors import EdgeMtlError

__all__ = ["ALONE", "Parallel", "ParallelError", "PeerFailed", "launched"]

T = TypeVar("T")

_LONGEST_WAIT = timedelta(hours=2)
"""For the first process to evaluate, export or render while the others wait."""


class ParallelError(EdgeMtlError):
    """The processes of a run cannot work together."""

    exit_code = 13


class PeerFailed(ParallelError):
    """Another process of the run failed and says why itself."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """The place of this process among those of its run.

    Attributes:
        rank: 0 for the first process, which writes, prints and exports.
        world: how many processes there are.
        local: number of this process on its machine, of `local_world`.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes, prints and exports."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """`values` averaged over the processes, bit for bit the same in all of them."""
        return values if self.world == 1 else self.sum(values) / self.world

    def sum(self, values: Tensor) -> Tensor:
        """`values` summed over the processes, bit for bit the same in all of them."""
        if self.world == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes; as one message for each kind of number."""
        if self.world == 1:
            return
        for kind in {tensor.dtype for tensor in tensors}:
            own = [tensor for tensor in tensors if tensor.dtype == kind]
            flat = torch.cat([tensor.reshape(-1) for tensor in own])
            dist.all_reduce(flat)
            flat /= self.world
            parts = flat.split([tensor.numel() for tensor in own])
            for tensor, part in zip(own, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(float(flag))))

    def first_then_others(self, action: Callable[[], T]) -> T:
        """Do something that makes files in the first process, then in the others, which find them made.

        Raises:
            EdgeMtlError: what `action` raised in this process.
            PeerFailed: it failed in another one; then nobody continues.
        """
        result: T | None = None
        for first in (True, False):
            error: EdgeMtlError | None = None
            if self.is_first == first:
                try:
                    result = action()
                except EdgeMtlError as exc:
                    error = exc
            if self.any(error is not None):
                raise error or PeerFailed("another process of this run failed, its own message says why")
            if self.world == 1:
                break
        return result  # type: ignore[return-value]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block, messages that are lost because another process ended are a PeerFailed."""
        try:
            yield
        except RuntimeError as exc:
            if self.world > 1 and any(word in str(exc) for word in ("gloo", "NCCL", "Connection closed", "Connection reset")):
                raise PeerFailed("another process of this run ended, its own message says why") from exc
            raise


ALONE = Parallel()
"""A run of one process."""


@contextmanager
def launched(device: str = "auto", *, environment: Mapping[str, str] = os.environ) -> Iterator[Parallel]:
    """Join the processes that torchrun started; `ALONE` when it did not.

    Args:
        device: as `loop.device`: GPUs talk through NCCL, everything else through gloo.
    Raises:
        ParallelError: fewer GPUs than processes, or the others cannot be reached.
    """
    world = int(environment.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in environment:
        yield ALONE
        return
    local, local_world = int(environment.get("LOCAL_RANK", "0")), int(environment.get("LOCAL_WORLD_SIZE", "1"))
    on_gpus = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpus:
        if torch.cuda.device_count() < local_world:
            found = torch.cuda.device_count()
            raise ParallelError(f"{local_world} processes need as many GPUs, found {found}. Use --nproc_per_node {found}")
        torch.cuda.set_device(local)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=_LONGEST_WAIT)
    except (RuntimeError, ValueError) as exc:
        line = str(exc).splitlines()[0]
        raise ParallelError(f"the processes of this run do not reach each other ({line}). Start them with torchrun") from exc
    try:
        yield Parallel(rank=int(environment["RANK"]), world=world, local=local, local_world=local_world)
    finally:
        dist.destroy_process_group()
