"""The examples do what they say: on rooms whose geometry is known exactly, and end to end with rooms-b0 in FP32."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge_mtl import Prediction, Timing
from edge_mtl.backends import available
from edge_mtl.image.frames import Intrinsics
from edge_mtl.sources.images import read_image
from edge_mtl.tasks import NYU13_CLASSES, NYU_TASKS, DepthMap, LabelMap, NormalMap
from tests.bundles import ROOMS_B0

ROOT = Path(__file__).parents[3]
FLOOR, FURNITURE, WALL = (NYU13_CLASSES.index(name) for name in ("floor", "furniture", "wall"))
HEIGHT, WIDTH, FOCAL, CAMERA_M, PITCH_DEG = 120, 160, 120.0, 1.0, 20.0


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@dataclass(frozen=True)
class Room:
    """A floor, a wall, and a box that stands at `box` (left, right, near) metres on the floor, as a camera sees it."""

    prediction: Prediction
    up: np.ndarray
    ahead: np.ndarray


def room(
    *,
    box: tuple[float, float, float] | None = None,
    noise: float = 0.0,
    wall_m: float = 4.0,
    pitch_deg: float = PITCH_DEG,
) -> Room:
    pitch = np.radians(pitch_deg)
    up, ahead = np.array([0.0, -np.cos(pitch), -np.sin(pitch)]), np.array([0.0, -np.sin(pitch), np.cos(pitch)])
    camera = Intrinsics(FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    x, y = (np.arange(WIDTH) - camera.cx) / FOCAL, (np.arange(HEIGHT) - camera.cy) / FOCAL
    rays = np.dstack([*np.meshgrid(x, y), np.ones((HEIGHT, WIDTH))])
    with np.errstate(divide="ignore"):
        floor, wall = -CAMERA_M / (rays @ up), wall_m / (rays @ ahead)
    depth = np.where(floor > 0, np.minimum(floor, wall), wall)
    label = np.where((floor > 0) & (floor < wall), FLOOR, WALL).astype(np.uint8)
    normals = np.where((label == FLOOR)[..., None], up, -ahead)
    if box is not None:
        left, right, near = box
        front = near / (rays @ ahead)
        points = rays * front[..., None]
        hit = (
            (points[..., 0] > left)
            & (points[..., 0] < right)
            & (points @ up < -0.3)
            & (points @ up > -CAMERA_M)
            & (front < depth)
        )
        depth, label = np.where(hit, front, depth), np.where(hit, FURNITURE, label).astype(np.uint8)
        normals = np.where(hit[..., None], -ahead, normals)
    random = np.random.default_rng(0)
    depth = depth * (1 + noise * random.standard_normal(depth.shape))
    normals = normals + 2 * noise * random.standard_normal(normals.shape)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    prediction = Prediction(
        {
            "segmentation": LabelMap(NYU_TASKS["segmentation"], label),  # type: ignore[arg-type]
            "depth": DepthMap(NYU_TASKS["depth"], depth.astype(np.float32)),  # type: ignore[arg-type]
            "normals": NormalMap(NYU_TASKS["normals"], normals.astype(np.float32)),
        },
        timing=Timing(),
        intrinsics=camera,
        intrinsics_assumed=False,
        frame_size=(HEIGHT, WIDTH),
    )
    return Room(prediction, up, ahead)


def test_the_plane_of_the_floor_is_found_in_noise(example) -> None:
    scene = room(box=(-1.0, -0.2, 2.0), noise=0.04)
    plane = example("planes").find_plane(scene.prediction, "floor")
    assert np.degrees(np.arccos(plane.normal @ scene.up)) < 1.0
    assert plane.offset == pytest.approx(-CAMERA_M, rel=0.03)
    floor = scene.prediction.segmentation == FLOOR
    assert (plane.pixels & floor).sum() > 0.9 * floor.sum()
    assert not (plane.pixels & ~floor).any()


def test_where_there_is_no_such_surface_there_is_no_plane(example) -> None:
    assert example("planes").find_plane(room().prediction, "table") is None


def test_an_obstacle_has_its_distance_and_direction(example) -> None:
    found = example("obstacle_distance").obstacles(room(box=(0.4, 1.0, 2.0), noise=0.01).prediction)
    box = next(obstacle for obstacle in found if obstacle.name == "furniture")
    assert box is found[0]
    assert box.distance_m == pytest.approx(np.hypot(2.0, 0.5), rel=0.08)
    assert 10 < box.bearing_deg < 25
    assert {obstacle.name for obstacle in found} == {"furniture", "wall"}


@pytest.mark.parametrize("pitch_deg", [0.0, 20.0, 40.0])
def test_an_obstacle_is_in_the_same_direction_however_the_camera_is_pitched(pitch_deg: float, example) -> None:
    scene = room(box=(0.8, 1.0, 2.0), pitch_deg=pitch_deg)
    box = next(one for one in example("obstacle_distance").obstacles(scene.prediction) if one.name == "furniture")
    assert box.bearing_deg == pytest.approx(np.degrees(np.arctan2(0.9, 2.0)), abs=1.0)
    assert box.distance_m == pytest.approx(np.hypot(0.8, 2.0), rel=0.05)


def test_a_few_wrong_pixels_move_no_obstacle(example) -> None:
    scene = room(box=(0.4, 1.0, 2.0))
    rows, columns = np.nonzero(scene.prediction.segmentation == FURNITURE)
    some = np.random.default_rng(0).choice(len(rows), len(rows) // 50, replace=False)
    scene.prediction.depth[rows[some], columns[some]] = 0.4
    box = next(one for one in example("obstacle_distance").obstacles(scene.prediction) if one.name == "furniture")
    assert box.distance_m > 1.8


def test_the_floor_is_free_up_to_the_box_and_not_behind_it(example) -> None:
    free_floor = example("free_floor")
    for near, expected in ((2.5, 2.5 - 0.2), (None, 4.0 - 0.2)):
        scene = room(box=None if near is None else (-3.0, 3.0, near), noise=0.01)
        free, plane = free_floor.free_floor(scene.prediction)
        assert not free[scene.prediction.segmentation != FLOOR].mean() > 0.02
        bearings, reach = free_floor.reach_m(scene.prediction, free, plane, radius_m=0.2)
        middle = len(bearings) // 2
        assert bearings[middle] == pytest.approx(0.0, abs=1.0)
        assert reach[middle] == pytest.approx(expected, abs=0.25)


def test_floor_that_is_only_seen_behind_an_obstacle_is_not_within_reach(example) -> None:
    free_floor = example("free_floor")
    scene = room()
    prediction = scene.prediction
    prediction.segmentation[-45:] = FURNITURE  # something right before the robot
    free, plane = free_floor.free_floor(prediction)
    _, reach = free_floor.reach_m(prediction, free, plane)
    assert reach.max() == 0


def test_the_object_has_the_size_that_perspective_gives_it(example) -> None:
    placement, planes = example("ar_placement"), example("planes")
    scene = room(wall_m=6.0)
    plane = planes.find_plane(scene.prediction, "floor")
    heights = []
    frame = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    for distance in (2.0, 4.0):
        foot = distance * scene.ahead - CAMERA_M * scene.up
        image = placement.place(frame, scene.prediction, plane, placement.stand_on(plane, foot, 0.4))
        yellow = (image[..., 0].astype(int) - image[..., 2] > 60).any(axis=1)
        heights.append(np.count_nonzero(yellow))
    expected = [FOCAL * 0.4 * np.cos(np.radians(PITCH_DEG)) / (d * np.cos(np.radians(PITCH_DEG))) for d in (2.0, 4.0)]
    assert heights == pytest.approx(expected, rel=0.3)
    assert heights[0] / heights[1] == pytest.approx(2.0, rel=0.25)


def test_what_stands_before_the_object_hides_it(example) -> None:
    placement, planes = example("ar_placement"), example("planes")
    frame = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    changed = {}
    for name, box in (("nothing", None), ("a box before it", (-0.6, 0.6, 1.6)), ("a box behind it", (-0.6, 0.6, 3.0))):
        scene = room(box=box)
        plane = planes.find_plane(scene.prediction, "floor")
        foot = 2.2 * scene.ahead - CAMERA_M * scene.up
        image = placement.place(frame, scene.prediction, plane, placement.stand_on(plane, foot, 0.35))
        changed[name] = int((image[..., 0].astype(int) - image[..., 2] > 60).sum())
    assert changed["nothing"] > 100
    assert changed["a box before it"] < 0.05 * changed["nothing"]
    assert changed["a box behind it"] > 0.9 * changed["nothing"]


@pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")
@pytest.mark.parametrize("script", ["obstacle_distance", "free_floor", "ar_placement"])
def test_the_example_runs_on_a_room_with_rooms_b0(
    script: str, example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = ROOMS_B0 / "evaluation" / "012.jpg", tmp_path / "out.png"
    asked = [str(source), "--bundle", str(ROOMS_B0), "--precision", "fp32"]
    example(script).main(asked if script == "obstacle_distance" else [*asked, "--save", str(out)])
    said = capsys.readouterr().out
    if script == "obstacle_distance":
        assert " m " in said
        return
    frame, result = read_image(source), read_image(out)
    assert result.shape == frame.shape
    assert 0.005 < (np.abs(result.astype(int) - frame).max(axis=2) > 30).mean() < 0.6


@pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")
def test_a_image_without_a_floor_ends_in_one_line(example, tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((288, 384, 3), 128, np.uint8))
    with pytest.raises(SystemExit, match="seen clearly enough"):
        example("ar_placement").main(
            [str(path), "--bundle", str(ROOMS_B0), "--precision", "fp32", "--on", "table", "--save", str(tmp_path / "o.png")]
        )
    assert not (tmp_path / "o.png").exists()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "tour.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 64))
    for index in range(3):
        writer.write(np.full((64, 96, 3), 40 + 80 * index, np.uint8))
    writer.release()
    return path


def test_a_frame_of_a_video_is_the_one_asked_for(example, video: Path) -> None:
    for number in range(3):
        assert example("asked").frame_of(str(video), number).mean() == pytest.approx(40 + 80 * number, abs=5)


@pytest.mark.parametrize("script", ["free_floor", "ar_placement"])
@pytest.mark.parametrize(("frame", "said"), [("3", "has no frame 3: --frame should be 0 to 2"), ("-1", "0 or more; found -1")])
def test_a_frame_that_is_not_there_ends_in_one_line(script: str, frame: str, said: str, example, video: Path) -> None:
    with pytest.raises(SystemExit, match=said):
        example(script).main([str(video), "--frame", frame])


@pytest.mark.parametrize("script", ["free_floor", "ar_placement"])
def test_a_source_that_is_not_there_ends_in_one_line(script: str, example, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="does not exist"):
        example(script).main([str(tmp_path / "none.avi")])


@pytest.mark.parametrize("at", ["96,10", "10,64", "-1,10", "10,-1", "10", "1,2,3", "left,top"])
def test_a_pixel_outside_the_image_ends_in_one_line(at: str, example, video: Path) -> None:
    with pytest.raises(SystemExit, match="column from 0 to 95 and a row from 0 to 63; found"):
        example("ar_placement").main([str(video), f"--at={at}"])


def test_a_pixel_of_the_image_is_column_and_row(example) -> None:
    assert example("asked").pixel_of("95,63", (64, 96)) == (95, 63)


@pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")
def test_a_frame_of_a_video_is_predicted_and_painted(example, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = read_image(ROOMS_B0 / "evaluation" / "012.jpg")
    path, out = tmp_path / "tour.avi", tmp_path / "out.png"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, room.shape[1::-1])
    for frame in (np.full_like(room, 128), room[:, :, ::-1]):
        writer.write(np.ascontiguousarray(frame))
    writer.release()
    example("free_floor").main(
        [str(path), "--frame", "1", "--bundle", str(ROOMS_B0), "--precision", "fp32", "--save", str(out)]
    )
    assert "free floor: " in capsys.readouterr().out
    assert np.abs(read_image(out).astype(int) - room).mean() < 60
