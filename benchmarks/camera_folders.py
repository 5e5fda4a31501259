"""A sample of real frames as a folder that training and evaluation read: see docs/guides/own-data.md for the layout.

Knows files and what `camera_samples.py` says of them; measures nothing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from camera_samples import MOST, Row, Sample
from depth_conversion import resized_camera, seen_beside, thinned
from sample_origins import OriginCopy

from edge_mtl.errors import BuildError, FrameError
from edge_mtl.files import atomic_directory, sha256_bytes, write_atomic
from edge_mtl.image.decoding import decode
from edge_mtl.image.encoding import encode_depth, encode_image
from edge_mtl.image.frames import Intrinsics

__all__ = ["RANGE_M", "Converted", "converted", "digest_of", "write_row"]

Array = np.ndarray

RANGE_M = (0.3, 10.0)
"""Depth that counts, in metres."""

_DESCRIPTION = """\
title = "{title}"
licence = "third parties'; see origins.json for the repositories"
redistributable = false
images = "images"
camera = "cameras"

[splits]
train = "none.txt"
val = "none.txt"
test = "test.txt"

[tasks.depth]
kind = "depth"
folder = "depth"
scale_m = 0.001
range_m = [{near}, {far}]
"""


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A frame.

    Attributes:
        name: of its files.
        image: (H, W, 3) uint8 RGB.
        depth_m: (H, W) float32 metres along the optical axis, 0 unknown.
        camera: of the image.
    """

    name: str
    image: Array
    depth_m: Array
    camera: Intrinsics


def converted(sample: Sample, copy: OriginCopy) -> Iterator[Converted]:
    """The frames of a sample, thinned, each with depth of its own size. Raises BuildError where a file cannot be used."""
    folder, _, name = sample.depth.rpartition("/")
    frames = sample.frames or tuple(copy.stems(folder, name.removeprefix("{}")))
    for stem in thinned(frames, MOST):
        image = _image(copy, sample.image.format(stem))
        depth_m = sample.metres(_stored(copy, sample.depth.format(stem)))
        camera, size = sample.camera, (image.shape[0], image.shape[1])
        if sample.size is not None:
            camera = resized_camera(camera, size, sample.size)
            image = cv2.resize(image, sample.size[::-1], interpolation=cv2.INTER_AREA)
            size = sample.size
        if sample.beside is not None:
            depth_m = seen_beside(depth_m, sample.beside.camera, camera, right_m=sample.beside.right_m, size=size)
        if depth_m.shape != size:
            expected, found = (f"{height}x{width}" for height, width in (size, depth_m.shape))
            raise BuildError(
                f"{sample.depth.format(stem)} of {copy.path} should be {expected}, as its image is; found {found}. "
                f"Use the copy at {copy.origin.commit}"
            )
        yield Converted(stem, image, depth_m, camera)


def write_row(name: str, row: Row, origins: Path, out: Path) -> int:
    """Write the folder of a row, as a whole or not at all; the number of its frames.

    Args:
        name: of its folder in `out`.
        origins: folder of copies of repositories.
    Raises:
        BuildError: a copy is missing or cannot be used, or the folder is there already.
    """
    place = out / name
    if place.exists():
        raise BuildError(f"{place} should not be there; found it. Take it away, or measure on it")
    copies = [sample.origin.copy_in(origins) for sample in row.samples]
    names: list[str] = []
    out.mkdir(parents=True, exist_ok=True)
    with atomic_directory(place) as folder:
        for part in ("images", "depth", "cameras"):
            (folder / part).mkdir()
        for number, (sample, copy) in enumerate(zip(row.samples, copies, strict=True)):
            for frame in converted(sample, copy):
                stem = frame.name if len(copies) == 1 else f"{number}-{frame.name}"
                height, width = frame.depth_m.shape
                fx, fy, cx, cy = frame.camera.as_tuple()
                camera = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}
                write_atomic(folder / "images" / f"{stem}.png", encode_image(frame.image))
                write_atomic(folder / "depth" / f"{stem}.png", encode_depth(frame.depth_m))
                write_atomic(folder / "cameras" / f"{stem}.json", _text(camera))
                names.append(stem)
        write_atomic(folder / "none.txt", b"")
        write_atomic(folder / "test.txt", "".join(f"{stem}\n" for stem in names).encode())
        write_atomic(folder / "origins.json", _text([_described(*pair) for pair in zip(row.samples, copies, strict=True)]))
        text = _DESCRIPTION.format(title=row.title, near=RANGE_M[0], far=RANGE_M[1])
        write_atomic(folder / "dataset.toml", text.encode())
    return len(names)


def digest_of(folder: Path) -> str:
    """SHA-256 of what is measured on: names, pixels of images and depth, cameras. Raises BuildError where one is damaged."""
    parts: list[bytes] = []
    for path in sorted(one for part in ("images", "depth", "cameras") for one in (folder / part).iterdir()):
        content = path.read_bytes()
        if path.suffix == ".png":
            content = np.ascontiguousarray(_decoded(content, str(path))).tobytes()
        parts += [path.relative_to(folder).as_posix().encode(), sha256_bytes(content).encode()]
    return sha256_bytes(b"\n".join(parts))


def _image(copy: OriginCopy, name: str) -> Array:
    found = _decoded(copy.read(name), name)
    if found.ndim != 3 or found.dtype != np.uint8:
        raise BuildError(f"{name} of {copy.path} should be a colour image of 8 bits; found {found.shape} of {found.dtype}")
    return np.ascontiguousarray(found[..., 2::-1])


def _stored(copy: OriginCopy, name: str) -> Array:
    """(H, W) as it is stored: uint16 of a PNG, or the only array of an .npz."""
    content = copy.read(name)
    try:
        if name.endswith(".npz"):
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                found = np.asarray(file[file.files[0]])
        else:
            found = _decoded(content, name)
    except (ValueError, OSError, KeyError, IndexError) as exc:
        raise BuildError(f"{name} of {copy.path} cannot be read ({exc}). Copy the repository again") from exc
    if found.ndim != 2:
        raise BuildError(f"{name} of {copy.path} should be depth, one value a pixel; found {found.shape}. Copy it again")
    return found


def _decoded(content: bytes, name: str) -> Array:
    try:
        found: Array = decode(content, cv2.IMREAD_UNCHANGED, name=name)
    except FrameError as exc:
        raise BuildError(f"{str(exc).rstrip('.')}. Copy it again") from exc
    return found


def _described(sample: Sample, copy: OriginCopy) -> dict[str, object]:
    return {
        "address": sample.origin.address,
        "commit": copy.commit,
        "device": sample.device,
        "image": sample.image,
        "depth": sample.depth,
    }


def _text(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
