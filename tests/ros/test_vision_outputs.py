"""Boxes and the class of a frame as messages of vision_msgs, with places in metres where depth and a camera are known.

The messages are those of vision_msgs where that is installed, else made here, compiled, and sent over DDS.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from std_msgs.msg import String

from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.prediction import Prediction
from tests.bundles import HEIGHT, WIDTH, make_image
from tests.mapless_bundles import OBJECTS, SCENES, mapless_bundle
from tests.ros.harness import NAME, Partner, active_partner, running, stamp_ns, wait_until

FRAME = make_image(3, height=2 * HEIGHT, width=2 * WIDTH)
FOCAL = 150.0
CAMERA = (FOCAL, FOCAL, (2 * WIDTH - 1) / 2, (2 * HEIGHT - 1) / 2)
UNKNOWN = -1.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("results") / "all"
    return mapless_bundle(folder, tasks=("objects", "scene", "depth"), evaluation=0, calibration=1)


@pytest.fixture(scope="module")
def predicted(bundle: Bundle) -> Prediction:
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1) as engine:
        found = engine.predict(FRAME, intrinsics=CAMERA)
    assert len(found["objects"]) > 1
    return found


def arguments(bundle: Bundle, *more: str) -> tuple[str, ...]:
    chosen = ("-p", "backend:=onnxruntime", "-p", "precision:=fp32")
    return ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", *chosen, *more)


def listen(partner: Partner) -> None:
    from vision_msgs.msg import Classification, Detection2DArray, LabelInfo

    partner.listen("objects", kind=Detection2DArray)
    partner.listen("scene", kind=Classification)
    partner.listen("objects/json", "scene/json", kind=String)
    partner.listen("objects/label_info", "scene/label_info", latched=True, kind=LabelInfo)


def newest(partner: Partner, name: str) -> Any:
    return wait_until(lambda: partner.received[name], name)[-1]


def test_boxes_and_the_class_of_a_frame_have_its_header_and_places_once_the_camera_is_known(
    with_vision: dict[str, str], bundle: Bundle, predicted: Prediction, tmp_path: Path
) -> None:
    with running(with_vision, tmp_path / "log", *arguments(bundle)), active_partner() as partner:
        listen(partner)
        partner.wait_connected()
        message = partner.send_until("objects", FRAME)[-1]
        boxes, scene = predicted["objects"], predicted["scene"]
        assert stamp_ns(message) > 0
        assert message.header.frame_id == "camera"
        assert len(message.detections) == len(boxes)
        for number, found in enumerate(message.detections):
            assert found.header == message.header
            left, top, right, bottom = boxes.xyxy[number]
            centre = found.bbox.center.position
            told = [centre.x, centre.y, found.bbox.size_x, found.bbox.size_y]
            np.testing.assert_allclose(told, [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], rtol=1e-5)
            (result,) = found.results
            assert result.hypothesis.class_id == str(boxes.classes[number])
            assert result.hypothesis.score == pytest.approx(boxes.scores[number])
            place = result.pose.pose.position
            assert (place.x, place.y, place.z) == (0.0, 0.0, 0.0)
            assert result.pose.covariance[0] == UNKNOWN, "without a camera nothing is known in metres"

        answer = newest(partner, "scene")
        assert [result.class_id for result in answer.results] == [str(index) for index, _ in scene.best()]
        assert answer.results[0].score == pytest.approx(scene.probabilities.max())
        assert answer.header.frame_id == "camera"
        assert json.loads(newest(partner, "scene/json").data)["class"] == scene.name
        assert len(json.loads(newest(partner, "objects/json").data)["boxes"]) == len(boxes)
        named = newest(partner, "objects/label_info")
        assert [one.class_name for one in named.class_map] == list(OBJECTS)
        assert named.threshold == pytest.approx(boxes.spec.score)
        assert [one.class_name for one in newest(partner, "scene/label_info").class_map] == list(SCENES)

        partner.send_camera(2 * WIDTH, 2 * HEIGHT, FOCAL)
        message = partner.send_until("objects", FRAME)[-1]
        assert predicted.depth is not None
        expected = predicted.boxes_3d().centres
        found = [detection.results[0].pose for detection in message.detections]
        places = [[one.pose.position.x, one.pose.position.y, one.pose.position.z] for one in found]
        np.testing.assert_allclose(places, expected, rtol=1e-4, atol=1e-5)
        assert all(one.covariance[0] == 0.0 for one in found)


def test_a_least_score_leaves_out_less_certain_boxes_and_is_said_with_the_names(
    with_vision: dict[str, str], bundle: Bundle, predicted: Prediction, tmp_path: Path
) -> None:
    least = float(np.sort(predicted["objects"].scores)[-2:].mean())
    more = ("-p", f"min_score:={least}")
    with running(with_vision, tmp_path / "log", *arguments(bundle, *more)), active_partner() as partner:
        listen(partner)
        partner.wait_connected()
        assert len(partner.send_until("objects", FRAME)[-1].detections) == 1
        assert newest(partner, "objects/label_info").threshold == pytest.approx(least)


def test_only_what_is_listened_to_is_predicted_and_depth_for_places(
    with_vision: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    from vision_msgs.msg import Classification, Detection2DArray

    with running(with_vision, tmp_path / "log", *arguments(bundle)), active_partner() as partner:
        partner.listen("scene", kind=Classification)
        partner.wait_connected()
        partner.send_until("scene", FRAME)
        wait_until(lambda: partner.values().get("tasks_asked") == "scene", "scene alone")
        partner.listen("objects", kind=Detection2DArray)
        partner.wait_connected()
        partner.send_until("objects", FRAME)
        wait_until(lambda: partner.values().get("tasks_asked") == "depth, objects, scene", "depth for the places of objects")


def test_without_vision_msgs_the_same_is_said_as_json(
    without_vision: dict[str, str], bundle: Bundle, predicted: Prediction, tmp_path: Path
) -> None:
    with running(without_vision, tmp_path / "log", *arguments(bundle)) as node, active_partner() as partner:
        partner.listen("objects/json", "scene/json", kind=String)
        partner.listen("objects/labels_json", latched=True, kind=String)
        partner.wait_connected()
        partner.send_until("objects/json", FRAME)
        named = json.loads(newest(partner, "objects/labels_json").data)["classes"]
        assert [one["name"] for one in named] == list(OBJECTS)
        assert json.loads(newest(partner, "scene/json").data)["class"] == predicted["scene"].name
        published = {name for name, _ in partner.node.get_topic_names_and_types()}
        assert not published & {f"{NAME}/objects", f"{NAME}/scene", f"{NAME}/objects/label_info"}
        assert "boxes and classes of frames are sent as JSON" in node.text
