"""Media that end early or are too large, at the command line: what is said, what is left, and the exit code."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.image import memory
from edge_mtl.outputs import result_files
from edge_mtl.sources import folders
from tests.bundles import make_image, write_image
from tests.command_line import assert_failed, edge_mtl
from tests.video_files import cut, renamed_codec, write_video


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of which the second, b, is sixteen times as large: 19200 pixels."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, side in (("a", 30), ("b", 120), ("c", 30)):
        write_image(folder / f"{name}.png", make_image(1, height=side, width=side * 4 // 3))
    return folder


def test_a_video_that_ends_early_has_its_results_a_warning_and_its_own_exit_code(tiny_bundle: Bundle, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "tour.mkv", 24, codec="MJPG")
    asked = ("--bundle", tiny_bundle.path, "--files", "npz", "--tasks", "depth", "--quiet")
    outcome = edge_mtl("predict", cut(whole, 0.5), "--out", tmp_path / "cut", *asked)
    count = len(list((tmp_path / "cut").glob("*.npz")))
    assert outcome.code == 16, outcome
    assert 5 < count < 15
    assert outcome.err.count("warning: ") == 1
    assert f"warning: tour-cut.mkv ended after {count} frames and announces 24: " in outcome.err
    outcome = edge_mtl("predict", whole, "--out", tmp_path / "whole", "--limit", 3, *asked)
    assert (outcome.code, outcome.err) == (0, "")


def test_calibration_with_a_video_that_ends_early_says_so_once(tiny_bundle: Bundle, tmp_path: Path) -> None:
    video = cut(write_video(tmp_path / "tour.avi", 40, codec="MJPG"), 0.5)
    outcome = edge_mtl("calibrate", video, "--bundle", tiny_bundle.path, "--out", tmp_path / "chosen", "--count", 2, "--quiet")
    assert outcome.code == 16, outcome
    assert outcome.err.count("frames and announces 40") == 1
    assert len(list((tmp_path / "chosen").glob("*.jpg"))) == 2


def test_a_codec_without_a_decoder_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    video = write_video(tmp_path / "tour.mkv", 3, codec="MJPG")
    renamed_codec(video, b"V_AV1")
    assert_failed(edge_mtl("predict", video, "--bundle", tiny_bundle.path), 6, "AV1 (V_AV1)", "ffmpeg -i tour.mkv")


@pytest.mark.parametrize(("left", "what"), [(500_000, "The 120x160 map of normals"), (900_000, "b with its")])
def test_a_frame_too_large_for_the_memory_is_left_out_and_the_folder_goes_on(
    left: int, what: str, images: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: left)
    monkeypatch.setattr(memory, "_UNCHECKED_BYTES", 0)
    outcome = edge_mtl("predict", images, "--bundle", tiny_bundle.path, "--out", tmp_path / "out", "--files", "npz")
    assert outcome.code == 0, outcome
    skipped = [line for line in outcome.err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 1
    assert what in skipped[0]
    assert "too large for the memory: about 0.0 GiB expected" in skipped[0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.npz", "c.npz"}


def test_a_single_image_too_large_for_the_memory_is_an_error(
    images: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 500_000)
    monkeypatch.setattr(memory, "_UNCHECKED_BYTES", 0)
    outcome = edge_mtl("predict", images / "b.png", "--bundle", tiny_bundle.path, "--json")
    assert_failed(outcome, 6, "The 120x160 map of normals is too large for the memory", "ask for fewer tasks")


def test_memory_that_runs_out_while_results_are_made_costs_that_frame_only(
    images: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = result_files.panel

    def scarce(frame: np.ndarray, drawn: Any) -> np.ndarray:
        if frame.shape[0] > 100:
            raise MemoryError
        return panel(frame, drawn)

    monkeypatch.setattr(result_files, "panel", scarce)
    outcome = edge_mtl("predict", images, "--bundle", tiny_bundle.path, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome
    assert "skipped: b with its results is too large for the memory." in outcome.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.panel.png", "c.panel.png"}


def test_no_frame_of_a_folder_is_held_while_the_next_is_decoded(
    images: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []
    decode = folders.image_frame

    def watched(*arguments: Any, **options: Any) -> Any:
        held.append(sum(pixels() is not None for pixels in decoded))
        frame = decode(*arguments, **options)
        decoded.append(weakref.ref(frame.pixels))
        return frame

    monkeypatch.setattr(folders, "image_frame", watched)
    assert edge_mtl("predict", images, "--bundle", tiny_bundle.path, "--out", tmp_path / "out").code == 0
    assert held == [0, 0, 0]
