"""The example of who drives in front: on streets that a real network reads off the image, and of a bundle of other tasks."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl.backends import available
from edge_mtl.sources.images import read_image
from tests.bundles import ROOMS_B0, canonical_intrinsics, write_image
from tests.painted_roads import BOX, paint, painted_bundle
from tests.streets import SIZE, TrueStreet, true_street

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")
STREET, FREE = 120, 125


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
    return importlib.import_module("following_distance")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_bundle(tmp_path_factory.mktemp("roads") / "bundle").path


def painted(street: TrueStreet, *, leader: bool) -> np.ndarray:
    """The image of which the bundle's network reads the street, with a box where the leader stands or without any."""
    sample, focal = street.sample, canonical_intrinsics(*SIZE)[0]
    depth = np.where(sample.depth_m > 0, sample.depth_m, 80.0) * focal / sample.intrinsics[0]
    lead = sample.objects.visible[max(range(len(sample.objects)), key=lambda one: _before(street, one))]
    cell = round((lead[3] - BOX[3] - 3.5) / 8), round(((lead[0] + lead[2]) / 2 - 3.5) / 8)
    return paint(sample.drivable, depth, np.zeros(SIZE, int), cars=(cell,) if leader else ())


def _before(street: TrueStreet, index: int) -> float:
    """How near the middle column and how low a car is."""
    left, _, right, bottom = street.sample.objects.visible[index]
    return float(bottom - 4 * abs((left + right) / 2 - street.camera.cx)) if street.sample.objects.classes[index] == 2 else -1e9


def camera_of(street: TrueStreet) -> str:
    return ",".join(f"{value:.4f}" for value in street.sample.intrinsics)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_image_gives_the_leader_its_distance_and_the_headway(
    example: ModuleType, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    street = true_street(STREET)
    leader = street.leader()
    assert leader is not None
    source, out = tmp_path / "street.png", tmp_path / "out" / "seen.png"
    write_image(source, painted(street, leader=True))
    asked = [str(bundle), str(source), "--intrinsics", camera_of(street), "--precision", "fp32"]
    example.main([*asked, "--json", "--speed", "36", "--bumper", "2"])
    (found,) = lines(capsys)
    assert (found["state"], found["class"]) == ("vehicle", "car")
    assert found["distance_m"] == pytest.approx(leader.distance_m, rel=0.1)
    assert found["headway_s"] == pytest.approx((found["distance_m"] - 2) / 10, abs=0.01)
    example.main([*asked, "--save", str(out)])
    assert f"car {found['distance_m']:.1f} m" in capsys.readouterr().out
    assert (np.abs(read_image(out).astype(int) - read_image(source)).max(axis=2) > 30).mean() > 0.03


def test_where_detection_misses_the_leader_nothing_is_called_free(
    example: ModuleType, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "street.png"
    for seed, state in ((STREET, "unknown"), (FREE, "clear")):
        write_image(source, painted(true_street(seed), leader=False))
        example.main([str(bundle), str(source), "--intrinsics", camera_of(true_street(seed)), "--precision", "fp32", "--json"])
        (found,) = lines(capsys)
        assert (found["state"], found["distance_m"], found["headway_s"]) == (state, None, None)
    example.main([str(bundle), str(source), "--intrinsics", camera_of(true_street(FREE)), "--precision", "fp32"])
    assert capsys.readouterr().out.endswith("nothing in front within 30 m\n")


def test_a_video_is_smoothed_and_a_frame_without_a_box_is_bridged(
    example: ModuleType, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    street, source, out = true_street(STREET), tmp_path / "drive.avi", tmp_path / "seen.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"FFV1"), 10.0, SIZE[::-1])
    if not writer.isOpened():
        pytest.skip("needs a lossless codec")
    for leader in (True, True, False, True):
        writer.write(np.ascontiguousarray(painted(street, leader=leader)[:, :, ::-1]))
    writer.release()
    asked = [str(bundle), str(source), "--intrinsics", camera_of(street), "--precision", "fp32", "--json"]
    example.main([*asked, "--save", str(out)])
    found = lines(capsys)
    assert [line["state"] for line in found] == ["vehicle"] * 4
    assert [line["seen_s_ago"] for line in found] == pytest.approx([0, 0, 0.1, 0], abs=0.01)
    assert found[2]["distance_m"] == pytest.approx(found[1]["distance_m"], rel=0.05)
    video = cv2.VideoCapture(str(out))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 4
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
    with pytest.raises(SystemExit, match="should be a video"):
        example.main([*asked, "--save", str(tmp_path / "seen.png")])


def test_a_bundle_without_the_tasks_ends_in_one_line(example: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="boxes, depth and drivable area; found no boxes"):
        example.main([str(ROOMS_B0), str(ROOMS_B0 / "evaluation" / "012.jpg"), "--precision", "fp32"])
    with pytest.raises(SystemExit, match="does not exist"):
        example.main([str(ROOMS_B0), str(tmp_path / "none.avi")])
