"""TensorRT's Python bindings of several versions without TensorRT: wheels of 1.3 MB over libraries of no-op functions.

Importing them gives every class, enum and docstring of a version; nothing can be built or run. The wheels are fetched once
into a folder of their own in the virtual environment; without network or compiler the tests that want them are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

VERSIONS = {
    "10.3.0": "tensorrt-cu12-bindings",  # JetPack 6
    "10.13.3.9": "tensorrt-cu13-bindings",  # JetPack 7.0 and 7.1
    "10.16.1.11": "tensorrt-cu13-bindings",  # JetPack 7.2
    "11.0.0.114": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
FOLDER = Path(sys.prefix) / "tensorrt-bindings"
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
SYMBOLS = (
    *("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    *("initLibNvInferPlugins", "getPluginRegistry", "getBuilderPluginRegistry"),
)
FETCH_TIMEOUT_S = 120
SURFACE = """
import json, tensorrt_bindings as module
classes = {name: sorted(dir(kind)) for name, kind in vars(module).items() if isinstance(kind, type)}
print(json.dumps({"version": module.__version__, "module": sorted(dir(module)), "classes": classes}))
"""


@dataclass(frozen=True)
class Surface:
    """What one version of the bindings has.

    Attributes:
        module: names in it.
        classes: members of every class and enum.
    """

    version: str
    module: frozenset[str]
    classes: dict[str, frozenset[str]]


def bindings(version: str, stubs: Path) -> Path:
    """Folder to put on PYTHONPATH; skips the test where it cannot be had."""
    folder = FOLDER / version
    if not (folder / "tensorrt_bindings").is_dir():
        _fetch(version, folder)
    _compile(version, stubs)
    return folder


def surface(version: str, stubs: Path) -> Surface:
    """What `version` has."""
    found = json.loads(run_with(version, stubs, SURFACE))
    classes = {name: frozenset(members) for name, members in found["classes"].items()}
    return Surface(found["version"], frozenset(found["module"]), classes)


def run_with(version: str, stubs: Path, code: str) -> str:
    """Standard output of `code` in an interpreter that finds the bindings of `version`."""
    folder = bindings(version, stubs)
    root = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(stubs / _major(version)),
        "PYTHONPATH": os.pathsep.join((str(folder), str(root))),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _fetch(version: str, folder: Path) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    download = FOLDER / f".wheel-{version}-{os.getpid()}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(download), f"{VERSIONS[version]}=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)
        wheel = next(download.glob("*.whl"), None) if download.is_dir() else None
        if done.returncode or wheel is None:
            last = (done.stderr.strip().splitlines() or ["no such wheel"])[-1]
            pytest.skip(f"bindings of TensorRT {version} cannot be fetched: {last}")
        unpacked = download / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        if not folder.exists():
            os.replace(unpacked, folder)
    except subprocess.TimeoutExpired:
        pytest.skip(f"bindings of TensorRT {version} cannot be fetched: no answer in {FETCH_TIMEOUT_S} s")
    finally:
        shutil.rmtree(download, ignore_errors=True)


def _major(version: str) -> str:
    return version.partition(".")[0]


def _compile(version: str, stubs: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler is here to make the stub libraries with")
    major = _major(version)
    folder = stubs / major
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    source = folder / "stub.c"
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for library in LIBRARIES:
        name = f"{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
        subprocess.run(command, check=True, timeout=60)
