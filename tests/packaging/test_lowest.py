"""The lowest versions that setup.py declares, in an empty environment: every command starts, the demo runs, a bag is read.

uv downloads them, so this runs only when asked to: `make test-lowest`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_mtl.cli import app
from tests.bag_files import write_bag
from tests.bundles import make_image
from tests.packaging.distributions import ROOT

ASKED = "EDGE_MTL_LOWEST"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ASKED not in os.environ, reason="installs packages from the index: make test-lowest"),
]
EXTRAS = ("demo", "bags", "view", "exr", "tflite", "train")

SHORT = """
name = "short"
model = { backbone = "pvt_v2_b0", width = 32 }
data = { root = "rooms", height = 64, width = 96, train = 8, validation = 4, test = 4, workers = 1 }
stages = [{ height = 64, width = 96, steps = 2, batch = 4 }]
loop = { threads = 1, loader_workers = 0, pictures = 0 }
"""


class Lowest:
    """An environment with the lowest versions of what the extras declare, which runs a copy of this checkout."""

    def __init__(self, folder: Path) -> None:
        self._python = folder / "venv" / "bin" / "python"
        self._cache = folder / "cache"
        self.empty = folder / "empty"
        self.empty.mkdir()
        self.checkout = folder / "checkout"  # a copy: engines of these versions are none of the checkout's
        leave = shutil.ignore_patterns("__pycache__", "engines")
        for part in ("edge_mtl", "train"):
            shutil.copytree(ROOT / part, self.checkout / part, ignore=leave)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        self._must("-m", "pip", "install", "--quiet", "uv")
        asked = [word for extra in EXTRAS for word in ("--extra", extra)]
        self._must("-m", "uv", "pip", "install", "--resolution", "lowest-direct", "-r", str(ROOT / "setup.py"), *asked)

    def _must(self, *arguments: str) -> None:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr[-3000:]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python of the environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGE_MTL"))}
        environment |= {"XDG_CACHE_HOME": str(self._cache), "PYTHONPATH": str(self.checkout)}
        environment["VIRTUAL_ENV"] = str(self._python.parents[1])
        command = [str(self._python), *arguments]
        return subprocess.run(
            command, cwd=self.empty, env=environment, capture_output=True, text=True, check=False, timeout=1800
        )

    def edge_mtl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`edge-mtl` of the environment."""
        return self.run("-m", "edge_mtl.cli", *arguments)


@pytest.fixture(scope="module")
def lowest(tmp_path_factory: pytest.TempPathFactory) -> Lowest:
    return Lowest(tmp_path_factory.mktemp("lowest"))


def test_every_command_explains_itself(lowest: Lowest) -> None:
    names = [command.name or str(command.callback.__name__) for command in app.registered_commands if command.callback]
    for arguments in ([], *([name] for name in names)):
        done = lowest.edge_mtl(*arguments, "--help")
        assert done.returncode == 0, (arguments, done.stderr)
        assert "Usage" in done.stdout, arguments


def test_doctor_finds_two_runtimes(lowest: Lowest) -> None:
    done = lowest.edge_mtl("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"onnxruntime", "openvino"} <= set(found["usable"])
    assert all(said.startswith("right") for said in found["int8_sums"].values())


def test_the_demo_runs_and_a_bag_is_read_and_written(lowest: Lowest) -> None:
    done = lowest.edge_mtl("demo", "--save", "demo.png")
    assert done.returncode == 0, done.stderr
    pytest.importorskip("rosbags")
    bag = write_bag(lowest.empty / "tour", [make_image(0), make_image(1)])
    for files in ("npz", "bag"):
        done = lowest.edge_mtl("predict", str(bag), "--out", files, "--files", files, "--save", f"{files}.rrd", "--json")
        assert done.returncode == 0, done.stderr
        assert (lowest.empty / f"{files}.rrd").stat().st_size > 0
    assert len(list((lowest.empty / "npz").rglob("*.npz"))) == 2


def test_a_network_is_trained_and_predicts(lowest: Lowest) -> None:
    (lowest.empty / "short.toml").write_text(SHORT)
    done = lowest.run(str(lowest.checkout / "train" / "train.py"), "--config", "short.toml")
    assert done.returncode == 0, done.stderr[-3000:]
    done = lowest.edge_mtl("predict", "bundles/short/golden", "--bundle", "bundles/short", "--out", "maps", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
