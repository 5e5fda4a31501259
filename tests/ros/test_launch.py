"""What the launch files hand to the node, and when they give up on it. The packages `launch` and `launch_ros` are on no package
index: stand-ins keep what they are given, so this says nothing about whether the real ones accept it."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.ros.conftest import PACKAGE

LAUNCH = PACKAGE / "launch"
SHARE = "$(find-pkg-share edge_mtl)"


class Value:
    """LaunchConfiguration."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: Mapping[str, str]) -> str:
        return context[self.name]


class NotFound(Exception):
    """PackageNotFoundError."""


INSTALLED = {"edge_mtl", "usb_cam"}


def _share(package: str) -> str:
    if package not in INSTALLED:
        raise NotFound(package)
    return str(PACKAGE)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def module(name: str, **contents: Any) -> None:
        made = ModuleType(name)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    def kept(kind: str) -> Callable[..., SimpleNamespace]:
        return lambda *given, **options: SimpleNamespace(kind=kind, given=given, **options)

    module("ament_index_python")
    module("ament_index_python.packages", get_package_share_directory=_share, PackageNotFoundError=NotFound)
    module("launch", LaunchContext=dict, LaunchDescription=list)
    module(
        "launch.actions",
        DeclareLaunchArgument=lambda name, default_value, description: (name, default_value, description),
        OpaqueFunction=lambda function: function,
        **{name: kept(name) for name in ("EmitEvent", "IncludeLaunchDescription", "LogInfo", "RegisterEventHandler")},
    )
    module("launch.event_handlers", OnProcessExit=kept("OnProcessExit"))
    module("launch.events", matches_action=lambda action: ("is", action))
    module("launch.events.process", ProcessExited=object, ShutdownProcess=kept("ShutdownProcess"))
    module("launch.launch_description_sources", PythonLaunchDescriptionSource=Path)
    module("launch.substitutions", LaunchConfiguration=Value)
    module("launch_ros")
    module("launch_ros.actions", LifecycleNode=kept("LifecycleNode"), Node=kept("Node"))
    module("launch_ros.parameter_descriptions", ParameterValue=lambda value, value_type: (value.name, value_type))


def launch_file(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), LAUNCH / name)
    assert spec is not None
    assert spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    return file


def declared(file: ModuleType) -> dict[str, str]:
    """The arguments of a file with their defaults; each has a description."""
    arguments = [entry for entry in file.generate_launch_description() if isinstance(entry, tuple)]
    assert all(description.endswith(".") for _, _, description in arguments)
    return {name: default for name, default, _ in arguments}


def launched(**given: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    """What watches the node's end, and the node, for the arguments given."""
    file = launch_file("perception.launch.py")
    context = declared(file)
    assert set(given) <= set(context)
    (start,) = [entry for entry in file.generate_launch_description() if callable(entry)]
    watch, node = start(context | given)
    return watch, node


def test_what_is_not_given_is_what_the_file_of_parameters_says() -> None:
    _, node = launched()
    assert node.parameters == [str(PACKAGE / "config" / "perception.yaml")]


def test_what_is_given_goes_over_the_file_of_parameters() -> None:
    given = {
        "bundle": "/bundles/mine",
        "autostart": "false",
        "build": "int8",
        "points": "true",
        "image_transport": "compressed",
    }
    _, node = launched(**given)
    file, over = node.parameters
    assert file.endswith("perception.yaml")
    types = {"bundle": str, "autostart": bool, "build": str, "points": bool, "image_transport": str}
    assert over == {name: (name, kind) for name, kind in types.items()}


def test_arguments_over_the_file_are_parameters_of_their_type() -> None:
    from edge_mtl_ros.settings import PARAMETERS

    known = {parameter.name: type(parameter.default) for parameter in PARAMETERS} | {"use_sim_time": bool}
    for name, (kind, _) in launch_file("perception.launch.py").PARAMETERS.items():
        assert known[name] is kind, name


def test_name_topics_and_level_reach_the_node() -> None:
    _, node = launched()
    assert (node.name.name, node.namespace.name) == ("name", "namespace")
    assert [(topic, value.name) for topic, value in node.remappings] == [("image", "image"), ("camera_info", "camera_info")]
    *flags, level = node.arguments
    assert flags == ["--ros-args", "--log-level"]
    assert level.name == "log_level"
    assert node.respawn.name == "respawn"


def test_the_topics_of_several_cameras_are_made_of_a_pattern_and_their_names_are_a_parameter() -> None:
    topics = {"image": "/{camera}/color/image_raw", "camera_info": "/rig/{camera}/info"}
    _, node = launched(cameras="front, left", **topics)
    assert node.parameters[-1] == {"cameras": ["front", "left"]}
    assert node.remappings == [
        ("front/image", "/front/color/image_raw"),
        ("left/image", "/left/color/image_raw"),
        ("front/camera_info", "/rig/front/info"),
        ("left/camera_info", "/rig/left/info"),
    ]


def test_one_topic_for_several_cameras_is_refused_with_what_to_give() -> None:
    with pytest.raises(ValueError, match=r"image:=/camera/color/image_raw: with cameras:=front,left a topic with \{camera\}"):
        launched(cameras="front,left", camera_info="/{camera}/info")
    with pytest.raises(ValueError, match=r"Give one such as camera_info:=/\{camera\}/color/camera_info"):
        launched(cameras="front,left", image="/{camera}/image")


def test_the_example_of_two_cameras_is_one_that_the_node_takes() -> None:
    yaml = pytest.importorskip("yaml")
    from edge_mtl_ros.settings import OF_A_CAMERA, PARAMETERS, Settings

    given = yaml.safe_load((PACKAGE / "config" / "two_cameras.yaml").read_text())["/**"]["ros__parameters"]
    cameras = given["cameras"]
    assert len(cameras) == 2
    assert set(given) <= {parameter.name for parameter in PARAMETERS} | set(cameras)
    own = {f"{camera}.{name}": value for camera in cameras for name, value in given.pop(camera, {}).items()}
    assert own
    assert {name.partition(".")[2] for name in own} <= set(OF_A_CAMERA)
    assert tuple(Settings.of_cameras(given | own)) == tuple(cameras)


def test_a_file_of_parameters_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"params_file:=/nowhere/mine\.yaml: a file of parameters was expected"):
        launched(params_file="/nowhere/mine.yaml")


