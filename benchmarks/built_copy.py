"""A temporary copy of a bundle with engines of its own, so that nothing that was built before is used or changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import ENGINES, Bundle
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError

__all__ = ["built_copy"]


def built_copy(
    stack: contextlib.ExitStack, bundle: Bundle, precisions: Sequence[str], *, threads: int, backend: str = "auto"
) -> Bundle:
    """The copy, with an engine of every precision that can be had here; why another cannot is printed.

    Compiled code goes beside the copy, too: the user's cache is set aside for the rest of this process.
    """
    temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    os.environ["XDG_CACHE_HOME"] = str(temporary / "cache")
    folder = temporary / bundle.path.name
    shutil.copytree(bundle.path, folder, ignore=shutil.ignore_patterns(ENGINES))
    for precision in precisions:
        try:
            build_engine(Bundle.open(folder), precision=precision, backend=backend, threads=threads, budget=None)
        except (BackendUnavailable, BuildError, AccuracyError) as error:  # not here, or not right enough to be used
            print(f"{precision}: {error}", file=sys.stderr)
    return Bundle.open(folder)
