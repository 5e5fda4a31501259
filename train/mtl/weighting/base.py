"""What every weighting of task losses is: from losses to gradients, and a state. Knows no method, model or optimiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_mtl.errors import EdgeMtlError
from mtl.settings import LossSettings, Stage

__all__ = ["LossWeighting", "Weighting", "WeightingError", "WeightingReport", "spread_over_tasks"]


class WeightingError(EdgeMtlError):
    """A weighting method cannot be used: a package is missing, or there is no shared representation to read."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class WeightingReport:
    """What one backward pass did: the weighted sum of the losses, and the weight of each task in the shared layers."""

    total: float
    weights: dict[str, float]


class Weighting(nn.Module, ABC):
    """Turns the losses of a batch into gradients.

    Every method sees the losses times the weights of the settings (`losses.weights`, or those of the stage), so that those
    are part of the problem that it balances; "fixed" does nothing else. Everything else that a method knows is in its
    `state_dict`: a run that is resumed continues exactly. Under torch.distributed the weights are equal on all ranks;
    `backward` and `after_step` are then collective.

    Attributes:
        tasks: names, in the order of every vector in here.
        needs_features: whether `backward` reads the shared representation; pass it through `tapped` on its way from
            `MultiTaskModel.features` to `from_features`.
        needs_losses_after_step: whether `after_step` wants the losses of the batch just used under the new parameters
            (one more forward pass, no gradients) instead of those that `backward` saw.
    """

    needs_features = False
    needs_losses_after_step = False
    scale: Tensor

    def __init__(self, settings: LossSettings, *, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self._settings = settings
        self.register_buffer("scale", torch.tensor([settings.weight_of(task) for task in self.tasks]), persistent=False)

    def weigh(self, stage: Stage) -> None:
        """Use the weights of a stage from now on, those of the settings where it names none."""
        self.scale.copy_(torch.tensor([stage.weights.get(t) or self._settings.weight_of(t) for t in self.tasks]))

    @contextmanager
    def leaving_absent(self, losses: Collection[str], optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Around the optimiser's step: what is learnt of tasks without a loss stays, and so do its moments.

        A gradient of 0 would not do: momentum goes on, and a 0 enters the moments.

        Args:
            losses: the tasks that the step has losses of.
        """
        absent = [number for number, task in enumerate(self.tasks) if task not in losses]
        kept: list[tuple[Tensor, Tensor]] = []
        for parameter in self.parameters() if absent else ():
            own = (parameter.data, *optimizer.state.get(parameter, {}).values())
            kept += [(one, one[absent].clone()) for one in own if one.shape == parameter.shape]
        yield
        for one, values in kept:
            one[absent] = values

    @abstractmethod
    def backward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = (), *, share: float = 1.0) -> WeightingReport:
        """Add the gradients of the weighted losses to every parameter's `.grad`, this module's own included.

        Args:
            losses: one scalar per task of `tasks`, with its graph; none of a task that the batch has no truth of.
            features: the tensors that the tasks read from the shared encoder, part of that graph.
            share: what the gradients are multiplied by, 1/n for one of n batches of an accumulated step.
        """

    def after_step(self, losses: Mapping[str, float], epoch_ended: bool) -> None:
        """Learn from a step that the optimiser has taken; see `needs_losses_after_step`. Nothing by default."""

    def scaled(self, losses: Mapping[str, Tensor]) -> Tensor:
        """(tasks,) float32: the losses times their fixed weights, 0 where there is none."""
        blank = next(iter(losses.values())).new_zeros((), dtype=torch.float32)
        values = torch.stack([losses[task].float() if task in losses else blank for task in self.tasks])
        return values * self.scale.to(values.device)

    def report(self, total: Tensor, weights: Tensor) -> WeightingReport:
        """`weights` (tasks,) are those of the scaled losses; those reported are of the losses themselves."""
        own = weights.detach().cpu().double() * self.scale.cpu().double()
        return WeightingReport(float(total.detach()), dict(zip(self.tasks, own.tolist(), strict=True)))


def spread_over_tasks(state: dict[str, Any], key: str, tasks: int) -> None:
    """A count that checkpoints once held for all tasks together, as one of each task."""
    value = state.get(key)
    if isinstance(value, Tensor) and value.ndim == 0:
        state[key] = value.expand(tasks).clone()


class LossWeighting(Weighting):
    """A method that finds its weights from the values of the losses; subclasses say how in `weights`."""

    @abstractmethod
    def weights(self, values: Tensor) -> Tensor:
        """(tasks,) detached scaled losses of this rank -> (tasks,) weights, equal on all ranks."""

    def backward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = (), *, share: float = 1.0) -> WeightingReport:
        values = self.scaled(losses)
        weights = self.weights(values.detach()).to(values)
        total = (weights * values).sum()
        (total * share).backward()
        return self.report(total, weights)
