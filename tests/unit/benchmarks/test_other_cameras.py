"""Samples of other cameras: units, projection and thinning, files of copies of repositories, and a small real run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mtl.datasets.folder.source import FolderRequest

from edge_mtl.backends import available
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BuildError
from edge_mtl.image.encoding import encode_image, encode_png
from edge_mtl.image.frames import Intrinsics
from tests.bundles import make_image

FRAMES = 3
COUNT = 2
CAMERA = Intrinsics(100.0, 101.0, 47.0, 31.0)


@pytest.fixture
def conversion(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("depth_conversion")


@pytest.fixture
def benchmark_script(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("other_cameras")


def copy_of(folder: Path) -> str:
    """A repository with FRAMES images and depth maps of 2 m; its commit."""
    for part in ("images", "depth"):
        (folder / "data" / part).mkdir(parents=True)
    for number in range(FRAMES):
        depth = np.full((64, 96), 2000 + number, np.uint16)
        depth[:4] = 0
        (folder / f"data/images/{number:05d}.png").write_bytes(encode_image(make_image(number)))
        (folder / f"data/depth/{number:05d}.png").write_bytes(encode_png(depth))
    git = partial(subprocess.run, cwd=folder, check=True, capture_output=True, text=True)
    git(["git", "init", "-q"])
    git(["git", "add", "."])
    git(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "Frames"])
    return str(git(["git", "rev-parse", "HEAD"]).stdout.strip())


@pytest.fixture
def origins(benchmark_script: ModuleType, script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: Any) -> Path:
    """A folder with a copy of one repository, which is all that the rows are of."""
    samples, repositories = script("camera_samples"), script("sample_origins")
    commit = copy_of(tmp_path / "copies" / "someone+frames")
    origin = repositories.Origin("someone", "frames", commit)
    sample = samples.Sample(origin, "a camera", CAMERA, "data/images/{}.png", "data/depth/{}.png")
    monkeypatch.setattr(benchmark_script, "ROWS", {"office": samples.Row("office", (sample,))})
    monkeypatch.setattr(script("camera_folders"), "MOST", COUNT)
    return tmp_path / "copies"


@pytest.mark.parametrize(
    ("count", "expected"), [(40, (0, 10, 19, 362, 372)), (373, (0, 1, 2, 371, 372)), (1000, (0, 1, 2, 371, 372))]
)
def test_sequences_are_thinned_evenly_from_the_first_to_the_last(
    conversion: ModuleType, count: int, expected: tuple[int, ...]
) -> None:
    found = conversion.thinned(range(373), count)
    assert len(found) == min(count, 373)
    assert (*found[:3], *found[-2:]) == expected


def test_units_become_metres_and_what_is_unknown_0(conversion: ModuleType) -> None:
    stored = np.array([[0, 1500, 65535]], np.uint16)
    np.testing.assert_allclose(conversion.metres_of_units(stored, 0.001), [[0, 1.5, 0]])
    np.testing.assert_allclose(conversion.metres_of_units(stored, 1 / 5000), [[0, 0.3, 0]], rtol=1e-6)


def test_rotated_bits_are_millimetres(conversion: ModuleType) -> None:
    millimetres = np.array([[0, 1, 1430, 9001, 3000]], np.uint16)
    rotated = (millimetres << 3) | (millimetres >> 13)
    np.testing.assert_allclose(conversion.metres_of_rotated(rotated), millimetres / 1000, rtol=1e-6)


def test_disparity_becomes_depth_with_the_offset_of_the_principal_points(conversion: ModuleType) -> None:
    disparity = np.array([[30.0, np.inf, np.nan, -20.0]], np.float32)
    found = conversion.metres_of_disparity(disparity, focal_px=1000.0, baseline_m=0.2, offset_px=20.0)
    np.testing.assert_allclose(found, [[4.0, 0, 0, 0]])


def test_a_plane_stays_where_it_is_and_shrinks_in_a_wider_camera(conversion: ModuleType) -> None:
    infrared, colour = Intrinsics(585.0, 585.0, 320.0, 240.0), Intrinsics(525.0, 525.0, 320.0, 240.0)
    found = conversion.seen_beside(np.full((480, 640), 2.0), infrared, colour, right_m=0.025, size=(480, 640))
    rows, columns = np.nonzero(found)
    assert set(np.unique(found)) == {0.0, 2.0}
    shift = 525 * 0.025 / 2  # what is seen from further right lies further left in the image
    assert (columns.min(), columns.max()) == (round(320 - 320 * 525 / 585 - shift), round(320 + 319 * 525 / 585 - shift))
    assert (rows.min(), rows.max()) == (round(240 - 240 * 525 / 585), round(240 + 239 * 525 / 585))
    assert found[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_of_depths_that_meet_in_a_pixel_the_nearest_stays(conversion: ModuleType) -> None:
    depth = np.zeros((3, 9))
    depth[1] = [0, 0, 0, 0, 4, 0, 1, 0, 0]
    one = Intrinsics(8.0, 8.0, 4.0, 1.0)
    found = conversion.seen_beside(depth, one, one, right_m=0.5, size=(3, 9))
    assert found[1].tolist() == [0, 0, 1, 4, 0, 0, 0, 0, 0]
    found = conversion.seen_beside(depth[:, ::-1], one, one, right_m=-0.5, size=(3, 9))
    assert found[1].tolist() == [0, 0, 0, 0, 0, 4, 1, 0, 0]
    depth[1] = [0, 0, 0, 0, 0, 4, 0, 1, 0]
    met = conversion.seen_beside(depth, one, one, right_m=1 / 3, size=(3, 9))  # 5 - 0.67 and 7 - 2.67 are both nearest to 4
    assert met[1].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_a_reduced_image_has_the_camera_of_the_same_rays(conversion: ModuleType) -> None:
    camera = conversion.resized_camera(Intrinsics(1170.0, 1171.0, 647.75, 483.75), (968, 1296), (484, 648))
    assert camera.as_tuple() == pytest.approx((585.0, 585.5, 323.625, 241.625))


def test_rows_are_folders_of_ones_own_with_the_frames_cameras(
    benchmark_script: ModuleType, origins: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "frames"
    assert benchmark_script.main(["prepare", "--origins", str(origins), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'office'}: {COUNT} frames\n"
    source = FolderRequest(str(out / "office"), "test").open()
    assert source.stems == ("00000", "00002")
    frame = source[1]
    assert frame.intrinsics == CAMERA.as_tuple()
    np.testing.assert_array_equal(frame.image, make_image(2))
    assert (frame.truths["depth"][:4] == 0).all()
    np.testing.assert_allclose(frame.truths["depth"][4:], 2.002)


def test_files_without_git_are_read_as_they_are(
    benchmark_script: ModuleType, origins: Path, tmp_path: Path, script: Callable[[str], ModuleType]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    benchmark_script.prepare(["office"], origins, first)
    shutil.rmtree(origins / "someone+frames" / ".git")
    benchmark_script.prepare(["office"], origins, second)
    digest_of = script("camera_folders").digest_of
    assert digest_of(first / "office") == digest_of(second / "office")
    (second / "office/cameras/00000.json").write_text("{}")
    assert digest_of(first / "office") != digest_of(second / "office")
    assert [json.loads((one / "office/origins.json").read_text())[0]["commit"] is None for one in (first, second)] == [
        False,
        True,
    ]


def test_a_missing_copy_is_one_line_with_the_address(
    benchmark_script: ModuleType, origins: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(origins / "someone+frames")
    code = benchmark_script.main(["prepare", "--origins", str(origins), "--out", str(tmp_path / "frames")])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == BuildError.exit_code
    assert f"git clone https://github.com/someone/frames {origins / 'someone+frames'}" in line
    assert not (tmp_path / "frames").exists()


def test_a_copy_without_the_commit_or_a_file_is_refused(
    benchmark_script: ModuleType, script: Callable[[str], ModuleType], origins: Path
) -> None:
    origin = script("sample_origins").Origin("someone", "frames", "0" * 40)
    with pytest.raises(BuildError, match="should have the commit 0000000"):
        origin.copy_in(origins)
    (sample,) = benchmark_script.ROWS["office"].samples
    copy = sample.origin.copy_in(origins)
    with pytest.raises(BuildError, match=r"should have data/images/9\.png of https://github\.com/someone/frames"):
        copy.read("data/images/9.png")
    with pytest.raises(BuildError, match=r"should have data/none/\*\.png"):
        copy.stems("data/none", ".png")


@pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")
def test_bundles_are_measured_through_the_engine_and_compared_with_the_first(
    benchmark_script: ModuleType, origins: Path, tmp_path: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, out = tmp_path / "frames", tmp_path / "result-0.1"
    measuring = ["measure", str(tiny_bundle.path), str(tiny_bundle.path), "--frames", str(frames), "--out", str(out)]
    assert benchmark_script.main(measuring) == BuildError.exit_code
    assert "prepare --origins" in capsys.readouterr().err
    benchmark_script.prepare(["office"], origins, frames)
    assert benchmark_script.main(measuring) == 0
    content = json.loads((tmp_path / "result-0.1.json").read_text())
    assert (tmp_path / "result-0.1.md").read_text() in capsys.readouterr().out
    row = content["rows"]["office"]
    first, second = row["bundles"]
    assert (row["frames"], first["compared_at"], len(row["digest"])) == (COUNT, [64, 96], 64)
    assert first == second
    assert first["less_error"] == {"depth_rel": 0.0, "scaled_depth_rel": 0.0}
    assert 0 < first["scaled"]["depth_rel"] <= first["depth_rel"]
    with_half = benchmark_script.less({**first, "depth_rel": first["depth_rel"] / 2}, first)
    assert with_half["depth_rel"] == pytest.approx(0.5)
