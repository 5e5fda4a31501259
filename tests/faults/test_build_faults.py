"""Builds that are killed, run out of disk, meet each other or damaged files: old or new, never half."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_mtl import Engine, backends, files
from edge_mtl.builder import pipeline
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import Bundle
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import BuildError, BundleError, EdgeMtlError

ROOT = Path(__file__).resolve().parents[2]

BUILD = """
import os, signal, sys
from pathlib import Path
from edge_mtl import files
from edge_mtl.builder import pipeline
from edge_mtl.bundle import Bundle

pipeline._ROUNDS = 1
step, count = sys.argv[2], int(sys.argv[3])
calls = 0

def dying(original):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == count:
            if step.endswith("-after"):
                original(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return call

name = step.removesuffix("-after")
if name in ("fsync", "replace", "unlink", "chmod"):
    setattr(files.os, name, dying(getattr(os, name)))
def progress(done_step, done, total):
    if done_step == name:
        os.kill(os.getpid(), signal.SIGKILL)
report = pipeline.build_engine(
    Bundle.open(sys.argv[1]), precision="int8", backend="onnxruntime", threads=1, budget=None, progress=progress
)
print("reused" if report.reused else "built", flush=True)
"""


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the session's bundle: much faster than making one."""
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)


def start(bundle: Bundle, step: str = "none", count: int = 0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BUILD, str(bundle.path), step, str(count)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_whole(bundle: Bundle, *, engines: int) -> None:
    """Every described engine is complete, and there are `engines` of them."""
    store = EngineStore(bundle)
    assert store.problems() == ()
    assert len(store.list()) == engines
    for record in store.list():
        store.load(record)
    bundle.verify()


def build(bundle: Bundle) -> None:
    build_engine(bundle, precision="int8", backend="onnxruntime", threads=1, budget=None)


@pytest.mark.parametrize(
    ("step", "count", "engines"),
    [
        ("calibrate", 0, 0),
        ("time", 0, 0),
        ("fsync", 1, 0),
        ("replace", 1, 0),  # the first is the note that this user built the engine, then come engine and sidecar
        ("replace", 2, 0),
        ("replace-after", 2, 0),
        ("replace", 3, 0),
        ("replace-after", 3, 1),
    ],
)
def test_a_build_killed_at_any_step_leaves_nothing_half(own_bundle: Bundle, step: str, count: int, engines: int) -> None:
    process = start(own_bundle, step, count)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert_whole(own_bundle, engines=engines)
    with EngineStore(own_bundle).building() as waited:  # the lock of the dead is free, its leftovers are swept
        assert waited is False
    left = [path.name for path in (own_bundle.path / "engines").iterdir() if path.name != ".lock"]
    assert len(left) == 2 * engines
    assert_whole(own_bundle, engines=engines)


def test_after_a_killed_build_the_next_one_succeeds(own_bundle: Bundle) -> None:
    process = start(own_bundle, "replace", 3)
    process.communicate(timeout=120)
    build(own_bundle)
    assert_whole(own_bundle, engines=1)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("failing", [2, 3])
def test_a_full_disk_is_a_typed_error_and_leaves_the_old_engine(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, call: str, failing: int
) -> None:
    build(own_bundle)
    (old,) = EngineStore(own_bundle).list()
    original, calls = getattr(os, call), []

    def full(*arguments: object, **options: object) -> object:
        is_directory = call == "fsync" and not files.os.path.isfile(f"/proc/self/fd/{arguments[0]}")
        if not is_directory:
            calls.append(arguments)
        if len(calls) == failing and not is_directory:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, full)
        with pytest.raises(BuildError, match=r"No space left on device.*Free some space"):
            build(own_bundle)
    assert_whole(own_bundle, engines=1)
    assert EngineStore(own_bundle).list() == (old,)
    assert len(list((own_bundle.path / "engines").iterdir())) == 3, "the lock, the engine and its sidecar"
    build(own_bundle)
    assert_whole(own_bundle, engines=1)


