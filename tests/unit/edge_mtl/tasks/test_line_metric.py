"""Lines: their F-measure within a tolerance, where it is shown, and that the accuracy check limits it in place of mean IoU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_mtl.errors import AccuracyError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget, judge
from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.evaluation.scores import Score, Scorer, drops, frame_losses
from edge_mtl.tasks import (
    VOID,
    LabelMap,
    LabelsSpec,
    describe_tasks,
    headlines,
    kind_of,
    measure_names,
    read_tasks,
    remarks,
)
from edge_mtl.tasks.finishing import Answer
from edge_mtl.tasks.line_metric import FullLineMetric, LineMetric, f_measure, image_f, line_counts, resampled_f

Array = np.ndarray
SIZE = (40, 60)
LANE = {"kind": "labels", "classes": ["background", "line", "crosswalk", "curb"], "ignore_in_mean": ["background"]}


def lane(tolerance_px: Any = 2) -> LabelsSpec:
    return cast(LabelsSpec, read_tasks({"lane": {**LANE, "tolerance_px": tolerance_px}})["lane"])


def drawn(*places: tuple[Any, Any], size: tuple[int, int] = (10, 10)) -> Array:
    found = np.zeros(size, np.uint8)
    for place in places:
        found[place] = 1
    return found


def f_of(found: Array, truth: Array, radius: int) -> float:
    return float(image_f(line_counts(found, truth, classes=2, wanted=[1], tolerance_px=radius))[0])


class TestOfOneImage:
    """Values of BDD100K's own tests, where there are any (bdd100k/bdd100k, tests/eval)."""

    @pytest.mark.parametrize(("radius", "expected"), [(1, 0.0), (2, 0.0), (3, 0.0), (4, 1.0), (5, 1.0), (6, 1.0)])
    def test_two_parallel_lines_four_pixels_apart(self, radius: int, expected: float) -> None:
        assert f_of(drawn((3, slice(3, 7))), drawn((7, slice(3, 7))), radius) == expected

    @pytest.mark.parametrize(("radius", "expected"), [(2, 0.0), (3, 1 / 3), (4, 2 / 3), (5, 1.0)])
    def test_a_line_across_another_is_near_by_the_euclidean_distance(self, radius: int, expected: float) -> None:
        """Within a square of this radius 2 would do for the nearest two, within a diamond 3 would not."""
        assert f_of(drawn((3, slice(3, 6))), drawn((slice(5, 8), 7)), radius) == pytest.approx(expected)

    def test_nothing_predicted_and_nothing_true(self) -> None:
        nothing, line = drawn(), drawn((3, slice(3, 7)))
        assert [f_of(*pair, 2) for pair in ((nothing, line), (line, nothing), (nothing, nothing))] == [0.0, 0.0, 1.0]

    def test_precision_is_of_what_was_predicted_and_recall_of_what_is_true(self) -> None:
        truth, found = drawn((2, slice(0, 8)), (8, slice(0, 2))), drawn((2, slice(0, 4)), (5, slice(0, 1)))
        counts = line_counts(found, truth, classes=2, wanted=[1], tolerance_px=1)
        assert counts.tolist() == [[5, 4, 10, 5]]
        assert f_measure(counts)[0] == pytest.approx(2 * 0.8 * 0.5 / 1.3)

    def test_the_further_a_line_is_moved_the_lower_is_f(self) -> None:
        truth = drawn((slice(4, 36), slice(20, 22)), size=SIZE)
        moved = [f_of(np.roll(truth, step, axis=1), truth, 2) for step in range(6)]
        assert moved[:3] == [1.0, 1.0, 1.0]
        assert 0.0 == moved[4] < moved[3] < 1.0
        assert moved[5] == 0.0

    def test_void_counts_for_neither(self) -> None:
        truth, found = drawn((3, slice(2, 8))), drawn((3, slice(2, 8)), (7, slice(0, 10)))
        truth[7] = VOID
        assert line_counts(found, truth, classes=2, wanted=[1], tolerance_px=2).tolist() == [[6, 6, 6, 6]]
        assert line_counts(truth, found, classes=2, wanted=[1], tolerance_px=2).tolist() == [[6, 6, 16, 6]], "transposed"
        truth[3] = VOID
        assert line_counts(found, truth, classes=2, wanted=[1], tolerance_px=2).tolist() == [[0, 0, 0, 0]]

    def test_what_is_predicted_in_void_finds_no_line_beside_it(self) -> None:
        truth, found = drawn((3, slice(2, 8))), drawn((4, slice(2, 8)))
        truth[4] = VOID
        assert line_counts(found, truth, classes=2, wanted=[1], tolerance_px=2).tolist() == [[0, 0, 6, 0]]

    def test_unlabelled_answers_and_void_of_signed_truths(self) -> None:
        truth, found = drawn((3, slice(2, 8))).astype(np.int64), drawn((3, slice(2, 8)))
        truth[:, 5], found[:, 2] = -1, VOID
        assert line_counts(found, truth, classes=2, wanted=[1], tolerance_px=1).tolist() == [[4, 4, 5, 5]]

    @settings(max_examples=60, deadline=None)
    @given(st.data(), st.integers(1, 6))
    def test_it_is_that_of_a_slow_reference(self, data: st.DataObject, radius: int) -> None:
        few = st.sampled_from([0, 0, 0, 1, 2, VOID])
        found, truth = (data.draw(arrays.arrays(np.uint8, (9, 12), elements=few)) for _ in range(2))
        assert line_counts(found, truth, classes=3, wanted=[1, 2], tolerance_px=radius).tolist() == [
            slow_counts(found, truth, index, radius) for index in (1, 2)
        ]

    def test_maps_of_two_shapes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="should have one shape"):
            line_counts(drawn(), drawn(size=(10, 1)), classes=2, wanted=[1], tolerance_px=1)


