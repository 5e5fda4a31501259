"""What each command of `edge-mtl` does, on a tiny bundle, from arguments to files."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl import bundle as bundles
from edge_mtl.bundle import Bundle, new_revision
from edge_mtl.cli import demo
from edge_mtl.engine import Engine
from edge_mtl.errors import BuildError
from edge_mtl.image import demo_figure
from edge_mtl.sources import samples
from edge_mtl.tasks import NYU13_CLASSES
from edge_mtl.tasks.depth_metric import DepthMetric
from tests.bundles import make_bundle, make_image, write_image
from tests.command_line import assert_failed, edge_mtl

EXAMPLE = Path(__file__).parents[2] / "examples" / "predict_image.py"

ANY = ("--max-drop", "none")
"""So small a network loses more than the usual budget."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Any]:
    """A bundle with an INT8 engine, and what `build-engine --json` said about it."""
    bundle = make_bundle(tmp_path_factory.mktemp("built") / "tiny")
    outcome = edge_mtl(
        "build-engine", bundle.path, "--int8", "--backend", "onnxruntime", "--threads", 1, "--max-drop", "none", "--json"
    )
    assert outcome.code == 0, outcome
    assert all(line.startswith("warning: ") for line in outcome.err.splitlines()), outcome  # so small a network loses a lot
    return bundle, outcome.records


@pytest.fixture
def room(tmp_path: Path) -> Path:
    write_image(tmp_path / "room.png", make_image(7, height=120, width=160))
    return tmp_path / "room.png"


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for index in range(frames):
        writer.write(make_image(index, height=48, width=64))
    writer.release()


def test_build_engine_reports_its_candidates_as_one_json_object(built: tuple[Bundle, Any]) -> None:
    bundle, records = built
    (record,) = records
    chosen = [row for row in record["rows"] if row["chosen"]]
    assert [(row["precision"], row["backend"]) for row in chosen] == [("int8", "onnxruntime")]
    assert record["engine"]["precision"] == "int8"
    assert record["rows"][0]["baseline"] is True
    assert Path(record["path"]).parent == bundle.path / "engines"
    assert Path(record["path"]).is_file()


def test_build_engine_shows_a_table_and_its_progress(own_bundle: Bundle) -> None:
    outcome = edge_mtl("build-engine", own_bundle.path, "--fp32", "--backend", "onnxruntime", "--threads", 1)
    assert outcome.code == 0
    for word in ("agreement", "mIoU", "depth %", "normals", "▶ fp32", "chosen"):
        assert word in outcome.out
    assert "timing whole frames" in outcome.err


