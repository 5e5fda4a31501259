"""Every value that a parameter is documented to take, on the real node; and what becomes of those that it does not take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from edge_mtl_ros.settings import PARAMETERS, Parameter

from edge_mtl.backends import BACKENDS, available
from edge_mtl.bundle import Bundle
from tests.bundles import make_bundle
from tests.ros.harness import NodeProcess, Partner, active_partner, running, wait_until

EXAMPLES: dict[str, tuple[Any, ...]] = {
    "cameras": (["front"], ["front", "left"]),
    "bundle": ("rooms-b0",),
    "public_key": ("",),
    "threads": (0, 1, 2),
    "tasks": ("depth", "depth, normals"),
    "depth_scale": ("", "1.28", 1.28, 2),
    "min_score": (0.0, 0),
    "points_labels": ("", "segmentation"),
    "floor_classes": ("floor", "floor, rug"),
    "ceiling_classes": ("ceiling", ""),
    "scan_frame": ("", "base_level"),
    "drivable_classes": ("direct:0, alternative:50", "floor:0", ""),
    "drivable_frame": ("", "base_footprint"),
}
"""Values of the parameters that have neither choices nor two ends that are worth trying."""
BESIDE: dict[str, dict[str, Any]] = {
    "floor_from": {"camera_height_m": 1.2},
    "min_obstacle_height_m": {"max_obstacle_height_m": 10.0},
    "max_obstacle_height_m": {"min_obstacle_height_m": 0.01},
}
"""What some values need of other parameters."""
WHOLE = {"min_obstacle_height_m": 1, "floor_tolerance": 0, "min_score": 0}
"""Whole numbers that are allowed, where 2 is not."""
RUNNING = [parameter for parameter in PARAMETERS if not parameter.read_only]
STARTING = [parameter for parameter in PARAMETERS if parameter.read_only]


def values_of(parameter: Parameter) -> tuple[Any, ...]:
    """All that is documented for a parameter: a new one without is an error, not a gap."""
    if parameter.name in EXAMPLES:
        return EXAMPLES[parameter.name]
    if parameter.choices:
        return parameter.choices
    if isinstance(parameter.default, bool):
        return True, False
    assert parameter.limits is not None, f"name values of {parameter.name} in EXAMPLES"
    low, high = parameter.limits
    return low, high, int(high)


def loads(parameter: Parameter, value: Any) -> bool:
    """Whether this machine has what a value needs."""
    usable = [BACKENDS[name] for name, found in available().items() if found.usable]
    if parameter.name == "backend":
        return value == "auto" or any(spec.name == value and spec.unbuilt for spec in usable)
    if parameter.name == "precision":
        return value == "auto" or any(value in spec.unbuilt for spec in usable)
    return True


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """No evaluation: INT8 of an untrained network is not accurate enough for the accuracy check."""
    return make_bundle(tmp_path_factory.mktemp("parameters") / "tiny", calibration=40, evaluation=0)


@pytest.fixture(scope="class")
def partner(ros_environment: dict[str, str], bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partner]:
    log = tmp_path_factory.mktemp("parameters-log") / "node.log"
    with running(ros_environment, log, "-p", f"bundle:={bundle.path}", "-p", "threads:=1"), active_partner() as result:
        yield result


class TestWhileItRuns:
    @pytest.mark.parametrize("parameter", RUNNING, ids=lambda parameter: parameter.name)
    def test_every_documented_value_is_taken_and_runs(self, partner: Partner, parameter: Parameter) -> None:
        beside = BESIDE.get(parameter.name, {})
        before = {name: partner.get(name) for name in (parameter.name, *beside)}
        for value in values_of(parameter):
            accepted = partner.set(**beside, **{parameter.name: value})
            assert accepted.successful, accepted.reason
            assert partner.get(parameter.name) == value
            if parameter.effect != "reload":
                continue
            answer = partner.reload()
            assert answer.success is loads(parameter, value), f"{value!r}: {answer.message}"
            if not answer.success:
                assert "install" in answer.message or "edge-mtl build-engine" in answer.message or "backend" in answer.message
                assert partner.get(parameter.name) != value, "what does not load is taken back"
        assert partner.set(**before).successful
        if parameter.effect == "reload":
            assert partner.reload().success

    def test_a_build_that_fails_is_reported_for_as_long_as_something_else_runs(self, partner: Partner) -> None:
        assert partner.set(build="fp16").successful
        assert partner.reload().success
        said = "the fp16 engine could not be built"
        wait_until(lambda: said in partner.values()["message"] and partner.values()["level"] == "1", "a warning")
        assert partner.set(build="").successful
        assert partner.reload().success
        wait_until(lambda: partner.values()["shortfall"] == "" and said not in partner.values()["message"], "no warning")

    @pytest.mark.parametrize("parameter", STARTING, ids=lambda parameter: parameter.name)
    def test_what_is_given_at_the_start_cannot_change(self, partner: Partner, parameter: Parameter) -> None:
        for value in values_of(parameter):
            assert not partner.set(**{parameter.name: value}).successful


def test_every_other_value_of_the_start_and_whole_numbers_are_taken_from_a_file(
    ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    others = {"bundle": str(bundle.path), "threads": 1, "build": "int8", "precision": "int8"}
    others |= {"self_test": "all", "output_size": "network"}
    others |= {each.name: next(value for value in values_of(each) if value != each.default) for each in STARTING}
    others |= {each.name: WHOLE.get(each.name, 2) for each in PARAMETERS if isinstance(each.default, float)}
    assert others["autostart"] is False
    file = tmp_path / "mine.yaml"
    lines = [f"    {name}: {str(value).lower() if isinstance(value, bool) else value}" for name, value in others.items()]
    file.write_text("\n".join(["/**:", "  ros__parameters:", *lines, ""]))
    with running(ros_environment, tmp_path / "log", "--params-file", str(file), "-p", "autostart:=true") as node:
        other = Partner()
        try:
            wait_until(lambda: node.process.poll() is not None or other.state() == "active", f"active\n{node.text}")
            for name, value in (others | {"autostart": True}).items():
                assert other.get(name) == value, name
            wait_until(lambda: other.values().get("precision", "").startswith("int8"), "its precision in the diagnostics")
        finally:
            other.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-p", "latency_budget_ms:=-1"), "latency_budget_ms should lie in 0..60000"),
        (("-p", "latency_budget_ms:=fast"), "latency_budget_ms should be float"),
        (("-p", "backend:=torch"), "backend should be one of 'auto', 'onnxruntime'"),
        (("-p", "threads:=1.5"), "threads"),
        (("-p", "points:=1"), "points"),
        (
            ("-p", "cameras:=[front, label_info]"),
            "cameras: 'label_info' cannot be the name of a camera: a topic of the node has that name",
        ),
        (("-p", "cameras:=[front, front]"), "every name stands for one camera"),
        (("-p", "cameras:=[front]", "-p", "front.max_age_s:=-1"), "of the camera front: max_age_s should lie in 0..60"),
        (("--log-level", "nonsense"), "--log-level nonsense"),
        (("--params-file", "/nowhere/mine.yaml"), "/nowhere/mine.yaml"),
        (("--params-file", "BROKEN"), "broken.yaml"),
        (("--nonsense",), "--nonsense"),
        (("-r", "image"), "-r image"),
        (("--", "--bundle", "mine"), "--bundle"),
    ],
)
def test_a_wrong_argument_ends_the_node_with_one_line_and_exit_code_2(
    ros_environment: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("/**: {ros__parameters: [\n")
    given = [str(broken) if argument == "BROKEN" else argument for argument in arguments]
    node = NodeProcess(ros_environment, *given, log=tmp_path / "log")
    assert node.process.wait(60) == 2, node.text
    lines = [line for line in node.text.splitlines() if line.startswith("perception_node: ")]
    assert len(lines) == 1, node.text
    assert said in lines[0]
    assert "Traceback" not in node.text
