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
from torch import Tensor

from edge_mtl.bundle import WEIGHTS, Bundle
from edge_mtl.documents import parse_json
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.remedies import told
from edge_mtl.tasks import describe_tasks

__all__ = ["CheckpointError", "load_state", "load_statistics", "load_weights", "save_state", "save_weights"]

STATE_VERSION = 1

_STATISTICS = "statistics."
"""Names of tensors that are no weights of the model: statistics.SOURCE.NAME, see `mtl.source_statistics`."""


class CheckpointError(EdgeMtlError):
    """A checkpoint is missing, corrupt, unsafe, or of another run."""

    exit_code = 12


def save_weights(
    path: Path,
    weights: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    *,
    statistics: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write weights with JSON metadata (the configuration and what was measured).

    Args:
        statistics: of batch norms by source, for `load_statistics`.
    """
    apart = {
        f"{_STATISTICS}{one}.{name}": value for one, values in (statistics or {}).items() for name, value in values.items()
    }
    weights = {**weights, **apart}
    tensors = {name: value.detach().contiguous().clone() for name, value in weights.items()}
    try:
        write_atomic(path, save_tensors(tensors, metadata={"edge_mtl": json.dumps(metadata, sort_keys=True)}))
    except OSError as exc:
        raise CheckpointError(f"{path} could not be written {told(exc)} What was there before is intact") from exc


def load_statistics(path: Path) -> dict[str, dict[str, Tensor]]:
    """The statistics of batch norms by source that a checkpoint of a mixture has besides its weights; empty for any other.

    Raises:
        CheckpointError: missing, or no safetensors.
    """
    try:
        tensors = load_tensors(_read(path))
    except (SafetensorError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path} is not a checkpoint of this package ({_first_line(exc)})") from exc
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(_STATISTICS):
            source, _, inner = name.removeprefix(_STATISTICS).partition(".")
            found.setdefault(source, {})[inner] = value
    return found


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata of a checkpoint, or of a bundle, given as its folder.

    A bundle before 0.2 holds its weights in a graph alone: there they are read back, see `mtl.graph_weights`.

    Raises:
        CheckpointError: missing, no safetensors, or not written by this package.
        BundleError: a folder that is not a bundle, or one whose weights cannot be read back.
    """
    bundle = Bundle.open(path) if path.is_dir() else None
    if bundle is not None and not bundle.has(WEIGHTS):
        from mtl.graph_weights import read_back  # with onnx and a runtime: whatever has its weights does without

        return read_back(bundle)
    payload = _read(path) if bundle is None else bundle.read(WEIGHTS)
    try:
        weights = {name: value for name, value in load_tensors(payload).items() if not name.startswith(_STATISTICS)}
        header = parse_json(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        metadata = parse_json(header["__metadata__"]["edge_mtl"])
    except (SafetensorError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(
            f"{path} is not a checkpoint of this package ({_first_line(exc)}). Give runs/<name>/best.safetensors, or take over "
            "one of others: python train/import_checkpoint.py FILE --out runs/NAME"
        ) from exc
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path} holds no description of its model. Give runs/<name>/best.safetensors")
    return weights, metadata if bundle is None else {**metadata, "tasks": describe_tasks(bundle.manifest.tasks)}


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a resumable state: tensors, numbers, text and containers of them."""
    buffer = io.BytesIO()
    torch.save({"version": STATE_VERSION, **state}, buffer)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as exc:
        raise CheckpointError(f"{path} could not be written {told(exc)} The checkpoint before it is intact") from exc


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote. Raises CheckpointError: missing, corrupt, or a pickle that asks for more than data."""
    payload = _read(path)
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise CheckpointError(f"{path} is refused, it is not plain data ({_first_line(exc)}). Train again") from exc
    except Exception as exc:  # damaged archives raise many kinds
        raise CheckpointError(f"{path} is corrupt ({_first_line(exc)}). Train again without --resume") from exc
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise CheckpointError(f"{path} is not a training state of version {STATE_VERSION}. Train again without --resume")
    return state


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be read {told(exc)} Checkpoints are in runs/<name>/") from exc


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:120] if lines else type(exc).__name__