class Disk:
    """A disk with so much room, of which the rest of the machine knows nothing."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.asked: list[Path] = []

    def usage(self, folder: Path) -> SimpleNamespace:
        self.asked.append(folder)
        return SimpleNamespace(free=self.free)


def test_a_disk_without_room_is_named_before_anything_is_built(own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, steps = Disk(free=0), []
    monkeypatch.setattr(shutil, "disk_usage", disk.usage)
    folder = re.escape(str(own_bundle.path / "engines"))
    with pytest.raises(BuildError, match=rf"may need [1-9][\d.]* MB in {folder}; 0\.0 MB are free.*EDGE_MTL_BUNDLE"):
        build_engine(own_bundle, backend="onnxruntime", threads=1, budget=None, progress=lambda *step: steps.append(step))
    assert steps == []
    assert not (own_bundle.path / "engines").exists()
    assert own_bundle.path in disk.asked, "a folder that is not there yet: the one that it will be made in"


def test_the_variable_that_moves_the_cache_is_named_where_engines_go_there(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != own_bundle.path and access(path, mode)
    )  # root may write anywhere
    monkeypatch.setattr(shutil, "disk_usage", Disk(free=0).usage)
    with pytest.raises(BuildError, match=rf"in {re.escape(str(tmp_path / 'cache'))}.*let XDG_CACHE_HOME name"):
        build(own_bundle)


@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_what_a_build_stores_fits_in_the_room_that_it_asked_for(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", Disk(free=0).usage)
    arguments: dict[str, Any] = {"precision": precision, "threads": 1, "budget": None}
    with pytest.raises(BuildError) as refused:
        build_engine(own_bundle, **arguments)
    asked = float(re.findall(r"may need ([\d.]+) MB", str(refused.value))[0]) * 1e6
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    build_engine(own_bundle, **arguments)
    stored = [
        path for folder in (own_bundle.path / "engines", tmp_path / "cache") for path in folder.rglob("*") if path.is_file()
    ]
    assert any(path.suffix == ".code" for path in stored), "compiled code counts"
    assert sum(path.stat().st_size for path in stored) <= asked


def test_a_real_limit_on_file_size_is_a_typed_error(own_bundle: Bundle) -> None:
    resource = pytest.importorskip("resource")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(BuildError, match="could not be written"):
            build(own_bundle)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_whole(own_bundle, engines=0)


def test_two_builds_at_once_do_the_work_once(own_bundle: Bundle) -> None:
    store = EngineStore(own_bundle)
    with store.building():  # hold both back until both wait, so that neither can finish before the other begins
        processes = [start(own_bundle), start(own_bundle)]
        deadline = time.monotonic() + 60
        while len(_holders(own_bundle.path / "engines" / ".lock")) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    outcomes = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        outcomes.append(output.strip())
    assert sorted(outcomes) == ["built", "reused"]
    assert_whole(own_bundle, engines=1)


def _holders(path: Path) -> set[int]:
    """Processes that have `path` open."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.path.samefile(entry, path):
                found.add(int(entry.parts[2]))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("damage", [b"", b"altered", None])
def test_an_altered_engine_is_refused_before_a_runtime_sees_it(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    build(own_bundle)
    (record,) = EngineStore(own_bundle).list()
    path = own_bundle.path / "engines" / record.file
    payload = path.read_bytes()
    path.write_bytes(payload[:-1] + b"X" if damage is None else damage)
    seen: list[object] = []

    class Runtime:
        """A vendor's module that only counts what reaches it."""

        @staticmethod
        def open_graph(*arguments: object, **options: object) -> None:
            seen.append(arguments)
            raise AssertionError("an unverified engine reached the runtime")

    monkeypatch.setattr(backends.importlib, "import_module", lambda name: Runtime)
    with pytest.raises(BundleError, match="was altered"):
        Engine(own_bundle.path, precision="int8")
    assert seen == []


def test_a_read_only_bundle_gets_its_engines_in_the_cache(own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access

    def read_only(path: object, mode: int) -> bool:
        inside = Path(str(path)).is_relative_to(own_bundle.path)
        return access(path, mode) and not (mode & os.W_OK and inside)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "access", read_only)
    build(own_bundle)
    assert not (own_bundle.path / "engines").exists()
    assert_whole(own_bundle, engines=1)
    with Engine(own_bundle.path, precision="int8") as engine:
        assert engine.info.precision == "int8"


def test_a_folder_that_cannot_be_made_is_a_typed_error(own_bundle: Bundle) -> None:
    (own_bundle.path / "engines").write_text("a file where the folder should be")
    with pytest.raises(EdgeMtlError):
        build(own_bundle)


def test_interrupting_a_build_leaves_nothing(own_bundle: Bundle) -> None:
    def interrupt(step: str, done: int, total: int) -> None:
        if step == "self-test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, progress=interrupt)
    assert_whole(own_bundle, engines=0)
    build(own_bundle)
    assert_whole(own_bundle, engines=1)
