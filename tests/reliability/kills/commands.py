"""The commands that are killed: what lies in their folder before, how they are run, and which exit codes a next start may have.

Networks and images are tiny, and what only computes is cut short: one round of timing, no processes that measure memory, no
export by torch, whose graphs are made once. What writes files is the product's own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import typer

from edge_mtl import files, unfinished
from edge_mtl.bench import benchmark, interleaved
from edge_mtl.bench.result_files import OutputPaths
from edge_mtl.builder import pipeline
from edge_mtl.bundle import Bundle
from edge_mtl.cli.application import app
from edge_mtl.cli.process import main as edge_mtl
from edge_mtl.sources import samples
from tests.bundles import canonical_intrinsics, make_bundle, make_image, write_image
from tests.video_files import write_video

__all__ = ["COMMANDS", "FAULTS", "PRELOADED", "PRELOADED_FOR_TRAINING", "Command", "prepared", "unavailable", "work"]

PRELOADED = (
    __name__,
    "tests.reliability.kills.trials",
    "onnx",
    "onnxruntime",
    "openvino",
    "PIL.Image",
    "rerun.chunk",
    "rosbags.highlevel",
    "rosbags.rosbag2",
    "edge_mtl.backends.onnxruntime.backend",
    "edge_mtl.backends.openvino.backend",
    "edge_mtl.builder.recalibrate",
    "edge_mtl.builder.triton",
    "edge_mtl.calibration.source",
    "edge_mtl.image.demo_figure",
    "edge_mtl.image.upsample",
    "edge_mtl.metric_scale.find",
    "edge_mtl.outputs.annotated_bag",
    "edge_mtl.outputs.result_files",
    "edge_mtl.outputs.viewer",
    "edge_mtl.sources.open_source",
    "edge_mtl.tasks.stability",
)
"""What processes have imported when they are forked; what is not installed is passed over."""
PRELOADED_FOR_TRAINING = ("mtl.bundling", "mtl.run", "tests.tiny_training")

_FILES_EXIT = 74
_warm_up = interleaved.warm_up
typer.main.get_command = lru_cache(typer.main.get_command)  # type: ignore[assignment]
typer.main.get_command(app)  # once, for all who are forked from here
_FP32 = ("--backend", "onnxruntime", "--precision", "fp32", "--threads", "1")
_ONNX = ("--backend", "onnxruntime", "--threads", "1")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that writes.

    Attributes:
        prepare: makes what it needs in a folder.
        run: runs it there, in a process of its own; the version, 1 or 2, is of its input, so that what it writes differs.
        refuses: exit codes of a start that finds the artefact there already.
        needs: packages without which it is left out.
        over: whether it also replaces what an earlier run wrote.
        share: it has one of so many of the kills, as it computes long.
        begun: a file that says that it has come to what it writes; three of four kills wait for it.
    """

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path, int], int]
    refuses: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    over: bool = True
    share: int = 1
    begun: str = ""


def unavailable(command: Command) -> str:
    """Why a command cannot be run here; empty if it can."""
    missing = [name for name in command.needs if importlib.util.find_spec(name) is None]
    return f"{command.name}: needs {' and '.join(missing)}" if missing else ""


def prepared(folder: Path, name: str) -> int:
    """Make what a command needs; in a process of its own, as networks are run for it."""
    COMMANDS[name].prepare(folder)
    return 0


def work(folder: Path, name: str, version: int, fault: str = "") -> int:
    """Run a command, with a fault put in where a control wants one."""
    pipeline._ROUNDS = 1
    interleaved.warm_up = lambda call, **_: _warm_up(call, most=1)  # type: ignore[assignment]
    benchmark.add_footprints = lambda *_, **__: None  # type: ignore[assignment]
    samples.photograph = lambda tasks: samples.Sample("photograph", make_image(3), None, {})  # type: ignore[assignment]
    cv2.setNumThreads(1)
    if fault:
        FAULTS[fault]()
    return COMMANDS[name].run(folder, version)


