"""What an engine answers to an image and to its mirror image, turned back. Knows nothing about trust or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edge_mtl.engine import Engine
from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import DepthMap, NormalMap, Result
from mtl.geometry import mirror_intrinsics

__all__ = ["Answer", "answer_of"]

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The results for one image.

    Attributes:
        results: by task, maps of the image's size.
        mirrored: depth and normals by task as they were answered to the mirrored image, turned back; empty where nobody asked.
        confidence: (H, W) float32 in 0..1 of the first label map; None where the bundle has none, or no confidence of it.
        consistency: (H, W) float32 degrees between normals and depth; None where the bundle lacks one of them.
    """

    results: Mapping[str, Result]
    mirrored: Mapping[str, Result] = field(default_factory=dict)
    confidence: Array | None = None
    consistency: Array | None = None


def answer_of(engine: Engine, image: Array, camera: Intrinsics | None, *, mirrored: bool) -> Answer:
    """Predict an image, and its mirror image where `mirrored`.

    Args:
        engine: with maps of the frame's size.
        image: (H, W, 3) uint8 RGB.
        camera: in pixels of the image; None where it is not known.
    Raises:
        FrameError: the image cannot be used.
        InferenceError: the runtime failed.
    """
    prediction = engine.predict(image, intrinsics=camera)
    if not mirrored:
        return Answer(prediction.results)
    turned = None if camera is None else mirror_intrinsics(camera.as_tuple(), width=image.shape[1])
    other = engine.predict(np.ascontiguousarray(image[:, ::-1]), intrinsics=turned)
    back = {name: made for name, result in other.results.items() if (made := _turned(result)) is not None}
    return Answer(prediction.results, back, prediction.confidence, prediction.consistency)


def _turned(result: Result) -> Result | None:
    """The result of a mirrored image as one of the image; None for kinds that are not compared."""
    if isinstance(result, DepthMap):
        return DepthMap(result.spec, result.depth_m[:, ::-1])
    if isinstance(result, NormalMap):
        return NormalMap(result.spec, result.normals[:, ::-1] * np.array([-1, 1, 1], np.float32))
    return None
