"""While an engine is loaded, for minutes where one is built, the node answers everybody, and its transitions stay in order.

The loads of these nodes last until a file is gone: a node that loads in its executor's thread would never answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import Trigger

from edge_mtl.bundle import Bundle
from tests.bundles import make_bundle, make_image
from tests.ros import faulty_node
from tests.ros.harness import NAME, NodeProcess, Partner, camera_message, wait_until

ANSWER_S = 20.0
"""How long an answer may take here, where no test measures speed."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("answers") / "tiny")


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """The file that holds loads while it is there."""
    return tmp_path / "hold"


@pytest.fixture
def node(ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path, hold: Path) -> Iterator[NodeProcess]:
    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "autostart:=false")
    environment = ros_environment | {faulty_node.HELD_BY: str(hold)}
    command = [sys.executable, faulty_node.__file__, faulty_node.HELD]
    process = NodeProcess(environment, *arguments, log=tmp_path / "log", command=command)
    try:
        yield process
        assert process.end(timeout_s=30.0) == 0, process.text
        assert "Traceback" not in process.text
    finally:
        process.end()


@pytest.fixture
def partner(node: NodeProcess) -> Iterator[Partner]:
    result = Partner()
    yield result
    result.close()


class Waiting:
    """A call whose answer comes later."""

    def __init__(self, partner: Partner, kind: Any, name: str, request: Any) -> None:
        self._client = partner.node.create_client(kind, f"{NAME}/{name}")
        assert self._client.wait_for_service(ANSWER_S)
        self._future = self._client.call_async(request)

    @property
    def answered(self) -> bool:
        return bool(self._future.done())

    def answer(self) -> Any:
        wait_until(self._future.done, "the answer", timeout_s=ANSWER_S)
        return self._future.result()


def change(partner: Partner, transition: int) -> Waiting:
    request = ChangeState.Request()
    request.transition.id = transition
    return Waiting(partner, ChangeState, "change_state", request)


def reload(partner: Partner) -> Waiting:
    return Waiting(partner, Trigger, "reload", Trigger.Request())


def is_holding(partner: Partner) -> None:
    wait_until(lambda: faulty_node.HOLDING in partner.values().get("message", ""), "the load", timeout_s=ANSWER_S)


def answers(partner: Partner, state: str) -> None:
    """State, parameters and diagnostics, again and again."""
    for value in (True, False):
        assert partner.state() == state
        assert partner.set(stability=value).successful
        assert partner.get("stability") is value
    count = len(partner.diagnostics)
    wait_until(lambda: len(partner.diagnostics) >= count + 2, "diagnostics continue", timeout_s=ANSWER_S)
    assert partner.values()["state"] == state


def active(partner: Partner) -> None:
    assert partner.change(Transition.TRANSITION_CONFIGURE)
    assert partner.change(Transition.TRANSITION_ACTIVATE)


def test_everybody_is_answered_throughout_configure_and_other_changes_are_refused(
    partner: Partner, node: NodeProcess, hold: Path
) -> None:
    events: list[tuple[str, str]] = []
    partner.node.create_subscription(
        TransitionEvent,
        f"{NAME}/transition_event",
        lambda event: events.append((event.start_state.label, event.goal_state.label)),
        10,
    )
    assert partner.state() == "unconfigured"
    wait_until(lambda: partner.node.count_publishers(f"{NAME}/transition_event"), "the node's events")
    time.sleep(0.5)
    hold.touch()
    configure = change(partner, Transition.TRANSITION_CONFIGURE)
    is_holding(partner)
    answers(partner, "configuring")
    assert not partner.change(Transition.TRANSITION_CONFIGURE)
    assert not partner.change(Transition.TRANSITION_CLEANUP)
    assert node.text.count("refused: the node is configuring") == 2
    refused = partner.reload()
    assert not refused.success
    assert "the node is configuring" in refused.message
    assert not configure.answered
    hold.unlink()
    assert configure.answer().success
    assert partner.state() == "inactive"
    wait_until(lambda: len(events) >= 2, "the events")
    assert events == [("unconfigured", "configuring"), ("configuring", "inactive")]


