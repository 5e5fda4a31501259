"""`edge-mtl scale`: from frames with known distances to a file that `predict` takes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.depth_scale import ScaleRecord
from edge_mtl.engine import Engine
from edge_mtl.image.frames import Intrinsics
from edge_mtl.sources.bags import IMAGE
from tests.bag_files import IMAGE_TOPIC, Beside, read_bag, write_bag
from tests.bundles import HEIGHT, WIDTH, canonical_intrinsics, make_bundle, make_image, paint, transparent_model, write_image
from tests.command_line import Outcome, assert_failed, edge_mtl

CAMERA = canonical_intrinsics()
INTRINSICS = ("--intrinsics", ",".join(map(str, CAMERA)))
SIZE = (HEIGHT, WIDTH)
FACTOR = 1.28
Array = np.ndarray


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Predicts what is painted on the image."""
    painted = {"deploy": transparent_model(), "plain": transparent_model(placement="graph")}
    return make_bundle(tmp_path_factory.mktemp("scale") / "tiny", **painted, evaluation=0, image=wall)


def wall(seed: int = 0, *, height: int = SIZE[0], width: int = SIZE[1]) -> Array:
    """(H, W, 3): a wall at 2 m."""
    return paint(np.full((height, width), 2.0, np.float32), np.broadcast_to([0.0, 0.0, -1.0], (height, width, 3)))


def scene(seed: int) -> tuple[Array, Array]:
    """((H, W, 3) image, (H, W) float32 true metres): a smooth scene that the bundle predicts 1.28 times too near."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(1.0, 3.5, (3, 4)).astype(np.float32)
    predicted = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    return paint(predicted, np.broadcast_to([0.0, 0.0, -1.0], (*SIZE, 3))), predicted * np.float32(FACTOR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images, and beside them depth/ with true depth in millimetres."""
    (tmp_path / "depth").mkdir()
    (tmp_path / "images").mkdir()
    for index in range(8):
        image, true_m = scene(index)
        write_image(tmp_path / "images" / f"{index}.png", image)
        cv2.imwrite(str(tmp_path / "depth" / f"{index}.png"), np.rint(true_m * 1000).astype(np.uint16))
    return tmp_path


@pytest.fixture
def scale(bundle: Bundle) -> Callable[..., Outcome]:
    return lambda *arguments: edge_mtl("scale", *arguments, "--bundle", bundle.path, "--threads", 1)


def test_depth_files_give_a_factor_and_a_file_that_predict_and_engine_take(
    folder: Path, scale: Callable[..., Outcome], bundle: Bundle
) -> None:
    place = folder / "front.json"
    options = (*INTRINSICS, "--camera-name", "front", "--save", place, "--json")
    outcome = scale(folder / "images", "--depth-files", folder / "depth", *options)
    assert outcome.code == 0, outcome
    (said,) = outcome.records
    assert said["factor"] == pytest.approx(FACTOR, rel=0.02)
    assert said["interval"][0] <= FACTOR * 1.01
    assert said["interval"][1] >= FACTOR * 0.99
    assert (said["found"]["frames"], said["found"]["interval_over"], said["saved"]) == (8, "frames", str(place))
    assert said["found"]["mean_relative_error_after"] < 0.03 < said["found"]["mean_relative_error_before"]
    assert said["camera"] == {"name": "front", "intrinsics": list(CAMERA), "size": list(SIZE)}
    record = ScaleRecord.read(place)
    assert record.factor == said["factor"]
    assert record.camera is not None
    assert record.camera.intrinsics == Intrinsics(*CAMERA)

    image = folder / "images" / "0.png"
    options = ("--bundle", bundle.path, "--threads", 1, "--json", *INTRINSICS)
    plain, scaled = (
        edge_mtl("predict", image, *options, *more, "--files", "npz", "--out", folder / name).records[0]
        for name, more in (("plain", ()), ("scaled", ("--depth-scale", place)))
    )
    assert (plain["depth_scale"], scaled["depth_scale"]) == (1.0, record.factor)
    assert scaled["depth_median_m"] == pytest.approx(record.factor * plain["depth_median_m"], rel=1e-5)
    with np.load(folder / "scaled" / "0.npz") as arrays:
        assert arrays["depth_scale"] == record.factor
    other = ("--bundle", bundle.path, "--intrinsics", "200,200,63.5,47.5", "--depth-scale", place, "--out", folder / "other")
    assert_failed(edge_mtl("predict", image, *other), 6, "'front'")


def test_a_table_says_the_factor_and_how_much_it_helps(folder: Path, scale: Callable[..., Outcome]) -> None:
    outcome = scale(folder / "images", "--depth-files", folder / "depth", "--limit", 3)
    assert outcome.code == 0, outcome
    for word in ("factor", "95 % interval", "1.2", "blocks", "relative error"):
        assert word in outcome.out
    assert "fewer than six frames" in outcome.err
    assert "no camera was known" in outcome.err


