"""One worker, one engine, two cameras: what the frames of one leave behind does not reach the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_mtl_ros import cameras
from edge_mtl_ros.cameras import CameraKeeper
from edge_mtl_ros.loading import CameraScale, camera_scales
from edge_mtl_ros.scheduler import FrameScheduler
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.stream import Stream
from edge_mtl_ros.worker import Worker

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.depth_scale import ScaleRecord, network_digest
from edge_mtl.errors import DepthScaleError
from edge_mtl.ros import Camera, rectified
from edge_mtl.tasks.stability import TemporalFilter
from tests.bundles import make_image
from tests.ros.test_worker import CAMERA, Published, Quiet, message


class Cameras:
    """A worker with two cameras."""

    def __init__(self, bundle: Bundle) -> None:
        self.settings = Settings()
        frames: FrameScheduler[Any] = FrameScheduler(("front", "left"))
        self.streams = {name: Stream(name, queue, settings=lambda: self.settings) for name, queue in frames.queues.items()}
        self.published = {name: Published() for name in self.streams}
        self.worker = Worker(
            frames,
            self.streams.values(),
            settings=lambda: self.settings,
            log=Quiet(),
            reopen=lambda: Engine(bundle, threads=1),
            give_up=lambda reason: None,
        )
        self.worker.exchange(Engine(bundle, threads=1), self.published)
        self.worker.start()

    def deliver(self, name: str, sent: Any) -> None:
        queue = self.streams[name].queue
        queue.offer(sent)
        end_s = time.monotonic() + 20
        while queue.counts().waiting + queue.counts().working and time.monotonic() < end_s:
            time.sleep(0.001)

    def exchange(self, engine: Engine, scales: Mapping[str, CameraScale]) -> None:
        previous = self.worker.exchange(engine, self.published, scales)
        assert previous is not None
        previous.close()

    def close(self) -> None:
        assert self.worker.stop()
        engine = self.worker.exchange(None, {})
        assert engine is not None
        engine.close()
        assert all(stream.queue.counts().exact for stream in self.streams.values())


@pytest.fixture
def two(tiny_bundle: Bundle) -> Iterator[Cameras]:
    cameras = Cameras(tiny_bundle)
    yield cameras
    cameras.close()


def test_maps_are_smoothed_over_the_frames_of_their_own_camera(two: Cameras, tiny_bundle: Bundle) -> None:
    two.settings = Settings(stability=True)
    kept: dict[str, list[np.ndarray]] = {"front": [], "left": []}
    for name, published in two.published.items():
        published.keep = kept[name].append
    random = np.random.default_rng(0)
    noisy = {
        name: [
            np.clip(make_image(number, height=64, width=96) + random.integers(-6, 7, (64, 96, 3)), 0, 255).astype(np.uint8)
            for _ in range(4)
        ]
        for name, number in (("front", 1), ("left", 2))
    }
    for index in range(4):
        for name in two.streams:
            sent = message(index)
            sent.data = noisy[name][index].tobytes()
            two.deliver(name, sent)
    with Engine(tiny_bundle, threads=1) as engine:
        for name, frames in noisy.items():
            smooth, plain = TemporalFilter(), [engine.predict(frame) for frame in frames]
            expected = [smooth(frame, engine.predict(frame)).depth for frame in frames]
            assert not np.array_equal(expected[-1], plain[-1].depth, equal_nan=True), "smoothing changes something"
            for found, wanted in zip(kept[name], expected, strict=True):
                assert np.array_equal(found, wanted, equal_nan=True), name


def test_each_has_its_own_camera_rejections_watch_clouds_and_remarks(two: Cameras) -> None:
    two.settings = Settings(points=True, points_rate_hz=0.001, blind_after_s=1e-9)
    two.streams["front"].cameras.put(CAMERA)
    for number in range(2):
        two.deliver("front", message(number))
    clouds = [wanted & {"points"} for wanted, _ in two.published["front"].answers]
    assert clouds == [{"points"}, set()]
    bad = message(1)
    bad.encoding = "32FC1"
    two.deliver("left", bad)
    two.streams["left"].cameras.put(CAMERA)
    for number in (1, 1):  # the same image again, and between them none of the other camera's
        two.deliver("left", message(number))
        two.deliver("front", message(number + len(two.published["front"].answers)))
    front, left = two.streams["front"], two.streams["left"]
    assert "points" in two.published["left"].answers[0][0], "clouds of the one are not in the rate of the other"
    assert (front.last_rejection, "32FC1" in left.last_rejection) == ("", True)
    assert (front.queue.counts().rejected, left.queue.counts().rejected) == (0, 1)
    assert [remark.kind for remark in left.remarks()] == ["repeats"]
    assert front.remarks() == ()
    with_lens = replace(CAMERA, d=(-0.3, 0.1, 0.0, 0.0, 0.0))
    left.cameras.put(with_lens)
    asked = {"rectified": False, "undistort": True}
    assert left.cameras.of_image((64, 96), **asked).undo is not None
    assert front.cameras.of_image((64, 96), **asked).undo is None


def test_an_internal_error_of_one_stays_until_its_own_frames_go_through(two: Cameras) -> None:
    publish = two.published["left"].publish
    two.published["left"].publish = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    two.deliver("left", message(1))
    two.deliver("front", message(1))
    assert "ZeroDivisionError" in two.streams["left"].failure
    assert (two.streams["front"].failure, two.worker.failure) == ("", "")
    two.published["left"].publish = publish  # type: ignore[method-assign]
    two.deliver("left", message(2))
    assert two.streams["left"].failure == ""


def test_distances_are_multiplied_by_the_scale_of_their_own_camera(two: Cameras, tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "left.json"
    place.write_bytes(ScaleRecord(1.28, network_digest(tiny_bundle)).to_json())
    kept: dict[str, list[np.ndarray]] = {"front": [], "left": []}
    for name, published in two.published.items():
        published.keep = kept[name].append
    engine = Engine(tiny_bundle, threads=1, depth_scale=0.5)
    two.exchange(engine, camera_scales(engine, {"left": str(place)}))
    for name in two.streams:
        two.deliver(name, message(1))
    two.streams["left"].cameras.put(CAMERA)  # the file was made without one
    two.deliver("left", message(2))
    with Engine(tiny_bundle, threads=1) as plain:
        depth = plain.predict(make_image(1, height=64, width=96)).depth
    assert depth is not None
    assert np.allclose(kept["front"][0], 0.5 * depth, equal_nan=True)
    assert np.allclose(kept["left"][0], 1.28 * depth, equal_nan=True)
    assert "found without a camera" in two.streams["left"].last_rejection
    assert (two.streams["left"].scale, two.streams["front"].scale) == (CameraScale(ScaleRecord.read(place), str(place)), None)


def test_a_scale_that_cannot_be_used_is_named_with_its_camera(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(ScaleRecord(1.28, "0" * 64).to_json())
    with Engine(tiny_bundle, threads=1) as engine:
        with pytest.raises(DepthScaleError, match=r"^left\.depth_scale: .*another network"):
            camera_scales(engine, {"left": str(other)})
        with pytest.raises(DepthScaleError, match=r"^left\.depth_scale: .*cannot be read"):
            camera_scales(engine, {"left": str(tmp_path / "missing.json")})
        scales = camera_scales(engine, {"front": "", "left": 2, "rear": "1.5"})
    assert {name: (each.factor, each.place) for name, each in scales.items()} == {
        "front": (1.0, ""),
        "left": (2.0, ""),
        "rear": (1.5, ""),
    }


def test_what_undoes_a_lens_is_made_once_for_each_of_many_cameras_and_again_when_something_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Camera] = []
    monkeypatch.setattr(cameras, "rectified", lambda camera: made.append(camera) or rectified(camera))
    bent = [replace(CAMERA, d=(-0.3, 0.1 + number / 100, 0.0, 0.0, 0.0)) for number in range(6)]
    keepers = [CameraKeeper() for _ in bent]
    asked: dict[str, bool] = {"rectified": False, "undistort": True}
    for _ in range(3):
        for keeper, camera in zip(keepers, bent, strict=True):
            keeper.put(replace(camera))  # as each camera_info makes it
            assert keeper.of_image((64, 96), **asked).undo is not None
    assert made == bent
    first = keepers[0]
    assert first.of_image((128, 192), **asked).undo is not None
    assert first.of_image((64, 96), rectified=False, undistort=False).undo is None
    assert first.of_image((64, 90), **asked).intrinsics is None
    first.put(bent[1])
    assert first.of_image((64, 96), **asked).camera == rectified(bent[1])[0]


def test_topics_and_sentences_have_the_cameras_name(two: Cameras) -> None:
    two.settings = Settings(withhold_unscaled="all")
    two.deliver("left", message(1))
    (remark,) = two.streams["left"].remarks()
    assert remark.text.startswith("~/left/depth withheld")
    assert two.streams["front"].remarks() == ()
