"""Ranges of activations, measured by running the float graph on calibration frames. Knows nothing about Q/DQ nodes.

One pass over the frames, with nothing but one frame's tensors in memory: histograms grow with what they meet; a method
then cuts the tails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from edge_mtl.build.graphs import import_onnx
from edge_mtl.errors import BackendUnavailable, BuildError, CalibrationError
from edge_mtl.recipes import Activations

__all__ = ["Range", "collect_ranges"]

Array = np.ndarray
Progress = Callable[[str, int, int], None]

_LEVELS = 256
_CUTS = np.linspace(1.0, 0.3, 36)
"""Candidate ranges of the searching methods, as shares of the full range."""

_SMALLEST_REACH = 2.0**-60


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value that a tensor is to represent; 0 lies between them."""

    low: float
    high: float


def collect_ranges(
    model: Any,
    tensors: Sequence[str],
    frames: Sequence[Array],
    *,
    settings: Activations,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Range]:
    """Run `model` on `frames` and choose a range for each of `tensors`.

    Args:
        model: ONNX ModelProto whose only input takes float32 (1, 3, H, W) planes of 0..255.
        frames: (H, W, 3) uint8 RGB of the model's size.
        threads: of ONNX Runtime; its default when None.
        progress: called with ("calibrate", frames done, frames in all).
    Raises:
        CalibrationError: no frames, or a tensor that never changes or is not finite.
        BackendUnavailable: ONNX Runtime is missing.
        BuildError: the graph does not run.
    """
    if not frames:
        raise CalibrationError("There are no calibration frames. Give a folder of pictures: --calibration DIR")
    session = _session(model, tensors, threads)
    feed = session.get_inputs()[0].name
    histograms = [_Histogram(settings.bins) for _ in tensors]
    for number, frame in enumerate(frames):
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)
        try:
            values = session.run(list(tensors), {feed: planes})
        except Exception as exc:
            raise BuildError(f"The deploy graph does not run on calibration frame {number}: {_first_line(exc)}") from exc
        for name, histogram, value in zip(tensors, histograms, values, strict=True):
            if not histogram.add(value):
                raise CalibrationError(f"Activation {name} is not finite on calibration frame {number}: the model is broken.")
        if progress is not None:
            progress("calibrate", number + 1, len(frames))
    return {name: _range(name, histogram, settings) for name, histogram in zip(tensors, histograms, strict=True)}


class _Histogram:
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


def _range(name: str, histogram: _Histogram, settings: Activations) -> Range:
    if histogram.low == histogram.high:
        raise CalibrationError(
            f"Activation {name} is {histogram.low:g} everywhere on all calibration frames: a range cannot be learnt. "
            "Give more and different pictures: --calibration DIR"
        )
    low, high = _METHODS[settings.method](*histogram.occupied(), settings)
    return Range(min(float(low), 0.0), max(float(high), 0.0))


def _session(model: Any, tensors: Sequence[str], threads: int | None) -> Any:
    onnx = import_onnx()
    try:
        runtime = import_module("onnxruntime")
    except ImportError as exc:
        raise BackendUnavailable('Calibrating needs ONNX Runtime. Install it with: pip install "edge-mtl[cpu]"') from exc
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
    try:
        return runtime.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise BuildError(f"ONNX Runtime cannot open the deploy graph: {_first_line(exc)}. Export the bundle again.") from exc


def _extremes(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    return edges[0], edges[-1]


def _percentile(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    """Cut the same share of values from both tails together."""
    cumulative = np.cumsum(counts) / counts.sum()
    share = 1.0 - settings.percentile / 100.0
    first = int(np.searchsorted(cumulative, share / 2, side="right"))
    last = int(np.searchsorted(cumulative, 1.0 - share / 2, side="left"))
    return edges[min(first, len(counts) - 1)], edges[min(last, len(counts) - 1) + 1]


def _mean_squared_error(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    """The range with the least expected squared error: rounding inside, clipping outside; each end searched in turn."""
    centres = (edges[:-1] + edges[1:]) / 2

    def error(low: float, high: float) -> float:
        clipped = np.clip(centres, low, high) - centres
        step = (high - low) / (_LEVELS - 1)
        inside = (centres >= low) & (centres <= high)
        return float((counts * (clipped**2 + inside * step**2 / 12)).sum())

    low, high = min(edges[0], 0.0), max(edges[-1], 0.0)
    for _ in range(2):
        high = min((high * cut for cut in _CUTS), key=lambda end: error(low, end)) if high > 0 else high
        low = min((low * cut for cut in _CUTS), key=lambda end: error(end, high)) if low < 0 else low
    return low, high


def _entropy(counts: Array, edges: Array, settings: Activations) -> tuple[float, float]:
    """The range whose 256 levels keep the most information (Kullback-Leibler), as in Migacz, GTC 2017."""
    low, high = edges[0], edges[-1]
    best, chosen = np.inf, (low, high)
    for cut in _CUTS:
        inside = (edges[:-1] >= low * cut - 1e-12) & (edges[1:] <= high * cut + 1e-12)
        if low >= 0:
            inside = edges[1:] <= high * cut + 1e-12
        first, last = int(inside.argmax()), len(inside) - int(inside[::-1].argmax())
        reference = counts[first:last].copy()
        if len(reference) < _LEVELS or not reference.any():
            continue
        reference[0] += counts[:first].sum()
        reference[-1] += counts[last:].sum()
        level = np.arange(len(reference)) * _LEVELS // len(reference)
        filled = counts[first:last] > 0
        mass = np.bincount(level, counts[first:last], _LEVELS)
        width = np.maximum(np.bincount(level, filled, _LEVELS), 1)
        model = np.where(filled, (mass / width)[level], 0.0)
        divergence = _divergence(reference, model)
        if divergence < best:
            best, chosen = divergence, (edges[first], edges[last])
    return chosen


def _divergence(reference: Array, model: Array) -> float:
    """Kullback-Leibler divergence of two histograms, both smoothed a little so that empty bins stay finite."""
    p, q = reference + 1e-9 * reference.sum(), model + 1e-9 * reference.sum()
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


_METHODS: Mapping[str, Callable[[Array, Array, Activations], tuple[float, float]]] = {
    "minmax": _extremes,
    "percentile": _percentile,
    "mse": _mean_squared_error,
    "entropy": _entropy,
}
