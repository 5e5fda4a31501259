"""Help, messages and documents name commands, flags and exit codes that exist, and an option means the same everywhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_mtl import errors
from edge_mtl.builder.candidates import BUILDABLE
from edge_mtl.cli import app
from edge_mtl.cli.arguments import MAX_DROP, parse_budget
from edge_mtl.cli.process import EXIT_FILES, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_USAGE
from edge_mtl.console import EXIT_PIPE
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget
from edge_mtl.tasks import KINDS
from tests.bundles import make_image, write_image
from tests.documents import COMMANDS, DOCUMENTS, END, FLAG, GROUP, PRESENT, ROOT, SOURCES, holding, options, texts

CALL = re.compile(rf"(?<![\w/.-])edge-mtl ([a-z][a-z-]*)((?: .*?)?)(?={END})")
PRECISIONS = {"--int8", "--fp16", "--bf16", "--fp32", "--precision"}
PIP = re.compile(r"pip (un)?install( --?[\w-]+)+")
OTHER_FLAGS = {
    "edge_mtl/bench/card/page.py": "variables of a style sheet",
    "edge_mtl/bench/card/theme.py": "the same",
    "edge_mtl/builder/tensorrt/options.py": "trtexec",
    "edge_mtl/builder/triton.py": "tritonserver",
    "edge_mtl/bench/conditions.py": "git",
    "edge_mtl/outputs/annotated_bag.py": "rosbags-convert",
    "edge_mtl/packages.py": "pip",
    "edge_mtl/shared_memory.py": "docker",
    "edge_mtl/surroundings.py": "docker, train.py",
}


def calls(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every `edge-mtl COMMAND ...` in a file: the command and the words that follow."""
    for text in texts(path):
        for command, rest in CALL.findall(text):
            yield command, rest.split()


def test_commands_that_are_named_exist_and_take_the_flags_that_follow() -> None:
    for path in holding("edge-mtl ", [*DOCUMENTS, *SOURCES]):
        for command, words in calls(path):
            line = f"{path}: edge-mtl {command} {' '.join(words)}"
            assert command in COMMANDS, line
            assert set(FLAG.findall(" ".join(words))) <= {*options(command), "--help"}, line
            if command == "build-engine" and words[:1] in (["BUNDLE"], ["…"]):  # a remedy, to be typed as it stands
                assert any(word in PRECISIONS or word.startswith("--…") for word in words), line


def test_a_flag_that_a_message_names_is_one_of_some_command() -> None:
    every = {name for command in COMMANDS for name in options(command)} | {"--help", "--version"}
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("edge_mtl/") and path.suffix == ".py" and name not in OTHER_FLAGS:
            for text in (PIP.sub("", text) for text in texts(path)):
                assert set(FLAG.findall(text)) <= every, f"{path}: {text}"


def test_a_precision_that_a_message_makes_a_flag_of_is_one() -> None:
    """Messages end in `edge-mtl build-engine BUNDLE --PRECISION`."""
    assert {f"--{name}" for name in BUILDABLE} <= set(options("build-engine"))


def examples() -> list[str]:
    """Command lines that stand in documents and epilogs to be typed."""
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"^ *```bash\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            found += re.findall(r"^ *(edge-mtl .*)$", block.replace("\\\n", " "), re.MULTILINE)
    for command in PRESENT.values():
        found += re.findall(r"^ *(edge-mtl .*)$", command.epilog or "", re.MULTILINE)
    return sorted(set(found))


@pytest.mark.parametrize("line", examples())
def test_an_example_is_taken_by_the_command_line(line: str) -> None:
    """As the shell would hand it over; nothing is run."""
    words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
    command = COMMANDS[words[0]]
    try:
        context = command.make_context(words[0], words[1:], resilient_parsing=False)
    except Exception as exc:  # typer's and click's usage errors have no class in common
        pytest.fail(f"{line}: {exc}")
    context.close()


