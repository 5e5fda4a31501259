"""Temporal stability: how much the maps of a stream flicker where the image does not change, and a filter against it.

Knows images and predictions; knows nothing about networks, runtimes or files. No optical flow: a pixel counts as still
where the local mean of the difference between two frames stays within the noise of the sensor, and only still pixels have a
past. Whatever moves is answered by the newest frame alone, so nothing smears; a moving camera switches the filter off by
itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import check_frame
from edge_mtl.prediction import Prediction
from edge_mtl.tasks import VOID, DepthMap, LabelMap, NormalMap, Result

__all__ = ["Look", "Stability", "StabilityMeter", "TemporalFilter", "still_pixels"]

Array = np.ndarray

_REDUCTION = 4
"""Frames are compared at this fraction of their size: the mean over a block has a quarter of the noise."""
_NOISE_FACTOR = 3.0
_LOWEST, _HIGHEST = 2.0, 6.0
"""Grey levels: differences below the first are always noise, above the second never."""
_DEPTH_GATE = 0.15
"""Relative change of depth that is believed at once."""
_NORMAL_GATE = float(np.cos(np.radians(25.0)))
"""Cosine of the change of a normal that is believed at once."""


@dataclass(frozen=True, slots=True)
class Stability:
    """Flicker over still pixels of consecutive frames, lower is better; None for a task without maps or still pixels.

    Attributes:
        label_flicker: share of still pixels whose class changed, 0..1.
        depth_flicker: mean |log z_t - log z_(t-1)|: relative change, 0.01 is one percent.
        normal_flicker_deg: mean angle between a pixel's successive normals, in degrees.
        still_share: share of all pixels that were still.
        pairs: pairs of consecutive frames.
    """

    label_flicker: float | None
    depth_flicker: float | None
    normal_flicker_deg: float | None
    still_share: float
    pairs: int


def still_pixels(previous: Array, frame: Array) -> Array:
    """Where two frames of a stream show the same, up to noise.

    Args:
        previous, frame: (h, w) float32 grey, reduced by `reduced_grey`.
    Returns:
        (h, w) bool; a pixel next to a changed one counts as changed.
    """
    change = cv2.blur(np.abs(frame - previous), (3, 3))
    noise = float(np.median(change))
    limit = min(max(_NOISE_FACTOR * noise, _LOWEST), _HIGHEST)
    moved = cv2.dilate((change > limit).astype(np.uint8), np.ones((3, 3), np.uint8))
    return moved == 0


def reduced_grey(frame: Array) -> Array:
    """(h, w) float32 grey, 0..255, of a (H, W, 3) uint8 or uint16 frame, averaged over blocks; colours in either order."""
    height, width = frame.shape[:2]
    size = (max(1, width // _REDUCTION), max(1, height // _REDUCTION))
    native = np.ascontiguousarray(frame, frame.dtype.newbyteorder("="))
    small = cv2.resize(native, size, interpolation=cv2.INTER_AREA)
    mean: Array = cv2.transform(small, np.full((1, 3), 1.0 / 3.0, np.float32)).astype(np.float32)
    return mean if native.dtype == np.uint8 else mean * np.float32(255 / 65535)


class StabilityMeter:
    """Measures the flicker of a stream of predictions.

    Maps must have one size; a frame of another size starts again.
    """

    def __init__(self) -> None:
        self._grey: Array | None = None
        self._last: Prediction | None = None
        self._labels = _Mean()
        self._depth = _Mean()
        self._normals = _Mean()
        self._still = _Mean()
        self._pairs = 0

    def update(self, frame: Array, prediction: Prediction) -> None:
        """Add the next frame, (H, W, 3) uint8, and what was predicted on it. Raises FrameError where it is not a frame."""
        grey = reduced_grey(check_frame(frame, scaled=False))
        last, before = self._last, self._grey
        self._last, self._grey = prediction, grey
        if last is None or before is None or before.shape != grey.shape or last.map_size != prediction.map_size:
            return
        still = _enlarged(still_pixels(before, grey), prediction.map_size)
        self._pairs += 1
        self._still.add(still.astype(np.float32))
        for name, result in prediction.results.items():
            before_it = last.results.get(name)
            if isinstance(result, LabelMap) and isinstance(before_it, LabelMap):
                known = still & (result.labels != VOID) & (before_it.labels != VOID)
                self._labels.add((result.labels != before_it.labels)[known])
            elif isinstance(result, DepthMap) and isinstance(before_it, DepthMap):
                known = still & (result.depth_m > 0) & (before_it.depth_m > 0)
                self._depth.add(np.abs(np.log(result.depth_m[known]) - np.log(before_it.depth_m[known])))
            elif isinstance(result, NormalMap) and isinstance(before_it, NormalMap):
                angle = angles_between(result.normals[still], before_it.normals[still])
                self._normals.add(angle[np.isfinite(angle)])

    def compute(self) -> Stability:
        """What was measured so far."""
        labels, depth, normals = self._labels.value, self._depth.value, self._normals.value
        return Stability(labels, depth, normals, self._still.value or 0.0, self._pairs)


@dataclass(frozen=True, slots=True)
class Look:
    """What a `TemporalFilter` keeps of a frame.

    Attributes:
        grey: (h, w) float32, reduced.
        frame_size: (height, width) of the frame.
    """

    grey: Array
    frame_size: tuple[int, int]


class TemporalFilter:
    """Smooths maps where the image stands still; call it with every frame of one stream, in order.

    Classes change by a majority vote (Boyer & Moore 1991): a class must outweigh the votes of the one that stands. Depth (its
    logarithm) and normals are exponential means, restarted where the new value differs too much to be noise. Where the
    image moved, the newest answer is taken as it is, and its pixel starts again. A task that a frame was not asked for starts
    again with the next one that was. Results of other kinds pass as they are. One thread at a time.

    Args:
        weight: of the newest frame in the means, in 0..1; 1 filters nothing.
        votes: how many frames a standing class can outlast.
    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, *, weight: float = 0.3, votes: int = 3) -> None:
        if not 0.0 < weight <= 1.0:
            raise ValueError(f"weight should be above 0 and at most 1; found {weight}")
        if not 1 <= votes <= 255:
            raise ValueError(f"votes should be 1 to 255; found {votes}")
        self._weight, self._votes = weight, votes
        self.reset()

    def reset(self) -> None:
        """Forget the past, as at a cut."""
        self._grey: Array | None = None
        self._size: tuple[int, int] | None = None
        self._past: dict[str, _Votes | _DepthMean | _NormalMean] = {}

    def __call__(self, frame: Array, prediction: Prediction) -> Prediction:
        """The prediction with its maps smoothed; confidence, camera and timing are those of the newest frame.

        Args:
            frame: (H, W, 3) uint8 that was predicted; either order of colours, always the same.
        Raises:
            FrameError: it is not a frame, or not the one that was predicted.
        """
        return self.smooth(self.look(frame), prediction)

    @staticmethod
    def look(frame: Array) -> Look:
        """What the filter needs of a frame, so that its array may be written over before the prediction is there.

        Args:
            frame: as for a call.
        Raises:
            FrameError: it is not a frame.
        """
        checked = check_frame(frame, scaled=False)
        return Look(reduced_grey(checked), (checked.shape[0], checked.shape[1]))

    def smooth(self, look: Look, prediction: Prediction) -> Prediction:
        """As a call with the frame that `look` was taken of."""
        if look.frame_size != prediction.frame_size:
            raise FrameError(f"the frame predicted was {prediction.frame_size}; found {look.frame_size}")
        grey, size = look.grey, prediction.map_size
        before, self._grey = self._grey, grey
        if before is None or before.shape != grey.shape or self._size != size:
            self._past = {}
            still = np.zeros(size, bool)
        else:
            still = _enlarged(still_pixels(before, grey), size)
        self._size = size
        self._past = {name: past for name, past in self._past.items() if name in prediction.results}
        return replace(prediction, results={name: self._smooth(result, still) for name, result in prediction.results.items()})

    def _smooth(self, result: Result, still: Array) -> Result:
        name = result.spec.name
        if isinstance(result, LabelMap):
            votes = self._past.setdefault(name, _Votes(self._votes))
            assert isinstance(votes, _Votes)
            return LabelMap(result.spec, votes.add(result.labels, still), result.confidence_maker)
        if isinstance(result, DepthMap):
            depth = self._past.setdefault(name, _DepthMean(self._weight))
            assert isinstance(depth, _DepthMean)
            return DepthMap(result.spec, depth.add(result.depth_m, still))
        if isinstance(result, NormalMap):
            normals = self._past.setdefault(name, _NormalMean(self._weight))
            assert isinstance(normals, _NormalMean)
            return NormalMap(result.spec, normals.add(result.normals, still))
        return result


