"""QoS that does not match, on every distribution: publishers have an event, subscriptions have to look.

An event of a subscription wakes whoever waits for it several times for each image, which costs an executor of rclpy
milliseconds of processor time a frame; so subscriptions have none. Knows rclpy; the module of events was renamed after Humble.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["Incompatible", "incompatible_publishers", "no_events", "publisher_events"]

Incompatible = Callable[[str, str], None]
"""Called with the topic and the policy that the other side asked for in vain."""


def no_events() -> Any:
    """Callbacks for a subscription: not even the default ones."""
    return _module().SubscriptionEventCallbacks(use_default_callbacks=False)


def incompatible_publishers(node: Any, subscription: Any) -> str:
    """Why publishers of a subscription's topic offer less than it asks for; empty where all fit."""
    from rclpy.qos import QoSCompatibility, qos_check_compatible

    reasons = set()
    for publisher in node.get_publishers_info_by_topic(subscription.topic_name):
        verdict, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
        if verdict == QoSCompatibility.ERROR:
            reasons.add(str(reason).replace("ERROR: ", "").strip("; "))
    return "; ".join(sorted(reasons))


def publisher_events(topic: str, on_incompatible: Incompatible) -> Any:
    """Callbacks for a publisher."""

    def incompatible(event: Any) -> None:
        on_incompatible(topic, _policy(event.last_policy_kind))

    return _module().PublisherEventCallbacks(incompatible_qos=incompatible)


def _module() -> Any:
    try:
        return import_module("rclpy.event_handler")
    except ImportError:
        return import_module("rclpy.qos_event")  # Humble


def _policy(kind: Any) -> str:
    from rclpy.qos import qos_policy_name_from_kind

    return str(qos_policy_name_from_kind(kind))
