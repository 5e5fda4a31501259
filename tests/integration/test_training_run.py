"""The whole training path, tiny: rooms, stages, a killed run that continues, the bundle, and mistakes on the command line."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import evaluate as evaluate_script
import export as export_script
import numpy as np
import onnx
import pytest
import torch
from mtl.checkpoint import CheckpointError, load_state, load_weights
from mtl.config import apply_overrides, parse_config
from mtl.datasets.frame import Batch
from mtl.datasets.rooms import RoomsDataset
from mtl.evaluate import judge
from mtl.geometry import canonical_intrinsics
from mtl.loop import StepReport, Training
from mtl.onnx_predictor import OnnxGraph
from mtl.run import Run
from mtl.settings import RunSettings
from rich.console import Console

import train as train_script
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.tasks import NYU_TASKS, measure_names
from edge_mtl.tasks.depth import TRUTH_UNITS_PER_M
from edge_mtl.tasks.normals import angles_deg
from edge_mtl.weights.store import PARTS
from tests.nyu_frames import nyu_frame

pytestmark = pytest.mark.training

REPOSITORY = Path(__file__).parents[2]
STAGES = "[{height=32, width=64, steps=3, batch=2}, {height=64, width=96, steps=3, batch=2}]"
SMALL = {
    "data.train": "32",
    "data.validation": "2",
    "data.test": "6",
    "data.height": "64",
    "data.width": "96",
    "data.workers": "1",
    "stages": STAGES,
    "model.drop_path": "0.1",
    "losses.class_weights": "true",
    "losses.weighting": "uncertainty",
    "loop.threads": "1",
    "loop.loader_workers": "0",
    "loop.pictures": "2",
    "export.calibration": "4",
    "export.evaluation": "3",
    "export.golden": "2",
}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered once for all tests of this module."""
    root = tmp_path_factory.mktemp("rooms")
    for split in ("train", "val", "test"):
        RoomsDataset(root, split, 2, height=64, width=96, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def finished(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    """A run that nothing disturbed: read its folder, never change it."""
    settings = tiny(rooms, tmp_path_factory.mktemp("runs"))
    Run(settings, console=quiet()).train()
    return settings


def tiny(rooms: Path, folder: Path, **changes: str) -> RunSettings:
    """Settings of a run of six steps."""
    fixed = {"data.root": f"'{rooms}'", "folder": f"'{folder}'", "export.folder": f"'{folder / 'bundles'}'"}
    return parse_config(apply_overrides({}, {**SMALL, **fixed, **changes}))


def arguments(rooms: Path, folder: Path) -> list[str]:
    """The same as command-line arguments, with a checkpoint after every step."""
    given = {**SMALL, "data.root": str(rooms), "folder": str(folder / "runs"), "export.folder": str(folder / "bundles")}
    given["loop.checkpoint_s"] = "0.0"
    return [text for key, value in given.items() for text in (f"--{key}", value)]


def folder_of(settings: RunSettings) -> Path:
    return Path(settings.folder) / settings.name


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


class Killed(BaseException):
    """Stands in for a signal that leaves no time for anything."""


def train_until(step: int, settings: RunSettings, *, resume: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and die before step number `step`."""
    advance = Training.advance

    def advance_or_die(self: Training, batch: Batch) -> StepReport:
        if self.step == step:
            raise Killed
        return advance(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", advance_or_die)
        run = Run(settings, console=quiet(), resume=resume)
        with pytest.raises(Killed):
            run.train()


def test_a_run_killed_in_either_stage_ends_with_the_weights_of_one_that_was_not(
    rooms: Path, finished: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(rooms, tmp_path, **{"loop.checkpoint_s": "0.0"})
    train_until(2, settings, resume=False, monkeypatch=monkeypatch)
    train_until(4, settings, resume=True, monkeypatch=monkeypatch)
    Run(settings, console=quiet(), resume=True).train()
    whole, broken = (load_state(folder_of(run) / "state.pt")["training"] for run in (finished, settings))
    assert whole["step"] == broken["step"] == 6
    for part in ("model", "ema", "weighting"):
        assert not [name for name, value in whole[part].items() if not torch.equal(value, broken[part][name])]
    first, second = (load_weights(folder_of(run) / "best.safetensors")[1] for run in (finished, settings))
    assert first["validation"] == second["validation"]


def test_a_run_leaves_images_metrics_and_its_configuration(finished: RunSettings) -> None:
    folder = folder_of(finished)
    sheet = cv2.imread(str(folder / "pictures" / "step-000006.png"))
    assert sheet is not None
    assert sheet.shape == (2 * (64 + 4), 7 * (96 + 4), 3)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [(record["kind"], record["step"]) for record in records if record["kind"] != "weights"]
    assert told == [("start", 0), ("validation", 3), ("validation", 6), ("done", 6)]
    assert [set(record) for record in records if record["kind"] == "weights"] == 2 * [{"kind", "time", "step", *NYU_TASKS}]
    assert set(measure_names(NYU_TASKS)) <= set(records[2])
    assert set(records[-1]) == {"kind", "time", "step", "seconds", "images_per_s", "data_wait"}
    assert records[-1]["images_per_s"] > 0
    assert 0 <= records[-1]["data_wait"] < 1
    assert json.loads((folder / "config.json").read_text())["losses"]["weighting"] == "uncertainty"


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(rooms: Path, finished: RunSettings) -> None:
    with pytest.raises(CheckpointError, match="--resume"):
        Run(finished, console=quiet())
    with pytest.raises(CheckpointError, match="was trained with seed = 0, not 1"):
        Run(tiny(rooms, Path(finished.folder), seed="1"), console=quiet(), resume=True)


def test_legs_that_have_not_begun_may_change_and_those_that_have_may_not(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(2, tiny(rooms, tmp_path, **{"loop.checkpoint_s": "0.0"}), resume=False, monkeypatch=monkeypatch)
    with pytest.raises(CheckpointError, match=r"stages\.0\.batch = 2, not 1"):
        Run(tiny(rooms, tmp_path, **{"stages.0.batch": "1"}), console=quiet(), resume=True)
    shorter = tiny(rooms, tmp_path, **{"stages.0.steps": "2", "stages.1.steps": "1", "stages.1.normals": "9.0"})
    Run(shorter, console=quiet(), resume=True).train()
    assert load_state(folder_of(shorter) / "state.pt")["training"]["step"] == 3


def test_a_signal_stops_a_run_between_steps_with_a_checkpoint(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Training.advance

    def advance_and_signal(self: Training, batch: Batch) -> StepReport:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, batch)

    monkeypatch.setattr(Training, "advance", advance_and_signal)
    settings = tiny(rooms, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Run(settings, console=quiet()).train()
    assert load_state(folder_of(settings) / "state.pt")["training"]["step"] == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_how_a_run_is_driven_may_change_when_it_is_resumed(rooms: Path, finished: RunSettings) -> None:
    Run(tiny(rooms, Path(finished.folder), **{"loop.pictures": "0", "loop.threads": "2"}), console=quiet(), resume=True)


@pytest.mark.slow
def test_training_survives_kill_9_and_ends_in_a_complete_bundle(rooms: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "train" / "train.py"), "--name", "trial", *arguments(rooms, tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    started = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / "runs" / "trial" / "state.pt"
    limit = time.monotonic() + 120
    while not state.exists() and started.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    done = subprocess.run(
        [*command, "--resume"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stdout
    folder = tmp_path / "bundles" / "trial"
    assert f"next: edge-mtl build-engine {folder} --int8" in done.stdout.replace("\n", "")
    bundle = Bundle.open(folder)
    check_bundle(bundle)
    check_weights(bundle, tmp_path / "runs" / "trial" / "best.safetensors")


def check_weights(bundle: Bundle, checkpoint: Path) -> None:
    """The bundle holds what the checkpoint holds, once: the graphs' files are small beside it."""
    ours, description = load_weights(bundle.path)
    trained, told = load_weights(checkpoint)
    assert ours.keys() == trained.keys()
    assert all(torch.equal(ours[name], value) for name, value in trained.items())
    assert description["size"] == told["size"]
    assert not {"folder", "data", "init"} & {*description["config"], *description["config"]["model"]}, "no path of this machine"
    for name in (REFERENCE_ONNX, OPTIMIZED_ONNX):
        inside = sum(len(tensor.raw_data) for tensor in onnx.load_from_string(bundle.read(name)).graph.initializer)
        bare = bundle.entry(name).size - inside
        assert bundle.manifest.files[name + PARTS].size - bare < 0.25 * inside, name


def check_bundle(bundle: Bundle) -> None:
    """Everything that the contract asks of a bundle is there and agrees."""
    bundle.verify()
    manifest = bundle.manifest
    assert bundle.tasks == ("segmentation", "depth", "normals")
    assert (manifest.input.height, manifest.input.width) == (64, 96)
    assert manifest.canonical_intrinsics == pytest.approx((353 * 64 / 288, 353 * 64 / 288, 47.5, 31.5))
    assert bundle.has(REFERENCE_ONNX)
    assert len(bundle.list("calibration")) == manifest.calibration["count"] == 4
    assert len(bundle.list("evaluation", suffixes=(".jpg",))) == 3
    assert set(measure_names(NYU_TASKS)) <= set(manifest.accuracy["fp32"])
    assert manifest.provenance["held_out"] == {"split": "test", "count": 6}
    assert manifest.provenance["command"].startswith("python train/train.py --name trial ")
    assert manifest.provenance["training_command"] == manifest.provenance["command"], "kept with the weights, too"

    graph = OnnxGraph(bundle.read(OPTIMIZED_ONNX), bundle.manifest.tasks, threads=1)
    for name in ("000", "001"):
        image = decoded(bundle, f"golden/{name}.png")[..., ::-1]
        stored = np.load(io.BytesIO(bundle.read(f"golden/{name}.npz")))
        for key, value in graph.run(image).items():
            np.testing.assert_allclose(value, stored[key].astype(np.float32), rtol=2e-3, atol=2e-3)

    cameras = json.loads(bundle.read("evaluation/intrinsics.json"))
    assert sorted(cameras) == ["000", "001", "002"]
    depth = decoded(bundle, "evaluation/000.depth.png") / TRUTH_UNITS_PER_M
    normals = (decoded(bundle, "evaluation/000.normals.png")[..., ::-1].astype(np.float32) - 128) / 127
    label = decoded(bundle, "evaluation/000.label.png")
    assert depth.shape == label.shape == normals.shape[:2] == (64, 96)
    known = depth > 0
    assert 0.3 < np.median(depth[known]) < 10
    np.testing.assert_allclose(np.linalg.norm(normals[known], axis=-1), 1, atol=0.02)

    frame = nyu_frame(decoded(bundle, "evaluation/000.jpg")[..., ::-1], label, depth, normals, tuple(cameras["000"]))
    judged = next(judge(graph, [frame], bundle.manifest.tasks, size=(64, 96)))
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1, output_size="network", self_test="build") as engine:
        prediction = engine.predict(frame.image, intrinsics=frame.intrinsics)
    assert (prediction.segmentation == judged.predicted["segmentation"].labels).mean() > 0.999
    np.testing.assert_allclose(prediction.depth, judged.predicted["depth"].depth_m, rtol=1e-3)
    assert angles_deg(prediction.normals, judged.predicted["normals"].normals).max() < 0.1


def decoded(bundle: Bundle, name: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(bundle.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def test_a_checkpoint_is_evaluated_and_the_numbers_are_written(
    rooms: Path, finished: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, out = folder_of(finished) / "best.safetensors", tmp_path / "numbers.json"
    code = evaluate_script.main([str(best), "--split", "val", "--count", "2", "--root", str(rooms), "--json", str(out)])
    assert code == 0
    assert "mIoU" in capsys.readouterr().out
    measured = json.loads(out.read_text())["metrics"]["best.safetensors"]
    expected = load_weights(best)[1]["validation"]  # measured under bf16 autocast
    assert measured["depth_rel"] == pytest.approx(expected["depth_rel"], rel=0.05)


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--config", "absent.toml"], 2, "absent.toml cannot be read"),
        (["--optimiser.lr", "1"], 2, "did you mean 'optimizer.lr'?"),
        (["--set", "optimizer.lr=fast"], 2, "optimizer.lr should be a number"),
        (["--seed"], 2, "--seed has no value"),
        (["--model.backbone", "pvt_v2_b77", "--folder", "FOLDER"], 9, "unknown backbone"),
        (["--model.pretrained", "absent.pth", "--folder", "FOLDER"], 9, "pretrained weights"),
        (["--folder", "/proc/none"], 13, "cannot be written"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_and_an_exit_code(
    given: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path) if argument == "FOLDER" else argument for argument in given]
    assert train_script.main(given) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("train: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "a run that cannot begin leaves nothing"


@pytest.mark.parametrize("script", [export_script, evaluate_script], ids=["export", "evaluate"])
@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_a_missing_or_corrupt_checkpoint_is_one_line_and_an_exit_code(
    script: object, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.safetensors"
    if content is not None:
        path.write_bytes(content)
    extra = ["--out", str(tmp_path / "bundle")] if script is export_script else []
    assert script.main([str(path), *extra]) == CheckpointError.exit_code  # type: ignore[attr-defined]
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "bundle").exists()


def test_an_export_over_an_existing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle").mkdir()
    assert export_script.main([str(tmp_path / "best.safetensors"), "--out", str(tmp_path / "bundle")]) == 3
    assert "exists already" in capsys.readouterr().err


def test_a_network_can_be_exported_for_smaller_images(finished: RunSettings, tmp_path: Path) -> None:
    best, small = folder_of(finished) / "best.safetensors", (32, 64)
    counts = ["--export.calibration", "2", "--export.evaluation", "2", "--export.golden", "1"]
    assert export_script.main([str(best), "--out", str(tmp_path / "small"), "--size", "32x64", *counts]) == 0
    bundle = Bundle.open(tmp_path / "small")
    trained = finished.stages[-1]
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == small != (trained.height, trained.width)
    focal, centre = canonical_intrinsics(trained.height, trained.width)[0], [31.5, 15.5]
    assert list(bundle.manifest.canonical_intrinsics) == pytest.approx([focal, focal, *centre])
    with Engine(bundle) as engine:
        assert engine.predict(np.zeros((48, 96, 3), np.uint8)).depth.shape == (48, 96)
    save, data = tmp_path / "figures.json", finished.data
    frames = ["--root", str(data.root), "--count", str(data.test), "--size", f"{data.height}x{data.width}"]
    assert evaluate_script.main([str(bundle.path), *frames, "--save", str(save)]) == 0
    measured = json.loads(save.read_text())["metrics"]["fp32"]["depth_rel"]
    assert measured == pytest.approx(bundle.manifest.accuracy["fp32"]["depth_rel"], rel=1e-3)
    weights, metadata = load_weights(tmp_path / "small")
    assert metadata["size"] == list(small)
    whole, _ = load_weights(best)
    assert all(torch.equal(weights[name], whole[name]) for name in whole)


@pytest.mark.parametrize("size", ["33x64", "0x64"])
def test_a_size_that_no_network_takes_is_refused_at_export(
    size: str, finished: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(folder_of(finished) / "best.safetensors"), "--out", str(tmp_path / "b"), "--size", size]
    assert export_script.main(arguments) != 0
    assert "multiples of 32" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_was_trained_cannot_be_changed_at_export(
    finished: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = folder_of(finished) / "best.safetensors"
    assert export_script.main([str(best), "--out", str(tmp_path / "b"), "--model.width", "32"]) == 2
    assert "model.width cannot change after training" in capsys.readouterr().err
