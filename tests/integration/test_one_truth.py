"""Documents, help, messages and code say the same: commands and flags that are named exist, exit codes and options agree."""

from __future__ import annotations

import ast
import builtins
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from mtl.config import _all_keys

from edge_mtl import errors
from edge_mtl.bench.conditions import Conditions
from edge_mtl.bench.report import BenchmarkReport, BenchmarkRow
from edge_mtl.build.candidates import BUILDABLE
from edge_mtl.build.gate.budget import DEFAULT_BUDGET, Budget
from edge_mtl.build.selftest import TOLERANCES
from edge_mtl.build.tensorrt.options import _NAMES
from edge_mtl.cli import app
from edge_mtl.cli.application import app as application
from edge_mtl.cli.arguments import MAX_DROP
from edge_mtl.cli.process import EXIT_FILES, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_USAGE
from tests.bundles import picture, write_picture

ROOT = Path(__file__).resolve().parents[2]
GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/guides/*.md", "docs/decisions/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
SOURCES = sorted(
    path
    for folder in ("edge_mtl", "ros2_ws/src", "train", "calibration", "examples", "benchmarks", "deploy")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sh", ".toml", ".yaml", ".service")
)
END = r"[`;,)\n#|&\"]|\. |: |$"
CALL = re.compile(rf"(?<![\w/.-])edge-mtl ([a-z][a-z-]*)((?: .*?)?)(?={END})")
SCRIPT = re.compile(rf"(?<![\w/])((?:train|calibration|examples|benchmarks)/[a-z0-9_]+\.py)((?: .*?)?)(?={END}|:)")
FLAG = re.compile(r"--[a-zA-Z][\w.-]*\w")
PRECISIONS = {"--int8", "--fp16", "--bf16", "--fp32", "--precision"}
OTHER_ERRORS = {"UsageError", "CudaError"}
OTHERS = ("edge_mtl/bench/card/page.py", "edge_mtl/bench/card/theme.py")  # variables of style sheets
OTHER_FLAGS = {
    "edge_mtl/build/tensorrt/options.py": "trtexec",
    "edge_mtl/build/triton.py": "tritonserver",
    "edge_mtl/bench/conditions.py": "git",
    "edge_mtl/commands/run_bag.py": "rosbags-convert",
}


def holding(text: str, paths: list[Path]) -> Any:
    """Parameters of a test: those of the files that hold `text`."""
    kept = [path for path in paths if text in path.read_text(encoding="utf-8")]
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in kept]


def texts(path: Path) -> Iterator[str]:
    """What a file says to people: all of a document or script, the strings of a module."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield content.replace("\\\n", " ")
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def calls(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every `edge-mtl COMMAND ...` in a file: the command and the words that follow."""
    for text in texts(path):
        for command, rest in CALL.findall(text):
            yield command, rest.split()


@pytest.mark.parametrize("path", holding("--", [path for path in SOURCES if path.relative_to(ROOT).parts[0] == "edge_mtl"]))
def test_a_flag_that_a_message_names_is_one_of_some_command(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() in OTHERS or path.suffix != ".py":
        return
    every = {name for command in COMMANDS for name in options(command)}
    for text in texts(path):
        unknown = set(FLAG.findall(text)) - every - {"--help", "--version"}
        assert not unknown or path.relative_to(ROOT).as_posix() in OTHER_FLAGS, unknown


@pytest.mark.parametrize("path", holding(".py ", [*DOCUMENTS, *SOURCES]))
def test_scripts_that_are_named_exist_and_take_the_flags_that_follow(path: Path) -> None:
    settings = {f"--{key}" for key in _all_keys()}
    for text in texts(path):
        for script, rest in SCRIPT.findall(text):
            assert (ROOT / script).is_file(), script
            known = set(re.findall(r'"(--[a-z][a-z-]*)"', (ROOT / script).read_text(encoding="utf-8")))
            known |= settings if script in ("train/train.py", "train/export.py", "train/study.py") else set()
            known |= set(options("calibrate")) if script == "calibration/calibrate.py" else set()
            known |= set(options("sensitivity")) if script == "calibration/sensitivity.py" else set()
            unknown = {
                flag for flag in FLAG.findall(rest) if flag not in known and re.sub(r"\.\d+\.", ".0.", flag) not in known
            }
            assert not unknown, f"{script} {rest}"


@pytest.mark.parametrize("path", holding("](", DOCUMENTS))
def test_a_link_leads_to_a_file(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_what_the_architecture_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \| ", text, re.MULTILINE)
    assert len(rows) > 30
    for row in rows:
        first, *others = re.findall(r"`([^`]+)`", row)
        assert (ROOT / first).exists(), first
        for other in others:  # beside the first, or in the folder above it
            places = (ROOT, (ROOT / first).parent, (ROOT / first).parent.parent)
            assert any((place / other).exists() for place in places), other


@pytest.mark.parametrize("path", holding("ecision", [*DOCUMENTS, *SOURCES]))
def test_a_decision_that_is_named_is_there(path: Path) -> None:
    for number in re.findall(r"(?:[Dd]ecision |docs/decisions/|decisions/)(\d{4})", path.read_text(encoding="utf-8")):
        assert list((ROOT / "docs" / "decisions").glob(f"{number}-*.md")), number


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted((ROOT / "edge_mtl").rglob("*.py"))])
def test_an_error_that_a_docstring_promises_exists(path: Path) -> None:
    every = {name for name in dir(builtins) if name.endswith(("Error", "Exception"))}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.get_docstring(node) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else None
        for name in re.findall(r"\b[A-Z]\w+(?:Error|Unavailable|Mismatch|Closed)\b", text or ""):
            assert name in every | set(errors.__all__) | OTHER_ERRORS, name


@pytest.mark.parametrize("path", holding("--", [*DOCUMENTS, *(path for path in SOURCES if "train" in path.parts)]))
def test_a_setting_that_is_named_is_one_of_a_training_run(path: Path) -> None:
    settings = set(_all_keys())
    for text in texts(path):
        for key in re.findall(r"--([a-z_]+\.[a-z0-9_.]*[a-z_])", text):
            assert re.sub(r"\.\d+\.", ".0.", key) in settings | {"section.key"}, key


def test_a_precision_that_a_message_makes_a_flag_of_is_one() -> None:
    """Messages end in `edge-mtl build-engine BUNDLE --PRECISION`."""
    assert {f"--{name}" for name in BUILDABLE} <= set(options("build-engine"))


def options(command: str) -> dict[str, Any]:
    return {name: item for item in COMMANDS[command].params for name in (*item.opts, *item.secondary_opts)}


@pytest.mark.parametrize("path", holding("edge-mtl ", [*DOCUMENTS, *SOURCES]))
def test_commands_that_are_named_exist_and_take_the_flags_that_follow(path: Path) -> None:
    for command, words in calls(path):
        assert command in COMMANDS, f"edge-mtl {command}"
        line = f"edge-mtl {command} {' '.join(words)}"
        assert set(FLAG.findall(" ".join(words))) <= {*options(command), "--help"}, line
        if command == "build-engine" and words[:1] in (["BUNDLE"], ["…"]):  # a remedy, to be typed as it stands
            assert any(word in PRECISIONS or word.startswith("--…") for word in words), line


def examples() -> list[str]:
    """Command lines that stand in documents and epilogs to be typed."""
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"^ *```bash\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            found += re.findall(r"^ *(edge-mtl .*)$", block.replace("\\\n", " "), re.MULTILINE)
    for command in COMMANDS.values():
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
        "--out": "a folder, or a file of the command's one result",
        "--save": "kinds of results, or a recording",
        "--limit": "frames or images of a bag",
        "--rounds": "of what is timed",
        "--fp16": "of an engine, or of Triton's model",
        ("--precision", "build-engine"): "what to build, not what was built",
        ("--precision", "benchmark"): "a list",
        ("--backend", "benchmark"): "a list",
        ("--bundle", "demo"): "the demo's default is the demo bundle",
    }
    seen: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for command in COMMANDS:
        for name, option in options(command).items():
            if not name.startswith("--") or name in apart or (name, command) in apart:
                continue
            meaning = (option.metavar, option.is_flag, option.multiple, option.help)
            other, before = seen.setdefault(name, (command, meaning))
            assert meaning == before, f"{name} of {command} and of {other}"


@pytest.mark.parametrize(
    "line",
    ["verify", "calibrate frames", "recalibrate --folder frames", "build-engine --int8"],
    ids=lambda line: line.split()[0],
)
@pytest.mark.parametrize("budget", ["none", "None", "miou=0.5", "miou=0.01,classes=0.1"])
def test_every_command_with_a_budget_takes_the_same_words(
    line: str, budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *rest = line.split()
    assert "--max-drop" in options(command)
    (tmp_path / "frames").mkdir()
    write_picture(tmp_path / "frames" / "a.png", picture(1))
    monkeypatch.chdir(tmp_path)
    module = {"build-engine": "build_engine.run", "verify": "verify.run", "calibrate": "recalibrate.run"}
    called = module.get(command, "recalibrate.run_source")
    taken: dict[str, Any] = {}
    monkeypatch.setattr(f"edge_mtl.commands.{called}", lambda *words, **named: taken.update(named))
    GROUP.main([command, *rest, "--max-drop", budget], standalone_mode=False)
    assert taken["budget"] == (None if budget.lower() == "none" else Budget.parse(budget))


def test_every_command_with_a_budget_is_tested_here() -> None:
    assert {name for name in COMMANDS if "--max-drop" in options(name)} == {
        "build-engine",
        "calibrate",
        "recalibrate",
        "verify",
    }


def test_the_budget_that_help_shows_is_the_default() -> None:
    assert Budget.parse(MAX_DROP) == DEFAULT_BUDGET
    assert [part.partition("=")[0] for part in MAX_DROP.split(",")] == [item.name for item in fields(Budget)]


def cells(document: str, after: str) -> set[str]:
    """Names in the first column of the table that follows the words `after` in a document."""
    text = (ROOT / document).read_text(encoding="utf-8").partition(after)[2]
    rows = text[text.index("|---") :].partition("\n\n")[0].splitlines()[1:]
    found = (name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1]))
    return {name.replace("[]", "").partition(".")[0] for name in found}


def test_the_guide_has_every_field_of_a_benchmark() -> None:
    row = {item.name for item in fields(BenchmarkRow)} | {"start_s", "rss_bytes", "frames_per_s"}
    assert cells("docs/guides/benchmark.md", "A row:") == row
    report = BenchmarkReport(({"name": "a", "revision": 1},), "a", (1, 1), 1, (), (), (), Conditions(["x"]).describe())
    told = cells("docs/guides/benchmark.md", "## The JSON") - {"bundles"}
    assert told == set(report.to_dict()) - {"kind", "format_version", "bundles"}, "kind and format_version are said above"


def test_the_guide_tells_budgets_and_tolerances_as_they_are() -> None:
    text = " ".join((ROOT / "docs/guides/int8.md").read_text(encoding="utf-8").split())
    told = {name: float(value) for name, value in re.findall(r"`(miou|rel|normal)` (\d[\d.]*\d)", text)}
    assert told == {name: getattr(DEFAULT_BUDGET, name) for name in ("miou", "rel", "normal")}
    agreement = re.findall(
        r"at most (\d+) % of the pixels may change class, depth may differ by (\d+) %, normals by (\d+) deg", text
    )
    shares = (100 * DEFAULT_BUDGET.classes, 100 * DEFAULT_BUDGET.depth, DEFAULT_BUDGET.angle)
    assert [tuple(map(float, numbers)) for numbers in agreement] == [shares]
    tolerance = TOLERANCES["int8"]
    expected = (100 * (1 - tolerance.argmax_agreement), 100 * tolerance.depth_relative_difference, tolerance.normal_angle_deg)
    (found,) = re.findall(r"differ there by (\d+) % of the classes, (\d+) % of the depth and ([\d.]+) degrees", text)
    assert tuple(map(float, found)) == pytest.approx(expected)


def raised() -> set[int]:
    """Exit codes of every error of the package but the base, which is not raised by commands."""
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "EdgeMtlError"]
    return {kind.exit_code for kind in kinds}


def test_the_exit_codes_in_help_are_those_of_the_errors() -> None:
    listed = re.findall(r"(?:^|\s{2,})(\d+) [a-z]", str(application.info.epilog)) + re.findall(
        r", (\d+) terminated", str(application.info.epilog)
    )
    others = {0, EXIT_USAGE, EXIT_INTERNAL, EXIT_FILES, EXIT_INTERRUPTED, EXIT_TERMINATED}
    assert {int(code) for code in listed} == raised() | others


@pytest.mark.parametrize("path", holding("xit code", [*DOCUMENTS, *SOURCES]))
def test_an_exit_code_that_is_named_is_one_that_there_is(path: Path) -> None:
    known = raised() | {0, 1, EXIT_USAGE, EXIT_INTERNAL, EXIT_FILES, EXIT_INTERRUPTED, EXIT_TERMINATED}
    for text in texts(path):
        for code in re.findall(r"[Ee]xit code(?: is)? (\d+)", text):
            assert int(code) in known, f"exit code {code}"


@pytest.mark.parametrize("path", holding("make ", DOCUMENTS))
def test_a_target_of_make_that_is_named_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= targets


def test_what_make_help_lists_exists() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = re.findall(r'@echo "make ([a-z-]+) ', text)
    assert len(listed) > 5
    assert set(listed) <= set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


@pytest.mark.parametrize("path", holding("[", [*DOCUMENTS, *SOURCES, ROOT / "Makefile"]))
def test_an_extra_that_is_named_exists(path: Path) -> None:
    known = set(re.findall(r'^    "([a-z-]+)": ', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(
        r"(?:edge-mtl|edge_mtl|pip install [^\n]*?\"\.|-e ['\"]\.)\[([a-z][a-z,-]*)\]", path.read_text(encoding="utf-8")
    )
    assert known
    assert set(",".join(named).split(",")) - {""} <= known


def test_the_architecture_says_which_modules_of_the_node_import_ros() -> None:
    ros = ("rclpy", "rcl_interfaces", "std_msgs", "sensor_msgs", "std_srvs", "diagnostic_msgs", "lifecycle_msgs", "vision_msgs")
    found = set()
    for path in sorted((ROOT / "ros2_ws/src/edge_mtl/edge_mtl_ros").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [item.name for item in node.names] if isinstance(node, ast.Import) else []
            found |= {path.stem for name in names if name.split(".")[0] in ros}
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (without, importing) = re.findall(r"decisions \(([^)]*)\) import no ROS; (.*) do \|", text)[0]
    assert set(re.findall(r"\w+", importing)) - {"and"} == found
    assert not set(re.findall(r"\w+", without)) & found


def test_guide_policy_and_node_have_the_same_topics() -> None:
    package = ROOT / "ros2_ws/src/edge_mtl"
    guide = (ROOT / "docs/guides/ros2.md").read_text(encoding="utf-8").partition("## 4.")[2].partition("Maps are reliable")[0]
    told = {
        name for row in guide.splitlines() if row.startswith("| `") for name in re.findall(r"`~/([\w/]+)`", row.split("|")[1])
    }
    published = (
        (package / "sros2/policy.xml").read_text(encoding="utf-8").partition('publish="ALLOW"')[2].partition("</topics>")[0]
    )
    assert told == set(re.findall(r"<topic>~/([\w/]+)</topic>", published)) - {"transition_event"}
    made = ast.parse((package / "edge_mtl_ros/outputs.py").read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(made) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert told <= words


def test_the_guide_has_every_option_of_a_plan() -> None:
    guide = (
        (ROOT / "docs/guides/tensorrt.md")
        .read_text(encoding="utf-8")
        .partition("`--trt NAME=VALUE`")[2]
        .partition("## Engines")[0]
    )
    known = {*_NAMES, "memPoolSize"}
    assert known <= set(re.findall(r"`(\w+)", guide))
    for row in re.findall(r"^\| (`.*?) \|", guide, re.MULTILINE):
        for option in re.findall(r"`(\w+)[=`]", row):
            assert option in known | {"layer_names_only", "detailed", "sameComputeCapability"}, option


def test_the_guide_names_the_arguments_of_the_launch_file() -> None:
    launch = ast.parse((ROOT / "ros2_ws/src/edge_mtl/launch/perception.launch.py").read_text(encoding="utf-8"))
    keys = {
        key.value
        for node in ast.walk(launch)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple)
    }
    assert len(keys) > 5
    text = (ROOT / "docs" / "guides" / "ros2.md").read_text(encoding="utf-8")
    assert {key for key in keys if f"`{key}`" in text or f"{key}:=" in text} == keys
    line = next(line for line in text.splitlines() if line.startswith("ros2 launch edge_mtl"))
    assert set(re.findall(r"(\w+):=", line)) <= keys


def test_a_size_is_written_height_first() -> None:
    """288x384 in tables, messages and settings; only what ROS says of images and cameras is width x height, as there."""
    for path in SOURCES:
        if path.suffix == ".py" and "sensor_msgs" not in path.parts and "ros2_ws" not in path.parts:
            assert not re.search(r"width\}(x|×| × )\{[\w.]*height", path.read_text(encoding="utf-8")), path