@pytest.mark.parametrize("along", ["z", "ray"])
def test_known_points_give_a_factor(folder: Path, scale: Callable[..., Outcome], along: str) -> None:
    points: list[Any] = []
    for name, u, v in (("0", 20, 30), ("0", 70, 50), ("3.png", 48, 32), ("5", 60, 20)):
        metres = float(scene(int(name[0]))[1][v, u])
        if along == "ray":
            metres *= float(np.linalg.norm([(u - CAMERA[2]) / CAMERA[0], (v - CAMERA[3]) / CAMERA[1], 1.0]))
        points += ["--point", f"{name}:{u},{v}={metres}"]
    outcome = scale(folder / "images", *points, "--along", along, *INTRINSICS, "--json")
    assert outcome.code == 0, outcome
    (said,) = outcome.records
    assert said["factor"] == pytest.approx(FACTOR, rel=0.03)
    assert said["found"]["frames"] == 3
    assert said["found"]["readings"] == 4
    single = scale(folder / "images" / "0.png", *(text.replace("0:", "") for text in points[:4]), "--along", along, *INTRINSICS)
    assert single.code == 0, single


def test_the_height_over_the_floor_gives_a_factor(tmp_path: Path, scale: Callable[..., Outcome]) -> None:
    """A camera 0.85 m over a floor, looking 35 degrees down; the network sees it 1.28 times too near."""
    down = np.array([0.0, np.cos(np.radians(35.0)), np.sin(np.radians(35.0))])
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.dstack([(u - CAMERA[2]) / CAMERA[0], (v - CAMERA[3]) / CAMERA[1], np.ones(SIZE)])
    depth = (0.85 / FACTOR / (rays @ down)).astype(np.float32)
    write_image(tmp_path / "hall.png", paint(depth, np.broadcast_to(-down, (*SIZE, 3))))
    for camera_pitch in ((), ("--camera-pitch", 35)):
        outcome = scale(tmp_path / "hall.png", "--camera-height", 0.85, *camera_pitch, *INTRINSICS, "--json")
        assert outcome.code == 0, outcome
        assert outcome.records[0]["factor"] == pytest.approx(FACTOR, rel=0.05)
    assert_failed(scale(tmp_path / "hall.png", "--camera-height", 0.85), 12, "--intrinsics")


def depth_topic(types: Any, header: Any, index: int) -> Any:
    data = np.rint(scene(index)[1] * 1000).astype("<u2").view(np.uint8).reshape(-1)
    kind = types["sensor_msgs/msg/Image"]
    height, width = SIZE
    return kind(header=header, height=height, width=width, encoding="16UC1", is_bigendian=0, step=2 * width, data=data)


def test_a_bag_with_depth_gives_a_factor_and_an_annotated_bag_says_it(
    tmp_path: Path, scale: Callable[..., Outcome], bundle: Bundle
) -> None:
    frames = [scene(index)[0] for index in range(7)]
    bag = write_bag(tmp_path / "tour", frames, focal=CAMERA[0], beside={"/depth": Beside(IMAGE, depth_topic)})
    place = tmp_path / "front.json"
    outcome = scale(bag, "--topic", IMAGE_TOPIC, "--depth-topic", "/depth", "--save", place, "--json")
    assert outcome.code == 0, outcome
    assert outcome.records[0]["factor"] == pytest.approx(FACTOR, rel=0.02)
    assert outcome.records[0]["found"]["method"] == "depth on /depth"
    maps = tmp_path / "maps"
    options = ("--topic", IMAGE_TOPIC, "--bundle", bundle.path, "--out", maps, "--depth-scale", place)
    written = edge_mtl("predict", bag, *options)
    assert written.code == 0, written
    assert [each.data for each in read_bag(maps)["/edge_mtl/depth_scale"]] == [ScaleRecord.read(place).factor]

    apart = write_bag(tmp_path / "apart", frames, beside={"/depth": Beside(IMAGE, depth_topic, frame_id="depth_optical")})
    refused = scale(apart, "--topic", IMAGE_TOPIC, "--depth-topic", "/depth")
    assert_failed(refused, 12, "'depth_optical'", "--registered")
    assert scale(apart, "--topic", IMAGE_TOPIC, "--depth-topic", "/depth", "--registered").code == 0


def test_a_factor_of_frames_whose_lens_distorts_says_so(tmp_path: Path, scale: Callable[..., Outcome]) -> None:
    frames, beside = [scene(index)[0] for index in range(7)], {"/depth": Beside(IMAGE, depth_topic)}
    bent = {"d": np.array([-0.3, 0.1, 0.0, 0.0, 0.0])}
    bag = write_bag(tmp_path / "tour", frames, focal=CAMERA[0], camera_fields=bent, beside=beside)
    asked = ("--topic", IMAGE_TOPIC, "--depth-topic", "/depth")
    outcome = scale(bag, *asked)
    assert outcome.code == 0, outcome
    assert "taken for a pinhole camera's: the lens (plumb_bob) displaces" in " ".join(outcome.err.split())
    assert "pinhole" not in scale(bag, *asked, "--rectified").err


