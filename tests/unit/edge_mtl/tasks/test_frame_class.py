"""One class for a whole frame: what a manifest may say, probabilities, measures, agreement, truth files, what people see."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from edge_mtl.errors import BundleError, TaskError
from edge_mtl.evaluation.budget import Budget, judge
from edge_mtl.evaluation.metrics import agreement
from edge_mtl.evaluation.scores import Scorer
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Intrinsics, letterbox
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.tasks import ClassScores, ClassSpec, describe_tasks, kind_of, read_tasks
from edge_mtl.tasks.finishing import Answer, finish
from edge_mtl.tasks.frame_class import softmax
from tests.bundles import make_image

Array = np.ndarray
SCENES = ["bedroom", "kitchen", "office", "hall", "bathroom", "garage", "attic"]


def task(classes: Any = SCENES, *, name: str = "scene") -> ClassSpec:
    return cast(ClassSpec, read_tasks({name: {"kind": "class", "classes": classes}})[name])


SPEC = task()
KIND = kind_of(SPEC)


def answered(logits: Sequence[float], *, frame: tuple[int, int] = (90, 120)) -> Answer:
    outputs = {"scene_logits": np.array([logits], np.float32)}
    box = letterbox(frame, (64, 96))
    return finish({"scene": SPEC}, outputs, box, placement="host", output_size="frame", change=None, pool=BufferPool())


def sure_of(index: int, probability: float = 0.8) -> ClassScores:
    values = np.full(len(SCENES), (1 - probability) / (len(SCENES) - 1), np.float32)
    values[index] = probability
    return ClassScores(SPEC, values)


@dataclass
class Files:
    """Truth files in memory."""

    content: Mapping[str, bytes]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.content)

    def read(self, name: str) -> bytes:
        return self.content[name]

    def where(self, name: str) -> str:
        return f"folder/{name}"


@pytest.mark.parametrize("count", [2, 5, 1000, 4096])
def test_two_to_4096_classes_survive_the_manifest(count: int) -> None:
    spec = task([f"class {number}" for number in range(count)])
    again = read_tasks(json.loads(json.dumps(describe_tasks({"scene": spec}))))["scene"]
    assert again == spec
    assert KIND.outputs(spec, (64, 96), "host") == KIND.outputs(spec, (64, 96), "graph") == {"scene_logits": (1, count)}


@pytest.mark.parametrize("classes", [None, ["alone"], ["a", "a"], ["a", ""], [f"{n}" for n in range(4097)], "ab"])
def test_other_classes_are_refused_with_what_was_found(classes: Any) -> None:
    with pytest.raises(ValueError, match="classes of scene should be a list of 2 to 4096 names"):
        task(classes)


def test_probabilities_are_a_stable_softmax_and_the_first_of_equal_classes_wins() -> None:
    found = answered([1e4, 1e4, -1e4, 3.0, 1e4 - 1, 0.0, 0.0])
    result = found["scene"]
    assert isinstance(result, ClassScores)
    assert result.probabilities.dtype == np.float32
    assert result.probabilities.sum() == pytest.approx(1.0)
    assert (result.index, result.name, found.bad_values) == (0, "bedroom", 0)
    assert [index for index, _ in result.best(3)] == [0, 1, 4]
    exact = np.exp(np.arange(7.0)) / np.exp(np.arange(7.0)).sum()
    np.testing.assert_allclose(softmax(np.arange(7, dtype=np.float32) - 50), exact, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_counted_and_leave_the_class_unknown(bad: float) -> None:
    found = answered([0.0, bad, 1.0, 2.0, bad, 0.0, 0.0])
    result = found["scene"]
    assert isinstance(result, ClassScores)
    assert found.bad_values == 2
    assert (result.known, result.index, result.name, result.best()) == (False, -1, "", ())
    assert KIND.summary(SPEC, result) == {"class": None, "probability": None, "most_probable": {}}
    assert KIND.agreement(SPEC, result, sure_of(1)) == {"top1_agreement": 0.0, "probability_change": 1.0}
    assert KIND.agreement(SPEC, result, result) == {"top1_agreement": 1.0, "probability_change": 0.0}
    drawn = KIND.draw(SPEC, np.zeros((90, 120, 3), np.uint8), result)
    assert drawn.any(), "it says that nothing is known"


def test_top1_and_top5_count_frames_and_equal_classes_by_their_index() -> None:
    metric = KIND.metric(SPEC)
    equal = ClassScores(SPEC, np.full(7, 1 / 7, np.float32))
    metric.update(sure_of(3), 3)
    metric.update(equal, 0)
    metric.update(equal, 4)
    metric.update(equal, 5)
    assert metric.compute() == {"top1": 0.5, "top5": 0.75}
    assert metric.details() == {"class_recall": {"bedroom": 1.0, "hall": 1.0, "bathroom": 0.0, "garage": 0.0}}
    empty = KIND.metric(SPEC)
    assert np.isnan(list(empty.compute().values())).all()
    assert empty.details() == {}


def test_top5_of_five_classes_says_nothing() -> None:
    spec = task(SCENES[:5])
    metric = kind_of(spec).metric(spec)
    metric.update(ClassScores(spec, np.array([0.1, 0.6, 0.1, 0.1, 0.1], np.float32)), 1)
    assert metric.compute()["top1"] == 1.0
    assert np.isnan(metric.compute()["top5"])


def test_draws_of_frames_are_counted_as_often_as_they_were_drawn() -> None:
    singles = []
    for found, truth in ((1, 1), (2, 6), (2, 2)):
        metric = KIND.metric(SPEC)
        metric.update(sure_of(found), truth)
        singles.append(metric.statistics())
    weights = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1], [0, 0, 0]], np.float64)
    drawn = KIND.resample(SPEC, singles, weights)
    np.testing.assert_allclose(drawn["top1"], [2 / 3, 1, 1 / 3, np.nan])
    np.testing.assert_allclose(drawn["top5"], [2 / 3, 1, 1 / 3, np.nan])


def test_exchanged_classes_are_a_guess_and_a_perfect_answer_or_one_class_for_all_is_not() -> None:
    def judged(pairs: Sequence[tuple[int, int]]) -> str:
        metric = KIND.metric(SPEC)
        for found, truth in pairs:
            metric.update(sure_of(found), truth)
        return KIND.near_chance(SPEC, metric)

    truths = [0, 0, 0, 1, 2] * 10
    swapped = [((truth + 1) % 3, truth) for truth in truths]
    said = judged([(0, 0), *swapped[1:]])
    assert "2.0% of the frames is right" in said
    assert "60.0% of them are bedroom" in said
    assert judged(swapped)
    assert judged(swapped[:49]) == "", "too few frames"
    assert judged([(truth, truth) for truth in truths]) == ""
    assert judged([(0, truth) for truth in truths]) == "", "as good as the most frequent class"
    assert judged([(1, 0), (0, 0), (0, 0), (1, 1), (2, 2)] * 10) == ""
    assert judged([]) == ""


@pytest.mark.parametrize(("right", "wrong"), [(7, 1), (60, 1), (1, 60), (60, 0)])
def test_frames_of_one_class_say_nothing_of_chance(right: int, wrong: int) -> None:
    metric = KIND.metric(SPEC)
    for found in [0] * right + [1] * wrong:
        metric.update(sure_of(found), 0)
    assert KIND.near_chance(SPEC, metric) == ""


def test_agreement_is_the_same_class_and_the_total_variation() -> None:
    first = ClassScores(SPEC, np.array([0.5, 0.3, 0.2, 0, 0, 0, 0], np.float32))
    second = ClassScores(SPEC, np.array([0.2, 0.6, 0.1, 0.1, 0, 0, 0], np.float32))
    found = agreement({"scene": SPEC}, {"scene": first}, {"scene": second})
    assert found["top1_agreement"] == 0.0
    assert found["probability_change"] == pytest.approx(0.4)
    assert KIND.agreement(SPEC, sure_of(2, 0.9), sure_of(2, 0.8)) == {
        "top1_agreement": 1.0,
        "probability_change": pytest.approx(0.1),
    }


def test_a_graph_that_loses_ten_frames_in_a_hundred_is_over_its_budget() -> None:
    def score(wrong: int) -> Any:
        scorer = Scorer({"scene": SPEC})
        for number in range(100):
            truth = number % 7
            found = sure_of((truth + 1) % 7 if number < wrong else truth)
            reference = Answer({"scene": sure_of(truth)})
            scorer.update(str(number), Answer({"scene": found}), {"scene": truth}, reference)
        return scorer.score()

    exact = score(0)
    assert exact.accuracy == {"top1": 1.0, "top5": 1.0}
    assert judge(exact, exact, name="int8").passed
    failed = judge(exact, score(10), name="int8")
    assert {check.name for check in failed.checks if not check.passed} == {"top1", "frame_class"}
    assert failed.failures[0] == "scene: top-1 accuracy fell by 10.00 points, at most 0.5 allowed"
    assert judge(exact, score(10), name="int8", budget=Budget({"top1": 0.2, "scene.frame_class": 0.2})).passed


@pytest.mark.parametrize("classes", [SCENES, ["Küche", "寝室"]])
def test_a_truth_goes_through_its_file(classes: list[str]) -> None:
    spec = task(classes)
    written = {f"a{ending}": payload for ending, payload in KIND.write_truth(spec, 1).items()}
    assert json.loads(written["a.scene.json"]) == {"class": classes[1]}
    assert KIND.read_truth(spec, "a", (90, 120), Files(written)) == 1
    assert KIND.read_truth(spec, "b", (90, 120), Files(written)) is None
    assert KIND.fit_truth(spec, 1, letterbox((90, 120), (64, 96))) == 1
    shown = KIND.of_truth(spec, 1)
    assert shown.name == classes[1]
    assert shown.probabilities.sum() == 1.0


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"{", r"folder/a\.scene\.json should hold JSON"),
        (b"\xff", r"folder/a\.scene\.json should hold JSON"),
        (b"[1]", "should hold an object; found list"),
        (b"{}", r'should hold \{"class": NAME\}, a class of scene: bedroom, .*; found None'),
        (b'{"class": "cellar"}', "found 'cellar'"),
        (b'{"class": ["bedroom"]}', r"found \['bedroom'\]"),
        (b'{"class": 0}', "found 0"),
    ],
)
def test_other_truth_files_are_refused_with_what_was_found(payload: bytes, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        KIND.read_truth(SPEC, "a", (90, 120), Files({"a.scene.json": payload}))


def test_people_see_the_name_and_programs_the_numbers() -> None:
    frame, result = make_image(1, height=120, width=160), sure_of(2)
    drawn = KIND.draw(SPEC, frame, result)
    changed = (drawn != frame).any(axis=2)
    assert changed[:40, :120].any(), "lettered, upper left"
    assert not changed[60:].any()
    assert (drawn != KIND.draw(SPEC, frame, sure_of(3))).any()
    assert KIND.summary(SPEC, result)["class"] == "office"
    assert KIND.summary(SPEC, result)["probability"] == pytest.approx(0.8)
    assert list(KIND.summary(SPEC, result)["most_probable"]) == ["office", "bedroom", "kitchen", "hall", "bathroom"]
    assert KIND.arrays(SPEC, result)["scene"].shape == (7,)
    assert {name: json.loads(text) for name, text in KIND.images(SPEC, result).items()} == {"scene.json": {"class": "office"}}
    topic, names = KIND.topics(SPEC)
    assert (topic.name, topic.encoding, topic.latched) == ("scene/json", "", False)
    assert json.loads(str(topic.make(result))) == KIND.summary(SPEC, result)
    assert (names.name, names.encoding, names.latched) == ("scene/labels_json", "", True)
    assert [one["name"] for one in json.loads(str(names.make(None)))["classes"]] == list(SCENES)
    assert (KIND.note({"top1": 1.0}), KIND.note({"top1": 0.0}), KIND.note({"top1": float("nan")})) == ("right", "wrong", "")
    named = KIND.class_topic(SPEC)
    assert named is not None
    assert (named.name, named.classes) == ("scene/label_info", tuple(SCENES))
    sent = KIND.vision_topic(SPEC)
    assert sent is not None
    assert (sent.name, sent.content) == ("scene", "classification")
    assert sent.make(result).classes.tolist() == [2, 0, 1, 3, 4]
    assert sent.make(result).xyxy is None


def test_a_long_name_is_written_smaller_and_a_difference_shows_both() -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    spec = task(["a very long name of a kind of scene that does not fit", "b"])
    drawn = KIND.draw(spec, frame, ClassScores(spec, np.array([0.9, 0.1], np.float32)))
    assert drawn.any()
    shown = KIND.draw_difference(SPEC, frame, sure_of(1), sure_of(2))
    assert shown is not None
    alone = KIND.draw(SPEC, frame, sure_of(1))
    assert (shown[1] != alone).any()


def test_the_only_class_of_a_prediction_has_a_short_name() -> None:
    def prediction(*names: str) -> Prediction:
        results = {name: ClassScores(task(name=name), sure_of(1).probabilities) for name in names}
        return Prediction(results, Timing(), Intrinsics(50, 50, 47.5, 31.5), True, (64, 96))

    found = prediction("scene").scene
    assert found is not None
    assert found.name == "kitchen"
    assert prediction().scene is None
    with pytest.raises(TaskError, match=r"several tasks of class: scene, weather. Take one by its name, prediction\['scene'\]"):
        _ = prediction("scene", "weather").scene
