"""What the node decides without ROS: degradation, faults, parameters, diagnostics, clouds, the machine's state."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from edge_mtl_ros.degradation import STEPS, Degradation
from edge_mtl_ros.faults import FaultPolicy
from edge_mtl_ros.frame_queue import Counts, Outcome
from edge_mtl_ros.machine import Machine, MachineState
from edge_mtl_ros.points import fill_cloud, point_type
from edge_mtl_ros.report import ERROR, OK, WARN, CameraSnapshot, Latencies, Report, Snapshot, reports
from edge_mtl_ros.settings import LOADED, PARAMETERS, Parameter, Settings, Value
from edge_mtl_ros.sight import Remark, Silence

from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.image.frames import Intrinsics
from edge_mtl.io_spec import EngineInfo
from tests.fakes.nvml import Library

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def run(shedder: Degradation, clock: Clock, seconds: float, latency_s: float | None, *, throttled: bool = False) -> list[int]:
    """Levels after each change while frames come at 20 Hz."""
    levels = []
    for _ in range(int(seconds * 20)):
        clock.now_s += 0.05
        if shedder.observe(latency_s, throttled=throttled):
            levels.append(shedder.level)
    return levels


def test_work_is_left_out_in_the_stated_order_and_comes_back() -> None:
    clock = Clock()
    shedder = Degradation(budget_s=0.05, clock=clock)
    assert run(shedder, clock, 20, 0.04) == []
    assert run(shedder, clock, 20, 0.08) == [1, 2, 3]
    assert [(s.points, s.vectors, s.full_rate) for s in STEPS] == [
        (True, True, True),
        (False, True, True),
        (False, False, True),
        (False, False, False),
    ]
    assert run(shedder, clock, 60, 0.02)[-1] == 0


def test_single_slow_frames_and_latencies_just_below_the_budget_change_nothing() -> None:
    clock = Clock()
    shedder = Degradation(budget_s=0.05, clock=clock)
    for index in range(400):
        clock.now_s += 0.05
        assert not shedder.observe(0.5 if index % 5 == 0 else 0.02)
    run(shedder, clock, 3, 0.08)
    assert shedder.level == 1
    assert run(shedder, clock, 60, 0.045) == []  # kept, but without room to come back


def test_coming_back_too_early_waits_longer_each_time() -> None:
    clock = Clock()
    shedder = Degradation(budget_s=0.05, clock=clock)
    changes = []
    for _ in range(20 * 120):  # with everything on it is too slow, with one step left out it is fast enough
        clock.now_s += 0.05
        if shedder.observe(0.08 if shedder.level == 0 else 0.02):
            changes.append((clock.now_s, shedder.level))
    pauses = [later - earlier for (earlier, a), (later, b) in itertools.pairwise(changes) if (a, b) == (1, 0)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 3 * pauses[0]


def test_a_hot_device_sheds_work_without_any_budget() -> None:
    clock = Clock()
    shedder = Degradation(clock=clock)
    assert run(shedder, clock, 20, 0.01, throttled=True) == [1, 2, 3]
    assert run(shedder, clock, 60, 0.01)[-1] == 0


def test_a_step_under_which_nothing_is_published_is_taken_back() -> None:
    clock = Clock()
    shedder = Degradation(budget_s=0.05, clock=clock)
    assert run(shedder, clock, 5, 0.08) == [1, 2]
    assert run(shedder, clock, 20, None) == [1, 0]
    assert run(shedder, clock, 20, None, throttled=True) == [1, 2, 3]  # but not while the device is hot


def test_three_failures_in_a_row_reopen_the_engine_once_and_three_more_give_up() -> None:
    policy = FaultPolicy()
    assert [policy.failed() for _ in range(6)] == ["continue", "continue", "reopen", "continue", "continue", "give_up"]
    transient = FaultPolicy()
    for _ in range(10):
        assert [transient.failed(), transient.failed()] == ["continue", "continue"]
        transient.succeeded()


def test_parameters_are_the_fields_of_settings() -> None:
    assert [parameter.name for parameter in PARAMETERS] == [field.name for field in fields(Settings)]
    assert Settings.of({}) == Settings()
    assert all(parameter.description.endswith(".") for parameter in PARAMETERS)
    by_name = {parameter.name: parameter for parameter in PARAMETERS}
    assert by_name["self_test"].choices == ("load", "all")
    assert by_name["depth_scale"].choices == ()
    assert by_name["threads"].limits == (0, 1024)
    assert by_name["image_transport"].read_only
    assert not by_name["points"].read_only
    assert "bundle" in LOADED
    assert "max_age_s" not in LOADED


@pytest.mark.parametrize(
    "parameter", [each for each in PARAMETERS if isinstance(each.default, float)], ids=lambda each: each.name
)
def test_a_whole_number_is_taken_for_a_fraction(parameter: Parameter) -> None:
    name, (low, _) = parameter.name, parameter.limits or (0.0, 1.0)
    whole = max(0, math.ceil(low))
    value = getattr(Settings.of({name: whole}), name)
    assert (value, type(value)) == (whole, float)
    with pytest.raises(ValueError, match=f"{name} should be float"):
        Settings.of({name: True})
    with pytest.raises(ValueError, match=f"{name} should be float"):
        Settings.of({name: "1"})


def written(default: Value) -> str:
    """A value as YAML has it; an empty list has no type in ROS."""
    return json.dumps(default or [""] if isinstance(default, tuple) else default)


def test_the_guide_and_the_file_of_parameters_have_every_parameter_with_its_default() -> None:
    defaults = {parameter.name: written(parameter.default) for parameter in PARAMETERS}
    before, _, after = (ROOT / "docs" / "guides" / "ros2.md").read_text().partition("**The rule for any task:**")
    guide = before + after.partition("Compressed copies")[2]
    assert dict(re.findall(r"\| `(\w+)` \| `([^`]+)` (?=\|)", guide)) == defaults
    configured = (ROOT / "ros2_ws" / "src" / "edge_mtl" / "config" / "perception.yaml").read_text()
    assert dict(re.findall(r"^    (\w+): (\"[^\"]*\"|\S+)", configured, re.MULTILINE)) == defaults


def test_the_layouts_listen_to_no_cloud_because_the_node_makes_none_by_default() -> None:
    configured = ROOT / "ros2_ws" / "src" / "edge_mtl" / "config"
    displays = (configured / "perception.rviz").read_text().split("    - Class: ")
    assert not Settings().points
    assert ["Enabled: true" in display for display in displays if "/perception_node/points" in display] == [False]
    layout = json.loads((configured / "perception_foxglove.json").read_text())
    assert layout["configById"]["3D!points"]["topics"]["/perception_node/points"]["visible"] is False


def test_the_guide_says_which_parameters_wait_for_a_reload_and_which_for_a_start() -> None:
    guide = " ".join((ROOT / "docs" / "guides" / "ros2.md").read_text().split())
    (reload,) = re.findall(r"([^.;]*) count from the next reload or configure on", guide)
    (start,) = re.findall(r"([^.;]*) are given at the start only", guide)
    assert set(re.findall(r"`(\w+)`", reload.rpartition("| ")[2])) == set(LOADED)
    assert set(re.findall(r"`(\w+)`", start)) == {parameter.name for parameter in PARAMETERS if parameter.read_only}


def test_what_the_guide_quotes_from_the_diagnostics_is_said_there() -> None:
    guide = (ROOT / "docs" / "guides" / "ros2.md").read_text()
    table = guide.partition("| `/diagnostics` says | do |")[2].partition("\n\n")[0]
    quoted = [line.split("|")[1].strip() for line in table.splitlines()[2:] if line]
    assert len(quoted) > 5
    code = "".join(path.read_text() for path in sorted((ROOT / "ros2_ws" / "src" / "edge_mtl" / "edge_mtl_ros").glob("*.py")))
    dropped = {f"dropped_{reason}" for reason in get_args(Outcome)}
    for line in quoted:
        said = re.sub(r" N s|\.\.\.| grows", "", line).replace("cannot configure", "cannot {name}").strip(" :")
        assert said in dropped or said in code, line


@pytest.mark.parametrize(
    "change",
    [
        {"max_age_s": float("nan")},
        {"max_age_s": -1.0},
        {"threads": 1.5},
        {"threads": True},
        {"bundle": None},
        {"output_size": "huge"},
        {"min_score": 1.0},
        {"depth_scale": 0.0},
        {"depth_scale": 40},
        {"depth_scale": True},
        {"depth_scale": float("nan")},
        {"depth_scale": "far"},
        {"depth_scale": "11"},
        {"depth_scale": None},
        {"depth_scale": [1.0]},
        {"precision": "fp16", "build": "int8"},
        {"withhold_unscaled": "depth"},
        {"undistort": True, "rectified": True},
        {"precision": "half"},
        {"backend": "torch"},
        {"build": "int4"},
        {"self_test": "build"},
        {"latency_budget_ms": 60_001},
        {"cameras": "front"},
        {"cameras": [1, 2]},
    ],
)
def test_values_out_of_range_are_refused(change: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings.of(change)


@pytest.mark.parametrize("value", ["", 1.28, 2, "1.28", "front.json"])
def test_a_scale_of_depth_is_a_number_or_the_name_of_a_file(value: Any) -> None:
    assert Settings.of({"depth_scale": value}).depth_scale == value


def node_snapshot(**changes: Any) -> Snapshot:
    calm = Snapshot(
        state="active",
        activity="",
        failure="",
        reload_failure="",
        engine=None,
        active_s=10.0,
        working_s=0.01,
        hung_after_s=2.0,
        step="everything",
        step_level=0,
        incompatible={},
        machine=MachineState(1 << 20, 50.0, False),
    )
    return replace(calm, **changes)


def camera_snapshot(**changes: Any) -> CameraSnapshot:
    calm = CameraSnapshot(
        counts=counted(received=10, published=6, rejected=1, replaced=2, waiting=1),
        rate_hz=30.0,
        p50_ms=10.0,
        p95_ms=12.0,
        predict_ms=18.0,
        overhead_ms=2.5,
        image_age_s=0.03,
        camera_age_s=0.03,
        image_source="",
        listened=frozenset({"depth"}),
        silence=None,
        stale_after_s=0.4,
        scale="K of camera_info",
        scale_ok=True,
        lens="",
        remarks=(),
        max_age_s=0.005,
        time_jumps=0,
        bad_values=0,
        last_rejection="",
    )
    return replace(calm, **changes)


def counted(*, received: int, published: int, rejected: int, replaced: int, waiting: int) -> Counts:
    drops = {name: 0 for name in get_args(Outcome) if name not in ("published", "rejected")}
    return Counts(received, published, rejected, drops | {"replaced": replaced}, waiting, 0)


def report(**changes: Any) -> Report:
    """Of a node with its only camera, where nothing but these is wrong."""
    of_node = {field.name for field in fields(Snapshot)}
    node = {name: value for name, value in changes.items() if name in of_node}
    camera = {name: value for name, value in changes.items() if name not in of_node}
    (found,) = reports(node_snapshot(**node), {"": camera_snapshot(**camera)}).values()
    return found


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, OK, "30.0 Hz"),
        ({"image_age_s": 0.5}, WARN, "no image for 0.5 s"),
        ({"image_age_s": None, "active_s": 3.0}, WARN, "no image for 3.0 s"),
        ({"image_age_s": 9.0, "state": "inactive"}, OK, "inactive"),
        ({"image_age_s": 0.5, "image_source": "nothing is published on /image"}, WARN, "0.5 s: nothing is published on /image"),
        ({"listened": frozenset()}, OK, "nobody listens"),
        (
            {"silence": Silence(3.2, {"rejected": 7}), "last_rejection": "16UC1 is none."},
            WARN,
            "3.2 s: 7 frames rejected, the last",
        ),
        ({"silence": Silence(3.2, {"rejected": 7}), "last_rejection": "16UC1 is none."}, WARN, "the last as 16UC1 is none"),
        ({"silence": Silence(3.2, {"aged": 9})}, WARN, "9 frames older than max_age_s (0.005 s)"),
        ({"silence": Silence(3.2, {"stale_stamp": 9})}, WARN, "stamps do not move forward"),
        ({"silence": Silence(3.2, {"shed": 9}), "step": "no points"}, WARN, "9 frames left out to keep up (no points)"),
        ({"silence": Silence(3.2, {"withheld": 9})}, WARN, "nothing that is listened to can be sent"),
        ({"silence": Silence(3.2, {"aged": 2, "stale_stamp": 9})}, WARN, "could be taken; 9 frames whose stamps"),
        ({"lens": "the lens displaces"}, WARN, "the lens displaces"),
        ({"remarks": (Remark("repeats", "the camera repeats one image"),)}, WARN, "repeats one image"),
        ({"remarks": (Remark("repeats", "the camera repeats one image"),), "state": "inactive"}, OK, "inactive"),
        ({"scale_ok": False, "scale": "no camera_info has come"}, WARN, "no camera_info"),
        ({"working_s": 3.2}, ERROR, "running for 3.2 s"),
        ({"failure": "cannot configure: no bundle"}, ERROR, "no bundle"),
        ({"reload_failure": "reload failed: altered"}, WARN, "altered"),
        ({"activity": "timing (3 of 9)"}, WARN, "timing (3 of 9)"),
        ({"incompatible": {"~/depth": "DURABILITY"}}, WARN, "~/depth: DURABILITY"),
        ({"step_level": 1, "step": "no points"}, WARN, "no points"),
        ({"bad_values": 7}, WARN, "7 values"),
        ({"machine": MachineState(None, None, True)}, WARN, "throttling"),
        ({"counts": Counts(10, 6, 1, {"replaced": 2}, 0, 0)}, ERROR, "unaccounted"),
    ],
)
def test_diagnostics_name_what_is_wrong(changes: Mapping[str, Any], level: int, said: str) -> None:
    found = report(**changes)
    assert found.level == level
    assert said in found.message
    assert all(isinstance(value, str) for value in found.values.values())


def test_an_engine_in_place_of_the_one_that_was_asked_for_is_a_warning() -> None:
    why = "running fp32: the int8 engine could not be built: 0.0 MB are free"
    facts = {field.name: "" for field in fields(EngineInfo)} | {"tasks": (), "depth_scale": 1.0, "self_test": None}
    found = report(engine=EngineInfo(**facts | {"shortfall": why}))  # type: ignore[arg-type]
    assert (found.level, found.message, found.values["shortfall"]) == (WARN, why, why)
    found = report(engine=EngineInfo(**facts))  # type: ignore[arg-type]
    assert (found.level, found.values["shortfall"]) == (OK, "")


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        ({"scale_ok": False}, {"scale_ok": False, "image_age_s": 0.5}, True),
        ({"image_age_s": 0.5}, {"image_age_s": 1.5}, False),
        ({"silence": Silence(1.0, {"aged": 2})}, {"silence": Silence(2.0, {"aged": 3})}, False),
        ({"silence": Silence(1.0, {"aged": 2})}, {"silence": Silence(2.0, {"aged": 2, "rejected": 1})}, True),
        ({"activity": "timing (3 of 9)"}, {"activity": "timing (4 of 9)"}, False),
        ({"activity": "timing (9 of 9)"}, {"activity": "writing"}, True),
    ],
)
def test_another_finding_is_news_and_another_number_is_not(
    before: Mapping[str, Any], after: Mapping[str, Any], news: bool
) -> None:
    assert (report(**before).kinds != report(**after).kinds) is news


def test_each_of_several_cameras_has_a_report_beside_the_nodes_and_its_name_in_every_sentence() -> None:
    silent = camera_snapshot(image_age_s=3.0, rate_hz=0.0, failure="internal error", listened=frozenset())
    found = reports(node_snapshot(step_level=1, step="no points"), {"front": camera_snapshot(), "left": silent})
    assert {name: each.level for name, each in found.items()} == {"perception": WARN, "camera front": OK, "camera left": ERROR}
    assert found["perception"].message == "behind its latency budget or too hot: no points"
    assert found["camera front"].message == "30.0 Hz"
    assert found["camera left"].message == "left: internal error; left: no image for 3.0 s"
    values = {name: each.values for name, each in found.items()}
    assert (values["perception"]["received"], values["camera left"]["received"]) == ("20", "10")
    assert values["perception"]["rate_hz"] == "30.00"
    alone = report().values
    of_camera = {name for name in alone if name not in values["perception"]} | {"rate_hz", "received"}
    assert of_camera <= set(values["camera front"]), "nothing that one camera's report says is lost"
    assert "image_age_s" not in values["perception"]
    calm = reports(node_snapshot(), {"front": camera_snapshot(rate_hz=12.0), "left": camera_snapshot(rate_hz=5.0)})
    assert calm["perception"].message == "17.0 Hz"
    off = reports(node_snapshot(state="inactive"), {"front": camera_snapshot(), "left": silent})
    assert [each.message for each in off.values()] == ["inactive", "inactive", "left: internal error"]


def test_accounts_that_do_not_add_up_are_an_error_of_their_camera() -> None:
    wrong = camera_snapshot(counts=counted(received=10, published=6, rejected=1, replaced=2, waiting=0))
    found = reports(node_snapshot(), {"front": wrong, "left": camera_snapshot()})
    assert {name: each.level for name, each in found.items()} == {"perception": OK, "camera front": ERROR, "camera left": OK}
    assert found["camera front"].message == "front: frames are unaccounted for"


def test_no_image_is_the_reason_for_whatever_is_not_published() -> None:
    found = report(image_age_s=3.0, silence=Silence(9.0, {"rejected": 7}))
    assert "no image for 3.0 s" in found.message
    assert "nothing published" not in found.message


def test_the_worst_finding_comes_first() -> None:
    found = report(image_age_s=5.0, working_s=4.0)
    assert found.level == ERROR
    assert found.message.startswith("inference has been running")


def test_rate_and_percentiles_are_of_the_last_seconds() -> None:
    latencies = Latencies(window_s=2.0)
    for index in range(100):
        latencies.add(index * 0.1, 1.0 if index < 50 else 0.01)
    rate, p50_ms, p95_ms = latencies.summary(9.9)
    assert rate == pytest.approx(10, rel=0.1)
    assert (p50_ms, p95_ms) == (pytest.approx(10), pytest.approx(10))
    assert latencies.summary(60.0) == (0.0, None, None)


@pytest.mark.parametrize("normals", [False, True])
def test_points_lie_where_the_camera_sees_their_pixels(normals: bool) -> None:
    random = np.random.default_rng(0)
    depth = random.uniform(1, 4, (6, 8)).astype(np.float32)
    depth[2, 3] = np.nan
    rgb, labels = random.integers(0, 256, (6, 8, 3)).astype(np.uint8), random.integers(0, 13, (6, 8)).astype(np.uint8)
    facing = random.normal(size=(6, 8, 3)).astype(np.float32)
    camera = Intrinsics(5.0, 6.0, 3.5, 2.5)
    cloud = np.zeros((6, 8), point_type(normals=normals))
    fill_cloud(cloud, depth_m=depth, camera=camera, rgb=rgb, labels=labels, confidence=labels * 10, normals=facing)
    known = np.isfinite(depth)
    columns, rows = np.meshgrid(np.arange(8), np.arange(6))
    assert np.allclose((cloud["x"] / cloud["z"] * camera.fx + camera.cx)[known], columns[known], atol=1e-4)
    assert np.allclose((cloud["y"] / cloud["z"] * camera.fy + camera.cy)[known], rows[known], atol=1e-4)
    assert np.isnan(cloud["x"][2, 3])
    assert np.array_equal(cloud["rgb"] >> 16, rgb[..., 0])
    assert np.array_equal(cloud["rgb"] & 255, rgb[..., 2])
    assert np.array_equal(cloud["label"], labels)
    assert cloud.dtype.itemsize == (32 if normals else 20)
    if normals:
        assert np.array_equal(cloud["normal_z"], facing[..., 2])


def test_a_zone_above_its_passive_trip_point_is_throttling(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "trip_point_0_type").write_text("passive\n")
    (zone / "trip_point_0_temp").write_text("85000\n")
    (zone / "temp").write_text("60000\n")
    assert Machine(root=tmp_path).state() == MachineState(None, 60.0, False)
    (zone / "temp").write_text("91000\n")
    assert Machine(root=tmp_path).state().throttled
    assert Machine(root=tmp_path / "nothing").state() == MachineState(None, None, False)


@pytest.mark.parametrize(
    ("silent", "reasons", "expected"),
    [
        ((), 0, MachineState(None, 61.0, False, 1 << 20)),
        (("nvmlDeviceGetComputeRunningProcesses",), 0, MachineState(None, 61.0, False, 5 << 20)),
        ((), Library.nvmlClocksThrottleReasonSwPowerCap, MachineState(None, 61.0, False, 1 << 20)),
        ((), Library.nvmlClocksThrottleReasonSwThermalSlowdown, MachineState(None, 61.0, True, 1 << 20)),
        (("nvmlInit",), 0, MachineState(None, 50.0, False)),
    ],
)
def test_a_gpu_is_asked_once_an_engine_runs_on_it(
    tmp_path: Path, silent: tuple[str, ...], reasons: int, expected: MachineState
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("50000\n")
    library = Library(silent=silent)
    library.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = reasons

    def read(*, on_gpu: bool) -> MachineState:
        return Machine(root=tmp_path, find_gpu=lambda: Nvml.find(library)).state(on_gpu=on_gpu)

    assert read(on_gpu=True) == expected
    assert read(on_gpu=False) == MachineState(None, 50.0, False)


def test_a_machine_is_not_read_more_than_once_a_second(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    machine = Machine(root=tmp_path)
    (zone / "temp").write_text("50000\n")
    assert machine.state().temperature_c == 50.0
    (zone / "temp").write_text("60000\n")
    assert machine.state().temperature_c == 50.0
    machine._read_s -= 2.0
    assert machine.state().temperature_c == 60.0