def _bundle(folder: Path) -> Bundle:
    """Without labelled frames: INT8 of a network that learnt nothing would fail the accuracy check."""
    return make_bundle(folder / "tiny", calibration=2, evaluation=0, golden=1)


def _pictures(folder: Path, name: str, *, first: int, count: int = 2) -> Path:
    place = folder / name
    place.mkdir()
    for index in range(count):
        write_image(place / f"{index}.png", make_image(first + index))
    return place


def _inputs(folder: Path) -> None:
    _bundle(folder)
    for version in (1, 2):
        _pictures(folder, f"pictures-{version}", first=100 * version, count=3)


def _build(folder: Path, version: int) -> int:
    frames = ("--calibration", str(folder / f"pictures-{version}"))
    return edge_mtl(["build-engine", str(folder / "tiny"), "--int8", *frames, *_ONNX])


def _calibrate(folder: Path, version: int, *engines: str) -> int:
    options = (
        "--bundle",
        str(folder / "tiny"),
        "--embedding",
        "colour",
        "--max-drop",
        "none",
        "--count",
        "2",
        "--threads",
        "1",
    )
    return edge_mtl(["calibrate", str(folder / f"pictures-{version}"), *options, *engines])


def _calibrate_with_engines(folder: Path, version: int) -> int:
    return _calibrate(folder, version, "--engines", "--backend", "onnxruntime")


def _calibrated(folder: Path) -> None:
    """A bundle in its third revision, and the two before it."""
    from edge_mtl.engine_store.revision import changing, commit

    _inputs(folder)
    for number in (2, 3):

        def change(place: Path, number: int = number) -> None:
            (place / "calibration" / "mark.json").write_text(str(number))

        with changing(folder / "tiny") as current:
            commit(current, change)


def _roll_back(folder: Path, version: int) -> int:
    return edge_mtl(["calibrate", "--bundle", str(folder / "tiny"), "--rollback", "--to", "2"])


def _export_files(folder: Path, version: int) -> int:
    targets = ("--onnx", str(folder / "out" / "model.onnx"), "--weights", str(folder / "out" / "weights.safetensors"))
    return edge_mtl(["export", str(folder / f"tiny-{version}"), *targets])


def _two_bundles(folder: Path) -> None:
    for version in (1, 2):
        make_bundle(folder / f"tiny-{version}", calibration=1, evaluation=0, golden=1, seed=version)


def _triton(folder: Path, version: int) -> int:
    return edge_mtl(["export", str(folder / "tiny"), "--triton", str(folder / "models")])


def _predict(folder: Path, version: int) -> int:
    source = folder / f"pictures-{version}"
    kinds = ("--files", "overlay,panel,png,npz,json", "--out", str(folder / "out"))
    return edge_mtl(["predict", str(source), "--bundle", str(folder / "tiny"), *kinds, *_FP32])


def _film(folder: Path) -> None:
    _bundle(folder)
    for version in (1, 2):
        write_video(folder / f"film-{version}.mp4", 4 + version)


def _predict_film(folder: Path, version: int) -> int:
    film = folder / "film.mp4"
    film.unlink(missing_ok=True)
    os.link(folder / f"film-{version}.mp4", film)  # videos are named after their source
    out = ("--files", "overlay,panel", "--out", str(folder / "out"))
    return edge_mtl(["predict", str(film), "--bundle", str(folder / "tiny"), *out, *_FP32])


def _recorded(folder: Path) -> None:
    from tests.bag_files import write_bag

    _bundle(folder)
    write_bag(folder / "tour", [make_image(index) for index in range(3)], focal=canonical_intrinsics()[0])
    write_bag(folder / "mcap", [make_image(index) for index in range(3)], focal=canonical_intrinsics()[0], storage="mcap")


def _annotate(folder: Path, version: int) -> int:
    out = ("--files", "bag", "--out", str(folder / "tour-maps"))
    return edge_mtl(["predict", str(folder / "tour"), "--bundle", str(folder / "tiny"), *out, *_FP32])


