"""/diagnostics from a thread of its own: at 1 Hz, and at once when something else is found than before.

A timer of the executor would be silent when a callback hangs, during a long build for instance, and one by ROS time when
simulated time stands still. Knows diagnostic messages; what they say comes from `report`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile

from edge_mtl_ros.report import ERROR, Report

__all__ = ["Heartbeat"]

_LOOK_S = 0.1
_PERIOD_S = 1.0
_LAST_WORDS_S = 0.5
"""How long the last report may take to reach those who listen."""


class Heartbeat:
    """Publishes what `judge` says until `stop`: a report for each of its keys, all in one message.

    A status is named after the node and its key, as diagnostic_updater does.
    """

    def __init__(self, node: Node, judge: Callable[[], Mapping[str, Report]], *, hardware_id: str) -> None:
        self._node, self._judge, self._hardware_id = node, judge, hardware_id
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        self._stop = threading.Event()
        self._sent: Mapping[str, Report] = {}
        self._thread = threading.Thread(target=self._run, name="edge_mtl-diagnostics", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and say why if it went wrong since the last report; nothing is published afterwards."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        with suppress(Exception):  # the context may have ended
            found = self._judge()
            if any(each.level == ERROR and not self._was_sent(name, each) for name, each in found.items()):
                self._publisher.publish(self._message(found))
                self._publisher.wait_for_all_acked(Duration(seconds=_LAST_WORDS_S))  # since Iron

    def _run(self) -> None:
        sent_s = float("-inf")
        while not self._stop.wait(_LOOK_S):
            try:
                found = self._judge()
                if _gist(found) == _gist(self._sent) and time.monotonic() - sent_s < _PERIOD_S:
                    continue
                self._publisher.publish(self._message(found))
                sent_s, self._sent = time.monotonic(), found
            except Exception as exc:  # the context may end between two lines; anything else is said once a second
                if self._stop.is_set() or not self._node.context.ok():
                    return
                self._node.get_logger().error(f"diagnostics: {type(exc).__name__}: {exc}", throttle_duration_sec=1.0)

    def _was_sent(self, name: str, found: Report) -> bool:
        sent = self._sent.get(name)
        return sent is not None and (sent.level, sent.message) == (found.level, found.message)

    def _message(self, found: Mapping[str, Report]) -> Any:
        message = DiagnosticArray(status=[self._status(name, each) for name, each in found.items()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        return message

    def _status(self, name: str, found: Report) -> Any:
        return DiagnosticStatus(
            level=bytes([found.level]),
            name=f"{self._name}: {name}",
            message=found.message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in found.values.items()],
        )


def _gist(found: Mapping[str, Report]) -> dict[str, tuple[int, frozenset[str]]]:
    """What is news when it changes."""
    return {name: (each.level, each.kinds) for name, each in found.items()}
