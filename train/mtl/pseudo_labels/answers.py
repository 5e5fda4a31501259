"""What an engine answers to an image and to its mirror image, turned back. Knows nothing about trust or files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
        results: by task, maps of the image's size; at least of those that were asked for.
        mirrored: depth and normals by task as they were answered to the mirrored image, turned back; empty where nobody asked.
        confidence: (H, W) float32 in 0..1 of the first label map; None where the bundle has none, or no confidence of it.
        consistency: (H, W) float32 degrees between normals and depth; None where the bundle lacks one of them, or normals
            are not wanted.
    """

    results: Mapping[str, Result]
    mirrored: Mapping[str, Result] = field(default_factory=dict)
    confidence: Array | None = None
    consistency: Array | None = None


def answer_of(
    engine: Engine, image: Array, camera: Intrinsics | None, *, tasks: Collection[str], mirrored: Collection[str]
) -> Answer:
    """Predict an image; where tasks need the answer to its mirror image, that too, and what else depth and normals need.

    Args:
        engine: with maps of the frame's size.
        image: (H, W, 3) uint8 RGB.
        camera: in pixels of the image; None where it is not known.
        tasks: those that are wanted.
        mirrored: those of depth and normals among them that are wanted of the mirrored image.
    Raises:
        FrameError: the image cannot be used.
        InferenceError: the runtime failed.
    """
    if not mirrored:
        return Answer(engine.predict(image, intrinsics=camera, tasks=tasks).results)
    prediction = engine.predict(image, intrinsics=camera, finish="lazily")
    turned = None if camera is None else mirror_intrinsics(camera.as_tuple(), width=image.shape[1])
    other = engine.predict(np.ascontiguousarray(image[:, ::-1]), intrinsics=turned, tasks=mirrored)
    back = {name: made for name, result in other.results.items() if (made := _turned(result)) is not None}
    consistency = prediction.consistency if any(isinstance(result, NormalMap) for result in back.values()) else None
    return Answer(prediction.results, back, prediction.confidence, consistency)


def _turned(result: Result) -> Result | None:
    """The result of a mirrored image as one of the image; None for kinds that are not compared."""
    if isinstance(result, DepthMap):
        return DepthMap(result.spec, result.depth_m[:, ::-1])
    if isinstance(result, NormalMap):
        return NormalMap(result.spec, result.normals[:, ::-1] * np.array([-1, 1, 1], np.float32))
    return None
