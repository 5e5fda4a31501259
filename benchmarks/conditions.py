"""Under what conditions a figure was measured: code, machine, versions and load. Written into every committed result.

Knows git and the installed packages; knows nothing about what is measured.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2

from edge_mtl.device import fingerprint

__all__ = ["Conditions"]

_PACKAGES = ("edge-mtl", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "torch")


class Conditions:
    """Made when a measurement starts, described when it has ended.

    Args:
        threads: of the runtimes; OpenCV, which prepares and finishes frames, gets as many.
    """

    def __init__(self, *, threads: int) -> None:
        cv2.setNumThreads(threads)
        self._threads = threads
        self._load = os.getloadavg()

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON. `load` is the number of busy processes before and after, averaged over a minute."""
        device = fingerprint()
        return {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": _commit(),
            "command": shlex.join(["python", *sys.argv]),
            "device": {**device.to_dict(), "description": device.describe()},
            "versions": {name: version for name in _PACKAGES if (version := _version(name))},
            "threads": {"runtime": self._threads, "opencv": cv2.getNumThreads()},
            "load": {"before": round(self._load[0], 2), "after": round(os.getloadavg()[0], 2)},
        }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code that ran, with "+changes" when files differ from it; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None
    answers = []
    for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        command = [git, "-C", str(Path(__file__).parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            return None
        answers.append(done.stdout.strip())
    return f"{answers[0]}+changes" if answers[1] else answers[0]
