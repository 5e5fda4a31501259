"""The node asks each frame only for what somebody listens to: other maps are not finished until somebody wants them."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_mtl_ros.loading import load_engine
from edge_mtl_ros.settings import Settings

from edge_mtl import Engine
from edge_mtl.bundle import BUNDLED, Bundle, bundled
from edge_mtl.depth_scale import ScaleRecord, network_digest
from edge_mtl.errors import BundleError, DepthScaleError, TaskError
from tests.bundles import make_bundle, make_image
from tests.ros import counting_node
from tests.ros.test_worker import Bench, failing


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("asked") / "tiny")


def test_what_nobody_listens_to_is_not_finished_and_is_once_somebody_does(tiny_bundle: Bundle, finished: Counter[str]) -> None:
    bench = Bench(tiny_bundle, Settings())
    bench.published.topics = {"depth"}
    finished.clear()  # of the self-test
    bench.send(1)
    bench.send(2)
    assert finished == Counter(depth=2)
    assert bench.stream.asked == ("depth",)
    bench.published.topics = {"depth", "normals"}
    bench.send(3)
    assert finished == Counter(depth=3, normals=1)
    bench.published.topics = {"segmentation"}
    bench.send(4)
    assert finished == Counter(depth=3, normals=1, labels=1)
    assert bench.published.results == [("depth",), ("depth",), ("depth", "normals"), ("segmentation",)]
    bench.published.topics = set()
    bench.send(5)
    assert finished.total() == 5
    assert bench.queue.counts().drops["unsubscribed"] == 1
    bench.close()


def test_normals_that_are_left_out_to_keep_up_are_not_finished(tiny_bundle: Bundle, finished: Counter[str]) -> None:
    bench = Bench(tiny_bundle, Settings())
    bench.worker.degradation._level = 2
    finished.clear()
    bench.send(1)
    assert finished == Counter(labels=1, depth=1)
    bench.close()


def test_a_frame_that_needs_no_prediction_does_not_say_that_the_runtime_works(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings())
    failing(bench.worker.engine, 2)
    bench.send(1)
    bench.published.topics = {"camera_info"}
    bench.send(2)
    assert "the device is lost" in bench.worker.failure
    bench.published.topics = {"depth"}
    bench.send(3)
    bench.send(4)
    assert bench.worker.failure == ""
    bench.close()


@pytest.mark.parametrize("stability", [False, True])
def test_the_camera_alone_needs_no_prediction(tiny_bundle: Bundle, finished: Counter[str], stability: bool) -> None:
    engine = Engine(tiny_bundle, threads=1)
    predicted = []
    predict = engine.predict
    engine.predict = lambda *a, **k: predicted.append(1) or predict(*a, **k)  # type: ignore[method-assign, func-returns-value]
    bench = Bench(tiny_bundle, Settings(stability=stability), engine=engine)
    bench.published.topics = {"camera_info"}
    finished.clear()
    bench.send(1, height=48, width=80)
    assert (predicted, dict(finished), bench.stream.asked) == ([], {}, ())
    (answer,) = bench.published.answers
    assert answer == ({"camera_info"}, ("header 1", (48, 80), None, (48, 80, 3)))
    assert bench.queue.counts().published == 1
    assert bench.stream.predicting.summary(time.monotonic()) == (0.0, None, None)
    bench.published.topics = {"camera_info", "depth"}
    bench.send(2, height=48, width=80)
    assert (len(predicted), dict(finished)) == (1, {"depth": 1})
    assert bench.published.answers[1][1][1] == (48, 80)
    bench.close()


def test_maps_are_smoothed_whatever_else_is_asked_for_meanwhile(tiny_bundle: Bundle) -> None:
    bench = Bench(tiny_bundle, Settings(stability=True))
    for number, topics in enumerate(({"depth"}, {"normals"}, {"depth", "normals"}, {"segmentation"}, {"depth"})):
        bench.published.topics = topics
        bench.send(number)
        assert set(bench.published.results[-1]) == topics
    assert bench.worker.failure == ""
    bench.close()


def test_the_parameter_opens_the_engine_for_some_tasks(tiny_bundle: Bundle) -> None:
    chosen = {"bundle": str(tiny_bundle.path), "threads": 1}
    with load_engine(Settings.of(chosen | {"tasks": "normals, depth"}), progress=lambda *_: None) as engine:
        assert (engine.info.tasks, engine.info.computed) == (("depth", "normals"),) * 2
    with load_engine(Settings.of(chosen | {"tasks": " "}), progress=lambda *_: None) as engine:
        assert engine.info.tasks == ("segmentation", "depth", "normals")
    with pytest.raises(TaskError, match="no task 'lane'"):
        load_engine(Settings.of(chosen | {"tasks": "depth,lane"}), progress=lambda *_: None)


def test_a_bundle_of_the_package_goes_by_its_name_and_the_demo_bundle_by_none() -> None:
    for given, name in (("rooms-b0", "rooms-b0"), ("", BUNDLED[0])):
        with load_engine(Settings.of({"bundle": given, "threads": 1}), progress=lambda *_: None) as engine:
            assert engine.info.bundle == bundled(name)
    with pytest.raises(BundleError, match="rooms-b9: no such folder"):
        load_engine(Settings.of({"bundle": "rooms-b9"}), progress=lambda *_: None)


def test_the_parameter_scales_depth_by_a_number_or_a_file(tiny_bundle: Bundle, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"bundle": str(tiny_bundle.path), "threads": 1}
    place = tmp_path / "front.json"
    place.write_bytes(ScaleRecord(1.28, network_digest(tiny_bundle)).to_json())
    for value, factor, source in (("", 1.0, ""), (0.5, 0.5, ""), (str(place), 1.28, str(place))):
        with load_engine(Settings.of(chosen | {"depth_scale": value}), progress=lambda *_: None) as engine:
            assert (engine.info.depth_scale, engine.info.depth_scale_from) == (factor, source)
            assert engine.predict(make_image(1)).depth_scale == factor
    place.write_bytes(ScaleRecord(1.28, "0" * 64).to_json())
    with pytest.raises(DepthScaleError, match="another network"):
        load_engine(Settings.of(chosen | {"depth_scale": str(place)}), progress=lambda *_: None)


class TestInTheNode:
    """Over DDS, in a node that notes what its kinds finish."""

    @pytest.fixture(autouse=True)
    def _ros(self) -> None:
        pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

    def test_maps_are_finished_while_somebody_listens_and_latched_topics_are_there_all_the_time(
        self, ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path
    ) -> None:
        from tests.ros.harness import NodeProcess, Partner, array_of, wait_until

        counts = tmp_path / "counts.json"
        command = [sys.executable, counting_node.__file__, str(counts)]
        arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "points:=true", "-p", "points_rate_hz:=0.0")
        node = NodeProcess(ros_environment, *arguments, log=tmp_path / "log", command=command)
        partner = Partner()
        frame = make_image(3, height=48, width=80)

        def grown(names: set[str], listened: str) -> None:
            """Of the kinds, `names` and no others are finished for the frames that follow, all of them equally often."""
            partner.send_until(listened, frame)  # the listener is known by now
            before = Counter(json.loads(counts.read_text()))
            partner.send_until(listened, frame, count=3)
            after = Counter(json.loads(counts.read_text()))
            assert set(after - before) == names
            assert all(after[name] - before[name] >= 2 for name in names)

        try:
            wait_until(lambda: partner.state() == "active", "the node is active")
            partner.listen("labels_json", latched=True)
            partner.listen("depth")
            partner.wait_connected()
            grown({"depth"}, "depth")
            wait_until(lambda: partner.values().get("tasks_asked") == "depth", "the task in the diagnostics")
            assert partner.values()["tasks"] == "segmentation, depth, normals"
            assert len(json.loads(wait_until(lambda: partner.received["labels_json"], "the classes")[0].data)["classes"]) == 13
            partner.listen("normals/color")
            grown({"depth", "normals"}, "normals/color")
            partner.forget()
            partner.send_camera(80, 48, 70.0)
            partner.listen("points")
            grown({"depth", "labels"}, "points")
            partner.forget()
            partner.listen("segmentation")
            grown({"labels"}, "segmentation")
            with Engine(bundle, threads=1) as engine:
                assert np.array_equal(array_of(partner.received["segmentation"][0]), engine.predict(frame).segmentation)
        finally:
            partner.close()
            code = node.end()
        assert code == 0, node.text
        assert "internal error" not in node.text

    def test_a_node_of_some_tasks_has_their_topics_only_until_it_is_loaded_with_others(
        self, ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path
    ) -> None:
        from tests.ros.harness import NAME, Partner, array_of, running, wait_until

        arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "tasks:=depth")
        with running(ros_environment, tmp_path / "log", *arguments), Engine(bundle, threads=1) as engine:
            partner = Partner()
            try:
                wait_until(lambda: partner.state() == "active", "the node is active")
                partner.listen("depth")
                partner.wait_connected()
                frame = make_image(3, height=48, width=80)
                depth = partner.send_until("depth", frame)[0]
                assert np.array_equal(array_of(depth), engine.predict(frame).depth, equal_nan=True)
                assert partner.node.count_publishers(f"{NAME}/segmentation") == 0
                assert not partner.set(tasks=["depth"]).successful
                assert partner.set(tasks="depth,lane").successful
                answer = partner.reload()
                assert not answer.success
                assert "no task 'lane'. This bundle predicts segmentation, depth, normals" in answer.message
                assert partner.get("tasks") == "depth"
                assert partner.set(tasks="segmentation,depth").successful
                assert partner.reload().success
                partner.listen("segmentation")
                labels = partner.send_until("segmentation", frame)[0]
                assert np.array_equal(array_of(labels), engine.predict(frame).segmentation)
            finally:
                partner.close()
