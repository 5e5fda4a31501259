"""A lifecycle node whose transitions are coroutines: while one waits, everything else is answered.

rclpy makes a transition inside one callback, so that a node that takes minutes to configure answers nobody for minutes. Here
the state machine is driven step by step, as rclpy drives it: `get_state` says `configuring` meanwhile, and
`transition_event` has every step.

This is the only module that knows what rclpy keeps to itself: `_state_machine` and `_service_change_state` of a lifecycle
node. Read in rclpy 3.3 (Humble), 7.1 (Jazzy) and 9.1 (Kilted); a distribution without them is refused at the start.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lifecycle_msgs.msg import State, Transition
from rclpy.callback_groups import CallbackGroup, ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn as Return
from rclpy.task import Future

from edge_mtl.errors import BackendUnavailable
from edge_mtl_ros.background import complete

__all__ = ["SteppedLifecycleNode", "TransitionRefused"]

T = TypeVar("T")

_SHUTDOWN = (
    "shutdown",
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
)
"""The label, and what it stands for in each state."""


class TransitionRefused(Exception):
    """A transition that does not exist in this state, or that another one leaves no room for; the message says which."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What changes the node now.

    Attributes:
        transition: it is one of the lifecycle, so that others are refused until its end; else they wait.
        over: done at its end.
    """

    transition: bool
    over: Any


class SteppedLifecycleNode(LifecycleNode):
    """A lifecycle node of which `on_configure` and its like may be coroutines. They return a result and raise nothing.

    One transition at a time: another that is asked for meanwhile is refused, but for a shutdown, which interrupts and
    follows. All callbacks are in one reentrant group; the executor has one thread, so that they meet only where one waits.
    `trigger_configure` and its like of rclpy do not wait for coroutines: `change_state` takes their place.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self._group = ReentrantCallbackGroup()
        self._change: _Change | None = None
        super().__init__(name, **options)
        _check(self)
        self._service_change_state.callback = self._on_change_state
        self._steps: dict[int, Callable[[Any], Any]] = {
            State.TRANSITION_STATE_CONFIGURING: self.on_configure,
            State.TRANSITION_STATE_CLEANINGUP: self.on_cleanup,
            State.TRANSITION_STATE_SHUTTINGDOWN: self.on_shutdown,
            State.TRANSITION_STATE_ACTIVATING: self.on_activate,
            State.TRANSITION_STATE_DEACTIVATING: self.on_deactivate,
            State.TRANSITION_STATE_ERRORPROCESSING: self.on_error,
        }

    @property
    def default_callback_group(self) -> CallbackGroup:
        """The group of everything that names no other: while one callback waits, the others are called."""
        return self._group

    @property
    def state(self) -> str:
        """The state that the lifecycle is in, that of a transition while one is made. Any thread may ask."""
        return str(self._state_machine.current_state[1])

    @property
    def in_transition(self) -> bool:
        """Whether a transition is being made."""
        return self._change is not None and self._change.transition

    def interrupt(self) -> None:
        """End what the present transition waits for as soon as possible; for subclasses."""

    async def change_state(self, transition: int | str) -> Return:
        """Make a transition, after what changes the node now; how it ended.

        Args:
            transition: its number, or its label.
        Raises:
            TransitionRefused: the state that the node is in by then does not have it.
        """
        return await self.exclusively(lambda: self._make(transition), transition=True)

    async def exclusively(self, work: Callable[[], Awaitable[T]], *, transition: bool = False) -> T:
        """Do what no transition may meet, after what changes the node now; transitions that are asked for meanwhile wait."""
        while self._change is not None:
            await self._change.over
        self._change = change = _Change(transition, Future(executor=self.executor))
        try:
            return await work()
        finally:
            self._change = None
            complete(change.over, None, self.executor)

    async def _make(self, transition: int | str) -> Return:
        machine = self._state_machine
        before = LifecycleState(state_id=machine.current_state[0], label=machine.current_state[1])
        allowed = {found[0]: found[1] for found in machine.available_transitions}
        number = next((number for number, label in allowed.items() if transition in (number, label)), None)
        if number is None:
            names = {found[0]: found[1] for found in machine.transition_graph}
            raise TransitionRefused(
                f"transition {names.get(transition, transition)} refused: the node is {before.label}, "
                f"where it can {', '.join(allowed.values()) or 'do nothing more'}"
            )
        machine.trigger_transition_by_id(number, True)
        result = await self._step(before)
        machine.trigger_transition_by_label(result.to_label(), True)
        if result == Return.ERROR:
            recovered = await self._step(before)
            machine.trigger_transition_by_label(recovered.to_label(), True)
        return result

    async def _step(self, before: LifecycleState) -> Return:
        result = self._steps[self._state_machine.current_state[0]](before)
        return await result if inspect.isawaitable(result) else result

    async def _on_change_state(self, request: Any, response: Any) -> Any:
        """The service: it has no place for a reason, which goes into the log."""
        try:
            response.success = await self._asked(request.transition) == Return.SUCCESS
        except TransitionRefused as exc:
            self.get_logger().warning(str(exc))
            response.success = False
        return response

    async def _asked(self, wanted: Transition) -> Return:
        transition = wanted.label or wanted.id
        if not self.in_transition:
            return await self.change_state(transition)
        if transition not in _SHUTDOWN:
            raise TransitionRefused(f"transition {transition} refused: the node is {self.state}; ask again when that is over")
        self.get_logger().info(f"shutdown asked for while {self.state}: it follows")
        self.interrupt()
        while self._change is not None:
            await self._change.over
        return await self.change_state("shutdown")


def _check(node: Any) -> None:
    """Refuse an rclpy in which a lifecycle node is made otherwise."""
    service = getattr(node, "_service_change_state", None)
    if not hasattr(service, "callback") or not hasattr(getattr(node, "_state_machine", None), "trigger_transition_by_id"):
        raise BackendUnavailable(
            "This rclpy keeps the state machine of a lifecycle node elsewhere than those of Humble, Jazzy and Kilted. "
            "Use one of these distributions, or a newer edge_mtl."
        )
