"""Which TensorRT is here, its version, and what that version has. Knows nothing about graphs, bundles or CUDA memory.

TensorRT and TensorRT for RTX have one Python API; the module is found here and passed to whoever needs it. Its versions
differ (10.3 has `BuilderFlag.FP16`, 11 does not), so nothing outside this module asks for a member by attribute that
some supported version lacks: `member` and `has` look first, and a missing one is an error that names version and option.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edge_mtl.errors import BackendUnavailable, BuildError, BundleError, EngineMismatch
from edge_mtl.packages import look_for

__all__ = [
    "LIBRARIES",
    "OLDEST",
    "Heard",
    "Library",
    "check_plan",
    "find_library",
    "flag",
    "has",
    "installed",
    "library_of",
    "listening",
    "logger_of",
    "member",
]

LIBRARIES: Mapping[str, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}
"""Module and name of the libraries, the one that is taken where both are here first."""

OLDEST: tuple[int, int] = (10, 3)
"""TensorRT of JetPack 6. Numbers of TensorRT for RTX are its own."""

_MAGIC: Mapping[str, bytes] = {"tensorrt": b"ftrt", "tensorrt_rtx": b"vtrt"}
_SMALLEST_PLAN = 64
_INSTALL = 'Install one with: pip install "edge-mtl[tensorrt]" (or "edge-mtl[rtx]"); on a Jetson it comes with JetPack'


@dataclass(frozen=True, slots=True)
class Library:
    """One TensorRT library.

    Attributes:
        module: the Python module.
        name: "tensorrt" or "tensorrt_rtx".
        version: numbers of its version, e.g. (10, 3, 0).
    """

    module: Any
    name: str
    version: tuple[int, ...]

    @property
    def rtx(self) -> bool:
        """Whether this is TensorRT for RTX."""
        return self.name == "tensorrt_rtx"

    @property
    def version_text(self) -> str:
        """Version as the library writes it."""
        return ".".join(str(number) for number in self.version)

    @property
    def magic(self) -> bytes:
        """First bytes of the plans that this library makes and takes."""
        return _MAGIC[self.name]

    def describe(self) -> str:
        """Name and version for people."""
        return f"{LIBRARIES[self.name]} {self.version_text}"


def installed() -> tuple[str, ...]:
    """Modules of `LIBRARIES` that Python finds, in order. Imports nothing."""
    return tuple(name for name in LIBRARIES if look_for(name) == "whole")


def find_library(name: str | None = None) -> Library:
    """Import a TensorRT library: the one called `name`, or the first that works.

    Raises:
        BackendUnavailable: not installed, it does not import, or it is too old; says why for each.
    """
    if name is not None and name not in LIBRARIES:
        raise BackendUnavailable(f"Unknown TensorRT library {name!r}. Choose one of: {', '.join(LIBRARIES)}")
    reasons = []
    for found in installed() if name is None else (name,):
        try:
            return library_of(importlib.import_module(found), name=found)
        except BackendUnavailable as exc:
            reasons.append(str(exc))
        except (ImportError, OSError, RuntimeError) as exc:  # shared libraries that are missing or do not fit
            reasons.append(f"{found} is not usable here ({exc}). {_INSTALL}")
    raise BackendUnavailable(" ".join(reasons) or f"TensorRT is not installed. {_INSTALL}")


def library_of(module: Any, *, name: str | None = None) -> Library:
    """Describe an imported module.

    Args:
        name: which library it is; by default what the module calls itself.
    Raises:
        BackendUnavailable: it has no version, or one below `OLDEST`.
    """
    kind = name or ("tensorrt_rtx" if "rtx" in str(module.__name__) else "tensorrt")
    text = str(getattr(module, "__version__", ""))
    version = tuple(int(number) for number in re.findall(r"\d+", text)[:4])
    if not version:
        raise BackendUnavailable(f"{kind} is installed but tells no version. {_INSTALL}")
    if kind == "tensorrt" and version[:2] < OLDEST:
        oldest = ".".join(str(number) for number in OLDEST)
        raise BackendUnavailable(f"TensorRT {text} is older than {oldest}, the oldest that is supported. {_INSTALL}")
    return Library(module, kind, version)


def has(library: Library, path: str) -> bool:
    """Whether this version has `path`, e.g. "BuilderFlag.FP16" or "IBuilderConfig.tiling_optimization_level"."""
    place = library.module
    for part in path.split("."):
        if not hasattr(place, part):
            return False
        place = getattr(place, part)
    return True


def member(library: Library, enum: str, name: str, *, option: str | None = None) -> Any:
    """A member of one of the library's enums.

    Args:
        option: what the user asked for, for the message; by default the member itself.
    Raises:
        BuildError: this version does not have it; names version, option and what there is.
    """
    kind = getattr(library.module, enum, None)
    found = getattr(kind, name, None) if kind is not None else None
    if found is None:
        members = ", ".join(sorted(getattr(kind, "__members__", {}))) or "nothing of the kind"
        raise BuildError(
            f"{option or f'{enum}.{name}'} is not to be had with {library.describe()}: it has no {enum}.{name}, "
            f"but {members}. Leave that option out."
        )
    return found


flag = member


def check_plan(library: Library, plan: bytes, *, source: str, remedy: str) -> None:
    """Refuse what cannot be a plan of this library. To be called, with verified bytes, before anything is deserialised.

    Some runtimes end the process on an empty or foreign buffer, so size and first bytes are looked at here.

    Args:
        source: where the plan is from, the start of messages.
        remedy: what to do, the end of messages.
    Raises:
        EngineMismatch: a plan of the other library.
        BundleError: no plan at all.
    """
    for name, magic in _MAGIC.items():
        if plan[: len(magic)] == magic and name != library.name:
            raise EngineMismatch(
                f"{source} is a plan of {LIBRARIES[name]}; here it would be run by {library.describe()}. {remedy}"
            )
    if len(plan) < _SMALLEST_PLAN or plan[: len(library.magic)] != library.magic:
        raise BundleError(
            f"{source} is not a plan of {LIBRARIES[library.name]}: it has {len(plan)} bytes and starts with {plan[:4]!r}, "
            f"{library.magic!r} was expected. {remedy}"
        )


@dataclass(slots=True)
class Heard:
    """What a library said: lists of texts, newest last."""

    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@functools.cache
def logger_of(library: Library) -> Any:
    """The ILogger for everything that is made with `library`: one per process.

    The library keeps the first logger that it was ever given and ignores later ones, so there is one, which is never freed.
    """
    base: Any = library.module.ILogger
    severe = (base.INTERNAL_ERROR, base.ERROR)

    class Listener(base):  # type: ignore[misc]
        """Hands warnings and errors to whoever listens."""

        def __init__(self) -> None:
            base.__init__(self)
            self.listeners: list[Heard] = []

        def log(self, severity: Any, msg: str) -> None:
            for heard in tuple(self.listeners):
                if severity in severe:
                    heard.errors.append(msg)
                elif severity == base.WARNING:
                    heard.warnings.append(msg)

    return Listener()


@contextmanager
def listening(library: Library) -> Iterator[Heard]:
    """Collect the warnings and errors of `library` within the block, whichever thread they come from."""
    logger, heard = logger_of(library), Heard()
    logger.listeners.append(heard)
    try:
        yield heard
    finally:
        logger.listeners[:] = [other for other in logger.listeners if other is not heard]
