"""Folders of images to label, and a bundle that labels them without a surprise: its answers are painted on the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mtl.datasets.folder.camera import SharedCamera
from mtl.pseudo_labels.dataset_file import Stated

from edge_mtl.bundle import Bundle
from edge_mtl.image.encoding import encode_image
from tests.bundles import HEIGHT, WIDTH, canonical_intrinsics, make_bundle, paint, transparent_model

__all__ = ["STATED", "painted", "painted_bundle", "write_images"]

Array = np.ndarray

STATED = Stated("painted rooms", "made for this test", False, SharedCamera(canonical_intrinsics(), (HEIGHT, WIDTH)))
"""The camera is the network's own: answers are what is painted."""


def painted(depth_m: float, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Array:
    """(H, W, 3) uint8: a wall that faces the camera at a distance in 0..5 m, which also decides its class."""
    depth = np.full(size, depth_m, np.float32)
    normals = np.zeros((*size, 3), np.float32)
    normals[..., 2] = -1
    return paint(depth, normals)


def painted_bundle(path: Path) -> Bundle:
    """Answers what `tests.bundles.paint` painted."""

    def image(seed: int, *, height: int, width: int) -> Array:
        return painted(2.0 + seed % 10 * 0.01, size=(height, width))

    plain = transparent_model(placement="graph")
    return make_bundle(path, deploy=transparent_model(), plain=plain, whole=True, image=image)


def write_images(root: Path, *stems: str, depth_m: float = 2.0) -> Path:
    """A folder with an image of each stem, each of a wall that is 1 cm further away than the one before."""
    for index, stem in enumerate(stems):
        path = root / "images" / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_image(painted(depth_m + 0.01 * index)))
    return root
