"""What the system gives this process besides hardware: shared memory, a home, encodings, a locale, processors of a container.

Findings of `edge-mtl doctor`, each with what to do where it is less than some part of the package needs. Changes nothing.
"""

from __future__ import annotations

import locale
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.control_groups import cpu_quota
from edge_mtl.shared_memory import FOLDER, MORE, shared_memory

__all__ = ["Finding", "surroundings"]

_ROOMY = 256 << 20
"""Free bytes of /dev/shm that are enough for two workers of training with usual batches, and for images of ROS."""
_UTF8 = "Set LC_ALL=C.UTF-8, or PYTHONUTF8=1"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it; `remedy` is "" where nothing has to be done."""

    found: str
    remedy: str = ""


def surroundings(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> dict[str, Finding]:
    """Findings by what they are of.

    Args:
        root: where proc/ and sys/ are; anything but "/" is for tests.
    """
    return {
        "shared memory": _shared_memory(),
        "home folder": _home(environment),
        "encodings": _encodings(),
        "locale": _locale(environment),
        "CPU quota": _quota(root),
    }


def _shared_memory() -> Finding:
    memory = shared_memory()
    if memory is None:
        return Finding(f"{FOLDER} cannot be written to", "Train with --loop.loader_workers 0; images of ROS go over UDP")
    if memory.free >= _ROOMY:
        return Finding(str(memory))
    return Finding(str(memory), f"Little for training's workers and for images of ROS: {MORE}; or --loop.loader_workers 0")


def _home(environment: Mapping[str, str]) -> Finding:
    remedy = "Set HOME, or XDG_CACHE_HOME, to a folder that can be written"
    if os.path.isabs(environment.get("XDG_CACHE_HOME", "")):
        remedy = ""  # the cache goes there
    try:
        home = Path.home()
    except RuntimeError:
        return Finding("none: HOME is not set, and the user has no entry in /etc/passwd", remedy)
    if not home.is_dir():
        return Finding(f"{home} is missing", remedy)
    return Finding(str(home)) if os.access(home, os.W_OK) else Finding(f"{home} cannot be written to", remedy)


def _encodings() -> Finding:
    files, screen = sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", None) or "none"
    found = f"{files} for names of files, {screen} for what is printed"
    remedies = []
    if not _is_utf8(files):
        remedies.append(f"Files with other names cannot be opened. {_UTF8}")
    if not _is_utf8(screen):
        remedies.append(f"Other characters are printed as ?. {_UTF8}; unset PYTHONIOENCODING")
    return Finding(found, ". ".join(remedies))


def _locale(environment: Mapping[str, str]) -> Finding:
    asked = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "")
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        remedy = "Install it (on Debian and Ubuntu: apt install locales, then locale-gen), or set LC_ALL=C.UTF-8"
        return Finding(f"{asked or 'that of the environment'} is not installed here", remedy)
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return Finding(asked or "none is set: C")


def _quota(root: Path) -> Finding:
    quota, cores = cpu_quota(root), os.cpu_count() or 1
    if quota is None or quota >= cores:
        return Finding("none" if quota is None else f"{quota}, all of {cores} processors")
    return Finding(f"{quota} of {cores} processors", "More makes it faster: docker run --cpus, or CPUQuota= of a systemd unit")


def _is_utf8(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "") == "utf8"
