"""What activations look like on calibration frames: histograms, and means and reach by channel, from one pass.

Knows how to run a float graph frame by frame with nothing but one frame's tensors in memory; histograms grow with what
they meet. Every range method, bias correction and equalization read what is gathered here; nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edge_mtl.backends.int8_saturation import keep_exact
from edge_mtl.backends.reference import import_reference
from edge_mtl.errors import BuildError, CalibrationError
from edge_mtl.onnx_graph.model import import_onnx

__all__ = ["Histogram", "Observed", "TensorStatistics", "observe", "open_session"]

Array = np.ndarray

_SMALLEST_REACH = 2.0**-60


class Histogram:
    """Counts over [-reach, reach), where `reach` is a power of two: doubling it merges pairs of bins, and nothing is lost."""

    def __init__(self, bins: int) -> None:
        self.low, self.high = float("inf"), float("-inf")
        self._counts = np.zeros(2 * (bins // 2) * 2)
        self._reach = 0.0

    def add(self, value: Array) -> bool:
        """Count every element; False if one is not finite."""
        low, high = float(value.min()), float(value.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(abs(low), abs(high), _SMALLEST_REACH))
        flat = np.ascontiguousarray(value, np.float32).reshape(1, -1)
        counts = cv2.calcHist([flat], [0], None, [len(self._counts)], [-self._reach, self._reach])
        self._counts += counts.ravel()
        return True

    def occupied(self) -> tuple[Array, Array]:
        """(counts, edges) of the bins from the first to the last that is not empty; the ends are the extremes met."""
        edges = np.linspace(-self._reach, self._reach, len(self._counts) + 1)
        filled = np.flatnonzero(self._counts)
        first, last = int(filled[0]), int(filled[-1])
        edges = edges[first : last + 2].copy()
        edges[0], edges[-1] = self.low, self.high
        return self._counts[first : last + 1], edges

    @property
    def reach(self) -> float:
        """Half the width of the bins together; 0 before the first value."""
        return self._reach

    @property
    def counts(self) -> Array:
        """(2 bins,) float64, whole numbers: how many values fell into each bin of [-reach, reach)."""
        return self._counts

    @classmethod
    def restored(cls, counts: Array, *, reach: float, low: float, high: float) -> Histogram:
        """The histogram that has these counts, see the properties, and extremes."""
        made = cls(2)
        made.low, made.high = low, high
        made._counts, made._reach = counts.astype(np.float64), reach
        return made

    def _grow(self, largest: float) -> None:
        if largest < self._reach:
            return
        reach = 2.0 ** (np.floor(np.log2(largest)) + 1)
        while self._reach and self._reach < reach:
            pairs = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts[:] = 0
            quarter = len(pairs) // 2
            self._counts[quarter : quarter + len(pairs)] = pairs
            self._reach *= 2
        self._reach = float(reach)


class TensorStatistics:
    """What was met of one tensor.

    Attributes:
        histogram: over all its values.
        reach: (C,) float64, largest magnitude by channel; None for a tensor without a channel axis.
    """

    def __init__(self, *, bins: int, axis: int | None) -> None:
        self.histogram = Histogram(bins)
        self.reach: Array | None = None
        self._axis = axis
        self._sums: Array | None = None
        self._count = 0

    @property
    def means(self) -> Array | None:
        """(C,) float64, mean by channel."""
        return None if self._sums is None else self._sums / self._count

    @property
    def sums(self) -> tuple[Array | None, int]:
        """(C,) float64, sum by channel, and how many values of each channel were added up."""
        return self._sums, self._count

    @classmethod
    def restored(cls, histogram: Histogram, *, reach: Array | None, sums: Array | None, count: int) -> TensorStatistics:
        """The statistics that have these figures; nothing can be added to them."""
        made = cls(bins=2, axis=None)
        made.histogram, made.reach, made._sums, made._count = histogram, reach, sums, count
        return made

    def add(self, value: Array) -> bool:
        """Count every element; False if one is not finite."""
        if not self.histogram.add(value):
            return False
        if self._axis is not None:
            axis = self._axis % value.ndim
            others = tuple(side for side in range(value.ndim) if side != axis)
            sums = value.sum(axis=others, dtype=np.float64)
            reach = np.abs(value).max(axis=others).astype(np.float64)
            self._sums = sums if self._sums is None else self._sums + sums
            self.reach = reach if self.reach is None else np.maximum(self.reach, reach)
            self._count += value.size // value.shape[axis]
        return True


@dataclass(frozen=True, slots=True)
class Observed:
    """What one pass over the calibration frames told.

    Attributes:
        scales: by tensor, (C,) float32, of equalization; empty without it. The statistics are of the scaled graph.
        statistics: by tensor.
    """

    scales: Mapping[str, Array]
    statistics: Mapping[str, TensorStatistics]


def observe(
    model: Any,
    tensors: Mapping[str, int | None],
    frames: Sequence[Array],
    *,
    bins: int,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, TensorStatistics]:
    """Run `model` on `frames` and gather what its tensors look like.

    Args:
        model: ONNX ModelProto whose only input takes float32 (1, 3, H, W) planes of 0..255 or uint8 (1, H, W, 3).
        tensors: names, each with its channel axis or None.
        frames: (H, W, 3) uint8 RGB of the model's size.
        bins: of the histograms.
        threads: of ONNX Runtime; its default when None.
        progress: called with the number of frames done.
    Raises:
        CalibrationError: no frames, or a tensor that is not finite.
        BackendUnavailable: ONNX Runtime is missing.
        BuildError: the graph does not run.
    """
    if not frames:
        raise CalibrationError("There are no calibration frames. Give images; to build-engine with --calibration DIR.")
    session = open_session(model, list(tensors), threads, why="Calibrating")
    feed = session.get_inputs()[0]
    found = {name: TensorStatistics(bins=bins, axis=axis) for name, axis in tensors.items()}
    for number, frame in enumerate(frames):
        image = frame[None] if feed.type == "tensor(uint8)" else frame.transpose(2, 0, 1)[None].astype(np.float32)
        try:
            values = session.run(list(tensors), {feed.name: np.ascontiguousarray(image)})
        except Exception as exc:
            raise BuildError(f"The float graph does not run on calibration frame {number}: {_first_line(exc)}") from exc
        for (name, statistics), value in zip(found.items(), values, strict=True):
            if not statistics.add(value):
                raise CalibrationError(f"Activation {name} is not finite on calibration frame {number}: the model is broken.")
        if progress is not None:
            progress(number + 1)
    return found


def open_session(model: Any, tensors: Sequence[str], threads: int | None, *, why: str) -> Any:
    """An ONNX Runtime session of `model` that can be asked for `tensors` too.

    Args:
        why: what it is for, for the message where ONNX Runtime is missing.
    Raises:
        BackendUnavailable: ONNX Runtime is missing.
        BuildError: it cannot open the graph.
    """
    onnx = import_onnx()
    runtime = import_reference(why)
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    present = {value.name for value in observed.graph.output}
    for name in tensors:
        if name not in present:
            observed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    graph = observed.SerializeToString()
    keep_exact(options, graph)
    try:
        return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise BuildError(f"ONNX Runtime cannot open the graph: {_first_line(exc)}. Export the bundle again.") from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
