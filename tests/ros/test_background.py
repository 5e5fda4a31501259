"""Coroutines that wait for blocking calls: others are served meanwhile, errors arrive, and no end of the executor hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

import rclpy
from edge_mtl_ros.background import Background
from edge_mtl_ros.lifecycle import _check
from edge_mtl_ros.loading import Interrupted
from rclpy.executors import SingleThreadedExecutor

from edge_mtl.errors import BackendUnavailable


@pytest.fixture
def executor(ros_environment: dict[str, str]) -> Iterator[Any]:
    """With a node; both are on the node as `node.executor`."""
    context = rclpy.Context()
    context.init(args=[])
    node = rclpy.create_node("background", context=context)
    result = SingleThreadedExecutor(context=context)
    result.add_node(node)
    result.node = node
    yield result
    result.shutdown(timeout_sec=2)
    node.destroy_node()
    context.try_shutdown()


def test_others_are_served_while_a_coroutine_waits_and_it_continues_at_once(executor: Any) -> None:
    background, over, threads = Background(executor.node), threading.Event(), []

    def blocks() -> str:
        threads.append(threading.current_thread())
        assert over.wait(30)
        return "done"

    async def waits() -> str:
        return await background.run(blocks)

    waiting = executor.create_task(waits)
    ticks: list[int] = []
    executor.node.create_timer(0.01, lambda: ticks.append(1))
    while len(ticks) < 5:
        executor.spin_once(timeout_sec=10)
    assert not waiting.done()
    over.set()
    executor.spin_until_future_complete(waiting, timeout_sec=30)
    assert waiting.result() == "done"
    assert threads[0] is not threading.current_thread()


def test_what_the_call_raises_arrives(executor: Any) -> None:
    background, caught = Background(executor.node), []

    def fails() -> None:
        raise Interrupted

    async def waits() -> None:
        try:
            await background.run(fails)
        except Interrupted as exc:
            caught.append(exc)

    executor.spin_until_future_complete(executor.create_task(waits), timeout_sec=30)
    assert len(caught) == 1


def test_without_an_executor_calls_are_made_in_place() -> None:
    background = Background(SimpleNamespace(executor=None))  # type: ignore[arg-type]

    async def two() -> list[str]:
        return [await background.run(lambda: threading.current_thread().name) for _ in range(2)]

    assert background.finish(two()) == [threading.current_thread().name] * 2


def test_a_coroutine_that_waits_for_an_executor_that_has_ended_is_an_error_and_no_hang(executor: Any) -> None:
    from rclpy.task import Future

    async def waits() -> None:
        await Future(executor=executor)

    with pytest.raises(RuntimeError, match="executor that has ended"):
        Background(executor.node).finish(waits())


def test_an_rclpy_that_keeps_its_state_machine_elsewhere_is_refused() -> None:
    machine, service = SimpleNamespace(trigger_transition_by_id=None), SimpleNamespace(callback=None)
    _check(SimpleNamespace(_state_machine=machine, _service_change_state=service))
    for node in (SimpleNamespace(_state_machine=machine), SimpleNamespace(_service_change_state=service)):
        with pytest.raises(BackendUnavailable, match="Humble, Jazzy and Kilted"):
            _check(node)


def test_an_engine_is_not_opened_again_for_a_worker_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_mtl_ros import perception_node
    from edge_mtl_ros.perception_node import PerceptionNode

    def loads(settings: Any, *, progress: Any) -> str:
        progress("a step", 0, 0)
        return "opened"

    monkeypatch.setattr(perception_node, "load_engine", loads)
    node: Any = SimpleNamespace(
        _stop=threading.Event(),
        _loaded=None,
        _logged=("a step", float("inf")),
        activity="",
        _worker=SimpleNamespace(stopping=False),
    )
    node._check_wanted = lambda unwanted: PerceptionNode._check_wanted(node, unwanted)
    node._progress = lambda *arguments: PerceptionNode._progress(node, *arguments)
    assert PerceptionNode._reopen(node) == "opened"  # type: ignore[comparison-overlap]
    node._worker.stopping = True
    with pytest.raises(Interrupted):
        PerceptionNode._reopen(node)
