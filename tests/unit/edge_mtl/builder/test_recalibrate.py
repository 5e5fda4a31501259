"""New calibration on the device: checked, swapped in one step, kept, rolled back; killed at any moment, still usable."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl import Engine, files, unfinished
from edge_mtl.builder import pipeline
from edge_mtl.builder.recalibrate import recalibrate
from edge_mtl.bundle import Bundle, find, new_revision
from edge_mtl.calibration.source import open_calibration_source
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.revision import KEPT_REVISIONS, changing, commit, copy_engines, history, repair, rollback
from edge_mtl.errors import AccuracyError, BundleError, CalibrationError, EdgeMtlError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget
from edge_mtl.quantization.quantize import CPU_MODEL, TENSORRT_MODEL
from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.bundles import write_image
from tests.command_line import assert_failed, edge_mtl
from tests.unit.edge_mtl.calibration.test_sampling import scene

ROOT = Path(__file__).resolve().parents[4]
LOOSE = Budget({"miou": 0.3, "rel": 0.3, "normal": 20, "classes": 0.3, "depth": 0.3, "angle": 20})
LOOSE_TEXT = "miou=0.3,rel=0.3,normal=20,classes=0.3,depth=0.3,angle=20"


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the session's bundle in a folder of its own."""
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "place" / "own"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        write_image(folder / f"{number:02d}.png", scene(number))
    return folder


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)


def run(bundle: Bundle, images: Path, **options: Any) -> Any:
    options = {"budget": LOOSE, "engines": False, "embedding": "colour", "threads": 1, **options}
    return recalibrate(bundle.path, open_calibration_source(images), **options)


def beside(bundle: Bundle) -> list[str]:
    """What lies beside the bundle, without its lock."""
    return sorted(entry.name for entry in bundle.path.parent.iterdir() if not entry.name.endswith(".lock"))


def mark(bundle: Bundle, text: str) -> Bundle:
    """A revision that differs by one file."""
    with changing(bundle.path) as current:

        def change(folder: Path) -> None:
            copy_engines(current, folder)
            (folder / "calibration" / "mark.txt").write_text(text)

        return commit(current, change)


def test_frames_without_truth_are_no_reason_to_refuse_a_calibration_unless_a_budget_was_given(
    own_bundle: Bundle, tmp_path: Path
) -> None:
    dim = tmp_path / "dim"
    dim.mkdir()
    for number in range(10):  # INT8 calibrated with these clips most of what bright frames are
        write_image(dim / f"{number:02d}.png", (90 + 0.15 * scene(number)).astype(np.uint8))

    def without_truth(folder: Path) -> None:
        for path in [*(folder / "evaluation").glob("*.*.png")]:
            path.unlink()

    unlabelled = new_revision(own_bundle, without_truth)
    with pytest.raises(AccuracyError, match=r"model\.int8-cpu\.onnx: segmentation: classes that differ from FP32"):
        run(unlabelled, dim, budget=Budget({"classes": 0.06}))
    assert Bundle.open(unlabelled.path).digest == unlabelled.digest
    done = run(unlabelled, dim, budget=DEFAULT_BUDGET)
    assert done.field.passed
    assert done.labelled is not None
    assert not done.labelled.labelled
    assert not done.labelled.passed
    assert any("loses more than it should, and was kept all the same" in line for line in done.warnings)


def test_a_bundle_is_calibrated_gated_built_and_swapped(own_bundle: Bundle, images: Path) -> None:
    steps: list[str] = []
    done = run(own_bundle, images, engines=True, backend="onnxruntime", progress=lambda name, number, total: steps.append(name))
    bundle = Bundle.open(own_bundle.path)
    bundle.verify()
    assert done.bundle.digest == bundle.digest
    assert (done.previous, bundle.manifest.revision) == (1, 2)
    facts = bundle.manifest.calibration
    assert facts["count"] == len(bundle.list("calibration")) == 8
    assert facts["method"] == "farthest first by colour and gradient"
    assert facts["considered"] == 10
    assert bundle.has(CPU_MODEL)
    assert bundle.has(TENSORRT_MODEL)
    assert set(bundle.manifest.card["verdicts"]) == {CPU_MODEL, TENSORRT_MODEL}
    assert bundle.list("card") == tuple(sorted(item["picture"] for item in bundle.manifest.card["worst"]))
    (record,) = EngineStore(bundle).list()
    assert record.options["calibration"] == facts["digest"]
    with Engine(bundle, precision="int8", threads=1) as engine:
        assert engine.info.revision == 2
    assert done.before.keys() == done.after.keys()
    assert done.field.card["measured"]["frames"] == done.field.card["measured"]["frames"] | {"labelled": False, "count": 2}
    assert {"look", "read", "calibrate", "evaluate", "self-test", "store"} <= set(steps)
    old = Bundle.open(history(bundle.path)[1])
    old.verify()
    assert old.digest == own_bundle.digest
    assert beside(bundle) == ["own", "own.revision-1"]


