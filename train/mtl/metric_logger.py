"""What a run writes down: metrics.jsonl, one JSON object a line, and the same curves for TensorBoard if asked for.

Knows records and files; knows nothing about training. Only the first process of a run has a journal that writes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_mtl.documents import parse_json
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["METRICS", "MetricLogError", "MetricLogger"]

METRICS = "metrics.jsonl"
_CURVES = "tensorboard"
_OF_THE_END = ("test", "done")


class MetricLogError(EdgeMtlError):
    """What a run did cannot be written down."""

    exit_code = 13


class MetricLogger:
    """The records of the run in `folder`; NaN becomes null.

    Args:
        folder: of the run; None writes nothing.
        step: that training begins with. Records of later steps, of the end, and a line that was cut short are removed:
            a resumed run writes them again.
        tensorboard: whether to write event files into `folder`/tensorboard as well.
    Raises:
        MetricLogError: the folder cannot be written, or TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None, *, step: int = 0, tensorboard: bool = False) -> None:
        self._path = folder / METRICS if folder is not None else None
        self._curves: SummaryWriter | None = None
        if self._path is not None:
            self._forget(self._path, step)
        if folder is not None and tensorboard:
            self._curves = _writer(folder / _CURVES, step)

    def write(self, kind: str, *, step: int, **values: Any) -> None:  # the keys of a record are its content
        """Append a record of a kind; its numbers become curves kind/key."""
        if self._path is None:
            return
        record = {"kind": kind, "time": round(time.time(), 1), "step": step, **values}
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(_plain(record)) + "\n")
        except OSError as exc:
            raise MetricLogError(
                f"{self._path} could not be written ({exc.strerror}). Make room, then continue --resume"
            ) from exc
        self.curve(kind, values, step=step)

    def curve(self, group: str, values: Mapping[str, Any], *, step: int) -> None:
        """Points of TensorBoard curves group/key, without a record."""
        if self._curves is not None:
            for key, value in values.items():
                if isinstance(value, Mapping):
                    self.curve(f"{group}/{key}", value, step=step)
                elif isinstance(value, (int, float)) and not isinstance(value, bool):
                    self._curves.add_scalar(f"{group}/{key}", value, step)

    def close(self) -> None:
        """Finish the event files."""
        if self._curves is not None:
            self._curves.close()

    @staticmethod
    def _forget(path: Path, step: int) -> None:
        try:
            lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
            kept = [line for line in lines if step > 0 and _stays(line, step)]
            if len(kept) < len(lines):
                write_atomic(path, b"".join(kept))
        except OSError as exc:
            raise MetricLogError(f"{path} cannot be written ({exc.strerror}). Choose another --folder") from exc


def _stays(line: bytes, step: int) -> bool:
    try:
        record = parse_json(line)
        return line.endswith(b"\n") and int(record["step"]) <= step and record["kind"] not in _OF_THE_END
    except (ValueError, KeyError, TypeError, OverflowError):
        return False


def _writer(folder: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter  # optional
    except ImportError as exc:
        raise MetricLogError("loop.tensorboard needs TensorBoard: pip install tensorboard, or leave the setting out") from exc
    try:
        return SummaryWriter(str(folder), purge_step=step)
    except OSError as exc:
        raise MetricLogError(f"{folder} cannot be written ({exc.strerror}). Choose another --folder") from exc


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
