"""manifest.json: what a bundle says of itself, validated on reading.

Knows names, types and ranges of its entries; knows nothing about folders.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_mtl.documents import finite_json
from edge_mtl.errors import BundleError
from edge_mtl.tasks import Specs, describe_tasks, read_tasks

__all__ = ["FORMAT_VERSION", "FileEntry", "InputSpec", "Manifest"]

FORMAT_VERSION = 2
"""Of new manifests. Format 1, which is read too, knew three tasks and no kinds."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ = (1, FORMAT_VERSION)
_REQUIRED = ("tasks", "input", "files")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the network takes: size in pixels, colour order, and mean and std of x / 255."""

    height: int
    width: int
    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Digest and size of one file of the bundle."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """manifest.json, validated.

    Attributes:
        name: of the bundle.
        revision: 1 for a new bundle; a recalibration or verification that is written back is one more than the highest kept.
        parent: the revision that this one was made from; 0 for a new bundle, and where it was not written down.
        tasks: by name, in the order of reports.
        input: what the network takes.
        canonical_intrinsics: (fx, fy, cx, cy) in pixels of the network's input; see docs/decisions/0002.
        files: digest and size by path relative to the bundle, "/" as separator.
        assembled: digest and size of what is made from those files when it is read, see `edge_mtl.weights`; empty in a bundle
            that holds its graphs whole.
        provenance: dataset, its licence, every data set with its terms (`data_sets`), command, commit, configuration digest,
            parameter count, networks that it learnt from (`teachers`); where images were kept back or embedded on demand, what
            the bundle holds of them (`images`).
        accuracy: metric values by precision, as measured on the held-out frames named in the provenance.
        calibration: count, digest and source of the calibration frames, and how they were chosen.
        card: the accuracy card of the last verification, see `edge_mtl.evaluation.worst_frames`; empty if there was none.
        measurements: accuracy on held-out frames that need not be in the bundle, by the name of these frames, as
            `train/evaluate.py` measured and recorded it: "graphs" has metric values by graph, as `accuracy` has by precision;
            beside it are "frames" (how many), "size", "command", "date", "commit", "device", how "truths" were made, "pseudo",
            the metrics that compare with a computed truth, and "calibration", the digest of that which INT8 had.
        created: ISO 8601 time, UTC.
    """

    name: str
    revision: int
    tasks: Specs
    input: InputSpec
    canonical_intrinsics: tuple[float, float, float, float]
    files: Mapping[str, FileEntry]
    assembled: Mapping[str, FileEntry] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    created: str = ""
    parent: int = 0

    def to_json(self) -> bytes:
        """The manifest as it is stored: sorted, indented JSON."""
        content = {"format_version": FORMAT_VERSION, **asdict(self), "tasks": describe_tasks(self.tasks)}
        return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, payload: bytes, *, source: Path) -> Manifest:
        """Parse and validate. Raises BundleError naming `source` and the offending key."""
        try:
            content = finite_json(payload)
        except ValueError as exc:
            raise BundleError(f"{source} is not JSON ({exc}). Restore the bundle from where it came from.") from exc
        if not isinstance(content, dict):
            raise BundleError(f"{source} should hold a JSON object, found {type(content).__name__}.")
        version = content.get("format_version")
        if version not in _READ:
            raise BundleError(
                f"{source} has format_version {version!r}; this edge_mtl reads {' and '.join(map(str, _READ))}. "
                "Install a matching edge_mtl or export the bundle again."
            )
        try:
            return _manifest(content)
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            what = f"key {exc} is missing" if isinstance(exc, KeyError) else str(exc)
            raise BundleError(f"{source} is not a valid manifest: {what}. Export the bundle again.") from exc


def _manifest(content: Mapping[str, Any]) -> Manifest:
    tasks = read_tasks(_object(content, "tasks"))
    given = _object(content, "input")
    height, width = int(given["height"]), int(given["width"])
    if not (0 < height <= 8192 and 0 < width <= 8192):
        raise ValueError(f"input should be 1 to 8192 pixels a side; found {height}x{width}")
    if given["channels"] != "rgb":
        raise ValueError(f"input channels should be 'rgb'; found {_short(given['channels'])}")
    intrinsics = _floats(content["canonical_intrinsics"], 4, "canonical_intrinsics")
    if not (intrinsics[0] > 0 and intrinsics[1] > 0 and all(map(math.isfinite, intrinsics))):
        raise ValueError(f"canonical focal lengths should be positive, and all finite; found {intrinsics}")
    name = content["name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"name should be a word; found {_short(name)}")
    revision = content["revision"]
    if not isinstance(revision, int) or revision < 1:
        raise ValueError(f"revision should count from 1; found {_short(revision)}")
    parent = content.get("parent", 0)
    if not isinstance(parent, int) or not 0 <= parent < revision:
        raise ValueError(f"parent should be a revision before {revision}; found {_short(parent)}")
    return Manifest(
        name=name,
        revision=revision,
        tasks=tasks,
        input=InputSpec(height, width, "rgb", _floats(given["mean"], 3, "mean"), _floats(given["std"], 3, "std")),
        canonical_intrinsics=intrinsics,
        files=_file_entries(content, "files"),
        assembled=_file_entries(content, "assembled"),
        provenance=_object(content, "provenance"),
        accuracy=_accuracy(content, "accuracy"),
        calibration=_object(content, "calibration"),
        card=_object(content, "card"),
        measurements=_measurements(content),
        created=str(content.get("created", "")),
        parent=parent,
    )


def _file_entries(content: Mapping[str, Any], key: str) -> dict[str, FileEntry]:
    return {str(path): _file_entry(str(path), entry) for path, entry in _object(content, key).items()}


def _file_entry(path: str, entry: Mapping[str, Any]) -> FileEntry:
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"file path {path!r} leaves the bundle")
    digest, size = entry["sha256"], entry["size"]
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise ValueError(f"the entry of {path!r} should hold sha256 and size; found {_short(entry)}")
    return FileEntry(digest, size)


def _floats(value: Any, count: int, name: str) -> Any:
    if not isinstance(value, list) or len(value) != count or not all(isinstance(x, (int, float)) for x in value):
        raise ValueError(f"{name} should be {count} numbers; found {_short(value)}")
    return tuple(float(x) for x in value)


def _measurements(content: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Records by the name of their frames, each with metrics by graph."""
    measurements = _object(content, "measurements")
    for name in measurements:
        record = _object(measurements, name)
        if "graphs" not in record:
            raise ValueError(f"the measurement {_short(name)} should have figures by graph, found {_short(record)}")
        _accuracy(record, "graphs")
    return measurements


def _accuracy(content: Mapping[str, Any], key: str) -> Mapping[str, Mapping[str, Any]]:
    """Metrics by precision or graph: numbers, or numbers by name."""
    accuracy = _object(content, key)
    for precision, metrics in accuracy.items():
        values = metrics.values() if isinstance(metrics, dict) else (metrics,)
        numbers = [one for value in values for one in (value.values() if isinstance(value, dict) else (value,))]
        if not isinstance(metrics, dict) or not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError(f"{key} of {_short(precision)} should be numbers by name; found {_short(metrics)}")
    return accuracy


def _object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content[key] if key in _REQUIRED else content.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key} should be an object; found {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
