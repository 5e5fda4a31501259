"""Training that is over in seconds: a network of 0.2 million weights, made-up batches, tiny rooms, processes to train in.

The processes are forked from a server that has imported everything once, so that a test can afford many of them.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
from mtl.config import apply_overrides, parse_config
from mtl.datasets.data_set import Split
from mtl.datasets.frame import Batch
from mtl.datasets.rooms import RoomsDataset
from mtl.loop import Training
from mtl.losses import MultiTaskLoss
from mtl.models.configured import model_from
from mtl.parallel import ALONE, Parallel, launched
from mtl.settings import RunSettings
from mtl.weighting import make_weighting

from edge_mtl.console import Console

__all__ = ["forking", "made_up_batch", "make_rooms", "quiet", "tiny_settings", "tiny_training", "together"]

SIZE = (32, 64)
_SMALL = {
    "data.train": "4",
    "data.validation": "2",
    "data.test": "2",
    "data.height": str(SIZE[0]),
    "data.width": str(SIZE[1]),
    "data.workers": "1",
    "stages": f"[{{height={SIZE[0]}, width={SIZE[1]}, steps=4, batch=4}}]",
    "model.backbone": "test_convnext",
    "model.width": "8",
    "loop.device": "cpu",
    "loop.threads": "1",
    "loop.loader_workers": "0",
    "loop.precision": "fp32",
    "loop.pictures": "0",
    "loop.deterministic": "true",
}


def tiny_settings(rooms: Path, folder: Path, **changes: str) -> RunSettings:
    """Settings of a run of four steps; keys of `changes` are dotted, values as on the command line."""
    fixed = {"data.root": f"'{rooms}'", "folder": f"'{folder}'"}
    return parse_config(apply_overrides({}, {**_SMALL, **fixed, **changes}))


def make_rooms(root: Path) -> Path:
    """The rooms of `tiny_settings`, rendered."""
    counts: dict[Split, int] = {"train": 4, "val": 2, "test": 2}
    for split, count in counts.items():
        RoomsDataset(root, split, count, height=SIZE[0], width=SIZE[1], workers=1, progress=False)
    return root


def made_up_batch(frames: int, *, seed: int = 0, phase: tuple[int, int] | None = None) -> Batch:
    """Noise with truth at every pixel of the first frame and ever less of the others."""
    draws = torch.Generator().manual_seed(seed)
    height, width = SIZE
    image = torch.randint(0, 256, (frames, height, width, 3), generator=draws, dtype=torch.uint8)
    label = torch.randint(0, 13, (frames, height, width), generator=draws, dtype=torch.uint8)
    depth = torch.rand((frames, height, width), generator=draws) * 4 + 0.5
    normals = torch.nn.functional.normalize(torch.randn((frames, height, width, 3), generator=draws), dim=-1)
    for number in range(frames):
        known = torch.rand((height, width), generator=draws) >= 0.9 * number / frames
        label[number][~known], depth[number][~known] = 255, 0.0
        normals[number][~known.flip(0)] = 0.0
    return Batch(image, {"segmentation": label, "depth": depth, "normals": normals}, phase)


def tiny_training(
    settings: RunSettings,
    *,
    parallel: Parallel = ALONE,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> Training:
    """A fresh model of the settings, ready to advance."""
    torch.manual_seed(settings.seed)
    model = model_from(settings)
    balance = {"segmentation": torch.linspace(0.5, 2.0, 13)} if settings.losses.class_weights else {}
    loss = MultiTaskLoss(settings.losses, model.specs, stride=model.stride, balance=balance)
    weighting = make_weighting(settings.losses, tasks=model.tasks, seed=settings.seed)
    return Training(model, loss, weighting, settings, parallel=parallel, device=device)


def quiet() -> Console:
    """A console that nobody reads."""
    return Console(file=io.StringIO(), width=120)


def forking() -> ForkServerContext:
    """Where processes come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mtl.run", "tests.tiny_training"])
    return context


def together(work: Callable[..., Any], world: int, *arguments: Any, timeout_s: float = 600.0) -> list[tuple[int, Any]]:
    """Run `work(parallel, *arguments)` in `world` processes that torchrun could have started.

    Returns:
        exit code, and what `work` returned (None if it raised), of each.
    """
    context = forking()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(world)]
    processes = [
        context.Process(target=_join, args=(rank, world, port, pipes[rank][1], work, arguments)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    results: list[Any] = []
    for (receiver, sender), process in zip(pipes, processes, strict=True):
        sender.close()
        try:
            results.append(receiver.recv() if receiver.poll(timeout_s) else None)
        except EOFError:
            results.append(None)
        process.join(timeout_s)
        process.kill()
        process.join()
    return [(process.exitcode or 0, result) for process, result in zip(processes, results, strict=True)]


def _join(rank: int, world: int, port: int, answer: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ.update(address, LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(world), OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    try:
        with launched("cpu") as parallel:
            answer.send(work(parallel, *arguments))
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}")
        sys.exit(1)
