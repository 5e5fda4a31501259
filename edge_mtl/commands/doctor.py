"""`edge-mtl doctor`: what can run here, what cannot and why, and what to install.

Knows where to look; changes nothing. What is called usable was imported; OpenCV is looked at, not needed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

from edge_mtl import __version__, opencv
from edge_mtl.backends import BACKENDS, none_usable, proven, spec_of
from edge_mtl.backends.saturation_test import adds_exactly
from edge_mtl.bundle import DEMO_BUNDLE, MANIFEST, Bundle
from edge_mtl.commands.terminal import Terminal, plain, table
from edge_mtl.cuda.gpus import Gpu, gpus
from edge_mtl.cuda.presence import no_gpu
from edge_mtl.device import fingerprint
from edge_mtl.engine_store.engines import cache_folder
from edge_mtl.engine_store.resolve import default_backend
from edge_mtl.errors import BackendUnavailable, BundleError, EdgeMtlError

__all__ = ["clashing_runtimes", "run"]

_WRONG = "wrong"


def run(terminal: Terminal) -> None:
    """Print the findings.

    Raises:
        BackendUnavailable: no backend is usable, two distributions of one runtime or of OpenCV overwrite each other, OpenCV
            is missing or broken, or a runtime adds integers wrongly.
    """
    backends = proven()
    found = opencv.installed()
    findings: dict[str, Any] = {
        "edge_mtl": __version__,
        "device": plain(fingerprint()),
        "gpus": [gpu.to_dict() for gpu in gpus()],
        "backends": {name: plain(backend) for name, backend in backends.items()},
        "clashing_runtimes": list(clashing_runtimes()),
        "opencv": plain(found) | {"threads": opencv.require().getNumThreads() if found.version else None},
        "int8_sums": {name: _sums(name) for name, entry in backends.items() if entry.usable and _adds_bytes(name)},
        "demo_bundle": _demo_bundle(),
        "cache": {"folder": str(cache_folder()), "writable": _writable(cache_folder())},
    }
    chosen, why = default_backend(backends)
    findings["default"] = {"backend": chosen, "reason": why}
    usable = [name for name, backend in backends.items() if backend.usable]
    if terminal.json_output:
        terminal.record(findings | {"usable": usable})
    else:
        _show(terminal, findings)
    problems = [_clash(findings["clashing_runtimes"])] if findings["clashing_runtimes"] else []
    if not usable:
        problems.append(str(none_usable(backends)))
    if found.problem:
        problems.append(found.problem)
    problems += [f"{name}: {said}" for name, said in findings["int8_sums"].items() if said.startswith(_WRONG)]
    if problems:
        raise BackendUnavailable(" ".join(problems))


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


def _opencv(found: dict[str, Any]) -> str:
    """One line: the version and whose it is, or what is wrong."""
    if not found["version"]:
        return str(found["problem"])
    source = " and ".join(found["distributions"]) or f"not of pip, in {found['folder']}"
    return f"{found['version']}, {source}, {found['threads']} threads"


def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, or in its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _show(terminal: Terminal, findings: dict[str, Any]) -> None:
    backends = table("Backends", "backend", "usable", "version", "remark")
    for name, entry in findings["backends"].items():
        backends.add_row(name, "yes" if entry["usable"] else "no", entry["version"], entry["reason"])
    terminal.show(backends)
    here = fingerprint()
    device = table("Device", "what", "found")
    device.add_row("processor", f"{here.cpu_model or here.architecture}, {here.cores} cores for this process")
    device.add_row("memory", f"{here.memory_bytes / 2**30:.1f} GiB" if here.memory_bytes else "unknown")
    device.add_row("instruction sets", ", ".join(here.isa) or "none that matter")
    device.add_row("INT8 in hardware", "yes" if here.has_vnni else "no VNNI, AMX or dot product: INT8 gains less")
    for name, said in findings["int8_sums"].items():
        device.add_row(f"INT8 sums, {name}", said)
    device.add_row("bfloat16 in hardware", "yes" if here.has_bf16 else "no: --bf16 cannot be built here")
    device.add_row("half precision in hardware", "yes" if here.has_fp16 else "no: --fp16 cannot be built here")
    for number, found in enumerate(findings["gpus"]):
        device.add_row(f"GPU {number}", Gpu.from_dict(found).describe())
    if not findings["gpus"]:
        device.add_row("GPU", no_gpu() or "the NVIDIA driver does not answer: check with nvidia-smi")
    device.add_row("system", f"{here.system} {here.architecture}, Python {here.python}")
    device.add_row("OpenCV", _opencv(findings["opencv"]))
    default = findings["default"]
    device.add_row("without an engine", f"{default['backend'] or 'nothing'}: {default['reason']}")
    demo, cache = findings["demo_bundle"], findings["cache"]
    device.add_row("demo bundle", f"{demo['name']}, revision {demo['revision']}" if demo["present"] else demo["reason"])
    device.add_row("cache folder", f"{cache['folder']} ({'writable' if cache['writable'] else 'NOT writable'})")
    terminal.show(device)
