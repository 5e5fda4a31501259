"""Statistics of calibration frames as a file that travels in place of the frames, where these may not.

Histograms of activations, and their sums and reach by channel, are all that ranges, equalization and bias correction take
from frames, so INT8 from a record is the same graph as from the frames themselves. What cannot be had from a record is an
error that says what to give instead: a pass with scales that were not recorded needs the frames. Knows arrays and files;
what is looked at is decided in `edge_mtl.quantization.observation`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_mtl.array_files import read_arrays
from edge_mtl.documents import parse_json
from edge_mtl.errors import BundleError, CalibrationError
from edge_mtl.quantization.recipes import CrossLayerEqualization
from edge_mtl.quantization.statistics import Histogram, Observed, TensorStatistics

__all__ = ["Recorded", "RecordedPass", "Request", "read_recorded", "write_recorded"]

Array = np.ndarray

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What a pass over the frames has to look at.

    Attributes:
        graph: SHA-256 of the float graph.
        equalisation: how its scales are moved before.
        bins: of the histograms.
        tensors: names.
    """

    graph: str
    equalisation: CrossLayerEqualization
    bins: int
    tensors: frozenset[str]


@dataclass(frozen=True, slots=True)
class RecordedPass:
    """A pass over the frames, and what it was asked."""

    request: Request
    observed: Observed

    def answers(self, request: Request) -> bool:
        """Whether it looked at all that `request` names, in the same graph with the same scales."""
        own = self.request
        alike = (own.graph, own.equalisation, own.bins) == (request.graph, request.equalisation, request.bins)
        return alike and request.tensors <= own.tensors


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded of calibration frames.

    Attributes:
        digest: SHA-256 over the pixels of all frames, in order.
        digests: SHA-256 over the pixels of each.
        fingerprints: (N, B) uint8, one row a frame, by which a nearly equal image is known; see `edge_mtl.calibration.leakage`.
        passes: over the frames.
    """

    digest: str
    digests: tuple[str, ...]
    fingerprints: Array
    passes: tuple[RecordedPass, ...]

    def __len__(self) -> int:
        """How many frames it was."""
        return len(self.digests)

    def observed(self, request: Request) -> Observed:
        """What a pass over the frames would tell.

        Raises:
            CalibrationError: it was not recorded; the message says what to do.
        """
        found = [one for one in self.passes if one.answers(request)]
        if found:
            return min(found, key=lambda one: len(one.request.tensors)).observed
        raise CalibrationError(f"{self._missing(request)} {_GIVE_FRAMES}")

    def _missing(self, request: Request) -> str:
        """Why nothing was recorded that answers `request`: the first of its properties that no pass has."""
        start = f"The bundle holds statistics of {len(self)} calibration frames in place of the frames,"
        passes = [one for one in self.passes if one.request.graph == request.graph]
        if not passes:
            return f"{start} and they are of another graph than the one to quantize."
        passes = [one for one in passes if one.request.equalisation == request.equalisation]
        if not passes:
            known = " or ".join(dict.fromkeys(_described(one.request.equalisation) for one in self.passes))
            return f"{start} with equalisation {known}; the recipe has {_described(request.equalisation)}."
        passes = [one for one in passes if one.request.bins == request.bins]
        if not passes:
            known = " or ".join(str(bins) for bins in sorted({one.request.bins for one in self.passes}))
            return f"{start} as histograms of {known} bins; the recipe has activations.bins = {request.bins}."
        lacking: list[str] = min((sorted(request.tensors - one.request.tensors) for one in passes), key=len)
        return f"{start} and they lack {len(lacking)} activations that the recipe quantizes, such as {lacking[0]}."


def write_recorded(recorded: Recorded) -> bytes:
    """The file; the same bytes for the same statistics."""
    described, arrays = [], {"fingerprints": np.ascontiguousarray(recorded.fingerprints, np.uint8)}
    for number, one in enumerate(recorded.passes):
        names = sorted(one.observed.statistics)
        request = {**asdict(one.request), "tensors": names}
        described.append({"request": request, "scales": sorted(one.observed.scales)})
        packed = _pack(one.observed.statistics[name] for name in names)
        packed |= _joined("scales", [one.observed.scales[name] for name in sorted(one.observed.scales)], np.float32)
        arrays |= {f"{number}.{key}": value for key, value in packed.items()}
    content = {"version": _VERSION, "digest": recorded.digest, "digests": recorded.digests, "passes": described}
    text = json.dumps(content, sort_keys=True).encode()
    stream = io.BytesIO()
    np.savez_compressed(stream, content=np.frombuffer(text, np.uint8), **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def read_recorded(payload: bytes, *, source: str) -> Recorded:
    """What `write_recorded` wrote. Raises BundleError naming `source` where it is damaged or of another version."""
    try:
        arrays = read_arrays(payload)
        content = parse_json(arrays["content"].tobytes())
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']!r}, expected {_VERSION}")
        passes = tuple(_pass(number, one, arrays) for number, one in enumerate(content["passes"]))
        digests, prints = tuple(str(one) for one in content["digests"]), arrays["fingerprints"]
        if prints.ndim != 2 or prints.dtype != np.uint8 or len(prints) != len(digests) or not digests:
            raise ValueError(f"{len(digests)} frames with fingerprints of shape {prints.shape}")
        return Recorded(str(content["digest"]), digests, prints, passes)
    except Exception as exc:  # damaged archives raise many kinds
        raise BundleError(f"{source} does not hold calibration statistics ({exc}). Export the bundle again.") from exc


_GIVE_FRAMES = (
    "Give frames like those the device will see, a folder of images with --calibration DIR, "
    "or calibrate the bundle with them: edge-mtl calibrate SOURCE."
)


def _described(equalisation: CrossLayerEqualization) -> str:
    if not equalisation.enabled:
        return "off"
    return f"of strength {equalisation.strength:g} on {equalisation.frames} frames"


def _pack(statistics: Iterable[TensorStatistics]) -> dict[str, Array]:
    """Statistics as a few arrays; of histograms only what lies between the first and the last bin that is not empty."""
    every = list(statistics)
    histograms = [one.histogram for one in every]
    filled = [np.flatnonzero(one.counts) for one in histograms]
    first = np.array([int(at[0]) if at.size else 0 for at in filled], np.int64)
    counts = [one.counts[at[0] : at[-1] + 1] if at.size else one.counts[:0] for one, at in zip(histograms, filled, strict=True)]
    largest = max((float(one.max()) for one in counts if one.size), default=0.0)
    kind = np.uint32 if largest < 2**32 else np.uint64
    sums = [one.sums for one in every]
    return {
        "first": first,
        "bins": np.array([len(one.counts) for one in histograms], np.int64),
        "low": np.array([one.low for one in histograms], np.float64),
        "high": np.array([one.high for one in histograms], np.float64),
        "width": np.array([one.reach for one in histograms], np.float64),
        "added": np.array([count for _, count in sums], np.int64),
        **_joined("counts", counts, kind),
        **_joined("sums", [np.zeros(0) if values is None else values for values, _ in sums], np.float64),
        **_joined("reach", [np.zeros(0) if one.reach is None else one.reach for one in every], np.float64),
    }


def _joined(name: str, values: Sequence[Array], kind: Any) -> dict[str, Array]:
    """Arrays of any lengths as one, with their lengths."""
    lengths = np.array([len(one) for one in values], np.int64)
    return {name: np.concatenate([np.zeros(0), *values]).astype(kind), f"{name}.lengths": lengths}


def _parted(name: str, arrays: Mapping[str, Array], count: int) -> list[Array]:
    lengths, joined = arrays[f"{name}.lengths"], arrays[name]
    if len(lengths) != count or lengths.sum() != len(joined) or (count and lengths.min() < 0):
        raise ValueError(f"{name} of {count} tensors expected; found lengths that do not fit")
    return np.split(joined, np.cumsum(lengths)[:-1]) if count else []


def _pass(number: int, described: Mapping[str, Any], arrays: Mapping[str, Array]) -> RecordedPass:
    prefix = f"{number}."
    own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    entry, names = described["request"], [str(name) for name in described["request"]["tensors"]]
    request = Request(
        str(entry["graph"]), CrossLayerEqualization(**entry["equalisation"]), int(entry["bins"]), frozenset(names)
    )
    scaled = [str(name) for name in described["scales"]]
    scales = dict(zip(scaled, _parted("scales", own, len(scaled)), strict=True))
    counts, sums, reach = (_parted(key, own, len(names)) for key in ("counts", "sums", "reach"))
    statistics = {}
    for at, name in enumerate(names):
        bins, first = int(own["bins"][at]), int(own["first"][at])
        if not 0 <= first <= first + len(counts[at]) <= bins <= 1 << 20:
            raise ValueError(f"the histogram of {name} does not fit its {bins} bins")
        whole = np.zeros(bins)
        whole[first : first + len(counts[at])] = counts[at]
        low, high, width = (float(own[key][at]) for key in ("low", "high", "width"))
        if not all(np.isfinite([low, high, width])) or low > high:
            raise ValueError(f"the extremes of {name} are {low:g} and {high:g}")
        statistics[name] = TensorStatistics.restored(
            Histogram.restored(whole, reach=width, low=low, high=high),
            reach=reach[at] if len(reach[at]) else None,
            sums=sums[at] if len(sums[at]) else None,
            count=int(own["added"][at]),
        )
    return RecordedPass(request, Observed(scales, statistics))
