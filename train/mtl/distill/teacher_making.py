"""From a network of others to the graph of a teacher: fine-tuned on a data set's training frames, measured, written with notes.

The network stays as it is but for the weights: batch norms keep their statistics, and what is written is the moving average.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.console import Console
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.tasks import LabelsSpec
from mtl.datasets.data_set import DataSet
from mtl.datasets.loader import BatchPlan, batches
from mtl.datasets.sources import data_set
from mtl.distill.deeplab import DeepLab
from mtl.distill.graph_notes import TeacherNotes, with_notes
from mtl.ema import Ema
from mtl.evaluate import evaluate
from mtl.loop import StepReport
from mtl.machine import computes_in_bf16
from mtl.models.export import graph_of
from mtl.progress import StepProgress
from mtl.settings import DataSettings, RunSettings, Stage
from mtl.tasks.labels import class_weights, labels_loss

__all__ = ["FineTuning", "Labelled", "fine_tune", "labelled_frames", "measure", "write_teacher"]

_WARM_UP = 0.2
"""Share of the steps in which the rate rises."""

_BODY = 0.5
"""Rate of the backbone, of that of the head."""

_CLIP = 5.0
_DECAY = 0.01
_AVERAGE = 0.99


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How a teacher is fine-tuned.

    Attributes:
        steps: of optimisation, 0 for none.
        lr: largest rate of the head; that of the backbone is half of it.
        batch: frames a step.
        size: (H, W) of the input, of training and of the graph.
    """

    steps: int = 400
    lr: float = 3e-4
    batch: int = 8
    size: tuple[int, int] = (192, 256)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The data set of a configuration that labels what the teacher answers.

    Attributes:
        spec: the task.
    """

    set: DataSet
    data: DataSettings
    spec: LabelsSpec


def labelled_frames(settings: RunSettings, classes: Sequence[str], *, source: str = "", root: Path | None = None) -> Labelled:
    """The data set that labels these classes.

    Args:
        source: of a mixture, which one; empty for those of `distill.sources`, where any are named.
        root: its folder, in place of that in the configuration.
    Raises:
        BuildError: none or several of them, or one whose validation frames are its test frames.
    """
    names = sorted(settings.data.sources) or [""]
    parts = dict(zip(names, data_set(settings.data).parts(settings.data), strict=True))
    wanted = (source,) if source else settings.distill.sources or tuple(names)
    found: dict[str, Labelled] = {}
    for name, (one, data) in parts.items():
        if name not in wanted:
            continue
        data = data if root is None else replace(data, root=str(root))
        specs = [spec for spec in one.tasks(data).values() if isinstance(spec, LabelsSpec)]
        fitting = next((spec for spec in specs if spec.classes == tuple(classes)), None)
        if fitting is not None:
            found[name] = Labelled(one, data, fitting)
    if len(found) != 1:
        advice = f"Name one of {', '.join(parts)} with --source" if settings.data.sources else "Give another configuration"
        raise BuildError(
            f"{len(found)} data sets of the configuration{f' named {source}' if source else ''} label the classes "
            f"{', '.join(classes[:3])} and so on ({', '.join(found) or 'none'}). {advice}"
        )
    (chosen,) = found.values()
    if chosen.set.validates_on_test(chosen.data):
        place = next((f"data.sources.{name}" for name in found if name), "data")
        raise BuildError(
            f"the validation frames of {chosen.set.title(chosen.data)} are its test frames, which a teacher must not be chosen "
            f"by. Set training frames aside: --{place}.validation_from_train 64"
        )
    return chosen


def fine_tune(net: DeepLab, labelled: Labelled, settings: RunSettings, tuning: FineTuning, *, console: Console) -> DeepLab:
    """Cross-entropy with class weights on augmented training frames; the moving average of the weights.

    AdamW with a rate that rises for a fifth of the steps and falls as a cosine; batch norms stay in evaluation.

    Raises:
        BuildError: the loss is not finite, or there are no frames.
    """
    spec, data = labelled.spec, labelled.data
    height, width = tuning.size
    request = labelled.set.train_frames(data, Stage(height=height, width=width, steps=tuning.steps, batch=tuning.batch))
    weights = class_weights(spec, request.open(workers=data.workers, progress=True))
    plan = BatchPlan(settings.seed, 0, tuning.size, tuning.batch, 0, settings.augment, canonical=data.canonical)
    head = [one for name, one in net.named_parameters() if not name.startswith("net.")]
    groups = [{"params": head, "lr": tuning.lr}, {"params": list(net.net.parameters()), "lr": tuning.lr * _BODY}]
    optimizer = torch.optim.AdamW(groups, weight_decay=_DECAY)
    rates = [group["lr"] for group in optimizer.param_groups]
    net = net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    average = Ema(net, decay=_AVERAGE)
    bf16 = computes_in_bf16(settings.loop.precision, torch.device("cpu"))
    made = batches(request, plan, first=0, last=tuning.steps, workers=settings.loop.loader_workers)
    torch.manual_seed(settings.seed)
    try:
        with StepProgress(console, steps=tuning.steps, done=0) as progress:
            began = time.monotonic()
            for step, batch in enumerate(made):
                factor = _rate(step, tuning.steps)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                target = batch.targets.get(spec.name)
                if target is None:
                    continue
                image = batch.image.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    answer = net(image)[0]
                answer = F.interpolate(answer, size=tuple(target.shape[1:]), mode="bilinear", align_corners=False)
                loss = labels_loss(answer, target.long(), weights=weights)
                if not bool(torch.isfinite(loss)):
                    raise BuildError("the loss is not finite. Fine-tune with a lower --lr")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = float(nn.utils.clip_grad_norm_(net.parameters(), _CLIP))
                optimizer.step()
                average.update(net, step)
                value = float(loss.detach())
                report = StepReport(value, {spec.name: value}, tuning.lr * factor, norm)
                now = time.monotonic()
                progress.show(report, images=tuning.batch, seconds=now - began, stage=f"{height}x{width}")
                began = now
    finally:
        made.close()
    tuned: DeepLab = average.model  # type: ignore[assignment]
    return tuned


def _rate(step: int, steps: int) -> float:
    """Of the largest rate, at step number `step`."""
    rise = max(1, round(_WARM_UP * steps))
    return min(1.0, (step + 1) / rise) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def measure(net: DeepLab, labelled: Labelled, size: tuple[int, int]) -> tuple[float, int]:
    """mIoU on the validation frames, which are no test frames, and how many those are."""
    frames = labelled.set.held_out_frames(labelled.data, "val").open(workers=labelled.data.workers, progress=True)
    spec = labelled.spec

    def predict(images: np.ndarray) -> Mapping[str, Any]:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            return {spec.name: net(pixels.contiguous(memory_format=torch.channels_last))[0]}

    found = evaluate(predict, frames, {spec.name: spec}, size=size, canonical=labelled.data.canonical)
    return found["miou" if "miou" in found else f"{spec.name}.miou"], len(frames)


def write_teacher(net: DeepLab, path: Path, spec: LabelsSpec, size: tuple[int, int], about: Mapping[str, Any]) -> None:
    """Write the graph of one frame with its notes, once ONNX Runtime answers as the network does.

    Raises:
        BuildError: it does not, or torch cannot export it.
        OSError: the disk is full, or the folder is not there.
    """
    placed = _Exported(net, spec.name)
    notes = TeacherNotes({spec.name: spec}, {spec.name: placed.output_names[0]}, placed.features, about)
    payload = graph_of(placed, placed.example(*size), path.name)
    write_atomic(path, with_notes(payload, notes, name=path.name))


class _Exported(nn.Module):
    """The network with names of outputs."""

    def __init__(self, net: DeepLab, task: str) -> None:
        super().__init__()
        self.net = net
        self.features = {stride: f"features_{stride}" for stride in net.strides}
        self.output_names = (task, *self.features.values())

    @staticmethod
    def example(height: int, width: int) -> Tensor:
        """A noise image."""
        draws = np.random.default_rng(0).integers(0, 256, (1, 3, height, width)).astype(np.float32)
        return torch.from_numpy(draws)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.net(image)
        return found
