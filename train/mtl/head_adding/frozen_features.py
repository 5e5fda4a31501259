"""What a frozen backbone says of views of frames, kept in a folder, so that a head is trained without running it again.

A frame gives several views: the whole one, and random ones. Features are float16, half of the memory and a thousandth of a
value away; the folder holds no more bytes than it may, and one whose filling was interrupted is filled from there. Truths are
read anew every time, and so are images, by whose digests features are known to be theirs: labels are often mended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from rich.progress import track
from torch import Tensor

from edge_mtl.console import Console
from edge_mtl.documents import parse_json
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.tasks import TaskSpec
from mtl.bundle_frames import spread
from mtl.datasets.augment import SeenFrame, apply_view, draw_view, jitter, whole_view
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Frame, FrameSource
from mtl.models import MultiTaskModel
from mtl.tasks import head_of

__all__ = ["FeaturePlan", "KeptViews", "keep_features"]

Array = np.ndarray

_STATE = "state.json"
_EVERY = 16
"""Frames after which the folder says how far it is."""
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """What is kept.

    Attributes:
        spec: the task that the views have truths of.
        reads: stages of the backbone.
        size: (H, W) of the network's input.
        views: of every frame, the whole one first.
        augment: how the others are drawn.
        seed: of the draws.
        most_bytes: of the folder.
        source: what network and frames are, so that features of others are not taken for these.
    """

    spec: TaskSpec
    reads: tuple[int, ...]
    size: tuple[int, int]
    views: int
    augment: AugmentSettings
    seed: int
    most_bytes: int
    source: str

    def key(self, frames: int) -> str:
        """Of what a folder holds, with the number of its frames."""
        said = [repr((self.spec, self.reads, self.size, self.views, self.augment, self.seed)), self.source, frames]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class KeptViews:
    """Features and targets of N views.

    Attributes:
        maps: by stage that is read, (N, C, h, w) float16.
        targets: (N, ...), as the head's `collate` gives them.
    """

    maps: Sequence[Array]
    targets: Array

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, chosen: Array) -> tuple[list[Tensor], Tensor]:
        """Some of them: float32 maps, finest first, and their target."""
        rows = np.sort(chosen)  # in the order in which they lie
        return [torch.from_numpy(one[rows].astype(np.float32)) for one in self.maps], torch.from_numpy(self.targets[rows])


def keep_features(
    folder: Path, model: MultiTaskModel, frames: FrameSource, plan: FeaturePlan, *, console: Console
) -> KeptViews:
    """Fill `folder`, or take what it holds already.

    Args:
        model: in evaluation mode; all of its backbone is shared.
    Raises:
        BuildError: no frame has a truth of the task, the room is too small for one frame, or the folder cannot be written.
    """
    first = next((index for index in range(len(frames)) if plan.spec.name in frames[index].truths), None)
    if first is None:
        raise BuildError(f"no training frame has a truth of {plan.spec.name}: label some, or choose another --data.kind")
    seen = _views(frames, first, plan)
    maps, targets = _features(model, seen, plan), _target(seen, plan)
    each = sum(one.nbytes for one in maps) + targets.nbytes
    count = min(len(frames), plan.most_bytes // each)
    if count < 1:
        most = f"{plan.most_bytes / 1e6:.1f} MB may be kept: raise --keep-gb"
        raise BuildError(f"features of one frame are {each / 1e6:.1f} MB, and {most}")
    try:
        return _filled(folder, model, frames, plan, spread(count, len(frames)), (maps, targets), console)
    except OSError as exc:
        raise BuildError(f"{folder} cannot be written ({exc.strerror or exc}). Choose another folder: --cache DIR") from exc


def _filled(
    folder: Path,
    model: MultiTaskModel,
    frames: FrameSource,
    plan: FeaturePlan,
    chosen: Sequence[int],
    example: tuple[Sequence[Array], Array],
    console: Console,
) -> KeptViews:
    folder.mkdir(parents=True, exist_ok=True)
    key, total = plan.key(len(chosen)), len(chosen)
    names = [*(f"stage-{stage}" for stage in plan.reads), "targets", "known", "images"]
    paths = [folder / f"{name}.npy" for name in names]
    done = _done(folder / _STATE, key) if all(path.exists() for path in paths) else 0
    shapes = [(one.shape, one.dtype) for one in (*example[0], example[1])]
    shapes += [((plan.views,), np.dtype(bool)), ((1,), np.dtype(np.uint64))]
    *maps, targets, known, images = (
        np.load(path, mmap_mode="r+")
        if done
        else open_memmap(path, mode="w+", dtype=kind, shape=(shape[0] * total, *shape[1:]))
        for path, (shape, kind) in zip(paths, shapes, strict=True)
    )
    reused = 0
    for number in track(range(total), description="features", console=console, transient=True):
        place = slice(number * plan.views, (number + 1) * plan.views)
        seen = _views(frames, chosen[number], plan)
        known[place] = bool(seen)
        if seen:
            targets[place] = _target(seen, plan)
            image = _digest(seen)
            if number < done and images[number] == image:
                reused += 1
            else:
                for array, values in zip(maps, _features(model, seen, plan), strict=True):
                    array[place] = values
                images[number] = image
        if (number + 1) % _EVERY == 0 or number + 1 == total:
            for array in (*maps, targets, known, images):
                array.flush()
            write_atomic(folder / _STATE, json.dumps({"key": key, "done": max(done, number + 1)}).encode())
    if reused:
        console.print(f"features of {reused} frames were in {folder} already", highlight=False)
    places = np.flatnonzero(known)
    if len(places) < len(known):
        return KeptViews([array[places] for array in maps], np.asarray(targets[places]))
    return KeptViews(maps, np.asarray(targets))


def _done(path: Path, key: str) -> int:
    """How many frames a folder holds of what `key` stands for."""
    try:
        state: Any = parse_json(path.read_bytes())
        return int(state["done"]) if state["key"] == key else 0
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0


@torch.inference_mode()
def _features(model: MultiTaskModel, seen: Sequence[SeenFrame], plan: FeaturePlan) -> list[Array]:
    """Of the views of one frame, (views, C, h, w) float16 by stage."""
    images = torch.from_numpy(np.stack([one.image for one in seen])).permute(0, 3, 1, 2).float()
    stages = model.backbone(model.normalise(images))
    return [stages[level].clamp(-_LARGEST, _LARGEST).half().numpy() for level in plan.reads]


def _target(seen: Sequence[SeenFrame], plan: FeaturePlan) -> Array:
    """Of the views of one frame."""
    return np.asarray(head_of(plan.spec).collate(plan.spec, [one.truths[plan.spec.name] for one in seen]).numpy())


def _digest(seen: Sequence[SeenFrame]) -> np.uint64:
    digest = hashlib.blake2b(digest_size=8)
    for one in seen:
        digest.update(one.image.tobytes())
    return np.frombuffer(digest.digest(), np.uint64)[0]


def _views(frames: FrameSource, index: int, plan: FeaturePlan) -> list[SeenFrame]:
    """The views of a frame; none where nothing is known of the task."""
    frame = frames[index]
    return list(_drawn(frame, index, plan)) if plan.spec.name in frame.truths else []


def _drawn(frame: Frame, index: int, plan: FeaturePlan) -> Iterator[SeenFrame]:
    aspect = plan.size[1] / plan.size[0]
    for number in range(plan.views):
        rng = np.random.default_rng([plan.seed, 2, index, number])
        view = draw_view(frame.size, rng, plan.augment, aspect=aspect) if number else whole_view(frame.size, aspect=aspect)
        seen = apply_view(frame, view, {plan.spec.name: plan.spec}, size=plan.size)
        yield SeenFrame(jitter(seen.image, rng, plan.augment), seen.truths, seen.intrinsics) if number else seen