def test_a_bag_with_a_scan_gives_a_factor(tmp_path: Path, scale: Callable[..., Outcome]) -> None:
    """A wall 2.56 m ahead, predicted at 2 m; the scanner is 0.1 m ahead of the camera."""

    def laser(types: Any, header: Any, index: int) -> Any:
        angles = np.radians(np.arange(-40.0, 40.0))
        ranges = ((2.56 - 0.1) / np.cos(angles)).astype(np.float32)
        limits = {"range_min": 0.05, "range_max": 8.0, "scan_time": 0.1, "time_increment": 0.0}
        turns = {"angle_min": float(angles[0]), "angle_max": float(angles[-1]), "angle_increment": float(np.radians(1.0))}
        kind = types["sensor_msgs/msg/LaserScan"]
        return kind(header=header, ranges=ranges, intensities=np.zeros(0, np.float32), **limits, **turns)

    beside = {"/scan": Beside("sensor_msgs/msg/LaserScan", laser, delay_ns=4_000_000, frame_id="laser")}
    bag = write_bag(tmp_path / "tour", [wall()] * 6, focal=CAMERA[0], beside=beside)
    outcome = scale(bag, "--scan", "/scan", "--scan-offset", "0.1,0,-0.2,0", "--json")
    assert outcome.code == 0, outcome
    assert outcome.records[0]["factor"] == pytest.approx(FACTOR, rel=0.02)
    missing = scale(bag, "--scan", "/lidar", "--scan-offset", "0,0,0,0")
    assert_failed(missing, 6, "topics of that type: /scan")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "found none"),
        (("--camera-height", 1, "--depth-files", "depth"), 2, "--camera-height and --depth-files"),
        (("--camera-height", 0), 2, "above 0"),
        (("--camera-height", "nan"), 2, "above 0"),
        (("--depth-files", "depth", "--camera-pitch", 10), 2, "belongs to --camera-height"),
        (("--point", "0:1,2=3"), 2, "--along z"),
        (("--point", "0:1,2", "--along", "z"), 2, "U,V=METRES"),
        (("--point", "0:1,2=-3", "--along", "z"), 2, "U,V=METRES"),
        (("--point", "1,2=3", "--along", "z"), 2, "FRAME:U,V"),
        (("--point", "9:1,2=3", "--along", "z"), 12, "no frame 9"),
        (("--point", "0:999,2=3", "--along", "z"), 12, "outside of 0"),
        (("--point", "0:1,2=3", "--along", "y"), 2, "z, ray"),
        (("--depth-files", "depth", "--along", "z"), 2, "belongs to --point"),
        (("--depth-files", "nowhere"), 6, "nowhere"),
        (("--depth-files", "images"), 12, "16 bits; found uint8"),
        (("--depth-files", "depth", "--depth-unit", 1), 12, "Is its unit right?"),
        (("--depth-files", "depth", "--save", "front.txt"), 2, ".json"),
        (("--depth-topic", "/depth"), 6, "is no bag"),
        (("--scan", "/scan"), 2, "--scan-offset"),
        (("--scan", "/scan", "--scan-offset", "1,2"), 2, "x,y,z,yaw"),
    ],
)
def test_what_makes_no_scale_is_refused_in_one_line(
    folder: Path,
    scale: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(folder)
    assert_failed(scale("images", *arguments, "--quiet"), code, words)
    assert not list(folder.glob("*.json"))


def test_frames_that_do_not_agree_are_refused_and_nothing_is_written(folder: Path, scale: Callable[..., Outcome]) -> None:
    for index in range(4):
        true_m = scene(index)[1] * 3.0
        cv2.imwrite(str(folder / "depth" / f"{index}.png"), np.rint(true_m * 1000).astype(np.uint16))
    command = (folder / "images", "--depth-files", folder / "depth", "--save", folder / "front.json")
    assert_failed(scale(*command), 12, "do not agree on one factor", "--max-spread")
    assert not (folder / "front.json").exists()
    assert scale(*command, "--max-spread", 9).code == 0
    assert json.loads((folder / "front.json").read_text())["found"]["spread"] > 1.6


def test_predict_refuses_a_scale_that_is_none(tiny_bundle: Bundle, tmp_path: Path) -> None:
    write_image(tmp_path / "room.png", make_image(1))
    for value, words in (("40", "0.1 to 10"), ("nothing.json", "cannot be read")):
        options = ("--bundle", tiny_bundle.path, "--depth-scale", value, "--out", tmp_path / "out")
        assert_failed(edge_mtl("predict", tmp_path / "room.png", *options), 12, words)
    with Engine(tiny_bundle, threads=1) as engine:
        assert engine.info.depth_scale == 1.0
