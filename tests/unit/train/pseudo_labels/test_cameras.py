"""Cameras of the command line: four numbers, and the two forms of YAML that ROS tools write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mtl.datasets.folder.camera import SharedCamera
from mtl.pseudo_labels.cameras import parse_camera

from edge_mtl.errors import BackendUnavailable, BuildError

CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [500.0, 0.0, 320.0, 0.0, 501.0, 240.0, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.0, 0.0, 0.0, 0.0, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [480.0, 0.0, 318.0, 0.0, 0.0, 481.0, 239.0, 0.0, 0.0, 0.0, 1.0, 0.0]}
"""
MESSAGE = """\
header: {stamp: {sec: 1, nanosec: 2}, frame_id: front}
height: 960
width: 1280
distortion_model: plumb_bob
d: [0.0, 0.0]
k: [1000.0, 0.0, 640.5, 0.0, 1002.0, 480.5, 0.0, 0.0, 1.0]
r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
p: [960.0, 0.0, 636.0, 0.0, 0.0, 962.0, 478.0, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 2
binning_y: 2
roi: {x_offset: 0, y_offset: 0, height: 0, width: 0, do_rectify: false}
---
"""


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    pytest.importorskip("yaml")
    path = tmp_path / "front.yaml"
    path.write_text(CALIBRATION)
    return path


def test_four_numbers_are_a_camera_of_the_size_that_was_said() -> None:
    assert parse_camera("500,501.5,320,240") == SharedCamera((500.0, 501.5, 320.0, 240.0), None)
    assert parse_camera(" 500, 501.5,320,240", size=(480, 640)).size == (480, 640)


@pytest.mark.parametrize("text", ["500,501,320", "500,501,320,x", "0,501,320,240", "500,nan,320,240", "front.json", ""])
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(BuildError, match="a camera is fx,fy,cx,cy in pixels, or a camera_info"):
        parse_camera(text)


def test_a_calibration_file_says_its_camera_and_size(calibration: Path) -> None:
    assert parse_camera(str(calibration)) == SharedCamera((500.0, 501.0, 320.0, 240.0), (480, 640))
    assert parse_camera(str(calibration), rectified=True) == SharedCamera((480.0, 481.0, 318.0, 239.0), (480, 640))
    with pytest.raises(BuildError, match="Leave the size away"):
        parse_camera(str(calibration), size=(240, 320))


def test_a_printed_message_is_read_with_its_binning(calibration: Path) -> None:
    calibration.write_text(MESSAGE)
    assert parse_camera(str(calibration)) == SharedCamera((500.0, 501.0, 320.25, 240.25), (480, 640))


def test_a_lens_that_bends_lines_needs_rectified_images(calibration: Path) -> None:
    calibration.write_text(CALIBRATION.replace("data: [0.0, 0.0, 0.0, 0.0, 0.0]", "data: [-0.3, 0.1, 0.0, 0.0, 0.0]"))
    with pytest.raises(BuildError, match=r"has distortion .*--rectified"):
        parse_camera(str(calibration))
    assert parse_camera(str(calibration), rectified=True).intrinsics[0] == 480.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n- 2\n", "holds no camera_info"),
        ("width: 640\n", "holds no camera_info"),
        (CALIBRATION.replace("501.0, 240.0, 0.0, 0.0, 1.0]", "501.0]"), "K of a camera_info has 9 values; found 5"),
        (CALIBRATION.replace("500.0", "0.0").replace("501.0", "0.0"), "never calibrated"),
        (CALIBRATION.replace("500.0", "many"), "holds no camera_info"),
        ("a: [1\n", "cannot be read"),
    ],
)
def test_files_without_a_camera_are_named(calibration: Path, text: str, words: str) -> None:
    calibration.write_text(text)
    with pytest.raises(BuildError, match=words) as caught:
        parse_camera(str(calibration))
    assert str(calibration) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    with pytest.raises(BuildError, match=r"absent\.yaml cannot be read"):
        parse_camera(str(tmp_path / "absent.yaml"))


def test_without_pyyaml_the_command_that_installs_it_is_named(calibration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(BackendUnavailable, match=r"pip install .*PyYAML"):
        parse_camera(str(calibration))
