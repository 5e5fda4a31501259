"""The kind "boxes": its manifest entry, where boxes lie in the frame, values that cannot be used, views, files and topics."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any, cast

import numpy as np
import pytest

from edge_mtl.evaluation.budget import judge
from edge_mtl.evaluation.scores import Score, Scorer, drops
from edge_mtl.evaluation.self_test import tolerance_of
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Intrinsics, letterbox
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.tasks import (
    NYU13_CLASSES,
    NYU13_PALETTE,
    Boxes,
    BoxesSpec,
    BoxTruth,
    LabelMap,
    LabelsSpec,
    describe_tasks,
    graph_outputs,
    kind_of,
    read_tasks,
    remarks,
)
from edge_mtl.tasks.areas import OutputSize
from edge_mtl.tasks.drawing import legend_entries, tiles
from edge_mtl.tasks.finishing import Answer, finish
from tests.unit.edge_mtl.tasks import box_fixtures as made

NETWORK, FRAME = (64, 96), (480, 640)
CERTAIN = 6.0
"""A logit; the others are -9."""
Array = np.ndarray
Places = dict[tuple[int, int, int, int], tuple[float, float, float, float]]
"""Distances in strides by (stride, class, row, column)."""


def task(**entry: Any) -> BoxesSpec:
    return cast(BoxesSpec, read_tasks({"objects": {"kind": "boxes", "classes": ["chair", "table"], **entry}})["objects"])


def outputs(spec: BoxesSpec, places: Places, size: tuple[int, int] = NETWORK) -> dict[str, Array]:
    found = {name: np.zeros(shape, np.float32) for name, shape in graph_outputs({spec.name: spec}, size, "host").items()}
    for stride in spec.levels:
        found[f"{spec.name}_scores_{stride}"] -= 9.0
    for (stride, index, row, column), distances in places.items():
        found[f"{spec.name}_scores_{stride}"][0, index, row, column] = CERTAIN - 0.1 * index
        found[f"{spec.name}_boxes_{stride}"][0, :, row, column] = distances
    return found


def answer(
    spec: BoxesSpec, given: dict[str, Array], *, frame: tuple[int, int] = FRAME, output_size: OutputSize = "frame"
) -> tuple[Boxes, int]:
    box = letterbox(frame, NETWORK)
    found = finish({spec.name: spec}, given, box, placement="host", output_size=output_size, change=None, pool=BufferPool())
    return cast(Boxes, found[spec.name]), found.bad_values


@pytest.mark.parametrize("classes", [1, 2, 80, 4096])
def test_one_to_4096_classes_survive_the_manifest(classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    spec = task(classes=names, levels=[4, 8], score=0.05, nms_iou=0.5, most=300)
    assert read_tasks(json.loads(json.dumps(describe_tasks({"objects": spec}))))["objects"] == spec
    assert graph_outputs({"objects": spec}, (64, 96), "graph") == {
        "objects_scores_4": (1, classes, 16, 24),
        "objects_scores_8": (1, classes, 8, 12),
        "objects_boxes_4": (1, 4, 16, 24),
        "objects_boxes_8": (1, 4, 8, 12),
    }


def test_what_a_manifest_leaves_out() -> None:
    assert task() == BoxesSpec("objects", "boxes", ("chair", "table"), (8, 16, 32), 0.3, 0.6, 100)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"classes": []}, "1 to 4096 names; found 0"),
        ({"classes": None}, "1 to 4096 names; found None"),
        ({"classes": ["a", "a"]}, "each once; found 'a' at indices 0 and 1"),
        ({"levels": []}, r"strides of 1 to 128, finest first; found \[\]"),
        ({"levels": [16, 8]}, "finest first"),
        ({"levels": [8, 8]}, "finest first"),
        ({"levels": [8, 256]}, "strides of 1 to 128"),
        ({"levels": [8.0]}, "strides of 1 to 128"),
        ({"score": 1.0}, "score of objects should be 0.001 to less than 1; found 1.0"),
        ({"score": 0}, "score of objects"),
        ({"score": "high"}, "score of objects"),
        ({"score": 10**400}, "score of objects should be 0.001 to less than 1; found 1000"),
        ({"nms_iou": 0}, "nms_iou of objects should be above 0, at most 1; found 0"),
        ({"nms_iou": float("nan")}, "nms_iou of objects"),
        ({"most": 0}, "most of objects should be a number of boxes, 1 to 1000; found 0"),
        ({"most": True}, "most of objects"),
    ],
)
def test_other_entries_are_refused_with_what_was_found(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        task(**entry)


def test_a_box_is_where_its_cell_says_in_pixels_of_each_size() -> None:
    spec, box = task(), letterbox(FRAME, NETWORK)
    assert (box.content, box.left, box.top) == ((64, 84), 4, 0), "bars at both sides"
    # The centre of cell (3, 5) of stride 8 is at x = 5.5 * 8 - 0.5 = 43.5, y = 3.5 * 8 - 0.5 = 27.5.
    given = outputs(spec, {(8, 1, 3, 5): (1.0, 0.5, 2.0, 1.5)})
    whole, _ = answer(spec, given, output_size="network")
    assert whole.xyxy.tolist() == [[35.5, 23.5, 59.5, 39.5]]
    assert (whole.size, whole.names, whole.scores.tolist()) == (NETWORK, ("table",), [pytest.approx(1 / (1 + np.exp(-5.9)))])
    content, _ = answer(spec, given, output_size="content")
    assert (content.xyxy.tolist(), content.size) == ([[31.5, 23.5, 55.5, 39.5]], (64, 84))
    framed, _ = answer(spec, given)
    corners = [box.to_frame(Intrinsics(50, 50, x, y)) for x, y in ((35.5, 23.5), (59.5, 39.5))]
    assert framed.xyxy[0].tolist() == pytest.approx([value for camera in corners for value in (camera.cx, camera.cy)])
    # 36 - 4 = 32 pixels from the content's left edge, of 640 / 84 pixels of the frame each.
    assert framed.xyxy[0, 0] == pytest.approx(32 * 640 / 84 - 0.5)
    assert (framed.size, framed.xyxy.dtype, framed.scores.dtype, framed.classes.dtype) == (FRAME, "f4", "f4", "i8")


@pytest.mark.parametrize(
    ("output_size", "edges"),
    [("frame", [-0.5, -0.5, 639.5, 479.5]), ("network", [3.5, -0.5, 87.5, 63.5]), ("content", [-0.5, -0.5, 83.5, 63.5])],
)
def test_boxes_end_at_the_edges_of_the_frame(output_size: OutputSize, edges: list[float]) -> None:
    spec = task()
    beyond = outputs(spec, {(32, 0, 0, 1): (9, 9, 9, 9), (8, 0, 4, 0): (0.2, 1, 0.0, 1)})
    found, bad = answer(spec, beyond, output_size=output_size)
    assert (found.xyxy.tolist(), bad) == ([edges], 0), "the second box lies in the bar, where there is no frame"


def test_boxes_of_every_level_and_class_of_a_cell() -> None:
    spec = task()
    same = (8, 0, 3, 5), (8, 1, 3, 5), (16, 1, 0, 2), (32, 0, 1, 1)
    found, _ = answer(spec, outputs(spec, dict.fromkeys(same, (0.5, 0.5, 0.5, 0.5))), output_size="network")
    assert sorted(zip(found.names, found.xyxy.tolist(), strict=True)) == [
        ("chair", [31.5, 31.5, 63.5, 63.5]),
        ("chair", [39.5, 23.5, 47.5, 31.5]),
        ("table", [31.5, -0.5, 47.5, 15.5]),
        ("table", [39.5, 23.5, 47.5, 31.5]),
    ]
    assert (np.diff(found.scores) <= 0).all()


def test_one_box_of_an_object_is_answered_and_at_most_so_many() -> None:
    near: Places = {(8, 0, 3, 5): (2, 2, 2, 2), (8, 0, 3, 6): (3, 2, 1, 2), (8, 1, 3, 5): (2, 2, 2, 2)}
    found, _ = answer(task(), outputs(task(), near))
    assert found.names == ("chair", "table")
    assert len(answer(task(nms_iou=1.0), outputs(task(), near))[0]) == 3
    assert answer(task(most=1), outputs(task(), near))[0].names == ("chair",)


def test_without_a_candidate_there_are_no_boxes() -> None:
    found, bad = answer(task(), outputs(task(), {}))
    assert (found.xyxy.shape, found.scores.shape, found.classes.shape, bad) == ((0, 4), (0,), (0,), 0)
    assert (len(found), found.names, found.size) == (0, (), FRAME)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_leave_their_box_out(value: float) -> None:
    spec = task()
    given = outputs(spec, {(8, 0, 3, 5): (1, 1, 1, 1), (8, 0, 6, 9): (1, value, 1, 1), (16, 1, 1, 4): (1, 1, 1, 1)})
    given["objects_scores_16"][0, 1, 1, 4] = value
    found, bad = answer(spec, given)
    assert (found.names, bad) == (("chair",), 2)
    assert np.isfinite(found.measured.xyxy).all()


def test_of_too_many_candidates_those_with_the_highest_scores_are_looked_at() -> None:
    """300 that see one object leave no room for the next; where a frame may have more boxes there is more room."""
    scores = np.random.default_rng(0).permutation(np.linspace(0.0, 5.0, 32 * 48)).astype(np.float32).reshape(32, 48)
    given = outputs(task(levels=[2]), {})
    given["objects_scores_2"][0, 0], given["objects_boxes_2"][...] = scores, 0.4
    given["objects_boxes_2"][0, :, scores >= np.sort(scores.ravel())[-300]] = 999.0
    for most, answered, measured in ((20, 1, 100), (100, 1, 100), (120, 61, 120)):
        found, _ = answer(task(levels=[2], most=most), given, frame=NETWORK)
        assert (len(found), len(found.measured)) == (answered, measured)


@pytest.mark.parametrize("most", [100, 300, 301, 1000])
def test_as_many_boxes_are_answered_and_measured_as_a_frame_may_have(most: int) -> None:
    spec = task(levels=[2], most=most)
    given = outputs(spec, {})
    scores = np.random.default_rng(0).permutation(np.linspace(0.0, 5.0, 32 * 48)).astype(np.float32).reshape(32, 48)
    given["objects_scores_2"][0, 0], given["objects_boxes_2"][...] = scores, 0.4
    found, _ = answer(spec, given, frame=NETWORK)
    assert len(found) == len(found.measured) == most
    best = np.sort(scores.ravel())[::-1][:most]
    assert found.scores == pytest.approx(1 / (1 + np.exp(-best)), abs=1e-6)


def test_what_is_measured_begins_with_what_is_answered() -> None:
    spec, random = task(), np.random.default_rng(1)
    given = {
        name: (random.normal(-3, 2, shape) if "scores" in name else random.uniform(0, 3, shape)).astype(np.float32)
        for name, shape in graph_outputs({"objects": spec}, NETWORK, "host").items()
    }
    found, _ = answer(spec, given)
    more = found.measured
    assert len(found) < len(more) <= 100
    np.testing.assert_array_equal(more.xyxy[: len(found)], found.xyxy)
    assert more.scores[len(found)] < spec.score <= found.scores[-1]
    assert more.measured is more
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        np.testing.assert_array_equal(again.xyxy, found.xyxy)
        np.testing.assert_array_equal(again.measured.xyxy, more.xyxy)


def test_boxes_move_with_the_size_of_a_drawing() -> None:
    kind, found = kind_of(task()), Boxes(task(), np.array([[-0.5, 9.5, 63.5, 47.5]]), np.ones(1), np.zeros(1, int), (48, 64))
    smaller = kind.resize(found, (24, 16))
    assert (smaller.xyxy.tolist(), smaller.size) == ([[-0.5, 4.5, 15.5, 23.5]], (24, 16))
    assert kind.resize(smaller, (48, 64)).xyxy == pytest.approx(found.xyxy)
    unknown = made.boxes(task(), [1, 2, 3, 4], [0.5], [0])
    assert kind.resize(unknown, (24, 16)) is kind.thin(unknown, 4) is unknown


def score(spec: BoxesSpec, frames: list[tuple[Boxes, BoxTruth]], reference: list[tuple[Boxes, BoxTruth]]) -> Score:
    scorer = Scorer({spec.name: spec})
    for number, ((found, truth), (expected, _)) in enumerate(zip(frames, reference, strict=True)):
        scorer.update(str(number), Answer({spec.name: found}), {spec.name: truth}, Answer({spec.name: expected}))
    return scorer.score()


def test_lost_precision_and_boxes_that_differ_are_held_to_budgets() -> None:
    spec = made.a_spec()
    exact = [(made.whole(found), truth) for found, truth in made.frames(0, images=40)]
    shifted = [(made.boxes(spec, found.xyxy + 6.0, found.scores, found.classes), truth) for found, truth in exact]
    before, after = score(spec, exact, exact), score(spec, shifted, exact)
    assert before.agreement == pytest.approx({"box_f1": 1.0, "box_iou": 1.0})
    lost = drops(before, after)["ap"]
    assert lost.value == pytest.approx(before.accuracy["ap"] - after.accuracy["ap"])
    assert 0 < lost.low < lost.value < lost.high
    assert {check.name for check in judge(before, after, name="int8").checks if not check.passed} == {"ap", "boxes"}
    assert judge(before, before, name="int8").passed
    assert not before.near_chance
    assert after.details["class_ap"].keys() == {"class 0", "class 1", "class 2"}


def test_answers_that_find_nothing_are_no_better_than_chance() -> None:
    spec = made.a_spec()
    swapped = [
        (made.boxes(spec, found.xyxy[:, [1, 0, 3, 2]], found.scores, (found.classes + 1) % 3), truth)
        for found, truth in made.frames(0, images=20)
    ]
    (said,) = score(spec, swapped, swapped).near_chance
    assert "no more than by chance" in said
    assert "class 0, class 1, class 2" in said


def test_every_precision_has_a_tolerance_and_readers_learn_which_boxes_count() -> None:
    specs = {"objects": task()}
    for precision in ("fp32", "tf32", "fp16", "bf16", "int8", "int8+bf16", "int8+fp16"):
        assert 0.9 <= tolerance_of(specs, precision)["box_f1"] <= 1.0
    assert "from a score of 0.001 on; 0.3 is the least shown" in remarks(specs)[0]
    kind = kind_of(task())
    assert kind.words(task()) == "objects in boxes"
    assert (kind.note({"ap50": 0.614}), kind.note({"ap50": float("nan")})) == ("AP50 61 %", "")


def test_classes_of_nyu_have_the_colours_of_its_maps_and_the_legend_names_each_once() -> None:
    objects = BoxesSpec("objects", "boxes", ("bed", "window"))
    maps = LabelsSpec("segmentation", "labels", NYU13_CLASSES)
    boxes = Boxes(objects, np.array([(2, 2, 20, 20), (30, 5, 40, 15)], np.float32), np.array([0.9, 0.8]), np.array([1, 0]))
    labels = LabelMap(maps, np.full((8, 8), NYU13_CLASSES.index("window"), np.uint8))
    entries = legend_entries({"segmentation": labels, "objects": boxes})
    assert sorted(name for name, _ in entries) == ["bed", "window"]
    assert dict(entries) == {name: tuple(NYU13_PALETTE[NYU13_CLASSES.index(name)].tolist()) for name in ("bed", "window")}


def test_boxes_are_drawn_named_and_compared() -> None:
    spec, frame = task(), np.full((120, 160, 3), 90, np.uint8)
    found = made.boxes(spec, [[20, 40, 60, 100], [80, 40, 150, 110]], [0.9, 0.7], [1, 0])
    kind = kind_of(spec)
    ((title, drawn),) = tiles(frame, {"objects": found})
    entries = dict(legend_entries({"objects": found}))
    assert (title, list(entries)) == ("objects", ["chair", "table"])
    assert drawn[70, 20].tolist() == list(entries["table"]), "the left edge of the first box"
    assert drawn[110, 120].tolist() == list(entries["chair"]), "the lower edge of the second"
    assert drawn[70, 40].tolist() == frame[0, 0].tolist() == [90, 90, 90]
    assert kind.colours(spec, found) is None
    fewer = made.boxes(spec, found.xyxy[:1], [0.9], [1])
    named, differs = cast(tuple[str, Array], kind.draw_difference(spec, frame, fewer, found))
    assert named == "boxes that differ"
    assert differs[110, 120].tolist() == [255, 40, 40]
    assert differs[70, 20].tolist() == [90, 90, 90], "both have it"
    prediction = Prediction({"objects": found}, Timing(), Intrinsics(50, 50, 80, 60), True, (120, 160))
    assert prediction.panel(frame).ndim == 3
    many = made.boxes(made.a_spec(classes=300), np.tile([0, 0, 9, 9], (300, 1)), np.full(300, 0.5), np.arange(300)[::-1])
    assert [name for name, _ in kind.legend(many.spec, many)] == [f"class {number}" for number in range(276, 300)]


def test_what_is_told_of_boxes_as_json_arrays_and_topics() -> None:
    spec, frame = task(), np.full((120, 160, 3), 90, np.uint8)
    found = made.boxes(spec, [[20.04, 40, 60, 100]], [0.87654], [1])
    kind = kind_of(spec)
    told = {"boxes": [{"class": "table", "score": 0.8765, "xyxy": [20.0, 40.0, 60.0, 100.0]}]}
    assert kind.summary(spec, found) == told
    assert list(kind.arrays(spec, found)) == ["objects_xyxy", "objects_scores", "objects_classes"]
    text, drawn, names = kind.topics(spec)
    assert (text.name, text.encoding, text.latched) == ("objects/json", "", False)
    assert json.loads(str(text.make(found))) == told
    assert (drawn.name, drawn.encoding, drawn.over_frame, drawn.transport) == ("objects/color", "rgb8", True, "jpeg")
    np.testing.assert_array_equal(drawn.make(found, frame), kind.draw(spec, frame, found))
    assert (names.name, names.encoding, names.latched) == ("objects/labels_json", "", True)
    assert json.loads(str(names.make(None))) == {"classes": [{"id": 0, "name": "chair"}, {"id": 1, "name": "table"}]}
