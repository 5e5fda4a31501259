"""From a folder of streets, with lanes that are lines and depth to 80 m, to a bundle that says so and is judged by it."""

from __future__ import annotations

import json
from pathlib import Path

import evaluate as evaluate_script
import numpy as np
import pytest
from mtl.bundling import export_bundle
from mtl.run import Run

from edge_mtl.bundle import Bundle
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.image.encoding import encode_image, encode_labels, encode_png, stated_unit_m
from edge_mtl.metric_scale.depth_files import read_depth_file
from tests.bundles import write_image
from tests.command_line import edge_mtl
from tests.own_settings import own_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

SIZE = (96, 128)
TOML = """\
licence = "made for this test"
redistributable = true
camera = {fx = 117.0, fy = 117.0, cx = 63.5, cy = 47.5}
splits = {val = 0.2, test = 0.2}

[tasks.drivable]
kind = "labels"
folder = "drivable"
classes = ["road", "other"]

[tasks.lane]
kind = "labels"
folder = "lane"
classes = ["background", "line"]
ignore_in_mean = ["background"]
tolerance_px = 2

[tasks.depth]
kind = "depth"
folder = "depth"
scale_m = 0.002
range_m = [0.5, 80.0]
"""


def street(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A flat road with two lines that meet at the horizon: image, drivable, lanes, depth to 60 m."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    below = rows - 40.0
    depth = np.where(below > 1.0, 1.5 * 117.0 / np.maximum(below, 1.0), 60.0).clip(0, 60).astype(np.float32)
    across = (columns - 63.5) / np.maximum(below, 1.0) + float(random.uniform(-0.2, 0.2))
    road = (below > 2) & (np.abs(across) < 1.5)
    line = road & (np.abs(np.abs(across) - 0.8) < 0.08)
    houses = random.integers(60, 200, (6, 8, 3)).repeat(16, axis=0).repeat(16, axis=1)  # no two frames are nearly the same
    image = np.where(road[..., None], 90, houses) + np.where(line[..., None], 150, 0) + random.normal(0, 5, (*SIZE, 3))
    return image.clip(0, 255).astype(np.uint8), (~road).astype(np.uint8), line.astype(np.uint8), depth


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets")
    (folder / "dataset.toml").write_text(TOML)
    for name in ("images", "drivable", "lane", "depth"):
        (folder / name).mkdir()
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    for number in range(20):
        image, drivable, lane, depth_m = street(number)
        (folder / "images" / f"{number:02d}.png").write_bytes(encode_image(image))
        for name, labels in (("drivable", drivable), ("lane", lane)):
            (folder / name / f"{number:02d}.png").write_bytes(encode_labels(labels, palette=palette))
        (folder / "depth" / f"{number:02d}.png").write_bytes(encode_png(np.rint(depth_m * 500).astype(np.uint16)))
    return folder


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = own_settings(root, tmp_path_factory.mktemp("runs"), **{"model.tasks": "['drivable', 'lane', 'depth']"})
    return Run(settings, console=quiet()).train()


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(run, tmp_path_factory.mktemp("bundles") / "streets", console=quiet(), command="a test")


def test_validation_has_the_f_measure_of_the_lanes_alone(run: Path) -> None:
    lines = map(json.loads, (run.parent / "metrics.jsonl").read_text().splitlines())
    record = [one for one in lines if one["kind"] == "validation"][-1]
    measured = {"drivable.miou", "drivable.pixel_accuracy", "lane.miou", "lane.pixel_accuracy", "lane.line_f", "depth_rel"}
    assert measured <= set(record)
    assert not {"drivable.line_f", "line_f"} & set(record)
    assert 0.0 <= record["lane.line_f"] <= 1.0


def test_the_bundle_says_tolerance_and_range_and_holds_depth_that_far(root: Path, bundle: Bundle) -> None:
    described = json.loads((bundle.path / "manifest.json").read_text())["tasks"]
    assert (described["lane"]["tolerance_px"], described["depth"]["range_m"]) == (2, [0.5, 80.0])
    assert "tolerance_px" not in described["drivable"]
    assert "lane.line_f" in bundle.manifest.accuracy["fp32"]
    farthest = max(float(item.targets["depth"].max()) for item in evaluation_frames(bundle))
    assert farthest == pytest.approx(60.0, abs=2.0), "13.1 m is as far as those of rooms reach"
    stated = {stated_unit_m(bundle.read(name)) for name in bundle.list("evaluation") if name.endswith(".depth.png")}
    assert stated == {0.002}


def test_verify_judges_lines_by_their_f_measure(bundle: Bundle) -> None:
    done = edge_mtl("verify", bundle.path, "--threads", 1, "--max-drop", "lane.line_f=1,miou=1,classes=1,rel=9,depth=9")
    assert "lines F %" in done.out, done.err
    assert "Lines of lane are right within 2 px" in " ".join(done.out.split())
    done = edge_mtl("verify", bundle.path, "--threads", 1, "--max-drop", "lane.miou=1")
    assert done.code != 0
    assert "There is no budget lane.miou" in done.err


def test_evaluate_reports_it_with_what_bdd100k_takes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_script.main([str(run.parent), "--weights", "last", "--save", str(tmp_path / "numbers.json")]) == 0
    assert "line F" in capsys.readouterr().out
    content = json.loads((tmp_path / "numbers.json").read_text())
    (metrics,), (details,) = content["metrics"].values(), content["details"].values()
    assert 0.0 <= metrics["lane.line_f"] <= 1.0
    assert list(details["lane.line_f_of_images"]) == ["1 px", "2 px", "5 px"]


def test_predict_writes_depth_that_reaches_80_m(bundle: Bundle, tmp_path: Path) -> None:
    write_image(tmp_path / "street.png", street(0)[0])
    command = ("predict", tmp_path / "street.png", "--bundle", bundle.path, "--backend", "onnxruntime", "--precision", "fp32")
    done = edge_mtl(*command, "--threads", 1, "--out", tmp_path / "out", "--files", "png,npz,panel")
    assert done.code == 0, done.err
    (tmp_path / "out" / "street.depth.png").rename(tmp_path / "out" / "depth.png")
    assert stated_unit_m((tmp_path / "out" / "depth.png").read_bytes()) == pytest.approx(0.002)
    with np.load(tmp_path / "out" / "street.npz") as arrays:
        np.testing.assert_allclose(read_depth_file(tmp_path / "out", "depth"), arrays["depth"], atol=1.1e-3)
