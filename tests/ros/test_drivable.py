"""The grid of the drivable area from the node: frames, stamps, what a wrong or unknown mount makes of it, and the road."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')
pytest.importorskip("nav_msgs", reason="needs nav_msgs")

from edge_mtl_ros.drivable_outputs import DrivableOutputs
from edge_mtl_ros.settings import Settings
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import OccupancyGrid
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from edge_mtl.ros.transforms import quaternion_of, rotation_of
from edge_mtl.tasks import Result
from tests.bundles import canonical_intrinsics, make_bundle
from tests.floors import CAMERA as ROOM_CAMERA
from tests.floors import OBJECTS as ROOM_OBJECTS
from tests.floors import World
from tests.painted_roads import paint, painted_bundle
from tests.ros.harness import Partner, active_partner, camera_message, running, stamp_ns, wait_until
from tests.streets import DEPTH, DRIVABLE, LANE, OBJECTS, SIZE, TrueStreet, true_street

GRID, COSTS = "drivable_grid", "drivable_costs"
BOTH = frozenset({GRID, COSTS})
SEED = 124
"""A bend."""
OPTICAL = "camera_optical_frame"


class Sent:
    """A node that keeps what is published, hears what it is told, and keeps what it warns of."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.messages: list[Any] = []
        self.warnings: list[str] = []
        self.hear: Any = None

    def create_publisher(self, kind: type, topic: str, qos: Any) -> Any:
        self.topics.append(topic)
        return SimpleNamespace(publish=self.messages.append)

    def create_subscription(self, kind: type, topic: str, callback: Any, qos: Any) -> Any:
        self.topics.append(topic)
        self.hear = callback
        return topic

    def destroy_publisher(self, publisher: Any) -> None:
        self.topics.remove("/tf")

    def destroy_subscription(self, subscription: Any) -> None:
        self.topics.remove(subscription)

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=self.warnings.append)


class TFMessage:
    """tf2_msgs/TFMessage, which has no wheel; the real node's test makes it."""

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


def header(frame: str = OPTICAL, second: int = 7) -> Header:
    result = Header(frame_id=frame)
    result.stamp.sec, result.stamp.nanosec = second, 500_000_000
    return result


def made(outputs: DrivableOutputs, results: dict[str, Result], head: Header, *, camera: Any) -> dict[str, Any]:
    return dict(outputs.messages(BOTH, results, header=head, camera=camera))


def costs_in(message: Any) -> np.ndarray:
    """(Y, X) int8."""
    return np.frombuffer(message.data.tobytes(), np.int8).reshape(message.info.height, message.info.width)


def middles(message: Any) -> np.ndarray:
    """(Y, X, 2) metres in the frame of the message."""
    info = message.info
    y, x = np.mgrid[: info.height, : info.width] + 0.5
    return np.stack([x, y], -1) * info.resolution + [info.origin.position.x, info.origin.position.y]


def agreement(street: TrueStreet, message: Any, places: np.ndarray) -> float:
    """Share of the known cells whose cost is that of the road by its formula, beyond boxes, which the plan does not have."""
    road, costs = street.view.street.road, costs_in(message)
    true = np.array([0, 50, 100])[road.drivable(*road.locate(places[..., 0], places[..., 1]))]
    known = costs != -1
    assert known.sum() > 3000
    return float((costs == true)[known].mean())


def mount(street: TrueStreet, *, parent: str = "base_footprint") -> list[TransformStamped]:
    """The camera's true pose, by way of a link in between."""
    pose = street.view.pose
    link = TransformStamped(header=Header(frame_id=parent), child_frame_id="camera_link")
    link.transform.rotation.w = 1.0
    x, y, z = (float(value) for value in pose.position_m)
    link.transform.translation.x, link.transform.translation.y, link.transform.translation.z = x, y, z
    optical = TransformStamped(header=Header(frame_id="camera_link"), child_frame_id=OPTICAL)
    turned = optical.transform.rotation
    turned.x, turned.y, turned.z, turned.w = quaternion_of(pose.axes.astype(np.float64))
    return [link, optical]


def settings_of(**values: Any) -> Settings:
    return Settings.of({"drivable_range_m": 25.0, **values})


