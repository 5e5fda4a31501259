"""A camera faster than the node: the newest frame wins, every frame is accounted for, and answers do not grow old."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

import itertools

from tests.bundles import make_bundle, make_image
from tests.ros import faulty_node
from tests.ros.harness import Partner, running, stamp_ns, wait_until

SECONDS = 6.0


def test_a_camera_five_times_too_fast_keeps_order_age_and_accounts(ros_environment: dict[str, str], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    frame = make_image(1, height=240, width=320)
    slow = [sys.executable, faulty_node.__file__, faulty_node.SLOW]
    with running(ros_environment, tmp_path / "log", "-p", f"bundle:={bundle.path}", "-p", "threads:=1", command=slow):
        partner = Partner()
        try:
            partner.listen("segmentation")
            partner.wait_connected()
            partner.send_until("segmentation", frame, count=2)
            wait_until(partner.values, "diagnostics")
            before = settled(partner)
            sent: dict[int, float] = {}
            partner.received["segmentation"].clear()
            partner.arrived_s["segmentation"].clear()
            end_s = time.monotonic() + SECONDS
            while time.monotonic() < end_s:
                stamp = time.time_ns()
                sent[stamp] = time.monotonic()
                partner.send(frame, stamp)
                time.sleep(faulty_node.SLOW_S / 5)
            after = settled(partner)
        finally:
            partner.close()
    stamps = [stamp_ns(message) for message in partner.received["segmentation"]]
    assert len(sent) > 3 * len(stamps) > 30
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))
    assert set(stamps) <= set(sent)
    received, published = (after[name] - before[name] for name in ("received", "published"))
    assert published == len(stamps)
    assert received == published + sum(after[name] - before[name] for name in ("dropped", "rejected"))
    assert after["in_flight"] == 0
    assert after["dropped_replaced"] > before["dropped_replaced"]
    ages = [arrived - sent[stamp] for stamp, arrived in zip(stamps, partner.arrived_s["segmentation"], strict=True)]
    # Its own prediction and what is left of the period when it came: a queue of even one frame more would add a whole one.
    period_s = SECONDS / len(stamps)
    assert statistics.median(ages) < 1.9 * period_s, "answers are older than the newest frame can be"


def settled(partner: Partner) -> dict[str, int]:
    """The accounts once nothing is in flight and two reports say the same."""

    def numbers() -> dict[str, int]:
        return {key: int(value) for key, value in partner.values().items() if value.isdigit() and key != "level"}

    def quiet() -> dict[str, int] | None:
        count = len(partner.diagnostics)
        first = numbers()
        wait_until(lambda: len(partner.diagnostics) > count + 1, "another report")
        second = numbers()
        return second if first == second and second["in_flight"] == 0 else None

    result: dict[str, int] = wait_until(quiet, "the node is idle")
    return result


@pytest.mark.parametrize(
    ("received", "published", "replaced", "verdict"),
    [(900, 900, 0, True), (900, 500, 390, True), (900, 0, 0, False), (900, 0, 900, False), (900, 700, 0, False)],
)
def test_the_soak_fails_a_node_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, received: int, published: int, replaced: int, verdict: bool
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())  # the script sets its own
    monkeypatch.setattr(sys, "path", sys.path.copy())
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "soak_node.py"
    spec = importlib.util.spec_from_file_location("soak_node", path)
    assert spec is not None
    assert spec.loader is not None
    soak = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(soak)
    before = {"received": 30, "published": 20, "dropped_replaced": 5}
    after = {"received": 30 + received, "published": 20 + published, "dropped_replaced": 5 + replaced}
    assert soak.answered(before, after) is verdict


def test_the_benchmark_of_answers_has_all_of_them_in_every_phase(ros_environment: dict[str, str], tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "node_answers.py"
    # No evaluation: INT8 of an untrained network is not accurate enough for the accuracy check.
    bundle = make_bundle(tmp_path / "tiny", calibration=40, evaluation=0)
    options = ["--backend", "onnxruntime", "--threads", "1", "--idle-s", "0.5"]
    command = [sys.executable, str(script), str(bundle.path), *options]
    done = subprocess.run(command, env=ros_environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    phases = json.loads(done.stdout)["phases"]
    assert set(phases) == {"configure", "idle", "reload"}
    for phase in phases.values():
        assert phase["unanswered"] == 0
        assert phase["get_state"]["count"] > 0
        assert phase["get_parameters"]["max"] > 0
