"""The kind "class" in training: cross-entropy of one class per frame.

A truth is the class index. A target is (B,) int64, -1 where a frame's class is not known. An answer is logits (B, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import ClassScores, ClassSpec, Placement, kind_of
from mtl.geometry import Intrinsics
from mtl.tasks.boxes import changed_classes, finished
from mtl.tasks.head import Column, Head, LossTerms

if TYPE_CHECKING:
    from mtl.datasets.augment import Sampling
    from mtl.datasets.frame import FrameSource
    from mtl.models.class_network import ClassNetwork
    from mtl.settings import LossSettings

__all__ = ["ClassHead", "frame_weights"]

Array = np.ndarray

_UNKNOWN = -1
_FRAMES = 400
_RAREST = 1e-3


class ClassHead(Head[ClassSpec, ClassScores]):
    """See the module."""

    kind = "class"
    sparse = True
    columns: ClassVar[tuple[Column, ...]] = (
        Column("top1", "top-1", 4, score=1.0, curve=True, words="top-1 accuracy"),
        Column("top5", "top-5", 4),
    )

    def build(self, spec: ClassSpec, channels: Sequence[int], strides: Sequence[int], *, width: int) -> ClassNetwork:
        from mtl.models.class_network import ClassNetwork  # mtl.models needs mtl.tasks

        return ClassNetwork(spec.name, channels, classes=len(spec.classes))

    def exported(self, spec: ClassSpec, answer: Tensor, placement: Placement) -> tuple[Tensor, ...]:
        return (answer,)

    def imported(self, spec: ClassSpec, outputs: Sequence[Tensor]) -> Tensor:
        (found,) = outputs
        return found

    def difference(self, spec: ClassSpec, before: ClassSpec) -> str | None:
        return changed_classes(spec.classes, before.classes)

    def view(self, spec: ClassSpec, truth: int, sampling: Sampling) -> int:
        return truth

    def pasted(self, spec: ClassSpec, truth: int | None, other: int | None, mask: Array) -> int | None:
        """The class of the frame that most pixels are of, known or not: two halves of rooms are no third kind of room."""
        return other if mask.mean() > 0.5 else truth

    def collate(self, spec: ClassSpec, truths: Sequence[int | None]) -> Tensor:
        return torch.tensor([_UNKNOWN if truth is None else truth for truth in truths], dtype=torch.int64)

    def balance(self, spec: ClassSpec, frames: Callable[[], FrameSource], settings: LossSettings) -> Tensor | None:
        return frame_weights(spec, frames()) if settings.class_weights else None

    def loss(self, spec: ClassSpec, answer: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
        if not bool((target != _UNKNOWN).any()):
            return self.nothing(answer)
        smoothing = terms.settings.label_smoothing
        return F.cross_entropy(answer, target, weight=terms.balance, ignore_index=_UNKNOWN, label_smoothing=smoothing)

    def count(self, spec: ClassSpec, target: Tensor, terms: LossTerms) -> Tensor:
        known = target[target != _UNKNOWN]
        each = torch.ones(len(spec.classes), device=target.device) if terms.balance is None else terms.balance
        return each[known].sum(dtype=torch.float64)

    def distance(self, spec: ClassSpec, found: Tensor, wanted: Tensor, settings: LossSettings) -> Tensor:
        """Kullback-Leibler divergence (Hinton et al. 2015, arXiv:1503.02531)."""
        return self.softened(spec, found, wanted, settings, temperature=1.0)

    def softened(self, spec: ClassSpec, found: Tensor, wanted: Tensor, settings: LossSettings, *, temperature: float) -> Tensor:
        """Times the square of the temperature, as there, so that gradients stay as large as those of labels."""
        one, other = (F.log_softmax(logits / temperature, dim=1) for logits in (found, wanted))
        return F.kl_div(one, other, log_target=True, reduction="none").sum(dim=1).mean() * temperature**2

    def nothing(self, answer: Tensor) -> Tensor:
        return answer.sum() * 0.0

    def result(
        self, spec: ClassSpec, answer: Tensor, size: tuple[int, int], *, seen_by: Intrinsics, camera: Intrinsics
    ) -> ClassScores:
        (name,) = kind_of(spec).outputs(spec, size, "host")
        found: ClassScores = finished(spec, {name: answer.float().numpy()}, size)
        return found

    def as_truth(self, result: ClassScores) -> int:
        return result.index

    def paint(self, spec: ClassSpec, image: Array, truth: int) -> Array:
        if truth == _UNKNOWN:
            return np.zeros_like(image)
        kind = kind_of(spec)
        return np.asarray(kind.draw(spec, image, kind.of_truth(spec, truth)))


def frame_weights(spec: ClassSpec, frames: FrameSource) -> Tensor:
    """(classes,) float32: the inverse root of each class's share of the frames, 1 for a frame on average.

    Of all frames where they need not be opened to be counted, else of about 400. A share below 0.001 counts as that; where all
    frames are counted, one below a tenth of an even share if that is less. Raises BuildError: no frame has a class.
    """
    # mtl.datasets needs mtl.tasks
    from mtl.datasets.frame import listed_classes

    counts = np.zeros(len(spec.classes), np.int64)
    listed, rarest = listed_classes(frames, spec.name), _RAREST
    if listed is not None:
        rarest = min(_RAREST, 0.1 / len(counts))
        counts += np.bincount(listed[listed >= 0], minlength=len(counts))
    else:
        for index in range(0, len(frames), max(1, len(frames) // _FRAMES)):
            truth = frames[index].truths.get(spec.name)
            if truth is not None:
                counts[truth] += 1
    if not counts.any():
        raise BuildError(
            f"losses.class_weights: no training frame has a {spec.name}. Label some, or leave it out of model.tasks"
        )
    share = counts / counts.sum()
    weights = 1.0 / np.sqrt(np.maximum(share, rarest))
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)