def _annotate_mcap(folder: Path, version: int) -> int:
    out = ("--files", "bag", "--out", str(folder / "mcap-maps"))
    return edge_mtl(["predict", str(folder / "mcap"), "--bundle", str(folder / "tiny"), *out, *_FP32])


def _view(folder: Path, version: int) -> int:
    source, save = folder / f"pictures-{version}", ("--save", str(folder / "tour.rrd"))
    return edge_mtl(["predict", str(source), "--bundle", str(folder / "tiny"), *save, *_FP32])


def _known_depth(folder: Path) -> None:
    from edge_mtl.engine import Engine

    _inputs(folder)
    for version in (1, 2):
        place = folder / f"depth-{version}"
        place.mkdir()
        with Engine(folder / "tiny", backend="onnxruntime", precision="fp32", threads=1) as engine:
            for path in sorted((folder / f"pictures-{version}").iterdir()):
                image = cv2.imread(str(path))[:, :, ::-1]
                depth = engine.predict(np.ascontiguousarray(image), intrinsics=canonical_intrinsics()).results["depth"]
                np.save(place / f"{path.stem}.npy", depth.depth_m * np.float32(1.0 + 0.2 * version))


def _scale(folder: Path, version: int) -> int:
    known = ("--depth-files", str(folder / f"depth-{version}"), "--save", str(folder / "out" / "front.json"))
    camera = ("--intrinsics", ",".join(map(str, canonical_intrinsics())))
    source = str(folder / f"pictures-{version}")
    return edge_mtl(["scale", source, "--bundle", str(folder / "tiny"), *known, *camera, *_FP32])


def _keyed(folder: Path) -> None:
    """A bundle, and two keys that sign it."""
    from edge_mtl.signing.bundles import key_files, write_new_key

    _bundle(folder)
    for version in (1, 2):
        write_new_key(key_files(str(folder / f"{version}.key")), None)


def _sign(folder: Path, version: int) -> int:
    return edge_mtl(["sign", str(folder / "tiny"), "--key", str(folder / f"{version}.key")])


def _measured(folder: Path) -> None:
    """A benchmark, measured once: what is killed is the writing of its results."""
    from edge_mtl.bench.benchmark import BenchmarkConfig, measure_benchmark
    from edge_mtl.bench.collect_targets import TargetFilter

    benchmark.add_footprints = lambda *_, **__: None  # type: ignore[assignment]
    targets = TargetFilter((_bundle(folder).path,), ("onnxruntime",), ("fp32",), 1)
    report, images = measure_benchmark([Bundle.open(folder / "tiny")], targets, BenchmarkConfig(rounds=2, brief=True), images=2)
    _write_report(folder / "measured.json", files.plain(report.to_dict()))
    for title, payload in images:
        (folder / f"{len(title)}.jpg").write_bytes(payload)


def _write_report(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content))


def _benchmark(folder: Path, version: int) -> int:
    content = json.loads((folder / "measured.json").read_bytes()) | {"rounds": version}
    images = [(path.stem, path.read_bytes()) for path in sorted(folder.glob("*.jpg"))]
    out = folder / "out"
    OutputPaths(json=out / "result.json", html=out / "result.html", markdown=out / "result.md").write(content, images)
    return 0


def _demo(folder: Path, version: int) -> int:
    return edge_mtl(["demo", "--bundle", str(folder / "tiny"), "--save", str(folder / "out" / "demo.png")])


def _demo_bundle(folder: Path) -> None:
    make_bundle(folder / "tiny", calibration=2, evaluation=0, golden=1)


def _node(folder: Path, version: int) -> int:
    from tests.reliability.kills.node import build_and_reload

    return build_and_reload(folder)


def _rooms(folder: Path) -> None:
    from tests.tiny_training import make_rooms

    make_rooms(folder / "rooms")


def _train(folder: Path, version: int) -> int:
    from mtl.run import Run

    from tests.tiny_training import quiet, tiny_settings

    changes = {"loop.checkpoint_s": "0.0", "loop.evaluate_every": "2", "seed": str(version)}
    Run(tiny_settings(folder / "rooms", folder, name=f"'run-{version}'", **changes), console=quiet(), resume=True).train()
    return 0