def slow_counts(found: Array, truth: Array, index: int, radius: int) -> list[int]:
    """As `line_counts`, of one class, pixel by pixel."""
    here = np.argwhere((found == index) & (truth != VOID))
    there = np.argwhere(truth == index)
    squares = ((here[:, None] - there[None]) ** 2).sum(axis=2)
    near = squares <= radius**2
    return [len(here), int(near.any(axis=1).sum()), len(there), int(near.any(axis=0).sum())]


def scene(seed: int, *, moved: int = 0, missing: Sequence[int] = ()) -> Array:
    """Two lines, a crosswalk in every other frame and no curb, moved to the right; without the classes `missing`."""
    random, found = np.random.default_rng(seed), np.zeros(SIZE, np.uint8)
    for column in random.choice(np.arange(8, 44, 9), 2, replace=False):
        found[5:35, column : column + 2] = 1
    if seed % 2:
        found[20:26, 2:40:4] = 2
    found[np.isin(found, missing)] = 0
    return np.roll(found, moved, axis=1)


def metric_of(pairs: Sequence[tuple[Array, Array]], spec: LabelsSpec, *, full: bool = False) -> LineMetric:
    metric = kind_of(spec).full_metric(spec) if full else kind_of(spec).metric(spec)
    for found, truth in pairs:
        metric.update(LabelMap(spec, found), truth)
    return cast(LineMetric, metric)


