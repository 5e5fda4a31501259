"""A Bond that writes what is done with it, one JSON list a line, into the file that EDGE_MTL_TEST_BOND names.

As the real one it takes its times before `start` only, has a publisher from its making and a subscription and a thread from
`start` on, and destroys both topics' ends itself at `shutdown`, without the node's knowledge.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from std_msgs.msg import String


class Bond:
    """One end of a bond."""

    def __init__(self, node: Any, topic: str, bond_id: str, on_broken: Any = None, on_formed: Any = None) -> None:
        self._started = False
        self._over = threading.Event()
        self.pub = node.create_publisher(String, topic, 1)
        self.node, self.topic = node, topic
        self.disconnect_timer = threading.Timer(2.0, self._over.set)
        self.heartbeat_period, self.heartbeat_timeout = 1.0, 4.0
        write("made", self.pub.topic_name, bond_id)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("heartbeat_"):
            assert not self._started, f"{name} is set after start"
        super().__setattr__(name, value)

    def start(self) -> None:
        self.sub = self.node.create_subscription(String, self.topic, write, 1)
        self.thread = threading.Thread(target=self._over.wait, daemon=True)
        self.thread.start()
        self._started = True
        write("started", self.heartbeat_period, self.heartbeat_timeout)

    def break_bond(self) -> None:
        write("broken")

    def wait_until_broken(self, timeout: Any) -> bool:
        write("waited", timeout.nanoseconds / 1e9)
        return True

    def shutdown(self) -> None:
        self.sub.destroy()
        self.pub.destroy()
        self._over.set()
        write("shut down")


def write(*words: Any) -> None:
    with open(os.environ["EDGE_MTL_TEST_BOND"], "a") as stream:
        stream.write(json.dumps(words) + "\n")
