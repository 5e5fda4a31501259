"""The face of `edge-mtl`: help, version, usage errors, speed of starting."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_mtl import __version__
from edge_mtl.cli import app
from tests.command_line import assert_failed, edge_mtl

COMMANDS = (
    "build-engine",
    "infer",
    "run-bag",
    "benchmark",
    "inspect",
    "doctor",
    "demo",
    "verify",
    "calibrate",
    "recalibrate",
    "sensitivity",
    "compare",
    "engines",
    "export",
    "view",
    "profile",
)


def test_every_command_is_tested_here() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert sorted(names) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_and_gives_examples(command: str) -> None:
    outcome = edge_mtl(command, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert f"edge-mtl {command}" in outcome.out.split("Examples:")[1]


def test_help_lists_the_commands_and_exit_codes() -> None:
    for arguments in (["--help"], ["-h"], []):
        outcome = edge_mtl(*arguments)
        assert outcome.code == 0
        assert all(command in outcome.out for command in COMMANDS)
        assert "Exit codes:" in outcome.out


def test_the_version_is_printed() -> None:
    assert edge_mtl("--version").out == f"edge-mtl {__version__}\n"


def test_help_starts_no_runtime() -> None:
    code = (
        "import sys; from edge_mtl.cli import main; main(['--help']); "
        "print([name for name in ('onnxruntime', 'openvino', 'onnx', 'torch') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], ["frobnicate"]),
        (["--frobnicate"], ["--frobnicate"]),
        (["build-engine"], ["--int8", "found none"]),
        (["build-engine", "--int8", "--fp32"], ["int8 and", "fp32"]),
        (["build-engine", "--int4"], ["--int4"]),
        (["build-engine", "--int8", "--threads", "0"], ["--threads"]),
        (["infer"], ["SOURCE"]),
        (["infer", "room.jpg", "--save", "jpeg"], ["--save expects any of", "jpeg"]),
        (["infer", "room.jpg", "--intrinsics", "1,2,3"], ["--intrinsics expects fx,fy,cx,cy"]),
        (["infer", "room.jpg", "--limit", "0"], ["--limit"]),
        (["benchmark", "--rounds", "many"], ["--rounds"]),
        (["benchmark", "--rounds", "0"], ["--rounds"]),
        (["benchmark", "--precision", "fp32,,int8"], ["--precision expects names"]),
        (["benchmark", "--rate", "0"], ["--rate"]),
        (["compare", "a.json"], ["AFTER"]),
        (["compare", "a.json", "b.json", "--threshold", "5"], ["--threshold"]),
        (["profile", "a", "b"], ["b"]),
        (["inspect", "--depth"], ["--depth"]),
        (["inspect", "a", "b"], ["b"]),
        (["doctor", "now"], ["now"]),
        (["demo", "--out"], ["--out"]),
        (["demo", "--backend", "onnxruntime"], ["--backend"]),
        (["infer", "room.jpg", "--backend", "abacus"], ["--backend should be one of auto, onnxruntime, ", "abacus"]),
        (["infer", "room.jpg", "--precision", "int4"], ["--precision should be one of auto, fp32, ", "int4"]),
        (["infer", "room.jpg", "--device", "gpu"], ["--device should be auto, cpu, cuda or cuda:N", "gpu"]),
        (["benchmark", "--backend", "onnxruntime,abacus"], ["--backend should be one of", "abacus"]),
        (["benchmark", "--precision", "int4"], ["--precision should be one of", "int4"]),
        (["build-engine", "--precision", "tf32"], ["--precision should be one of auto, int8, ", "tf32"]),
        (["sensitivity", "--level", "stage"], ["--level should be one of block, layer", "stage"]),
        (["calibrate", "x", "--max-drop", "all"], ["--max-drop", "or say none"]),
        (["verify", "--max-drop", "miou=2"], ["--max-drop", "0 to 1"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], words: list[str]) -> None:
    assert_failed(edge_mtl(*arguments), 2, *words)
