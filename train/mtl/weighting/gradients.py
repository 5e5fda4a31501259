"""Gradients of the tasks on what they share, their inner products, and a backward pass that weighs them.

Knows tensors of a graph; knows nothing about models or about how weights are chosen.

The shared representation stands in for the shared parameters: by the chain rule the gradient of a loss on every
parameter of the shared encoder is one linear map of its gradient on the encoder's outputs, so the methods can look at
the outputs, as MGDA-UB does (Sener & Koltun 2018, arXiv:1810.04650, section 3.3). The encoder then needs one backward
pass whatever the number of tasks, and so does everything that belongs to one task; what the decoder shares among tasks is
passed once per task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from mtl.weighting.base import WeightingError
from mtl.weighting.ranks import mean_over_ranks

__all__ = ["backward_to", "encoder_backward", "gradient_cosines", "gramian", "tapped", "task_gradients"]


def tapped(features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same tensors, each behind an identity of its own.

    An encoder's later outputs are computed from its earlier ones. Behind the identity a gradient counts what the tasks
    read at that place and not the way through the rest of the encoder, and costs no backward pass of the encoder.
    """
    return tuple(feature.view_as(feature) for feature in features)


def task_gradients(losses: Sequence[Tensor], features: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gradients of each of `losses` on each of `features`: one list per task, shaped like `features`.

    The losses are scalars and no elements of one tensor: the way back from an element runs through its neighbours, with
    zeros. The graph is kept. A feature that a task does not read has gradient 0.

    Raises:
        WeightingError: there are no features, or they are no part of a graph.
    """
    _check(features)
    return [_filled(_gradients(loss, features, keep=True), features) for loss in losses]


def backward_to(features: Sequence[Tensor], losses: Sequence[Tensor], *, share: float = 1.0) -> list[list[Tensor]]:
    """As `task_gradients`, and the backward pass of the tasks' own parts on the way.

    Adds `share` times the gradients of the sum of `losses` to `.grad` of all parameters between the losses and the
    features, and releases that part of the graph.

    Raises:
        WeightingError: as `task_gradients`.
    """
    _check(features)
    parameters = _leaves(losses, features)
    wanted = [*features, *parameters]
    result, last = [], len(losses) - 1
    for number, loss in enumerate(losses):
        found = _gradients(loss, wanted, keep=number < last)
        result.append(_filled(found[: len(features)], features))
        for parameter, gradient in zip(parameters, found[len(features) :], strict=True):
            if gradient is not None:
                _accumulate(parameter, gradient, share)
    return result


def encoder_backward(features: Sequence[Tensor], gradients: Sequence[Sequence[Tensor]], weights: Sequence[float]) -> None:
    """The backward pass from the features on, with the tasks' `gradients` on them weighted and added.

    The features should be `tapped`: the graph between features that are computed from one another is gone after
    `backward_to`, and PyTorch refuses to pass it again.
    """
    mixed = []
    for index, feature in enumerate(features):
        total = torch.zeros_like(feature)
        for weight, parts in zip(weights, gradients, strict=True):
            total.add_(parts[index], alpha=weight)
        mixed.append(total)
    torch.autograd.backward(list(features), mixed)


def gramian(gradients: Sequence[Sequence[Tensor]]) -> Tensor:
    """(tasks, tasks) float64 on the CPU: inner products of the tasks' gradients over all features and all ranks.

    The gradients of different frames stand in different rows of the features, so the inner products over a batch that is
    split over ranks are the sum of those of its parts; `mean_over_ranks` differs from it by a factor that no method sees.
    """
    tasks = len(gradients)
    result = gradients[0][0].new_zeros((tasks, tasks), dtype=torch.float32)
    for parts in zip(*gradients, strict=True):
        rows = torch.stack([part.reshape(-1).float() for part in parts])
        with torch.autocast(rows.device.type, enabled=False):
            result += rows @ rows.T
    return mean_over_ranks(result).double().cpu()


def gradient_cosines(losses: Mapping[str, Tensor], features: Sequence[Tensor]) -> dict[tuple[str, str], float]:
    """Cosine of the angle between the gradients of every two tasks on the shared representation; below 0 they conflict.

    The graph is kept: call it before the backward pass. Collective under torch.distributed. NaN where a task has no
    gradient, for example in a batch without any truth of it.

    Args:
        losses: one scalar per task, with its graph.
        features: see `Weighting.backward`.
    Raises:
        WeightingError: the tasks share nothing.
    """
    products = gramian(task_gradients(list(losses.values()), features))
    lengths = products.diagonal().sqrt()
    cosines = products / torch.outer(lengths, lengths)
    names = list(enumerate(losses))
    return {(a, b): float(cosines[i, j].clamp(-1.0, 1.0)) for (i, a), (j, b) in combinations(names, 2)}


def _check(features: Sequence[Tensor]) -> None:
    if not features or not all(feature.requires_grad for feature in features):
        raise WeightingError(
            "the tasks share no trained representation whose gradients could be compared: gradient methods need "
            'model.sharing "full" or "partial". Use losses.weighting fixed, uncertainty, dwa, rlw, gls or famo'
        )


def _gradients(loss: Tensor, wanted: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor | None]:
    return torch.autograd.grad(loss, list(wanted), retain_graph=keep, allow_unused=True)


def _filled(found: Sequence[Tensor | None], features: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(feature) if part is None else part for part, feature in zip(found, features, strict=True)]


def _leaves(losses: Sequence[Tensor], features: Sequence[Tensor]) -> list[Tensor]:
    """The parameters that the losses depend on other than through the features."""
    seen = {feature.grad_fn for feature in features}
    taken = {id(feature) for feature in features}
    waiting = [loss.grad_fn for loss in losses]
    leaves: list[Tensor] = []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in taken:
            leaves.append(leaf)
        waiting.extend(following for following, _ in node.next_functions)
    return leaves


def _accumulate(parameter: Tensor, gradient: Tensor, share: float) -> None:
    if parameter.grad is not None:
        parameter.grad.add_(gradient, alpha=share)
    else:
        parameter.grad = torch.mul(gradient, share, out=torch.empty_like(parameter))  # in the parameter's memory format
