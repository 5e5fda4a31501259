"""Rendered samples as `Frame`s, and what goes wrong with them as errors that name their folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from zipfile import BadZipFile

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.datasets.frame import Frame

from .cache import CachedSamples

__all__ = ["RenderedFrames", "made_in"]

S = TypeVar("S")


class RenderedFrames(Generic[S]):
    """Cached samples as `Frame`s that have truths of `tasks`.

    Args:
        what: one of them, in errors: "room".
        frame_of: makes a frame of a sample and of the tasks whose truths it has.
    """

    def __init__(self, samples: CachedSamples[S], tasks: Specs, what: str, frame_of: Callable[[S, Specs], Frame]) -> None:
        self._samples, self.tasks, self._what, self._frame_of = samples, tasks, what, frame_of

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Frame:
        try:
            sample = self._samples[index]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as exc:
            where = self._samples.folder
            raise BuildError(f"{self._what} {index} in {where} cannot be read: {exc}. Remove its shard, run again") from exc
        return self._frame_of(sample, self.tasks)


@contextmanager
def made_in(request: Any, what: str) -> Iterator[None]:
    """What rendering raises within the block, as one error; a request has `root`, `split`, `height` and `width`."""
    try:
        yield
    except (OSError, ValueError) as exc:
        raise BuildError(
            f"the {request.split} {what} at {request.height}x{request.width} could not be made in {request.root}: {exc}. "
            "Choose another folder with --data.root"
        ) from exc