def test_an_option_means_the_same_in_every_command() -> None:
    """Name of its value, kind, help: alike wherever the option is, but for what is listed here with its reason."""
    apart = {
        "--rounds": "of what is timed",
        ("--precision", "build-engine"): "what to build, not what was built",
        ("--precision", "benchmark"): "a list",
        ("--precision", "export"): "of Triton's model",
        ("--backend", "benchmark"): "a list",
        ("--bundle", "demo"): "the demo's default is the demo bundle",
    }
    folders_and_files = ("--out", "--save")  # what is in them is each command's own
    seen: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for command in PRESENT:
        for name, option in options(command).items():
            if not name.startswith("--") or option.hidden or name in apart or (name, command) in apart:
                continue
            told = None if name in folders_and_files else option.help
            meaning = (option.metavar, option.is_flag, option.multiple, told)
            other, before = seen.setdefault(name, (command, meaning))
            assert meaning == before, f"{name} of {command} and of {other}"


def test_an_out_is_a_folder_and_a_save_a_file() -> None:
    metavars = {"--out": "DIR", "--save": "FILE", "--json": None, "--quiet": None}
    for command in PRESENT:
        assert "--quiet" in options(command), command
        for name, option in options(command).items():
            if name in metavars and not option.hidden:
                assert (option.metavar if not option.is_flag else None) == metavars[name], f"{command} {name}"


WITH_BUDGET = {
    "verify": "edge_mtl.evaluation.verify.verify",
    "calibrate frames": "edge_mtl.builder.recalibrate.recalibrate",
    "recalibrate --folder frames": "edge_mtl.builder.recalibrate.recalibrate",
    "build-engine --int8": "edge_mtl.builder.pipeline.build_engine",
}


@pytest.mark.parametrize("line", WITH_BUDGET, ids=lambda line: line.split()[0])
@pytest.mark.parametrize("budget", ["none", "None", "miou=0.5", "miou=0.01,classes=0.1"])
def test_every_command_with_a_budget_takes_the_same_words(
    line: str, budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *rest = line.split()
    assert "--max-drop" in options(command)
    (tmp_path / "frames").mkdir()
    write_image(tmp_path / "frames" / "a.png", make_image(1))
    monkeypatch.chdir(tmp_path)
    taken: dict[str, Any] = {}

    def called(*words: Any, **named: Any) -> None:
        taken.update(named)
        raise InterruptedError

    monkeypatch.setattr(WITH_BUDGET[line], called)
    with pytest.raises(InterruptedError):
        GROUP.main([command, *rest, "--max-drop", budget], standalone_mode=False)
    any_loss = DEFAULT_BUDGET if command == "verify" else None  # which measures first, and judges later
    assert taken["budget"] == (any_loss if budget.lower() == "none" else Budget.parse(budget))


def test_every_command_with_a_budget_is_tested_here() -> None:
    assert {name for name in COMMANDS if "--max-drop" in options(name)} == {
        "build-engine",
        "calibrate",
        "recalibrate",
        "verify",
    }


def test_the_budget_that_help_shows_is_the_default() -> None:
    assert parse_budget(MAX_DROP) == DEFAULT_BUDGET
    told = {name: float(value) for name, value in (part.split("=") for part in MAX_DROP.split(","))}
    assert told == {item.name: item.default for kind in KINDS.values() for item in kind.budgets}


def raised() -> set[int]:
    """Exit codes of every error of the package but the base, which is not raised by commands."""
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "EdgeMtlError"]
    return {kind.exit_code for kind in kinds}


def test_the_exit_codes_in_help_are_those_of_the_errors() -> None:
    listed = re.findall(r"(?:^|\s{2,})(\d+) [a-z]", str(app.info.epilog)) + re.findall(
        r", (\d+) terminated", str(app.info.epilog)
    )
    others = {0, EXIT_USAGE, EXIT_INTERNAL, EXIT_FILES, EXIT_INTERRUPTED, EXIT_TERMINATED}
    assert {int(code) for code in listed} == raised() | others


def test_an_exit_code_that_is_named_is_one_that_there_is() -> None:
    known = raised() | {0, 1, EXIT_USAGE, EXIT_INTERNAL, EXIT_FILES, EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_PIPE}
    for path in holding("xit code", [*DOCUMENTS, *SOURCES]):
        for text in texts(path):
            for code in re.findall(r"[Ee]xit code(?: is)? (\d+)", text):
                assert int(code) in known, f"{path}: exit code {code}"