def test_build_engine_takes_calibration_frames_from_a_folder(own_bundle: Bundle, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(4):
        write_image(frames / f"{index}.png", make_image(index, height=50, width=80))
    command = (
        "build-engine",
        own_bundle.path,
        "--int8",
        "--backend",
        "onnxruntime",
        "--threads",
        1,
        "--max-drop",
        "none",
        "--json",
    )
    (record,) = edge_mtl(*command, "--calibration", frames).records
    assert record["calibration"]["count"] == 4
    assert record["calibration"]["source"] == "frames"


def test_predict_saves_every_kind_of_result(built: tuple[Bundle, Any], room: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    outcome = edge_mtl("predict", room, "--bundle", built[0].path, "--out", out, "--files", "overlay,panel,png,npz")
    assert outcome.code == 0
    assert "int8 on onnxruntime" in outcome.out
    kinds = ("overlay.png", "panel.png", "segmentation.png", "depth.png", "depth-colour.png", "normals.png", "npz")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"room.{kind}" for kind in kinds)
    with np.load(out / "room.npz", allow_pickle=False) as arrays:
        depth = cv2.imread(str(out / "room.depth.png"), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        np.testing.assert_allclose(depth / 1000.0, arrays["depth"], atol=0.0006)
        assert arrays["segmentation"].shape == (120, 160)
        assert arrays["normals"].shape == (120, 160, 3)
        assert bool(arrays["intrinsics_assumed"])


def test_predict_with_json_prints_one_line_per_frame_and_saves_nothing(
    built: tuple[Bundle, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        write_image(folder / f"{index}.png", make_image(index, height=48 + 8 * index, width=64))
    (folder / "bad.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    outcome = edge_mtl("predict", folder, "--bundle", built[0].path, "--json", "--intrinsics", "60,60,31.5,23.5")
    assert outcome.code == 0
    assert [record["frame"] for record in outcome.records] == ["0", "1", "2"]
    for record in outcome.records:
        assert set(record["classes"]) <= set(NYU13_CLASSES)
        assert sum(record["classes"].values()) == pytest.approx(1.0, abs=1e-4)
        assert record["depth_median_m"] > 0
        assert record["intrinsics_assumed"] is False
        assert list(record["results"]) == ["segmentation", "depth", "normals"]
        assert record["results"]["segmentation"]["shares"] == record["classes"]
        assert record["results"]["depth"]["median_m"] == pytest.approx(record["depth_median_m"], rel=0.05)
        assert record["timing_ms"]["total"] >= record["timing_ms"]["infer"] > 0
        assert record["files"] == []
    assert "skipped" in outcome.err
    assert "bad.png" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_predict_with_tasks_has_those_results_and_no_others(built: tuple[Bundle, Any], room: Path, tmp_path: Path) -> None:
    command = ("predict", room, "--bundle", built[0].path, "--json")
    (whole,) = edge_mtl(*command).records
    (some,) = edge_mtl(*command, "--tasks", "depth,segmentation").records
    assert list(some["results"]) == ["segmentation", "depth"]
    assert some["results"] == {name: whole["results"][name] for name in ("segmentation", "depth")}
    outcome = edge_mtl(*command, "--tasks", "depth", "--out", tmp_path / "out", "--files", "overlay,panel,png,npz")
    (depth,) = outcome.records
    assert depth["results"] == {"depth": whole["results"]["depth"]}
    assert depth["depth_median_m"] == whole["depth_median_m"]
    assert "classes" not in depth
    kinds = ("overlay.png", "panel.png", "depth.png", "depth-colour.png", "npz")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"room.{kind}" for kind in kinds)
    with np.load(tmp_path / "out" / "room.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"depth", "depth_scale", "intrinsics", "intrinsics_assumed"}


def test_intrinsics_scale_the_depth(built: tuple[Bundle, Any], room: Path) -> None:
    command = ("predict", room, "--bundle", built[0].path, "--json", "--intrinsics")
    near = edge_mtl(*command, "100,100,79.5,59.5").records[0]["depth_median_m"]
    far = edge_mtl(*command, "200,200,79.5,59.5").records[0]["depth_median_m"]
    assert far == pytest.approx(2 * near, rel=1e-3)


def test_predict_makes_an_annotated_video(built: tuple[Bundle, Any], tmp_path: Path) -> None:
    write_video(tmp_path / "tour.mp4", 4)
    out = tmp_path / "results"
    command = ("predict", tmp_path / "tour.mp4", "--bundle", built[0].path, "--out", out, "--files", "overlay,panel")
    assert edge_mtl(*command).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["tour.overlay.mp4", "tour.panel.mp4"]
    video = cv2.VideoCapture(str(out / "tour.overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)


class FakeCamera:
    """A capture device as OpenCV shows it: frames without end, until someone presses Ctrl-C."""

    def __init__(self, index: int | str) -> None:
        self._real = None if isinstance(index, int) else REAL_CAPTURE(index)
        self.frames: Iterator[int] = iter(range(3))

    def isOpened(self) -> bool:  # noqa: N802
        return self._real is None or self._real.isOpened()

    def get(self, name: int) -> float:
        return 30.0 if self._real is None else self._real.get(name)

    def read(self) -> tuple[bool, np.ndarray]:
        if next(self.frames, None) is None:
            raise KeyboardInterrupt
        return True, make_image(1, height=48, width=64)

    def release(self) -> None:
        pass


REAL_CAPTURE = cv2.VideoCapture


def test_a_camera_runs_until_ctrl_c_and_keeps_what_it_recorded(
    built: tuple[Bundle, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    outcome = edge_mtl("predict", "camera:0", "--bundle", built[0].path, "--out", tmp_path)
    assert outcome.code == 0
    assert "stopped" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["camera-0.panel.mp4"]
    assert REAL_CAPTURE(str(tmp_path / "camera-0.panel.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize("tasks", [("segmentation",), ("depth", "normals")])
def test_a_bundle_with_fewer_tasks_works_everywhere(tasks: tuple[str, ...], tmp_path: Path, room: Path) -> None:
    bundle = make_bundle(tmp_path / "part", tasks=tasks)
    kinds = "overlay,panel,png,npz"
    outcome = edge_mtl("predict", room, "--bundle", bundle.path, "--out", tmp_path / "results", "--files", kinds, "--json")
    assert outcome.code == 0, outcome
    names = {path.name.split(".", 1)[1] for path in (tmp_path / "results").iterdir()}
    assert ("segmentation.png" in names) == ("segmentation" in tasks)
    assert {"overlay.png", "panel.png"} <= names
    assert ("depth.png" in names) == ("depth" in tasks)
    assert edge_mtl("inspect", bundle.path).code == 0


def test_inspect_shows_the_bundle_and_its_engines(built: tuple[Bundle, Any]) -> None:
    bundle, _ = built
    outcome = edge_mtl("inspect", bundle.path)
    assert outcome.code == 0
    for word in (
        "tiny, revision 1",
        "every hash is right",
        "13 classes",
        "64x96",
        "random images",
        "int8 on onnxruntime",
        "usable",
    ):
        assert word in outcome.out
    (record,) = edge_mtl("inspect", bundle.path, "--json").records
    assert record["verified"] is True
    assert record["files"]["count"] == len(bundle.manifest.files)
    assert [engine["usable"] for engine in record["engines"]] == [True]
    assert [engine["compiled"] for engine in record["engines"]] == [False], "the cache is another one than when it was built"


def test_inspect_says_why_an_engine_is_stale(own_bundle: Bundle) -> None:
    assert edge_mtl("build-engine", own_bundle.path, "--fp32", "--backend", "onnxruntime", "--json").code == 0
    (sidecar,) = (own_bundle.path / "engines").glob("*.json")
    content = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(content | {"runtime_version": "0.0.1"}))
    (record,) = edge_mtl("inspect", own_bundle.path, "--json").records
    assert record["engines"][0]["usable"] is False
    assert "0.0.1" in record["engines"][0]["problem"]
    assert "stale" in edge_mtl("inspect", own_bundle.path).out


def test_inspect_shows_accuracy_by_precision_and_class(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    card = {"fp32": {"miou": 0.5, "class_iou": {"bed": 0.25}}, "int8": {"miou": 0.49, "class_iou": {"bed": 0.24}}}
    outcome = edge_mtl("inspect", new_revision(bundle, accuracy=card).path)
    assert outcome.code == 0
    for word in ("revision 2", "fp32", "int8", "0.49", "bed", "0.24"):
        assert word in outcome.out


def test_inspect_shows_accuracy_on_frames_that_are_not_in_the_bundle_and_how_to_repeat_it(tmp_path: Path) -> None:
    record = {
        "frames": 654,
        "size": [288, 384],
        "truths": {"depth": {"made": "steps of 39 mm", "pseudo": False}, "normals": {"made": "plane fits", "pseudo": True}},
        "pseudo": ["normal_mean_deg"],
        "graphs": {"fp32": {"miou": 0.51, "normal_mean_deg": 21.5}, "int8 openvino": {"miou": 0.49, "normal_mean_deg": 22.25}},
        "command": "python train/evaluate.py bundles/tiny --engines --root data/nyuv2",
        "date": "2026-11-29T12:00:00+00:00",
        "device": "a processor",
    }
    made = make_bundle(tmp_path / "tiny")
    record["calibration"] = made.manifest.calibration.get("digest")
    bundle = new_revision(made, measurements={"NYU Depth v2, test split": record})
    text = " ".join(edge_mtl("inspect", bundle.path).out.split())
    for words in (
        "Measured on NYU Depth v2, test split: 654 frames, 2026-11-29",
        "normals: computed, not measured: its figures are marked (pseudo); plane fits",
        "depth: truth; steps of 39 mm",
        "Repeat it: python train/evaluate.py bundles/tiny --engines --root data/nyuv2",
        "normal mean deg (pseudo) 21.5 22.25",
        "miou 0.51 0.49",
    ):
        assert words in text
    (content,) = edge_mtl("inspect", bundle.path, "--json").records
    assert content["measurements"] == {"NYU Depth v2, test split": record}
    assert "calibrated since" not in text
    again = new_revision(bundle, calibration={**bundle.manifest.calibration, "digest": "another"})
    assert again.manifest.measurements == content["measurements"], "it stays until it is measured again"
    assert "calibrated since: figures of INT8 are of the calibration before" in " ".join(
        edge_mtl("inspect", bundle.path).out.split()
    )


def test_commands_take_the_name_of_a_bundle_of_the_package_and_verify_leaves_that_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (record,) = edge_mtl("inspect", "rooms-b0", "--json").records
    assert record["name"] == "rooms-b0"
    assert_failed(edge_mtl("inspect", "rooms-b7"), 3, "rooms-b7", "indoor-lite0, indoor-b0, rooms-b0")
    tiny = make_bundle(tmp_path / "installed" / "rooms-b0")
    assert edge_mtl("build-engine", tiny.path, "--int8", "--backend", "onnxruntime", "--max-drop", "none").code == 0
    monkeypatch.setattr(bundles, "DEMO_BUNDLE", tmp_path / "installed" / "indoor-b0")
    command = ("verify", "rooms-b0", "--max-drop", "none", "--threads", 1, "--backend", "onnxruntime", "--json")
    (record,) = edge_mtl(*command).records
    assert (record["bundle"], record["revision"]) == (str(tiny.path), None)
    (record,) = edge_mtl("verify", tiny.path, *command[2:]).records
    assert record["revision"] == 2, "named by its folder, the card is put into it"


def test_inspect_says_what_trained_the_network_and_whether_its_images_may_be_passed_on(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    labelled = {"bundles": ["tiny (abc)"], "frames": {"segmentation": 12, "depth": 3}, "held_out": {"depth": 1}}
    sets = [
        {"title": "our hall", "licence": "internal", "redistributable": False, "pseudo_labels": labelled},
        {"title": "rooms", "licence": "none needed", "redistributable": True},
    ]
    manifest = replace(bundle.manifest, provenance={**bundle.manifest.provenance, "data_sets": sets})
    (bundle.path / "manifest.json").write_bytes(manifest.to_json())
    text = " ".join(edge_mtl("inspect", bundle.path).out.split())
    assert "our hall; licence: internal; its images may not be passed on" in text
    assert "; frames labelled by tiny (abc): depth: 3, segmentation: 12; of them held out: depth: 1" in text
    assert text.count("frames labelled by") == 1
    assert "rooms; licence: none needed; its images may be passed on" in text
    (record,) = edge_mtl("inspect", bundle.path, "--json").records
    assert record["provenance"]["data_sets"] == sets


def test_inspect_says_who_taught_the_network(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    about = {"licence": "Apache-2.0", "fine_tuned_on": {"data_set": "NYU Depth v2", "steps": 150}}
    graph = {"file": "teacher.onnx", "sha256": "ab" * 32, "answers": ["segmentation"], "features": True, "about": about}
    teachers = [graph, "answers of large"]  # the second as runs said it that recorded none
    manifest = replace(bundle.manifest, provenance={**bundle.manifest.provenance, "teachers": teachers})
    (bundle.path / "manifest.json").write_bytes(manifest.to_json())
    text = " ".join(edge_mtl("inspect", bundle.path).out.split())
    assert "taught by teacher.onnx (answers of segmentation and features; SHA-256 abababababab)" in text
    assert "licence: Apache-2.0" in text
    assert "data set: NYU Depth v2, steps: 150" in text
    assert "taught by answers of large" in text
    (record,) = edge_mtl("inspect", bundle.path, "--json").records
    assert record["provenance"]["teachers"] == teachers


def test_doctor_lists_backends_and_the_device() -> None:
    outcome = edge_mtl("doctor")
    assert outcome.code == 0
    for word in ("onnxruntime", "openvino", "INT8 in hardware", "OpenCV", "cache folder", "writable", "rooms-b0"):
        assert word in outcome.out
    (record,) = edge_mtl("doctor", "--json").records
    assert "onnxruntime" in record["usable"]
    assert record["clashing_runtimes"] == []


def test_benchmark_compares_every_engine_with_plain_fp32(built: tuple[Bundle, Any]) -> None:
    outcome = edge_mtl("benchmark", built[0].path, "--rounds", 3, "--threads", 1, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    (record,) = outcome.records
    baseline, engine = record["rows"]
    assert (baseline["precision"], baseline["ratio"]) == ("fp32", 1.0)
    assert (engine["precision"], engine["backend"], engine["threads"]) == ("int8", "onnxruntime", 1)
    assert engine["p50_ms"] <= engine["p90_ms"] <= engine["p99_ms"]
    assert engine["infer_ms"] > 0
    assert engine["start_s"] > 0
    assert engine["rss_bytes"] > 1 << 20
    assert record["device"]["cores"] >= 1


def test_benchmark_works_before_anything_was_built(tiny_bundle: Bundle) -> None:
    outcome = edge_mtl("benchmark", tiny_bundle.path, "--rounds", 2, "--threads", 1)
    assert outcome.code == 0
    assert "fp32 on onnxruntime, plain" in outcome.out
    assert "gain" in outcome.out


def test_demo_draws_a_image_and_prints_a_benchmark(built: tuple[Bundle, Any], tmp_path: Path) -> None:
    outcome = edge_mtl("demo", "--bundle", built[0].path, "--save", tmp_path / "new" / "demo.png")
    assert outcome.code == 0, outcome
    assert "gain" in outcome.out
    assert "demo.png" in outcome.out
    photograph = samples.photograph(built[0].manifest.tasks)
    with Engine(built[0], precision="int8") as engine:
        found = engine.predict(photograph.pixels, intrinsics=photograph.intrinsics)
    metric = DepthMetric()
    metric.add(found.depth, photograph.truths["depth"])
    error = f"depth error {100 * metric.compute()['depth_rel']:.0f} % of the true depth"
    assert error in " ".join(outcome.out.split()), "the error on the photograph is said in words"
    drawn = cv2.imread(str(tmp_path / "new" / "demo.png"))
    assert drawn.shape[1] > 1000
    assert drawn.std() > 10


@pytest.mark.parametrize(("stolen", "said"), [(0, "× FP32 in ONNX Runtime"), (500, "not timed")])
def test_the_image_tells_no_speed_of_a_machine_that_others_used(
    built: tuple[Bundle, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stolen: int, said: str
) -> None:
    subtitles: list[str] = []
    timed, drawn = demo.measure_and_show, demo_figure.draw

    def measure(*arguments: Any, **options: Any) -> Any:
        looks = {"before": {"cpu_ticks": 0, "stolen_ticks": 0}, "after": {"cpu_ticks": 1000, "stolen_ticks": stolen}}
        report, images = timed(*arguments, **options)
        return replace(report, conditions={"state": looks}), images

    def draw(*arguments: Any, **options: Any) -> Any:
        subtitles.append(options["subtitle"])
        return drawn(*arguments, **options)

    monkeypatch.setattr(demo, "measure_and_show", measure)
    monkeypatch.setattr(demo_figure, "draw", draw)
    outcome = edge_mtl("demo", "--bundle", built[0].path, "--save", tmp_path / "demo.png")
    assert outcome.code == 0, outcome
    assert said in subtitles[0]
    assert (" ms per frame" in subtitles[0]) is (stolen == 0)


def test_a_demo_that_has_nothing_to_show_says_so_before_it_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "own", evaluation=0)
    monkeypatch.setattr(samples, "photograph", lambda tasks: None)
    outcome = edge_mtl("demo", "--bundle", bundle.path, "--save", tmp_path / "demo.png")
    assert_failed(outcome, 3, "nothing to show", "edge-mtl[demo]")
    assert not (bundle.path / "engines").exists()


def test_the_demo_builds_an_engine_when_there_is_none_and_manages_without_a_photograph(
    own_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = demo.build

    def build(*arguments: Any, **options: Any) -> Any:
        return usual(*arguments, **{**options, "backend": "onnxruntime", "threads": 1, "budget": None})

    monkeypatch.setattr(demo, "build", build)
    monkeypatch.setattr(samples, "photograph", lambda tasks: None)
    outcome = edge_mtl("demo", "--bundle", own_bundle.path, "--save", tmp_path / "demo.png")
    assert outcome.code == 0, outcome
    assert "agreement" in outcome.out
    assert "edge-mtl[demo]" in outcome.err
    assert (tmp_path / "demo.png").is_file()
    assert list(own_bundle.path.glob("engines/*.onnx"))


def test_the_demo_completes_a_build_that_was_killed(
    own_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first engine may be stored, and the others not."""

    def build(*arguments: Any, **options: Any) -> Any:
        raise BuildError("it is built again")

    assert edge_mtl("build-engine", own_bundle.path, "--int8", "--backend", "onnxruntime", *ANY).code == 0
    monkeypatch.setattr(demo, "build", build)
    assert edge_mtl("demo", "--bundle", own_bundle.path, "--save", tmp_path / "demo.png").code == 0
    (own_bundle.path / "engines" / ".tmp-edge-mtl-0123456789abcdef").touch()
    assert_failed(edge_mtl("demo", "--bundle", own_bundle.path, "--save", tmp_path / "demo.png"), 9, "it is built again")


def test_benchmark_lists_every_engine_of_the_store(own_bundle: Bundle) -> None:
    """Also an engine that an Engine would not choose, because another of its kind is faster."""
    assert edge_mtl("build-engine", own_bundle.path, "--int8", "--backend", "openvino", *ANY, "--json").code == 0
    (bundle,) = edge_mtl("inspect", own_bundle.path, "--json").records
    (record,) = edge_mtl("benchmark", own_bundle.path, "--rounds", 2, "--json").records
    built = {engine["key"] for engine in bundle["engines"]}
    assert {row["engine_key"] for row in record["rows"]} == {None, *built}
    assert all(row["infer_ms"] > 0 for row in record["rows"])
    assert all(row["rss_bytes"] > 0 for row in record["rows"])


def test_the_example_predicts_a_image(
    built: tuple[Bundle, Any], room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict_image.py", str(room), str(built[0].path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    output = capsys.readouterr().out
    assert "wall:" in output
    assert "depth:" in output
    assert " ms" in output
