"""Under what conditions something was measured: code, command, versions, machine and its state before and after.

Knows git and the installed packages; knows nothing about what is measured.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_mtl import opencv
from edge_mtl.backends import BACKENDS
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.sensors.state import processor_shares, read_state, throttling
from edge_mtl.device import fingerprint

__all__ = ["MOST_STOLEN", "Conditions", "commit", "disturbed"]

MOST_STOLEN = 0.1
"""Share of the processors' time that others may take during a benchmark: guests of the same host, processes of the machine."""

_GIT_TIMEOUT_S = 30


class Conditions:
    """Made when a measurement starts, described when it has ended.

    Args:
        command: the words that started it.
        gpu: the GPU that is measured, if any.
    """

    def __init__(self, command: Sequence[str], *, gpu: Nvml | None = None) -> None:
        self._command = shlex.join(command)
        self._gpu = gpu
        self._before = read_state(gpu=None if gpu is None else gpu.state())

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON: date, commit, command, device, versions, state and what held the machine back."""
        after = read_state(gpu=None if self._gpu is None else self._gpu.state())
        device = fingerprint()
        return {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": commit(),
            "command": self._command,
            "device": {**device.to_dict(), "description": device.describe(), "key": device.key},
            "versions": {name: version for name in _packages() if (version := _version(name))},
            "state": {"before": self._before.to_dict(), "after": after.to_dict()},
            "throttling": list(throttling(self._before, after)),
        }


def disturbed(content: Mapping[str, Any], *, most_stolen: float | None = None) -> str:
    """Why a benchmark shows nothing, a sentence; empty where it may be used.

    Interleaving does not help when others take a good part of the machine: whoever waits for several processors at once then
    loses more than the others, and ratios move by tens of per cent. Other processes disturb where they also leave less idle
    than they take: on many processors everybody finds a free one.

    Args:
        most_stolen: share that others may take; by default `MOST_STOLEN`.
    """
    most = MOST_STOLEN if most_stolen is None else most_stolen
    state = content.get("state")
    looks = [state.get(name) if isinstance(state, dict) else None for name in ("before", "after")]
    if not all(isinstance(look, dict) for look in looks):
        return ""
    shares = processor_shares(*looks)  # type: ignore[arg-type]
    if shares.stolen is not None and shares.stolen > most:
        return f"{shares.describe_stolen()}, and beyond {most:.0%} nothing is shown"
    if shares.others is not None and shares.idle is not None and shares.others > max(most, shares.idle):
        return f"{shares.describe_others()}, and beyond {most:.0%} nothing is shown"
    return ""


def commit(folder: Path = Path(__file__).parent) -> str | None:
    """The commit of the code in `folder`, with "+changes" where files differ from it; None outside a repository.

    An installed package may lie in a repository of somebody else, for which it says nothing: the folder must be tracked.
    """
    git = shutil.which("git")
    if git is None:
        return None
    if _git(git, folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head, changes = _git(git, folder, "rev-parse", "HEAD"), _git(git, folder, "status", "--porcelain", "--untracked-files=no")
    if head is None or changes is None:
        return None
    return f"{head}+changes" if changes else head


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    command = [git, "-C", str(folder), *arguments]
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(  # noqa: S603 - a program found on the path, fixed arguments
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _packages() -> tuple[str, ...]:
    """Distributions whose versions are named, those of every runtime among them."""
    runtimes = [name for spec in BACKENDS.values() for names in spec.packages.values() for name in names]
    listed = ("edge-mtl", "numpy", *opencv.DISTRIBUTIONS, *runtimes, "pycuda", "onnx", "torch")
    return tuple(dict.fromkeys(name.replace("_", "-") for name in listed))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