class TestOfManyFrames:
    def test_pixels_are_added_up_and_classes_that_do_not_occur_left_out(self) -> None:
        spec = lane(1)
        pairs = [(scene(seed, moved=seed % 3, missing=[2] if seed == 1 else []), scene(seed)) for seed in range(6)]
        counts = sum(line_counts(*pair, classes=4, wanted=[1, 2], tolerance_px=1) for pair in pairs)
        metric = metric_of(pairs, spec)
        assert metric.statistics()[-1].tolist() == [*np.asarray(counts).tolist(), [0, 0, 0, 0]], "curb"
        assert metric.compute()["line_f"] == pytest.approx(f_measure(np.asarray(counts)).mean())
        assert set(metric.details()["class_line_f"]) == {"line", "crosswalk"}
        assert 0.3 < metric.compute()["line_f"] < 1.0

    def test_a_class_that_is_only_predicted_has_none_right(self) -> None:
        spec, truth = lane(), scene(0)
        found = truth.copy()
        found[0, :5] = 3
        assert metric_of([(found, truth)], spec).compute()["line_f"] == pytest.approx(1 / 2)

    def test_background_is_no_line(self) -> None:
        truth = scene(0)
        assert metric_of([(truth, truth)], lane()).details()["class_line_f"] == {"line": 1.0}

    def test_without_lines_nothing_is_known(self) -> None:
        blank = np.zeros(SIZE, np.uint8)
        metric = metric_of([(blank, blank)], lane())
        assert np.isnan(metric.compute()["line_f"])
        assert metric.details()["class_line_f"] == {}
        assert kind_of(lane()).metric(lane()).details() == {}

    def test_a_batch_is_its_frames(self) -> None:
        spec = lane(1)
        pairs = [(scene(seed, moved=1), scene(seed)) for seed in range(3)]
        stacked = [np.stack(maps) for maps in zip(*pairs, strict=True)]
        together = metric_of([(stacked[0], stacked[1])], spec, full=True)
        assert together.details() == metric_of(pairs, spec, full=True).details()

    def test_draws_of_frames_are_as_if_measured_again(self) -> None:
        spec = lane(1)
        pairs = [(scene(seed, moved=seed % 3, missing=[2] if seed == 3 else []), scene(seed)) for seed in range(4)]
        statistics = [metric_of([pair], spec).statistics() for pair in pairs]
        weights = np.array([[1, 1, 1, 1], [2, 0, 1, 0], [0, 0, 0, 3]], float)
        found = kind_of(spec).resample(spec, statistics, weights)
        for row, chosen in enumerate([[0, 1, 2, 3], [0, 0, 2], [3, 3, 3]]):
            again = metric_of([pairs[index] for index in chosen], spec).compute()
            assert {name: values[row] for name, values in found.items()} == pytest.approx(
                {name: again[name] for name in found}, rel=1e-12
            )
        assert np.isnan(resampled_f([statistics[0][-1]], np.zeros((1, 1)))).all()

    def test_details_for_reports_have_what_bdd100k_takes(self) -> None:
        """There an image without a class counts as 1 where none was predicted."""
        spec = lane(3)
        pairs = [(scene(seed, moved=2, missing=[2]), scene(seed)) for seed in range(4)]
        metric = metric_of(pairs, spec, full=True)
        assert isinstance(metric, FullLineMetric)
        found = metric.details()["line_f_of_images"]
        assert list(found) == ["1 px", "2 px", "3 px", "5 px"]
        assert found["2 px"] == found["3 px"] == pytest.approx((1.0 + 0.5 + 1.0) / 3), "line, crosswalk, curb"
        assert found["1 px"] < found["2 px"]
        assert metric.compute()["line_f"] == pytest.approx(0.5), "of the pixels; there is no curb"
        assert "line_f_of_images" not in metric_of(pairs, spec).details()


class TestManifest:
    @pytest.mark.parametrize("pixels", [1, 2, 20])
    def test_a_tolerance_survives_it(self, pixels: int) -> None:
        spec = lane(pixels)
        described = json.loads(json.dumps(describe_tasks({"lane": spec})))
        assert described["lane"]["tolerance_px"] == pixels
        assert read_tasks(described)["lane"] == spec

    def test_without_one_nothing_is_said_of_it(self) -> None:
        assert "tolerance_px" not in describe_tasks({"lane": lane(None)})["lane"]

    @pytest.mark.parametrize("given", [0, 21, -1, 2.0, "2", True, [2]])
    def test_others_are_refused(self, given: Any) -> None:
        with pytest.raises(ValueError, match="tolerance_px of lane should be a whole number of pixels from 1 to 20; found"):
            lane(given)

    def test_reports_say_it(self) -> None:
        assert remarks({"lane": lane(2)}) == (
            "Lines of lane are right within 2 px of the network's input.",
            "The mean IoU of lane and its F-measure leave out: background.",
        )
        assert remarks({"lane": lane(None)}) == ("The mean IoU of lane leaves out: background.",)


