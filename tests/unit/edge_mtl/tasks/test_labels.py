"""Tasks of labels with 2 to 255 classes of their own: what a manifest may say, colours, legends, means, topics."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest

from edge_mtl.image.encoding import encode_labels
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks import (
    NYU13_CLASSES,
    NYU13_PALETTE,
    VOID,
    LabelMap,
    LabelsSpec,
    describe_tasks,
    kind_of,
    read_tasks,
    remarks,
)
from edge_mtl.tasks.drawing import legend_entries
from edge_mtl.tasks.label_metric import LabelMetric, resampled
from edge_mtl.tasks.labels import Labels
from edge_mtl.tasks.palette import generated_palette, oklab


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def task(classes: Any, **options: Any) -> LabelsSpec:
    return cast(LabelsSpec, read_tasks({"parts": {"kind": "labels", "classes": classes, **options}})["parts"])


@pytest.mark.parametrize("count", [2, 13, 19, 40, 150, 255])
def test_two_to_255_classes_survive_the_manifest(count: int) -> None:
    colours = [[number, 255 - number, 7] for number in range(count)]
    spec = task(names(count), colours=colours, ignore_in_mean=["class 1"])
    again = read_tasks(json.loads(json.dumps(describe_tasks({"parts": spec}))))["parts"]
    assert again == spec
    assert spec.palette.tolist() == colours
    assert kind_of(spec).outputs(spec, (64, 96), "host") == {"parts_logits": (1, count, 16, 24)}


@pytest.mark.parametrize("classes", [["Straße", "стена", "椅子", "🪑", "نیم‌فاصله", 'a "b" [c]'], ["NaN", "None"]])
def test_names_are_any_text(classes: list[str]) -> None:
    spec = task(classes)
    topics = {topic.name: topic for topic in kind_of(spec).topics(spec)}
    told = json.loads(str(topics["parts/labels_json"].make(None)))
    assert [entry["name"] for entry in told["classes"]] == classes
    assert [entry["color"] for entry in told["classes"]] == spec.palette.tolist()


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["alone"], "2 to 255 names; found 1"),
        (names(256), "2 to 255 names; found 256"),
        ("wall", "2 to 255 names; found 'wall'"),
        ([1, 2], r"2 to 255 names; found \[1, 2\]"),
        (["a", " "], "none of them empty; found ' ' at index 1"),
        (["a", "b", "a"], "each once; found 'a' at indices 0 and 2"),
        (["a", "b\n"], "without control characters; found .* at index 1"),
        (["a", "\ud800"], "without control characters; found .* at index 1"),
    ],
)
def test_other_classes_are_refused_with_what_was_found(classes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        task(classes)


@pytest.mark.parametrize("left_out", [["c"], "a", ["a", "b"]])
def test_only_some_of_the_classes_can_be_left_out_of_the_mean(left_out: Any) -> None:
    with pytest.raises(ValueError, match="should name some of its classes, not all of them"):
        task(["a", "b"], ignore_in_mean=left_out)


class TestPalette:
    def test_a_class_keeps_its_colour_however_many_follow(self) -> None:
        assert generated_palette(40).tolist() == generated_palette(255)[:40].tolist()
        assert generated_palette(3).tolist() == [[230, 85, 70], [0, 0, 255], [0, 255, 0]]

    @pytest.mark.parametrize(("count", "least"), [(19, 0.14), (40, 0.10), (150, 0.055), (255, 0.045)])
    def test_colours_differ_from_each_other_and_from_void(self, count: int, least: float) -> None:
        """In OKLab black and white are 1 apart, and a difference of 0.02 is just seen."""
        lab = oklab(np.vstack([generated_palette(count), [[0, 0, 0]]]))
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
        apart[np.diag_indices(count + 1)] = 1
        assert apart.min() > least
        assert apart[-1, :-1].min() > 0.4

    def test_the_study_keeps_its_own(self) -> None:
        assert np.array_equal(task(list(NYU13_CLASSES)).palette, NYU13_PALETTE)

    def test_there_is_none_for_more_than_255(self) -> None:
        with pytest.raises(ValueError, match="0 to 255 colours; 256"):
            generated_palette(256)

    def test_a_png_of_255_classes_holds_indices_and_colours(self) -> None:
        labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        spec = task(names(255))
        shown = decode_image(encode_labels(labels, palette=spec.palette))
        assert shown is not None
        assert np.array_equal(shown.reshape(-1, 3)[:255], spec.palette)
        assert shown.reshape(-1, 3)[VOID].tolist() == [0, 0, 0]


class TestLegend:
    def entries(self, labels: Any, count: int) -> list[str]:
        spec = task(names(count))
        return [name for name, _ in legend_entries({"parts": LabelMap(spec, np.array(labels, np.uint8))})]

    def test_it_names_the_classes_of_the_frame_only(self) -> None:
        assert self.entries([[3, 3, 200], [140, VOID, 3]], 150) == ["class 3", "class 140"]

    def test_of_many_it_names_the_largest_and_counts_the_others(self) -> None:
        found = self.entries([np.repeat(np.arange(30), np.arange(1, 31))], 150)
        assert found == [*(f"class {number}" for number in range(6, 30)), "and 6 more"]


class TestMeans:
    def test_ignored_classes_are_left_out_of_the_mean_and_reports_say_so(self) -> None:
        spec = task(["a", "b", "other"], ignore_in_mean=["other"])
        truth = np.array([[0, 0, 1, 2, 2, 2]], np.uint8)
        metric = kind_of(spec).metric(spec)
        metric.update(LabelMap(spec, np.array([[0, 1, 1, 2, 0, 1]], np.uint8)), truth)
        assert metric.compute()["miou"] == pytest.approx((1 / 3 + 1 / 3) / 2)
        assert metric.details()["class_iou"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "other": 1 / 3})
        assert remarks({"parts": spec}) == ("The mean IoU of parts leaves out: other.",)
        assert remarks({"parts": task(["a", "b"])}) == ()

    def test_rows_are_true_classes_and_columns_predicted_ones(self) -> None:
        """Values of BDD100K's own tests (bdd100k/bdd100k, tests/eval); transposed arguments swap 9 and 24."""
        truth, predicted = np.zeros((10, 10), np.uint8), np.ones((10, 10), np.uint8)
        truth[4:, 4:], predicted[:7, :7] = 1, 0
        metric = LabelMetric(classes=2)
        metric.add(predicted, truth)
        assert metric.confusion.tolist() == [[40, 24], [9, 27]]
        assert metric.class_iou() == pytest.approx([0.5479452, 0.45], abs=1e-7)
        assert metric.compute()["miou"] == pytest.approx((0.5479452 + 0.45) / 2, abs=1e-7)

    def test_what_is_predicted_outside_of_the_classes_is_wrong(self) -> None:
        truth, predicted = np.zeros((10, 10), np.uint8), np.full((10, 10), 7, np.uint8)
        truth[4:, 4:], predicted[:7, :7] = 1, 0
        metric = LabelMetric(classes=2)
        metric.add(predicted, truth)
        assert metric.confusion.tolist() == [[40, 0], [9, 0]]
        assert metric.class_iou() == pytest.approx([40 / 73, 0.0])
        assert metric.compute()["pixel_accuracy"] == 0.4

    @pytest.mark.parametrize("count", [3, 150, 255])
    def test_draws_of_frames_have_the_mean_of_their_pooled_confusion(self, count: int) -> None:
        random = np.random.default_rng(count)
        frames = [(random.integers(0, count + 1, (20, 30)), random.integers(0, count, (20, 30))) for _ in range(4)]
        statistics = []
        for predicted, truth in frames:
            single = LabelMetric(classes=count)
            single.add(predicted, truth)
            statistics.append(single.statistics())
        pooled = LabelMetric(classes=count, ignored=[1])
        for index in (0, 2, 2, 3):
            pooled.add(*frames[index])
        assert resampled(statistics, np.array([[1, 0, 2, 1]]), [1]) == pytest.approx([pooled.compute()["miou"]], rel=1e-12)


