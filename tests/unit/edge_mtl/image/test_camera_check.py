"""A camera that cannot be that of an image is refused, one that looks like another image's is said, wherever it is given."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.errors import FrameError
from edge_mtl.image.camera_check import camera_fault, camera_oddity, check_camera
from edge_mtl.image.frames import Intrinsics
from edge_mtl.ros import Camera
from tests.bundles import make_image
from tests.command_line import edge_mtl

SIZE = (480, 640)
GOOD = (525.0, 525.0, 319.5, 239.5)


def of_size(scale: float) -> Intrinsics:
    """The camera of an image that many times larger."""
    fx, fy, cx, cy = GOOD
    return Intrinsics(fx * scale, fy * scale, (cx + 0.5) * scale - 0.5, (cy + 0.5) * scale - 0.5)


@pytest.mark.parametrize(
    "camera", [GOOD, (518.9, 519.5, 325.6, 253.7), (70.0, 70.0, 319.5, 239.5), (9000.0, 9000.0, 400.0, 200.0)]
)
def test_cameras_as_they_are_pass_without_a_word(camera: tuple[float, float, float, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_camera(Intrinsics(*camera), SIZE).as_tuple() == camera


@pytest.mark.parametrize(
    "numbers", [(math.nan, 500, 320, 240), (500, math.inf, 320, 240), (0, 500, 320, 240), (500, -1, 320, 240)]
)
def test_numbers_that_are_no_camera_are_none_of_any_image(numbers: tuple[float, ...]) -> None:
    with pytest.raises(FrameError):
        Intrinsics(*numbers)


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        (
            (525.0, 525.0, 99999.0, 239.5),
            "principal point should lie within 45% of a side of the middle of an image of 480x640",
        ),
        ((525.0, 525.0, -1.0, 239.5), "principal point"),
        ((525.0, 525.0, 319.5, 480.0), "principal point"),
        (of_size(2.0).as_tuple(), "They fit an image of about 960x1280"),
        (of_size(3.3).as_tuple(), "They fit an image of about 1584x2112"),
        ((63.0, 525.0, 319.5, 239.5), "fx should be 64 to 12800 pixels for an image of 480x640; found 63"),
        ((525.0, 13000.0, 319.5, 239.5), "fy should be"),
    ],
)
def test_a_camera_of_no_such_image_is_refused(camera: tuple[float, float, float, float], said: str) -> None:
    assert said in camera_fault(Intrinsics(*camera), SIZE)
    with pytest.raises(FrameError):
        check_camera(Intrinsics(*camera), SIZE)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.5])
def test_the_camera_of_an_image_of_another_size_is_said(scale: float) -> None:
    told: list[str] = []
    assert check_camera(of_size(scale), SIZE, on_remark=told.append) == of_size(scale)
    assert f"about {round(480 * scale)}x{round(640 * scale)}" in told[0]
    assert camera_oddity(of_size(1.2), SIZE) == ""


def test_an_engine_refuses_the_camera_of_another_image_and_warns_of_one_that_may_be(tiny_bundle: Bundle) -> None:
    frame = make_image(0)  # 64 x 96
    with Engine(tiny_bundle, threads=1) as engine:
        with pytest.raises(FrameError, match="They fit an image of about 128x192"):
            engine.predict(frame, intrinsics=(240.0, 240.0, 95.5, 63.5))
        with pytest.raises(FrameError, match="within 45% of a side"):
            engine.predict(frame, intrinsics=(120.0, 120.0, 99999.0, 31.5))
        with pytest.warns(UserWarning, match="They fit an image of about 32x48"):
            engine.predict(frame, intrinsics=(60.0, 60.0, 23.5, 15.5))
        engine.predict(frame, intrinsics=(120.0, 120.0, 47.5, 31.5))


def test_the_command_line_says_it_in_one_line(tiny_bundle: Bundle, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), make_image(0))
    base = ("predict", tmp_path / "a.png", "--bundle", tiny_bundle.path, "--out", tmp_path / "out", "--threads", "1")
    refused = edge_mtl(*base, "--intrinsics", "240,240,95.5,63.5")
    assert refused.code == 6
    assert "about 128x192" in refused.err.splitlines()[-1]
    warned = edge_mtl(*base, "--intrinsics", "60,60,23.5,15.5")
    assert warned.code == 0
    (line,) = [line for line in warned.err.splitlines() if line.startswith("warning: the principal point")]
    assert "about 32x48" in line
    assert "UserWarning" not in warned.err


class TestCameraInfo:
    K = (525.0, 0.0, 319.5, 0.0, 525.0, 239.5, 0.0, 0.0, 1.0)

    def test_another_size_is_scaled_where_its_shape_is_the_same_and_nothing_else_is_stated(self) -> None:
        camera = Camera.of(width=640, height=480, k=self.K)
        found = camera.of_image(320, 240).intrinsics()
        assert found is not None
        assert found.fx == 262.5
        with pytest.raises(FrameError, match="camera_info of 640x480 does not fit images of 640x360"):
            camera.of_image(640, 360)

    @pytest.mark.parametrize("stated", [{"binning": (2, 2)}, {"roi": (160, 120, 320, 240)}])
    def test_where_binning_or_a_region_is_stated_only_the_size_that_follows_fits(
        self, stated: dict[str, tuple[int, ...]]
    ) -> None:
        camera = Camera.of(width=640, height=480, k=self.K, **stated)  # type: ignore[arg-type]
        assert camera.of_image(320, 240) == camera
        assert camera.fits(321, 240), "sides that were odd"
        for width, height in ((640, 480), (160, 120)):
            with pytest.raises(FrameError, match="320x240 by its binning and region of interest does not fit images of"):
                camera.of_image(width, height)

    def test_a_region_that_is_the_whole_image_states_nothing(self) -> None:
        camera = Camera.of(width=640, height=480, k=self.K, roi=(0, 0, 640, 480), binning=(1, 1))
        assert camera.fits(320, 240)

    def test_k_of_another_size_than_the_message_says_is_refused(self) -> None:
        k = tuple(np.array(self.K) * 3.3)
        with pytest.raises(FrameError, match=r"camera_info holds no camera of its images: the principal point.*1582x2110"):
            Camera.of(width=640, height=480, k=k).intrinsics()