@pytest.mark.parametrize("label", ["", "shutdown"])
def test_a_shutdown_interrupts_configure(partner: Partner, hold: Path, label: str) -> None:
    hold.touch()
    configure = change(partner, Transition.TRANSITION_CONFIGURE)
    is_holding(partner)
    request = ChangeState.Request()
    request.transition.label = label
    request.transition.id = 0 if label else Transition.TRANSITION_UNCONFIGURED_SHUTDOWN
    assert Waiting(partner, ChangeState, "change_state", request).answer().success
    assert not configure.answer().success
    assert partner.state() == "finalized"


def test_everybody_is_answered_throughout_a_reload_and_the_node_can_be_deactivated_meanwhile(
    partner: Partner, hold: Path
) -> None:
    active(partner)
    partner.listen("segmentation")
    partner.wait_connected()
    partner.cameras.publish(camera_message(96, 64, 80.0))
    hold.touch()
    running = reload(partner)
    is_holding(partner)
    answers(partner, "active")
    assert partner.send_until("segmentation", make_image(1))
    second = partner.reload()
    assert not second.success
    assert "a reload is running" in second.message
    assert partner.change(Transition.TRANSITION_DEACTIVATE)
    answers(partner, "inactive")
    assert partner.change(Transition.TRANSITION_ACTIVATE)
    assert faulty_node.HOLDING in partner.values()["message"]
    assert not running.answered
    hold.unlink()
    assert running.answer().success
    assert partner.state() == "active"
    partner.received.clear()
    assert partner.send_until("segmentation", make_image(2))


def test_a_reload_that_ends_while_the_node_is_inactive_is_used_when_it_is_active_again(
    partner: Partner, tmp_path: Path, hold: Path
) -> None:
    active(partner)
    other = make_bundle(tmp_path / "other", seed=3, tasks=("segmentation",))
    assert partner.set(bundle=str(other.path)).successful
    hold.touch()
    running = reload(partner)
    is_holding(partner)
    assert partner.change(Transition.TRANSITION_DEACTIVATE)
    hold.unlink()
    assert running.answer().success
    assert partner.change(Transition.TRANSITION_ACTIVATE)
    wait_until(lambda: str(other.path) in partner.values().get("bundle", ""), "the new bundle")
    partner.listen("segmentation")
    partner.wait_connected()
    assert partner.send_until("segmentation", make_image(1))


def test_a_cleanup_interrupts_a_reload_and_the_node_can_be_configured_for_what_was_asked(
    partner: Partner, tmp_path: Path, hold: Path
) -> None:
    active(partner)
    other = make_bundle(tmp_path / "other", seed=3, tasks=("segmentation",))
    assert partner.change(Transition.TRANSITION_DEACTIVATE)
    assert partner.set(bundle=str(other.path)).successful
    hold.touch()
    running = reload(partner)
    is_holding(partner)
    assert partner.change(Transition.TRANSITION_CLEANUP)
    answer = running.answer()
    assert not answer.success
    assert "interrupted" in answer.message
    assert partner.state() == "unconfigured"
    hold.unlink()
    active(partner)
    wait_until(lambda: str(other.path) in partner.values().get("bundle", ""), "the bundle that was asked for")
    assert "reload failed" not in partner.values()["message"]


def test_a_shutdown_interrupts_a_reload(partner: Partner, hold: Path) -> None:
    active(partner)
    hold.touch()
    running = reload(partner)
    is_holding(partner)
    assert partner.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert "interrupted" in running.answer().message
    assert partner.state() == "finalized"


def test_autostart_configures_beside_everything_else_as_well(
    ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path, hold: Path
) -> None:
    hold.touch()
    environment = ros_environment | {faulty_node.HELD_BY: str(hold)}
    command = [sys.executable, faulty_node.__file__, faulty_node.HELD]
    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1")
    node, partner = NodeProcess(environment, *arguments, log=tmp_path / "log", command=command), Partner()
    try:
        is_holding(partner)
        answers(partner, "configuring")
        assert not partner.change(Transition.TRANSITION_CONFIGURE)
        hold.unlink()
        wait_until(lambda: partner.state() == "active", "active")
    finally:
        partner.close()
        assert node.end() == 0, node.text
