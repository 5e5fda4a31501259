"""Optimisation of one model: a step, its state, and nothing else. Knows nothing about files, evaluation or screens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch._functorch.config as functorch
from torch import Tensor, nn

from mtl.checkpoint import CheckpointError
from mtl.datasets.frame import Batch
from mtl.distill.distillation import Distillation
from mtl.ema import Ema
from mtl.losses import MultiTaskLoss
from mtl.machine import computes_in_bf16
from mtl.microbatches import on_device, part_factors, split
from mtl.models import MultiTaskModel
from mtl.norms import norm_statistics, train_with
from mtl.optimizer import make_optimizer
from mtl.parallel import ALONE, Parallel
from mtl.schedule import ends_pass, learning_rate, passes_at
from mtl.settings import RunSettings
from mtl.source_statistics import SourceStatistics
from mtl.weighting import Weighting, gradient_cosines, tapped

__all__ = ["StepReport", "Training"]

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step showed.

    Attributes:
        total: the weighted sum of the losses, as the weighting reports it.
        losses: of each task, over all processes.
        rate: learning rate.
        gradient_norm: before clipping; NaN where the losses were not finite.
        weights: of each task's loss in the shared layers.
        cosines: between the tasks' gradients on what they share, when this step sampled them.
        features: the loss of features against their teacher's, of this process; NaN without such a teacher.
    """

    total: float
    losses: dict[str, float]
    rate: float
    gradient_norm: float
    weights: dict[str, float] = field(default_factory=dict)
    cosines: dict[tuple[str, str], float] = field(default_factory=dict)
    features: float = math.nan

    @property
    def finite(self) -> bool:
        """Whether the step was applied."""
        return math.isfinite(self.gradient_norm)


