"""How PyTorch uses this machine: device, threads, and whether every operation gives the same bits. Knows no training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edge_mtl.device import fingerprint
from edge_mtl.errors import BackendUnavailable
from mtl.parallel import ALONE, Parallel
from mtl.settings import LoopSettings

__all__ = ["prepared"]


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
