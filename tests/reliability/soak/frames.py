"""Frames as callers send them, without an end: sizes, memory layouts, tasks asked for, streams, results that travel."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np

from edge_mtl import Engine, FrameError, Prediction
from tests.bundles import make_image

__all__ = ["LARGE", "SMALL", "Frames"]

Array = np.ndarray
SMALL = ((16, 16), (12, 16), (17, 29), (24, 16), (16, 30), (8, 8))
LARGE = ((288, 384), (240, 320), (192, 256), (256, 192), (121, 163), (64, 64))
"""The sizes of frames by bundle: few, because memory for maps of a size is kept for the next of that size."""

_CHECKED_EVERY = 97
_BURST_EVERY = 2500
_FIRST_BURSTS_EVERY, _FIRST_BURSTS = 100, 1500  # how many threads are in a runtime at once is chance: the most comes early
_THREADS = 4


class Frames:
    """Runs frames through one engine.

    Args:
        engine: open.
        sizes: (height, width) of the frames.
    Attributes:
        kinds: how many frames were done in which way.
        problems: answers that were not what the same frame got at first.
    """

    def __init__(self, engine: Engine, sizes: tuple[tuple[int, int], ...] = SMALL) -> None:
        self._engine = engine
        self._images = [make_image(7 + number, height=h, width=w) for number, (h, w) in enumerate(sizes)]
        self._tasks = engine.info.tasks
        self._expected = [_bytes_of(engine.predict(image)) for image in self._images]
        self._wide = [image.astype(np.uint16) * 257 for image in self._images]
        for wide in self._wide:
            wide.flags.writeable = False
        self._out = {image.shape[:2]: np.zeros(image.shape[:2], np.float32) for image in self._images}
        self.kinds: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self, frames: int) -> Iterator[int]:
        """Do at least so many; yields how many are done, at moments when nothing runs."""
        done = 0
        for number in count():
            if done >= frames:
                return
            done += self._step(number)
            yield done

    def _step(self, number: int) -> int:
        """One call of the engine, or a few; how many frames that were."""
        image = self._images[number % len(self._images)]
        every = _FIRST_BURSTS_EVERY if number < _FIRST_BURSTS else _BURST_EVERY
        if number % every == every // 2:
            return self._burst()
        if number % 100 == 99:
            return self._stream(number, 8)
        if number % _CHECKED_EVERY == 0:
            return self._checked(number)
        kind, predict = number // len(self._images) % 16, self._engine.predict
        one = (self._tasks[number % len(self._tasks)],)
        if kind == 0:
            self.kinds["all tasks"] += 1
            predict(image)
        elif kind == 1:
            self.kinds["strided"] += 1
            predict(image[::-1, ::-1], channels="bgr", tasks=one)
        elif kind == 2:
            self.kinds["lazily, read"] += 1
            if predict(image, tasks=one, finish="lazily").results[one[0]].spec.name != one[0]:
                self.problems.append(f"frame {number}: the result of another task")
        elif kind == 3:
            self.kinds["lazily, never read"] += 1
            predict(image, finish="lazily")
        elif kind == 4:
            self.kinds["pickled"] += 1
            pickle.loads(pickle.dumps(predict(image, tasks=one)))
        elif kind == 5:
            self.kinds["copied into an array"] += 1
            depth = predict(image, tasks=("depth",)).depth
            assert depth is not None
            np.copyto(self._out[depth.shape], depth)
        elif kind == 6:
            self.kinds["of a camera"] += 1
            height, width = image.shape[:2]
            camera = (float(width), float(width), (width - 1) / 2, (height - 1) / 2)
            predict(image, tasks=("depth",), intrinsics=camera)
        elif kind == 7 and number % 3 == 0:
            self._refused(number)
        elif kind == 8:
            self.kinds["read-only, of 16 bits"] += 1
            predict(self._wide[number % len(self._wide)], tasks=one)
        else:
            self.kinds["depth only"] += 1
            predict(image, tasks=("depth",))
        return 1

    def _checked(self, number: int) -> int:
        """A frame whose answer must be that of the first time, to the last bit."""
        self.kinds["compared"] += 1
        which = number % len(self._images)
        if _bytes_of(self._engine.predict(self._images[which])) != self._expected[which]:
            self.problems.append(f"frame {number}: another answer than at first")
        return 1

    def _refused(self, number: int) -> None:
        self.kinds["refused"] += 1
        try:
            self._engine.predict(np.zeros((0, 4, 3), np.uint8))
        except FrameError:
            return
        self.problems.append(f"frame {number}: an empty frame was taken")

    def _stream(self, number: int, frames: int) -> int:
        self.kinds["streamed"] += frames
        images = (self._images[(number + index) % len(self._images)] for index in range(frames))
        answered = sum(1 for _ in self._engine.stream(images))
        if answered != frames:
            self.problems.append(f"frame {number}: {answered} answers to a stream of {frames}")
        return frames

    def _burst(self) -> int:
        """Several threads at once; they end before this does."""
        frames = 2 * _THREADS
        self.kinds["in threads"] += frames
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(self._engine.predict, [self._images[index % len(self._images)] for index in range(frames)]))
        return frames


def _bytes_of(prediction: Prediction) -> bytes:
    """The maps of an answer."""
    maps = (prediction.segmentation, prediction.depth, prediction.normals)
    return b"".join(values.tobytes() for values in maps if values is not None)
