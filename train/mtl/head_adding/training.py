"""The training of one head on kept features. Knows neither backbones nor bundles."""

from __future__ import annotations

import math
import time

import numpy as np
from torch import Tensor, nn

from edge_mtl.console import Console
from edge_mtl.tasks import TaskSpec
from mtl.ema import Ema
from mtl.head_adding.frozen_features import KeptViews
from mtl.loop import StepReport
from mtl.losses import MultiTaskLoss
from mtl.models.head_network import HeadNetwork
from mtl.optimizer import make_optimizer
from mtl.progress import StepProgress
from mtl.schedule import learning_rate
from mtl.settings import RunSettings
from mtl.tasks import HeadOptions, head_of

__all__ = ["train_head"]


def train_head(
    network: HeadNetwork,
    spec: TaskSpec,
    kept: KeptViews,
    settings: RunSettings,
    *,
    balance: Tensor | None = None,
    console: Console,
) -> HeadNetwork:
    """The averaged weights after the last stage of `settings`; `network` itself is left with the latest ones.

    Args:
        balance: what `Head.balance` found in the training frames.
    """
    stage, head = settings.stages[-1], head_of(spec)
    loss = MultiTaskLoss(settings.losses, {spec.name: spec}, stride=4, balance={} if balance is None else {spec.name: balance})
    optimizer = make_optimizer(network.parameters(), settings.optimizer)
    average = Ema(network.train(), decay=settings.ema.decay)
    draws = np.random.default_rng([settings.seed, 3])
    waiting = np.empty(0, np.int64)
    batch = min(stage.batch, len(kept))
    with StepProgress(console, steps=stage.steps, done=0) as progress:
        for step in range(stage.steps):
            began = time.monotonic()
            if len(waiting) < batch:
                waiting = draws.permutation(len(kept))
            chosen, waiting = waiting[:batch], waiting[batch:]
            maps, target = kept.batch(chosen)
            rate = learning_rate(step, steps=stage.steps, settings=settings.optimizer)
            for group in optimizer.param_groups:
                group["lr"] = rate
            answer = head.answer(spec, network.raw(maps), HeadOptions(), clamp=False)
            value = loss({spec.name: answer}, {spec.name: target}, None)[spec.name]
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            norm = float(nn.utils.clip_grad_norm_(network.parameters(), settings.optimizer.clip or math.inf))
            if math.isfinite(norm):
                optimizer.step()
                average.update(network, step)
            report = StepReport(float(value.detach()), {spec.name: float(value.detach())}, rate, norm)
            progress.show(report, images=batch, seconds=time.monotonic() - began, stage=spec.name)
    found = average.model
    assert isinstance(found, HeadNetwork)
    return found.requires_grad_(False)