def outputs_of(node: Sent, results: dict[str, Result], settings: Settings) -> DrivableOutputs:
    return DrivableOutputs(node, results, lambda: settings)  # type: ignore[arg-type]


def test_a_mount_in_tf_static_puts_the_road_where_it_is(with_tf: None) -> None:
    street, node = true_street(SEED), Sent()
    results = street.results()
    outputs = outputs_of(node, results, settings_of(drivable_frame="base_footprint"))
    assert outputs.types.keys() == BOTH
    assert outputs.tasks == {DRIVABLE, DEPTH, OBJECTS}
    node.hear(TFMessage(mount(street)))
    found = made(outputs, results, header(), camera=street.camera)
    grid = found[GRID]
    assert grid.header.stamp == header().stamp == grid.info.map_load_time
    assert grid.header.frame_id == found[COSTS].header.frame_id == "base_footprint"
    assert agreement(street, grid, middles(grid)) > 0.95
    assert grid.info.origin.orientation.w == 1.0
    assert node.messages == [], "its transform is the robot's own"
    assert "by /tf_static" in outputs.ground
    outputs.destroy()
    assert node.topics == []


def test_the_cloud_has_the_cells_of_the_grid(with_tf: None) -> None:
    street, node = true_street(SEED), Sent()
    results = street.results()
    outputs = outputs_of(node, results, settings_of(drivable_frame="base_footprint"))
    node.hear(TFMessage(mount(street)))
    found = made(outputs, results, header(), camera=street.camera)
    cloud, grid = found[COSTS], found[GRID]
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "cost"]
    points = np.frombuffer(cloud.data, np.float32).reshape(-1, 4)
    known = costs_in(grid) != -1
    assert np.allclose(points[:, :2], middles(grid)[known], atol=1e-4)
    assert np.array_equal(points[:, 3].astype(int), costs_in(grid)[known])
    assert set(points[:, 2].tolist()) == {0.0}


def test_a_frame_above_the_ground_and_a_known_height_put_the_ground_below_it(with_tf: None) -> None:
    street, node = true_street(SEED), Sent()
    results = street.results()
    raised = mount(street)
    height = float(street.view.pose.position_m[2])
    raised[0].transform.translation.z -= 0.3
    outputs = outputs_of(node, results, settings_of(drivable_frame="base_footprint", camera_height_m=height))
    node.hear(TFMessage(raised))
    grid = made(outputs, results, header(), camera=street.camera)[GRID]
    assert grid.info.origin.position.z == pytest.approx(-0.3, abs=1e-5)
    assert agreement(street, grid, middles(grid)) > 0.95


def test_a_mount_that_nobody_sent_or_that_is_none_leaves_all_unknown(with_tf: None) -> None:
    street, node = true_street(SEED), Sent()
    results = street.results()
    outputs = outputs_of(node, results, settings_of(drivable_frame="base_footprint"))
    grid = made(outputs, results, header(), camera=street.camera)[GRID]
    assert set(np.unique(costs_in(grid)).tolist()) == {-1}
    assert grid.header.frame_id == "base_footprint"
    assert "does not connect" in outputs.ground
    below = mount(street)
    below[0].transform.translation.z = -0.2
    node.hear(TFMessage(below))
    found = made(outputs, results, header(), camera=street.camera)
    assert set(np.unique(costs_in(found[GRID])).tolist()) == {-1}
    assert len(found[COSTS].data) == 0
    assert "below the ground" in outputs.ground


