"""SIGTERM and SIGINT in every phase: the process is gone within five seconds of processor time, with its exit code."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from lifecycle_msgs.msg import Transition
from std_srvs.srv import Trigger

from edge_mtl.bundle import DEMO_BUNDLE, Bundle
from tests.bundles import make_bundle, make_image
from tests.ros.harness import NAME, NodeProcess, Partner, running, wait_until

SIGNALS = int(os.environ.get("EDGE_MTL_SIGNALS", "6"))
"""Signals at random moments; the soak sends 200."""
LOADED = "no engine was built here"
"""What the node says of its first engine."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("signals") / "tiny")


def starting(node: NodeProcess) -> None:
    def handles_signals() -> bool:
        status = Path(f"/proc/{node.process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    wait_until(handles_signals, "the node's own handlers; before them the interpreter's are at work")


def configuring(node: NodeProcess) -> None:
    node.wait_for_text("verifying the bundle")


def loading(node: NodeProcess) -> None:
    node.wait_for_text("loading the engine")


def active(node: NodeProcess) -> None:
    node.wait_for_text(LOADED)
    time.sleep(0.3)


def predicting(node: NodeProcess) -> None:
    node.wait_for_text(LOADED)
    partner = Partner()
    try:
        partner.listen("segmentation")
        partner.wait_connected()
        partner.send_until("segmentation", make_image(1))
        for _ in range(5):
            partner.send(make_image(1), time.time_ns())
    finally:
        partner.close()


def reloading(node: NodeProcess) -> None:
    _ask_for_a_reload(node)


def loading_beside(node: NodeProcess) -> None:
    _ask_for_a_reload(node)
    wait_until(lambda: node.text.count("loading the engine") == 2, "the second engine")


def building_beside(node: NodeProcess) -> None:
    _ask_for_a_reload(node, build="int8", backend="onnxruntime")
    node.wait_for_text("building the int8 engine")


def _ask_for_a_reload(node: NodeProcess, **parameters: str) -> None:
    node.wait_for_text(LOADED)
    partner = Partner()
    try:
        wait_until(lambda: partner.state() == "active", "active")
        assert not parameters or partner.set(**parameters).successful
        client = partner.node.create_client(Trigger, f"{NAME}/reload")
        assert client.wait_for_service(10)
        before = node.text.count("verifying the bundle")
        client.call_async(Trigger.Request())
        wait_until(lambda: node.text.count("verifying the bundle") > before, "the reload")
    finally:
        partner.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", [starting, configuring, loading, active, predicting, reloading, loading_beside])
def test_a_signal_ends_the_node_in_every_phase(
    ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path, phase: Callable[[NodeProcess], None], number: int
) -> None:
    with running(ros_environment, tmp_path / "log", "-p", f"bundle:={bundle.path}", "-p", "threads:=1") as node:
        phase(node)
        code = node.end(number, timeout_s=30.0)
        assert code == 0, node.text
        assert "Traceback" not in node.text
    locks = [path for path in bundle.path.rglob("*") if path.suffix in (".tmp", ".lock")]
    assert locks == []


RECEIVED_ELSEWHERE = """
import signal, sys, threading, time
from edge_mtl_ros.main import main

def receive():
    while "edge_mtl-spin" not in [thread.name for thread in threading.enumerate()]:
        time.sleep(0.05)
    time.sleep(1.0)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    print("received", flush=True)

threading.Thread(target=receive, daemon=True).start()
sys.exit(main())
"""


def test_a_signal_that_another_thread_receives_ends_the_node(ros_environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECEIVED_ELSEWHERE]
    with running(ros_environment, tmp_path / "log", "-p", "autostart:=false", command=command) as node:
        node.wait_for_text("received")
        assert node.process.wait(15) == 0, node.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_build_which_can_be_made_afterwards(
    ros_environment: dict[str, str], tmp_path: Path, number: int
) -> None:
    # No evaluation: INT8 of an untrained network is not accurate enough for the accuracy check.
    own = make_bundle(tmp_path / "tiny", calibration=40, evaluation=0)
    arguments = ("-p", f"bundle:={own.path}", "-p", "threads:=1", "-p", "build:=int8", "-p", "backend:=onnxruntime")
    with running(ros_environment, tmp_path / "log", *arguments) as node:
        node.wait_for_text("building the int8 engine")
        assert node.end(number, timeout_s=30.0) in (0, 1), node.text
        assert "Traceback" not in node.text
    with running(ros_environment, tmp_path / "log", *arguments, "-p", "autostart:=false") as node:
        partner = Partner()
        try:
            wait_until(lambda: partner.values().get("state") == "unconfigured", "diagnostics")
            assert partner.change(Transition.TRANSITION_CONFIGURE), node.text
            wait_until(lambda: partner.values().get("precision") == "int8", "the INT8 engine is loaded")
            said = {status.message for status in partner.diagnostics}
        finally:
            partner.close()
        assert any("building the int8 engine" in message for message in said), f"{said}\n{node.text}"


def building(node: NodeProcess) -> None:
    node.wait_for_text("building the int8 engine")


BUILD = ("-p", "build:=int8", "-p", "backend:=onnxruntime")
MOMENTS: tuple[tuple[Callable[[NodeProcess], None], tuple[str, ...]], ...] = (
    (building_beside, ()),
    (loading_beside, ()),
    (building, BUILD),
    (predicting, ()),
    (loading, ()),
    (reloading, ()),
)


def test_signals_at_random_moments_never_abort(ros_environment: dict[str, str], tmp_path: Path) -> None:
    codes: dict[str, int] = {}
    for count in range(SIGNALS):
        chance = random.Random(count)
        phase, arguments = MOMENTS[count % len(MOMENTS)]
        number = chance.choice([signal.SIGTERM, signal.SIGINT])
        own = tmp_path / "demo"  # a tiny network is never long inside a runtime
        shutil.rmtree(own, ignore_errors=True)  # and no build may find what one before it has left
        shutil.copytree(DEMO_BUNDLE, own, ignore=shutil.ignore_patterns("engines"))
        log = tmp_path / f"log{count}"
        with running(ros_environment, log, "-p", f"bundle:={own}", "-p", "threads:=1", *arguments) as node:
            phase(node)
            waited_s = chance.uniform(0.0, 2.0)
            time.sleep(waited_s)
            code = node.end(number, timeout_s=30.0)
        codes[f"{count}: signal {number}, {waited_s:.2f} s into {phase.__name__}"] = code
        assert "terminate called" not in node.text, node.text
        assert "Traceback" not in node.text, node.text
        assert code in (0, -number), f"{codes}\n{node.text}"


def test_a_parameter_that_is_out_of_range_ends_the_node_with_one_line(ros_environment: dict[str, str], tmp_path: Path) -> None:
    with running(ros_environment, tmp_path / "log", "-p", "self_test:=never") as node:
        assert node.process.wait(60) == 2
        assert "self_test should be one of" in node.text
        assert "Traceback" not in node.text
