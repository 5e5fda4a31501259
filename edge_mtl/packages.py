"""Optional packages: imported with the names that are needed, or a typed error with the command that repairs them.

Of two distributions that share their files, uninstalling one takes those of the other and may leave a folder without a module,
which Python calls a namespace and imports; so "installed" is never taken for "usable". Importing this module imports none.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType
from typing import Literal

from edge_mtl.errors import BackendUnavailable, EdgeMtlError, SystemFault
from edge_mtl.remedies import NO_MEMORY, remedy, shortage

__all__ = ["FAILURES", "LEFT_OVER", "UNEXPLAINED", "import_package", "look_for", "package_error", "reinstall"]

FAILURES = (EdgeMtlError, ImportError, AttributeError, OSError, MemoryError, SystemError)
"""What `package_error` takes."""

UNEXPLAINED = f"a library of C failed and did not say why ({{}}), as where there is too little memory. {NO_MEMORY}"
"""Of a SystemError: what Python raises where such a library breaks its rules, which few are tested against."""

_OWN = ("edge_mtl", "mtl")

LEFT_OVER = "is a folder without its module, as it is left by uninstalling one of two packages that share their files"


def import_package(module: str, *names: str, use: str, install: str) -> ModuleType:
    """The module of an optional package, once it is known to have what is needed of it.

    Args:
        module: such as "onnx" or "rosbags.highlevel".
        names: attributes that it must have.
        use: what needs it, the beginning of the message: "Reading bags needs the package rosbags".
        install: what pip installs it by, such as "edge-mtl[bags]".
    Raises:
        BackendUnavailable: it is missing, does not import, is a folder without a module, or lacks a name; the message has the
            command that repairs it.
    """
    try:
        found = importlib.import_module(module)
    except Exception as exc:  # what a broken installation raises is its vendor's choice
        raise BackendUnavailable(f"{use}{_failure(module, exc, install)}") from exc
    if lacking := [name for name in names if not hasattr(found, name)]:
        top = module.partition(".")[0]
        if look_for(top) == "left over":
            raise BackendUnavailable(f"{use}{_left_over(top, install)}")
        where = getattr(found, "__file__", None) or module
        raise BackendUnavailable(f"{use}; {where} lacks {', '.join(lacking)}. Run: {reinstall(top, install, newest=True)}")
    return found


def package_error(
    error: EdgeMtlError | ImportError | AttributeError | OSError | MemoryError | SystemError, *, install: str
) -> EdgeMtlError:
    """`error` itself, or for an import that failed the error with the command that repairs it; one of the system, with advice.

    What a package makes of another that is an empty folder is often an AttributeError.

    Args:
        install: what pip installs all that was imported by, such as "edge-mtl[train]".
    Raises:
        ImportError, AttributeError: no package is to blame, so no installation repairs it.
    """
    if isinstance(error, EdgeMtlError):
        return error
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return SystemFault(f"{error.strerror or error}{where}. {remedy(error)}")
    if isinstance(error, MemoryError):
        return SystemFault(f"there is too little memory. {NO_MEMORY}")
    if isinstance(error, SystemError):
        return SystemFault(UNEXPLAINED.format(error))
    name = error.name if isinstance(error, ImportError) else getattr(error.obj, "__name__", "")
    top = (name or "").partition(".")[0]
    if not top or top in _OWN or (isinstance(error, AttributeError) and look_for(top) != "left over"):
        raise error
    return BackendUnavailable(f"The package {top} is needed{_failure(top, error, install)}")


def look_for(module: str) -> Literal["absent", "left over", "whole"]:
    """What is there of a top-level module, by its files: nothing is imported."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a parent package that is not there or is broken; a module without a specification
        return "absent"
    if found is None:
        return "absent"
    return "whole" if found.origin is not None or found.submodule_search_locations is None else "left over"


def reinstall(module: str, install: str, *, newest: bool = False) -> str:
    """The command after which the top-level `module` is whole, whatever is left of it.

    Args:
        install: what pip installs it by where no distribution of it is recorded, or more than one.
        newest: it may be too old.
    """
    owners = _installed_by(module)
    if len(owners) == 1:
        return f"pip install {'--upgrade --force-reinstall' if newest else '--force-reinstall --no-deps'} {owners[0]}"
    return f'pip uninstall -y {" ".join(owners)} && pip install "{install}"' if owners else f'pip install "{install}"'


def _installed_by(module: str) -> list[str]:
    """Names of the distributions that installed a top-level module."""
    owners = set()
    for distribution in importlib.metadata.distributions():
        listed = (distribution.read_text("top_level.txt") or "").split()
        files = (file.parts[0].partition(".")[0] for file in distribution.files or () if file.parts)
        if (module in listed or module in files) and distribution.metadata["Name"]:
            owners.add(str(distribution.metadata["Name"]))
    return sorted(owners)


def _failure(module: str, exc: Exception, install: str) -> str:
    """The rest of the sentence where `module` could not be imported: why, and the repair."""
    top = module.partition(".")[0]
    if look_for(top) == "left over":
        return _left_over(top, install)
    if isinstance(exc, ModuleNotFoundError):
        missing = (exc.name or module).partition(".")[0]
        if _installed_by(missing):  # recorded, but its files are gone
            return f"; its module {exc.name} is gone. Run: {reinstall(missing, install)}"
        lacks = "which is not installed here" if missing == top else f"which needs {missing}, and that is not installed"
        return f', {lacks}. Install it with: pip install "{install}"'
    line = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
    if lacking := shortage(exc):
        return f", which could not be loaded ({line}). {lacking}"
    return f", which does not import ({line}). Run: {reinstall(top, install)}"


def _left_over(top: str, install: str) -> str:
    return f"; {top} {LEFT_OVER}. Run: {reinstall(top, install)}"
