"""Streams of the command line: results on one, everything else on the other."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_mtl.cli.arguments import UsageError, parse_intrinsics
from edge_mtl.cli.predict import parse_files
from edge_mtl.cli.terminal import Terminal, one_line, own_streams, table
from edge_mtl.files import plain
from tests.command_line import edge_mtl


@dataclass(frozen=True, slots=True)
class Report:
    path: Path
    values: tuple[float, ...]


def test_anything_a_report_holds_becomes_json() -> None:
    content = plain({"report": Report(Path("a/b"), (1.0, float("nan"))), "array": np.float32(2.5), 3: {"x"}, "none": None})
    assert content == {"report": {"path": "a/b", "values": [1.0, None]}, "array": 2.5, "3": ["x"], "none": None}
    json.dumps(content, allow_nan=False)


def test_native_chatter_reaches_neither_stream(capfd: pytest.CaptureFixture[str]) -> None:
    with own_streams():
        os.write(1, b"EP Error\n")
        os.write(2, b"libpng error\n")
        sys.stdout.write("result\n")
        sys.stderr.write("remark\n")
    assert capfd.readouterr() == ("result\n", "remark\n")
    os.write(1, b"back\n")
    assert capfd.readouterr().out == "back\n"


def test_debugging_moves_native_chatter_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_MTL_DEBUG", "1")
    with own_streams():
        os.write(1, b"EP Error\n")
    assert capfd.readouterr() == ("", "EP Error\n")


def test_streams_are_restored_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    before, descriptors = (sys.stdout, sys.stderr), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(RuntimeError), own_streams():
            raise RuntimeError
    assert (sys.stdout, sys.stderr) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_with_json_only_records_reach_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(json_output=True)
    terminal.show("a table")
    with terminal.steps() as step:
        step("building", 1, 2)
    terminal.record({"a": float("inf")})
    terminal.note("a remark [with brackets]")
    output = capsys.readouterr()
    assert json.loads(output.out) == {"a": None}
    assert output.err == "a remark [with brackets]\n"


def test_without_a_terminal_each_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().steps() as step:
        for text, done in (("quantizing", 1), ("quantizing", 2), ("timing", 0)):
            step(text, done, 2)
    assert capsys.readouterr().err == "quantizing\ntiming\n"


def test_messages_fit_on_one_line() -> None:
    assert one_line("a\n  b\t c ") == "a b c"
    assert one_line("a\x1b[31mb\x9bc") == "a\ufffd[31mb\ufffdc"


def test_a_name_does_not_read_otherwise_than_it_is() -> None:
    assert one_line("exe\u202egnp.") == "exe\ufffdgnp."
    assert one_line("a\u2066b\u200fc") == "a\ufffdb\ufffdc"


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e"
"""Sets the title of the window, clears the screen, turns the direction of writing."""


def test_names_from_elsewhere_reach_the_terminal_as_text_in_results_warnings_and_errors(own_bundle, tmp_path: Path) -> None:
    path = own_bundle.path / "manifest.json"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"name": f"tiny{HOSTILE}"}))
    (tmp_path / f"no{HOSTILE}.mcap").write_bytes(b"no bag")
    outcomes = [
        edge_mtl("inspect", own_bundle.path),
        edge_mtl("predict", tmp_path / f"none{HOSTILE}.jpg", "--bundle", own_bundle.path),
        edge_mtl("predict", tmp_path / f"no{HOSTILE}.mcap", "--bundle", own_bundle.path),
        edge_mtl("inspect", tmp_path / f"none{HOSTILE}"),
        edge_mtl("export", own_bundle.path, f"--{HOSTILE}"),
    ]
    for outcome in outcomes:
        assert "\ufffd" in outcome.out + outcome.err, outcome
        assert not set("\x1b\x07\u202e") & set(outcome.out + outcome.err), outcome
    assert outcomes[0].code == 0


def test_topics_and_frames_of_bags_reach_the_terminal_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.note_left_out({f"/camera{HOSTILE}": f"frame_id {HOSTILE}"})
    rows = table("", "topic")
    rows.add_row(f"/camera{HOSTILE}")
    terminal.show(rows)
    output = capsys.readouterr()
    assert not set("\x1b\x07\u202e") & set(output.out + output.err)


def test_tables_and_remarks_hold_no_markup_and_no_commands(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table("[bold]title\x1b[2J", "first")
    rows.add_row("[red]cell\x07 that is wide enough for the title")
    terminal = Terminal()
    terminal.show(rows, "[b]line\x1b")
    terminal.note("[i]remark\x7f")
    output = capsys.readouterr()
    assert all(words in output.out for words in ("[bold]title\ufffd[2J", "[red]cell\ufffd", "[b]line\ufffd"))
    assert output.err == "[i]remark\ufffd\n"


def test_kinds_of_results_are_parsed_once_each() -> None:
    assert parse_files("--files", "npz, overlay,npz") == ("npz", "overlay")
    assert parse_files("--files", "bag") == ("bag",)
    for text, said in (("", "expects"), ("jpg", "expects"), ("panel,jpg", "expects"), ("bag,png", "given alone")):
        with pytest.raises(UsageError, match=f"--files.*{said}"):
            parse_files("--files", text)


def test_quiet_drops_progress_and_remarks_and_keeps_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=True)
    with terminal.steps() as step:
        step("measuring", 0, 1)
    terminal.note("a remark")
    terminal.warn("it loses a lot")
    terminal.show("result")
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert captured.err == "warning: it loses a lot\n"


def test_intrinsics_are_four_numbers_of_a_camera() -> None:
    assert parse_intrinsics("525, 525,319.5,239.5") == (525.0, 525.0, 319.5, 239.5)
    assert parse_intrinsics(None) is None
    for text in ("525", "a,b,c,d", "0,1,2,3", "1,1,nan,2", "1,1,inf,2", "1,2,3,4,5"):
        with pytest.raises(UsageError, match="--intrinsics expects"):
            parse_intrinsics(text)
