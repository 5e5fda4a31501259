"""The bond by which Nav2's lifecycle manager sees that the node lives, where the package `bondpy` is installed.

A manager whose `bond_timeout` is not 0 expects the other end on the topic `bond`, under the node's name, as soon as the node
is active, and takes all its nodes down when the heartbeat stays out. Knows bondpy's interface of ROS 2.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node

from edge_mtl_ros.background import Background

__all__ = ["ManagerBond"]

_TOPIC = "bond"
"""Relative, as in Nav2: manager and node are in one namespace."""
_HEARTBEAT_S = 0.1
"""As Nav2's own nodes; a manager gives up after 4 s by default."""
_PATIENCE_S = 1e8
"""The manager watches the node, not the reverse: without it the node continues."""
_END_S = 0.5
"""How long the manager is told of the end, every 50 ms, until it answers. A publisher that is destroyed behind its last message
may take that along."""


class ManagerBond:
    """This end of the bond, from `start` to `stop`; nothing where bondpy is not installed.

    Args:
        node: its owner, whose executor must turn.
        background: where it waits for the manager's answer.
    """

    def __init__(self, node: Node, background: Background) -> None:
        self._node, self._background = node, background
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

    async def stop(self) -> None:
        """Break the bond, of which the manager hears at once."""
        bond, self._bond = self._bond, None
        if bond is None:
            return
        bond.break_bond()
        await self._background.run(partial(bond.wait_until_broken, Duration(seconds=_END_S)))
        bond.shutdown()
        bond.disconnect_timer.cancel()  # a thread that would wait for an answer
        self._node.destroy_subscription(bond.sub)  # bondpy destroys both, but leaves them in the node's lists
        self._node.destroy_publisher(bond.pub)


def _bond_type() -> Any:
    """bondpy's Bond, None where it is not installed."""
    try:
        return import_module("bondpy.bondpy").Bond
    except ImportError:
        return None
