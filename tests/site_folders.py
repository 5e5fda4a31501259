"""Python environments for subprocesses: this one's packages without some, with stubs and the records of pip in their place.

Nothing is installed: the folder holds links to what is installed here, and Python is started without its own site-packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
OPENCV = ("cv2", "opencv*")
ONNXRUNTIME = ("onnxruntime", "onnxruntime_*", "onnxruntime-*")


class SiteFolder:
    """A site-packages folder of a test's own."""

    def __init__(self, folder: Path, *, without: Sequence[str]) -> None:
        """Link every package that is installed here, except those whose folder's name matches one of `without`."""
        folder.mkdir()
        self.path = folder
        for entry in Path(np.__file__).parents[1].iterdir():
            if entry.suffix not in (".pth", ".egg-link") and not any(fnmatch(entry.name, pattern) for pattern in without):
                (folder / entry.name).symlink_to(entry)

    def add_module(self, name: str, content: str) -> None:
        """Write a package NAME with that __init__.py."""
        (self.path / name).mkdir()
        (self.path / name / "__init__.py").write_text(content)

    def add_record(self, distribution: str, version: str, files: Sequence[str]) -> None:
        """Write what pip leaves of a distribution that installed `files`."""
        folder = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (folder / "RECORD").write_text("".join(f"{name},,\n" for name in files))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Python with these arguments in this environment, this checkout's edge_mtl included."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        paths = os.pathsep.join((str(self.path), str(ROOT), str(ROOT / "train")))
        return subprocess.run(
            [sys.executable, "-S", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**kept, "PYTHONPATH": paths, **environment},
        )

    def edge_mtl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`edge-mtl` with these arguments in this environment."""
        return self.run("-m", "edge_mtl.cli", *arguments)
