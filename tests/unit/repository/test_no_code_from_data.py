"""Nothing that is read becomes code, nothing is run by a shell, and nothing reaches for a network: by what the sources call."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.documents import ROOT

FOLDERS = ("edge_mtl", "train", "ros2_ws/src", "calibration", "examples")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if "test" not in path.parts]
EVALUATING = {"eval", "exec", "compile", "__import__"}
LOADING_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "runpy", "imp"}
ERRORS = {"UnpicklingError", "PickleError"}
"""Of pickle, to be caught: reading others' checkpoints raises them where it refuses code."""
NETWORKS = {
    "socket",
    "socketserver",
    "ssl",
    "http",
    "urllib",
    "requests",
    "urllib3",
    "aiohttp",
    "httpx",
    "ftplib",
    "smtplib",
    "xmlrpc",
}


def name_of(node: ast.expr) -> str:
    """A dotted name as it is written; empty for what is none."""
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def faults(path: Path) -> list[str]:
    """What a source file does that it should not, each with its line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [item.name for item in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for module in (each.partition(".")[0] for each in modules):
            whole = module == "pickle" and isinstance(node, ast.Import)  # what is used of it is looked at
            if module in NETWORKS or (module in LOADING_CODE and not whole):
                found.append(f"{path}:{node.lineno}: imports {module}")
        if isinstance(node, ast.Attribute) and name_of(node.value) == "pickle" and node.attr not in ERRORS:
            found.append(f"{path}:{node.lineno}: pickle.{node.attr}")
        if isinstance(node, ast.Call):
            given = {item.arg: ast.unparse(item.value) for item in node.keywords}
            name = name_of(node.func)
            last = name.rpartition(".")[2]
            bad = (
                name in EVALUATING
                or name in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
                or given.get("shell", "False") != "False"
                or given.get("allow_pickle", "False") != "False"
                or name.startswith("torch.hub.")
                or (name == "torch.load" and given.get("weights_only") != "True")
                or (name.startswith("yaml.") and last in ("load", "load_all", "unsafe_load", "full_load"))
                or (name in ("YAML", "ruamel.yaml.YAML") and given.get("typ") not in ("'safe'", "'rt'"))
            )
            if bad:
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)[:60]}")
    return found


def test_nothing_read_becomes_code_and_no_module_reaches_for_a_network() -> None:
    assert len(SOURCES) > 400
    assert [fault for path in SOURCES for fault in faults(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.loads(payload)",
        "from pickle import loads",
        "from marshal import loads",
        "import urllib.request",
        "def f():\n    from socket import create_connection",
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.hub.load('a', 'b')",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "YAML(typ='unsafe')",
    ],
)
def test_the_search_sees_each(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert len(faults(path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.UnpicklingError",
        "model.eval()",
        "re.compile('a')",
        "np.load(path)",
        "YAML(typ='safe').load(a)",
        "torch.load(path, weights_only=True)",
    ],
)
def test_the_search_leaves_others_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert faults(path) == []