def test_the_overlay_is_the_frame_under_the_colours_with_the_names_of_those_that_occur() -> None:
    spec = task(names(40))
    (topic,) = (topic for topic in kind_of(spec).topics(spec) if topic.name == "parts/overlay")
    assert (topic.encoding, topic.over_frame) == ("rgb8", True)
    labels = np.full((240, 320), 7, np.uint8)
    labels[:, 160:], labels[:40] = 9, VOID
    frame = np.random.default_rng(0).integers(1, 256, (240, 320, 3), np.uint8)
    before = frame.copy()
    drawn = np.asarray(topic.make(LabelMap(spec, labels), frame))
    assert drawn.dtype == np.uint8
    assert drawn.shape == frame.shape
    assert np.array_equal(frame, before)
    assert np.array_equal(drawn[:40], frame[:40]), "unlabelled"
    mixed = frame * 0.45 + spec.palette[labels[:, :, None].repeat(1, 2)[..., 0] % 40] * 0.55
    assert np.abs(drawn[40:160].astype(float) - mixed[40:160]).max() <= 1.0
    below = drawn[160:].reshape(-1, 3)
    shown = {index for index in range(40) if (below == spec.palette[index]).all(axis=1).sum() >= 50}
    assert shown == {7, 9}


def test_of_many_classes_the_overlay_names_the_largest_and_counts_the_others() -> None:
    spec = task(names(200))
    labels = np.repeat(np.arange(200, dtype=np.uint8)[::-1], np.arange(1, 201) * 4)[: 4 * 200 * 201 // 2].reshape(240, 335)
    drawn = np.asarray(Labels().overlay(spec, LabelMap(spec, labels), np.full((240, 335, 3), 90, np.uint8)))
    below = drawn[160:].reshape(-1, 3)
    shown = {index for index in range(200) if (below == spec.palette[index]).all(axis=1).sum() >= 50}
    assert 3 <= len(shown) <= 24
    assert shown == set(range(len(shown))), "those with the most pixels"
