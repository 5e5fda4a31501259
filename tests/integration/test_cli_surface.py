"""The face of `edge-mtl`: help, version, usage errors, speed of starting."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_mtl import __version__
from edge_mtl.cli import app
from tests.command_line import assert_failed, edge_mtl
from tests.integration.test_cli_old_names import OLD_COMMANDS

COMMANDS = (
    "build-engine",
    "predict",
    "benchmark",
    "inspect",
    "doctor",
    "demo",
    "verify",
    "calibrate",
    "sensitivity",
    "compare",
    "engines",
    "export",
    "profile",
    "scale",
    "sign",
)


def test_every_command_is_tested_here() -> None:
    assert sorted(names(hidden=False)) == sorted(COMMANDS)
    assert sorted(names(hidden=True)) == sorted(OLD_COMMANDS), "tests/integration/test_cli_old_names.py has these"


def names(*, hidden: bool) -> list[str]:
    commands = [command for command in app.registered_commands if command.callback and command.hidden is hidden]
    return [command.name or command.callback.__name__ for command in commands if command.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_and_gives_examples(command: str) -> None:
    outcome = edge_mtl(command, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert f"edge-mtl {command}" in outcome.out.split("Examples:")[1]


def test_help_of_verify_says_where_the_edges_of_a_box_are() -> None:
    assert "all of 640x480 is [-0.5, -0.5, 639.5, 479.5]" in edge_mtl("verify", "--help").out


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
        (["predict"], ["SOURCE"]),
        (["predict", "room.jpg", "--files", "jpeg"], ["--files expects any of", "jpeg"]),
        (["predict", "room.jpg", "--save", "panel,png"], ["--save expects a file name that ends in .rrd", "--files LIST"]),
        (["predict", "room.jpg", "--int8", "--fp32"], ["expected one precision", "int8 and fp32"]),
        (["predict", "room.jpg", "--int8", "--precision", "fp32"], ["expected one precision", "int8 and fp32"]),
        (["calibrate"], ["expected SOURCE", "--rollback"]),
        (["calibrate", "x", "--rollback"], ["found both"]),
        (["calibrate", "x", "--backend", "openvino"], ["--engines"]),
        (["calibrate", "x", "--to", "3"], ["--to without --rollback"]),
        (["calibrate", "x", "--out", "y", "--engines"], ["--engines", "--out"]),
        (["export", "--onnx", "a.onnx", "--fp16"], ["for --triton DIR"]),
        (["demo", "--save", "a.jpg"], ["ends in .png"]),
        (["benchmark", "--save", "a.json", "--out", "b.json"], ["--out is the old name of --save"]),
        (["predict", "room.jpg", "--intrinsics", "1,2,3"], ["--intrinsics expects fx,fy,cx,cy"]),
        (["predict", "room.jpg", "--min-score", "high"], ["--min-score expects a number such as 0.5", "'high'"]),
        (["predict", "room.jpg", "--min-score", "objects=0.5,0.4"], ["--min-score expects a number"]),
        (["predict", "room.jpg", "--limit", "0"], ["--limit"]),
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
        (["demo", "--save"], ["--save"]),
        (["demo", "--backend", "onnxruntime"], ["--backend"]),
        (["predict", "room.jpg", "--backend", "abacus"], ["--backend should be one of auto, onnxruntime, ", "abacus"]),
        (["predict", "room.jpg", "--precision", "int4"], ["--precision should be one of auto, fp32, ", "int4"]),
        (["predict", "room.jpg", "--device", "gpu"], ["--device should be auto, cpu, cuda or cuda:N", "gpu"]),
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
