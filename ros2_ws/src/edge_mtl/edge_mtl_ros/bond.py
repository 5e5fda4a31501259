"""The bond by which Nav2's lifecycle manager sees that the node lives, where the package `bondpy` is installed.

A manager whose `bond_timeout` is not 0 expects the other end on the topic `bond`, under the node's name, as soon as the node
is active, and takes all its nodes down when the heartbeat stays out. Knows bondpy's interface of ROS 2.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rclpy.node import Node

__all__ = ["ManagerBond"]

_TOPIC = "bond"
"""Relative, as in Nav2: manager and node are in one namespace."""
_HEARTBEAT_S = 0.1
"""As Nav2's own nodes; a manager gives up after 4 s by default."""
_PATIENCE_S = 1e8
"""The manager watches the node, not the reverse: without it the node continues."""
_END_S = 1.0


class ManagerBond:
    """This end of the bond, from `start` to `stop`; nothing where bondpy is not installed.

    Args:
        node: its owner, whose executor must turn.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bond: Any = None

    def start(self) -> None:
        """Send heartbeats until `stop`."""
        kind = _bond_type()
        if kind is None or self._bond is not None:
            return
        bond = kind(self._node, _TOPIC, self._node.get_name())
        bond.heartbeat_period, bond.heartbeat_timeout = _HEARTBEAT_S, _PATIENCE_S
        bond.start()
        self._bond = bond

    def stop(self) -> None:
        """Break the bond, of which the manager hears at once."""
        bond, self._bond = self._bond, None
        if bond is None:
            return
        bond.shutdown()
        bond.disconnect_timer.cancel()  # nobody listens for the other end's answer any more
        bond.thread.join(_END_S)
        self._node.destroy_subscription(bond.sub)  # bondpy destroys both, and leaves them in the node's lists
        self._node.destroy_publisher(bond.pub)


def _bond_type() -> Any:
    """bondpy's Bond, None where it is not installed."""
    try:
        return import_module("bondpy.bondpy").Bond
    except ImportError:
        return None
