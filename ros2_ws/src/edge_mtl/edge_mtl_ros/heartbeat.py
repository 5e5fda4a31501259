"""/diagnostics from a thread of its own: at 1 Hz, and at once when something else is found than before.

A timer of the executor would be silent when a callback hangs, during a long build for instance, and one by ROS time when
simulated time stands still. Knows diagnostic messages; what they say comes from `report`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
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
    """Publishes what `judge` says until `stop`."""

    def __init__(self, node: Node, judge: Callable[[], Report], *, hardware_id: str) -> None:
        self._node, self._judge, self._hardware_id = node, judge, hardware_id
        self._name = f"{node.get_fully_qualified_name().lstrip('/')}: perception"
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        self._stop = threading.Event()
        self._sent = (-1, "")
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
            if found.level == ERROR and (found.level, found.message) != self._sent:
                self._publisher.publish(self._message(found))
                self._publisher.wait_for_all_acked(Duration(seconds=_LAST_WORDS_S))  # since Iron

    def _run(self) -> None:
        sent_s, kinds = float("-inf"), frozenset[str]()
        while not self._stop.wait(_LOOK_S):
            try:
                found = self._judge()
                if (found.level, found.kinds) == (self._sent[0], kinds) and time.monotonic() - sent_s < _PERIOD_S:
                    continue
                self._publisher.publish(self._message(found))
                sent_s, kinds, self._sent = time.monotonic(), found.kinds, (found.level, found.message)
            except Exception as exc:  # the context may end between two lines; anything else is said once a second
                if self._stop.is_set() or not self._node.context.ok():
                    return
                self._node.get_logger().error(f"diagnostics: {type(exc).__name__}: {exc}", throttle_duration_sec=1.0)

    def _message(self, found: Report) -> Any:
        status = DiagnosticStatus(
            level=bytes([found.level]),
            name=self._name,
            message=found.message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in found.values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        return message
