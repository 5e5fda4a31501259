"""Builds sdist and wheel of a copy of this checkout, clean or with everything lying about that a checkout gathers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUNDLES = tuple(Path("edge_mtl/bundles", name) for name in ("indoor-lite0", "indoor-b0", "rooms-b0"))
"""Those that are installed, the demo bundle first."""
_FOLDERS = ("edge_mtl", "train", "tests", "calibration", "docs")
SCATTERED = (
    "build/lib/edge_mtl/gone.py",  # of a build before a module was removed
    "edge_mtl/__pycache__/engine.cpython-311.pyc",
    "edge_mtl/bundles/mine/manifest.json",
    *(
        f"{bundle}/{name}"
        for bundle in BUNDLES
        for name in (".lock", "engines/int8.onnx", "engines/int8.json", "model.onnx.tmp", "golden/__pycache__/x.pyc")
    ),
    f"{BUNDLES[0]}.revision-1/manifest.json",
    "out/demo.png",
    ".venv/lib/python3.11/site-packages/other/__init__.py",
)
"""What must neither be in the sdist nor in the wheel."""


def copy_of_checkout(folder: Path) -> Path:
    """The sources, copied to where a build may write."""
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.is_file():
            shutil.copy2(entry, folder)
    for name in _FOLDERS:
        left = shutil.ignore_patterns("__pycache__", "engines")
        shutil.copytree(ROOT / name, folder / name, ignore=left)
    return folder


def scatter(checkout: Path) -> None:
    """Leave SCATTERED in a checkout, and the list of an earlier sdist that names them."""
    for name in SCATTERED:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("{}")
    (checkout / "edge_mtl.egg-info").mkdir()
    (checkout / "edge_mtl.egg-info" / "SOURCES.txt").write_text("\n".join((*SCATTERED, "train/train.py", "tests/conftest.py")))


def build(checkout: Path, out: Path, *kinds: str) -> dict[str, Path]:
    """`python -m build` with the tools that are installed here; the files by kind, "whl" and "gz".

    Args:
        kinds: "--wheel" or "--sdist"; by default the sdist, and the wheel from that.
    """
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *kinds, str(checkout)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.name.rsplit(".", 1)[1]: path for path in out.iterdir()}
