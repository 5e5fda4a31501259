"""Wrong inputs, full disks and signals: one line, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mtl import diagnosis
from edge_mtl.bundle import Bundle
from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.bundles import make_image, write_image
from tests.command_line import Outcome, assert_failed, edge_mtl

ROOT = Path(__file__).parents[2]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    write_image(tmp_path / "room.png", make_image(7))
    return tmp_path / "room.png"


@pytest.fixture
def predict(tiny_bundle: Bundle, tmp_path: Path) -> Callable[..., Outcome]:
    """`edge-mtl predict ...` on the tiny bundle, into tmp_path/results."""

    def run(*arguments: object) -> Outcome:
        return edge_mtl("predict", *arguments, "--bundle", tiny_bundle.path, "--out", tmp_path / "results")

    return run


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)]


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """No file may grow beyond `limit_bytes`, whoever writes it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Sources


@pytest.mark.parametrize(
    ("name", "content"),
    [("bad.png", b"no image"), ("empty.jpg", b""), ("bad.mp4", b"no video" * 99), ("notes.txt", b"text"), ("noname", b"x")],
)
def test_a_file_that_cannot_be_read_is_refused(
    predict: Callable[..., Outcome], tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert_failed(predict(tmp_path / name), 6, name)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("source", ["missing.png", "missing", "camera:99", "camera:x", "/dev/null"])
def test_a_source_that_is_not_there_is_refused(
    predict: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_failed(predict(source), 6)
    assert not (tmp_path / "results").exists()


def test_images_of_floats_are_refused(predict: Callable[..., Outcome], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "depth.tif"), np.zeros((64, 96, 3), np.float32))
    assert_failed(predict(tmp_path / "depth.tif"), 6, "float32", "expected 8 or 16 bits")


def test_a_dark_image_of_16_bits_is_predicted_with_a_warning_unless_its_bits_are_named(
    predict: Callable[..., Outcome], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), make_image(1).astype(np.uint16) * 16)
    done = predict(tmp_path / "wide.png")
    assert done.code == 0
    assert "warning: wide: a 16-bit image is dark" in done.err
    done = predict(tmp_path / "wide.png", "--bits", "12")
    assert done.code == 0
    assert "dark" not in done.err


def test_grey_images_are_accepted(predict: Callable[..., Outcome], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), make_image(1)[:, :, 0])
    assert predict(tmp_path / "grey.png").code == 0


