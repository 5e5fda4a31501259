"""The node publishes whatever tasks a bundle has: kinds from other distributions, several tasks of one kind, their clouds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from mtl.datasets.folder.description import read_description

from edge_mtl import Engine, tasks
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BundleError
from edge_mtl.ros import class_topics, task_topics
from edge_mtl.tasks import NYU_TASKS, VOID, DepthMap, Specs, read_tasks
from edge_mtl.tasks.depth import DepthSpec
from edge_mtl.tasks.points import cloud_maps
from tests.bundles import dense_model, make_bundle, make_image
from tests.own_folder import CLASSES, TOML

if TYPE_CHECKING:
    from tests.ros.harness import Partner

LANES = {"kind": "labels", "classes": ["road", "line", "curb"], "colours": [[9, 8, 7], [1, 2, 3], [250, 0, 0]]}
HEIGHT, WIDTH = 96, 128


def bundle_of(path: Path, specs: Specs, seed: int = 0) -> Bundle:
    model = dense_model(specs, seed=seed)
    return make_bundle(path, of_kinds=specs, deploy=model, plain=model, evaluation=0)


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    specs = read_tasks({"segmentation": {"kind": "labels"}, "lane": LANES, "depth": {"kind": "depth"}})
    return bundle_of(tmp_path_factory.mktemp("two") / "labels", specs)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages: the kind "edges" and the entry point that names it."""
    folder = tmp_path / "site"
    here = Path(__file__).parent
    shutil.copytree(here / "edges_plugin", folder)
    shutil.copyfile(here.parent / "plugins" / "edges" / "kind.py", folder / "edges_kind.py")
    metadata = folder / "edges_kind-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: edges-kind\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[edge_mtl.kinds]\nedges = edges_in_node:EDGES\n")
    monkeypatch.syspath_prepend(folder)
    yield folder
    tasks._KINDS.pop("edges", None)


def test_the_topics_of_the_three_tasks_are_those_of_always() -> None:
    found = {item.name: (item.spec.name, item.topic.encoding, item.topic.latched) for item in task_topics(NYU_TASKS)}
    assert found == {
        "segmentation": ("segmentation", "mono8", False),
        "segmentation/compressed": ("segmentation", "mono8", False),
        "segmentation/color": ("segmentation", "rgb8", False),
        "segmentation/color/compressed": ("segmentation", "rgb8", False),
        "overlay": ("segmentation", "rgb8", False),
        "overlay/compressed": ("segmentation", "rgb8", False),
        "confidence": ("segmentation", "mono8", False),
        "labels_json": ("segmentation", "", True),
        "depth": ("depth", "32FC1", False),
        "depth/compressedDepth": ("depth", "32FC1", False),
        "normals": ("normals", "32FC3", False),
        "normals/color": ("normals", "rgb8", False),
        "normals/color/compressed": ("normals", "rgb8", False),
    }
    assert [(task, topic.name, topic.vision_name) for task, topic in class_topics(NYU_TASKS).items()] == [
        ("segmentation", "label_info", "vision_info")
    ]


def test_depth_is_in_millimetres_where_that_is_asked_for_and_nothing_else_changes() -> None:
    plain, asked = (task_topics(NYU_TASKS, encodings=encodings) for encodings in ((), ("16UC1",)))
    changed = [
        (one.name, other.topic.encoding)
        for one, other in zip(plain, asked, strict=True)
        if one.topic.encoding != other.topic.encoding
    ]
    assert changed == [("depth", "16UC1"), ("depth/compressedDepth", "16UC1")]
    (depth,) = (item for item in asked if item.name == "depth")
    metres = np.array([[np.nan, np.inf, -1.0, 0.0, 0.0004], [1.2344, 1.2346, 65.535, 65.536, 1000.0]], np.float32)
    made = depth.topic.make(DepthMap(cast(DepthSpec, depth.spec), metres))
    assert isinstance(made, np.ndarray)
    assert made.dtype == np.uint16
    assert made.tolist() == [[0, 0, 0, 0, 0], [1234, 1235, 65535, 0, 0]]


def test_a_second_task_of_labels_has_its_own_topics_below_its_name() -> None:
    specs = read_tasks({"segmentation": {"kind": "labels"}, "lane": LANES})
    lane = [item.name for item in task_topics(specs) if item.spec.name == "lane" and not item.transport]
    assert lane == ["lane", "lane/color", "lane/overlay", "lane/confidence", "lane/labels_json"]
    assert [(topic.name, topic.vision_name, len(topic.classes)) for topic in class_topics(specs).values()] == [
        ("label_info", "vision_info", 13),
        ("lane/label_info", "lane/vision_info", 3),
    ]


OF_SEGMENTATION = ["overlay", "confidence", "label_info", "vision_info", "labels_json"]


