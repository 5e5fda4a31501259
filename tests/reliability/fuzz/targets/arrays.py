"""Arrays and depth maps: NPY and PNG of known distances, of data sets of one's own and of NYUv2, and EXR."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.image.encoding import DEPTH_UNIT, with_text
from edge_mtl.metric_scale.depth_files import read_depth_file
from tests.bundles import make_image
from tests.reliability.fuzz.formats import damaged_image, damaged_npy
from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.training import training_modules
from tests.reliability.fuzz.values import Mutation

__all__ = ["TARGETS"]

_SIZE = (12, 16)


def _open(suffix: str) -> Callable[[Path], Callable[[bytes], None]]:
    def opened(folder: Path) -> Callable[[bytes], None]:
        training_modules()
        from mtl.datasets.folder.reading import stored_depth, stored_mask, stored_normals
        from mtl.datasets.nyuv2.arrays import depth_array, image_array, label_array, load_array, normal_array

        path = folder / f"0001{suffix}"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            attempts: list[Callable[[], object]] = [lambda: stored_depth(path, scale_m=0.001), lambda: stored_normals(path)]
            if suffix != ".exr":
                attempts += [partial(read_depth_file, folder, "0001", unit_m=unit_m) for unit_m in (None, 0.0002)]
            if suffix == ".npy":
                checks = (depth_array, image_array, label_array, normal_array)
                attempts += [partial(_checked, load_array, path, check) for check in checks]
            if suffix == ".png":
                attempts.append(lambda: stored_mask(path))
            for attempt in attempts:
                with contextlib.suppress(EdgeMtlError):
                    attempt()

        return read

    return opened


def _checked(load: Callable[[Path], np.ndarray], path: Path, check: Callable[..., np.ndarray]) -> np.ndarray:
    return check(load(path), where="the array")


def _npy_seeds(folder: Path) -> Sequence[bytes]:
    depth, image = (
        np.linspace(0.5, 4.0, _SIZE[0] * _SIZE[1], dtype=np.float32).reshape(_SIZE),
        make_image(1, height=12, width=16),
    )
    normals = np.zeros((*_SIZE, 3), np.float32)
    normals[..., 2] = -1
    made = (
        depth,
        depth.astype(np.float16),
        depth[..., None],
        depth.astype(">f8"),
        image,
        image / 255,
        image[..., 0].astype(int) % 13,
        normals,
    )
    found = []
    for array in made:
        stream = io.BytesIO()
        np.save(stream, array)
        found.append(stream.getvalue())
    archive = io.BytesIO()
    np.savez_compressed(archive, depth=depth)
    return [*found, archive.getvalue(), np.asfortranarray(depth).dumps()]


def _png_seeds(folder: Path) -> Sequence[bytes]:
    depth = np.linspace(500, 4000, _SIZE[0] * _SIZE[1]).reshape(_SIZE).astype(np.uint16)
    payload = bytes(cv2.imencode(".png", depth)[1].tobytes())
    normals = bytes(cv2.imencode(".png", make_image(2, height=12, width=16))[1].tobytes())
    return [payload, *(with_text(payload, DEPTH_UNIT, text) for text in ("0.0002", "1e999")), normals]


def _exr_seeds(folder: Path) -> Sequence[bytes]:
    import OpenEXR

    depth, found = np.linspace(0.5, 4.0, _SIZE[0] * _SIZE[1], dtype=np.float32).reshape(_SIZE), []
    for name, compression in (("Z", OpenEXR.ZIP_COMPRESSION), ("Y", OpenEXR.NO_COMPRESSION), ("R", OpenEXR.PIZ_COMPRESSION)):
        path = folder / f"{name}.exr"
        header = {"compression": compression, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {name: depth if name != "R" else depth.astype(np.float16)}) as file:
            file.write(str(path))
        found.append(path.read_bytes())
    return found


def _target(suffix: str, seeds: Callable[[Path], Sequence[bytes]], mutate: Mutation, *, native: bool) -> Target:
    return Target(f"arrays-{suffix[1:]}", "fuzz-media", _open(suffix), seeds, mutate, native=native)


TARGETS = (
    _target(".npy", _npy_seeds, damaged_npy, native=False),
    _target(".png", _png_seeds, damaged_image, native=True),
)
with contextlib.suppress(ImportError):
    import OpenEXR  # noqa: F401

    TARGETS = (*TARGETS, _target(".exr", _exr_seeds, mutate_bytes, native=True))
