"""NYUv2 by one protocol: every test frame, through the network and through Engine, pseudo-truth marked as such."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import evaluate as evaluate_script
import numpy as np
import prepare_nyuv2
import pytest
from mtl.datasets.frame import truth_notes
from mtl.datasets.nyuv2 import NyuRequest
from mtl.datasets.nyuv2.frames import NyuFrames
from mtl.datasets.sources import stand_in_frames
from mtl.run import Run
from mtl.study.definition import load_study
from mtl.study.markdown import to_markdown
from mtl.study.predictions import prediction_figure
from mtl.study.report import build_document
from mtl.study.results import collect_results

from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import Bundle, new_revision
from edge_mtl.engine import Engine
from edge_mtl.tasks.depth_metric import DepthMetric
from tests.bundles import HEIGHT, WIDTH, make_bundle
from tests.nyu_files import write_folder, write_images
from tests.tiny_training import quiet, tiny_settings

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def nyuv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Depth of 8 bits, normals from it."""
    folder = tmp_path_factory.mktemp("nyuv2")
    source = write_images(folder / "copy", train=2, val=3)
    assert prepare_nyuv2.main(["images", str(source), "--out", str(folder / "nyuv2"), "--size", f"{HEIGHT}x{WIDTH}"]) == 0
    return folder / "nyuv2"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    build_engine(made, precision="int8", backend="onnxruntime", threads=1, budget=None)
    return made


