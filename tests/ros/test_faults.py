"""A runtime that hangs or loses its device: diagnostics and log say so, and the process ends in bounded time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from lifecycle_msgs.msg import Transition
from std_srvs.srv import Trigger

from edge_mtl.bundle import Bundle
from tests.bundles import make_bundle, make_image
from tests.ros import faulty_node
from tests.ros.harness import NodeProcess, Partner, camera_message, running, wait_until


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("faults") / "tiny")


@pytest.fixture
def partner(ros_environment: dict[str, str]) -> Iterator[Partner]:
    result = Partner()
    yield result
    result.close()


def faulty(environment: dict[str, str], bundle: Bundle, log: Path, fault: str) -> NodeProcess:
    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "hung_after_s:=0.5")
    return NodeProcess(environment, *arguments, log=log, command=[sys.executable, faulty_node.__file__, fault])


def film_until(partner: Partner, text: str) -> str:
    """Send frames until diagnostics hold a text; the message."""

    def said() -> str:
        partner.send(make_image(1), time.time_ns())
        time.sleep(0.1)
        return next((status.message for status in partner.diagnostics if text in status.message), "")

    return str(wait_until(said, f"{text!r} in the diagnostics"))


def test_a_runtime_that_hangs_is_reported_and_neither_transitions_nor_shutdown_wait_for_it(
    ros_environment: dict[str, str], bundle: Bundle, partner: Partner, tmp_path: Path
) -> None:
    node = faulty(ros_environment, bundle, tmp_path / "log", faulty_node.HANGS)
    try:
        partner.listen("segmentation")
        partner.wait_connected()
        film_until(partner, "inference has been running for")
        assert partner.values()["level"] == "2"
        assert partner.values()["in_flight"] in ("1", "2")
        assert len(partner.received["segmentation"]) == faulty_node.FRAMES
        assert partner.change(Transition.TRANSITION_DEACTIVATE)
        assert "did not end" in node.text
        assert not partner.change(Transition.TRANSITION_ACTIVATE)  # a second thread would hang as well
        assert "the runtime hangs" in node.text
        assert partner.state() == "inactive"
    finally:
        code = node.end(timeout_s=30.0)
    assert code == 1, node.text
    assert "Leaving without it" in node.text
    assert "Traceback" not in node.text


def test_a_signal_ends_a_node_whose_runtime_hangs(
    ros_environment: dict[str, str], bundle: Bundle, partner: Partner, tmp_path: Path
) -> None:
    node = faulty(ros_environment, bundle, tmp_path / "log", faulty_node.HANGS)
    try:
        partner.listen("segmentation")
        partner.wait_connected()
        film_until(partner, "inference has been running for")
    finally:
        code = node.end(timeout_s=30.0)
    assert code == 1, node.text
    assert "Traceback" not in node.text


def test_a_lost_device_ends_the_node_with_an_error_that_log_and_diagnostics_name(
    ros_environment: dict[str, str], bundle: Bundle, partner: Partner, tmp_path: Path
) -> None:
    node = faulty(ros_environment, bundle, tmp_path / "log", faulty_node.LOST)
    try:
        partner.listen("segmentation")
        partner.wait_connected()
        film_until(partner, "illegal address")
        assert node.process.wait(30) == 1, node.text
    finally:
        node.end()
    assert "Giving up" in node.text
    assert "opened again" not in node.text  # no engine of this process could use the device
    assert len(partner.received["segmentation"]) == faulty_node.FRAMES
    assert "Traceback" not in node.text


def test_a_node_whose_engine_was_opened_again_says_that_all_is_well(
    ros_environment: dict[str, str], bundle: Bundle, partner: Partner, tmp_path: Path
) -> None:
    node = faulty(ros_environment, bundle, tmp_path / "log", faulty_node.TRANSIENT)
    try:
        partner.listen("segmentation")
        partner.wait_connected()
        partner.cameras.publish(camera_message(96, 64, 80.0))
        partner.send_until("segmentation", make_image(1), count=faulty_node.FRAMES + 2)
        assert "(reopen)" in node.text
        partner.diagnostics.clear()
        wait_until(lambda: len(partner.diagnostics) >= 2, "more diagnostics")
        assert "loading" not in partner.values()["message"]
        assert "failed" not in partner.values()["message"]
    finally:
        assert node.end() == 0, node.text


def test_a_reload_that_does_not_end_lets_the_node_end(
    ros_environment: dict[str, str], bundle: Bundle, partner: Partner, tmp_path: Path
) -> None:
    node = faulty(ros_environment, bundle, tmp_path / "log", faulty_node.ENDLESS)
    try:
        wait_until(lambda: partner.state() == "active", "active")
        client = partner.node.create_client(Trigger, "/perception_node/reload")
        assert client.wait_for_service(30)
        client.call_async(Trigger.Request())
        wait_until(lambda: node.text.count("loading the engine") == 2, "the reload")
        time.sleep(1.0)
    finally:
        assert node.end() == 0, node.text
    assert "terminate" not in node.text


def test_an_engine_that_is_never_loaded_lets_the_node_end(
    ros_environment: dict[str, str], bundle: Bundle, partner: Partner, tmp_path: Path
) -> None:
    node = faulty(ros_environment, bundle, tmp_path / "log", faulty_node.ENDLESS_FIRST)
    try:
        node.wait_for_text("loading the engine")
        time.sleep(1.0)
        assert partner.state() == "configuring"
    finally:
        assert node.end() == 0, node.text
    assert "terminate" not in node.text


def test_the_same_node_without_a_fault_goes_on(
    ros_environment: dict[str, str], bundle: Bundle, partner: Partner, tmp_path: Path
) -> None:
    with running(ros_environment, tmp_path / "log", "-p", f"bundle:={bundle.path}", "-p", "threads:=1") as node:
        partner.listen("segmentation")
        partner.wait_connected()
        partner.send_until("segmentation", make_image(1), count=faulty_node.FRAMES + 3)
        assert node.process.poll() is None