@pytest.mark.parametrize("where", ["seen", "mount"])
def test_without_a_frame_of_the_robot_it_has_one_of_its_own_whose_transform_is_sent(where: str, with_tf: None) -> None:
    street, node = true_street(SEED), Sent()
    results, pose = street.results(), street.view.pose
    height, down = float(pose.position_m[2]), float(np.degrees(-np.arcsin(pose.axes[2, 2])))
    settings = settings_of(floor_from=where, camera_height_m=height, camera_pitch_deg=down)
    outputs = outputs_of(node, results, settings)
    grid = made(outputs, results, header(), camera=street.camera)[GRID]
    ((transform,),) = (message.transforms for message in node.messages)
    assert grid.header.frame_id == transform.child_frame_id == "camera_ground_frame"
    assert transform.header == header()
    turned, moved = transform.transform.rotation, transform.transform.translation
    rotation = rotation_of((turned.x, turned.y, turned.z, turned.w))
    foot = np.array([moved.x, moved.y, moved.z])
    assert np.linalg.norm(foot) == pytest.approx(height, rel=1e-6)
    in_camera = foot + np.concatenate([middles(grid), np.zeros((*costs_in(grid).shape, 1))], -1) @ rotation.T
    places = in_camera @ pose.axes.T + pose.position_m
    assert np.abs(places[costs_in(grid) != -1][:, 2]).max() < 0.5, "the ground of the frame is that of the street"
    assert agreement(street, grid, places) > 0.93


def test_no_camera_is_no_message_and_without_tf_there_is_no_frame(without_tf: None) -> None:
    street, node = true_street(SEED), Sent()
    results = street.results()
    outputs = outputs_of(node, results, settings_of())
    assert made(outputs, results, header(), camera=None) == {}
    assert "camera_info" in outputs.ground
    assert made(outputs, results, header(), camera=street.camera) == {}
    assert made(outputs, results, header(), camera=street.camera) == {}
    assert len(node.warnings) == 1
    assert "tf2_msgs" in node.warnings[0]


def test_where_the_ground_is_not_seen_all_is_unknown(with_tf: None) -> None:
    street, node = true_street(SEED), Sent()
    results = street.results()
    results[DEPTH].depth_m[:] = np.nan  # type: ignore[attr-defined]
    outputs = outputs_of(node, results, settings_of())
    grid = made(outputs, results, header(), camera=street.camera)[GRID]
    assert set(np.unique(costs_in(grid)).tolist()) == {-1}
    assert "not seen" in outputs.ground
    del results[DEPTH]
    made(outputs, results, header(), camera=street.camera)
    assert "without depth" in outputs.ground


def test_a_bundle_without_such_classes_has_no_such_topics(without_tf: None) -> None:
    results = true_street(SEED).results()
    assert outputs_of(Sent(), {DEPTH: results[DEPTH]}, settings_of()).types == {}
    assert outputs_of(Sent(), results, settings_of(drivable_classes="")).types == {}
    lanes = outputs_of(Sent(), results, settings_of(drivable_classes="crosswalk:10"))
    assert LANE in lanes.tasks


def test_the_floor_of_a_room_is_a_drivable_area_too(with_tf: None) -> None:
    """A box from 1.8 to 2.2 m ahead stands on it."""
    node, world = Sent(), World(pitch_deg=20.0, boxes=[((1.8, 2.2), (-0.2, 0.5), (0.0, 0.6), ROOM_OBJECTS)])
    maps = world.maps()
    assert maps.labels is not None
    results: dict[str, Result] = {"segmentation": maps.labels, "depth": maps.depth}
    given = {"drivable_classes": "floor:0", "drivable_range_m": 4.0, "drivable_resolution_m": 0.05}
    outputs = outputs_of(
        node, results, Settings.of({**given, "floor_from": "mount", "camera_height_m": 1.0, "camera_pitch_deg": 20.0})
    )
    grid = made(outputs, results, header(), camera=ROOM_CAMERA)[GRID]
    (x, y), costs = np.moveaxis(middles(grid), -1, 0), costs_in(grid)
    before, beside = (x > 1.3) & (x < 1.7) & (np.abs(y) < 0.2), (x > 1.5) & (x < 3.0) & (y > -0.8) & (y < -0.5)
    foot, behind = (x > 1.82) & (x < 1.9) & (y > -0.15) & (y < 0.4), (x > 2.6) & (x < 3.5) & (y > 0.0) & (y < 0.3)
    assert (costs[before] == 0).all()
    assert (costs[beside] == 0).all()
    assert (costs[foot] == 100).all()
    assert (costs[behind] == -1).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"drivable_classes": "direct"}, "classes with a cost of 0 to 99"),
        ({"drivable_classes": "direct:100"}, "found 'direct:100'"),
        ({"drivable_classes": "direct:-1"}, "found 'direct:-1'"),
        ({"drivable_range_m": 100.0, "drivable_resolution_m": 0.05}, "at most 1000 cells"),
        ({"drivable_resolution_m": 0.0}, "should lie in 0.02..2"),
    ],
)
def test_parameters_that_make_no_grid_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.of(values)