@pytest.mark.parametrize("name", ["points", "camera_info", "image", *OF_SEGMENTATION])
def test_a_task_whose_topic_is_taken_is_refused(name: str) -> None:
    specs = read_tasks({"segmentation": {"kind": "labels"}, name: {"kind": "depth"}})
    with pytest.raises(BundleError, match=f"~/{name} of .* and of the task .*another name"):
        task_topics(specs)


def test_a_cloud_takes_the_labels_that_are_named_else_segmentation_else_the_first(two_labels: Bundle) -> None:
    with Engine(two_labels, threads=1) as engine:
        results = engine.predict(make_image(1)).results

    def chosen(labels: str, *names: str) -> str | None:
        maps = cloud_maps({name: results[name] for name in names}, labels=labels)
        return None if maps is None or maps.labels is None else maps.labels.spec.name

    every = ("lane", "segmentation", "depth")
    assert chosen("", *every) == "segmentation"
    assert chosen("lane", *every) == "lane"
    assert chosen("", "lane", "depth") == "lane"
    assert chosen("", "depth") is None
    assert cloud_maps({"lane": results["lane"]}) is None
    with pytest.raises(BundleError, match="'depth'; the bundle's tasks of labels are lane, segmentation"):
        cloud_maps({name: results[name] for name in every}, labels="depth")


def _says(partner: Partner, frame: np.ndarray, text: str) -> bool:
    partner.send(frame, time.time_ns())
    time.sleep(0.1)
    return text in partner.values().get("message", "")


