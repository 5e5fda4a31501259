"""Who is on the other side and does not match, on every distribution: publishers have an event, subscriptions have to look.

An event of a subscription wakes whoever waits for it several times for each image, which costs an executor of rclpy
milliseconds of processor time a frame; so subscriptions have none. Knows rclpy; the module of events was renamed after Humble.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["Incompatible", "Publishers", "message_type", "no_events", "publisher_events", "publishers_of"]

Incompatible = Callable[[str, str], None]
"""Called with the topic and the policy that the other side asked for in vain."""


def no_events() -> Any:
    """Callbacks for a subscription: not even the default ones."""
    return _module().SubscriptionEventCallbacks(use_default_callbacks=False)


@dataclass(frozen=True, slots=True)
class Publishers:
    """Who publishes on a topic that is listened to.

    Attributes:
        count: those whose messages are of the type that is read.
        foreign: types of the others' messages, in order.
        incompatible: why some of the first offer less than is asked for; empty where all fit.
    """

    count: int
    foreign: tuple[str, ...]
    incompatible: str


def message_type(kind: type) -> str:
    """The name of a type of messages: "sensor_msgs/msg/Image"."""
    package, _, _ = kind.__module__.partition(".")
    return f"{package}/msg/{kind.__name__}"


def publishers_of(node: Any, subscription: Any) -> Publishers:
    """The publishers of a subscription's topic."""
    from rclpy.qos import QoSCompatibility, qos_check_compatible

    expected, reasons = message_type(subscription.msg_type), set[str]()
    found = node.get_publishers_info_by_topic(subscription.topic_name)
    own = [publisher for publisher in found if publisher.topic_type == expected]
    for publisher in own:
        verdict, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
        if verdict == QoSCompatibility.ERROR:
            reasons.add(str(reason).replace("ERROR: ", "").strip("; "))
    foreign = {publisher.topic_type for publisher in found} - {expected}
    return Publishers(len(own), tuple(sorted(foreign)), "; ".join(sorted(reasons)))


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