def exits(clock: list[float], watch: Callable[..., list[SimpleNamespace]], code: int) -> list[SimpleNamespace]:
    return watch(SimpleNamespace(returncode=code, action="the node"), {})


def assert_given_up(actions: list[SimpleNamespace], why: str) -> None:
    said, emitted = actions
    assert why in said.msg
    assert emitted.event.kind == "ShutdownProcess"
    assert emitted.event.process_matcher == ("is", "the node")


def test_wrong_arguments_are_not_tried_again() -> None:
    watch, node = launched()
    (handler,) = watch.given
    assert handler.target_action is node
    assert_given_up(exits([], handler.on_exit, 2), "arguments or parameters are wrong")


def test_a_node_that_ends_over_and_over_is_given_up_on_and_one_that_ends_now_and_then_is_not() -> None:
    file = launch_file("perception.launch.py")
    now_s = [0.0]
    often = file._limited(lambda: now_s[0])
    for _ in range(file.MOST_ENDS - 1):
        now_s[0] += 3.0
        assert exits(now_s, often, 1) == []
    now_s[0] += 3.0
    assert_given_up(exits(now_s, often, 1), f"ended {file.MOST_ENDS} times")
    seldom = file._limited(lambda: now_s[0])
    for _ in range(5 * file.MOST_ENDS):
        now_s[0] += file.WINDOW_S / (file.MOST_ENDS - 1) + 1.0
        assert exits(now_s, seldom, 1) == []


def test_the_service_gives_up_as_the_launch_file_does() -> None:
    file = launch_file("perception.launch.py")
    unit = (PACKAGE.parents[2] / "deploy" / "edge-mtl.service").read_text()
    assert f"StartLimitBurst={file.MOST_ENDS}\n" in unit
    assert f"StartLimitIntervalSec={file.WINDOW_S / 60:g}min\n" in unit
    assert f"RestartPreventExitStatus={file.WRONG_ARGUMENTS}\n" in unit


def of_xml() -> tuple[dict[str, str], str, dict[str, str]]:
    root = ElementTree.parse(LAUNCH / "perception.launch.xml").getroot()
    (include,) = root.iter("include")
    arguments = {each.attrib["name"]: each.attrib["default"] for each in root.findall("arg")}
    return arguments, include.attrib["file"], {each.attrib["name"]: each.attrib["value"] for each in include.findall("arg")}


def of_yaml() -> tuple[dict[str, str], str, dict[str, str]]:
    yaml = pytest.importorskip("yaml")
    entries = yaml.safe_load((LAUNCH / "perception.launch.yaml").read_text())["launch"]
    arguments = {each["arg"]["name"]: each["arg"]["default"] for each in entries if "arg" in each}
    (include,) = [each["include"] for each in entries if "include" in each]
    return arguments, include["file"], {each["name"]: each["value"] for each in include["arg"]}


@pytest.mark.parametrize("variant", [of_xml, of_yaml])
def test_the_variants_in_xml_and_yaml_have_the_same_arguments_and_hand_on_all_of_them(
    variant: Callable[[], tuple[dict[str, str], str, dict[str, str]]],
) -> None:
    arguments, included, handed = variant()
    assert {name: text.replace(SHARE, str(PACKAGE)) for name, text in arguments.items()} == declared(
        launch_file("perception.launch.py")
    )
    assert included == f"{SHARE}/launch/perception.launch.py"
    assert handed == {name: f"$(var {name})" for name in arguments}


class TestCamera:
    def started(self, **given: str) -> tuple[list[SimpleNamespace], SimpleNamespace]:
        file = launch_file("camera.launch.py")
        *_, start, included = file.generate_launch_description()
        return start(declared(file) | given), included

    def test_the_driver_gets_its_device_and_the_profile_that_lets_images_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_mtl_ros.profile.transport_variables", lambda: ({"FASTDDS": "profile.xml"}, "little room"))
        (said, camera), included = self.started(driver="usb_cam", device="/dev/video2", width="1280", height="720")
        assert said.msg == "little room"
        assert (camera.package, camera.executable, camera.namespace) == ("usb_cam", "usb_cam_node_exe", "camera")
        assert camera.additional_env == {"FASTDDS": "profile.xml"}
        (parameters,) = camera.parameters
        assert parameters["video_device"] == "/dev/video2"
        assert (parameters["image_width"], parameters["image_height"]) == (1280, 720)
        (file,) = included.given
        assert file == LAUNCH / "perception.launch.py"
        assert dict(included.launch_arguments) == {"image": "/camera/image_raw", "camera_info": "/camera/camera_info"}

    def test_a_driver_that_is_not_installed_is_named_with_its_package(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"apt install ros-\$ROS_DISTRO-v4l2-camera"):
            self.started()

    def test_another_driver_is_refused(self) -> None:
        with pytest.raises(ValueError, match="v4l2_camera or usb_cam was expected"):
            self.started(driver="webcam")