def _trained(folder: Path) -> None:
    """A checkpoint, and its graphs, which torch takes long to make."""
    _rooms(folder)
    _train(folder, 1)
    _export_bundle(folder, 1)
    assert len(list((folder / "graphs").iterdir())) == 2
    shutil.rmtree(folder / "exported")


def _keep_graphs(folder: Path) -> None:
    """Let exports take graphs that were made before; those that are new are kept."""
    from mtl.models import export as exporting

    kept, made = folder / "graphs", exporting.graph_of
    kept.mkdir(exist_ok=True)

    def graph_of(placed: Any, example: Any, name: str, **options: Any) -> bytes:
        path = kept / name
        if not path.exists():
            path.write_bytes(made(placed, example, name, **options))
        return path.read_bytes()

    exporting.graph_of = graph_of


def _export_bundle(folder: Path, version: int) -> int:
    from mtl.bundling import export_bundle

    from tests.tiny_training import quiet

    _keep_graphs(folder)
    few = {"export.calibration": str(version), "export.evaluation": "2", "export.golden": "1"}
    export_bundle(
        folder / "run-1" / "best.safetensors",
        folder / "exported",
        console=quiet(),
        command="",
        replace=True,
        overrides=few,
    )
    return 0


_TRAINING = ("torch", "timm", "safetensors")
COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command("build", _inputs, _build),
        Command("calibrate", _inputs, _calibrate),
        Command("calibrate-engines", _inputs, _calibrate_with_engines, share=10),
        Command("rollback", _calibrated, _roll_back, refuses=(3,), over=False),
        Command("train", _rooms, _train, needs=_TRAINING, over=False, share=20),
        Command("export-bundle", _trained, _export_bundle, needs=_TRAINING, share=4),
        Command("export-files", _two_bundles, _export_files),
        Command("export-triton", _inputs, _triton, refuses=(9,), over=False),
        Command("predict-files", _inputs, _predict),
        Command("predict-video", _film, _predict_film),
        Command("annotate-bag", _recorded, _annotate, refuses=(_FILES_EXIT,), needs=("rosbags",), over=False),
        Command("annotate-mcap", _recorded, _annotate_mcap, refuses=(_FILES_EXIT,), needs=("rosbags",), over=False),
        Command("record-view", _inputs, _view, needs=("rerun",)),
        Command("scale", _known_depth, _scale),
        Command("sign", _keyed, _sign, needs=("cryptography",)),
        Command("benchmark", _measured, _benchmark),
        Command("node", _inputs, _node, needs=("rclpy",), over=False, begun="tiny/engines/.lock"),
        Command("demo", _demo_bundle, _demo, share=4),
    )
}


def _everywhere(name: str, original: object, other: object) -> None:
    """Put `other` in place of a function in every module that has taken it by name."""
    for module in list(sys.modules.values()):
        if getattr(module, name, None) is original:
            setattr(module, name, other)


def _write_in_place() -> None:
    """A writer that opens the file itself, and writes it in pieces."""

    def write(path: Path, payload: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as stream:
            for piece in range(8):
                stream.write(payload[len(payload) * piece // 8 : len(payload) * (piece + 1) // 8])
                time.sleep(0.02)

    _everywhere("write_atomic", files.write_atomic, write)


def _no_sweep() -> None:
    """Writers that leave what killed ones left."""
    _everywhere("sweep_temporaries", unfinished.sweep_temporaries, lambda folder: [])
    _everywhere("sweep_folders", unfinished.sweep_folders, lambda path: None)
    unfinished._sweep_files_once = lambda folder, process: None  # type: ignore[assignment]


def _die_at_the_end() -> None:
    """A process that is killed just before its first file has its name."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = die  # type: ignore[assignment]


FAULTS: Mapping[str, Callable[[], None]] = {
    "in place": _write_in_place,
    "no sweep": _no_sweep,
    "dies": _die_at_the_end,
}
"""What controls put in."""
