"""Which runtimes are here, and if not, why not and what to run. Looks at installed packages; imports only to prove."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from edge_mtl.backends.registry import BACKENDS
from edge_mtl.backends.spec import BackendSpec
from edge_mtl.cuda import installed_binding
from edge_mtl.cuda.presence import no_gpu
from edge_mtl.errors import BackendUnavailable
from edge_mtl.packages import LEFT_OVER, look_for
from edge_mtl.remedies import shortage

__all__ = ["Availability", "availability_of", "available", "none_usable", "prove", "proven"]


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can be used here.

    Attributes:
        usable: its files are installed; for `prove` and `proven` it has also been imported, and has what is needed of it.
        version: of the installed runtime, "" where there is none.
        reason: why it can or cannot be used, a sentence.
        extra: name of the extra that installs it: pip install "edge-mtl[EXTRA]"; "" for a plug-in.
        broken: it is installed, but not whole; `reason` has the command that repairs it.
    """

    usable: bool
    version: str
    reason: str
    extra: str
    broken: bool = False


def available() -> dict[str, Availability]:
    """Which runtimes are here, by backend name. Looks at installed packages only: nothing is imported."""
    return {name: availability_of(spec) for name, spec in BACKENDS.items()}


def proven() -> dict[str, Availability]:
    """As `available`, but every runtime that is found is imported as well, which can take seconds."""
    return {name: prove(BACKENDS[name], found) for name, found in available().items()}


def prove(spec: BackendSpec, found: Availability) -> Availability:
    """Availability of one runtime after an attempt to import what was found, as the backend itself does."""
    package, _ = _package(spec)
    if not found.usable or package is None:
        return found
    failure: Exception | None = None
    try:
        importlib.import_module(spec.module)
    except Exception as exc:  # what a broken installation raises is its vendor's choice
        failure = exc
    try:
        module = sys.modules.get(package) or importlib.import_module(package)
    except Exception as exc:
        if lacking := shortage(exc):
            return _short(spec, f"{package} could not be loaded ({exc}). {lacking}")
        return _broken(spec, package, f"{package} is installed but does not import ({exc}).")
    if not hasattr(module, spec.member):
        return _broken(spec, package, f"{package} is installed but has no {spec.member}.")
    if failure is not None and (lacking := shortage(failure)):
        return _short(spec, f"{spec.module} could not be loaded ({failure}). {lacking}")
    if failure is not None:
        return _broken(spec, package, f"{package} is installed but {spec.module} does not import with it ({failure}).")
    return found


def none_usable(found: Mapping[str, Availability]) -> BackendUnavailable:
    """The error where no runtime can be used: repair the one that is broken, else install one."""
    install = 'No runtime is installed. Install one with: pip install "edge-mtl[cpu]"'
    return BackendUnavailable(next((entry.reason for entry in found.values() if entry.broken), install))


def availability_of(spec: BackendSpec) -> Availability:
    """Whether one runtime is here; see `available`."""
    if spec.problem:
        return Availability(False, "", spec.problem, spec.extra, broken=True)
    package, whole = _package(spec)
    if package is None:
        return _absent(spec, f"{' or '.join(spec.packages)} is not installed. {install_with(spec)}")
    if not whole:
        return _broken(spec, package, f"{package} {LEFT_OVER}.")
    name, version = package, "unknown"
    for distribution in spec.packages[package]:
        try:
            name, version = distribution, importlib.metadata.version(distribution)
            break
        except importlib.metadata.PackageNotFoundError:
            continue
    if version == "unknown" and spec.needs_distribution:
        return _absent(spec, f"{spec.packages[package][0]} is not installed. {install_with(spec)}")
    if spec.device == "cuda":
        if missing := no_gpu():
            return _absent(spec, f"{name} {version} is installed, but {missing}")
        if spec.needs_binding and installed_binding() is None:
            return _absent(spec, f"{name} {version} is installed, but neither pycuda nor cuda-bindings. {install_with(spec)}")
    return Availability(True, version, f"{name} {version} is installed", spec.extra)


def install_with(spec: BackendSpec) -> str:
    """The sentence that says how a runtime is installed."""
    return f"Install it with: {spec.install}"


def _package(spec: BackendSpec) -> tuple[str | None, bool]:
    """The first of its packages that is found, and whether it is whole, which goes before one that is not."""
    found = {name: state for name in spec.packages if (state := look_for(name)) != "absent"}
    for name, state in found.items():
        if state == "whole":
            return name, True
    return next(iter(found), None), False


def _short(spec: BackendSpec, reason: str) -> Availability:
    """Not usable for want of memory, threads or open files: no installation would repair that."""
    return Availability(False, "", reason, spec.extra, broken=True)


def _broken(spec: BackendSpec, package: str, what: str) -> Availability:
    """Not usable, with the command after which there is one whole package, whatever is left of those that share its files."""
    installed = []
    for distribution in sorted({name for known in BACKENDS.values() for name in known.packages.get(package, ())}):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(distribution)
            installed.append(distribution)
    repair = spec.install
    if len(installed) == 1:
        repair = f"pip install --force-reinstall --no-deps {installed[0]}"
    elif installed:
        repair = f"pip uninstall -y {' '.join(installed)} && {repair}"
    return Availability(False, "", f"{what} Run: {repair}", spec.extra, broken=True)


def _absent(spec: BackendSpec, reason: str) -> Availability:
    return Availability(False, "", reason, spec.extra)
