"""Where hardly any thread can be started, the libraries of NumPy and OpenCV are told to begin none.

OpenBLAS, which is in both, interrupts the whole process (SIGINT) where it cannot start its threads, before our code could say
why. So this is looked at before either is imported, and only where processes and threads are limited at all. A program that
imports NumPy before this package has NumPy's own end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

__all__ = ["begin_few_threads"]

_PLENTY = 4096
"""A limit above this is none."""
_LIBRARIES = 4
"""Of so many libraries each may begin a thread a core."""
_ONE: Mapping[str, str] = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_GROUPS = ("sys/fs/cgroup/pids.max", "sys/fs/cgroup/pids/pids.max")


def begin_few_threads(environment: MutableMapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """Set what keeps libraries from beginning threads, if these cannot be had; whether that was so.

    Args:
        root: where sys/ is; anything but "/" is for tests.
    """
    if _limit(root) > _PLENTY or _can_start(_LIBRARIES * (os.cpu_count() or 1)):
        return False
    for name, value in _ONE.items():
        environment.setdefault(name, value)
    return True


def _limit(root: Path) -> float:
    """How many processes and threads this user, or this container, may have."""
    limits = [float("inf")]
    with suppress(ImportError, OSError, ValueError):  # not Unix
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
        limits += [soft] if soft != resource.RLIM_INFINITY else []
    for name in _GROUPS:
        with suppress(OSError, ValueError):  # no such group, or "max"
            limits.append(int((root / name).read_text()))
    return min(limits)


def _can_start(count: int) -> bool:
    """Whether so many threads can run at once: they are started, and end again."""
    done = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        return False
    finally:
        done.set()
        for thread in started:
            thread.join()
    return True