def test_a_folder_without_images_is_refused(predict: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    assert_failed(predict(tmp_path / "pictures"), 6, "has no images")


def test_a_folder_whose_images_all_fail_is_refused(predict: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "pictures" / name).write_bytes(b"no image")
    outcome = predict(tmp_path / "pictures")
    assert_failed(outcome, 6, "None of the 2 images")
    assert outcome.err.count("skipped: ") == 2
    assert not (tmp_path / "results").exists()


# Bundles


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _append(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"x")


def _flip(name: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def _manifest(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(content | changes))

    return change


DAMAGES: dict[str, Callable[[Path], None]] = {
    "no manifest": _remove("manifest.json"),
    "manifest cut short": lambda folder: (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:99]),
    "manifest of another format": lambda folder: (folder / "manifest.json").write_text(json.dumps({"format_version": 99})),
    "manifest with a list for files": _manifest(files=[]),
    "manifest with a number for a task": _manifest(tasks={"segmentation": 3}),
    "manifest with words for accuracy": _manifest(accuracy={"fp32": {"miou": "good"}}),
    "graph missing": _remove("model.deploy.onnx.parts"),
    "graph longer": _append("model.deploy.onnx.parts"),
    "graph altered": _flip("model.deploy.onnx.parts"),
    "weights missing": _remove("weights.safetensors.packed"),
    "weights altered": _flip("weights.safetensors.packed"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["predict", "build-engine", "benchmark", "inspect", "demo"])
def test_every_command_refuses_a_damaged_bundle(
    command: str, damage: str, own_bundle: Bundle, room: Path, tmp_path: Path
) -> None:
    DAMAGES[damage](own_bundle.path)
    out = tmp_path / "results"
    arguments = {
        "predict": [room, "--bundle", own_bundle.path, "--out", out],
        "build-engine": [own_bundle.path, "--fp32"],
        "benchmark": [own_bundle.path, "--rounds", 1],
        "inspect": [own_bundle.path],
        "demo": ["--bundle", own_bundle.path, "--save", out / "demo.png"],
    }[command]
    assert_failed(edge_mtl(command, *arguments), 3, str(own_bundle.path))
    assert not out.exists()
    engines = own_bundle.path / "engines"
    assert not [path for path in engines.glob("*") if path.suffix in (".onnx", ".json")]


@pytest.mark.parametrize("command", ["build-engine", "benchmark", "inspect"])
@pytest.mark.parametrize("what", ["missing", "file", "empty"])
def test_what_is_no_bundle_is_refused(command: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / what
    if what == "file":
        path.write_text("no bundle")
    if what == "empty":
        path.mkdir()
    assert_failed(edge_mtl(command, path, *(["--int8"] if command == "build-engine" else [])), 3, str(path))


def test_inspect_finds_a_file_that_nobody_listed(own_bundle: Bundle) -> None:
    (own_bundle.path / "extra.bin").write_bytes(b"x")
    assert_failed(edge_mtl("inspect", own_bundle.path), 3, "extra.bin", "not listed")


def test_a_named_bundle_that_is_missing_is_never_replaced_by_another(
    tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_MTL_BUNDLE", str(tmp_path / "gone"))
    assert_failed(edge_mtl("predict", room), 3, "gone")


def test_inspect_lets_no_file_command_the_terminal(own_bundle: Bundle) -> None:
    _manifest(name="\x1b[2J[bold]x\x07", provenance={"dataset": "\x1b]0;title\x07[red]rooms\x9b"})(own_bundle.path)
    outcome = edge_mtl("inspect", own_bundle.path)
    assert outcome.code == 0
    assert "[bold]x" in outcome.out
    assert "[red]rooms" in outcome.out
    assert not set(outcome.out) & {"\x1b", "\x07", "\x9b"}


# Arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", ""],
        ["build-engine", "", "--int8"],
        ["build-engine", "--int8", "--calibration", ""],
        ["benchmark", "--backend="],
    ],
)
def test_an_empty_argument_is_refused_before_it_means_this_folder(arguments: list[str]) -> None:
    assert_failed(edge_mtl(*arguments), 2, "an argument is empty")


@pytest.mark.parametrize("camera", ["1e-300,1e-300,0,0", "1e300,1e300,0,0", "500,500,1e9,0"])
def test_a_camera_beyond_all_reason_is_refused(
    predict: Callable[..., Outcome], room: Path, tmp_path: Path, camera: str
) -> None:
    assert_failed(predict(room, "--intrinsics", camera), 6, "pixels")
    assert not list((tmp_path / "results").glob("*"))


# Engines and backends


@pytest.mark.parametrize("backend", ["tensorflow", "OpenVINO"])
def test_an_unknown_backend_is_refused(backend: str, tiny_bundle: Bundle, room: Path) -> None:
    for arguments in (
        ["predict", room, "--json", "--bundle", tiny_bundle.path],
        ["build-engine", tiny_bundle.path, "--int8"],
        ["benchmark", tiny_bundle.path],
    ):
        assert_failed(edge_mtl(*arguments, "--backend", backend), 2, "onnxruntime", "openvino")


def test_a_precision_that_was_never_built_names_the_command(tiny_bundle: Bundle, room: Path) -> None:
    for arguments in (["predict", room, "--json", "--bundle", tiny_bundle.path], ["benchmark", tiny_bundle.path]):
        assert_failed(edge_mtl(*arguments, "--precision", "int8"), 4, "edge-mtl build-engine", "--int8")


@pytest.mark.parametrize(("tasks", "code"), [("lane", 3), ("depth,lane", 3), ("depth,", 2), (" ", 2)])
def test_a_task_that_the_bundle_does_not_have_is_refused(
    predict: Callable[..., Outcome], room: Path, tmp_path: Path, tasks: str, code: int
) -> None:
    said = ("'lane'", "predicts segmentation, depth, normals") if code == 3 else ("--tasks", "commas between")
    assert_failed(predict(room, "--tasks", tasks), code, *said)
    assert not (tmp_path / "results").exists()


def test_an_altered_engine_is_refused(own_bundle: Bundle, room: Path) -> None:
    assert edge_mtl("build-engine", own_bundle.path, "--fp32", "--backend", "onnxruntime").code == 0
    (engine,) = (own_bundle.path / "engines").glob("*.onnx")
    _flip(engine.name)(engine.parent)
    assert_failed(edge_mtl("predict", room, "--json", "--bundle", own_bundle.path), 3, engine.name, "altered")


def test_a_precision_that_no_runtime_here_has_is_refused(tiny_bundle: Bundle) -> None:
    outcome = edge_mtl("build-engine", tiny_bundle.path, "--bf16", "--backend", "onnxruntime")
    assert outcome.code in (5, 9)
    assert_failed(outcome, outcome.code, "bf16")


def test_doctor_fails_without_any_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "proven", dict)
    assert edge_mtl("doctor").code == 5
    outcome = edge_mtl("doctor", "--json")
    assert outcome.code == 5
    assert outcome.records[0]["usable"] == []
    assert "edge-mtl[cpu]" in outcome.err


def test_doctor_fails_where_a_runtime_adds_integers_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "adds_exactly", lambda runtime, weight=127: runtime != "onnxruntime")
    outcome = edge_mtl("doctor", "--json")
    assert outcome.code == 5
    assert outcome.records[0]["int8_sums"]["onnxruntime"].startswith("wrong even with weights of 7 bits")
    assert "onnxruntime: wrong" in outcome.err
    monkeypatch.setattr(diagnosis, "adds_exactly", lambda runtime, weight=127: weight == 63)
    outcome = edge_mtl("doctor", "--json")
    assert outcome.code == 0
    assert all("8 bits saturate" in said for said in outcome.records[0]["int8_sums"].values())


