"""The script as a person runs it: labels a folder, is killed and goes on, is removed; and training reads what it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pseudo_label as script
import pytest
from mtl.pseudo_labels.records import RECORDS, Records

from edge_mtl.backends import available
from edge_mtl.bundle import Bundle
from tests.bundles import HEIGHT, WIDTH, canonical_intrinsics
from tests.pseudo_folders import painted_bundle, write_images

REPOSITORY = Path(__file__).parents[2]
CAMERA = ",".join(map(str, canonical_intrinsics()))
STATED = ("--licence", "made for this test", "--not-redistributable", "--camera", CAMERA, "--camera-size", f"{HEIGHT}x{WIDTH}")
TRUST = ("--confidence", "0", "--geometry-confidence", "0", "--threads", "1")

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return painted_bundle(tmp_path_factory.mktemp("bundle") / "painted")


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")}


def run(*arguments: object) -> int:
    return script.main([str(one) for one in arguments])


def test_a_folder_is_labelled_shown_and_cleared(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_images(tmp_path / "data", "a", "deep/b")
    before = files(root)
    command = (root, "--bundle", bundle.path, *TRUST)
    assert run(*command, *STATED, "--json", "--preview", 1, "--out", tmp_path / "look") == 0
    told = json.loads(capsys.readouterr().out)
    assert {task: row["labelled_now"] for task, row in told["tasks"].items()} == {"segmentation": 2, "depth": 2, "normals": 2}
    assert files(tmp_path / "look") == {"a.png"}
    labels = {f"{folder}/{stem}.png" for folder in ("masks", "depth", "normals") for stem in ("a", "deep/b")}
    assert files(root) == before | labels | {"dataset.toml", RECORDS}

    assert run(*command, "--tasks", "depth") == 0
    shown = capsys.readouterr().out
    assert "depth" in shown
    assert "segmentation" not in shown.replace("pseudo-labels of", "")

    assert run(root, "--remove", "--tasks", "depth,normals") == 0
    assert "depth: 2 pseudo-labels deleted" in capsys.readouterr().out
    assert run(root, "--remove") == 0
    assert files(root) == before | {"dataset.toml"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--tasks", "lane", *STATED), 9, "no task 'lane'; it predicts segmentation, depth, normals"),
        ((*STATED[:-4], "--camera", "1,2,3"), 9, "a camera is fx,fy,cx,cy"),
        (STATED[:2], 9, "--not-redistributable"),
        ((*STATED, "--precision", "int8"), 4, "int8"),
        (("--remove",), 9, "has no pseudo-labels of any task"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    root = write_images(tmp_path / "data", "a")
    before = files(root)
    assert run(root, "--bundle", bundle.path, *arguments) == code
    told = capsys.readouterr().err
    (line,) = [line for line in told.splitlines() if line.startswith("pseudo_label: ")]
    assert words in line
    assert files(root) == before


@pytest.mark.parametrize(
    "arguments", [("--confidence", "1.1"), ("--normals-mirror", "x"), ("--limit", "0"), ("--tasks", "a,,b")]
)
def test_options_out_of_range_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *arguments)
    assert caught.value.code == 2


def test_on_a_terminal_what_is_missing_is_asked_for(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["", "", "CC BY 4.0", "perhaps", "y"])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    root = write_images(tmp_path / "data", "a")
    assert run(root, "--bundle", bundle.path, *TRUST, "--tasks", "segmentation") == 0
    text = (root / "dataset.toml").read_text()
    assert 'title = "data"\nlicence = "CC BY 4.0"\nredistributable = true\n' in text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_leaves_no_label_that_looks_like_a_persons(
    bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    root = write_images(tmp_path / "data", *(f"{index:03d}" for index in range(150)), depth_m=1.0)
    command: list[Any] = [
        sys.executable,
        REPOSITORY / "train" / "pseudo_label.py",
        root,
        "--bundle",
        bundle.path,
        *TRUST,
        *STATED,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while len(list(root.glob("normals/*.png"))) < 5 and started.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    started.send_signal(number)
    _, told = started.communicate(timeout=60)
    assert started.returncode == (-number if number == signal.SIGKILL else 130), told
    there = {
        task: len(list(root.glob(f"{folder}/*.png")))
        for task, folder in (("segmentation", "masks"), ("depth", "depth"), ("normals", "normals"))
    }
    assert 0 < there["normals"] < 150
    records = Records.open(root)
    assert {task: len(entries) for task, entries in records.entries.items()} == there
    if number == signal.SIGINT:
        assert (root / RECORDS).exists()
        assert len(set(there.values())) == 1
        assert "run the same command again to go on" in told

    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for task, row in json.loads(done.stdout)["tasks"].items():
        assert (row["labelled_before"], row["labelled_now"], row["left_alone"]) == (there[task], 150 - there[task], 0)


@pytest.mark.training
def test_training_runs_on_pseudo_labels_and_its_bundle_says_so(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mtl.bundling import export_bundle
    from mtl.run import Run

    from tests.own_settings import own_settings
    from tests.tiny_training import quiet

    root = write_images(tmp_path / "data", *(f"{index:03d}" for index in range(24)), depth_m=1.0)
    assert run(root, "--bundle", bundle.path, *TRUST, *STATED) == 0
    settings = own_settings(root, tmp_path / "runs")
    checkpoint = Run(settings, console=quiet()).train()
    lines = (tmp_path / "runs" / "own" / "metrics.jsonl").read_text().splitlines()
    record = [one for one in map(json.loads, lines) if one["kind"] == "validation"][-1]
    assert {"miou", "depth_rel", "normal_mean_deg"} <= set(record)
    assert set(record["losses"]) == {"segmentation", "depth", "normals"}

    made = export_bundle(checkpoint, tmp_path / "student", console=quiet(), command="a test")
    (trained_on,) = made.manifest.provenance["data_sets"]
    found = trained_on["pseudo_labels"]
    assert found["bundles"] == [f"tiny ({bundle.digest[:12]})"]
    assert found["frames"] == {"segmentation": 24, "depth": 24, "normals": 24}
    assert 0 < found["held_out"]["depth"] < 24
