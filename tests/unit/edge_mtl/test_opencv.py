"""What is said where OpenCV is missing, broken, too old or installed twice. Environments are folders of links: no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_mtl import opencv
from edge_mtl.bundle import Bundle
from edge_mtl.cli import app
from edge_mtl.errors import BackendUnavailable
from tests.command_line import assert_failed, edge_mtl
from tests.site_folders import OPENCV, ROOT, SiteFolder

NAMES = ("copyMakeBorder", "cvtColor", "imdecode", "imencode", "imread", "resize", "setNumThreads", "getNumThreads")
WHOLE = "\n".join(['__version__ = "4.9.0"', *(f"def {name}(*_): return 3" for name in NAMES)]) + "\n"
RECORD = ("cv2/__init__.py",)
ENGINE = "from edge_mtl.errors import BackendUnavailable\ntry:\n    {}\nexcept BackendUnavailable as exc: print(exc)"


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    """An environment like this one, without OpenCV."""
    return SiteFolder(tmp_path / "site", without=OPENCV)


def said_by_engine(site: SiteFolder, statement: str = "from edge_mtl import Engine; Engine()") -> str:
    """The message of the typed error that a program gets."""
    done = site.run("-c", ENGINE.format(statement))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def doctor(site: SiteFolder) -> tuple[dict, subprocess.CompletedProcess[str]]:
    """What `edge-mtl doctor --json` found of OpenCV, and how it ended."""
    done = site.edge_mtl("doctor", "--json")
    return json.loads(done.stdout)["opencv"], done


# One cause after the other: the same words for a program and from doctor, exit code 5, the command that repairs it


@pytest.mark.parametrize(
    "statement",
    [
        "from edge_mtl import Engine; Engine()",
        "from edge_mtl.engine import Engine",
        "from edge_mtl import Prediction",
        "import edge_mtl; edge_mtl.Timing",
        "from edge_mtl.image.geometry import points_of_depth",
    ],
)
def test_without_opencv_a_program_is_told_what_to_install(site: SiteFolder, statement: str) -> None:
    said = said_by_engine(site, statement)
    assert "OpenCV (the module cv2) is not installed" in said
    assert 'pip install "edge-mtl[headless]"' in said
    assert "edge-mtl[gui]" in said


def test_doctor_runs_without_opencv_and_ends_with_the_repair(site: SiteFolder) -> None:
    found, done = doctor(site)
    assert done.returncode == 5
    assert (found["version"], found["distributions"], found["threads"]) == ("", [], None)
    assert found["problem"] in done.stderr
    assert 'pip install "edge-mtl[headless]"' in done.stderr
    shown = site.edge_mtl("doctor")
    assert shown.returncode == 5
    assert "OpenCV" in shown.stdout
    assert "onnxruntime" in shown.stdout


def test_a_record_without_its_module_is_installed_once_more(site: SiteFolder) -> None:
    site.add_record("opencv-python-headless", "4.9.0.80", RECORD)
    said = said_by_engine(site)
    assert "opencv-python-headless is installed, but its module cv2 is gone" in said
    assert "pip install --force-reinstall --no-deps opencv-python-headless" in said
    assert doctor(site)[1].returncode == 5


def test_an_empty_folder_left_by_an_uninstallation_is_no_opencv(site: SiteFolder) -> None:
    (site.path / "cv2" / "__pycache__").mkdir(parents=True)
    site.add_record("opencv-python", "4.9.0.80", RECORD)
    said = said_by_engine(site)
    assert f"{site.path / 'cv2'} is a folder without OpenCV's module" in said
    assert "pip install --force-reinstall --no-deps opencv-python" in said
    found, done = doctor(site)
    assert done.returncode == 5
    assert found["problem"] == said.strip()


def test_a_missing_library_of_windows_is_repaired_by_the_package_without_them(site: SiteFolder) -> None:
    missing = "libGL.so.1: cannot open shared object file: No such file or directory"
    site.add_module("cv2", f"raise ImportError({missing!r})\n")
    site.add_record("opencv-contrib-python", "4.9.0.80", RECORD)
    said = said_by_engine(site)
    assert "opencv-contrib-python needs the library libGL.so.1" in said
    assert "pip uninstall -y opencv-contrib-python && pip install opencv-contrib-python-headless" in said
    assert "libgl1" in said


def test_an_opencv_for_another_numpy_is_told_as_that(site: SiteFolder) -> None:
    site.add_module("cv2", 'raise ImportError("numpy.core.multiarray failed to import")\n')
    said = said_by_engine(site)
    assert "compiled for another NumPy" in said
    assert 'pip install "edge-mtl[headless]"' in said
    assert '"numpy<2"' in said


@pytest.mark.parametrize("raised", ["AttributeError(\"module 'cv2.dnn' has no attribute 'DictValue'\")", "SystemError()"])
def test_an_opencv_that_fails_in_its_own_way_is_told_with_what_it_said(site: SiteFolder, raised: str) -> None:
    site.add_module("cv2", f"raise {raised}\n")
    site.add_record("opencv-python", "4.9.0.80", RECORD)
    site.add_record("opencv-python-headless", "5.0.0.93", RECORD)
    said = said_by_engine(site)
    assert raised.split("(")[0] in said
    assert 'pip uninstall -y opencv-python opencv-python-headless && pip install "edge-mtl[headless]"' in said


def test_a_module_of_another_kind_named_cv2_is_refused(site: SiteFolder) -> None:
    site.add_module("cv2", WHOLE.replace("def imread", "def imwrong"))
    said = said_by_engine(site)
    assert f"{site.path / 'cv2'} lacks imread:" in said
    assert 'pip install "edge-mtl[headless]"' in said


def test_an_old_opencv_is_refused_with_the_version_that_is_needed(site: SiteFolder) -> None:
    site.add_module("cv2", WHOLE.replace("4.9.0", "4.5.4"))
    assert "OpenCV should be 4.6 or later; found 4.5.4" in said_by_engine(site)
    site.add_record("opencv-python", "4.5.4.60", RECORD)
    assert said_by_engine(site).strip().endswith("Run: pip install --upgrade opencv-python")


@pytest.mark.parametrize("version", ["4.6.0", "4.10.0-dev", "5.0.0"])
def test_versions_are_compared_as_numbers(site: SiteFolder, version: str) -> None:
    site.add_module("cv2", WHOLE.replace("4.9.0", version))
    assert said_by_engine(site, "from edge_mtl.opencv import require; print(require().__version__)") == f"{version}\n"


# What doctor says of one that works


def test_doctor_names_the_package_that_opencv_comes_from(site: SiteFolder) -> None:
    site.add_module("cv2", WHOLE)
    site.add_record("opencv-contrib-python", "4.9.0.80", RECORD)
    found, done = doctor(site)
    assert done.returncode == 0, done.stderr
    assert (found["version"], found["distributions"], found["clash"]) == ("4.9.0", ["opencv-contrib-python"], [])
    assert found["threads"] == 3
    assert "opencv-contrib-python" in site.edge_mtl("doctor").stdout


def test_doctor_takes_an_opencv_without_a_record_for_the_systems(site: SiteFolder, tmp_path: Path) -> None:
    system = SiteFolder(tmp_path / "dist-packages", without=("*",))
    system.add_module("cv2", WHOLE)
    paths = os.pathsep.join(map(str, (site.path, system.path, ROOT)))
    done = site.run("-m", "edge_mtl.cli", "doctor", "--json", PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["opencv"]
    assert (found["folder"], found["distributions"], found["problem"]) == (str(system.path / "cv2"), [], None)


def test_doctor_refuses_two_packages_that_share_their_files(site: SiteFolder) -> None:
    site.add_module("cv2", WHOLE)
    site.add_record("opencv-python", "4.9.0.80", RECORD)
    site.add_record("opencv-python-headless", "4.9.0.80", RECORD)
    found, done = doctor(site)
    assert done.returncode == 5
    assert found["clash"] == ["opencv-python", "opencv-python-headless"]
    assert "overwrite each other's files" in done.stderr
    assert 'pip uninstall -y opencv-python opencv-python-headless && pip install "edge-mtl[headless]"' in done.stderr
    assert said_by_engine(site, "from edge_mtl import Engine; print('imported')") == "imported\n"


def test_names_that_conda_writes_for_one_opencv_are_no_clash(site: SiteFolder) -> None:
    site.add_module("cv2", WHOLE)
    for name in ("opencv-python", "opencv-python-headless"):
        site.add_record(name, "4.9.0", ())
    found, done = doctor(site)
    assert (done.returncode, found["clash"], found["problem"]) == (0, [], None), done.stderr


# Every way in


ARGUMENTS = {
    "benchmark": [],
    "build-engine": ["--int8"],
    "calibrate": ["pictures"],
    "demo": [],
    "infer": ["room.jpg"],
    "predict": ["room.jpg"],
    "profile": [],
    "recalibrate": ["--folder", "pictures"],
    "run-bag": ["bag"],
    "scale": ["room.jpg", "--point", "1,1=2", "--along", "z"],
    "sensitivity": [],
    "verify": [],
    "view": ["room.jpg"],
}
WITHOUT = ("compare", "doctor", "engines", "export", "inspect", "sign")


def test_every_command_is_known_to_need_opencv_or_not_to() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names == {*ARGUMENTS, *WITHOUT}


@pytest.mark.parametrize("command", sorted(ARGUMENTS))
def test_a_command_that_needs_opencv_says_so_in_one_line(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert_failed(edge_mtl(command, *ARGUMENTS[command]), 5, "cv2", "pip install")


@pytest.mark.parametrize("command", sorted({*ARGUMENTS, *WITHOUT}))
def test_every_command_explains_itself_without_opencv(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    outcome = edge_mtl(command, "--help")
    assert outcome.code == 0
    assert command in outcome.out


def test_commands_that_draw_and_predict_nothing_run_without_opencv(
    site: SiteFolder, own_bundle: Bundle, tmp_path: Path
) -> None:
    bundle = str(own_bundle.path)
    for arguments in (["inspect", bundle], ["engines", bundle], ["export", bundle, "--onnx", str(tmp_path / "plain.onnx")]):
        done = site.edge_mtl(*arguments)
        assert done.returncode == 0, done.stderr
    (tmp_path / "no-benchmark.json").write_text("{}")
    done = site.edge_mtl("compare", str(tmp_path / "no-benchmark.json"), str(tmp_path / "no-benchmark.json"))
    assert "cv2" not in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["train/train.py"],
        ["train/evaluate.py", "bundle"],
        ["train/study.py", "study.toml"],
        ["train/export.py", "best.safetensors"],
        ["train/make_rooms.py"],
        ["train/make_streets.py"],
        ["train/outdoors.py", "study.toml"],
        ["train/prepare_nyuv2.py", "adopt", "folder"],
        ["train/validate_dataset.py", "folder"],
        ["train/pseudo_label.py", "folder", "--bundle", "bundle"],
        ["train/import_checkpoint.py", "weights.pth", "--out", "runs/one"],
        ["train/make_teacher.py", "net.tflite", "teacher.onnx"],
        ["train/add_head.py", "bundles/mine", "--task", "objects", "--kind", "boxes"],
        ["calibration/calibrate.py", "--config", "config.toml", "--bundle", "bundle"],
        ["calibration/sensitivity.py"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_script_says_in_one_line_that_opencv_is_missing(site: SiteFolder, arguments: list[str]) -> None:
    done = site.run(str(ROOT / arguments[0]), *arguments[1:])
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert 'pip install "edge-mtl[headless]"' in done.stderr


def test_every_script_of_training_is_asked() -> None:
    (mark,) = test_a_script_says_in_one_line_that_opencv_is_missing.pytestmark
    asked = {arguments[0] for arguments in mark.args[1]}
    assert {f"train/{path.name}" for path in (ROOT / "train").glob("*.py")} <= asked


def test_the_opencv_of_this_environment_is_usable() -> None:
    found = opencv.installed()
    assert found.problem is None
    assert opencv.require().imread is not None


def test_the_check_is_made_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    opencv.require()
    monkeypatch.delattr("cv2.imread")
    with pytest.raises(BackendUnavailable, match="lacks imread"):
        opencv.require()
