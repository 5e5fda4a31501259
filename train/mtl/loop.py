"""Optimisation of one model: a step, its state, and nothing else. Knows nothing about files, evaluation or screens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtl.checkpoint import CheckpointError
from mtl.data.frame import Batch
from mtl.ema import Ema
from mtl.losses import MultiTaskLoss
from mtl.model import MultiTaskModel
from mtl.schedule import learning_rate
from mtl.settings import RunSettings

__all__ = ["StepReport", "Training"]


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step showed: the weighted sum, the loss of each task, the learning rate and the gradient's norm."""

    total: float
    losses: dict[str, float]
    rate: float
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether the step could be applied."""
        return self.total == self.total and abs(self.total) != float("inf")


class Training:
    """A model being trained, with everything that a resumed run needs.

    Attributes:
        model: the weights that are optimised.
        ema: the averaged weights that are evaluated and exported.
        step: number of steps taken.
    """

    def __init__(self, model: MultiTaskModel, loss: MultiTaskLoss, settings: RunSettings) -> None:
        self._settings = settings
        self._bf16 = settings.loop.precision == "bf16"
        if settings.loop.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model.train()
        self.loss = loss
        self.ema = Ema(model, decay=settings.ema.decay)
        self.optimizer = torch.optim.AdamW(
            _groups(model, loss, settings.optimizer.weight_decay),
            lr=settings.optimizer.lr,
            betas=settings.optimizer.betas,
            fused=True,
        )
        self.step = 0
        self._mean, self._std = (torch.tensor(value).view(1, 3, 1, 1) for value in (model.mean, model.std))

    def advance(self, batch: Batch) -> StepReport:
        """Take one step. A step whose loss or gradient is not finite changes no weight but counts."""
        settings = self._settings
        rate = learning_rate(self.step, steps=settings.steps, settings=settings.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = (batch.image.permute(0, 3, 1, 2).float().div_(255.0) - self._mean) / self._std
        if not settings.loop.channels_last:
            images = images.contiguous()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            predicted = self.model(images)
        total, losses = self.loss(predicted, batch.targets, batch.phase)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, settings.optimizer.clip or float("inf"))
        measured = {task: float(value.detach()) for task, value in losses.items()}
        report = StepReport(float(total.detach()), measured, rate, float(norm))
        if report.finite and bool(torch.isfinite(norm)):
            self.optimizer.step()
            self.ema.update(self.model, self.step)
        self.step += 1
        return report

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and plain containers."""
        return {
            "step": self.step,
            "model": dict(self.model.state_dict()),
            "ema": dict(self.ema.model.state_dict()),
            "loss": dict(self.loss.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken. Raises CheckpointError when it does not fit this model."""
        try:
            self.model.load_state_dict(state["model"])
            self.ema.model.load_state_dict(state["ema"])
            self.loss.load_state_dict(state["loss"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as exc:
            line = str(exc).strip().splitlines()[0]
            raise CheckpointError(f"the checkpoint does not fit this configuration: {line}. Train again") from exc


def _groups(model: nn.Module, loss: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases, norms and loss weights do not."""
    decayed: list[Tensor] = []
    plain: list[Tensor] = list(loss.parameters())
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
