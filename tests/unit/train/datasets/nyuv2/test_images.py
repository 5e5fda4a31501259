"""Public copies of NYUv2 as images become the folder that training reads; depth of 8 bits is smoothed inside its steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import prepare_nyuv2
import pytest
from mtl.datasets.frame import Frame
from mtl.datasets.nyuv2 import NyuRequest
from mtl.datasets.nyuv2.check import inspect
from mtl.datasets.nyuv2.depth_steps import FARTHEST_M, smoothed_depth
from mtl.datasets.nyuv2.layout import read_description
from mtl.datasets.nyuv2.plane_fits import window_normals
from mtl.datasets.nyuv2.valid_region import CAMERA, camera_at
from PIL import Image

from tests.nyu_files import box_frame, write_images

pytestmark = pytest.mark.training

SIZE = (72, 96)
STEP_M = FARTHEST_M / 255


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("eight"))


def converted(folder: Path, out: Path, *more: str) -> int:
    return prepare_nyuv2.main(["images", str(folder), "--out", str(out), "--size", f"{SIZE[0]}x{SIZE[1]}", *more])


def degrees_off(found: Frame, truth: Frame) -> float:
    both = (found.truths["normals"] != 0).any(-1) & (truth.truths["normals"] != 0).any(-1)
    assert both.mean() > 0.5
    cosine = (found.truths["normals"] * truth.truths["normals"]).sum(-1)[both]
    return float(np.median(np.degrees(np.arccos(cosine.clip(-1, 1)))))


@pytest.mark.parametrize(
    ("bits", "classes", "image", "palette", "step_m", "most_degrees"),
    [(8, 13, ".png", False, STEP_M, 3.0), (16, 40, ".jpg", True, 0.001, 0.5)],
)
def test_a_copy_as_images_becomes_frames_that_agree_with_the_scene(
    tmp_path: Path, bits: int, classes: int, image: str, palette: bool, step_m: float, most_degrees: float
) -> None:
    folder = write_images(tmp_path / "copy", bits=bits, classes=classes, image=image, palette=palette)
    out = tmp_path / "nyuv2"
    assert converted(folder, out) == 0
    for part, numbers in (("train", (2, 3)), ("val", (1,))):
        source = NyuRequest(str(out), part).open()  # type: ignore[arg-type]
        assert source.intrinsics == pytest.approx(camera_at(SIZE))
        assert len(source) == len(numbers)
        for index, number in enumerate(numbers):
            found, truth = source[index], box_frame(number, SIZE, source.intrinsics)
            known = (found.truths["depth"] > 0) & (truth.truths["depth"] > 0)
            assert known.mean() > 0.98
            assert np.median(np.abs(found.truths["depth"][known] - truth.truths["depth"][known])) < max(0.6 * step_m, 0.02)
            assert (found.truths["segmentation"] == truth.truths["segmentation"]).mean() > 0.95
            assert degrees_off(found, truth) < most_degrees
    assert inspect(out).fine
    description = read_description(out)
    assert description is not None
    assert description.source["depth_step_m"] == pytest.approx(step_m, abs=1e-6)
    assert description.source["depth"].startswith(f"{bits} bits")
    assert description.source["normals"].startswith("plane fits")
    assert description.source["labels"] == f"label{classes}, {classes} classes"


def test_several_processes_write_the_same_files_and_a_second_run_writes_none(
    eight_bits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert converted(eight_bits, one) == 0
    assert converted(eight_bits, two, "--jobs", "2") == 0
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    capsys.readouterr()
    assert converted(eight_bits, one) == 0
    assert "0, 3" in capsys.readouterr().out  # written now, kept
    assert converted(eight_bits, one, "--farthest-m", "12") == 9
    assert "holds another conversion" in capsys.readouterr().err


def test_depth_stays_inside_its_steps_and_does_not_cross_a_jump() -> None:
    ramp = np.tile(np.linspace(2.0, 2.6, 96), (64, 1))
    ramp[:, 64:] = 5.0
    codes = np.floor(ramp / STEP_M).astype(np.uint8)
    codes[:4, :4] = 0
    found = smoothed_depth(codes)
    assert (found[:4, :4] == 0).all()
    known = codes > 0
    assert (np.abs(found / STEP_M - codes - 0.5)[known] < 0.6 + 1e-3).all()
    stairs = (codes + 0.5) * STEP_M
    flat = np.s_[8:-8, 8:56]
    assert np.abs(found - ramp)[flat].mean() < 0.6 * np.abs(stairs - ramp)[flat].mean()
    assert np.abs(found[:, 66:] - 5.0).max() < 0.6 * STEP_M


def test_normals_of_smoothed_steps_are_those_of_the_wall_and_none_at_edges() -> None:
    frame = box_frame(1, (480, 640), CAMERA)
    codes = np.floor(frame.truths["depth"] / STEP_M).astype(np.uint8)
    stairs, smooth = (
        window_normals(depth.astype(np.float32), CAMERA)
        for depth in (np.where(codes > 0, (codes + 0.5) * STEP_M, 0), smoothed_depth(codes))
    )
    truth = frame.truths["normals"]
    both = (stairs != 0).any(-1) & (smooth != 0).any(-1) & (truth != 0).any(-1)
    off = [np.degrees(np.arccos((one * truth).sum(-1)[both].clip(-1, 1))).mean() for one in (stairs, smooth)]
    assert off[1] < 0.5 * off[0]
    jump = np.full((60, 80), 2.0, np.float32)
    jump[:, 40:] = 3.0
    found = window_normals(jump, (500.0, 500.0, 40.0, 30.0))
    assert not found[:, 38:42].any()
    np.testing.assert_allclose(found[:, :25], np.broadcast_to([0.0, 0.0, -1.0], (60, 25, 3)), atol=1e-5)


def test_every_bad_file_gets_one_line_that_names_it(
    eight_bits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def grey(path: Path, value: int, size: tuple[int, int] = (480, 640), kind: type = np.uint8) -> None:
        cv2.imwrite(str(path), np.full(size, value, kind))

    cases = {
        "no list": (lambda root: (root / "test.txt").unlink(), "test.txt cannot be read"),
        "empty list": (lambda root: (root / "train.txt").write_text(" \n"), "train.txt is empty"),
        "unknown frame": (lambda root: (root / "train.txt").write_text("2\n77\n"), "lists 77, of which there is no file"),
        "in both": (lambda root: (root / "train.txt").write_text("1\n2\n"), "is in train.txt and test.txt"),
        "twice": (lambda root: (root / "train.txt").write_text("2\n2\n"), "train.txt twice"),
        "no labels": (lambda root: shutil.rmtree(root / "label13"), "label13 cannot be listed"),
        "small": (lambda root: grey(root / "label13" / "0001.png", 1, (240, 320)), "should be 480x640, found 240x320"),
        "other depth": (
            lambda root: grey(root / "depth" / "0001.png", 9, kind=np.uint16),
            "of 16 bits, the first frame of 8",
        ),
        "no depth": (lambda root: grey(root / "depth" / "0001.png", 0), "has no known depth"),
        "other classes": (lambda root: grey(root / "label13" / "0001.png", 38), "found [38]"),
        "colours": (lambda root: Image.new("RGB", (640, 480)).save(root / "label13" / "0001.png"), "0001.png"),
        "cut": (lambda root: (root / "image" / "0001.png").write_bytes(b"\x89PNG"), "0001.png"),
    }
    for case, (damage, message) in cases.items():
        root = tmp_path / case
        shutil.copytree(eight_bits, root)
        damage(root)
        assert converted(root, tmp_path / f"out {case}") == 9, case
        printed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prepare_nyuv2:")]
        assert len(printed) == 1, case
        assert message in printed[0], (case, printed)
    assert converted(eight_bits, tmp_path / "out", "--labels", "image") == 9
    assert "--classes 13 or --classes 40" in capsys.readouterr().err
    assert converted(tmp_path / "nowhere", tmp_path / "out") == 9
    assert "is no folder" in capsys.readouterr().err
