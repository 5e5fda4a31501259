"""Weights as safetensors and the resumable state of a run, written atomically and read without running any code.

A checkpoint file from elsewhere is data: weights are safetensors, and a state is loaded with `weights_only=True`, which
refuses every pickle that would do more than rebuild tensors and plain containers.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from edge_mtl.bundle import WEIGHTS, Bundle
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic

__all__ = ["CheckpointError", "load_state", "load_weights", "save_state", "save_weights", "start_from"]

STATE_VERSION = 1


class CheckpointError(EdgeMtlError):
    """A checkpoint is missing, corrupt, unsafe, or of another run."""

    exit_code = 12


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write weights with JSON metadata (the configuration and what was measured)."""
    tensors = {name: value.detach().contiguous().clone() for name, value in weights.items()}
    try:
        write_atomic(path, save_tensors(tensors, metadata={"edge_mtl": json.dumps(metadata, sort_keys=True)}))
    except OSError as exc:
        raise CheckpointError(f"{path} could not be written ({exc}); what was there before is intact") from exc


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata of a checkpoint, or of a bundle, given as its folder.

    Raises:
        CheckpointError: missing, no safetensors, or not written by this package.
        BundleError: a folder that is not a bundle, or one without weights.
    """
    payload = Bundle.open(path).read(WEIGHTS) if path.is_dir() else _read(path)
    try:
        weights = load_tensors(payload)
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        metadata = json.loads(header["__metadata__"]["edge_mtl"])
    except (SafetensorError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(
            f"{path} is not a checkpoint of this package ({_first_line(exc)}). Give runs/<name>/best.safetensors"
        ) from exc
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path} holds no description of its model. Give runs/<name>/best.safetensors")
    return weights, metadata


def start_from(model: nn.Module, path: Path, *, part: str = "", meaning: Mapping[str, str] | None = None) -> None:
    """Copy a checkpoint's weights into `model`, to train on from there.

    Args:
        path: the checkpoint, or the folder of a bundle.
        part: name of a module: only its weights are copied, the rest of both networks may differ; empty for all.
        meaning: settings of the model that no shape shows but that the weights were learnt with: the input's
            normalisation, what an output says. Where the checkpoint tells them they have to be these.
    Raises:
        CheckpointError, BundleError: as `load_weights`.
        CheckpointError: weights of another network; the message names the first that differs.
    """
    start = f"{part}." if part else ""
    loaded, metadata = load_weights(path)
    _check_meaning(path, metadata, meaning or {})
    weights = {name: value for name, value in loaded.items() if name.startswith(start)}
    own = {name: tuple(value.shape) for name, value in model.state_dict().items() if name.startswith(start)}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if not own:
        raise CheckpointError(f"this network has no part {part!r} that {path} could be copied into")
    for name in [*own, *(name for name in found if name not in own)]:
        if own.get(name) != found.get(name):
            raise CheckpointError(
                f"{path} is of another network: {name} should be {_shape(own.get(name))}, found {_shape(found.get(name))}. "
                "Train with the [model] settings in its run's config.json, or without model.init"
            )
    model.load_state_dict(weights, strict=not part)


def _check_meaning(path: Path, metadata: Mapping[str, Any], meaning: Mapping[str, str]) -> None:
    config = metadata.get("config")
    described = config.get("model") if isinstance(config, Mapping) else None
    for name, wanted in meaning.items():
        found = described.get(name, wanted) if isinstance(described, Mapping) else wanted
        if found != wanted:
            raise CheckpointError(
                f"{path} was trained with model.{name} {found!r}, and this run has {wanted!r}. Give --model.{name} {found}"
            )


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a resumable state: tensors, numbers, text and containers of them."""
    buffer = io.BytesIO()
    torch.save({"version": STATE_VERSION, **state}, buffer)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as exc:
        raise CheckpointError(f"{path} could not be written ({exc}); the checkpoint before it is intact") from exc


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote. Raises CheckpointError: missing, corrupt, or a pickle that asks for more than data."""
    payload = _read(path)
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise CheckpointError(f"{path} is refused, it is not plain data ({_first_line(exc)}). Train again") from exc
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, TypeError) as exc:
        raise CheckpointError(f"{path} is corrupt ({_first_line(exc)}). Train again without --resume") from exc
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise CheckpointError(f"{path} is not a training state of version {STATE_VERSION}. Train again without --resume")
    return state


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be read ({exc.strerror}). Checkpoints are in runs/<name>/") from exc


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:120] if lines else type(exc).__name__