class Training:
    """A model being trained, with everything that a resumed run needs.

    In a run of several processes every one advances with its own part of each batch, and all have the same weights.

    Attributes:
        model: the weights that are optimised.
        ema: the averaged weights that are evaluated and exported.
        step: number of steps taken.
        statistics: what the batch norms of the averaged weights remember of each source, with `optimizer.batch_norm`
            "per_source"; else None.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        loss: MultiTaskLoss,
        weighting: Weighting,
        settings: RunSettings,
        *,
        device: torch.device = _CPU,
        parallel: Parallel = ALONE,
        distillation: Distillation | None = None,
    ) -> None:
        self._settings, self._device, self._parallel = settings, device, parallel
        self._bf16 = computes_in_bf16(settings.loop.precision, device)
        model = model.to(device)
        if settings.loop.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = train_with(model, settings.optimizer.batch_norm, parallel=parallel, device=device)
        self.loss = loss.to(device)
        self.weighting = weighting
        self._distillation = distillation.prepared(device) if distillation is not None else None
        self._trust = {name: one.weights for name, one in settings.data.sources.items() if one.weights}
        self.ema = Ema(self.model, decay=settings.ema.decay)
        apart = settings.optimizer.batch_norm == "per_source"
        self.statistics = SourceStatistics(self.ema.model) if apart else None
        self._own_statistics = SourceStatistics(self.model) if apart else None
        learnt = chain(self.model.parameters(), self._distillation.parameters() if self._distillation is not None else ())
        self.optimizer = make_optimizer(learnt, settings.optimizer, never_decayed=weighting.parameters())
        self.step = 0
        self._features, self._from_features = self.model.features, self.model.from_features
        if settings.loop.compile:
            functorch.donated_buffer = False  # gradients of several tasks walk back through the same graph
            self._features, self._from_features = torch.compile(self._features), torch.compile(self._from_features)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._statistics = norm_statistics(self.model)
        self._before = [torch.empty_like(value) for value in self._statistics]

    def advance(self, batch: Batch) -> StepReport:
        """Take one step. A step whose losses or gradient are not finite changes nothing but counts.

        Args:
            batch: this process's part of it.
        """
        settings, parallel = self._settings, self._parallel
        rate = learning_rate(
            self.step, steps=settings.steps, settings=settings.optimizer, passes=passes_at(settings, self.step)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_step_seed(settings.seed, self.step, parallel.rank))
        if self._own_statistics is not None and self.statistics is not None:
            self._own_statistics.use(batch.source)
            self.statistics.use(batch.source)
        _copy(self._before, self._statistics)
        self.optimizer.zero_grad(set_to_none=True)
        report = self._gradients(on_device(self._trusted(batch), self._device), rate)
        if report.finite:
            parallel.average([*(p.grad for p in self._parameters if p.grad is not None), *self._statistics])
            norm = float(nn.utils.clip_grad_norm_(self._parameters, settings.optimizer.clip or math.inf))
            report = replace(report, gradient_norm=norm)
        if report.finite:
            with self.weighting.leaving_absent(report.losses, self.optimizer):
                self.optimizer.step()
            self.ema.update(self.model, self.step)
        else:
            _copy(self._statistics, self._before)
        self._tell_weighting(batch, report)
        self.step += 1
        return report

    def _gradients(self, batch: Batch, rate: float) -> StepReport:
        """Forward and backward through every part of the batch; gradients of this process alone are left in `.grad`.

        Tasks that no frame of the batch has truth of, in any process, and no teacher answers, have no loss.
        """
        parts = split(batch, self._settings.loop.accumulate)
        labelled, factors = self._truth(parts)
        taught = self._distillation.taught(batch.source) if self._distillation is not None else frozenset()
        present = tuple(task for task in self.loss.tasks if task in labelled or task in taught)
        pulls = self._distillation is not None and self._distillation.pulls
        if not present and not pulls:
            return StepReport(0.0, {}, rate, 0.0)
        sums = torch.zeros(len(present))
        total, weights, cosines = 0.0, dict.fromkeys(present, 0.0), {}
        pulled = 0.0 if pulls else math.nan
        sampled = self._settings.loop.cosine_every
        for number, part in enumerate(parts):
            pixels = _pixels(part)
            losses, features, shared = self._forward(part, pixels, labelled, None if factors is None else factors[number])
            if pulls:
                assert self._distillation is not None
                pulled += self._distillation.pull(pixels, shared, share=1 / len(parts)) / len(parts)
            if not present:
                torch.stack([feature.sum() for feature in features]).sum().mul(0.0).backward()  # the pull alone
                continue
            values = self._parallel.mean(torch.stack(list(losses.values())).detach().float()).cpu()
            sums += values / len(parts)
            if not bool(torch.isfinite(values).all()):
                return StepReport(math.nan, _named(losses, values), rate, math.nan)
            if number == 0 and sampled and self.step % sampled == 0 and len(losses) > 1:
                cosines = gradient_cosines(losses, features)
            report = self.weighting.backward(losses, features, share=1 / len(parts))
            total += report.total / len(parts)
            weights = {task: value + report.weights[task] / len(parts) for task, value in weights.items()}
        return StepReport(total, _named(present, sums), rate, 0.0, weights, cosines, pulled)

    def _forward(
        self, part: Batch, pixels: Tensor, labelled: Sequence[str], factors: Tensor | None
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The losses of the tasks, the features that tasks read, tapped, and the same before that.

        Args:
            pixels: of the part, see `_pixels`: the same tensor for all teachers, so that one of them runs once.
            labelled: the tasks that the whole batch has truth of.
            factors: what their losses are multiplied by.
        """
        images = self.model.normalise(pixels)
        if not self._settings.loop.channels_last:
            images = images.contiguous()
        size = (int(images.shape[2]), int(images.shape[3]))
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            shared = tuple(self._features(images))
            features = tapped(shared)
            predicted = self._from_features(features, size, image=images)
        found: dict[str, Tensor] = self.loss(predicted, part.targets, part.phase)
        losses = {task: found[task] if task in found else self.loss.nothing(task, predicted[task]) for task in labelled}
        if factors is not None:
            losses = {task: value * factor for (task, value), factor in zip(losses.items(), factors, strict=True)}
        if part.source in self._trust:
            trust = self._trust[part.source]
            losses = {task: value * trust.get(task, 1.0) for task, value in losses.items()}
        if self._distillation is not None and self._distillation.taught(part.source):
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
                taught = self._distillation.distances(pixels, predicted, self._settings.losses)
            every = {task: [one[task] for one in (losses, taught) if task in one] for task in self.loss.tasks}
            losses = {task: terms[0] + terms[1] if len(terms) > 1 else terms[0] for task, terms in every.items() if terms}
        return losses, features, shared

    def _trusted(self, batch: Batch) -> Batch:
        """The batch without those truths of its source whose weight is 0."""
        trust = self._trust.get(batch.source, {})
        if all(trust.get(task, 1.0) > 0 for task in batch.targets):
            return batch
        return replace(batch, targets={task: one for task, one in batch.targets.items() if trust.get(task, 1.0) > 0})

    def _truth(self, parts: Sequence[Batch]) -> tuple[tuple[str, ...], list[Tensor] | None]:
        """The tasks that the batch has targets of in any process, and what the losses of each part count for.

        The factors are (tasks present,) each; None where the only part is the whole batch.
        """
        here = [task in parts[0].targets for task in self.loss.tasks]
        number = len(parts) * self._parallel.world
        if number == 1:
            return tuple(task for task, known in zip(self.loss.tasks, here, strict=True) if known), None
        counts = [self.loss.counts(part.targets, device=self._device) for part in parts]
        sums = self._parallel.sum(torch.stack([torch.stack(counts).sum(dim=0), counts[0].new_tensor(here)]))
        known = sums[1] > 0
        factors = [part_factors(own[known], sums[0][known], parts=number) for own in counts]
        return tuple(task for task, one in zip(self.loss.tasks, known.tolist(), strict=True) if one), factors

    def _tell_weighting(self, batch: Batch, report: StepReport) -> None:
        losses = report.losses
        if self.weighting.needs_losses_after_step and report.finite:
            _copy(self._before, self._statistics)
            torch.manual_seed(_step_seed(self._settings.seed, self.step, self._parallel.rank))
            with torch.no_grad():
                whole = on_device(self._trusted(batch), self._device)
                labelled, factors = self._truth([whole])
                again, _, _ = self._forward(whole, _pixels(whole), labelled, None if factors is None else factors[0])
            _copy(self._statistics, self._before)
            losses = {task: float(value) for task, value in again.items()}
        self.weighting.after_step(losses, ends_pass(self._settings, self.step))

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and plain containers; the same in every process."""
        apart = (self._own_statistics, self.statistics)
        sources = {"sources": [one.state() for one in apart if one is not None]} if self.statistics is not None else {}
        dropped = {"distill": dict(self._distillation.state_dict())} if self._distillation is not None else {}
        return {
            **sources,
            **dropped,
            "step": self.step,
            "model": dict(self.model.state_dict()),
            "ema": dict(self.ema.model.state_dict()),
            "weighting": dict(self.weighting.state_dict()),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken. Raises CheckpointError when it does not fit this model."""
        try:
            self.model.load_state_dict(state["model"])
            self.ema.model.load_state_dict(state["ema"])
            self.weighting.load_state_dict(state.get("weighting", {}))  # absent in the first runs, whose weights were fixed
            self.optimizer.load_state_dict(state["optimizer"])
            for one, kept in zip((self._own_statistics, self.statistics), state.get("sources", ()), strict=False):
                if one is not None:
                    one.restore(kept)
            if self._distillation is not None:
                self._distillation.load_state_dict(state["distill"])
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as exc:
            line = str(exc).strip().splitlines()[0]
            raise CheckpointError(f"the checkpoint does not fit this configuration: {line}. Train again") from exc


def _copy(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if into:
        torch._foreach_copy_(list(into), list(values))


def _named(tasks: Mapping[str, Any] | Sequence[str], values: Tensor) -> dict[str, float]:
    return dict(zip(tasks, values.tolist(), strict=True))


def _pixels(batch: Batch) -> Tensor:
    """(B, 3, H, W) float RGB in 0..255."""
    return batch.image.permute(0, 3, 1, 2).float()


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of what a network draws in a step: of its number alone, so that a resumed run draws the same."""
    return int(np.random.SeedSequence([seed, 4, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
