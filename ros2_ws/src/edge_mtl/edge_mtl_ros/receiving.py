"""The subscriptions to the camera and the thread that waits for its messages, beside the executor.

An executor of rclpy builds its wait set again from everything that the node has, at least twice for each message:
milliseconds of processor time, taken from the inference. This thread waits for the camera alone. Knows rclpy's wait sets;
knows nothing about what the messages are for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from edge_mtl_ros.events import Publishers, no_events, publishers_of

__all__ = ["Input", "Receiver"]

_LOOK_NS = 500_000_000
_CHECK_S = 1.0
"""How often it is looked who publishes."""
_END_S = 2.0


@dataclass(frozen=True, slots=True)
class Input:
    """One topic to listen to.

    Attributes:
        kind: type of its messages.
        topic: relative to the node.
        callback: called with (message, seconds of the monotonic clock when it was there); not from the executor's thread.
    """

    kind: type
    topic: str
    callback: Callable[[Any, float], None]


class Receiver:
    """Listens from its making until `close`: best effort, the newest message only, QoS overrides allowed.

    Args:
        node: owner of the subscriptions; its executor leaves them alone.
        inputs: what to listen to.
        on_publishers: called with (topic, who publishes there) for each of the inputs, from time to time.
    """

    def __init__(self, node: Node, inputs: Sequence[Input], *, on_publishers: Callable[[str, Publishers], None]) -> None:
        self._node, self._on_publishers = node, on_publishers
        self._stop = threading.Event()
        group = _NotTheExecutor()
        self._wake = GuardCondition(None, group, context=node.context)
        self._subscriptions: list[tuple[Any, Callable[[Any, float], None]]] = []
        for wanted in inputs:
            subscription = node.create_subscription(
                wanted.kind,
                wanted.topic,
                _never,
                QoSProfile(
                    history=QoSHistoryPolicy.KEEP_LAST,
                    depth=1,
                    reliability=QoSReliabilityPolicy.BEST_EFFORT,
                    durability=QoSDurabilityPolicy.VOLATILE,
                ),
                callback_group=group,
                event_callbacks=no_events(),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            self._subscriptions.append((subscription, wanted.callback))
        self._checked_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="edge_mtl-receive", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Listen no more; no callback is called afterwards. Returns whether the thread ended in time."""
        self._stop.set()
        self._wake.trigger()
        self._thread.join(_END_S)
        for subscription, _ in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._wake.destroy()
        return not self._thread.is_alive()

    def _run(self) -> None:
        context = self._node.context
        with context.handle:
            waiting = rclpy_implementation.WaitSet(len(self._subscriptions), 1, 0, 0, 0, 0, context.handle)
        while not self._stop.is_set():
            try:
                waiting.clear_entities()
                for subscription, _ in self._subscriptions:
                    waiting.add_subscription(subscription.handle)
                waiting.add_guard_condition(self._wake.handle)
                waiting.wait(_LOOK_NS)
                arrived_s = time.monotonic()
                ready = waiting.get_ready_entities("subscription")
                for subscription, callback in self._subscriptions:
                    if subscription.handle.pointer in ready and not self._stop.is_set():
                        found = subscription.handle.take_message(subscription.msg_type, subscription.raw)
                        if found is not None:
                            callback(found[0], arrived_s)
                self._check(arrived_s)
            except Exception as exc:  # a message that cannot be read, or a callback of ours, must not end the listening
                if self._stop.is_set() or not context.ok():
                    return
                self._node.get_logger().error(f"receiving: {type(exc).__name__}: {exc}", throttle_duration_sec=1.0)
                self._stop.wait(0.05)

    def _check(self, now_s: float) -> None:
        if now_s - self._checked_s < _CHECK_S:
            return
        self._checked_s = now_s
        for subscription, _ in self._subscriptions:
            self._on_publishers(subscription.topic_name, publishers_of(self._node, subscription))


class _NotTheExecutor(CallbackGroup):
    """Entities that an executor must leave alone."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None: ...


def _never(message: Any) -> None:
    """Callback of the subscriptions, which no executor runs."""
