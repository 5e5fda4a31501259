"""A whole training run: stages in order, evaluations, pictures and checkpoints; resumable at any step.

Knows how the parts of `mtl` fit together; knows nothing about the command line or bundles.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import sweep_temporaries, write_atomic
from edge_mtl.tasks import SEGMENTATION, TASKS
from mtl.checkpoint import CheckpointError, load_state, save_state, save_weights
from mtl.config import describe
from mtl.data.frame import Batch, FrameSource
from mtl.data.loader import BatchPlan, batches
from mtl.data.sources import stage_rooms, validation_rooms
from mtl.evaluate import evaluate, judge, model_predictor, score
from mtl.interrupts import deferred_stop
from mtl.loop import Training
from mtl.losses import MultiTaskLoss
from mtl.model import MultiTaskModel, build_model
from mtl.pictures import prediction_sheet, write_sheet
from mtl.progress import JsonLines, StepProgress, metrics_table
from mtl.resume import check_same_settings
from mtl.settings import RunSettings

__all__ = ["BEST", "LAST", "STATE", "Run", "TrainingError", "build"]

STATE = "state.pt"
BEST = "best.safetensors"
LAST = "last.safetensors"

_MOST_BAD_STEPS = 50


class TrainingError(EdgeMtlError):
    """Training diverged or cannot start."""

    exit_code = 13


@dataclass(slots=True)
class Best:
    """The best evaluation so far; a later stage always beats an earlier one."""

    stage: int = -1
    score: float = float("-inf")
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def build(settings: RunSettings) -> MultiTaskModel:
    """The untrained model of the settings."""
    model = settings.model
    return build_model(
        model.backbone,
        tasks=model.tasks,
        decoder=model.decoder,
        width=model.width,
        pretrained=Path(model.pretrained) if model.pretrained else False,
        drop_path=model.drop_path,
    )


class Run:
    """One run in `folder`/`name`. `train` returns the path of the best weights."""

    def __init__(self, settings: RunSettings, *, console: Console, resume: bool = False) -> None:
        self.settings = settings
        self.folder = Path(settings.folder) / settings.name
        self._console = console
        self._best = Best()
        self._state = self._open_folder(resume)
        self._log = JsonLines(self.folder / "metrics.jsonl")

    def train(self) -> Path:
        """Train to the end.

        Raises:
            TrainingError: the loss stopped being finite.
            CheckpointError, BuildError: files that do not fit, rooms that cannot be made.
        """
        settings = self.settings
        torch.set_num_threads(settings.loop.threads or len(os.sched_getaffinity(0)))
        torch.manual_seed(settings.seed)
        model = build(settings)
        loss = MultiTaskLoss(
            settings.losses, tasks=settings.model.tasks, stride=model.stride, class_weights=self._class_weights()
        )
        training = Training(model, loss, settings)
        if self._state is not None:
            training.restore(self._state["training"])
            self._best = Best(**self._state["best"])
            self._console.print(f"resumed at step {training.step} of {settings.steps}")
        validation = validation_rooms(settings.data, "val").open(workers=settings.data.workers, progress=True)
        self._log.write("start", step=training.step, parameters=_parameters(model), threads=torch.get_num_threads())
        with StepProgress(self._console, steps=settings.steps, done=training.step) as progress:
            while training.step < settings.steps:
                self._stage(training, validation, progress)
        return self.folder / BEST

    def _stage(self, training: Training, validation: FrameSource, progress: StepProgress) -> None:
        """Train to the end of the stage that the next step belongs to."""
        settings = self.settings
        index = settings.stage_at(training.step)
        stage = settings.stages[index]
        start = sum(one.steps for one in settings.stages[:index])
        every = settings.loop.evaluate_every or max(1, (stage.train or settings.data.train) // stage.batch)
        name = f"{stage.height}x{stage.width}"
        training.loss.weigh(stage)
        coming = self._batches(index, training)
        began = saved = time.monotonic()
        bad = 0
        with deferred_stop() as stop:
            for batch in coming:
                report = training.advance(batch)
                now = time.monotonic()
                progress.show(report, images=stage.batch, seconds=now - began, stage=name)
                began = now
                bad = 0 if report.finite else bad + 1
                if bad >= _MOST_BAD_STEPS:
                    raise TrainingError(f"the loss is not finite since {bad} steps. Lower the rate: --optimizer.lr 3e-4")
                done = training.step - start
                evaluates = done == stage.steps or (done % every == 0 and stage.steps - done >= every // 2)
                if evaluates:
                    self._evaluate(training, validation, index, progress)
                if evaluates or stop.asked or now - saved > settings.loop.checkpoint_s:
                    self._checkpoint(training)
                    saved = began = time.monotonic()
                if stop.asked:
                    raise KeyboardInterrupt

    def _batches(self, index: int, training: Training) -> Iterator[Batch]:
        settings = self.settings
        stage = settings.stages[index]
        rooms = stage_rooms(settings.data, stage)
        rooms.open(workers=settings.data.workers, progress=True)
        plan = BatchPlan(
            seed=settings.seed,
            stage=index,
            size=(stage.height, stage.width),
            batch=stage.batch,
            stride=training.model.stride if settings.losses.supervision == "phase" else 0,
            augment=settings.augment,
        )
        first = training.step - sum(one.steps for one in settings.stages[:index])
        return batches(rooms, plan, first=first, last=stage.steps, workers=settings.loop.loader_workers)

    def _evaluate(self, training: Training, validation: FrameSource, index: int, progress: StepProgress) -> None:
        settings = self.settings
        stage = settings.stages[index]
        size = (stage.height, stage.width)
        predict = model_predictor(training.ema.model, bf16=settings.loop.precision == "bf16")
        metrics = evaluate(predict, validation, size=size, tasks=settings.model.tasks)
        title = f"step {training.step} of {settings.steps}, validation at {stage.height}x{stage.width}"
        self._console.print(metrics_table({"validation": metrics}, title=title))
        speed = {"images_per_s": progress.images_per_s}
        self._log.write("validation", step=training.step, size=list(size), losses=progress.losses, **speed, **metrics)
        if settings.loop.pictures:
            judged = judge(predict, _First(validation, settings.loop.pictures), size=size)
            write_sheet(self.folder / "pictures" / f"step-{training.step:06d}.png", prediction_sheet(list(judged)))
        current = score(metrics)
        description = {"config": describe(settings), "step": training.step, "size": list(size), "validation": metrics}
        weights = training.ema.model.state_dict()
        save_weights(self.folder / LAST, weights, description)
        if (index, current) >= (self._best.stage, self._best.score):
            self._best = Best(index, current, training.step, metrics)
            save_weights(self.folder / BEST, weights, description)

    def _checkpoint(self, training: Training) -> None:
        best = {"stage": self._best.stage, "score": self._best.score, "step": self._best.step, "metrics": self._best.metrics}
        content = {"training": training.state(), "best": best, "config": json.dumps(describe(self.settings), sort_keys=True)}
        save_state(self.folder / STATE, content)

    def _class_weights(self) -> torch.Tensor | None:
        settings = self.settings
        if not settings.losses.class_weights or SEGMENTATION not in settings.model.tasks:
            return None
        rooms = stage_rooms(settings.data, settings.stages[0]).open(workers=settings.data.workers, progress=True)
        counts = np.zeros(256, np.int64)
        for index in range(0, len(rooms), max(1, len(rooms) // 400)):
            counts += np.bincount(rooms[index].label[::2, ::2].ravel(), minlength=256)
        share = counts[: TASKS[SEGMENTATION].channels] / max(1, counts[: TASKS[SEGMENTATION].channels].sum())
        weights = 1.0 / np.sqrt(np.maximum(share, 1e-3))
        return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)

    def _open_folder(self, resume: bool) -> dict[str, Any] | None:
        """Prepare the folder; the state to resume from, if there is one and it is wanted."""
        state_path = self.folder / STATE
        if state_path.exists() and not resume:
            raise CheckpointError(
                f"{self.folder} holds a run already. Continue it with --resume, or choose another name with --name NAME"
            )
        state = load_state(state_path) if state_path.exists() else None
        if state is not None:
            try:
                stored, done = str(state["config"]), int(state["training"]["step"])
            except (KeyError, ValueError, TypeError) as exc:
                raise CheckpointError(f"{state_path} does not say how it was trained. Train again") from exc
            check_same_settings(stored, done, self.settings, where=str(self.folder))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep_temporaries(self.folder, older_than_s=600)
            payload = json.dumps(describe(self.settings), indent=2, sort_keys=True)
            write_atomic(self.folder / "config.json", (payload + "\n").encode())
        except OSError as exc:
            raise TrainingError(f"{self.folder} cannot be written ({exc.strerror}). Choose another --folder") from exc
        return state


class _First:
    """The first frames of a source."""

    def __init__(self, frames: FrameSource, count: int) -> None:
        self._frames, self._count = frames, min(count, len(frames))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._frames[index]


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
