"""Every transition of the lifecycle, those that do not exist, failures inside them, and cycles under a running camera."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from lifecycle_msgs.msg import Transition

from edge_mtl.bundle import Bundle
from tests.bundles import make_bundle, make_image
from tests.ros.harness import NodeProcess, Partner, running, wait_until

CYCLES = int(os.environ.get("EDGE_MTL_LIFECYCLE_CYCLES", "20"))
"""CI runs 200, the soak 1000."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("lifecycle") / "tiny")


@pytest.fixture
def managed(ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path) -> Iterator[NodeProcess]:
    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-p", "autostart:=false")
    with running(ros_environment, tmp_path / "node.log", *arguments) as process:
        yield process


@pytest.fixture
def partner(managed: NodeProcess) -> Iterator[Partner]:
    result = Partner()
    yield result
    result.close()


def test_every_transition_and_every_one_that_does_not_exist(partner: Partner, managed: NodeProcess) -> None:
    every = (
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE,
    )
    allowed = {
        "unconfigured": {Transition.TRANSITION_CONFIGURE: "inactive"},
        "inactive": {Transition.TRANSITION_CLEANUP: "unconfigured", Transition.TRANSITION_ACTIVATE: "active"},
        "active": {Transition.TRANSITION_DEACTIVATE: "inactive"},
    }
    assert partner.state() == "unconfigured"
    for state in ("unconfigured", "inactive", "active"):
        for transition in every:
            if transition not in allowed[state]:
                assert not partner.change(transition)
                assert partner.state() == state
        if state == "unconfigured":
            assert partner.change(Transition.TRANSITION_CONFIGURE)
        elif state == "inactive":
            assert partner.change(Transition.TRANSITION_ACTIVATE)
    for transition, state in (
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
        (Transition.TRANSITION_ACTIVE_SHUTDOWN, "finalized"),
    ):
        assert partner.change(transition)
        assert partner.state() == state
        wait_until(lambda state=state: partner.values().get("state") == state, f"diagnostics say {state}")
    assert not partner.change(Transition.TRANSITION_CONFIGURE)
    assert managed.end() == 0


def test_a_bundle_that_is_not_there_fails_the_transition_says_why_and_can_be_put_right(
    partner: Partner, managed: NodeProcess, bundle: Bundle
) -> None:
    assert partner.set(bundle="/nowhere/at-all").successful
    assert not partner.change(Transition.TRANSITION_CONFIGURE)
    assert partner.state() == "unconfigured"
    wait_until(lambda: "/nowhere/at-all" in partner.values().get("message", ""), "diagnostics say why")
    assert partner.values()["level"] == "2"
    assert "No bundle at /nowhere/at-all" in managed.text
    assert not partner.reload().success
    assert partner.set(bundle=str(bundle.path)).successful
    assert partner.change(Transition.TRANSITION_CONFIGURE)
    wait_until(lambda: partner.values().get("level") != "2", "the error is gone")


def test_cycles_under_a_camera_publish_nothing_while_inactive_and_leak_nothing(partner: Partner, managed: NodeProcess) -> None:
    over = threading.Event()
    frame = make_image(2)
    partner.listen("segmentation")

    def film() -> None:
        while not over.wait(1 / 30):
            partner.send(frame, time.time_ns())

    camera = threading.Thread(target=film, daemon=True)
    camera.start()
    usage: list[tuple[int, int, int]] = []
    strays = answered = 0
    try:
        for cycle in range(CYCLES):
            assert partner.change(Transition.TRANSITION_CONFIGURE), f"cycle {cycle}"
            assert partner.change(Transition.TRANSITION_ACTIVATE), f"cycle {cycle}"
            if cycle % 10 == 0:
                count = len(partner.received["segmentation"])
                wait_until(lambda count=count: len(partner.received["segmentation"]) > count, "an answer while active")
                answered += 1
            assert partner.change(Transition.TRANSITION_DEACTIVATE), f"cycle {cycle}"
            time.sleep(0.05)
            count = len(partner.received["segmentation"])
            time.sleep(0.1 if cycle % 10 == 0 else 0.0)
            strays += len(partner.received["segmentation"]) - count
            assert partner.change(Transition.TRANSITION_CLEANUP), f"cycle {cycle}"
            usage.append(resources(managed.process.pid))
    finally:
        over.set()
        camera.join()
    assert strays == 0
    assert answered >= CYCLES // 10
    settled, last = usage[min(5, len(usage) // 2)], usage[-1]
    assert last[1] - settled[1] <= 4, f"descriptors: {settled[1]} to {last[1]}"
    assert last[2] - settled[2] <= 2, f"threads: {settled[2]} to {last[2]}"
    assert last[0] - settled[0] <= 10 << 20, f"resident bytes: {settled[0]} to {last[0]}"


def resources(pid: int) -> tuple[int, int, int]:
    """Resident bytes, open descriptors and threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd")), int(fields["Threads"])
