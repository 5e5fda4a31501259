"""What the protocol of kinds holds already: truths of any length, answers that are not maps, several tasks of one kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edge_mtl import tasks
from edge_mtl.evaluation.budget import Budget, judge
from edge_mtl.evaluation.scores import Score, Scorer, drops
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Intrinsics, letterbox
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.tasks import (
    BudgetItem,
    Kind,
    LabelMap,
    LabelsSpec,
    Measure,
    Placement,
    Result,
    TaskSpec,
    kind_of,
    read_tasks,
    register,
)
from edge_mtl.tasks.areas import CameraChange, MapArea
from edge_mtl.tasks.drawing import legend_entries, tiles
from edge_mtl.tasks.finishing import Answer, finish

NETWORK = (64, 96)
Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Peaks(Result):
    """Places above a threshold: (N, 2) rows and columns of the frame, for any N."""

    places: Array


class PeaksKind(Kind[TaskSpec, Peaks]):
    """Points, as many as there are: two outputs of different strides, no map, ragged truth."""

    name = "peaks"
    result = Peaks
    measures = (Measure("peak_recall", "peaks %", "Peaks found", True, 100.0, 1, "", True),)
    agreements = (Measure("peak_difference", "peaks", "Peaks more or fewer", False),)
    budgets = (
        BudgetItem("recall", "peak_recall", True, 0.1, 1.0, "recall fell by"),
        BudgetItem("peaks", "peak_difference", False, 0.5, 100.0, "peaks that differ:"),
    )

    def spec(self, name: str, entry: Mapping[str, Any]) -> TaskSpec:
        return TaskSpec(name, self.name)

    def describe(self, spec: TaskSpec) -> dict[str, Any]:
        return {}

    def outputs(self, spec: TaskSpec, size: tuple[int, int], placement: Placement) -> dict[str, tuple[int, ...]]:
        return {f"{spec.name}_{stride}": (1, 1, size[0] // stride, size[1] // stride) for stride in (8, 16)}

    def finish(
        self, spec: TaskSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[Peaks, int]:
        found = [
            np.argwhere(area.cropped(outputs[f"{spec.name}_{stride}"][0, 0], stride=stride) > 0) * stride for stride in (8, 16)
        ]
        return Peaks(spec, np.concatenate(found)), 0

    def metric(self, spec: TaskSpec) -> Recall:
        return Recall()

    def resample(self, spec: TaskSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        """From what each frame kept: (found, true), of frames with any number of truths."""
        sums = weights @ np.array(statistics, float).reshape(-1, 2)
        with np.errstate(invalid="ignore"):
            return {"peak_recall": sums[:, 0] / sums[:, 1]}

    def agreement(self, spec: TaskSpec, found: Peaks, reference: Peaks) -> dict[str, float]:
        return {"peak_difference": float(abs(len(found.places) - len(reference.places)))}


class Recall:
    """How many true places were found."""

    def __init__(self) -> None:
        self._found = self._true = 0

    def update(self, result: Peaks, truth: list[tuple[int, int]]) -> None:
        self._found += len({tuple(place) for place in result.places.tolist()} & set(truth))
        self._true += len(truth)

    def compute(self) -> dict[str, float]:
        return {"peak_recall": self._found / self._true if self._true else float("nan")}

    def statistics(self) -> tuple[int, int]:
        return self._found, self._true

    def details(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def peaks() -> Iterator[TaskSpec]:
    register(PeaksKind())
    yield read_tasks({"corner": {"kind": "peaks"}})["corner"]
    tasks._KINDS.pop("peaks")


def answer(spec: TaskSpec, places: Sequence[tuple[int, int]]) -> Answer:
    return Answer({spec.name: Peaks(spec, np.array(places, int).reshape(-1, 2))})


def score(spec: TaskSpec, found: Sequence[Sequence[tuple[int, int]]], truths: Sequence[list[tuple[int, int]]]) -> Score:
    scorer = Scorer({spec.name: spec})
    for number, (places, truth) in enumerate(zip(found, truths, strict=True)):
        scorer.update(str(number), answer(spec, places), {spec.name: truth}, answer(spec, truth))
    return scorer.score()


def test_answers_that_are_not_maps_are_finished_drawn_and_carried(peaks: TaskSpec) -> None:
    outputs = {"corner_8": np.zeros((1, 1, 8, 12), np.float32), "corner_16": np.zeros((1, 1, 4, 6), np.float32)}
    outputs["corner_8"][0, 0, 2, 3] = outputs["corner_16"][0, 0, 1, 1] = 1.0
    box, pool = letterbox(NETWORK, NETWORK), BufferPool()
    found = finish({"corner": peaks}, outputs, box, placement="host", output_size="frame", change=None, pool=pool)
    assert found["corner"].places.tolist() == [[16, 24], [16, 16]]
    prediction = Prediction(found.results, Timing(), Intrinsics(50, 50, 47.5, 31.5), True, NETWORK)
    assert prediction["corner"].places.shape == (2, 2)
    assert prediction.map_size == NETWORK, "no result is a map"
    assert prediction.segmentation is prediction.depth is prediction.consistency is None
    frame = np.full((*NETWORK, 3), 90, np.uint8)
    assert [title for title, _ in tiles(frame, found.results)] == ["corner"]
    assert legend_entries(found.results) == []
    assert prediction.panel(frame).ndim == 3


def test_truths_of_any_length_are_scored_resampled_and_held_to_budgets(peaks: TaskSpec) -> None:
    truths = [[(1, 1), (2, 2), (3, 3)], [], [(5, 5)]]
    exact = score(peaks, truths, truths)
    half = score(peaks, [[(1, 1), (2, 2)], [(9, 9)], []], truths)
    assert (exact.accuracy["peak_recall"], half.accuracy["peak_recall"]) == (1.0, 0.5)
    assert half.agreement["peak_difference"] == pytest.approx(1.0)
    lost = drops(exact, half)["recall"]
    assert lost.value == pytest.approx(0.5)
    assert lost.low < 0.5 < lost.high
    verdict = judge(exact, half, name="int8")
    assert {check.name for check in verdict.checks if not check.passed} == {"recall", "peaks"}
    assert judge(exact, half, name="int8", budget=Budget({"corner.recall": 0.6, "peaks": 2})).passed


def test_budgets_of_one_of_two_tasks_of_a_kind(peaks: TaskSpec) -> None:
    specs = read_tasks(
        {"lane": {"kind": "labels", "classes": ["no", "yes"]}, "floor": {"kind": "labels", "classes": ["a", "b"]}}
    )
    truth = np.arange(96, dtype=np.uint8).reshape(8, 12) % 2
    exact = Answer({name: LabelMap(spec, truth) for name, spec in specs.items() if isinstance(spec, LabelsSpec)})
    wrong = Answer({**exact.results, "lane": LabelMap(specs["lane"], 1 - truth)})  # type: ignore[arg-type]
    scorers = Scorer(specs), Scorer(specs)
    for scorer, given in zip(scorers, (exact, wrong), strict=True):
        scorer.update("0", given, {"lane": truth, "floor": truth}, exact)
    before, after = (scorer.score() for scorer in scorers)
    assert (after.accuracy["lane.miou"], after.accuracy["floor.miou"]) == (0.0, 1.0)
    failed = judge(before, after, name="int8")
    assert {check.name for check in failed.checks if not check.passed} == {"lane.miou", "lane.classes"}
    assert judge(before, after, name="int8", budget=Budget({"lane.miou": 1.0, "lane.classes": 1.0})).passed
    assert not judge(before, after, name="int8", budget=Budget({"floor.miou": 1.0, "floor.classes": 1.0})).passed


def test_a_kind_whose_names_are_taken_is_refused(peaks: TaskSpec) -> None:
    class Again(PeaksKind):
        name = "points"

    with pytest.raises(ValueError, match="taken by the kind 'peaks'"):
        register(Again())
    with pytest.raises(ValueError, match="a kind 'peaks' already"):
        register(PeaksKind())
    register(kind_of(peaks))