class TestInTheNode:
    """Over DDS."""

    @pytest.fixture(autouse=True)
    def _ros(self) -> None:
        pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

    def test_a_kind_of_another_distribution_is_published(
        self, ros_environment: dict[str, str], plugin: Path, tmp_path: Path
    ) -> None:
        from std_msgs.msg import String

        from tests.ros.harness import Partner, array_of, running, stamp_ns, wait_until

        specs = read_tasks({"range": {"kind": "depth"}, "rim": {"kind": "edges"}})
        bundle = bundle_of(tmp_path / "edges", specs)
        environment = ros_environment | {"PYTHONPATH": f"{plugin}:{ros_environment['PYTHONPATH']}"}
        arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "output_size:=network")
        with running(environment, tmp_path / "log", *arguments), Engine(bundle, threads=1, output_size="content") as engine:
            partner = Partner()
            try:
                partner.listen("rim", "rim/none", "range")
                partner.listen("rim/share", kind=String)
                partner.wait_connected()
                frame = make_image(3, height=90, width=90)
                rim = partner.send_until("rim", frame)[0]
                share = wait_until(lambda: partner.received["rim/share"], "the text")[0]
                distance = wait_until(lambda: partner.received["range"], "the depth")[0]
                expected = engine.predict(frame)["rim"].probability
                assert rim.encoding == "32FC1"
                assert np.array_equal(array_of(rim), expected)
                assert share.data == f"{(expected > 0.5).mean():.4f}"
                assert stamp_ns(rim) == stamp_ns(distance)
                assert partner.received["rim/none"] == []
                said = wait_until(lambda: partner.values().get("message", ""), "diagnostics")
                assert "no camera_info has come" in said  # a task in metres, whatever its name
                wait_until(lambda: "nothing to send on ~/rim/none" in partner.values()["message"], "who listens in vain")
                assert "internal error" not in said  # what nobody listens to is not made
                assert partner.set(withhold_unscaled="all").successful
                wait_until(lambda: _says(partner, frame, "~/range withheld until a camera"), "metres are withheld")
                count = len(partner.received["range"])
                partner.send_until("rim", frame, count=3)
                assert len(partner.received["range"]) == count, "by its kind, whatever its name"
                partner.listen("rim/broken")
                wait_until(lambda: _says(partner, frame, "no attribute 'nothing'"), "a topic that cannot be made")
            finally:
                partner.close()

    def test_classes_of_ones_own_are_published_with_their_names(self, ros_environment: dict[str, str], tmp_path: Path) -> None:
        from tests.ros.harness import Partner, array_of, running, wait_until

        (tmp_path / "dataset.toml").write_text(TOML)
        bundle = bundle_of(tmp_path / "own", read_description(tmp_path).tasks)
        arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1")
        with running(ros_environment, tmp_path / "log", *arguments), Engine(bundle, threads=1) as engine:
            partner = Partner()
            try:
                partner.listen("segmentation", "depth")
                partner.listen("labels_json", latched=True)
                partner.wait_connected()
                frame = make_image(4, height=HEIGHT, width=WIDTH)
                labels = array_of(partner.send_until("segmentation", frame)[0])
                expected = engine.predict(frame)["segmentation"].labels
                assert np.array_equal(labels, expected)
                assert expected.max() >= 13, "classes beyond those of the study occur"
                text = wait_until(lambda: partner.received["labels_json"], "the classes")[0].data
                assert [entry["name"] for entry in json.loads(text)["classes"]] == list(CLASSES)
            finally:
                partner.close()

    @pytest.mark.parametrize("count", [19, 150, 255])
    def test_any_number_of_classes_is_published_with_its_names(
        self, ros_environment: dict[str, str], tmp_path: Path, count: int
    ) -> None:
        from std_msgs.msg import String

        from tests.ros.harness import Partner, array_of, running, wait_until

        names = ["стена", "椅子", *(f"part {number}" for number in range(2, count))]
        specs = read_tasks({"parts": {"kind": "labels", "classes": names}, "depth": {"kind": "depth"}})
        bundle = bundle_of(tmp_path / "many", specs)
        arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "points:=true", "-p", "points_rate_hz:=0.0")
        with running(ros_environment, tmp_path / "log", *arguments), Engine(bundle, threads=1) as engine:
            partner = Partner()
            try:
                partner.listen("parts", "parts/color", "parts/confidence", "points")
                partner.listen("parts/labels_json", latched=True, kind=String)
                partner.wait_connected()
                frame = make_image(5, height=HEIGHT, width=WIDTH)
                partner.send_camera(WIDTH, HEIGHT, 100.0)
                cloud = partner.send_until("points", frame)[0]
                expected = engine.predict(frame)["parts"]
                found, colours, sure = (
                    array_of(wait_until(lambda name=name: partner.received[name], name)[0])
                    for name in ("parts", "parts/color", "parts/confidence")
                )
                assert len(np.unique(expected.labels)) > 5
                assert np.array_equal(found, expected.labels)
                assert np.array_equal(colours, expected.spec.palette[expected.labels])
                assert np.abs(sure - expected.confidence * 255).max() <= 0.51
                told = json.loads(wait_until(lambda: partner.received["parts/labels_json"], "the classes")[0].data)
                assert [entry["name"] for entry in told["classes"]] == names
                offset = next(field.offset for field in cloud.fields if field.name == "label")
                points = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, cloud.point_step)
                assert np.array_equal(points[..., offset], expected.labels)
            finally:
                partner.close()

    def test_two_tasks_of_labels_are_published_and_the_cloud_has_the_one_that_was_named(
        self, ros_environment: dict[str, str], two_labels: Bundle, tmp_path: Path
    ) -> None:
        from std_msgs.msg import String

        from tests.ros.harness import Partner, array_of, running, wait_until

        arguments = ("-p", f"bundle:={two_labels.path}", "-p", "threads:=1", "-p", "points:=true", "-p", "points_rate_hz:=0.0")
        labelled = ("-p", "points_labels:=lane")
        with running(ros_environment, tmp_path / "log", *arguments, *labelled), Engine(two_labels, threads=1) as engine:
            partner = Partner()
            try:
                maps = ("segmentation", "lane", "segmentation/color", "lane/color", "confidence", "lane/confidence")
                partner.listen(*maps, "points")
                partner.listen("labels_json", latched=True)
                partner.listen("lane/labels_json", latched=True, kind=String)
                partner.wait_connected()
                frame = make_image(4, height=HEIGHT, width=WIDTH)
                partner.send_camera(WIDTH, HEIGHT, 100.0)
                cloud = partner.send_until("points", frame)[0]
                expected = engine.predict(frame)
                found = {name: array_of(wait_until(lambda name=name: partner.received[name], name)[0]) for name in maps}
                assert np.array_equal(found["segmentation"], expected["segmentation"].labels)
                assert np.array_equal(found["lane"], expected["lane"].labels)
                assert np.array_equal(found["lane/color"], np.array(LANES["colours"], np.uint8)[expected["lane"].labels])
                assert np.abs(found["confidence"] - expected["segmentation"].confidence * 255).max() <= 0.51
                assert np.abs(found["lane/confidence"] - expected["lane"].confidence * 255).max() <= 0.51
                offset = next(field.offset for field in cloud.fields if field.name == "label")
                points = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, cloud.point_step)
                assert np.array_equal(points[..., offset], expected["lane"].labels)
                main, lane = (
                    json.loads(wait_until(lambda name=name: partner.received[name], name)[0].data)
                    for name in ("labels_json", "lane/labels_json")
                )
                assert len(main["classes"]) == 13
                assert [(entry["name"], entry["color"]) for entry in lane["classes"]] == list(
                    zip(LANES["classes"], LANES["colours"], strict=True)
                )
                assert lane["unlabelled"] == VOID

                assert partner.set(points_labels="depth").successful
                answer = partner.reload()
                assert not answer.success
                assert "tasks of labels are lane, segmentation" in answer.message
                assert partner.get("points_labels") == "lane"
            finally:
                partner.close()
