"""A whole training run: stages in order, evaluations and checkpoints; resumable at any step, in one process or several.

Knows how the parts of `mtl` fit together; knows nothing about the command line or bundles.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edge_mtl.console import Console
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.unfinished import sweep_temporaries
from mtl.checkpoint import CheckpointError, load_state, save_state
from mtl.clock import Clock
from mtl.config import describe
from mtl.datasets.frame import Batch, FrameSource
from mtl.datasets.loader import Batches, BatchPlan, batches
from mtl.datasets.lost_batches import typed_loss
from mtl.datasets.sources import held_out_frames, train_frames
from mtl.distill.teachers import make_distillation
from mtl.evaluator import BEST, LAST, Evaluator
from mtl.fine_tuning import restore_pretrained_norms, start_from
from mtl.interrupts import deferred_stop
from mtl.loop import StepReport, Training
from mtl.losses import MultiTaskLoss
from mtl.machine import computes_in_bf16, prepared, slow_arithmetic
from mtl.metric_logger import MetricLogger
from mtl.models import MultiTaskModel
from mtl.models.configured import model_from
from mtl.parallel import ALONE, Parallel
from mtl.progress import StepProgress
from mtl.resume import check_same_settings, check_same_teachers
from mtl.schedule import steps_per_pass
from mtl.settings import DataSettings, ModelSettings, RunSettings
from mtl.tasks import head_of
from mtl.weighting import make_weighting

if TYPE_CHECKING:
    from mtl.qat.network import QatNetwork

__all__ = ["BEST", "LAST", "STATE", "Run", "TrainingError"]

STATE = "state.pt"
CONFIG = "config.json"

_MOST_BAD_STEPS = 50
_CURVE_EVERY = 10
"""Steps between points of the curves for TensorBoard."""


class TrainingError(EdgeMtlError):
    """Training diverged or cannot start."""

    exit_code = 13


class Run:
    """One run in `folder`/`name`. `train` returns the path of the best weights.

    Args:
        resume: go on where the last checkpoint was written, if there is one.
        parallel: the place of this process; all processes of a run make a `Run` and train it.
        command: what the person typed, to be kept with the weights.
    Raises:
        CheckpointError: the folder holds a run already, or one of other settings.
        TrainingError: the folder cannot be written; a batch that does not divide by the number of processes.
    """

    def __init__(
        self,
        settings: RunSettings,
        *,
        console: Console,
        resume: bool = False,
        parallel: Parallel = ALONE,
        command: str | None = None,
    ) -> None:
        self.settings = settings
        self._command = command
        self.folder = Path(settings.folder) / settings.name
        self._parallel = parallel
        self._console = console if parallel.is_first else Console(quiet=True)
        self._state = parallel.first_then_others(lambda: self._open_folder(resume))
        self._clock = Clock()
        self._coming: Iterator[Batch] | None = None
        self._opened: list[Batches] = []
        self._remarks: dict[str, str] = {}
        self._teachers: list[dict[str, Any]] = []

    def train(self) -> Path:
        """Train to the end.

        Raises:
            TrainingError: the loss stopped being finite.
            LoaderError: the processes that prepare batches cannot hand them over.
            CheckpointError, BuildError: files that do not fit, rooms that cannot be made.
            MetricLogError: the disk is full; what was written before is intact.
            PeerFailed: another process of the run failed.
        """
        try:
            with prepared(self.settings.loop, parallel=self._parallel) as device, self._parallel.watched():
                return self._train(device)
        except torch.OutOfMemoryError as exc:
            raise TrainingError("the GPU has too little memory. Train with --loop.accumulate 2, or smaller batches") from exc
        except RuntimeError as exc:
            line = str(exc).strip().splitlines()[0] if str(exc).strip() else ""
            if (lost := typed_loss(exc)) is not None:  # a worker that ends is told by a signal, at any moment
                raise lost from exc
            if "deterministic" in line:
                raise TrainingError(f"{line}. Train with --loop.deterministic false, or on the CPU") from exc
            raise
        finally:
            for one in self._opened:
                one.close()

    def _train(self, device: torch.device) -> Path:
        settings, parallel = self.settings, self._parallel
        try:
            training, validation = parallel.first_then_others(lambda: self._prepare(device))
        except EdgeMtlError:
            self._forget_folder()
            raise
        own = self.folder if parallel.is_first else None
        journal = MetricLogger(own, step=training.step, tensorboard=settings.loop.tensorboard)
        best = self._state["best"] if self._state is not None else None
        told: dict[str, Any] = {"command": self._command, "teachers": self._teachers}
        appraisal = Evaluator(settings, self.folder, journal=journal, console=self._console, best=best, **told)
        if self._state is not None:
            self._console.print(f"resumed at step {training.step} of {settings.steps}")
        parameters = sum(parameter.numel() for parameter in training.model.parameters())
        about: dict[str, Any] = {"threads": torch.get_num_threads(), "device": device.type, "processes": parallel.world}
        about["arithmetic"] = "bf16" if computes_in_bf16(settings.loop.precision, device) else "fp32"
        slow = slow_arithmetic(settings.loop.precision, device)
        if slow is not None:
            self._console.print(slow, style="yellow", markup=False, highlight=False)
        if self._remarks:
            about["not_taken"] = self._remarks
        if self._teachers:
            about["teachers"] = self._teachers
        journal.write("start", step=training.step, parameters=parameters, **about)
        with StepProgress(self._console, steps=settings.steps, done=training.step) as progress:
            if settings.qat.enabled and training.step == 0:  # the calibrated network is the one to beat
                self._evaluate(training, validation, appraisal, journal, progress, 0)
            while training.step < settings.steps:
                self._stage(training, validation, appraisal, journal, progress)
        if parallel.is_first:
            self._finish(training, appraisal, journal)
        journal.close()
        return self.folder / BEST

    def _prepare(self, device: torch.device) -> tuple[Training, FrameSource]:
        """Everything that training needs, as the checkpoint left it."""
        settings = self.settings
        torch.manual_seed(settings.seed)
        model = self._qat_network() if settings.qat.enabled else self._model()
        distillation = make_distillation(settings, model) if isinstance(model, MultiTaskModel) else None
        loss = self._loss(model)  # may render the training frames: whatever a file can be refused for comes first
        weighting = make_weighting(settings.losses, tasks=tuple(model.specs), seed=settings.seed)
        training = Training(model, loss, weighting, settings, device=device, parallel=self._parallel, distillation=distillation)
        self._teachers = [dict(one) for one in distillation.teachers] if distillation is not None else []
        for one in self._teachers:
            self._console.print(f"taught by {_taught_by(one)}", highlight=False, markup=False, soft_wrap=True)
        if self._state is not None:
            check_same_teachers(self._state.get("teachers", []), self._teachers, where=str(self.folder))
            training.restore(self._state["training"])
            self._clock = Clock(**self._state.get("clock", {}))
        validation = held_out_frames(settings.data, "val").open(workers=settings.data.workers, progress=True)
        return training, validation

    def _loss(self, model: MultiTaskModel | QatNetwork) -> MultiTaskLoss:
        settings, frames = self.settings, cache(self._frames)
        found = {task: head_of(spec).balance(spec, frames, settings.losses) for task, spec in model.specs.items()}
        balance = {task: values for task, values in found.items() if values is not None}
        if settings.qat.enabled and settings.qat.teacher:
            from mtl.qat.teaching import TaughtLoss

            share = settings.qat.teacher
            return TaughtLoss(settings.losses, model.specs, stride=model.stride, balance=balance, share=share)
        return MultiTaskLoss(settings.losses, model.specs, stride=model.stride, balance=balance)

    def _frames(self) -> FrameSource:
        """The training frames of the first stage."""
        data = self.settings.data
        return train_frames(data, self.settings.stages[0]).open(workers=data.workers, progress=True)

    def _model(self) -> MultiTaskModel:
        settings = self.settings
        model = model_from(settings, pretrained=self._state is None and not settings.model.init)
        if self._state is None and settings.model.init:
            self._remarks = start_from(model, Path(settings.model.init), **_taken(settings.model))
            for task, remark in self._remarks.items():
                self._console.print(f"model.init: {task} {remark}", highlight=False)
        elif self._state is None and settings.model.pretrained:
            stage = settings.stages[0]
            if norms := restore_pretrained_norms(model, self._frames, (stage.height, stage.width)):
                said = f"model.pretrained: {norms} batch norms without statistics have those of training frames now"
                self._console.print(said, highlight=False)
        return model

    def _qat_network(self) -> QatNetwork:
        from mtl.qat.exporting import keep_trained  # all three with onnx: training alone does without
        from mtl.qat.prepare import prepared_network, resumed_network

        if self.settings.qat.ranges == "ema" and self._parallel.world > 1:
            raise TrainingError('qat.ranges "ema" follow the batches of one process. Use "learned", or one process')
        if self._state is not None:
            return resumed_network(self.settings, self._state["training"]["model"])
        self._console.print(f"rewriting and calibrating {self.settings.model.init}", highlight=False)
        if self._parallel.is_first:
            keep_trained(Path(self.settings.model.init), self.folder)
        return prepared_network(self.settings)

    def _stage(
        self, training: Training, validation: FrameSource, appraisal: Evaluator, journal: MetricLogger, progress: StepProgress
    ) -> None:
        """Train to the end of the stage that the next step belongs to."""
        settings, parallel, clock = self.settings, self._parallel, self._clock
        index = settings.stage_at(training.step)
        stage, end = settings.stages[index], settings.start_of(index + 1)
        every = settings.loop.evaluate_every or steps_per_pass(settings, index)
        training.weighting.weigh(stage)
        coming, self._coming = self._coming, None
        fresh = coming is None
        coming = coming or self._batches(index, training)
        bad = 0
        with deferred_stop(once=parallel.world > 1) as stop:
            awaited = stop.awaited(coming)
            if fresh:
                awaited = chain(list(islice(awaited, 1)), awaited)  # workers are only starting: that is no waiting for data
            saved = began = time.monotonic()
            for batch in clock.waited_for(awaited):
                report = training.advance(batch)
                now = time.monotonic()
                clock.step(now - began, stage.batch)
                size = f"{stage.height}x{stage.width}"
                progress.show(report, images=stage.batch, seconds=now - began, stage=size, source=batch.source)
                began = now
                bad = 0 if report.finite else bad + 1
                if bad >= _MOST_BAD_STEPS:
                    raise TrainingError(f"the loss is not finite since {bad} steps. Lower the rate: --optimizer.lr 3e-4")
                step = training.step
                _note(journal, report, step)
                left, passed = end - step, step - settings.start_of(index)
                evaluates = left == 0 or (passed % every == 0 and left >= every // 2)
                stops = parallel.any(stop.asked)
                if evaluates:
                    if left == 0 and index + 1 < len(settings.stages) and not stops:
                        self._coming = self._batches(index + 1, training)  # workers start while the weights are evaluated
                    self._evaluate(training, validation, appraisal, journal, progress, index)
                if evaluates or stops or now - saved > settings.loop.checkpoint_s:
                    self._checkpoint(training, appraisal)
                    saved = time.monotonic()
                if stops:
                    raise KeyboardInterrupt
                began = time.monotonic()
            if stop.asked and not stop.together:  # while waiting for data, or in the evaluation of the last step
                if training.step < end:
                    self._checkpoint(training, appraisal)
                raise KeyboardInterrupt

    def _batches(self, index: int, training: Training) -> Iterator[Batch]:
        """The batches of stage `index`, from the next step on if it is under way; worker processes start at once."""
        settings, parallel = self.settings, self._parallel
        stage = settings.stages[index]
        frames = train_frames(settings.data, stage)
        parallel.first_then_others(lambda: frames.open(workers=settings.data.workers, progress=True))
        plan = BatchPlan(
            seed=settings.seed,
            stage=index,
            size=(stage.height, stage.width),
            batch=stage.batch,
            stride=training.model.stride if settings.losses.supervision == "phase" else 0,
            augment=settings.augment,
            canonical=settings.data.canonical,
            part=(parallel.rank, parallel.world),
            data=_inexact(settings.data),
        )
        first = training.step - settings.start_of(index)
        made = batches(frames, plan, first=first, last=stage.steps, workers=settings.loop.loader_workers)
        self._opened.append(made)
        return made

    def _evaluate(
        self,
        training: Training,
        validation: FrameSource,
        appraisal: Evaluator,
        journal: MetricLogger,
        progress: StepProgress,
        index: int,
    ) -> None:
        if not self._parallel.is_first:
            return
        step = training.step
        if self.settings.losses.weighting != "fixed":
            journal.write("weights", step=step, **progress.weights)
        extra: dict[str, Any] = {"losses": progress.losses, "images_per_s": progress.images_per_s}
        if progress.losses_by_source:
            extra["losses_by_source"] = progress.losses_by_source
        model, statistics = training.ema.model, training.statistics
        appraisal.validate(model, validation, stage=index, step=step, extra=extra, statistics=statistics)

    def _finish(self, training: Training, appraisal: Evaluator, journal: MetricLogger) -> None:
        """The test, if it is wanted, and the record of the end."""
        settings, clock = self.settings, self._clock
        if settings.loop.test_at_end:
            frames = held_out_frames(settings.data, "test").open(workers=settings.data.workers, progress=True)
            appraisal.test(training.ema.model, frames, step=training.step)
        speed = {"seconds": clock.training_s, "images_per_s": clock.images_per_s, "data_wait": clock.data_wait}
        journal.write("done", step=training.step, **speed)
        if clock.images:
            text = (
                f"{clock.images} images in {clock.training_s:.0f} s of training, {clock.data_wait:.1%} of it waiting for data"
            )
            self._console.print(text, highlight=False)

    def _checkpoint(self, training: Training, appraisal: Evaluator) -> None:
        if self._parallel.is_first:
            config = json.dumps(describe(self.settings), sort_keys=True)
            content = {"training": training.state(), "best": appraisal.best, "clock": asdict(self._clock), "config": config}
            save_state(self.folder / STATE, {**content, "teachers": self._teachers})

    def _open_folder(self, resume: bool) -> dict[str, Any] | None:
        """Prepare the folder; the state to resume from, if there is one and it is wanted."""
        for index, stage in enumerate(self.settings.stages):
            parts = self._parallel.world * self.settings.loop.accumulate
            if stage.batch % parts:
                raise TrainingError(
                    f"stages.{index}.batch = {stage.batch} does not divide into {parts} parts "
                    f"({self._parallel.world} processes, loop.accumulate = {self.settings.loop.accumulate})"
                )
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
        if self._parallel.is_first:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                sweep_temporaries(self.folder)
                payload = json.dumps(describe(self.settings), indent=2, sort_keys=True)
                write_atomic(self.folder / CONFIG, (payload + "\n").encode())
            except OSError as exc:
                raise TrainingError(f"{self.folder} cannot be written ({exc.strerror}). Choose another --folder") from exc
        return state

    def _forget_folder(self) -> None:
        """Of a run that cannot begin nothing stays: the folder goes, unless anything but its configuration is in it."""
        if self._parallel.is_first and self._state is None:
            with suppress(OSError):
                if [path.name for path in self.folder.iterdir()] == [CONFIG]:
                    (self.folder / CONFIG).unlink()
                    self.folder.rmdir()


def _taught_by(teacher: Mapping[str, Any]) -> str:
    learnt = [*teacher.get("answers", ()), *(["features"] if teacher.get("features") else [])]
    by = f", run by {teacher['run_by']}" if "run_by" in teacher else ""
    return f"{teacher['file']}: {', '.join(learnt)}{by}"


def _note(journal: MetricLogger, report: StepReport, step: int) -> None:
    """What a single step is worth writing down."""
    if report.cosines:
        journal.write("cosine", step=step, **{f"{a}+{b}": value for (a, b), value in report.cosines.items()})
    if step % _CURVE_EVERY == 0:
        curves = {"total": report.total, "rate": report.rate, "gradient_norm": report.gradient_norm}
        if not math.isnan(report.features):
            curves["features"] = report.features
        journal.curve("training", {**curves, "loss": report.losses, "weight": report.weights}, step=step)


def _inexact(data: DataSettings) -> dict[str, DataSettings]:
    """The data sets whose truths are not as exact as they are written, by source; "" where there is only one."""
    every: Mapping[str, DataSettings] = data.sources or {"": data}
    return {name: one for name, one in every.items() if one.depth_step_m > 0}


def _taken(model: ModelSettings) -> dict[str, Any]:
    """What `model.init` gives, for `start_from`: a backbone was learnt with its normalisation, a head with what it says."""
    meaning = {"normalisation": model.normalisation}
    if model.init_part == "all":
        return {"meaning": {**meaning, "depth_output": model.depth_output}}
    return {"part": model.init_part, "meaning": meaning}
