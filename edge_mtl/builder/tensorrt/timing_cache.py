"""Timings of kernels from earlier builds, which make the next one faster. One file per library version and GPU.

Knows files; a cache that cannot be used is left alone with a reason, and the build starts without one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.cuda.gpus import Gpu
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.engine_store.private_files import check_owner
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.files import sha256_bytes, write_atomic

__all__ = ["attach", "cache_file", "keep"]

_MOST_BYTES = 256 << 20
_LOCK_TIMEOUT_S = 30.0
_REMEDY = "Delete it, or name another timingCacheFile."


def cache_file(folder: Path, library: Library, gpu: Gpu | None) -> Path:
    """Where the timings of this library on this GPU lie."""
    here = gpu.describe() if gpu is not None else "no GPU"
    return folder / f"{library.name}-{library.version_text}-{sha256_bytes(here.encode())[:12]}.timing"


def attach(config: Any, path: Path) -> tuple[Any, str]:
    """Give a builder's configuration the cache in `path`, or an empty one; returns it and why it is empty, "" if it is not.

    The cache must live as long as the build.
    """
    payload, why = _read(path)
    for content in (payload, b"") if payload else (b"",):
        try:
            cache = config.create_timing_cache(content)
        except (RuntimeError, TypeError, ValueError):
            cache = None
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache, why
        why = f"{path} is of another device or library: it starts again"
    return None, "this library takes no timing cache"


def keep(cache: Any, path: Path) -> str:
    """Write a cache; returns why that could not be, "" if it was. A build does not fail for it."""
    serialized = cache.serialize() if cache is not None else None
    payload = bytes(serialized) if serialized is not None else b""
    if not payload:
        return ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(path.with_name(f".{path.name}.lock"), timeout_s=_LOCK_TIMEOUT_S):
            write_atomic(path, payload)
    except (OSError, BuildError) as exc:
        return f"the timing cache could not be written to {path} ({exc})"
    return ""


def _read(path: Path) -> tuple[bytes, str]:
    if not path.is_file():
        return b"", ""
    try:
        check_owner(path.parent, remedy=_REMEDY)
        if path.stat().st_size > _MOST_BYTES:
            return b"", f"{path} is larger than {_MOST_BYTES} bytes: it starts again"
        return path.read_bytes(), ""
    except (OSError, BundleError) as exc:
        return b"", str(exc)
