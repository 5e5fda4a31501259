"""Messages of ROS: images, depth, cameras and scans with fields of the right types and any values."""

from __future__ import annotations

import array
import contextlib
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.metric_scale.bag_topics import depth_of, scan_of
from edge_mtl.metric_scale.readings import ScanMount, of_depth, of_scan
from edge_mtl.ros import ENCODINGS, camera_of, compress, image_of, lens_fault, rectified
from edge_mtl.ros.transforms import level_frame_of, quaternion_of
from edge_mtl.sources.bags import message_pixels
from tests.bundles import make_image
from tests.encodings import encoded
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.texts import mutate_json
from tests.reliability.fuzz.values import NUMBERS, TEXTS

__all__ = ["TARGETS"]

_UINT32, _INT32 = (1 << 32) - 1, (1 << 31) - 1
_MOST_BYTES = 1 << 21
_SIDES = (24, 32)
_MODELS = ("plumb_bob", "rational_polynomial", "equidistant", "fisheye", "", "none", "double_sphere")


def _whole(value: Any, most: int = _UINT32) -> int:
    """As a field of that type has it, whatever a mutation made of the JSON."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(_real(value)):
        return 0
    return min(max(int(value), 0), most)


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _reals(value: Any) -> list[float]:
    return [_real(one) for one in value[:2000]] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _payload(content: dict[str, Any]) -> Any:
    """Bytes of the stated number, in one of the types that messages have them in."""
    stated = content.get("data")
    hexed = stated if isinstance(stated, str) else ""
    try:
        start = bytes.fromhex(hexed)
    except ValueError:
        start = hexed.encode(errors="replace")
    count = min(_whole(content.get("bytes", len(start))), _MOST_BYTES)
    data = (start * (count // max(len(start), 1) + 1))[:count] if start else bytes(count)
    how = _whole(content.get("type")) % 4
    if how == 0:
        return data
    if how == 1:
        return array.array("B", data)
    return np.frombuffer(data, np.uint8) if how == 2 else memoryview(data)


def _header(content: dict[str, Any]) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=_whole(content.get("sec"), _INT32), nanosec=_whole(content.get("nanosec")))
    return SimpleNamespace(stamp=stamp, frame_id=_text(content.get("frame_id")))


def _image(content: dict[str, Any]) -> SimpleNamespace:
    if "format" in content:
        return SimpleNamespace(header=_header(content), format=_text(content["format"]), data=_payload(content))
    sizes = {name: _whole(content.get(name)) for name in ("height", "width", "step")}
    big = _whole(content.get("is_bigendian"), 255)
    encoding = _text(content.get("encoding"))
    return SimpleNamespace(header=_header(content), **sizes, encoding=encoding, is_bigendian=big, data=_payload(content))


def _camera(content: dict[str, Any]) -> SimpleNamespace:
    roi = content.get("roi") if isinstance(content.get("roi"), list) else []
    region = [_whole(one) for one in [*roi, 0, 0, 0, 0]]
    return SimpleNamespace(
        header=_header(content),
        width=_whole(content.get("width")),
        height=_whole(content.get("height")),
        distortion_model=_text(content.get("distortion_model")),
        **{name: _reals(content.get(name)) for name in ("k", "d", "r", "p")},
        binning_x=_whole(content.get("binning_x")),
        binning_y=_whole(content.get("binning_y")),
        roi=SimpleNamespace(x_offset=region[0], y_offset=region[1], width=region[2], height=region[3]),
    )


def _scan(content: dict[str, Any]) -> SimpleNamespace:
    names = ("angle_min", "angle_increment", "range_min", "range_max")
    ranges = np.array(_reals(content.get("ranges")), np.float32)
    return SimpleNamespace(header=_header(content), ranges=ranges, **{name: _real(content.get(name)) for name in names})


def _reader(read: Callable[[dict[str, Any]], None]) -> Callable[[Path], Callable[[bytes], None]]:
    def opened(folder: Path) -> Callable[[bytes], None]:
        def of_json(data: bytes) -> None:
            try:
                content = json.loads(data)
            except (ValueError, RecursionError):
                return
            if isinstance(content, dict):
                with np.errstate(all="ignore"):
                    read(content)

        return of_json

    return opened


def _read_image(content: dict[str, Any]) -> None:
    message = _image(content)
    bits = _whole(content.get("bits", 16), 20)
    for read in (lambda: image_of(message, bits=bits, on_remark=lambda text: None), lambda: (message_pixels(message), "rgb")):
        with contextlib.suppress(EdgeMtlError):
            pixels, channels = read()
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert channels in ("rgb", "bgr")
            for transport in ("jpeg", "png"):
                if pixels.size < 100_000:
                    compress("rgb8", pixels, transport)  # type: ignore[arg-type]


def _read_depth(content: dict[str, Any]) -> None:
    message = _image({name: value for name, value in content.items() if name != "format"})
    depth = depth_of(message)
    assert depth.dtype == np.float32
    if depth.size < 100_000:
        compress("32FC1", depth, "depth")
    of_depth("frame", np.ones(_SIDES, np.float32), depth, farthest_m=10.0)


def _read_camera(content: dict[str, Any]) -> None:
    message = _camera(content)
    camera = camera_of(message)
    size = _whole(content.get("image_width", camera.width)), _whole(content.get("image_height", camera.height))
    camera.fits(*size)
    camera.resizing(*size)
    for read in (camera.intrinsics, lambda: camera.intrinsics(rectified=True), lambda: lens_fault(camera)):
        with contextlib.suppress(EdgeMtlError):
            read()
    with contextlib.suppress(EdgeMtlError):
        straight, undone = rectified(camera)
        straight.intrinsics()
        if undone is not None and camera.width * camera.height < 1 << 20:
            undone(np.zeros((camera.height, camera.width, 3), np.uint8))
    scaled = camera.of_image(*size)
    scaled.intrinsics(rectified=True)
    lens_fault(scaled)


def _read_scan(content: dict[str, Any]) -> None:
    ranges, angles = scan_of(_scan(content))
    mounted = (_real(content.get(name)) for name in ("x", "y", "z", "yaw", "pitch"))
    mount = ScanMount(*(value if math.isfinite(value) else 0.0 for value in mounted))  # as the command line demands
    camera = Intrinsics(30.0, 30.0, 15.5, 11.5)
    of_scan("frame", np.ones(_SIDES, np.float32), ranges, angles, mount, camera, farthest_m=10.0)


def _read_transform(content: dict[str, Any]) -> None:
    numbers = [*_reals(content.get("rotation")), *np.eye(3).ravel().tolist()][:9]
    quaternion_of(np.array(numbers).reshape(3, 3))
    level_frame_of(_text(content.get("frame")))


def _image_seeds(folder: Path) -> Sequence[bytes]:
    rgb, found = make_image(3, height=8, width=12), []
    for number, encoding in enumerate(ENCODINGS):
        raw, _ = encoded(encoding, rgb)
        rows = raw.reshape(raw.shape[0], -1).view(np.uint8)
        sizes = {"height": 8, "width": 12, "step": rows.shape[1], "is_bigendian": number % 2, "bytes": rows.size}
        found.append({"encoding": encoding, **sizes, "data": rows.tobytes().hex(), "type": number, "bits": 16})
    for described, suffix in (
        ("rgb8; jpeg compressed bgr8", ".jpg"),
        ("png", ".png"),
        ("bayer_rggb8; png compressed ", ".png"),
    ):
        pixels = rgb if "bayer" not in described else rgb[..., 0]
        found.append({"format": described, "data": cv2.imencode(suffix, pixels)[1].tobytes().hex(), "type": 2})
    found.append({"format": "32FC1; compressedDepth png", "data": "00", "bytes": 40})
    return [json.dumps(one).encode() for one in found]


def _depth_seeds(folder: Path) -> Sequence[bytes]:
    height, width = _SIDES
    found = []
    for encoding, kind in (("16UC1", "<u2"), ("mono16", ">u2"), ("32FC1", "<f4"), ("32FC1", ">f4")):
        row = np.full(width, 1500 if encoding != "32FC1" else 1.5).astype(kind)
        sizes = {"height": height, "width": width, "step": row.nbytes + 4, "bytes": height * (row.nbytes + 4)}
        data = row.tobytes() + bytes(4)
        found.append({"encoding": encoding, **sizes, "is_bigendian": int(kind[0] == ">"), "data": data.hex(), "type": 0})
    return [json.dumps(one).encode() for one in found]


def _camera_seeds(folder: Path) -> Sequence[bytes]:
    plain = {
        "width": 64,
        "height": 48,
        "image_width": 64,
        "image_height": 48,
        "distortion_model": "plumb_bob",
        "k": [52.0, 0, 31.5, 0, 52.0, 23.5, 0, 0, 1.0],
        "d": [-0.2, 0.05, 0.001, -0.001, 0.0],
        "r": [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0],
        "p": [52.0, 0, 31.5, -5.2, 0, 52.0, 23.5, 0, 0, 0, 1.0, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": [0, 0, 0, 0],
    }
    fisheye = {**plain, "distortion_model": "equidistant", "d": [0.01, -0.002, 0.0, 0.0]}
    rational = {**plain, "distortion_model": "rational_polynomial", "d": [0.3, 0.1, 0, 0, 0.01, 0.2, 0.1, 0.01]}
    tilted = {**rational, "d": [0.1, 0, 0, 0, 0, 0, 0, 0, 0.01, 0, 0.01, 0, 0.02, -0.02]}
    cut = {**plain, "roi": [8, 8, 48, 32], "binning_x": 2, "binning_y": 2, "image_width": 24, "image_height": 16}
    huge = {**plain, "width": 40000, "height": 30000, "k": [32500.0, 0, 19999.5, 0, 32500.0, 14999.5, 0, 0, 1.0], "p": []}
    bare = {**plain, "d": [], "p": [0.0] * 12, "distortion_model": ""}
    return [json.dumps(one).encode() for one in (plain, fisheye, rational, tilted, cut, huge, bare)]


def _scan_seeds(folder: Path) -> Sequence[bytes]:
    content = {"ranges": [2.0] * 61, "angle_min": -0.3, "angle_increment": 0.01, "range_min": 0.1, "range_max": 8.0}
    return [json.dumps({**content, "x": 0.05, "y": 0.0, "z": -0.1, "yaw": yaw, "pitch": 3.0}).encode() for yaw in (0.0, 5.0)]


def _transform_seeds(folder: Path) -> Sequence[bytes]:
    turns = ([1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0], [0, -1.0, 0, 1.0, 0, 0, 0, 0, 1.0], [-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0])
    frame = "camera_color_optical_frame"
    return [json.dumps({"rotation": turn, "frame": frame}).encode() for turn in turns]


def _mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One field, or one number of a field, that a driver might send; in one case of three any change of the JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not content or rng.random() < 0.33:
        return mutate_json(data, other, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(content))
        value = content[name]
        if isinstance(value, list) and value and rng.random() < 0.8:
            value[rng.randrange(len(value))] = rng.choice((*NUMBERS, 1e9, -0.5, 3.0, 1e-9))
        elif isinstance(value, list):
            content[name] = rng.choice((value[:-1], [*value, 0.5], [], value * 2, [0.0] * len(value)))
        elif isinstance(value, (int, float)):
            near = (value + 1, value - 1, value * 2, value // 2, value // 3)
            content[name] = rng.choice((*NUMBERS, *near, 1, 2, 3, 5, 64, 48, 16384, 16385, 40000))
        elif name in ("encoding", "format"):
            content[name] = rng.choice((*ENCODINGS, *TEXTS, "RGB8", "16UC1", "32FC1", "64FC1", "8SC1", "bayer_rggb8; png"))
        elif name == "distortion_model":
            content[name] = rng.choice((*_MODELS, *TEXTS))
        elif isinstance(value, str) and value:
            at = rng.randrange(len(value))
            content[name] = rng.choice((value[:at], value[:at] + rng.choice("0f8") + value[at + 1 :], value[: at // 2 * 2] * 2))
    return json.dumps(content).encode()


TARGETS = tuple(
    Target(f"ros-{name}", "fuzz-commands", _reader(read), seeds, _mutate)
    for name, read, seeds in (
        ("images", _read_image, _image_seeds),
        ("depth", _read_depth, _depth_seeds),
        ("cameras", _read_camera, _camera_seeds),
        ("scans", _read_scan, _scan_seeds),
        ("transforms", _read_transform, _transform_seeds),
    )
)
