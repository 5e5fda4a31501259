"""Callbacks for QoS that do not match, on every distribution: the module that has them was renamed after Humble."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["publisher_events", "subscription_events"]

Incompatible = Callable[[str, str], None]
"""Told the topic and the policy that the other side asked for in vain."""


def publisher_events(topic: str, told: Incompatible) -> Any:
    """Callbacks for a publisher."""
    return _events("PublisherEventCallbacks", topic, told)


def subscription_events(topic: str, told: Incompatible) -> Any:
    """Callbacks for a subscription."""
    return _events("SubscriptionEventCallbacks", topic, told)


def _events(name: str, topic: str, told: Incompatible) -> Any:
    try:
        module = import_module("rclpy.event_handler")
    except ImportError:
        module = import_module("rclpy.qos_event")  # Humble

    def incompatible(event: Any) -> None:
        told(topic, _policy(event.last_policy_kind))

    return getattr(module, name)(incompatible_qos=incompatible)


def _policy(kind: Any) -> str:
    from rclpy.qos import qos_policy_name_from_kind

    return str(qos_policy_name_from_kind(kind))
