"""What can run on this machine, what cannot and why, and what to install: the findings of `edge-mtl doctor`.

Changes nothing. A backend that is called usable was imported; OpenCV is looked at, not needed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_mtl import __version__, opencv
from edge_mtl.backends import BACKENDS, none_usable, proven, spec_of
from edge_mtl.backends.saturation_test import adds_exactly
from edge_mtl.bundle import BUNDLED, DEMO_BUNDLE, MANIFEST, Bundle, bundled
from edge_mtl.cuda.gpus import gpus
from edge_mtl.device import fingerprint
from edge_mtl.engine_store.engines import cache_folder
from edge_mtl.engine_store.resolve import default_backend
from edge_mtl.errors import BundleError, EdgeMtlError
from edge_mtl.files import plain
from edge_mtl.surroundings import surroundings

__all__ = ["clashing_runtimes", "diagnose", "problems"]

_WRONG = "wrong"


def diagnose() -> dict[str, Any]:
    """What was found, as plain values for JSON; `usable` names the backends that can run."""
    backends = proven()
    found = opencv.installed()
    chosen, why = default_backend(backends)
    usable = [name for name, backend in backends.items() if backend.usable]
    return {
        "edge_mtl": __version__,
        "device": plain(fingerprint()),
        "gpus": [gpu.to_dict() for gpu in gpus()],
        "backends": {name: plain(backend) for name, backend in backends.items()},
        "clashing_runtimes": list(clashing_runtimes()),
        "opencv": plain(found) | {"threads": opencv.require().getNumThreads() if found.version else None},
        "int8_sums": {name: _sums(name) for name in usable if _adds_bytes(name)},
        "demo_bundle": _demo_bundle(),
        "bundled": [name for name in BUNDLED if (bundled(name) / MANIFEST).is_file()],
        "surroundings": {name: plain(finding) for name, finding in surroundings().items()},
        "cache": {"folder": str(cache_folder()), "writable": _writable(cache_folder())},
        "default": {"backend": chosen, "reason": why},
        "usable": usable,
        "none_usable": None if usable else str(none_usable(backends)),
    }


def problems(findings: Mapping[str, Any]) -> list[str]:
    """What must be put right before anything runs well, a sentence with the remedy each.

    No backend is usable, two distributions of one runtime or of OpenCV overwrite each other, OpenCV is missing or broken, or
    a runtime adds INT8 products wrongly.
    """
    found = [_clash(findings["clashing_runtimes"])] if findings["clashing_runtimes"] else []
    found += [findings[name] for name in ("none_usable",) if findings[name]]
    if findings["opencv"]["problem"]:
        found.append(findings["opencv"]["problem"])
    return found + [f"{name}: {said}" for name, said in findings["int8_sums"].items() if said.startswith(_WRONG)]


def clashing_runtimes() -> tuple[str, ...]:
    """The distributions of one runtime that are installed together, although they overwrite each other's files."""
    for spec in BACKENDS.values():
        found = []
        for name in spec.shares_files:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                importlib.metadata.version(name)
                found.append(name)
        if len(found) > 1:
            return tuple(found)
    return ()


def _adds_bytes(backend: str) -> bool:
    """Whether INT8 graphs are built for it on the processor, where sums may lack room."""
    spec = spec_of(backend)
    return spec.device == "cpu" and spec.qdq is not None


def _sums(runtime: str) -> str:
    """What became of the largest sums of byte products in `runtime`."""
    try:
        if adds_exactly(runtime):
            return "right, with weights of 8 bits too"
        if adds_exactly(runtime, weight=63):
            return "right with weights of 7 bits, which engines get; those of 8 bits saturate on this processor"
    except EdgeMtlError as exc:
        return f"not tried: {exc}"
    return f"{_WRONG} even with weights of 7 bits: INT8 cannot be trusted here. Install another version of it."


def _demo_bundle() -> dict[str, Any]:
    if not (DEMO_BUNDLE / MANIFEST).is_file():
        return {"present": False, "reason": "not installed with this package"}
    try:
        bundle = Bundle.open(DEMO_BUNDLE)
    except BundleError as exc:
        return {"present": False, "reason": str(exc)}
    return {"present": True, "name": bundle.name, "revision": bundle.manifest.revision, "tasks": list(bundle.tasks)}


def _clash(names: list[str]) -> str:
    return (
        f"{' and '.join(names)} are installed together and overwrite each other's files. "
        f"Run: pip uninstall -y {' '.join(names)}, then install the extra you want."
    )


def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, or in its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
