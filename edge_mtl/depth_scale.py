"""The factor that makes depth metric in a new place: its range, the record of how it was found, and what it holds for.

Knows bundles and cameras; knows nothing about how a factor is found, which is in `edge_mtl.metric_scale`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.documents import finite_json
from edge_mtl.errors import DepthScaleError, FrameError
from edge_mtl.files import plain
from edge_mtl.image.camera_check import camera_fault
from edge_mtl.image.frames import Intrinsics
from edge_mtl.numbers import is_number

__all__ = [
    "PLAUSIBLE",
    "DepthScaleInput",
    "ScaleCamera",
    "ScaleRecord",
    "check_factor",
    "depth_scale_of",
    "network_digest",
    "read_depth_scale",
]

PLAUSIBLE = (0.1, 10.0)
"""A factor beyond these is taken for a mistake, such as millimetres read as metres."""

_FORMAT, _VERSION = "edge_mtl depth scale", 1
_MAX_FILE_BYTES = 1 << 20
_SAME_CAMERA = 0.02
"""Focal lengths may differ by this share, principal points by this share of the image's sides."""


@dataclass(frozen=True, slots=True)
class ScaleCamera:
    """The camera that a factor was found with.

    Attributes:
        intrinsics: in pixels of its frames.
        size: (height, width) of them.
        name: for people; "" where nobody named it.
    """

    intrinsics: Intrinsics
    size: tuple[int, int]
    name: str = ""

    def at(self, size: tuple[int, int]) -> Intrinsics:
        """The same camera for frames of another (height, width)."""
        sy, sx = size[0] / self.size[0], size[1] / self.size[1]
        own = self.intrinsics
        return Intrinsics(own.fx * sx, own.fy * sy, (own.cx + 0.5) * sx - 0.5, (own.cy + 0.5) * sy - 0.5)

    def is_same(self, intrinsics: Intrinsics, size: tuple[int, int]) -> bool:
        """Whether frames of (height, width) `size` and these intrinsics may come from this camera."""
        own = self.at(size)
        focal = max(abs(intrinsics.fx / own.fx - 1.0), abs(intrinsics.fy / own.fy - 1.0))
        centre = max(abs(intrinsics.cx - own.cx) / size[1], abs(intrinsics.cy - own.cy) / size[0])
        return focal <= _SAME_CAMERA and centre <= _SAME_CAMERA


@dataclass(frozen=True, slots=True)
class ScaleRecord:
    """A factor as `edge-mtl scale --save FILE.json` writes it.

    Attributes:
        factor: true depth over predicted depth.
        network: SHA-256 of the bundle's reference ONNX: the factor is of these weights, at any precision.
        bundle, revision: the bundle's name and revision, for people.
        camera: the camera of the frames; None where none was known: then the factor makes good for an assumed one too.
        interval: 95 % interval of the factor; None where there were too few readings for one.
        found: how: source, method, frames, readings, spread, engine, date.
    """

    factor: float
    network: str
    bundle: str = ""
    revision: int = 0
    camera: ScaleCamera | None = None
    interval: tuple[float, float] | None = None
    found: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The record as it is stored: sorted, indented JSON."""
        camera = self.camera
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "factor": self.factor,
            "interval": self.interval,
            "bundle": {"name": self.bundle, "revision": self.revision, "network": self.network},
            "camera": None
            if camera is None
            else {"name": camera.name, "intrinsics": list(camera.intrinsics), "size": list(camera.size)},
            "found": self.found,
        }
        return (json.dumps(plain(content), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ScaleRecord:
        """Read a file of `edge-mtl scale --save`. Raises DepthScaleError: it is missing, or is no such file."""
        advice = "Make one with: edge-mtl scale SOURCE --save FILE.json"
        try:
            if (size := Path(path).stat().st_size) > _MAX_FILE_BYTES:
                raise DepthScaleError(f"{path} is no depth scale: {size} bytes, at most {_MAX_FILE_BYTES} expected. {advice}")
            content = finite_json(Path(path).read_bytes())
        except (OSError, ValueError) as exc:
            if isinstance(exc, DepthScaleError):
                raise
            reason = exc.strerror if isinstance(exc, OSError) else f"it is not JSON: {exc}"
            raise DepthScaleError(f"The depth scale {path} cannot be read ({reason}). {advice}") from exc
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (_FORMAT, _VERSION):
            raise DepthScaleError(f"{path} is not an {_FORMAT} of version {_VERSION}. {advice}")
        try:
            return _record(content)
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            what = f"key {exc} is missing" if isinstance(exc, KeyError) else str(exc)
            raise DepthScaleError(f"{path} is not a valid depth scale: {what}. {advice}") from exc

    def check_bundle(self, bundle: Bundle) -> None:
        """Raises DepthScaleError where the factor is of another network than the bundle's."""
        if network_digest(bundle) != self.network:
            raise DepthScaleError(
                f"This depth scale was found for {self.bundle or 'another bundle'} revision {self.revision}; {bundle.path} "
                f"holds another network. Find its own with: edge-mtl scale SOURCE --bundle {bundle.path} --save FILE.json"
            )

    def check_camera(self, intrinsics: Intrinsics | None, size: tuple[int, int]) -> None:
        """Whether the factor holds for a frame of (height, width) `size`; without a known camera of it, as far as one can tell.

        Raises:
            FrameError: it is of another camera.
        """
        if intrinsics is None:
            return
        if self.camera is None:
            raise FrameError(
                "the depth scale was found without a camera, so it makes good for the assumed one too; this frame has one. "
                "Find the scale again with --intrinsics fx,fy,cx,cy, or with the bag's camera_info."
            )
        if not self.camera.is_same(intrinsics, size):
            named = f" {self.camera.name!r}" if self.camera.name else ""
            expected = tuple(round(value, 1) for value in self.camera.at(size))
            found = tuple(round(value, 1) for value in intrinsics)
            raise FrameError(
                f"the depth scale is of the camera{named}, (fx, fy, cx, cy) {expected} at {size[0]}x{size[1]}; this frame "
                f"is of {found}. Find one for this camera with: edge-mtl scale"
            )


