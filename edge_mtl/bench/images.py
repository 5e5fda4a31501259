"""Images for a benchmark's card: frames with the maps of the fastest engine."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_mtl.bench.targets import BenchmarkTarget, EngineTarget
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.sources.samples import photograph

__all__ = ["draw_predictions"]

_QUALITY = 82


def draw_predictions(fastest_first: Sequence[BenchmarkTarget], count: int) -> list[tuple[str, bytes]]:
    """(title, JPEG) of frames with the maps of the fastest Engine: labelled ones, and a photograph from scikit-image."""
    subject = next((entry for entry in fastest_first if isinstance(entry, EngineTarget)), None)
    if subject is None:
        return []
    frames = [(f"labelled frame {item.name}", item.frame, item.intrinsics) for item in evaluation_frames(subject.bundle)]
    # Spread over the set: neighbours in a folder resemble each other.
    chosen = [frames[place] for place in sorted({*np.linspace(0, len(frames) - 1, count).astype(int)})] if frames else []
    if (real := photograph(subject.bundle.manifest.tasks)) is not None:
        chosen[-1:] = [("a photograph, from scikit-image (Middlebury 2014)", real.pixels, real.intrinsics)]
    found = []
    for title, frame, intrinsics in chosen:
        prediction = subject.engine.predict(frame, intrinsics=intrinsics)
        image = prediction.panel(frame)
        fine, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if fine:
            found.append((f"{title}: {subject.name}", bytes(encoded.tobytes())))
    return found
