"""Engines that are loaded and closed again and again, in all the ways in which callers leave them."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from edge_mtl import EdgeMtlError, Engine, EngineClosed
from edge_mtl.errors import TaskError
from tests.bundles import make_image
from tests.reliability.soak.resources import MIB, Rules

__all__ = ["CYCLE_RULES", "Cycles"]

CYCLE_RULES = Rules(warm_up=50, growth_bytes=5 * MIB, per=1_000)
_HANG_S = 20.0
_THREADS = 3


class Cycles:
    """Loads the engines of the bundle at `path`.

    Attributes:
        kinds: how many cycles ended in which way.
        problems: what went otherwise than promised.
    """

    def __init__(self, path: Path, *, precisions: tuple[str, ...] = ("fp32",)) -> None:
        self._path, self._precisions = path, precisions
        self._image = make_image(3)
        self._ways: tuple[tuple[str, Callable[[Engine], str]], ...] = (
            ("closed", self._closed),
            ("closed under threads", self._under_threads),
            ("forked", self._forked),
            ("stream closed half-way", self._stream_closed),
            ("stream dropped half-way", self._stream_dropped),
            ("error in the consumer", self._consumer_fails),
            ("error in the source", self._source_fails),
            ("closed within a stream", self._closed_within),
            ("dropped without a close", self._dropped),
            ("refused while loading", self._refused),
        )
        self.kinds: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self, cycles: int) -> Iterator[int]:
        """So many engines, one after the other; yields how many are done."""
        for number in count():
            if number >= cycles:
                return
            name, way = self._ways[number % len(self._ways)]
            engine = self._open(number)
            try:
                problem = way(engine)
            except EdgeMtlError as exc:
                problem = f"{type(exc).__name__}: {exc}"
            finally:
                engine.close()
                del engine
            left = [each.name for each in threading.enumerate() if each.name.startswith("edge_mtl")]
            if left and not problem:
                problem = f"threads are left: {', '.join(left)}"
            self.kinds[name] += 1
            if problem:
                self.problems.append(f"cycle {number}, {name}: {problem}")
            yield number + 1

    def _open(self, number: int) -> Engine:
        precision = self._precisions[number // len(self._ways) % len(self._precisions)]
        return Engine(self._path, backend="onnxruntime", precision=precision, threads=1)

    def _closed(self, engine: Engine) -> str:
        engine.predict(self._image)
        engine.close()
        engine.close()
        return _refusal(lambda: engine.predict(self._image))

    def _under_threads(self, engine: Engine) -> str:
        ended: list[str] = []
        begun = threading.Barrier(_THREADS + 1)

        def work() -> None:
            begun.wait()
            try:
                while True:
                    engine.predict(self._image)
            except BaseException as exc:
                ended.append(type(exc).__name__)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        begun.wait()
        time.sleep(0.002)
        engine.close()
        for thread in threads:
            thread.join(_HANG_S)
        wanted = ["EngineClosed"] * _THREADS
        return "" if ended == wanted else f"EngineClosed was expected in {_THREADS} threads, found {ended}"

    def _forked(self, engine: Engine) -> str:
        """A child, forked while another thread predicts and a stream runs: refused, and gone at once."""
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                engine.predict(self._image)

        thread = threading.Thread(target=work)
        stream = engine.stream([self._image] * 4)
        lazy = engine.predict(self._image, finish="lazily")
        next(stream)
        thread.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                os._exit(_in_child(engine, stream, lazy, self._image))
            problem = _wait(child)
        finally:
            over.set()
            thread.join(_HANG_S)
        answered = sum(1 for _ in stream)
        return problem or ("" if answered == 3 else f"{answered} of 3 answers of the stream after the fork")

    def _stream_closed(self, engine: Engine) -> str:
        stream = engine.stream(self._frames())
        next(stream)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        engine.predict(self._image)
        return ""

    def _stream_dropped(self, engine: Engine) -> str:
        stream = engine.stream(self._frames())
        next(stream)
        del stream
        gc.collect()
        return ""

    def _consumer_fails(self, engine: Engine) -> str:
        try:
            for number, _ in enumerate(engine.stream(self._frames())):
                if number == 2:
                    raise KeyError("the consumer's own")
        except KeyError:
            pass
        gc.collect()
        engine.predict(self._image)
        return ""

    def _source_fails(self, engine: Engine) -> str:
        def frames() -> Iterator[np.ndarray]:
            yield self._image
            yield self._image
            raise LookupError("the source's own")

        answered = 0
        try:
            for _ in engine.stream(frames()):
                answered += 1
        except LookupError:
            return "" if answered == 2 else f"{answered} answers before the source's error, 2 were expected"
        return "the source's error was swallowed"

    def _closed_within(self, engine: Engine) -> str:
        stream = engine.stream(self._frames())
        next(stream)
        engine.close()
        return _refusal(lambda: list(stream))

    def _dropped(self, engine: Engine) -> str:
        Engine(self._path, backend="onnxruntime", precision="fp32", threads=1).predict(self._image)
        return ""

    def _refused(self, engine: Engine) -> str:
        try:
            Engine(self._path, backend="onnxruntime", threads=1, tasks=("nothing",))
        except TaskError:
            return ""
        return "a task that is not there was taken"

    def _frames(self) -> Iterator[np.ndarray]:
        return (self._image for _ in range(100))


def _refusal(use: Callable[[], object]) -> str:
    """Empty where `use` is refused because the engine is closed."""
    try:
        use()
    except EngineClosed:
        return ""
    return "a closed engine answered"


def _in_child(engine: Engine, stream: Iterator[object], lazy: object, image: np.ndarray) -> int:
    """What a forked child may do: 0 where every use of the engine is refused and what was answered before can be read."""
    refused = 0
    for use in (lambda: engine.predict(image), lambda: next(stream)):
        try:
            use()
        except EngineClosed:
            refused += 1
        except BaseException:
            return 5
    try:
        found = lazy.depth  # type: ignore[attr-defined]
        engine.close()
    except BaseException:
        return 6
    return 0 if refused == 2 and found is not None else 7


def _wait(child: int) -> str:
    """Empty where the child ends by itself and has nothing to say."""
    end_s = time.monotonic() + _HANG_S
    while time.monotonic() < end_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "" if code == 0 else f"the forked child ended with {code}"
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"the forked child hung for {_HANG_S:g} s"