def test_the_network_and_the_engines_see_every_test_frame_and_pseudo_truth_is_marked(
    nyuv2: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "numbers.json", tmp_path / "report"
    command = [str(bundle.path), "--engines", "--threads", "1", "--root", str(nyuv2), "--classes", "--depth"]
    code = evaluate_script.main([*command, "--save", str(out), "--out", str(report)])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    content = json.loads(out.read_text())
    metrics, details = content["metrics"], content["details"]
    assert set(metrics) == {"fp32", "fp32 onnxruntime", "int8 onnxruntime"}
    for name, row in details.items():
        assert (row["frames"], row["data"], row["split"], row["size"]) == (3, "NYU Depth v2", "test", [HEIGHT, WIDTH])
        assert row["truths"]["normals"]["pseudo"] is True
        assert row["truths"]["normals"]["made"].startswith("plane fits")
        assert row["truths"]["depth"]["made"].startswith("8 bits, steps of 39 mm")
        assert {"class_iou", "depth_delta2", "depth_delta3", "depth_log10", "depth_median_scaled"} <= set(row)
        assert 0.0 <= row["ece"] <= 1.0, name
    assert [row["through"] for row in details.values()] == ["training code", "Engine", "Engine"]
    for key, value in metrics["fp32"].items():
        if isinstance(value, float):
            assert metrics["fp32 onnxruntime"][key] == pytest.approx(value, rel=2e-3, abs=2e-3), key
    assert "(pseudo)" in shown.out
    assert "median-scaled" in shown.out
    text = (report / "report.md").read_text()
    for wanted in ("n. mean (pseudo)", "IoU of every class", "int8 onnxruntime, median-scaled", "pseudo-truth", "39 mm"):
        assert wanted in text
    assert "rel (pseudo)" not in text


def test_figures_are_recorded_in_the_bundle_with_what_repeats_them(
    nyuv2: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, out = Path(shutil.copytree(bundle.path, tmp_path / "my own")), tmp_path / "numbers.json"
    options = ["--engines", "--threads", "1", "--root", str(nyuv2)]
    places = ["--save", str(out), f"--out={tmp_path / 'report'}"]
    monkeypatch.setattr(sys, "argv", ["train/evaluate.py", str(own), *options, "--record", *places, "--json"])
    assert evaluate_script.main([str(own), *options, "--record", *places]) == 0
    assert "revision 2: NYU Depth v2, test split" in " ".join(capsys.readouterr().out.split())
    made = Bundle.open(own)
    made.verify()
    record = made.manifest.measurements["NYU Depth v2, test split"]
    found = json.loads(out.read_text())
    assert set(record["graphs"]) == {"fp32", "fp32 onnxruntime", "int8 onnxruntime"}
    for name, figures in record["graphs"].items():
        assert figures["depth_rel"] == pytest.approx(found["metrics"][name]["depth_rel"], abs=1e-6)
        assert figures["class_iou"] == pytest.approx(found["details"][name]["class_iou"], abs=1e-6)
        assert not {"step", "parameters", "frames", "truths"} & set(figures)
    assert record["through"]["int8 onnxruntime"] == "Engine"
    assert (record["frames"], record["truths"]["normals"]["pseudo"]) == (3, True)
    assert "normal_mean_deg" in record["pseudo"]
    assert "miou" not in record["pseudo"]
    assert shlex.split(record["command"]) == ["python", "train/evaluate.py", str(own), *options]
    assert record["calibration"] == bundle.manifest.calibration.get("digest")
    with Engine(made, precision="int8", threads=1) as engine:
        assert engine.info.precision == "int8", "engines came along"
    assert evaluate_script.main([str(own), "--root", str(nyuv2), "--record"]) == 0
    again = Bundle.open(own).manifest.measurements
    assert list(again) == ["NYU Depth v2, test split"], "the same frames, measured again"
    assert set(again["NYU Depth v2, test split"]["graphs"]) == {"fp32"}


def test_only_test_frames_of_one_bundle_are_recorded_and_only_if_it_is_the_same_still(
    nyuv2: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--root", str(nyuv2), "--record"]
    for arguments, words in (
        ([str(bundle.path), str(bundle.path)], "for one bundle, found 2 models"),
        ([str(bundle.path), "--split", "val"], "for test frames"),
        ([str(tmp_path)], "is not a bundle"),
    ):
        assert evaluate_script.main([*arguments, *where]) != 0
        assert words in capsys.readouterr().err
    own = Path(shutil.copytree(bundle.path, tmp_path / "own"))
    measured = evaluate_script.measure

    def and_changed(*arguments: Any, **options: Any) -> Any:
        result = measured(*arguments, **options)
        if arguments[0]:
            new_revision(Bundle.open(own))
        return result

    monkeypatch.setattr(evaluate_script, "measure", and_changed)
    assert evaluate_script.main([str(own), *where]) != 0
    assert "was changed while it was measured" in capsys.readouterr().err
    assert Bundle.open(own).manifest.measurements == {}


def test_errors_are_over_all_valid_pixels_as_engine_answers(nyuv2: Path, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    assert (
        evaluate_script.main([str(bundle.path), "--engines", "--threads", "1", "--root", str(nyuv2), "--save", str(out)]) == 0
    )
    frames = NyuRequest(str(nyuv2), "val").open()
    metric, confusion = DepthMetric(), np.zeros((13, 13), np.int64)
    with Engine(bundle, backend="onnxruntime", precision="int8", threads=1) as engine:
        for index in range(len(frames)):
            frame = frames[index]
            seen = engine.predict(frame.image, intrinsics=frame.intrinsics)
            metric.add(seen.depth, frame.truths["depth"])
            label = frame.truths["segmentation"]
            np.add.at(confusion, (label[label < 13], seen.segmentation[label < 13]), 1)
    found = json.loads(out.read_text())["metrics"]["int8 onnxruntime"]
    assert found["depth_rel"] == pytest.approx(metric.compute()["depth_rel"])
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    assert found["miou"] == pytest.approx((confusion.diagonal()[union > 0] / union[union > 0]).mean())


def test_measured_normals_are_not_marked(tmp_path: Path) -> None:
    assert truth_notes(NyuRequest(str(write_folder(tmp_path / "nyuv2")), "val").open()) == {}


STUDY = """
name = "tiny"
title = "Tiny"
question = "?"
base = "base.toml"
reference = "all"
[single]
[groups]
tasks = { title = "Tasks" }
[overrides]
model = { backbone = "test_convnext", width = 8 }
data = { kind = "nyuv2", root = "ROOT" }
stages = [{ height = 32, width = 64, steps = 1, batch = 2 }]
loop = { device = "cpu", threads = 1, loader_workers = 0, precision = "fp32", pictures = 0, test_at_end = true }
[pictures]
rows = ["all"]
frames = [0]
[[rows]]
name = "all"
groups = ["tasks"]
"""


def test_a_study_marks_pseudo_truth_and_shows_no_frame(nyuv2: Path, tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("")
    (tmp_path / "study.toml").write_text(STUDY.replace("ROOT", str(nyuv2)))
    study = load_study(tmp_path / "study.toml")
    runs = study.runs(tmp_path / "runs")
    Run(runs[0].settings, console=quiet()).train()
    results = collect_results(study, runs)
    images = prediction_figure(results)
    text = to_markdown(build_document(results, latencies=None, images=images, command=["python"]))
    assert "n. mean (pseudo)" in text
    assert "**truth of depth**: 8 bits, steps of 39 mm" in text
    assert images is not None
    assert images.caption.startswith("Rendered rooms")
    assert "NYU Depth v2, licence: none is stated" in images.caption
    shown = cv2.imdecode(np.frombuffer(images.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]  # type: ignore[arg-type]
    room = cv2.resize(stand_in_frames(1, (32, 64))[0].image, (192, 96), interpolation=cv2.INTER_NEAREST)
    assert np.abs(shown[:96, :192].astype(int) - room.astype(int)).mean() < 12


def test_the_best_weights_are_chosen_without_a_look_at_the_test_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "nyuv2", train=8, val=2)
    looked: list[tuple[str, int]] = []
    read = NyuFrames.__getitem__

    def watched(source: NyuFrames, index: int):  # type: ignore[no-untyped-def]
        looked.append((source._part, source._numbers[index]))
        return read(source, index)

    monkeypatch.setattr(NyuFrames, "__getitem__", watched)
    data = {"data.kind": "'nyuv2'", "data.validation_from_train": "3", "loop.evaluate_every": "2"}
    settings = tiny_settings(root, tmp_path / "runs", name="'aside'", **data, **{"loop.test_at_end": "false"})
    aside = set(NyuRequest(str(root), "train", aside=3, take="aside").open()._numbers)
    Run(settings, console=quiet()).train()
    journal = [json.loads(line) for line in (tmp_path / "runs" / "aside" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in journal if line["kind"] == "validation"] == [2, 4]
    assert {part for part, _ in looked} == {"train"}
    assert {number for _, number in looked} >= aside
    looked.clear()
    settings = tiny_settings(root, tmp_path / "runs", name="'tested'", **data, **{"loop.test_at_end": "true"})
    Run(settings, console=quiet()).train()
    parts = [part for part, _ in looked]
    assert "val" in parts, "the test itself is seen"
    assert "train" not in parts[parts.index("val") :], "only once all weights are chosen"