def test_the_same_frames_give_the_same_graphs(own_bundle: Bundle, images: Path) -> None:
    first = run(own_bundle, images).bundle.manifest
    second = run(own_bundle, images).bundle.manifest
    assert second.revision == 3
    for name in (CPU_MODEL, TENSORRT_MODEL, "calibration/003.jpg"):
        assert first.files[name] == second.files[name]
    assert first.calibration == second.calibration


def test_out_of_budget_nothing_is_changed(own_bundle: Bundle, images: Path) -> None:
    with pytest.raises(AccuracyError, match="segmentation: classes that differ"):
        run(own_bundle, images, budget=Budget({"miou": 1, "rel": 1, "normal": 90, "classes": 0.0001}))
    with pytest.raises(AccuracyError, match="mIoU fell"):
        run(own_bundle, images, budget=Budget({"miou": 0.0001, "rel": 1, "normal": 90, "classes": 1, "depth": 1, "angle": 90}))
    assert Bundle.open(own_bundle.path).digest == own_bundle.digest
    assert beside(own_bundle) == ["own"]


@pytest.mark.parametrize(
    ("names", "words"), [((), "holds no images"), (("black",), "1 black"), (("leak",), "accuracy is measured on")]
)
def test_frames_that_are_of_no_use_change_nothing(
    own_bundle: Bundle, tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in names:
        leaked = cv2.imread(str(own_bundle.path / "evaluation" / "001.png"))[:, :, ::-1]
        write_image(folder / f"{name}.png", {"black": np.zeros((64, 96, 3), np.uint8), "leak": leaked}[name])
    with pytest.raises(CalibrationError, match=words):
        run(own_bundle, folder)
    assert Bundle.open(own_bundle.path).digest == own_bundle.digest
    assert beside(own_bundle) == ["own"]


def test_few_frames_are_used_and_it_is_said_that_none_were_left_to_judge_on(own_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    write_image(tmp_path / "few" / "a.png", scene(1))
    write_image(tmp_path / "few" / "b.png", scene(2))
    done = run(own_bundle, tmp_path / "few")
    assert done.bundle.manifest.calibration["count"] == 2
    assert any("too few frames" in warning for warning in done.warnings)


class TestRevisions:
    """Numbers, what is kept, and the way back."""

    def test_going_back_and_forth(self, own_bundle: Bundle) -> None:
        second = mark(own_bundle, "second")
        assert rollback(own_bundle.path).digest == own_bundle.digest
        assert sorted(history(own_bundle.path)) == [2]
        third = mark(own_bundle, "third")
        assert third.manifest.revision == 3, "numbers are never used twice"
        assert third.manifest.parent == 1
        assert rollback(own_bundle.path).digest == own_bundle.digest, "what the third was made from, not the second"
        assert rollback(own_bundle.path, to=3).digest == third.digest
        assert rollback(own_bundle.path, to=2).digest == second.digest
        assert rollback(own_bundle.path).digest == own_bundle.digest
        assert sorted(history(own_bundle.path)) == [2, 3]
        with pytest.raises(BundleError, match=r"a revision before 1 was expected among those kept; found 2, 3"):
            rollback(own_bundle.path)
        with pytest.raises(BundleError, match="revision 9"):
            rollback(own_bundle.path, to=9)
        Bundle.open(own_bundle.path).verify()

    def test_only_the_newest_revisions_are_kept(self, own_bundle: Bundle) -> None:
        for number in range(KEPT_REVISIONS + 2):
            mark(own_bundle, str(number))
        assert sorted(history(own_bundle.path)) == [3, 4, 5]

    def test_an_altered_revision_is_not_put_back(self, own_bundle: Bundle) -> None:
        second = mark(own_bundle, "second")
        (history(own_bundle.path)[1] / "model.onnx.parts").write_bytes(b"altered")
        with pytest.raises(BundleError, match="was altered"):
            rollback(own_bundle.path)
        assert Bundle.open(own_bundle.path).digest == second.digest

    def test_engines_go_with_their_revision(self, own_bundle: Bundle) -> None:
        pipeline.build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, budget=None)
        (record,) = EngineStore(own_bundle).list()
        second = mark(own_bundle, "same graph")
        assert EngineStore(second).list() == (record,)
        EngineStore(second).load(record)
        assert EngineStore(Bundle.open(history(own_bundle.path)[1])).list() == (record,)

    def test_kept_revisions_are_not_found_as_bundles(self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        mark(own_bundle, "second")
        rollback(own_bundle.path)
        own_bundle.path.parent.rename(own_bundle.path.parent.with_name("bundles"))
        monkeypatch.chdir(own_bundle.path.parent.parent)
        assert find().path.name == "own"

    def test_without_an_exchange_in_one_step_it_still_works(self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "_exchange_in_one_step", lambda first, second: False)
        second = mark(own_bundle, "second")
        assert rollback(own_bundle.path).digest == own_bundle.digest
        assert rollback(own_bundle.path, to=2).digest == second.digest
        assert beside(own_bundle) == ["own", "own.revision-1"]


def test_a_missing_bundle_is_put_back_from_what_a_dead_process_left(own_bundle: Bundle) -> None:
    """Where the file system cannot exchange names: killed between moving the old one away and the new one in."""
    aside = own_bundle.path.parent / f"{TEMPORARY_PREFIX}own.abc"
    aside.mkdir()
    own_bundle.path.rename(aside / "own")
    half = own_bundle.path.parent / f"{TEMPORARY_PREFIX}own.def"
    half.mkdir()
    (half / "model.onnx").write_bytes(b"half")
    repair(own_bundle.path)
    assert Bundle.open(own_bundle.path).digest == own_bundle.digest
    assert beside(own_bundle) == ["own"]


def test_a_damaged_bundle_is_left_alone_by_repair(own_bundle: Bundle) -> None:
    (own_bundle.path / "manifest.json").write_text("{")
    left = own_bundle.path.parent / f"{TEMPORARY_PREFIX}own.abc"
    left.mkdir()
    repair(own_bundle.path)
    assert left.exists(), "it might be all that is left of it"


SCRIPT = """
import os, signal, sys
from pathlib import Path
from edge_mtl import files
from edge_mtl.builder import pipeline, recalibrate
from edge_mtl.engine_store import revision
from edge_mtl.calibration.source import open_calibration_source
from edge_mtl.evaluation.budget import Budget

name, count = sys.argv[3], int(sys.argv[4])
pipeline._ROUNDS = 1
calls = 0

def dying(original, after):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == count and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

def progress(step, done, total):
    if step == name:
        os.kill(os.getpid(), signal.SIGKILL)

if name in ("exchange", "exchange-after"):
    files._exchange_in_one_step = dying(files._exchange_in_one_step, name.endswith("after"))
if name in ("fsync", "replace"):
    setattr(files.os, name, dying(getattr(os, name), False))
loose = Budget({"miou": 0.3, "rel": 0.3, "normal": 20, "classes": 0.3, "depth": 0.3, "angle": 20})
if sys.argv[2] == "rollback":
    revision.rollback(Path(sys.argv[1]))
else:
    source = open_calibration_source(Path(sys.argv[2]))
    recalibrate.recalibrate(
        Path(sys.argv[1]), source, budget=loose, engines=False, embedding="colour", threads=1, progress=progress
    )
"""


def killed(bundle: Bundle, what: str | Path, step: str, count: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(bundle.path), str(what), step, str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("step", "count", "revision"),
    [
        ("evaluate", 0, 1),
        ("fsync", 3, 1),
        ("exchange", 1, 1),
        ("exchange-after", 1, 2),
        ("replace", 2, 2),
    ],
)
def test_killed_at_any_step_the_bundle_is_whole_and_the_next_one_tidies_up(
    own_bundle: Bundle, images: Path, step: str, count: int, revision: int
) -> None:
    if not exchanges(own_bundle.path.parent):
        pytest.skip("this file system cannot exchange two names in one step")
    killed(own_bundle, images, step, count)
    found = Bundle.open(own_bundle.path)
    found.verify()
    assert found.manifest.revision == revision
    with Engine(found, precision="fp32", backend="onnxruntime", threads=1) as engine:
        assert engine.info.revision == revision
    with changing(own_bundle.path) as current:  # repairs
        assert current.digest == found.digest
    assert beside(own_bundle) == (["own"] if revision == 1 else ["own", "own.revision-1"])
    if revision == 2:
        assert rollback(own_bundle.path).digest == own_bundle.digest


@pytest.mark.parametrize(("step", "revision"), [("exchange", 2), ("exchange-after", 1)])
def test_a_rollback_that_is_killed_leaves_either_revision_and_loses_none(own_bundle: Bundle, step: str, revision: int) -> None:
    if not exchanges(own_bundle.path.parent):
        pytest.skip("this file system cannot exchange two names in one step")
    second = mark(own_bundle, "second")
    killed(own_bundle, "rollback", step, 1)
    found = Bundle.open(own_bundle.path)
    found.verify()
    assert found.manifest.revision == revision
    with changing(own_bundle.path):
        pass
    assert {found.digest, *(Bundle.open(path).digest for path in history(own_bundle.path).values())} == {
        own_bundle.digest,
        second.digest,
    }
    assert sorted(history(own_bundle.path)) == [3 - revision]


def exchanges(folder: Path) -> bool:
    """Whether the file system of `folder` can exchange two names in one step."""
    first, second = folder / "first", folder / "second"
    first.mkdir()
    second.mkdir()
    try:
        return files._exchange_in_one_step(first, second)
    finally:
        first.rmdir()
        second.rmdir()


def test_the_control_an_in_place_writer_is_caught_half_way(own_bundle: Bundle) -> None:
    """What the tests above would see if files were written into the bundle itself."""
    (own_bundle.path / "calibration" / "000.png").write_bytes(b"new")
    with pytest.raises(BundleError, match="was altered"):
        Bundle.open(own_bundle.path).verify()


@pytest.mark.parametrize("call", ["fsync", "mkdtemp", "write"])
def test_a_full_disk_is_a_typed_error_and_changes_nothing(
    own_bundle: Bundle, images: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object, **options: object) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(files.os, "fsync", full)
        elif call == "mkdtemp":
            patch.setattr(unfinished.tempfile, "mkdtemp", full)
        else:
            patch.setattr(Path, "write_bytes", full)
        with pytest.raises(EdgeMtlError):
            run(own_bundle, images)
    assert Bundle.open(own_bundle.path).digest == own_bundle.digest
    own_bundle.verify()
    assert beside(own_bundle) == ["own"]


class TestCommands:
    """`edge-mtl calibrate`, with engines and without."""

    def test_calibrate_with_engines_and_back(self, own_bundle: Bundle, images: Path) -> None:
        common = ("--embedding", "colour", "--threads", 1, "--max-drop", LOOSE_TEXT)
        outcome = edge_mtl("calibrate", images, "--bundle", own_bundle.path, "--engines", "--backend", "onnxruntime", *common)
        assert outcome.code == 0, outcome.err
        for words in (
            "8 of 10 frames",
            "within budget",
            "Agreement with FP32 on 2 frames",
            "before",
            "revision 2",
            "--rollback --to 1",
        ):
            assert words in outcome.out
        (record,) = edge_mtl("calibrate", "--bundle", own_bundle.path, "--rollback", "--json").records
        assert record["revision"] == 1
        assert Bundle.open(own_bundle.path).digest == own_bundle.digest

    def test_calibrate_only_writes_images_when_asked(self, own_bundle: Bundle, images: Path, tmp_path: Path) -> None:
        chosen = ("calibrate", images, "--bundle", own_bundle.path, "--embedding", "colour", "--count", 4)
        (record,) = edge_mtl(*chosen, "--out", tmp_path / "chosen", "--json").records
        assert record["calibration"]["count"] == 4
        assert len(list((tmp_path / "chosen").iterdir())) == 4
        assert Bundle.open(own_bundle.path).digest == own_bundle.digest
        assert_failed(edge_mtl(*chosen, "--out", tmp_path / "chosen"), 9, "exists already")

    def test_calibrate_makes_a_revision_without_engines(self, own_bundle: Bundle, images: Path) -> None:
        common = ("--embedding", "colour", "--threads", 1, "--max-drop", LOOSE_TEXT, "--json")
        (record,) = edge_mtl("calibrate", images, "--bundle", own_bundle.path, *common).records
        assert (record["revision"], record["previous"], record["engine"]) == (2, 1, None)
        assert record["calibration"]["digest"] == Bundle.open(own_bundle.path).manifest.calibration["digest"]

    def test_any_loss_is_taken_with_a_warning_where_that_is_asked_for(
        self, own_bundle: Bundle, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hard = Budget({"miou": 0.0, "rel": 0.0, "normal": 0.0, "classes": 0.0, "depth": 0.0, "angle": 0.0})
        monkeypatch.setattr("edge_mtl.builder.recalibrate.DEFAULT_BUDGET", hard)
        common = ("--embedding", "colour", "--threads", 1, "--backend", "onnxruntime", "--max-drop", "none")
        outcome = edge_mtl("calibrate", images, "--bundle", own_bundle.path, "--engines", *common)
        assert outcome.code == 0, outcome.err
        assert "loses more than it should, and was kept all the same" in outcome.err
        assert Bundle.open(own_bundle.path).manifest.revision == 2

    def test_the_bundles_own_recipe_says_how_many_frames_are_only_looked_at(
        self, own_bundle: Bundle, images: Path, tmp_path: Path
    ) -> None:
        def change(folder: Path) -> None:
            (folder / "recipe.toml").write_text('name = "few"\n[calibration]\nframes = 3\n')

        new_revision(own_bundle, change)
        chosen = ("calibrate", images, "--bundle", own_bundle.path, "--embedding", "colour", "--out", tmp_path / "chosen")
        (record,) = edge_mtl(*chosen, "--json").records
        assert record["calibration"]["count"] == 3

    def test_a_runtime_that_is_not_here_is_refused_before_a_frame_is_looked_at(
        self, own_bundle: Bundle, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge_mtl.builder.recalibrate.choose_frames", lambda *a, **k: pytest.fail("frames were looked at"))
        done = edge_mtl("calibrate", images, "--bundle", own_bundle.path, "--engines", "--backend", "onnxruntime-cuda")
        assert_failed(done, 5, "onnxruntime-gpu")

    def test_failures_have_their_exit_codes(self, own_bundle: Bundle, images: Path, tmp_path: Path) -> None:
        calibration = ("calibrate", "--bundle", own_bundle.path, "--engines")
        assert_failed(edge_mtl(*calibration), 2, "expected SOURCE", "found neither")
        assert_failed(edge_mtl(*calibration, images, "--rollback"), 2, "found both")
        assert_failed(edge_mtl(*calibration, images, "--max-drop", "iou=1"), 2, "miou")
        assert_failed(edge_mtl(*calibration, images, "--embedding", "taste"), 2, "network, colour")
        assert_failed(edge_mtl("calibrate", "--bundle", own_bundle.path, "--rollback"), 3, "a revision before 1")
        assert_failed(edge_mtl(*calibration, tmp_path / "nowhere"), 7, "does not exist")
        assert_failed(edge_mtl(*calibration, "camera:0"), 7, "does not exist")
        bag = tmp_path / "tour.bag"
        bag.write_bytes(b"no bag")
        assert_failed(edge_mtl(*calibration, bag), 7, "not a readable ROS bag")
        strict = ("--embedding", "colour", "--threads", 1, "--max-drop", "classes=0.0001")
        assert_failed(edge_mtl(*calibration, images, *strict), 8, "Out of budget", "segmentation")
        assert beside(own_bundle) == ["own"]
