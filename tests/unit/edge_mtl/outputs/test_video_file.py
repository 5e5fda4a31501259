"""Videos that are being written: nobody sweeps them, and what a killed process left is swept by the next video."""

from __future__ import annotations

from pathlib import Path

from edge_mtl import unfinished
from edge_mtl.outputs.video_file import VideoFile
from edge_mtl.unfinished import TEMPORARY_PREFIX, sweep_temporaries
from tests.bundles import make_image


def test_a_video_is_not_swept_while_it_is_written_and_sweeps_those_of_killed_processes(tmp_path: Path) -> None:
    unfinished._sweep_files_once.cache_clear()
    dead = tmp_path / f"{TEMPORARY_PREFIX}0123456789abcdef.mp4"
    dead.write_bytes(b"half")
    video = VideoFile(tmp_path / "tour.mp4", 10.0)
    video.add(make_image(1))
    (busy,) = tmp_path.iterdir()
    assert busy != dead
    assert sweep_temporaries(tmp_path) == []
    assert video.finish() == tmp_path / "tour.mp4"
    assert list(tmp_path.iterdir()) == [tmp_path / "tour.mp4"]


def test_a_video_that_is_discarded_leaves_nothing_and_no_descriptor(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "tour.mp4", 10.0)
    video.add(make_image(1))
    held = video._held
    assert held is not None
    video.discard()
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/self/fd/{held}").exists()
