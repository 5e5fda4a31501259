"""The bond with Nav2's lifecycle manager: there while the node is active, broken at each end of that; none without bondpy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from lifecycle_msgs.msg import Transition

from edge_mtl.bundle import Bundle
from tests.bundles import make_bundle
from tests.ros.harness import NodeProcess, Partner, running, wait_until

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "bond"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bond") / "tiny")


def deactivate(partner: Partner, node: NodeProcess) -> None:
    assert partner.change(Transition.TRANSITION_DEACTIVATE)


def shut_down(partner: Partner, node: NodeProcess) -> None:
    assert partner.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)


def end(partner: Partner, node: NodeProcess) -> None:
    assert node.end() == 0, node.text


@pytest.mark.parametrize("ending", [deactivate, shut_down, end])
def test_the_bond_is_there_while_the_node_is_active(
    ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path, ending: Callable[[Partner, NodeProcess], None]
) -> None:
    file = tmp_path / "bond"
    file.touch()
    environment = ros_environment | {
        "PYTHONPATH": os.pathsep.join([str(FAKE), ros_environment["PYTHONPATH"]]),
        "EDGE_MTL_TEST_BOND": str(file),
    }
    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "autostart:=false", "-r", "__ns:=/robot")

    def noted() -> list[list[Any]]:
        return [json.loads(line) for line in file.read_text().splitlines()]

    with running(environment, tmp_path / "log", *arguments) as node:
        partner = Namespaced("/robot/perception_node")
        try:
            assert partner.change(Transition.TRANSITION_CONFIGURE)
            assert noted() == []
            assert partner.change(Transition.TRANSITION_ACTIVATE)
            made, started = noted()
            assert made == ["made", "/robot/bond", "perception_node"]
            assert started[0] == "started"
            assert started[1] <= 0.5, "the manager gives up after 4 s"
            assert started[2] > 1e6, "a manager that is gone takes no robot's eyes"
            wait_until(lambda: partner.node.count_subscribers("/robot/bond"), "the node listens to the manager")
            ending(partner, node)
            assert noted()[2:] == [["broken"], ["waited", 0.5], ["shut down"]]
            wait_until(lambda: not partner.node.count_publishers("/robot/bond"), "nothing is left of the bond")
            if ending is deactivate:
                assert partner.change(Transition.TRANSITION_ACTIVATE)
                assert [words[0] for words in noted()[5:]] == ["made", "started"]
        finally:
            partner.close()
        assert node.end() == 0, node.text
        assert "Traceback" not in node.text


class Namespaced(Partner):
    """A partner of a node in another namespace."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def call(self, kind: Any, name: str, request: Any, **options: Any) -> Any:
        return super().call(kind, f"{self._name}/{name.rsplit('/', 1)[1]}", request, **options)


def test_without_bondpy_there_is_no_bond(ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path) -> None:
    with running(ros_environment, tmp_path / "log", "-p", f"bundle:={bundle.path}", "-p", "threads:=1") as node:
        partner = Partner()
        try:
            wait_until(lambda: partner.state() == "active", "active")
            assert not partner.node.count_publishers("/bond")
        finally:
            partner.close()
        assert node.end() == 0, node.text
