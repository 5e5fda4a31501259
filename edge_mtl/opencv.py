"""OpenCV as it is installed here: which package it comes from, what is wrong with it, and the command that repairs it.

Four packages of pip provide the module `cv2`, and so do ROS, JetPack and conda; edge_mtl depends on none of them, so that
the one that is here can be used (docs/decisions/0014-opencv.md). Importing this module imports no OpenCV.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from edge_mtl.errors import BackendUnavailable
from edge_mtl.remedies import shortage

__all__ = ["DISTRIBUTIONS", "MINIMUM", "OpenCv", "installed", "require"]

DISTRIBUTIONS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Packages of pip that install `cv2/`; two of them overwrite each other's files."""
MINIMUM = (4, 6)
"""Oldest version that the tests passed with; Ubuntu 24.04 has it."""

_NAMES = ("copyMakeBorder", "cvtColor", "imdecode", "imencode", "imread", "resize", "setNumThreads")
_INSTALL = 'pip install "edge-mtl[headless]"'
_CHOICE = '"edge-mtl[gui]" has windows'


@dataclass(frozen=True, slots=True)
class OpenCv:
    """What was found of OpenCV.

    Attributes:
        version: of the module, "" where it cannot be imported.
        folder: where it was imported from, "" where it cannot be.
        distributions: packages of pip that installed it; empty for that of the system or of conda, and where there is none.
        clash: packages of pip that were installed over each other.
        problem: what is wrong, with the command that repairs it; None where nothing is.
    """

    version: str
    folder: str
    distributions: tuple[str, ...]
    clash: tuple[str, ...]
    problem: str | None


def require() -> ModuleType:
    """The module cv2, once it is known to be usable.

    Raises:
        BackendUnavailable: it is missing, broken, too old, or not OpenCV; the message has the command that repairs it.
    """
    try:
        module = importlib.import_module("cv2")
    except Exception as exc:  # a broken OpenCV raises ImportError, AttributeError and others
        raise BackendUnavailable(_import_problem(exc)) from exc
    if problem := _module_problem(module):
        raise BackendUnavailable(problem)
    return module


def installed() -> OpenCv:
    """What is here. Imports OpenCV, and reads the records of the packages that install it."""
    homes = _homes()
    together = [name for name, home in homes.items() if home is not None and list(homes.values()).count(home) > 1]
    try:
        module = require()
    except BackendUnavailable as exc:
        return OpenCv("", "", tuple(homes), tuple(together), str(exc))
    return OpenCv(
        version=module.__version__,
        folder=str(_home(module)),
        distributions=tuple(_owners(module, homes)),
        clash=tuple(together),
        problem=_clash(together) if together else None,
    )


def _import_problem(exc: Exception) -> str:
    """Why `import cv2` failed, and the repair."""
    names = list(_homes())
    if lacking := shortage(exc):
        return f"OpenCV could not be loaded ({str(exc).strip() or type(exc).__name__}). {lacking}"
    if isinstance(exc, ModuleNotFoundError) and exc.name == "cv2":
        if not names:
            return f"OpenCV (the module cv2) is not installed. Install it with: {_INSTALL} ({_CHOICE})"
        return (
            f"{_listed(names)} is installed, but its module cv2 is gone: packages that install cv2 share its files, and "
            f"uninstalling one takes those of the other. Run: {_reinstall(names)}"
        )
    line = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
    windowed = [name for name in names if not name.endswith("-headless")]
    if "cannot open shared object file" in line:
        library = line.split(":")[0]
        if len(names) == 1 and windowed:
            return (
                f"{windowed[0]} needs the library {library}, which this system does not have. Run: pip uninstall -y "
                f"{windowed[0]} && pip install {windowed[0]}-headless (or, for windows, install the system's package with "
                f"{library}; on Debian and Ubuntu libGL.so.1 is in libgl1)"
            )
        return f"OpenCV needs the library {library}, which is not here. Run: {_reinstall(names)}"
    if "numpy" in line.lower() or "_ARRAY_API" in line:
        return (
            f"The module cv2 was compiled for another NumPy than the installed {np.__version__} ({line}). "
            f'Run: {_reinstall(names)}. To keep the cv2 of the system instead: pip install "numpy<2"'
        )
    return f"The module cv2 is installed but does not import ({type(exc).__name__}: {line}). Run: {_reinstall(names)}"


def _module_problem(module: ModuleType) -> str | None:
    """Why an imported cv2 cannot be used, and the repair."""
    home = _home(module)
    if getattr(module, "__file__", None) is None:
        return (
            f"{home} is a folder without OpenCV's module, which uninstalling one of two OpenCV packages leaves behind. "
            f"Run: {_reinstall(list(_homes()))}"
        )
    version = str(getattr(module, "__version__", ""))
    missing = [name for name in _NAMES if not hasattr(module, name)]
    if missing or not version:
        lacks = ", ".join(missing) or "__version__"
        return f"The module cv2 at {home} lacks {lacks}: it is not a whole OpenCV. Run: {_reinstall(list(_homes()))}"
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < MINIMUM:
        wanted = ".".join(str(number) for number in MINIMUM)
        return f"OpenCV should be {wanted} or later; found {version} at {home}. Run: {_upgrade(module)}"
    return None


def _upgrade(module: ModuleType) -> str:
    owners = _owners(module, _homes())
    return f"pip install --upgrade {owners[0]}" if len(owners) == 1 else _reinstall(owners)


def _reinstall(names: list[str]) -> str:
    """The command after which there is one whole OpenCV, whatever is left of `names`."""
    if not names:
        return f"{_INSTALL} ({_CHOICE})"
    if len(names) == 1:
        return f"pip install --force-reinstall --no-deps {names[0]}"
    return f"pip uninstall -y {' '.join(names)} && {_INSTALL} ({_CHOICE})"


def _clash(names: list[str]) -> str:
    return f"{_listed(names)} are installed together and overwrite each other's files. Run: {_reinstall(names)}"


def _listed(names: list[str]) -> str:
    return " and ".join(names)


def _home(module: ModuleType) -> Path:
    """Folder of an imported cv2. One that holds no module (a namespace) may have several; the first is told."""
    file = getattr(module, "__file__", None)
    return Path(file).parent if file else Path(next(iter(module.__path__), ""))


def _owners(module: ModuleType, homes: dict[str, Path | None]) -> list[str]:
    """Names of `homes` that installed this module."""
    return [name for name, home in homes.items() if home is not None and home == _home(module).resolve()]


def _homes() -> dict[str, Path | None]:
    """Installed packages by name, with the folder cv2 that each of them wrote; None where it has no record, as conda's."""
    found: dict[str, Path | None] = {}
    for name in DISTRIBUTIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        module = next((file for file in distribution.files or () if file.as_posix() == "cv2/__init__.py"), None)
        found[name] = None if module is None else Path(str(distribution.locate_file(module))).parent.resolve()
    return found
