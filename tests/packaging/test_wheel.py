"""The wheel as a user meets it: installed from its file into an empty environment, run from an empty folder.

pip downloads the dependencies, so this runs only when asked to: `make test-wheel`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.distributions import ROOT, build, copy_of_checkout

ASKED = "EDGE_MTL_INSTALL"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ASKED not in os.environ, reason="installs packages from the index: make test-wheel"),
]
PREDICT = """
import json, sys
import cv2
import edge_mtl
from edge_mtl import Engine
with Engine() as engine:
    frame = cv2.imread(sys.argv[1])
    prediction = engine.predict(frame, channels="bgr")
    print(json.dumps([edge_mtl.__file__, frame.shape[:2], engine.info.precision, *(
        list(getattr(prediction, name).shape) for name in ("segmentation", "depth", "normals"))]))
"""


class Installed:
    """An environment that holds the wheel and the extra demo."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.wheel = wheel
        self.empty = folder / "empty"
        self.empty.mkdir()
        self._cache = folder / "cache"
        self._bin = folder / "venv" / "bin"
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        done = self.run("python", "-m", "pip", "install", "--quiet", f"edge-mtl[demo] @ {wheel.as_uri()}", timeout_s=1200)
        assert done.returncode == 0, done.stderr[-3000:]

    def run(self, program: str, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """A program of the environment, without the checkout in sight."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGE_MTL"))}
        environment |= {"XDG_CACHE_HOME": str(self._cache), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        return subprocess.run(
            [str(self._bin / program), *arguments],
            cwd=self.empty,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("distributions")
    return build(copy_of_checkout(folder / "checkout"), folder / "out")


@pytest.fixture(scope="module")
def installed(distributions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), distributions["whl"])


def test_what_is_installed_fits_together(installed: Installed) -> None:
    done = installed.run("python", "-m", "pip", "check")
    assert done.returncode == 0, done.stdout


def test_doctor_finds_the_runtimes_one_opencv_and_the_demo_bundle(installed: Installed) -> None:
    done = installed.run("edge-mtl", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"onnxruntime", "openvino"} <= set(found["usable"])
    assert (found["opencv"]["distributions"], found["opencv"]["problem"]) == (["opencv-python-headless"], None)
    assert found["demo_bundle"]["present"]


def test_the_demo_draws_and_the_engine_that_it_built_predicts(installed: Installed) -> None:
    done = installed.run("edge-mtl", "demo", "--save", "demo.png", timeout_s=900)
    assert done.returncode == 0, done.stderr
    image = installed.empty / "demo.png"
    assert image.read_bytes().startswith(b"\x89PNG")
    done = installed.run("python", "-c", PREDICT, str(image))
    assert done.returncode == 0, done.stderr
    file, (height, width), precision, *shapes = json.loads(done.stdout.splitlines()[-1])
    assert not Path(file).is_relative_to(ROOT)
    assert precision.startswith("int8")
    assert shapes == [[height, width], [height, width], [height, width, 3]]


def test_the_index_would_take_both(installed: Installed, distributions: dict[str, Path]) -> None:
    done = installed.run("python", "-m", "pip", "install", "--quiet", "twine>=6", timeout_s=600)
    assert done.returncode == 0, done.stderr[-3000:]
    done = installed.run("python", "-m", "twine", "check", "--strict", *map(str, distributions.values()))
    assert done.returncode == 0, done.stdout
