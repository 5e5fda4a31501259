"""What the Markdown files claim about the repository is true: links, paths, commands, options, code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer

from edge_mtl.bundle import BUNDLED, bundled
from edge_mtl.cli import app

ROOT = Path(__file__).parents[3]
COMMANDS = typer.main.get_group(app).commands
OURS = ("ARCHITECTURE.md", "CONTRIBUTING.md")
IGNORED = {"site", "out", "data", "runs", "bundles", "build", "dist", "install", "log", "node_modules"}


def documents() -> list[str]:
    """Every Markdown file of the repository; not what builds and runs leave behind."""
    found = []
    for path in sorted(ROOT.rglob("*.md")):
        parts = path.relative_to(ROOT).parts
        if not any(part in IGNORED or part.startswith(".") or part.endswith(".egg-info") for part in parts[:-1]):
            found.append("/".join(parts))
    return found


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SITE = load("site_hooks")
DOCUMENTS = documents()


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def anchors(document: str) -> set[str]:
    """Anchors of the headings, as GitHub and the site make them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", SITE.without_code(text_of(document)), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        found.add(re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-"))
    return found


def paths_in(document: str) -> list[tuple[str, bool]]:
    """Paths in code spans, and whether each exists.

    A path is one of the repository or of a bundle, or it lies beside or in one that its line named before.
    """
    found = []
    for line in text_of(document).splitlines():
        bases = [ROOT, *map(bundled, BUNDLED)]
        for span in re.findall(r"`([^`]+)`", line):
            if not re.fullmatch(r"[\w./-]+", span) or not re.search(r"/|\.(py|md|toml|ya?ml|json|onnx|txt|xml)$", span):
                continue
            places = [base / span for base in bases if (base / span).exists()]
            found.append((span, bool(places)))
            bases += [folder for place in places[:1] for folder in (place, place.parent)]
    return found


