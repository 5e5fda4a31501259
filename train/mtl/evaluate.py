"""Predictions at full size in the true camera, and their metrics over a source of frames.

Knows models (as a function from images to maps at the network's stride), frames and metrics; knows nothing about
training or files. Post-processing is the definition in docs/decisions: bilinear with half-pixel centres, then argmax or
unit length, then from the canonical camera to the frame's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_mtl.evaluation.metrics import MultiTaskMetrics
from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION
from mtl.datasets.augment import apply_view, whole_view
from mtl.datasets.frame import FrameSource
from mtl.geometry import Intrinsics, canonical_intrinsics, from_canonical
from mtl.models import MultiTaskModel

if TYPE_CHECKING:
    from mtl.qat.network import QatNetwork

__all__ = ["Judged", "Predictor", "evaluate", "judge", "model_predictor", "score"]

Predictor = Callable[[np.ndarray], Mapping[str, Tensor]]
"""(B, H, W, 3) uint8 images -> maps at the network's stride, canonical: logits, metres, raw normals."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame at network size with its truth and its prediction, both in the frame's own camera."""

    image: np.ndarray
    truth: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    intrinsics: Intrinsics


def model_predictor(model: MultiTaskModel | QatNetwork, *, bf16: bool = False) -> Predictor:
    """A model in evaluation mode as a predictor; it runs where its weights are and answers on the CPU."""
    device = next(model.parameters()).device

    def predict(images: np.ndarray) -> Mapping[str, Tensor]:
        was_training = model.training
        model.eval()
        try:
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
            with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                return {task: value.cpu() for task, value in model(model.normalise(pixels)).items()}
        finally:
            model.train(was_training)

    return predict


def judge(
    predict: Predictor, frames: FrameSource, *, size: tuple[int, int], batch: int = 4, canonical: bool = True
) -> Iterator[Judged]:
    """Predict every frame at a network size, whole and upright.

    Args:
        canonical: whether `predict` answers for the canonical camera; false for the frames' own, as the study did.
    """
    height, width = size
    for first in range(0, len(frames), batch):
        views = []
        for index in range(first, min(first + batch, len(frames))):
            frame = frames[index]
            view = whole_view(frame.label.shape, aspect=width / height)
            views.append(apply_view(frame, view, size=size, canonical=False))
        maps = predict(np.stack([view[0] for view in views]))
        for number, (image, label, depth, normals, intrinsics) in enumerate(views):
            own = {task: value[number : number + 1] for task, value in maps.items()}
            truth = {SEGMENTATION: label, DEPTH: depth, NORMALS: normals}
            seen_by = canonical_intrinsics(height, width) if canonical else intrinsics
            yield Judged(image, truth, _finish(own, size, intrinsics, seen_by), intrinsics)


def evaluate(
    predict: Predictor,
    frames: FrameSource,
    *,
    size: tuple[int, int],
    tasks: tuple[str, ...],
    batch: int = 4,
    canonical: bool = True,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Metrics of `edge_mtl.evaluation` over all frames at full network resolution, bars and void excluded; see `judge`."""
    metrics = MultiTaskMetrics(tasks)
    for number, judged in enumerate(judge(predict, frames, size=size, batch=batch, canonical=canonical)):
        metrics.update(judged.predicted, judged.truth)
        if progress is not None:
            progress(number + 1)
    return metrics.compute()


def score(metrics: Mapping[str, float]) -> float:
    """One number to choose checkpoints by, higher is better: mIoU - relative depth error + normals within 22.5 degrees."""
    terms = {"miou": 1.0, "depth_rel": -1.0, "normal_within_22_5": 1.0}
    values = [sign * metrics[name] for name, sign in terms.items() if name in metrics and np.isfinite(metrics[name])]
    return float(sum(values)) if values else float("-inf")


def _finish(
    maps: Mapping[str, Tensor], size: tuple[int, int], intrinsics: Intrinsics, seen_by: Intrinsics
) -> dict[str, np.ndarray]:
    """Maps for the camera `seen_by` -> labels, metres and unit normals in the camera `intrinsics`."""
    full = {
        task: value.float() if tuple(value.shape[2:]) == size else F.interpolate(value.float(), size=size, mode="bilinear")
        for task, value in maps.items()
    }
    result: dict[str, np.ndarray] = {}
    if SEGMENTATION in full:
        result[SEGMENTATION] = full[SEGMENTATION].argmax(dim=1)[0].to(torch.uint8).numpy()
    height, width = size
    depth = full[DEPTH][0, 0].numpy() if DEPTH in full else np.zeros(size, np.float32)
    normals = full[NORMALS][0].permute(1, 2, 0).numpy() if NORMALS in full else np.zeros((height, width, 3), np.float32)
    true_depth, true_normals = from_canonical(depth, normals, intrinsics, seen_by)
    if DEPTH in full:
        result[DEPTH] = true_depth
    if NORMALS in full:
        result[NORMALS] = true_normals
    return result
