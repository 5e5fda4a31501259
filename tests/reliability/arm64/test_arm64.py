"""Answers of two architectures are told apart where they differ, and ARM's processor is described as Linux does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_mtl.device import fingerprint
from tests.reliability.arm64 import __main__ as command
from tests.reliability.arm64.answers import compare
from tests.reliability.arm64.root import PROCESSORS, described, platforms

Maps = dict[str, np.ndarray]


@pytest.fixture
def meant() -> Maps:
    """Answers in their form: two networks, FP32 and INT8, one frame."""
    random = np.random.default_rng(0)
    found: Maps = {}
    for name in ("indoor-lite0", "indoor-b0"):
        found[f"letterbox {name}/0"] = random.integers(0, 255, (48, 64, 3)).astype(np.uint8)
        labels = random.integers(0, 13, (48, 64)).astype(np.uint8)
        depth_m = random.uniform(1, 5, (48, 64)).astype(np.float32)
        normals = np.stack([np.zeros((48, 64)), np.zeros((48, 64)), -np.ones((48, 64))], 2).astype(np.float32)
        for precision, more in (("fp32", 1.0), ("int8", 1.01)):
            case = f"{name} {precision} onnxruntime/0"
            found |= {f"{case}/segmentation": labels, f"{case}/depth": depth_m * np.float32(more), f"{case}/normals": normals}
    return found


def test_the_same_answers_are_the_same(meant: Maps) -> None:
    wrong, told = compare(meant, dict(meant))
    assert wrong == []
    assert len(told) == 4
    assert "100" in told[0]


@pytest.mark.parametrize("fault", ["answers of other weights", "distances 8 % too long", "frames one grey level brighter"])
def test_a_fault_is_seen(meant: Maps, fault: str) -> None:
    wrong, _ = compare(meant, command.faults(meant)[fault])
    assert wrong


def test_a_letterbox_may_be_rounded_otherwise_and_no_more(meant: Maps) -> None:
    meant["letterbox indoor-b0/0"][3, 4, 0] = 100
    found = {key: values.copy() for key, values in meant.items()}
    found["letterbox indoor-b0/0"][3, 4, 0] = 101
    wrong, told = compare(meant, found)
    assert (wrong, told[0]) == ([], "letterbox indoor-b0/0: 0.0% of the values differ, by 1 at most")
    found["letterbox indoor-b0/0"][3, 4, 0] = 103
    assert compare(meant, found)[0] == ["letterbox indoor-b0/0: 0.0% of the values differ, by 3 at most"]


def test_a_missing_answer_is_seen(meant: Maps) -> None:
    found = {key: values for key, values in meant.items() if key != "indoor-b0 int8 onnxruntime/0/depth"}
    assert compare(meant, found)[0] == ["indoor-b0 int8 onnxruntime/0/depth: no answer"]


def test_int8_that_is_further_from_fp32_than_rounding_is_seen_within_the_tolerance(meant: Maps) -> None:
    found = {key: values * np.float32(1.02) if " int8 " in key and "depth" in key else values for key, values in meant.items()}
    wrong, _ = compare(meant, found)
    assert len(wrong) == 2
    assert all("exact arithmetic" in line for line in wrong)


def test_values_that_are_not_finite_are_seen(meant: Maps) -> None:
    found = {key: np.full_like(values, np.nan) if key.endswith("/depth") else values for key, values in meant.items()}
    assert len([line for line in compare(meant, found)[0] if "expected" in line]) == 4


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_sdk_reads_the_processor_as_linux_on_arm_describes_it(processor: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(described(processor, 2))
    found = fingerprint(root=tmp_path)
    assert found.isa[:1] == ("asimd",)
    assert found.has_vnni == (processor == "cortex-a76")
    assert PROCESSORS[processor][0] in found.cpu_model


def test_wheels_of_the_root_are_those_of_its_glibc_and_older() -> None:
    names = platforms()
    assert names[0] == "manylinux_2_36_aarch64"
    assert names[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def test_the_commands_of_the_run_exist_and_an_engine_comes_before_what_needs_it() -> None:
    from tests.reliability.versions.checks import COMMANDS

    typed = [words[1] for words in command.typed("tiny") if words[0] == "edge-mtl"]
    assert set(typed) <= set(COMMANDS)
    assert typed.index("build-engine") < typed.index("benchmark")


def test_a_machine_that_cannot_emulate_is_told_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["arm64", "--root", str(tmp_path / "root")])
    assert command.main() == 2
    assert "apt-get install debootstrap qemu-user-static" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()
