"""Which environments are tried: every Python with the lowest and the highest versions, and mixtures of old and new."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["PYTHONS", "RESOLUTIONS", "Cell", "interpreters", "plan", "requirements"]

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RESOLUTIONS: Mapping[str, str] = {"lowest": "lowest-direct", "highest": "highest"}
"""Ours, and uv's name for it: of what the package declares itself; what that needs in turn is the newest that fits."""
EXTRAS = ("demo", "bags", "exr", "tflite")
_MIXED = (
    ("lowest", ("numpy<2", "protobuf")),  # protobuf without a bound of ours: the lowest that onnx takes
    ("lowest", ("numpy>=2.3",)),
    ("highest", ("numpy<2",)),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One environment.

    Attributes:
        python: "3.11".
        resolution: of `RESOLUTIONS`.
        mixed: what is asked for besides, beyond the package's own requirements.
        train: whether it has the extra "train", too.
    """

    python: str
    resolution: str
    mixed: tuple[str, ...] = ()
    train: bool = False

    @property
    def extras(self) -> tuple[str, ...]:
        """What the wheel is installed with; every version of the viewer that we allow needs NumPy 2."""
        viewer = () if "numpy<2" in self.mixed else ("view",)
        return (*EXTRAS, *viewer, *(("train",) if self.train else ()))

    @property
    def name(self) -> str:
        """For people: "Python 3.11, highest, numpy<2"."""
        return ", ".join((f"Python {self.python}", self.resolution, *self.mixed, *(("train",) if self.train else ())))


def plan(pythons: Iterable[str], resolutions: Sequence[str], *, mixed_on: str = "3.11") -> list[Cell]:
    """Every Python with every resolution, and the mixtures on one Python, which has wheels of all of them."""
    chosen = tuple(pythons)
    cells = [Cell(python, resolution) for python in chosen for resolution in resolutions]
    return cells + [Cell(mixed_on, how, extra) for how, extra in _MIXED if mixed_on in chosen and how in resolutions]


def interpreters(pythons: Iterable[str], given: Sequence[Path] = ()) -> dict[str, Path]:
    """By version, those that are here: of `given`, else python3.X on the PATH; each was started once."""
    asked = [(path, version) for path in given for version in pythons]
    asked += [(Path(found), version) for version in pythons if (found := shutil.which(f"python{version}"))]
    usable: dict[str, Path] = {}
    for path, version in asked:
        code = "import sys, venv, ssl; print('%d.%d' % sys.version_info[:2], sys.executable)"
        done = subprocess.run([str(path), "-c", code], capture_output=True, text=True, check=False)
        said = done.stdout.split(maxsplit=1)
        if done.returncode == 0 and said[0] == version:
            usable.setdefault(version, Path(said[1].strip()))
    return usable


def requirements(wheel: Path, extras: Sequence[str], lowered: Mapping[str, str] | None = None) -> list[str]:
    """What the wheel requires with `extras`, as uv and pip read it: direct requirements of who asks for them.

    Args:
        lowered: other version specifiers by package, as a bound that somebody lowered.
    """
    with zipfile.ZipFile(wheel) as content:
        (name,) = [name for name in content.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        entries = email.message_from_bytes(content.read(name)).get_all("Requires-Dist") or []
    found: dict[str, None] = {}
    for entry in entries:
        one = Requirement(entry)
        said = str(one.marker or "")
        if "extra ==" in said and not any(f'extra == "{extra}"' in said for extra in extras):
            continue
        for_python = re.sub(r'\s*(?:and\s*)?extra == "[^"]*"', "", said)
        one.marker = None
        if lowered and one.name in lowered:
            one = Requirement(f"{one.name}{lowered[one.name]}")
        found[f"{one}; {for_python}" if for_python else str(one)] = None
    return list(found)
