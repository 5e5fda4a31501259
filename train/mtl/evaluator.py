"""How good a run's weights are: validation as it continues, the best weights so far, and the test at its end.

Knows models, held-out frames and the files of weights; knows nothing about optimisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edge_mtl.console import Console
from edge_mtl.tasks import describe_tasks, remarks
from mtl.checkpoint import load_statistics, load_weights, save_weights
from mtl.config import describe
from mtl.datasets.frame import Frame, FrameSource, described_truths
from mtl.datasets.mixture import MixtureFrames, deployed_source
from mtl.evaluate import evaluate, evaluate_by_source, judge, mean_of_sources, model_predictor
from mtl.images import prediction_sheet, write_sheet
from mtl.metric_logger import MetricLogError, MetricLogger
from mtl.models import MultiTaskModel
from mtl.progress import metrics_table
from mtl.settings import RunSettings
from mtl.source_statistics import SourceStatistics
from mtl.tasks.columns import score

__all__ = ["BEST", "LAST", "Best", "Evaluator", "Rounding"]


@runtime_checkable
class Rounding(Protocol):
    """A network that is trained with the rounding of integers, and can do without for comparison."""

    def in_floats(self) -> AbstractContextManager[None]:
        """Without rounding, for as long as the context lasts."""


BEST = "best.safetensors"
LAST = "last.safetensors"


@dataclass(slots=True)
class Best:
    """The best evaluation so far; a later stage always beats an earlier one.

    The score is that of `mtl.tasks.columns`; of a mixture it is taken of `mtl.evaluate.mean_of_sources`.
    """

    stage: int = -1
    score: float = float("-inf")
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class Evaluator:
    """Evaluates the weights of one run and keeps the best and the last in its folder.

    Args:
        best: what the part of the run before this one found.
        command: what the person typed, to be kept with the weights.
        teachers: what is known of those that the run learns from, to be kept with the weights; see `mtl.distill.teachers`.
    """

    def __init__(
        self,
        settings: RunSettings,
        folder: Path,
        *,
        journal: MetricLogger,
        console: Console,
        best: Mapping[str, Any] | None = None,
        command: str | None = None,
        teachers: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._command, self._teachers = command, [dict(one) for one in teachers]
        self._settings, self._folder, self._journal, self._console = settings, folder, journal, console
        self._best = Best(**best) if best is not None else Best()

    @property
    def best(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return asdict(self._best)

    def validate(
        self,
        model: MultiTaskModel,
        frames: FrameSource,
        *,
        stage: int,
        step: int,
        extra: Mapping[str, Any],
        statistics: SourceStatistics | None = None,
    ) -> None:
        """Evaluate at the size of a stage; write the record, images and weights.

        Args:
            model: the averaged weights.
            extra: other content of the record.
            statistics: of the model's batch norms by source, where they are kept apart: each source is measured with its own.
        Raises:
            CheckpointError, MetricLogError: the disk is full; what was written before is intact.
        """
        settings = self._settings
        size = (settings.stages[stage].height, settings.stages[stage].width)
        metrics, by_source = self._measured(model, frames, size, statistics)
        rows = {"validation": metrics, **by_source}
        extra = {**extra, "sources": by_source} if by_source else extra
        if isinstance(model, Rounding):
            with model.in_floats():
                rows["without rounding"], _ = self._measured(model, frames, size, statistics)
            extra = {**extra, "without_rounding": rows["without rounding"]}
        title = f"step {step} of {settings.steps}, validation at {size[0]}x{size[1]}"
        self._console.print(metrics_table(rows, title=title))
        if settings.loop.pictures:
            predict = model_predictor(model, precision=settings.loop.precision)
            first = _First(frames, settings.loop.pictures)
            judged = judge(predict, first, model.specs, size=size, canonical=settings.data.canonical)
            path = self._folder / "pictures" / f"step-{step:06d}.png"
            try:
                write_sheet(path, prediction_sheet(list(judged)))
            except OSError as exc:
                raise MetricLogError(f"{path} could not be written ({exc}). Make room, then continue --resume") from exc
        current = score(metrics)
        description = {"config": describe(settings), "step": step, "size": list(size), "validation": metrics}
        description |= {"tasks": describe_tasks(model.specs)}
        description |= {"command": self._command} if self._command is not None else {}
        description |= {"teachers": self._teachers} if self._teachers else {}
        description |= {"sources": by_source} if by_source else {}
        apart = statistics.by_source() if statistics is not None else None
        with self._deployed(statistics):
            save_weights(self._folder / LAST, model.state_dict(), description, statistics=apart)
            if (stage, current) >= (self._best.stage, self._best.score):
                save_weights(self._folder / BEST, model.state_dict(), description, statistics=apart)
                self._best = Best(stage, current, step, metrics)
        self._journal.write("validation", step=step, size=list(size), **extra, **metrics)

    def test(self, model: MultiTaskModel, frames: FrameSource, *, step: int) -> None:
        """Measure the last weights and the best ones on the test frames. `model` is used to hold them.

        Records say how truths were made, where the frames do: reports are written without the data set.
        """
        size = (self._settings.stages[-1].height, self._settings.stages[-1].width)
        rows: dict[str, dict[str, float]] = {}
        notes = described_truths(frames, model.specs)
        for name, file in (("last", LAST), ("best", BEST)):
            weights, description = load_weights(self._folder / file)
            model.load_state_dict(weights)
            kept = load_statistics(self._folder / file)
            statistics = SourceStatistics(model, kept) if kept else None
            rows[name], by_source = self._measured(model, frames, size, statistics)
            rows |= {f"{name}, {source}": values for source, values in by_source.items()}
            extra = {"sources": by_source} if by_source else {}
            extra |= {"truths": notes} if notes else {}
            told = {"weights": name, "trained": description["step"], "size": list(size), **extra}
            self._journal.write("test", step=step, **told, **rows[name])
        self._console.print(metrics_table(rows, title=f"{len(frames)} test frames at {size[0]}x{size[1]}"))
        for remark in remarks(model.specs):
            self._console.print(remark, markup=False, highlight=False)

    def _measured(
        self, model: MultiTaskModel, frames: FrameSource, size: tuple[int, int], statistics: SourceStatistics | None
    ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The measures that count, and those of every source of a mixture."""
        settings = self._settings
        predict = model_predictor(model, precision=settings.loop.precision)
        canonical = settings.data.canonical
        if not isinstance(frames, MixtureFrames):
            return evaluate(predict, frames, model.specs, size=size, canonical=canonical), {}
        showing = statistics.showing if statistics is not None else None
        found = evaluate_by_source(predict, frames, model.specs, size=size, canonical=canonical, showing=showing)
        return mean_of_sources(found), found

    def _deployed(self, statistics: SourceStatistics | None) -> AbstractContextManager[None]:
        """With the statistics of the source that an exported network has those of."""
        if statistics is None:
            return nullcontext()
        return statistics.showing(deployed_source(self._settings.data, self._settings.stages[-1]))


class _First:
    """The first frames of a source."""

    def __init__(self, frames: FrameSource, count: int) -> None:
        self._frames, self._count = frames, min(count, len(frames))
        self.tasks = frames.tasks

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Frame:
        return self._frames[index]
