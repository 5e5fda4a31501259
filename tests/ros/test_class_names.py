"""Which class a number is: LabelInfo and VisionInfo for late joiners, the parameter they name, and a node without vision_msgs.

The messages are those of vision_msgs where that is installed, else made here, compiled, and sent over DDS.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import GetParameters
from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy
from std_msgs.msg import String

from edge_mtl.bundle import Bundle
from edge_mtl.tasks import read_tasks
from tests.bundles import dense_model, make_bundle, make_image
from tests.ros.harness import NAME, Partner, active_partner, running, stamp_ns, wait_until

ROOMS = {"kind": "labels", "classes": ["wall", "floor", "стена"]}
DRIVABLE = {"kind": "labels", "classes": ["not drivable", "drivable"], "colours": [[9, 8, 7], [1, 2, 3]]}
INFOS = ("label_info", "vision_info", "drivable/label_info", "drivable/vision_info")


def bundle_of(path: Path, drivable: dict[str, Any], seed: int) -> Bundle:
    specs = read_tasks({"segmentation": ROOMS, "drivable": drivable})
    model = dense_model(specs, seed=seed)
    return make_bundle(path, of_kinds=specs, deploy=model, plain=model, evaluation=0, calibration=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of(tmp_path_factory.mktemp("classes") / "first", DRIVABLE, 0)


def arguments(bundle: Bundle, *more: str) -> tuple[str, ...]:
    return ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", *more)


def listen_to_infos(partner: Partner) -> None:
    from vision_msgs.msg import LabelInfo, VisionInfo

    for name in INFOS:
        partner.listen(name, latched=True, kind=LabelInfo if name.endswith("label_info") else VisionInfo)


def newest(partner: Partner, name: str) -> Any:
    return wait_until(lambda: partner.received[name], name)[-1]


def names(message: Any) -> dict[int, str]:
    return {item.class_id: item.class_name for item in message.class_map}


def test_who_joins_late_is_told_the_classes_of_each_task_beside_its_map(
    with_vision: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    with running(with_vision, tmp_path / "log", *arguments(bundle)) as node, active_partner() as partner:
        listen_to_infos(partner)
        labels, drivable = newest(partner, "label_info"), newest(partner, "drivable/label_info")
        assert names(labels) == dict(enumerate(ROOMS["classes"]))
        assert names(drivable) == dict(enumerate(DRIVABLE["classes"]))
        assert labels.threshold == drivable.threshold == 0.0
        assert labels.header.frame_id == ""
        assert stamp_ns(labels) > 0

        partner.listen("labels_json", "drivable/labels_json", latched=True, kind=String)
        for task, below in (("segmentation", ""), ("drivable", "drivable/")):
            info = newest(partner, f"{below}vision_info")
            assert info.method.startswith("edge_mtl tiny revision 1 (")
            assert info.method.endswith(f", {task}")
            owner, _, parameter = info.database_location.rpartition("/")
            assert owner == NAME
            assert partner.get(parameter) == newest(partner, f"{below}labels_json").data
            assert json.loads(partner.get(parameter))["classes"][1]["name"] == names(newest(partner, f"{below}label_info"))[1]
        assert newest(partner, "vision_info").database_version != newest(partner, "drivable/vision_info").database_version

        for name in INFOS:
            (publisher,) = partner.node.get_publishers_info_by_topic(f"{NAME}/{name}")
            assert publisher.qos_profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
            assert publisher.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE

        partner.listen("segmentation", "drivable")
        partner.wait_connected()
        partner.send_until("drivable", make_image(1, height=48, width=64), count=3)
        framed = wait_until(lambda: [m for m in partner.received["label_info"] if m.header.frame_id == "camera"], "the frame")
        assert len(framed) == 1, "sent again when the frame became known, not with each image"
        assert names(framed[0]) == names(labels)
        assert "vision_msgs is not installed" not in node.text


def test_a_reload_tells_the_classes_again_and_another_bundle_another_version(
    with_vision: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    same = bundle_of(tmp_path / "same", DRIVABLE, 1)
    others = bundle_of(tmp_path / "others", DRIVABLE | {"classes": ["drivable", "not drivable"]}, 0)
    with running(with_vision, tmp_path / "log", *arguments(bundle)), active_partner() as partner:
        listen_to_infos(partner)
        first = newest(partner, "drivable/vision_info")
        before = partner.get("classes.drivable")

        assert partner.set(bundle=str(same.path)).successful
        assert partner.reload().success
        wait_until(lambda: newest(partner, "drivable/vision_info").database_version != first.database_version, "a version")
        second = newest(partner, "drivable/vision_info")
        assert second.method != first.method
        assert partner.get("classes.drivable") == before

        assert partner.set(bundle=str(others.path)).successful
        assert partner.reload().success
        wait_until(lambda: names(newest(partner, "drivable/label_info")) == {0: "drivable", 1: "not drivable"}, "the names")
        wait_until(lambda: newest(partner, "drivable/vision_info").method != second.method, "a method")
        third = newest(partner, "drivable/vision_info").database_version
        assert third not in (first.database_version, second.database_version)
        assert [each["name"] for each in json.loads(partner.get("classes.drivable"))["classes"]] == ["drivable", "not drivable"]

        assert partner.set(bundle=str(bundle.path)).successful
        assert partner.reload().success
        wait_until(lambda: newest(partner, "drivable/vision_info").method == first.method, "the first bundle")
        assert newest(partner, "drivable/vision_info").database_version == first.database_version


def test_without_vision_msgs_one_line_says_so_and_all_else_is_there(
    without_vision: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    with running(without_vision, tmp_path / "log", *arguments(bundle)) as node, active_partner() as partner:
        partner.listen("segmentation", "drivable")
        partner.listen("labels_json", "drivable/labels_json", latched=True, kind=String)
        partner.wait_connected()
        partner.send_until("drivable", make_image(1, height=48, width=64))
        assert newest(partner, "drivable/labels_json").data == partner.get("classes.drivable")
        published = {name for name, _ in partner.node.get_topic_names_and_types()}
        assert f"{NAME}/drivable" in published
        assert not published & {f"{NAME}/{name}" for name in INFOS}
        assert partner.reload().success
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE):
            assert partner.change(transition)
        said = [line for line in node.text.splitlines() if "vision_msgs" in line]
        assert len(said) == 1, node.text
        assert "[INFO]" in said[0]
        assert "vision_msgs is not installed" in said[0]


def test_the_parameters_of_classes_are_there_while_configured_and_only_the_node_sets_them(
    without_vision: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    override = ("-p", "classes.drivable:=mine")
    with running(without_vision, tmp_path / "log", *arguments(bundle, *override)), active_partner() as partner:
        text = partner.get("classes.drivable")
        assert json.loads(text)["unlabelled"] == 255
        refused = partner.set(points=True, **{"classes.drivable": "mine"})
        assert not refused.successful
        assert "what the bundle says" in refused.reason
        assert partner.get("classes.drivable") == text
        assert partner.get("points") is False
        partner.set(bundle="/nowhere")
        assert not partner.reload().success
        assert partner.get("classes.drivable") == text
        assert partner.change(Transition.TRANSITION_DEACTIVATE)
        assert partner.change(Transition.TRANSITION_CLEANUP)
        answer = partner.call(GetParameters, f"{NAME}/get_parameters", GetParameters.Request(names=["classes.drivable"]))
        assert len(answer.values) == 0, "there is no such parameter"
