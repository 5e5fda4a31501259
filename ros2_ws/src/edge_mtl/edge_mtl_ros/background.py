"""Calls that block, in threads of their own, for coroutines of an executor to wait for.

An executor of rclpy runs all callbacks in one thread: one that loads an engine there leaves parameters, state and transitions
unanswered. A coroutine that waits for a Future of rclpy costs nothing meanwhile, on every distribution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from rclpy.node import Node
from rclpy.task import Future

__all__ = ["Background", "complete"]

T = TypeVar("T")


class Background:
    """Runs blocking calls for the coroutines of a node's executor.

    Args:
        node: whose executor continues the coroutines.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._at_once = False

    async def run(self, work: Callable[[], T]) -> T:
        """What a call returns, made in a thread; raises what it raises."""
        if self._at_once:
            return work()
        future, executor = Future(executor=self._node.executor), self._node.executor
        outcome: list[Any] = []

        def call() -> None:
            error: BaseException | None = None
            try:
                outcome.append(work())
            except BaseException as exc:
                error = exc
            complete(future, error, executor)

        threading.Thread(target=call, name="edge_mtl-background", daemon=True).start()
        error = await future
        if error is not None:
            raise error
        result: T = outcome[0]
        return result

    def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns, run to its end in this thread; the executor must have ended."""
        self._at_once = True
        try:
            coroutine.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        coroutine.close()
        raise RuntimeError("a coroutine waits for an executor that has ended")


def complete(future: Any, result: Any, executor: Any) -> None:
    """Give a Future of rclpy its result, from any thread, and let the executor look at what waits for it."""
    with suppress(Exception):  # the executor may end at this moment; then nobody waits
        future.set_result(result)
        executor.wake()  # up to Kilted a Future does not say that a coroutine waits for it
