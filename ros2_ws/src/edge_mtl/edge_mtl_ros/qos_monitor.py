"""Which topics have somebody with another QoS on the other side, for as long as there is.

A mismatch is reported once, by an event or by a check of the subscriptions; nothing reports its end, so this looks for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.qos import QoSCompatibility, qos_check_compatible

__all__ = ["QosMonitor"]

_GRACE_S = 2.0
"""An event may come before the other side is listed; what was reported just now is believed."""
_LOOK_S = 1.0


class QosMonitor:
    """Topics and the policy that does not fit. Any thread may add; one asks.

    Args:
        node: whose topics they are.
        clock: monotonic seconds; another one is for tests.
    """

    def __init__(self, node: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._found: dict[str, tuple[str, float]] = {}
        self._looked_s = float("-inf")

    def add(self, topic: str, policy: str) -> None:
        """The other side of a topic has another QoS."""
        if topic not in self._found:
            self._node.get_logger().warning(f"{topic}: the other side has another QoS ({policy}); nothing can be exchanged")
        self._found[topic] = policy, self._clock()

    def present(self) -> dict[str, str]:
        """Policies by topic, without those that nobody is left of; looked at once a second."""
        now_s = self._clock()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            for topic, entry in list(self._found.items()):
                if now_s - entry[1] > _GRACE_S and not self._lasts(topic) and self._found.get(topic) == entry:
                    self._found.pop(topic, None)
        return {topic: policy for topic, (policy, _) in list(self._found.items())}

    def _lasts(self, topic: str) -> bool:
        """Whether one of the node's own ends of a topic fits another end not."""
        name = self._node.resolve_topic_name(topic)
        own = self._node.get_name(), self._node.get_namespace()
        ends = [
            (p, s)
            for p in self._node.get_publishers_info_by_topic(name)
            for s in self._node.get_subscriptions_info_by_topic(name)
        ]
        return any(
            own in ((p.node_name, p.node_namespace), (s.node_name, s.node_namespace))
            and qos_check_compatible(p.qos_profile, s.qos_profile)[0] == QoSCompatibility.ERROR
            for p, s in ends
        )
