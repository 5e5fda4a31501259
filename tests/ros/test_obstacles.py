"""Obstacles, ground and scan of the node: frames and stamps of the messages, and the grid that a test builds from a tour."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from edge_mtl_ros.obstacle_outputs import ObstacleOutputs
from edge_mtl_ros.settings import Settings
from sensor_msgs.msg import CameraInfo, LaserScan, PointCloud2
from std_msgs.msg import Header

from edge_mtl.ros.transforms import quaternion_of
from edge_mtl.tasks.floor import FloorPlane
from edge_mtl.tasks.obstacles import PlanarScan, level_axes
from tests.floors import CAMERA, OBJECTS, World
from tests.ros.harness import Partner, active_partner, camera_message, running, stamp_ns, wait_until

ROOT = Path(__file__).parents[2]
TOPICS = frozenset({"obstacles", "ground", "scan"})
WORLD = World(pitch_deg=20.0, boxes=[((1.8, 2.2), (-0.2, 0.5), (0.0, 0.6), OBJECTS)])


class Sent:
    """A node that keeps what is published, and what it warns of."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.messages: list[Any] = []
        self.warnings: list[str] = []

    def create_publisher(self, kind: type, topic: str, qos: Any) -> Any:
        self.topics.append(topic)
        return SimpleNamespace(publish=self.messages.append)

    def destroy_publisher(self, publisher: Any) -> None:
        self.topics.pop()

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=self.warnings.append)


class TFMessage:
    """tf2_msgs/TFMessage, which has no wheel."""

    def __init__(self, transforms: list[Any]) -> None:
        self.transforms = transforms


@pytest.fixture
def with_tf(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("tf2_msgs"), ModuleType("tf2_msgs.msg")
    module.TFMessage = TFMessage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tf2_msgs", package)
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", module)


@pytest.fixture
def without_tf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)


def header(second: int = 7, frame: str = "camera_color_optical_frame") -> Header:
    result = Header(frame_id=frame)
    result.stamp.sec, result.stamp.nanosec = second, 500_000_000
    return result


def made(outputs: ObstacleOutputs, head: Header, *, camera: Any = CAMERA, world: World = WORLD) -> dict[str, Any]:
    return dict(outputs.messages(TOPICS, world.maps(), header=head, camera=camera))


def points_of(message: PointCloud2) -> np.ndarray:
    """(N, 3) float32."""
    assert [(field.name, field.offset, field.datatype) for field in message.fields] == [("x", 0, 7), ("y", 4, 7), ("z", 8, 7)]
    points: np.ndarray = np.frombuffer(message.data, np.float32).reshape(-1, 3)
    assert (message.height, message.width, message.row_step) == (1, len(points), 12 * len(points))
    return points


def test_the_scan_is_in_a_level_frame_whose_transform_goes_out_before_it(with_tf: None) -> None:
    node = Sent()
    outputs = ObstacleOutputs(node, lambda: Settings(obstacle_stride=2))  # type: ignore[arg-type]
    assert node.topics == ["/tf"]
    found = made(outputs, header())
    (message,) = node.messages
    (transform,) = message.transforms
    assert transform.header == header()
    assert found["scan"].header.frame_id == transform.child_frame_id == "camera_color_level_frame"
    assert found["scan"].header.stamp == header().stamp
    turned = transform.transform.rotation
    expected = quaternion_of(level_axes(FloorPlane.of_mount(height_m=1.0, pitch_deg=20.0)).T)
    assert np.allclose((turned.x, turned.y, turned.z, turned.w), expected, atol=2e-3)
    assert found["obstacles"].header == found["ground"].header == header()
    outputs.destroy()
    assert node.topics == []


def test_what_the_messages_hold_is_what_stands_there(without_tf: None) -> None:
    node, settings = Sent(), Settings(obstacle_stride=2, scan_frame="camera_link")
    outputs = ObstacleOutputs(node, lambda: settings)  # type: ignore[arg-type]
    found = made(outputs, header(7))
    obstacles, ground = WORLD.in_world(points_of(found["obstacles"])), WORLD.in_world(points_of(found["ground"]))
    assert found["obstacles"].is_dense
    assert np.isfinite(obstacles).all()
    assert obstacles[:, 2].min() > 0.09
    assert np.abs(ground[:, 2]).max() < 0.11
    scan = found["scan"]
    ranges = np.array(scan.ranges)
    assert scan.header.frame_id == "camera_link"
    assert node.messages == []
    assert np.nanmin(ranges) == pytest.approx(1.8, abs=0.03)
    assert (scan.range_min, scan.range_max, scan.time_increment, scan.scan_time) == (0.0, 3.0, 0.0, 0.0)
    assert scan.angle_max == pytest.approx(scan.angle_min + scan.angle_increment * (len(ranges) - 1), abs=1e-5)
    assert made(outputs, header(9))["scan"].scan_time == pytest.approx(2.0)
    assert made(outputs, header(3))["scan"].scan_time == 0.0, "time jumped back"
    assert "seen 1.00 m below" in outputs.floor