def painted(street: TrueStreet) -> np.ndarray:
    """What the network of the bundle reads the street from."""
    sample, focal = street.sample, canonical_intrinsics(*SIZE)[0]
    depth = np.where(sample.depth_m > 0, sample.depth_m, 80.0) * focal / sample.intrinsics[0]
    return paint(sample.drivable, depth, np.zeros(SIZE, int))


@pytest.fixture
def partner(with_tf2: dict[str, str], tmp_path: Path) -> Iterator[Partner]:
    bundle = painted_bundle(tmp_path / "roads")
    given = [f"bundle:={bundle.path}", "threads:=1", "drivable_range_m:=25.0", "drivable_frame:=base_footprint"]
    arguments = [part for value in given for part in ("-p", value)]
    with running(with_tf2, tmp_path / "log", *arguments), active_partner() as result:
        yield result


def answer(partner: Partner, image: np.ndarray, focal: float, topic: str) -> Any:
    """The message of one image, with its stamp."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        partner.cameras.publish(camera_message(SIZE[1], SIZE[0], focal))
        stamp = stamp_ns(partner.send(image, time.time_ns(), frame=OPTICAL))
        again_s = time.monotonic() + 3
        while time.monotonic() < again_s:
            found = [message for message in list(partner.received[topic]) if stamp_ns(message) == stamp]
            if found:
                return found[0]
            time.sleep(0.02)
    raise AssertionError(f"no answer; diagnostics: {partner.values()}")


def test_the_node_sends_the_road_of_a_street(partner: Partner) -> None:
    """A real network reads the street off its image; tf comes and goes by DDS."""
    from tf2_msgs.msg import TFMessage as Transforms

    street = true_street(SEED)
    image, focal = painted(street), street.sample.intrinsics[0]
    latched = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    static = partner.node.create_publisher(Transforms, "/tf_static", latched)
    sent: list[Any] = []
    partner.node.create_subscription(Transforms, "/tf", sent.append, 10)
    partner.listen(GRID, kind=OccupancyGrid)
    partner.wait_connected()
    wait_until(partner.cameras.get_subscription_count, "the node listens to camera_info")
    before = answer(partner, image, focal, GRID)
    assert set(np.unique(costs_in(before)).tolist()) == {-1}, "nobody has said how the camera is mounted"
    static.publish(Transforms(transforms=mount(street)))

    def known() -> Any:
        message = answer(partner, image, focal, GRID)
        return message if (costs_in(message) != -1).any() else None

    grid = wait_until(known, "the mount has arrived")
    assert grid.header.frame_id == "base_footprint"
    assert agreement(street, grid, middles(grid)) > 0.95
    assert set(partner.values()["tasks_asked"].split(", ")) == {DRIVABLE, DEPTH, OBJECTS}
    wait_until(lambda: "by /tf_static" in partner.values().get("ground", ""), "the ground in the diagnostics")

    height = float(street.view.pose.position_m[2])
    assert partner.set(drivable_frame="", floor_from="mount", camera_height_m=height, camera_pitch_deg=1.0).successful
    own = answer(partner, image, focal, GRID)
    assert own.header.frame_id == "camera_ground_frame"
    wait_until(lambda: any(one.transforms[0].child_frame_id == "camera_ground_frame" for one in sent), "its transform")

    partner.forget()
    partner.listen(COSTS, kind=PointCloud2)
    partner.wait_connected()
    cloud = answer(partner, image, focal, COSTS)
    assert len(cloud.data) > 16 * 3000
    assert partner.received[GRID] == [], "nobody listens to the grid any more"


def test_a_node_of_another_bundle_has_no_grid(ros_environment: dict[str, str], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny", evaluation=0)
    given = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1")
    with running(ros_environment, tmp_path / "log", *given), active_partner() as other:
        wait_until(lambda: other.node.count_publishers("/perception_node/depth"), "its topics")
        assert other.node.count_publishers(f"/perception_node/{GRID}") == 0