DepthScaleInput = float | str | os.PathLike[str] | ScaleRecord
"""A factor, as a number or its text, a file of `edge-mtl scale`, or its content."""


def depth_scale_of(value: DepthScaleInput | None, bundle: Bundle) -> tuple[float, ScaleRecord | None]:
    """(factor, record) of what an Engine is given; 1 for None, and no record where it is a mere number.

    Raises:
        DepthScaleError: the factor is not plausible, the file unreadable, or of another bundle.
    """
    read = read_depth_scale(value)
    if not isinstance(read, ScaleRecord):
        return read, None
    read.check_bundle(bundle)
    return check_factor(read.factor), read


def read_depth_scale(value: DepthScaleInput | None) -> float | ScaleRecord:
    """A factor, or the content of a file; 1 for None. Raises DepthScaleError: it is not plausible, or the file unreadable."""
    if value is None or isinstance(value, ScaleRecord):
        return 1.0 if value is None else value
    if isinstance(value, str) and (number := _number(value)) is not None:
        value = number
    return ScaleRecord.read(value) if isinstance(value, (str, os.PathLike)) else check_factor(value)


def check_factor(value: Any) -> float:
    """`value` if it is a plausible factor. Raises DepthScaleError."""
    low, high = PLAUSIBLE
    if not isinstance(value, (bool, int, str)) and hasattr(value, "__float__"):  # arrays and tensors of one number
        value = float(value)
    if not (is_number(value) and low <= value <= high):
        raise DepthScaleError(
            f"A depth scale should be a number from {low:g} to {high:g}, true distance over predicted; found {value!r}. "
            "Find it with: edge-mtl scale SOURCE"
        )
    return float(value)


def network_digest(bundle: Bundle) -> str:
    """What a factor is of: the SHA-256 of the reference ONNX, which recalibrating does not change."""
    return bundle.entry(REFERENCE_ONNX).sha256


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _record(content: Mapping[str, Any]) -> ScaleRecord:
    bundle, camera, interval = content["bundle"], content["camera"], content["interval"]
    if not isinstance(bundle["network"], str):
        raise ValueError("bundle.network should be a digest")
    kept = None
    if camera is not None:
        height, width = (int(side) for side in camera["size"])
        if min(height, width) < 1:
            raise ValueError(f"camera.size should be a height and a width; found {camera['size']}")
        kept = ScaleCamera(Intrinsics(*(float(value) for value in camera["intrinsics"])), (height, width), str(camera["name"]))
        if fault := camera_fault(kept.intrinsics, kept.size):
            raise ValueError(f"camera: {fault}")
    between = None
    if interval is not None:
        low, high = (float(end) for end in interval)
        between = (low, high)
    return ScaleRecord(
        factor=check_factor(content["factor"]),
        network=bundle["network"],
        bundle=str(bundle["name"]),
        revision=int(bundle["revision"]),
        camera=kept,
        interval=between,
        found=dict(content["found"]),
    )