def test_doctor_refuses_two_distributions_of_one_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert diagnosis.clashing_runtimes() == ("onnxruntime", "onnxruntime-gpu")
    outcome = edge_mtl("doctor")
    assert outcome.code == 5
    assert "overwrite each other" in outcome.err


# Calibration


@pytest.mark.parametrize("content", [{}, {"notes.txt": b"x"}, {"a.png": b"no image", "b.png": b""}])
def test_calibration_without_usable_frames_is_refused(content: dict[str, bytes], own_bundle: Bundle, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for name, payload in content.items():
        (frames / name).write_bytes(payload)
    assert_failed(edge_mtl("build-engine", own_bundle.path, "--int8", "--calibration", frames), 7)
    assert_failed(edge_mtl("build-engine", own_bundle.path, "--int8", "--calibration", tmp_path / "gone"), 7, "gone")
    assert not list(own_bundle.path.glob("engines/*.onnx"))


# The file system


def test_a_full_disk_while_building_leaves_no_engine(own_bundle: Bundle) -> None:
    with full_disk(2000):
        outcome = edge_mtl("build-engine", own_bundle.path, "--fp32", "--backend", "onnxruntime")
    assert_failed(outcome, 9, "engines")
    assert not [path for path in own_bundle.path.glob("engines/*") if path.name != ".lock"]


@pytest.mark.parametrize("kind", ["overlay", "panel", "png", "npz"])
def test_a_full_disk_while_saving_leaves_nothing(
    predict: Callable[..., Outcome], room: Path, tmp_path: Path, kind: str
) -> None:
    with full_disk(400):
        outcome = predict(room, "--files", kind)
    assert_failed(outcome, 74, str(tmp_path / "results" / "room."), "ulimit -f")
    assert list((tmp_path / "results").iterdir()) == []


def test_a_full_disk_while_recording_leaves_no_video(predict: Callable[..., Outcome], tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "tour.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for index in range(6):
        writer.write(make_image(index, height=48, width=64))
    writer.release()
    with full_disk(4000):
        outcome = predict(tmp_path / "tour.mp4")
    assert_failed(outcome, 74, "frames could be written")
    assert list((tmp_path / "results").iterdir()) == []


def test_a_result_folder_that_cannot_be_made_is_named(tiny_bundle: Bundle, room: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_failed(edge_mtl("predict", room, "--bundle", tiny_bundle.path, "--out", tmp_path / "file"), 74, "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_demo_refuses_a_place_it_cannot_write_to_before_it_builds_anything(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("in the way")
    for out, code, words in (
        ("folder.png", 74, "found a folder"),
        ("file/a.png", 74, "file/a.png"),
        ("a.jpg", 2, "ends in .png"),
    ):
        assert_failed(edge_mtl("demo", "--bundle", tiny_bundle.path, "--save", tmp_path / out), code, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]
    assert not (tiny_bundle.path / "engines").exists()


# Bugs and signals


def test_a_bug_is_one_line_unless_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(diagnosis, "diagnose", broken)
    assert_failed(edge_mtl("doctor"), 70, "RuntimeError", "first line second line", "EDGE_MTL_DEBUG")
    monkeypatch.setenv("EDGE_MTL_DEBUG", "1")
    outcome = edge_mtl("doctor")
    assert outcome.code == 70
    assert "Traceback" in outcome.err


def test_too_little_memory_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy() -> None:
        raise MemoryError

    monkeypatch.setattr(diagnosis, "diagnose", greedy)
    assert_failed(edge_mtl("doctor"), 74, "too little memory", "ulimit -v")


def test_a_library_that_fails_without_a_word_is_taken_for_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexplained() -> None:
        raise SystemError("error return without exception set")

    monkeypatch.setattr(diagnosis, "diagnose", unexplained)
    assert_failed(edge_mtl("doctor"), 74, "did not say why (error return without exception set)", "ulimit -v")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_without_standard_streams_works(closed: str, tiny_bundle: Bundle, room: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    words = [sys.executable, "-m", "edge_mtl.cli", "predict", room, "--bundle", tiny_bundle.path, "--out", out]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.iterdir()] == ["room.panel.png"]


def _start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_mtl.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_cleanly(tiny_bundle: Bundle, tmp_path: Path, number: int, code: int) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "tour.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    frame = make_image(1, height=48, width=64)
    for _ in range(2000):
        writer.write(frame)
    writer.release()
    results = tmp_path / "results"
    process = _start("predict", tmp_path / "tour.avi", "--bundle", tiny_bundle.path, "--out", results, "--threads", 1)
    deadline = time.monotonic() + 120
    while not leftovers(tmp_path) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before the signal"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert (out, "Traceback" in err) == ("", False)
    assert list(results.iterdir()) == []


def test_a_reader_that_leaves_before_a_table_is_printed_is_no_drama(tiny_bundle: Bundle) -> None:
    process = _start("inspect", tiny_bundle.path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read().strip()
    assert told in ("", "checking files"), "of the progress of long work at most"
    assert process.wait(timeout=120) == 141
    process.stderr.close()


def test_a_closed_pipe_is_no_drama(tiny_bundle: Bundle, tmp_path: Path) -> None:
    frame = make_image(1, height=32, width=48)
    for index in range(40):
        write_image(tmp_path / f"{index:02d}.png", frame)
    process = _start("predict", tmp_path, "--bundle", tiny_bundle.path, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    # A small pipe: otherwise a slow reader leaves it room for all that the command has to say.
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    assert json.loads(process.stdout.readline())["frame"] == "00"
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
