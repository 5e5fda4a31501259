"""Predictions in recordings of rerun: all that was predicted is in the file, with its times; files are whole or absent."""

from __future__ import annotations

import sys
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BackendUnavailable, FrameError
from edge_mtl.outputs.stage import Stage
from edge_mtl.outputs.viewer import live, remote, saved
from edge_mtl.sources.frame_source import Frame, FrameSource, Still
from edge_mtl.sources.open_source import open_source
from edge_mtl.tasks import NYU_TASKS
from edge_mtl.unfinished import sweep_temporaries
from tests.bundles import make_bundle, make_image, write_image
from tests.command_line import assert_failed, edge_mtl
from tests.mapless_bundles import mapless_bundle

pytest.importorskip("rerun", reason="needs rerun-sdk: pip install -e '.[view]'")
pa = pytest.importorskip("pyarrow")
chunks = pytest.importorskip("rerun.chunk", reason="needs a newer rerun-sdk to read recordings back")

ONNX = ("--backend", "onnxruntime", "--precision", "fp32", "--threads", 1)


def test_a_recording_is_not_swept_while_it_is_written(tmp_path: Path) -> None:
    with saved(tmp_path / "tour.rrd", tasks=NYU_TASKS, step=2):
        (busy,) = tmp_path.iterdir()
        assert sweep_temporaries(tmp_path) == []
    assert busy.suffix == ".rrd"
    assert list(tmp_path.iterdir()) == [tmp_path / "tour.rrd"]


def read(path: Path) -> tuple[Counter[str], dict[str, list[Any]], dict[str, set[str]]]:
    """What a recording holds: logged rows by entity (static ones apart), values by component, timelines by entity."""
    rows: Counter[str] = Counter()
    values: dict[str, list[Any]] = defaultdict(list)
    timelines: dict[str, set[str]] = defaultdict(set)
    for chunk in chunks.RrdReader(path).stream():
        entity = chunk.entity_path
        rows["static " + entity if chunk.is_static else entity] += chunk.num_rows
        timelines[entity] |= set(chunk.timeline_names)
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            column = batch.column(name)
            whole = column.cast("int64") if pa.types.is_temporal(column.type) else column  # nanoseconds fit no datetime
            values[f"{entity} {name}"] += whole.to_pylist()
    return rows, values, timelines


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        write_image(folder / f"{index}.png", make_image(index, height=48, width=72))
    return folder