def specs(tolerance_px: int | None = 1) -> dict[str, LabelsSpec]:
    found = read_tasks(
        {"drivable": {"kind": "labels", "classes": ["no", "yes"]}, "lane": {**LANE, "tolerance_px": tolerance_px}}
    )
    return cast(dict[str, LabelsSpec], found)


def score(tasks: dict[str, LabelsSpec], *, moved: int, frames: int = 8) -> Score:
    scorer = Scorer(tasks)
    for seed in range(frames):
        truths = {"drivable": scene(seed) % 2, "lane": scene(seed)}
        reference = Answer({name: LabelMap(tasks[name], truth) for name, truth in truths.items()})
        found = Answer({**reference.results, "lane": LabelMap(tasks["lane"], scene(seed, moved=moved))})
        scorer.update(str(seed), found, truths, reference)
    return scorer.score()


class TestAccuracyCheck:
    def test_only_tasks_with_a_tolerance_have_the_measure(self) -> None:
        keys = ["drivable.miou", "drivable.pixel_accuracy", "lane.miou", "lane.pixel_accuracy"]
        assert list(measure_names(specs(None))) == keys
        assert list(measure_names(specs())) == [*keys, "lane.line_f"]
        assert set(score(specs(), moved=0).accuracy) == {*keys, "lane.line_f"}
        assert set(score(specs(None), moved=0).accuracy) == set(keys)
        assert set(TaskMetrics({"lane": lane()}).compute()) == {"miou", "pixel_accuracy", "line_f"}
        assert set(TaskMetrics({"lane": lane(None)}, full=True).compute()) == {"miou", "pixel_accuracy"}

    def test_tables_show_it_where_there_is_one(self) -> None:
        assert list(headlines(score(specs(), moved=0).accuracy)) == ["drivable.miou", "lane.miou", "lane.line_f"]
        assert list(headlines(score(specs(None), moved=0).accuracy)) == ["drivable.miou", "lane.miou"]

    def test_it_is_limited_in_place_of_mean_iou(self) -> None:
        kept = {"drivable.classes": 0.05, "lane.classes": 0.05, "drivable.miou": 0.01}
        assert DEFAULT_BUDGET.to_dict(specs()) == kept | {"lane.line_f": 0.01}
        assert DEFAULT_BUDGET.to_dict(specs(None)) == kept | {"lane.miou": 0.01}
        assert set(DEFAULT_BUDGET.to_dict({"lane": lane()})) == {"line_f", "classes"}
        assert Budget.parse("lane.line_f=0.02,classes=0.1").to_dict(specs())["lane.line_f"] == 0.02
        with pytest.raises(AccuracyError, match=r"no budget lane\.miou; this bundle has .*lane\.line_f"):
            Budget.parse("lane.miou=0.02").check(specs())
        with pytest.raises(AccuracyError, match=r"no budget lane\.line_f; this bundle has .*lane\.miou"):
            Budget.parse("lane.line_f=0.02").check(specs(None))

    def test_lines_within_the_tolerance_pass_and_those_beyond_it_do_not(self) -> None:
        tasks, loose = specs(1), Budget({"classes": 1.0})
        exact, near, far = (score(tasks, moved=pixels) for pixels in (0, 1, 2))
        assert near.accuracy["lane.miou"] < 0.5 < near.accuracy["lane.line_f"] == 1.0
        assert judge(exact, near, name="int8", budget=loose).passed
        verdict = judge(exact, far, name="int8", budget=loose)
        assert [check.name for check in verdict.checks if not check.passed] == ["lane.line_f"]
        assert verdict.failures[0].startswith("lane: the F-measure of lines fell by ")
        lost = drops(exact, far)["lane.line_f"]
        assert lost.low <= lost.value <= lost.high
        assert frame_losses(tasks, exact.frames[0], far.frames[0])["lane.line_f"] > 0.1

    def test_a_task_of_regions_is_judged_as_before(self) -> None:
        tasks = specs(None)
        verdict = judge(score(tasks, moved=0), score(tasks, moved=1), name="int8", budget=Budget({"classes": 1.0}))
        assert [check.name for check in verdict.checks if not check.passed] == ["lane.miou"]