def test_nothing_in_sight_is_an_empty_cloud_and_no_camera_is_none_at_all(without_tf: None) -> None:
    node = Sent()
    outputs = ObstacleOutputs(node, lambda: Settings(obstacle_range_m=2.0, obstacle_stride=2))  # type: ignore[arg-type]
    found = made(outputs, header(), world=World(pitch_deg=20.0))
    assert len(points_of(found["obstacles"])) == 0
    assert len(points_of(found["ground"])) > 100
    assert "scan" not in found, "it has no frame"
    made(outputs, header())
    assert len(node.warnings) == 1
    assert "tf2_msgs" in node.warnings[0]
    assert made(outputs, header(), camera=None) == {}
    assert "camera_info" in outputs.floor


def test_another_camera_has_another_floor(without_tf: None) -> None:
    outputs = ObstacleOutputs(Sent(), lambda: Settings(obstacle_stride=2))  # type: ignore[arg-type]
    made(outputs, header(1, "low"), world=World(pitch_deg=20.0))
    wall = World(pitch_deg=-40.0, wall_m=0.8)
    made(outputs, header(2, "low"), world=wall)
    assert "as before" in outputs.floor
    made(outputs, header(3, "high"), world=wall)
    assert "is an obstacle" in outputs.floor


def test_obstacle_parameters_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="max_obstacle_height_m"):
        Settings.of({"min_obstacle_height_m": 0.5, "max_obstacle_height_m": 0.4})
    with pytest.raises(ValueError, match="needs camera_height_m"):
        Settings.of({"floor_from": "mount"})
    mounted = Settings.of({"floor_from": "mount", "camera_height_m": 1.2, "camera_pitch_deg": 10.0})
    assert (mounted.floor_options.height_m, mounted.floor_options.pitch_deg) == (1.2, 10.0)
    assert Settings().floor_options.pitch_deg is None
    assert Settings(floor_classes="Floor, Carpet").floor_class_names == ("Floor", "Carpet")


@pytest.fixture
def costmap_tour(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import costmap_tour

    return costmap_tour


def test_a_tour_with_the_demo_bundle_marks_what_stands_in_the_room(
    ros_environment: dict[str, str], costmap_tour: Any, tmp_path: Path
) -> None:
    """Clouds and scans of the real node, put into a grid by the poses of the tour."""
    height, width = 240, 320
    route = costmap_tour.Tour.of(13, size=(height, width), stops=3, turns=6, height_m=1.2, pitch_deg=17.0)
    mount = ("floor_from:=mount", "camera_height_m:=1.2", "camera_pitch_deg:=17.0", "scan_frame:=level", "obstacle_stride:=2")
    arguments = [part for value in ("threads:=1", *mount) for part in ("-p", value)]
    clouds, scans = costmap_tour.Grid(route.plan.shape), costmap_tour.Grid(route.plan.shape)
    with running(ros_environment, tmp_path / "log", *arguments), active_partner() as partner:
        partner.listen("obstacles", "ground", kind=PointCloud2)
        partner.listen("scan", kind=LaserScan)
        partner.wait_connected()
        wait_until(partner.cameras.get_subscription_count, "the node listens to camera_info")
        focal = route.frames[0].intrinsics[0]
        for sample, pose in zip(route.frames, route.poses, strict=True):
            found = _answers(partner, sample.image, camera_message(width, height, focal))
            clouds.add(pose, points_of(found["obstacles"]), points_of(found["ground"]))
            scan = found["scan"]
            assert scan.header.frame_id == "level"
            mounted = SimpleNamespace(axes=level_axes(FloorPlane.of_mount(height_m=1.2, pitch_deg=17.0)))
            rays = PlanarScan(scan.angle_min, scan.angle_increment, np.array(scan.ranges, np.float32))
            scans.add_scan(pose, mounted, rays, range_m=scan.range_max)
        said = wait_until(lambda: partner.values().get("floor"), "the floor in the diagnostics")
        assert "m below" in said or "as before" in said, "the last frame need not show it"
    assert set(np.unique(clouds.occupancy())) == {-1, 0, 100}
    by_clouds, by_scans = (costmap_tour.score(route, grid, tolerance_m=0.25) for grid in (clouds, scans))
    assert by_clouds.recall > 0.9
    assert by_clouds.precision > 0.85
    assert by_clouds.blocked < 0.25
    assert by_scans.precision > 0.7
    assert by_scans.blocked < 0.1


def _answers(partner: Partner, image: np.ndarray, camera: CameraInfo) -> dict[str, Any]:
    """The messages of one image on all topics, with its stamp."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        partner.cameras.publish(camera)
        stamp = stamp_ns(partner.send(image, time.time_ns(), frame="camera_optical_frame"))
        again_s = time.monotonic() + 5
        while time.monotonic() < again_s:
            found = {
                topic: message for topic in TOPICS for message in list(partner.received[topic]) if stamp_ns(message) == stamp
            }
            if set(found) == TOPICS:
                return found
            time.sleep(0.02)
    raise AssertionError(f"no answer; diagnostics: {partner.values()}")