def test_a_recording_has_every_map_the_labelled_points_and_the_latency_of_every_frame(
    tiny_bundle: Bundle, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tour.rrd"
    said = edge_mtl("predict", images, "--bundle", tiny_bundle.path, "--save", out, "--points", 4, "--json", *ONNX)
    assert said.code == 0, said.err
    assert [record["frame"] for record in said.records] == ["0", "1", "2"]
    assert all(record["files"] == [] for record in said.records)
    rows, values, timelines = read(out)
    for entity in (
        "/maps/segmentation",
        "/maps/depth",
        "/maps/normals",
        "/world/camera",
        "/world/camera/image",
        "/world/points",
    ):
        assert rows[entity] == 3, entity
    for stage in ("prepare", "infer", "postprocess", "total"):
        assert rows[f"/timing/{stage}"] == 3
        assert all(value[0] >= 0 for value in values[f"/timing/{stage} Scalars:scalars"])
    assert values["/timing/total Scalars:scalars"] > [[0.0]] * 3
    assert sorted(values["/maps/depth frame"]) == [0, 1, 2]
    assert "time" not in timelines["/maps/depth"]  # images have no times
    positions, classes = values["/world/points Points3D:positions"][0], values["/world/points Points3D:class_ids"][0]
    assert len(positions) == len(classes) > 20
    assert max(classes) < 13 or set(classes) <= {*range(13), 255}
    assert rows["static /"] == 1  # names and colours of the classes
    assert chunks.RrdReader(out).blueprints()


def test_depth_in_a_recording_is_what_the_engine_predicted(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    from edge_mtl import Engine

    out = tmp_path / "one.rrd"
    camera = (70.0, 70.0, 35.5, 23.5)
    source = images / "0.png"
    said = edge_mtl(
        "predict", source, "--bundle", tiny_bundle.path, "--save", out, "--intrinsics", ",".join(map(str, camera)), *ONNX
    )
    assert said.code == 0, said.err
    _, values, _ = read(out)
    with Engine(tiny_bundle, backend="onnxruntime", precision="fp32", threads=1) as engine:
        expected = engine.predict(make_image(0, height=48, width=72), intrinsics=camera).depth
    assert expected is not None
    stored = np.frombuffer(bytes(values["/maps/depth DepthImage:buffer"][0][0]), np.uint16).reshape(48, 72)
    assert np.abs(stored / 1000.0 - np.nan_to_num(expected)).max() < 1e-3
    assert values["/maps/depth DepthImage:meter"][0][0] == 1000.0
    matrix = np.reshape(values["/world/camera Pinhole:image_from_camera"][0][0], (3, 3)).T
    assert matrix[0].tolist() == [70.0, 0.0, 35.5]


def test_boxes_lie_over_the_image_and_in_the_room_and_the_class_is_text(images: Path, tmp_path: Path) -> None:
    bundle, out = mapless_bundle(tmp_path / "b", tasks=("objects", "scene", "depth"), evaluation=0), tmp_path / "tour.rrd"
    said = edge_mtl("predict", images, "--bundle", bundle.path, "--save", out, "--json", *ONNX)
    assert said.code == 0, said.err
    told = [record["results"] for record in said.records]
    rows, values, _ = read(out)
    assert rows["/world/camera/image/objects"] == rows["/world/objects"] == rows["/maps/scene"] == 3
    assert rows["static /world/objects"] == rows["static /world/camera/image/objects"] == 1, "names of the classes"
    for number, result in enumerate(told):
        boxes = result["objects"]["boxes"]
        centres = values["/world/camera/image/objects Boxes2D:centers"][number] or []
        expected = [[(box["xyxy"][0] + box["xyxy"][2]) / 2 + 0.5, (box["xyxy"][1] + box["xyxy"][3]) / 2 + 0.5] for box in boxes]
        np.testing.assert_allclose(np.reshape(centres, (-1, 2)), np.reshape(expected, (-1, 2)), atol=0.11)
        assert len(values["/world/objects Boxes3D:half_sizes"][number] or []) == len(boxes), "depth is known everywhere here"
        assert result["scene"]["class"] in values["/maps/scene TextDocument:text"][number][0].splitlines()[0]
    assert sum(len(result["objects"]["boxes"]) for result in told) > 0
    assert chunks.RrdReader(out).blueprints()


def test_a_bundle_without_maps_is_shown(images: Path, tmp_path: Path) -> None:
    bundle, out = mapless_bundle(tmp_path / "b", evaluation=0), tmp_path / "tour.rrd"
    said = edge_mtl("predict", images / "0.png", "--bundle", bundle.path, "--save", out, *ONNX)
    assert said.code == 0, said.err
    rows, _, _ = read(out)
    assert rows["/world/camera/image"] == rows["/world/camera/image/objects"] == rows["/maps/scene"] == 1
    assert rows["/world/objects"] == rows["/world/points"] == 0, "without depth nothing has a place"


def test_a_bag_keeps_its_times(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag_files = pytest.importorskip("tests.bag_files", reason="needs rosbags")
    bag = bag_files.write_bag(tmp_path / "tour", [make_image(index) for index in range(4)])
    out = tmp_path / "tour.rrd"
    assert edge_mtl("predict", bag, "--bundle", tiny_bundle.path, "--save", out, "--limit", 3, *ONNX).code == 0
    rows, values, timelines = read(out)
    assert rows["/maps/segmentation"] == 3
    assert "time" in timelines["/maps/segmentation"]
    seconds = np.array(sorted(values["/maps/segmentation time"])) / 1e9
    np.testing.assert_allclose(seconds, [0.0, 0.1, 0.2], atol=1e-6)


def interrupted_after(frames: int, write: Callable[..., list[Path]]) -> Callable[..., list[Path]]:
    """`Stage.write` that is interrupted, as by Ctrl-C, while it shows what comes after `frames` frames."""
    written: list[str] = []

    def writes(self: Stage, frame: Frame, *rest: Any) -> list[Path]:
        if len(written) == frames:
            raise KeyboardInterrupt
        written.append(frame.name)
        return write(self, frame, *rest)

    return writes


@pytest.mark.parametrize("kind", ["camera", "video"])
def test_ctrl_c_while_a_frame_is_shown_keeps_the_recording_of_a_camera(
    kind: Literal["camera", "video"], tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stills() -> Generator[Still]:
        for number in range(5):
            frame = Frame(f"{number}", make_image(number, height=48, width=72), number / 10)
            yield Still(frame.name, lambda frame=frame: frame)  # type: ignore[misc]

    source = FrameSource(kind, kind, f"frames of {kind}", kind, None, stills)
    monkeypatch.setattr("edge_mtl.sources.open_source.open_source", lambda text, **options: source)
    monkeypatch.setattr(Stage, "write", interrupted_after(2, Stage.write))
    folder = tmp_path / "recordings"
    said = edge_mtl("predict", "camera:0", "--bundle", tiny_bundle.path, "--save", folder / "tour.rrd", "--json", *ONNX)
    if kind != "camera":
        assert said.code != 0
        assert list(folder.iterdir()) == []
        return
    assert said.code == 0, said.err
    assert "stopped." in said.err
    assert len(said.records) == 2
    rows, _, _ = read(folder / "tour.rrd")
    assert rows["/maps/depth"] == 2
    assert [path.name for path in folder.iterdir()] == ["tour.rrd"]


def test_a_bundle_of_one_task_shows_that_task(tmp_path: Path, images: Path) -> None:
    bundle = make_bundle(tmp_path / "one", tasks=("segmentation",))
    out = tmp_path / "one.rrd"
    assert edge_mtl("predict", images, "--bundle", bundle.path, "--save", out, *ONNX).code == 0
    rows, _, _ = read(out)
    assert rows["/maps/segmentation"] == 3
    assert not {"/maps/depth", "/maps/normals", "/world/points"} & set(rows)


def test_a_damaged_message_is_named_and_the_rest_is_shown(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag_files = pytest.importorskip("tests.bag_files", reason="needs rosbags")
    bag = bag_files.write_bag(tmp_path / "tour", [make_image(index) for index in range(3)], broken=1)
    out = tmp_path / "tour.rrd"
    said = edge_mtl("predict", bag, "--bundle", tiny_bundle.path, "--save", out, "--json", *ONNX)
    assert len(said.records) == 2
    assert said.err.count("skipped: ") == 1


def test_what_fails_leaves_no_file_behind_and_keeps_the_old_one(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    out = folder / "tour.rrd"
    out.write_bytes(b"an older recording")
    for path in images.iterdir():
        path.write_bytes(b"no image")
    assert_failed(edge_mtl("predict", images, "--bundle", tiny_bundle.path, "--save", out, *ONNX), 6, "None of the 3 images")
    assert out.read_bytes() == b"an older recording"
    assert [path.name for path in folder.iterdir()] == ["tour.rrd"]


def test_arguments_that_make_no_sense_are_refused(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    asked = ("predict", images, "--bundle", tiny_bundle.path)
    assert_failed(edge_mtl(*asked, "--save", tmp_path / "tour.mp4"), 2, ".rrd")
    assert_failed(edge_mtl(*asked, "--save", tmp_path / "a.rrd", "--connect", "rerun+http://x:1/proxy"), 2, "exclude")
    assert_failed(edge_mtl(*asked, "--save", tmp_path / "a.rrd", "--intrinsics", "1,2"), 2, "--intrinsics")
    assert_failed(edge_mtl("predict", tmp_path / "none.bag", "--save", tmp_path / "a.rrd"), 6, "does not exist")
    (tmp_path / "bad.bag").write_bytes(b"no bag")
    pytest.importorskip("rosbags", reason="what is wrong with a bag is said by rosbags")
    assert_failed(edge_mtl("predict", tmp_path / "bad.bag", "--save", tmp_path / "a.rrd"), 6, "not a readable ROS bag")
    assert not list(tmp_path.glob("*.rrd*"))


def test_without_a_screen_the_message_says_how_to_record(tiny_bundle: Bundle, images: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("other systems have no such variables")
    with pytest.raises(BackendUnavailable, match=r"--save tour\.rrd"), live(tasks=NYU_TASKS, step=2, environment={}):
        pass


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(BackendUnavailable, match="not an address of a viewer"), remote("nowhere", tasks=NYU_TASKS, step=2):
        pass


@pytest.mark.parametrize("module", [None, types.ModuleType("rerun")])
def test_without_rerun_the_repair_is_named(
    module: types.ModuleType | None, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle, images: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", module)
    with (
        pytest.raises(BackendUnavailable, match=r"pip install .*rerun-sdk"),
        saved(tmp_path / "a.rrd", tasks=NYU_TASKS, step=2),
    ):
        pass
    said = edge_mtl("predict", images, "--bundle", tiny_bundle.path, "--save", tmp_path / "a.rrd")
    assert_failed(said, 5, "pip install", "rerun-sdk")


def test_a_video_tells_the_time_of_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "tour.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (96, 64))
    for index in range(4):
        writer.write(make_image(index))
    writer.release()
    source = open_source(str(path))
    assert [frame.time_s for frame in source.frames(limit=3)] == pytest.approx([0.0, 0.1, 0.2])


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="does not exist"):
        open_source(str(tmp_path / "none.mp4"))