class _Votes:
    """The standing class of every pixel, and how many frames speak for it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._standing: Array | None = None
        self._strength: Array | None = None

    def add(self, labels: Array, still: Array) -> Array:
        if self._standing is None or self._strength is None:
            self._standing, self._strength = labels.copy(), np.ones(labels.shape, np.uint8)
            return labels
        standing, strength = self._standing, self._strength
        agrees = labels == standing
        strength = np.where(agrees, np.minimum(strength + 1, self._most), strength - 1).astype(np.uint8)
        replaced = ~still | (strength == 0) | (standing == VOID) | (labels == VOID)
        self._standing = np.where(replaced, labels, standing).astype(np.uint8)
        self._strength = np.where(replaced, np.uint8(1), strength)
        return self._standing.copy()


class _DepthMean:
    """An exponential mean of the logarithm of depth."""

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._past: Array | None = None

    def add(self, depth_m: Array, still: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            newest = np.log(depth_m)
        past, mean = self._past, newest
        if past is not None:
            with np.errstate(invalid="ignore"):
                kept = still & (np.abs(newest - past) < _DEPTH_GATE)  # false where either is unknown
                mean = np.where(kept, past + np.float32(self._weight) * (newest - past), newest)
        self._past = mean
        return np.exp(mean)


class _NormalMean:
    """An exponential mean of normals, brought to unit length."""

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._past: Array | None = None

    def add(self, normals: Array, still: Array) -> Array:
        past, mean = self._past, normals
        if past is not None:
            with np.errstate(invalid="ignore"):
                kept = still & ((past * normals).sum(axis=2) > _NORMAL_GATE)
            mixed = past + np.float32(self._weight) * (normals - past)
            with np.errstate(invalid="ignore", divide="ignore"):
                mixed /= np.linalg.norm(mixed, axis=2, keepdims=True)
            mean = np.where(kept[..., None], mixed, normals)
        self._past = mean.copy() if mean is normals else mean
        return self._past.copy()


def angles_between(first: Array, second: Array) -> Array:
    """(N,) degrees between unit vectors (N, 3), with the precision of single floats near 0 as well."""
    apart, along = np.linalg.norm(first - second, axis=1), np.linalg.norm(first + second, axis=1)
    return np.degrees(2.0 * np.arctan2(apart, along))


class _Mean:
    """A running mean over all values of many arrays."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, values: Array) -> None:
        self._total += float(values.sum(dtype=np.float64))
        self._count += values.size

    @property
    def value(self) -> float | None:
        return self._total / self._count if self._count else None


def _enlarged(mask: Array, size: tuple[int, int]) -> Array:
    resized: Array = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return resized > 0
