"""Documents name files, settings, fields, extras and figures that are there, and name all of them where they list them."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import fields

import pytest
from mtl.config import _all_keys

from edge_mtl import errors
from edge_mtl.bench.conditions import Conditions
from edge_mtl.bench.report import BenchmarkReport, BenchmarkRow
from edge_mtl.builder.tensorrt.options import _NAMES
from edge_mtl.evaluation.budget import DEFAULT_BUDGET
from edge_mtl.evaluation.self_test import tolerance_of
from edge_mtl.ros import class_topics, task_topics
from edge_mtl.ros.topics import OF_THE_FRAME
from edge_mtl.tasks import NYU_TASKS, read_tasks
from tests.documents import DOCUMENTS, END, FLAG, ROOT, SOURCES, holding, options, texts

SCRIPT = re.compile(rf"(?<![\w/])((?:train|calibration|examples|benchmarks)/[a-z0-9_]+\.py)((?: .*?)?)(?={END}|:)")
SETTINGS = frozenset(_all_keys())
_AS_FLAGS = frozenset(f"--{key}" for key in SETTINGS)
_RENDERING = ("--root", "--split", "--count", "--size", "--workers", "--preview", "--labelled")
"""See `mtl.rendering`."""
TAKEN_TOO = {
    **{f"train/{name}.py": _AS_FLAGS for name in ("train", "export", "study", "outdoors", "add_head")},
    **dict.fromkeys(("train/make_rooms.py", "train/make_streets.py"), frozenset(_RENDERING)),
    "calibration/calibrate.py": frozenset(options("calibrate")),
    "calibration/sensitivity.py": frozenset(options("sensitivity")),
}
OTHER_ERRORS = {"UsageError", "CudaError", "ArrayFileError"}


def test_scripts_that_are_named_exist_and_take_the_flags_that_follow() -> None:
    for path in holding(".py ", [*DOCUMENTS, *SOURCES]):
        for text in texts(path):
            for script, rest in SCRIPT.findall(text):
                assert (ROOT / script).is_file(), f"{path}: {script}"
                own = set(re.findall(r'"(--[a-z][a-z0-9-]*)"', (ROOT / script).read_text(encoding="utf-8")))
                given = {re.sub(r"\.\d+\.", ".0.", flag) for flag in FLAG.findall(rest)}
                assert given <= own | TAKEN_TOO.get(script, frozenset()), f"{path}: {script} {rest}"


def test_a_decision_that_is_named_is_there() -> None:
    for path in holding("ecision", [*DOCUMENTS, *SOURCES]):
        for number in re.findall(r"(?:[Dd]ecision |docs/decisions/|decisions/)(\d{4})", path.read_text(encoding="utf-8")):
            assert list((ROOT / "docs" / "decisions").glob(f"{number}-*.md")), f"{path}: {number}"


def test_a_test_that_is_named_is_there() -> None:
    named = [
        (path, file, name)
        for path in holding("tests/", DOCUMENTS)
        for file, name in re.findall(r"(tests/[\w/]+\.py)(?:::(?:[A-Z]\w+::)?(\w+))?", path.read_text(encoding="utf-8"))
    ]
    assert any(name for _, _, name in named)
    for path, file, name in named:
        assert (ROOT / file).is_file(), f"{path}: {file}"
        defined = re.findall(r"^ *def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert not name or name in defined, f"{path}: {file}::{name}"


def test_an_error_that_a_docstring_promises_exists() -> None:
    every = {name for name in dir(builtins) if name.endswith(("Error", "Exception"))} | set(errors.__all__) | OTHER_ERRORS
    for path in sorted((ROOT / "edge_mtl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else None
            for name in re.findall(r"\b[A-Z]\w+(?:Error|Unavailable|Mismatch|Closed)\b", text or ""):
                assert name in every, f"{path}: {name}"


def test_a_setting_that_is_named_is_one_of_a_training_run() -> None:
    for path in holding("--", [*DOCUMENTS, *(path for path in SOURCES if "train" in path.parts)]):
        for text in texts(path):
            for key in re.findall(r"--([a-z_]+\.[a-z0-9_.]*[a-z_])", text):
                assert re.sub(r"\.\d+\.", ".0.", key) in SETTINGS | {"section.key"}, f"{path}: {key}"


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
    budget, tolerance = DEFAULT_BUDGET.to_dict(NYU_TASKS), tolerance_of(NYU_TASKS, "int8")
    told = {name: float(value) for name, value in re.findall(r"`(miou|rel|normal)` (\d[\d.]*\d)", text)}
    assert told == {name: budget[name] for name in ("miou", "rel", "normal")}
    agreement = re.findall(
        r"at most (\d+) % of the pixels may change class, depth may differ by (\d+) %, normals by (\d+) deg", text
    )
    shares = (100 * budget["classes"], 100 * budget["depth"], budget["angle"])
    assert [tuple(map(float, numbers)) for numbers in agreement] == [shares]
    shares = 100 * (1 - tolerance["argmax_agreement"]), 100 * tolerance["depth_relative_difference"]
    expected = (*shares, tolerance["normal_angle_deg"])
    (found,) = re.findall(r"differ there by (\d+) % of the classes, (\d+) % of the depth and ([\d.]+) degrees", text)
    assert tuple(map(float, found)) == pytest.approx(expected)


def test_a_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in holding("make ", DOCUMENTS):
        named = re.findall(r"(?:^|`)make ([a-z0-9-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, path


def test_what_make_help_lists_exists() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = re.findall(r'@echo "make ([a-z0-9-]+) ', text)
    assert len(listed) > 5
    assert set(listed) <= set(re.findall(r"^([a-z0-9-]+):", text, re.MULTILINE))


def test_an_extra_that_is_named_exists() -> None:
    known = set(re.findall(r'^    "([a-z-]+)": ', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE))
    assert known
    for path in holding("[", [*DOCUMENTS, *SOURCES, ROOT / "Makefile"]):
        named = re.findall(
            r"(?:edge-mtl|edge_mtl|pip install [^\n]*?\"\.|-e ['\"]\.)\[([a-z][a-z,-]*)\]", path.read_text(encoding="utf-8")
        )
        assert set(",".join(named).split(",")) - {""} <= known, path


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
    of_tasks = {item.name for item in task_topics(NYU_TASKS)}
    of_tasks |= {name for topic in class_topics(NYU_TASKS).values() for name in (topic.name, topic.vision_name)}
    assert told == of_tasks | set(OF_THE_FRAME)
    made = ast.parse((package / "edge_mtl_ros/outputs.py").read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(made) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert set(OF_THE_FRAME) <= words


def test_the_policy_of_two_cameras_gives_to_each_what_that_of_one_gives_to_it() -> None:
    folder = ROOT / "ros2_ws/src/edge_mtl/sros2"
    one, two = ((folder / name).read_text(encoding="utf-8") for name in ("policy.xml", "two_cameras.xml"))
    for direction in ("subscribe", "publish"):
        alone, both = (
            re.findall(r"<topic>(.*)</topic>", policy.partition(f'{direction}="ALLOW"')[2].partition("</topics>")[0])
            for policy in (one, two)
        )
        own = {topic for topic in alone if topic in ("image", "image/compressed", "camera_info") or topic.startswith("~/")}
        own -= {"~/transition_event"}
        expected = [topic for topic in alone if topic not in own]
        for name in ("front", "left"):
            expected += [f"~/{name}/{topic[2:]}" if topic.startswith("~/") else f"{name}/{topic}" for topic in own]
        assert sorted(both) == sorted(expected)
    assert re.findall(r"<service>(.*)</service>", two) == re.findall(r"<service>(.*)</service>", one)


def test_the_guide_names_the_topics_of_a_task_of_any_name_as_they_are() -> None:
    guide = (ROOT / "docs/guides/ros2.md").read_text(encoding="utf-8").partition("**The rule for any task:**")[2]
    second = {"segmentation": "drivable", "depth": "range", "normals": "facing"}
    for usual, other in second.items():
        kind = NYU_TASKS[usual].kind
        (row,) = re.findall(rf"^\| `{kind}` \| (.*) \| (.*) \|$", guide, re.MULTILINE)
        for told, name in zip(row, (usual, other), strict=True):
            specs = read_tasks({name: {"kind": kind, **({"classes": ["a", "b"]} if kind == "labels" else {})}})
            topics = {item.name for item in task_topics(specs) if not item.transport}
            topics |= {each for topic in class_topics(specs).values() for each in (topic.name, topic.vision_name)}
            assert set(re.findall(r"`([\w/]+)`", told)) == topics, name


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
        if path.suffix == ".py" and "ros" not in path.parts and "ros2_ws" not in path.parts:
            assert not re.search(r"width\}(x|×| × )\{[\w.]*height", path.read_text(encoding="utf-8")), path
