"""A network that starts from the weights of another: of a checkpoint, or of a bundle.

What fits is taken: the shared layers as a whole or not at all, and of every task what was learnt for the same answer. A head
for other classes, or for a task that the other network did not have, starts from random weights and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.bundle import CALIBRATION, Bundle
from edge_mtl.image.frames import letterbox_image
from edge_mtl.sources.images import IMAGE_SUFFIXES, decode_image
from edge_mtl.tasks import NYU_TASKS, Specs, read_tasks
from mtl.bundle_frames import network_image, spread
from mtl.checkpoint import CheckpointError, load_weights
from mtl.datasets.frame import FrameSource
from mtl.folded_norms import folded_norms, restore_statistics
from mtl.models import MultiTaskModel
from mtl.tasks import head_of

__all__ = ["restore_pretrained_norms", "start_from"]

_OF_A_TASK = re.compile(r"(?:decoder\.(?:enter|branches|heads|parts)|heads)\.([a-z][a-z0-9_]*)\.")
_DECODER = "decoder."
_EXCHANGE = "decoder.exchange."
_OF_A_BACKBONE = re.compile(r"(?:^|\.)backbone\.")
_FRAMES = 12
"""Of a bundle's calibration frames, to take the statistics of batch norms from: a hundred pixels each even at stride 32."""
_TRAINING_FRAMES = 32
"""Of training frames, for the same."""


def start_from(
    model: MultiTaskModel, path: Path, *, part: str = "", meaning: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Copy a checkpoint's weights into `model`, to train on from there.

    Args:
        path: the checkpoint, or the folder of a bundle.
        part: name of a module: only its weights are copied, the rest of both networks may differ; empty for all.
        meaning: settings of the model that no shape shows but that the weights were learnt with: the input's
            normalisation, what an output says. Where the checkpoint tells them they have to be these.
    Returns:
        By task, what of it was not taken and why; empty where the whole network was. With `part` only what is asked for is
        looked at.
    Raises:
        CheckpointError, BundleError: as `load_weights`.
        CheckpointError: shared weights of another network; the message names the first that differs.
    """
    loaded, metadata = load_weights(path)
    _check_meaning(path, metadata, meaning or {})
    own = model.state_dict()
    remarks: dict[str, str] = {}
    left: set[str] = set()
    if not part:
        remarks, left = _without_match(model, path, metadata, [*own, *loaded])
        mapped = [any(name.startswith(_DECODER) for name in names) for names in (own, loaded)]
        if mapped[0] != mapped[1]:  # only one of both has tasks of maps, which share a decoder
            left |= {name for name in [*own, *loaded] if name.startswith(_DECODER)}
    start = f"{part}." if part else ""
    weights = {name: value for name, value in loaded.items() if name.startswith(start) and name not in left}
    wanted = {name: tuple(value.shape) for name, value in own.items() if name.startswith(start) and name not in left}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if not wanted:
        raise CheckpointError(f"this network has no part {part!r} that {path} could be copied into")
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if wanted.get(name) != found.get(name):
            raise CheckpointError(
                f"{path} is of another network: {name} should be {_shape(wanted.get(name))}, found {_shape(found.get(name))}. "
                "Train with the [model] settings in its run's config.json, or without model.init"
            )
    model.load_state_dict(weights, strict=False)
    if path.is_dir():
        _restore_norms(model, path, taken=weights)
    return remarks


def restore_pretrained_norms(model: MultiTaskModel, frames: Callable[[], FrameSource], size: tuple[int, int]) -> int:
    """Give the batch norms of a pretrained backbone that its file has without statistics those of training frames.

    Args:
        frames: opens the training frames; called only where there are such norms.
        size: (H, W) of the network's input.
    Returns:
        How many norms there were; their answers in evaluation are as before, but for rounding.
    """
    names = [name for name in folded_norms(model) if _OF_A_BACKBONE.search(name)]
    if names:
        opened = frames()
        chosen = spread(_TRAINING_FRAMES, len(opened))
        _restore(model, names, (network_image(opened, index, size) for index in chosen))
    return len(names)


def _without_match(
    model: MultiTaskModel, path: Path, metadata: Mapping[str, Any], names: list[str]
) -> tuple[dict[str, str], set[str]]:
    """What of each task cannot be taken and why, and the names of its weights in either network."""
    before = _tasks_of(path, metadata)
    remarks: dict[str, str] = {}
    whole, last = set(), set()
    for task, spec in model.specs.items():
        if task not in before:
            remarks[task] = f"starts with a fresh head: there is no such task, but {', '.join(before)}"
            whole.add(task)
        elif before[task].kind != spec.kind:
            remarks[task] = f"starts with a fresh head: it is of the kind {spec.kind} here, {before[task].kind} there"
            whole.add(task)
        elif (difference := head_of(spec).difference(spec, before[task])) is not None:
            remarks[task] = f"starts with a fresh last layer: {difference}"
            last.add(task)
    for task in before:
        if task not in model.specs:
            remarks[task] = "is left out: this run does not train it"
            whole.add(task)
    left = {name for name in names if (match := _OF_A_TASK.match(name)) is not None and match[1] in whole}
    if any(name.startswith(_DECODER) for name in left):  # what maps take from one another is of all of them together
        left |= {name for name in names if name.startswith(_EXCHANGE)}
    layers = {id(layer) for task, every in model.last_layers().items() if task in last for layer in every}
    for name, module in model.named_modules():
        if id(module) in layers:
            left |= {f"{name}.{parameter}" for parameter, _ in module.named_parameters()}
    return remarks, left


def _tasks_of(path: Path, metadata: Mapping[str, Any]) -> Specs:
    """The tasks that the weights are of; those before kinds existed were some of the study's three."""
    try:
        if "tasks" in metadata:
            return read_tasks(metadata["tasks"])
        config = metadata.get("config", {})
        named = config.get("model", {}).get("tasks", tuple(NYU_TASKS))
        return {task: NYU_TASKS[task] for task in named}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{path} does not describe its tasks ({exc}). Give runs/<name>/best.safetensors") from exc


def _restore_norms(model: MultiTaskModel, path: Path, *, taken: Mapping[str, Any]) -> None:
    """Give the batch norms that a bundle has without statistics those of its calibration frames."""
    names = [name for name in folded_norms(model) if f"{name}.running_mean" in taken]
    if not names:
        return
    bundle = Bundle.open(path)
    every = bundle.list(CALIBRATION, suffixes=IMAGE_SUFFIXES)
    images = (decode_image(bundle.read(every[index])) for index in spread(_FRAMES, len(every)))
    frames = (letterbox_image(image, bundle.manifest.input) for image in images if image is not None)
    _restore(model, names, frames)


def _restore(model: MultiTaskModel, names: Iterable[str], images: Iterable[np.ndarray]) -> None:
    was_training = model.training
    model.eval()
    try:
        restore_statistics(model, names, images)
    finally:
        model.train(was_training)


def _check_meaning(path: Path, metadata: Mapping[str, Any], meaning: Mapping[str, str]) -> None:
    config = metadata.get("config")
    described = config.get("model") if isinstance(config, Mapping) else None
    for name, wanted in meaning.items():
        found = described.get(name, wanted) if isinstance(described, Mapping) else wanted
        if found != wanted:
            raise CheckpointError(
                f"{path} was trained with model.{name} {found!r}, and this run has {wanted!r}. Give --model.{name} {found}"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"
