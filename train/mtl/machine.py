"""How PyTorch uses this machine: device, threads, and whether every operation gives the same bits. Knows no training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edge_mtl.device import fingerprint
from edge_mtl.errors import BackendUnavailable
from mtl.parallel import ALONE, Parallel
from mtl.settings import LoopSettings, Precision

__all__ = ["computes_in_bf16", "prepared", "slow_arithmetic"]


def computes_in_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether a network computes in bfloat16 (autocast) there: as the setting says, "auto" where the hardware multiplies it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return fingerprint().has_bf16


def slow_arithmetic(precision: Precision, device: torch.device) -> str | None:
    """What to say of a precision that was asked for and that the device has to imitate; None where there is nothing to say."""
    if precision == "bf16" and not computes_in_bf16("auto", device):
        where = "GPU" if device.type == "cuda" else "processor"
        return f"this {where} has to imitate bf16: a step can take ten times as long as in fp32. Leave loop.precision at auto"
    return None


@contextmanager
def prepared(loop: LoopSettings, *, parallel: Parallel = ALONE) -> Iterator[torch.device]:
    """Within the block PyTorch works as the settings say; what it was told before comes back afterwards.

    Yields:
        the device to train on: of several GPUs, the one of this process.
    Raises:
        BackendUnavailable: a GPU is asked for and PyTorch sees none.
    """
    if loop.device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("loop.device is cuda, and PyTorch sees no GPU. Train with --loop.device cpu, or auto")
    on_gpu = loop.device != "cpu" and torch.cuda.is_available()
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    tuned = torch.backends.cudnn.benchmark
    torch.set_num_threads(loop.threads or max(1, fingerprint().cores // parallel.local_world))
    if loop.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = on_gpu and not loop.deterministic
    try:
        yield torch.device("cuda", parallel.local) if on_gpu else torch.device("cpu")
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        torch.backends.cudnn.benchmark = tuned
