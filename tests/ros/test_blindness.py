"""A frame without a camera, through a lens, or with nothing to say: what is published of it, accounted for and warned of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_mtl_ros.cameras import CameraKeeper
from edge_mtl_ros.settings import Settings

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.ros import camera_of, rectified
from tests.bundles import make_bundle, make_image
from tests.ros.test_worker import CAMERA, Bench, failing

BENT = replace(CAMERA, d=(-0.3, 0.1, 0.0, 0.0, 0.0))
UNKNOWN = replace(CAMERA, distortion_model="double_sphere", d=(-0.2, 0.6))
CLOUDS = {"points": True, "points_rate_hz": 0.0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("blind") / "tiny")


@pytest.fixture
def bench_of(tiny_bundle: Bundle) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(**settings: Any) -> Bench:
        made.append(Bench(tiny_bundle, Settings(**settings)))
        return made[-1]

    yield bench
    for each in made:
        each.close()  # asserts that the accounts are exact


def kinds(bench: Bench) -> set[str]:
    """First words of what is warned of."""
    return {remark.kind.partition(" ")[0] for remark in bench.stream.remarks()}


@pytest.mark.parametrize(
    ("withhold", "without"),
    [("points", {"segmentation", "depth", "normals"}), ("all", {"segmentation", "normals"}), ("none", None)],
)
def test_what_is_metric_is_withheld_until_a_camera_scales_it(
    bench_of: Callable[..., Bench], withhold: str, without: set[str] | None
) -> None:
    bench = bench_of(withhold_unscaled=withhold, **CLOUDS)
    bench.send(1)
    everything = {"segmentation", "depth", "normals", "points"}
    assert bench.published.answers[0][0] == (without or everything)
    assert kinds(bench) == ({"withheld"} if without else set())
    if without:
        (remark,) = bench.stream.remarks()
        assert all(f"~/{name}" in remark.text for name in everything - without)
    bench.cameras.put(CAMERA)
    bench.send(2)
    assert bench.published.answers[1][0] == everything
    assert bench.stream.remarks() == ()
    assert bench.queue.counts().published == 2


def test_a_camera_of_other_images_scales_nothing(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(**CLOUDS)
    bench.cameras.put(replace(CAMERA, height=96))
    bench.send(1)
    assert "points" not in bench.published.answers[0][0]
    bench.cameras.put(replace(CAMERA, k=(0.0,) * 9))
    bench.send(2)
    assert "points" not in bench.published.answers[1][0]


def test_a_frame_of_which_all_is_withheld_is_not_predicted_and_counted_as_dropped(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(withhold_unscaled="all", **CLOUDS)
    bench.published.topics = {"depth", "points"}
    failing(bench.worker.engine, 100)
    bench.send(1)
    counts = bench.queue.counts()
    assert (counts.published, counts.dropped, counts.drops["withheld"]) == (0, 1, 1)
    assert bench.stream.latencies.summary(time.monotonic()) == (0.0, None, None)
    assert kinds(bench) == {"withheld"}
    bench.published.topics = set()
    bench.send(2)
    assert bench.stream.remarks() == (), "nobody listens any more"


def test_a_frame_of_which_nothing_could_be_sent_is_not_called_published(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of()
    bench.cameras.put(CAMERA)
    bench.published.topics, bench.published.lacking = {"depth", "normals"}, {"normals"}
    bench.send(1)
    assert bench.queue.counts().published == 1
    (remark,) = bench.stream.remarks()
    assert "nothing to send on ~/normals" in remark.text
    bench.published.topics = {"normals"}
    bench.send(2)
    counts = bench.queue.counts()
    assert (counts.published, counts.drops["withheld"]) == (1, 1)


def test_the_camera_alone_is_nothing_without_one(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of()
    bench.published.topics, bench.published.lacking = {"camera_info"}, {"camera_info"}
    bench.send(1)
    assert bench.queue.counts().drops["withheld"] == 1
    assert bench.stream.remarks() == (), "that no camera has come is said already"


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_a_lens_is_undone_before_the_network_sees_the_frame(bench_of: Callable[..., Bench], model: str) -> None:
    d = {"plumb_bob": BENT.d, "rational_polynomial": (*BENT.d, 0.01, 0.0, 0.0), "equidistant": (0.02, 0.0, 0.0, 0.0)}[model]
    camera = replace(CAMERA, distortion_model=model, d=d, p=(70.0, 0, 47.0, 0, 0, 71.0, 31.0, 0, 0, 0, 1, 0))
    bench = bench_of(undistort=True, **CLOUDS)
    engine, given = bench.worker.engine, []
    assert engine is not None
    predict = engine.predict

    def kept(frame: Any, **options: Any) -> Any:
        given.append((np.array(frame), options["intrinsics"]))
        return predict(frame, **options)

    engine.predict = kept  # type: ignore[method-assign, assignment]
    bench.cameras.put(camera)
    bench.send(1)
    straight, undo = rectified(camera)
    assert undo is not None
    frame = make_image(1)
    ((seen, intrinsics),) = given
    assert np.array_equal(seen, undo(frame))
    assert not np.array_equal(seen, frame)
    assert intrinsics == straight.intrinsics()
    assert (intrinsics.fx, intrinsics.cx) == (pytest.approx(70.0 * undo.zoom), 47.0)
    in_use = bench.cameras.of_image((64, 96), rectified=False, undistort=True)
    assert in_use.camera == straight
    assert in_use.lens == ""
    assert "lens undone by D" in in_use.text


def keeper_of(camera: Any) -> CameraKeeper:
    keeper = CameraKeeper()
    keeper.put(camera)
    return keeper


@pytest.mark.parametrize(
    ("camera", "options", "said"),
    [
        (CAMERA, {}, ""),
        (replace(CAMERA, d=(0.0,) * 5), {"undistort": True}, ""),
        (BENT, {}, "displaces the worst corner by 11 px, and images are taken for a pinhole camera's: set undistort, or remap"),
        (BENT, {"rectified": True}, ""),
        (BENT, {"undistort": True}, ""),
        (UNKNOWN, {}, "'double_sphere', which is none of plumb_bob"),
        (UNKNOWN, {"undistort": True}, "undistort cannot be done: camera_info has the distortion model 'double_sphere'"),
        (replace(CAMERA, distortion_model="equidistant", d=(0.0,) * 4), {}, "the lens (equidistant) displaces"),
    ],
)
def test_a_lens_that_distorts_is_said_with_what_to_do(camera: Any, options: dict[str, bool], said: str) -> None:
    camera = replace(camera, p=(80.0, 0, 47.5, 0, 0, 80.0, 31.5, 0, 0, 0, 1, 0))
    found = keeper_of(camera).of_image((64, 96), **{"rectified": False, "undistort": False, **options})
    assert found.intrinsics is not None, "depth is scaled all the same"
    assert said in found.lens
    assert bool(found.lens) is bool(said)
    if said:
        assert "set rectified" in found.lens
        assert ("set undistort" in found.lens) is (camera is not UNKNOWN and "double_sphere" not in found.lens)


def test_a_camera_that_cannot_be_read_is_the_reason_until_one_can() -> None:
    keeper = CameraKeeper()
    asked: dict[str, Any] = {"rectified": False, "undistort": False}
    assert "no camera_info has come" in keeper.of_image(None, **asked).text
    keeper.refuse("camera_info cannot be read: K has 3 numbers")
    assert keeper.of_image((64, 96), **asked).text.startswith("camera_info cannot be read: K has 3 numbers: depth")
    keeper.put(CAMERA)
    assert keeper.of_image(None, **asked).intrinsics is not None
    keeper.forget()
    assert "no camera_info has come" in keeper.of_image((64, 96), **asked).text


@pytest.mark.parametrize("task", ["segmentation", "depth", "normals"])
def test_a_map_in_which_nothing_is_known_is_said(bench_of: Callable[..., Bench], task: str) -> None:
    bench = bench_of()
    bench.cameras.put(CAMERA)
    engine = bench.worker.engine
    assert engine is not None
    predict = engine.predict

    def blank(*arguments: Any, **options: Any) -> Any:
        prediction = predict(*arguments, **options)
        values = {"segmentation": prediction.segmentation, "depth": prediction.depth, "normals": prediction.normals}[task]
        values[:] = 255 if task == "segmentation" else np.nan
        values[3, 5] = 0  # not among those that are looked at
        return prediction

    bench.send(1)
    assert bench.stream.remarks() == ()
    engine.predict = blank  # type: ignore[method-assign]
    bench.send(2)
    (remark,) = bench.stream.remarks()
    assert remark.text == f"nothing is known anywhere in the last frame of {task}"
    engine.predict = predict  # type: ignore[method-assign]
    bench.send(3)
    assert bench.stream.remarks() == ()


def test_images_that_repeat_one_another_are_said(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(blind_after_s=0.2)
    bench.cameras.put(CAMERA)
    end_s = time.monotonic() + 20
    while "repeats" not in kinds(bench) and time.monotonic() < end_s:
        bench.send(1)
        time.sleep(0.02)
    assert "repeats" in kinds(bench)
    bench.send(2)
    assert kinds(bench) == set()


class TestInTheNode:
    """Over DDS."""

    @pytest.fixture(autouse=True)
    def _ros(self) -> None:
        pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

    @pytest.fixture
    def partner(self, ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path) -> Iterator[Any]:
        from tests.ros.harness import active_partner, running

        options = ("-p", "points:=true", "-p", "points_rate_hz:=0.0", "-p", "stale_after_s:=1.0")
        arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", *options)
        with running(ros_environment, tmp_path / "log", *arguments), active_partner() as partner:
            yield partner

    def test_images_that_cannot_be_used_are_a_warning_with_their_reason_until_one_can(self, partner: Any) -> None:
        from tests.ros.harness import wait_until

        frame = make_image(1, height=48, width=80)
        partner.listen("depth")
        partner.wait_connected()
        partner.send_camera(80, 48, 70.0)

        def said(text: str, **options: Any) -> bool:
            partner.send(frame, options.pop("stamp_ns", None) or time.time_ns(), **options)
            time.sleep(0.05)
            values = partner.values()
            return values.get("level") == "1" and text in values["message"]

        wait_until(lambda: said("frames rejected, the last as the encoding '32FC1' is none", encoding="32FC1"), "the encoding")
        assert "nothing published for" in partner.values()["message"]
        partner.send_until("depth", frame)
        wait_until(lambda: not said("nothing published"), "the end of the warning")
        late_ns = time.time_ns()
        partner.send(frame, late_ns)
        wait_until(lambda: said("frames whose stamps do not move forward", stamp_ns=late_ns), "the stamps")
        partner.send_until("depth", frame)
        assert partner.set(max_age_s=1e-6).successful
        wait_until(lambda: said("frames older than max_age_s (1e-06 s)"), "the age")
        values = partner.values()
        parts = ("published", "dropped", "rejected", "in_flight")
        assert int(values["received"]) == sum(int(values[part]) for part in parts)

    def test_messages_of_another_type_are_named_with_what_to_set(self, partner: Any) -> None:
        from sensor_msgs.msg import CompressedImage, Image

        from tests.ros.harness import wait_until

        def message_of() -> str:
            return str(partner.values().get("message", ""))

        with publishing(Image, "camera_info"):
            wait_until(lambda: "/camera_info has publishers of sensor_msgs/msg/Image" in message_of(), "the camera's type")
            assert "sensor_msgs/msg/CameraInfo is expected: remap camera_info" in message_of()
        wait_until(lambda: "/camera_info has" not in message_of(), "the end of it")
        with publishing(CompressedImage, "image"):
            wait_until(lambda: "/image has publishers of sensor_msgs/msg/CompressedImage" in message_of(), "the image's type")
            assert "set image_transport to compressed and remap image/compressed to /image, not image" in message_of()
            assert partner.values()["level"] == "1"
        partner.node.destroy_publisher(partner.images)
        hint = "sensor_msgs/msg/Image is not published on /image; /image/compressed is: set image_transport to compressed"
        wait_until(lambda: hint in message_of(), "that there is no publisher, and where one is")

    def test_what_was_told_to_set_for_a_compressed_image_on_a_topic_of_its_own_works(
        self, ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path
    ) -> None:
        from sensor_msgs.msg import CompressedImage

        from tests.ros.harness import Partner, running, wait_until

        arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "image_transport:=compressed")
        with running(ros_environment, tmp_path / "log", *arguments, "-r", "image/compressed:=/small"):
            partner = Partner()
            try:
                publisher = partner.node.create_publisher(CompressedImage, "/small", 1)
                wait_until(publisher.get_subscription_count, "the node listens there")
            finally:
                partner.close()

    def test_points_wait_for_a_camera_and_diagnostics_say_why(self, partner: Any) -> None:
        from tests.ros.harness import stamp_ns, wait_until

        frame = make_image(2, height=48, width=80)
        partner.listen("points", "depth")
        partner.wait_connected()
        partner.send_until("depth", frame, count=5)
        assert partner.received["points"] == []
        wait_until(lambda: "~/points withheld until a camera" in partner.values()["message"], "the reason")
        partner.send_camera(80, 48, 70.0)
        cloud = partner.send_until("points", frame)[0]
        assert stamp_ns(cloud) > stamp_ns(partner.received["depth"][0])
        wait_until(lambda: "withheld" not in partner.values()["message"], "the end of the warning")
        assert partner.set(points=False).successful
        wait_until(lambda: "the parameter points is false" in partner.values()["message"], "why there are no points")

    def test_a_lens_is_warned_of_and_undone(self, partner: Any, bundle: Bundle) -> None:
        from tests.ros.harness import array_of, camera_message, wait_until

        frame = make_image(3, height=48, width=80)
        bent = camera_message(80, 48, 70.0)
        bent.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
        partner.listen("depth", "camera_info")
        partner.wait_connected()
        wait_until(partner.cameras.get_subscription_count, "the node listens to camera_info")
        partner.cameras.publish(bent)
        partner.send_until("depth", frame)
        wait_until(lambda: "the lens (plumb_bob) displaces" in partner.values()["message"], "a warning of the lens")
        assert partner.values()["level"] == "1"
        assert partner.set(undistort=True).successful
        wait_until(lambda: "lens undone by D" in _sent(partner, frame)["depth_scale"], "the lens is undone")
        partner.received.clear()
        depth = partner.send_until("depth", frame)[-1]
        info = wait_until(lambda: [m for m in partner.received["camera_info"] if m.header == depth.header], "its camera")[0]
        straight, undo = rectified(camera_of(bent))
        assert undo is not None
        assert camera_of(info) == straight
        with Engine(bundle, threads=1) as engine:
            expected = engine.predict(undo(frame), intrinsics=straight.intrinsics()).depth
        assert np.allclose(array_of(depth), expected, equal_nan=True)
        wait_until(lambda: "the lens (" not in partner.values()["message"], "the end of the warning")


@contextmanager
def publishing(kind: Any, topic: str) -> Iterator[None]:
    """Somebody else publishes messages of a type on a topic; one participant of DDS has one type on a topic."""
    import rclpy

    context = rclpy.Context()
    context.init(args=[])
    node = rclpy.create_node("other", context=context)
    try:
        node.create_publisher(kind, topic, 1)
        yield
    finally:
        node.destroy_node()
        context.try_shutdown()


def _sent(partner: Any, frame: np.ndarray) -> dict[str, str]:
    partner.send(frame, time.time_ns())
    time.sleep(0.1)
    found: dict[str, str] = partner.values()
    return found
