"""Names of files that are no UTF-8: bytes to Linux, and nothing that a native library should ever be given as text."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.files import native_path
from tests.bag_files import read_bag, write_bag
from tests.bundles import make_image, write_image
from tests.command_line import edge_mtl

ROOT = Path(__file__).parents[2]
ODD = os.fsdecode(b"caf\xe9")
"""A word of Latin-1."""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / ODD
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    return folder


def write_video(path: Path, frames: int = 5) -> None:
    plain = path.parent.parent / "plain.avi"
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 64))
    for seed in range(frames):
        writer.write(make_image(seed, height=64, width=96))
    writer.release()
    shutil.move(plain, path)


def test_an_image_and_a_folder_are_read_and_their_results_written(tiny_bundle: Bundle, odd: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "plain.png", make_image(3))
    shutil.move(tmp_path / "plain.png", odd / f"{ODD}.png")
    for source, into in ((odd / f"{ODD}.png", odd / "one"), (odd, odd / "all")):
        outcome = edge_mtl("predict", source, "--bundle", tiny_bundle.path, "--out", into, "--files", "npz,png,panel")
        assert outcome.code == 0, outcome.err
        assert {path.name for path in into.iterdir()} >= {f"{ODD}.npz", f"{ODD}.panel.png", f"{ODD}.depth.png"}


def test_a_video_is_read_and_one_is_written(tiny_bundle: Bundle, odd: Path) -> None:
    """In a process of its own: OpenCV ends the one that gives it such a name."""
    write_video(odd / f"{ODD}.avi")
    command = [sys.executable, "-m", "edge_mtl.cli", "predict", odd / f"{ODD}.avi", "--bundle", tiny_bundle.path, "--out", odd]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with native_path(odd / f"{ODD}.panel.mp4") as name:
        capture = cv2.VideoCapture(name)
        assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 5
        capture.release()


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_is_read_and_one_is_written(tiny_bundle: Bundle, odd: Path, tmp_path: Path, storage: str) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(seed) for seed in range(2)], storage=storage, focal=60.0)
    for place, into in ((odd / "tour", odd / "with maps"), (odd / ODD, odd / f"{ODD} with maps")):
        shutil.copytree(bag, place)
        outcome = edge_mtl("predict", place, "--bundle", tiny_bundle.path, "--out", into, "--files", "bag")
        assert outcome.code == 0, outcome.err
        assert len(read_bag(shutil.copytree(into, tmp_path / f"plain-{place.name == ODD}"))["/edge_mtl/depth"]) == 2


def test_a_bundle_is_opened_and_gets_an_engine(tiny_bundle: Bundle, odd: Path) -> None:
    bundle = shutil.copytree(tiny_bundle.path, odd / "bundle")
    outcome = edge_mtl("build-engine", bundle, "--fp32", "--backend", "onnxruntime")
    assert outcome.code == 0, outcome.err
    assert edge_mtl("inspect", bundle).code == 0
    assert list((bundle / "engines").glob("*.onnx"))


def test_what_a_native_library_is_given_is_text_and_names_the_file(odd: Path) -> None:
    (odd / "a.txt").write_text("inside")
    (odd / ODD).write_text("itself")
    for path in (odd / "a.txt", odd / ODD):
        with native_path(path) as name:
            assert name.encode()
            assert Path(name).read_text() == path.read_text()
        assert not Path(name).exists(), "the descriptor is closed"
    with native_path(odd / "new.txt") as name:
        Path(name).write_text("made")
    assert (odd / "new.txt").read_text() == "made"
    with native_path(odd.parent / "plain") as name:
        assert name == str(odd.parent / "plain")