MADE_LATER = {
    "ARCHITECTURE.md": {
        "model.onnx",
        "model.deploy.onnx",
        "model.qat.onnx",
        "recipe.toml",
        "BUNDLE/engines/",
        "./bundles/",
        "model.int8.onnx",
        "model.int8-cpu.onnx",
        "card/",
    },
    "CONTRIBUTING.md": {"out/sbom.json", "site/"},
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file_and_every_anchor_to_a_heading(document: str) -> None:
    for target, anchor in SITE.links(document):
        assert (ROOT / target).is_file(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors(target), f"{document} links to {target}#{anchor}; there are {sorted(anchors(target))}"


def test_documents_are_found_and_links_are_read(tmp_path: Path) -> None:
    assert {"README.md", "docs/measured.md", "benchmarks/README.md"} <= set(DOCUMENTS)
    (tmp_path / "docs").mkdir()
    page = "[a](b.md#c) `[no](code.md)` [out](https://example.org)\n```\n[no](block.md)\n```\n![i](../x.png) [here](#d)\n"
    (tmp_path / "docs" / "a.md").write_text(page)
    assert list(SITE.links("docs/a.md", tmp_path)) == [("docs/b.md", "c"), ("x.png", ""), ("docs/a.md", "d")]


@pytest.mark.parametrize("document", OURS)
def test_every_path_that_is_named_exists(document: str) -> None:
    paths = paths_in(document)
    assert len(paths) > 30
    assert [path for path, exists in paths if not exists and path not in MADE_LATER[document]] == []


def test_the_file_that_a_name_is_said_to_be_in_has_it() -> None:
    claims = re.findall(r"`(\w+)`\s+(?:in|of)\s+`([\w/]+\.py)`", text_of("CONTRIBUTING.md"))
    assert len(claims) >= 5
    for name, path in claims:
        assert re.search(rf"\b{name}\b", text_of(path)), f"{path} has no {name}"


def test_the_readme_fits_on_a_page() -> None:
    assert len(text_of("README.md").splitlines()) < 130


def test_the_table_of_the_readme_names_every_command_once() -> None:
    rows = re.findall(r"^\| `edge-mtl ([a-z-]+)", text_of("README.md"), re.MULTILINE)
    assert sorted(rows) == sorted(name for name, command in COMMANDS.items() if not command.hidden)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/measured.md", "docs/release-checklist.md"])
def test_commands_and_options_that_are_named_exist(document: str) -> None:
    spans = re.findall(r"`(edge-mtl [^`]+)`", text_of(document))
    lines = [line for code in blocks(document, "bash") for line in code.splitlines()]
    calls = spans + [call for line in lines for call in re.findall(r"(?<![\w-])(edge-mtl [^&|]+)", line.partition("#")[0])]
    for call in calls:
        words = shlex.split(call.replace("[", "").replace("]", ""))
        if words[1].startswith("-"):
            continue
        assert words[1] in COMMANDS, call
        known = {option for parameter in COMMANDS[words[1]].params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words[2:] if word.startswith("--")} <= {*known, "--help"}, call


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/measured.md", "docs/release-checklist.md"])
def test_targets_of_make_that_are_named_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", text_of("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:^|`|&& )make ([a-z][\w-]*)", text_of(document), re.MULTILINE)
    assert named
    assert set(named) <= targets


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if blocks(name, "python")])
def test_python_in_the_documentation_compiles_and_what_it_imports_exists(document: str) -> None:
    for code in blocks(document, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "edge_mtl":
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_what_the_readme_says_of_a_prediction_exists() -> None:
    from edge_mtl import Prediction

    named = set(re.findall(r"\bprediction\.(\w+)", text_of("README.md")))
    assert {"segmentation", "confidence", "depth", "normals", "intrinsics_assumed"} <= named
    fields = {*getattr(Prediction, "__dataclass_fields__"), *dir(Prediction)}  # noqa: B009
    assert named <= fields


def test_hooks_before_a_commit_are_commands_of_make_lint() -> None:
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", text_of("Makefile"), re.MULTILINE)
    assert lint is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()]
    hooks = re.findall(r"^ +entry: (.+)$", text_of(".pre-commit-config.yaml"), re.MULTILINE)
    assert hooks == [command for command in commands if "MKDOCS" not in command]


def test_lists_and_tables_that_follow_a_paragraph_get_the_blank_line_and_the_indent_that_the_site_needs() -> None:
    written = "Text:\n- one\n  more\n\n  | a |\n  |---|\n- two\n- three\n\nEnd\n| a |\n|---|\n\n```\nx\n- y\n```\n"
    wanted = "Text:\n\n- one\n    more\n\n    | a |\n    |---|\n\n- two\n- three\n\nEnd\n\n| a |\n|---|\n\n```\nx\n- y\n```\n"
    assert SITE.commonmark(written) == wanted


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', 1),
        ('<link rel="stylesheet" href="//fonts.example.org/css">', 1),
        ('<link rel="preconnect" href="https://fonts.example.org">', 1),
        ('<link rel="canonical" href="https://example.org/page">', 0),
        ("<img alt=a src=http://example.org/i.png>", 1),
        ('<a href="https://example.org">may be followed</a><img src="../i.png"><script src="assets/x.js"></script>', 0),
    ],
)
def test_a_page_that_would_ask_another_host_is_noticed(html: str, count: int) -> None:
    assert len(SITE.requests_to_others(html)) == count


def test_the_site_has_every_page_and_every_file_that_a_page_links_to() -> None:
    paths = SITE.site_paths()
    assert {name for name in DOCUMENTS if name.startswith("docs/")} <= set(paths)
    assert set(SITE.ROOT_PAGES) == {name for name in DOCUMENTS if "/" not in name}
    assert {"LICENSE", "docs/demo.jpg", "benchmarks/README.md"} <= set(paths)


def test_sections_of_a_docstring_are_parted_for_the_api_pages() -> None:
    pytest.importorskip("griffe", reason="needs the extra docs")
    parted = load("site_docstrings").with_blank_lines("Do.\n\nArgs:\n    a: one.\nRaises:\n    E: never.\n")
    assert parted == "Do.\n\nArgs:\n    a: one.\n\nRaises:\n    E: never.\n"
