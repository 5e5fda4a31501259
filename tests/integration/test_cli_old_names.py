"""Commands and flags of 0.1: hidden, they do the same, say the new form once on standard error, and go away in 0.3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edge_mtl as package
from edge_mtl.bundle import Bundle
from edge_mtl.cli.renamed import REMOVED_IN
from tests.bundles import make_image, write_image
from tests.command_line import Outcome, assert_failed, edge_mtl
from tests.documents import COMMANDS, DOCUMENTS, ROOT, SOURCES, options, texts

OLD_COMMANDS = ("infer", "view", "run-bag", "recalibrate")
OLD_FLAGS = (("benchmark", "--out"), ("demo", "--out"), ("profile", "--out"))
ONNX = ("--backend", "onnxruntime", "--precision", "fp32", "--threads", 1)


def said_once(outcome: Outcome, *words: str) -> None:
    """One line of standard error names the new form."""
    lines = [line for line in outcome.err.splitlines() if line.endswith("; the old name goes away in 0.3")]
    assert len(lines) == 1, outcome.err
    for word in words:
        assert word in lines[0]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(2):
        write_image(folder / f"{index}.png", make_image(index, height=48, width=72))
    return folder


def test_old_names_are_gone_in_the_version_that_was_promised() -> None:
    version = tuple(int(part) for part in package.__version__.split(".")[:2])
    if version >= tuple(int(part) for part in REMOVED_IN.split(".")):
        pytest.fail(
            f"version {package.__version__} still answers to old names: remove edge_mtl/cli/old_commands.py and renamed.py"
        )


def test_every_old_name_is_hidden_and_tested_here() -> None:
    assert sorted(name for name, command in COMMANDS.items() if command.hidden) == sorted(OLD_COMMANDS)
    flags = [(name, flag) for name in COMMANDS for flag, option in options(name).items() if getattr(option, "hidden", False)]
    assert sorted(flags) == sorted(OLD_FLAGS)
    listed = edge_mtl("--help").out.split("Commands:")[1].split("Examples:")[0]
    assert not {line.split()[0] for line in listed.splitlines() if line.strip()} & set(OLD_COMMANDS)


def test_only_what_tells_of_the_past_names_an_old_command() -> None:
    past = {"CHANGELOG.md", "docs/guides/migrating.md", "docs/lab-log.md", "edge_mtl/cli/old_commands.py"}
    for path in [*DOCUMENTS, *SOURCES]:
        name = path.relative_to(ROOT).as_posix()
        if name in past:
            continue
        for text in texts(path):
            for old in OLD_COMMANDS:
                assert f"edge-mtl {old}" not in text, f"{name}: {old}"


def test_infer_writes_what_predict_writes(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    common = (images, "--bundle", tiny_bundle.path, *ONNX)
    old = edge_mtl("infer", *common, "--save", "png,npz", "--out", tmp_path / "old")
    new = edge_mtl("predict", *common, "--files", "png,npz", "--out", tmp_path / "new")
    assert (old.code, new.code) == (0, 0)
    said_once(old, "edge-mtl infer", "edge-mtl predict --files png,npz")
    assert "old name" not in new.err
    written = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    assert len(written) == 10
    assert written.keys() == {path.name for path in (tmp_path / "new").iterdir()}
    for path in (tmp_path / "new").glob("*.png"):
        assert written[path.name] == path.read_bytes()


def test_infer_with_json_saves_nothing(
    tiny_bundle: Bundle, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edge_mtl("infer", images, "--bundle", tiny_bundle.path, "--json", *ONNX)
    assert [record["frame"] for record in done.records] == ["0", "1"]
    said_once(done, "edge-mtl predict")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert_failed(edge_mtl("infer", images, "--save", "jpeg"), 2, "--save expects any of", "jpeg")


def test_view_records_and_sums_up(tiny_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs rerun-sdk: pip install -e '.[view]'")
    out = tmp_path / "tour.rrd"
    done = edge_mtl("view", images, "--bundle", tiny_bundle.path, "--save", out, "--json", *ONNX)
    said_once(done, "edge-mtl view", f"edge-mtl predict --save {out}")
    (record,) = done.records
    assert (record["frames"], record["skipped"], record["saved"]) == (2, 0, str(out))
    assert record["ms_per_frame"] > 0
    assert out.is_file()
    assert_failed(edge_mtl("view", images, "--save", "tour.mp4"), 2, ".rrd")


def test_run_bag_writes_the_bag_that_predict_writes(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag_files = pytest.importorskip("tests.bag_files", reason="needs rosbags")
    bag = bag_files.write_bag(tmp_path / "tour", [make_image(index) for index in range(3)], focal=120.0)
    common = ("--bundle", tiny_bundle.path, *ONNX)
    old = edge_mtl("run-bag", bag, *common, "--json")
    said_once(old, "edge-mtl run-bag", "edge-mtl predict")
    record = json.loads(old.out)
    assert (record["bag"], record["topic"]) == (str(tmp_path / "tour-maps"), bag_files.IMAGE_TOPIC)
    assert (record["frames"], record["skipped"], record["frames_with_metric_depth"]) == (3, 0, 3)
    assert edge_mtl("predict", bag, *common, "--out", tmp_path / "new").code == 0
    assert bag_files.read_bag(tmp_path / "tour-maps") == bag_files.read_bag(tmp_path / "new")


def test_recalibrate_checks_what_it_always_checked(own_bundle: Bundle, images: Path, tmp_path: Path) -> None:
    old = ("recalibrate", own_bundle.path)
    assert_failed(edge_mtl(*old), 2, "--bag", "found 0")
    assert_failed(edge_mtl(*old, "--folder", images, "--rollback"), 2, "found both")
    assert_failed(edge_mtl(*old, "--bag", images), 2, "--bag was given", "is for --folder")
    done = edge_mtl(*old, "--rollback")
    assert_failed(done, 3, "a revision before 1")
    said_once(done, "edge-mtl recalibrate", f"edge-mtl calibrate --bundle {own_bundle.path} --rollback")
    done = edge_mtl(*old, "--folder", tmp_path / "nowhere")
    assert_failed(done, 7, "does not exist")
    said_once(done, f"edge-mtl calibrate {tmp_path / 'nowhere'} --bundle {own_bundle.path} --engines")


def test_recalibrate_builds_engines_and_swaps(own_bundle: Bundle, tmp_path: Path) -> None:
    images = tmp_path / "many"
    images.mkdir()
    for index in range(6):
        write_image(images / f"{index}.png", make_image(40 + index, height=64, width=96))
    common = ("--embedding", "colour", "--threads", 1, "--max-drop", "none", "--backend", "onnxruntime", "--json")
    done = edge_mtl("recalibrate", own_bundle.path, "--folder", images, *common)
    assert done.code == 0, done.err
    (record,) = done.records
    assert (record["revision"], record["previous"]) == (2, 1)
    assert record["engine"]["precision"] == "int8"


def test_a_file_that_was_called_out_is_written(tiny_bundle: Bundle, tmp_path: Path) -> None:
    profile = edge_mtl("profile", tiny_bundle.path, *ONNX, "--rounds", 2, "--out", tmp_path / "profile.json")
    said_once(profile, f"--out {tmp_path / 'profile.json'}", f"--save {tmp_path / 'profile.json'}")
    assert json.loads((tmp_path / "profile.json").read_text())["kind"] == "edge-mtl profile"
    benchmark = edge_mtl(
        "benchmark", tiny_bundle.path, *ONNX[:4], "--threads", 1, "--rounds", 2, "--out", tmp_path / "card.json"
    )
    said_once(benchmark, f"--save {tmp_path / 'card.json'}")
    assert json.loads((tmp_path / "card.json").read_text())["kind"] == "edge-mtl benchmark"
    demo = edge_mtl("demo", "--bundle", tmp_path / "no-bundle", "--out", tmp_path / "demo.png")
    said_once(demo, f"--save {tmp_path / 'demo.png'}")
    assert demo.code == 3
