"""What another process replaces while this one reads or builds: the new one is taken, or the error says so."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_mtl import Engine
from edge_mtl.backends import CompiledGraph
from edge_mtl.builder import pipeline
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import MANIFEST, Bundle, find
from edge_mtl.engine_store import compiled, engines
from edge_mtl.engine_store.engines import LOCK, EngineStore
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.engine_store.revision import changing, commit, rollback
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.files import exchange, sha256_bytes
from tests.bundles import make_bundle
from tests.command_line import edge_mtl


@pytest.fixture
def built(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle with an INT8 engine."""
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    bundle = Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))
    build_engine(bundle, precision="int8", backend="onnxruntime", threads=1, budget=None)
    return bundle


def other_bytes(bundle: Bundle) -> tuple[EngineRecord, bytes]:
    """An engine of the same key with other bytes: the same graph, with a field that runtimes pass over."""
    store = EngineStore(bundle)
    (record,) = store.list()
    payload = store.load(record) + b"\x32\x01x"  # ModelProto.doc_string
    digest = sha256_bytes(payload)
    return replace(record, sha256=digest, size=len(payload), file=engine_file(record.key, digest, record.backend)), payload


def before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, happens: Callable[[], object]) -> None:
    """Let something happen once, right before a call."""
    original, left = getattr(owner, name), [happens]

    def call(*arguments: Any, **options: Any) -> Any:
        if left:
            left.pop()()
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


def open_int8(bundle: Path | Bundle) -> Engine:
    return Engine(bundle, backend="onnxruntime", precision="int8", threads=1)


def test_an_engine_that_is_replaced_after_it_was_picked_is_picked_again(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    new = other_bytes(built)
    before(monkeypatch, EngineStore, "load", lambda: EngineStore(built).save(*new))
    with open_int8(built.path) as engine:
        assert engine.info.engine_key == new[0].key


def test_an_engine_that_is_replaced_and_put_back_while_it_is_read_is_read_again(
    built: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, store, load = other_bytes(built), EngineStore(built), EngineStore.load
    (record,) = store.list()
    old, left = (record, store.load(record)), [1]

    def replaced_meanwhile(self: EngineStore, one: EngineRecord, **options: Any) -> bytes:
        if not left:
            return load(self, one, **options)
        left.pop()
        store.save(*new)
        try:
            return load(self, one, **options)
        finally:
            store.save(*old)

    monkeypatch.setattr(EngineStore, "load", replaced_meanwhile)
    with open_int8(built.path) as engine:
        assert engine.info.engine_key == record.key
    assert left == []


def test_an_engine_that_is_removed_after_it_was_picked_gives_way_to_full_precision(
    built: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = EngineStore(built).list()
    before(monkeypatch, EngineStore, "load", lambda: EngineStore(built).remove(record))
    with Engine(built.path, backend="onnxruntime", threads=1) as engine:
        assert engine.info.precision == "fp32"


def test_a_bundle_that_is_replaced_for_a_moment_while_its_engine_is_picked_is_opened_again(
    built: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engines that were listed are the other bundle's, and by the time of the error the first one is back."""
    other = make_bundle(tmp_path / "other", seed=5)
    build_engine(other, precision="int8", backend="onnxruntime", threads=1, budget=None)
    before(monkeypatch, EngineStore, "find", lambda: exchange(other.path, built.path))
    before(monkeypatch, EngineStore, "rebuild_command", lambda: exchange(other.path, built.path))
    with open_int8(built.path) as engine:
        assert engine.info.precision == "int8"


def test_a_damaged_engine_is_refused_and_not_looked_for_again(built: Bundle) -> None:
    (record,) = EngineStore(built).list()
    (built.path / "engines" / record.file).unlink()
    with pytest.raises(BundleError, match="cannot be opened"):
        open_int8(built.path)


def test_a_sidecar_that_goes_away_while_they_are_read_is_no_problem(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EngineStore(built)
    (record,) = store.list()
    listed = store._entries()
    before(monkeypatch, engines, "read_regular", (built.path / "engines" / f"{record.key}.json").unlink)
    assert list(listed) == []


@pytest.mark.parametrize("reads", ["entry", "read"])
def test_a_bundle_that_is_replaced_while_it_is_opened_is_opened_again(
    built: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    other = make_bundle(tmp_path / "other", seed=5)
    before(monkeypatch, Bundle, reads, lambda: exchange(other.path, built.path))
    with Engine(built.path, backend="onnxruntime", threads=1) as engine:
        assert engine.info.digest == other.digest
        assert engine.info.precision == "fp32"


def test_a_bundle_that_was_opened_before_it_was_replaced_says_so(built: Bundle, tmp_path: Path) -> None:
    exchange(make_bundle(tmp_path / "other", seed=5).path, built.path)
    with pytest.raises(BundleError, match=r"was replaced by another revision since it was opened\. Open the bundle again"):
        open_int8(built)


def test_an_altered_bundle_is_refused_as_before(built: Bundle) -> None:
    (built.path / "golden" / "000.npz").write_bytes(b"altered")
    with pytest.raises(BundleError, match="was altered"):
        open_int8(built.path)


def test_a_revision_waits_for_a_build_whose_engine_stays_with_the_old_one(built: Bundle) -> None:
    new, events = other_bytes(built), []

    def change() -> None:
        with changing(built.path) as current:
            commit(current, lambda folder: None)
        events.append("committed")

    with EngineStore(built).building():
        committing = threading.Thread(target=change)
        committing.start()
        time.sleep(0.3)
        EngineStore(built).save(*new)
        events.append("saved")
    committing.join(60)
    assert events == ["saved", "committed"]
    kept = Bundle.open(built.path.with_name(f"{built.path.name}.revision-1"))
    assert EngineStore(kept).list() == (new[0],)
    assert EngineStore(Bundle.open(built.path)).list() == ()


@pytest.mark.parametrize("engines", [True, False], ids=["engines there", "no engines there"])
def test_a_build_of_a_revision_that_gave_way_is_refused_and_writes_nothing(built: Bundle, engines: bool) -> None:
    new = other_bytes(built)
    if not engines:
        shutil.rmtree(built.path / "engines")
    with changing(built.path) as current:
        commit(current, lambda folder: None)
    store = EngineStore(built)
    with pytest.raises(BuildError, match="was replaced by another revision meanwhile"), store.building():
        raise AssertionError("the store of another revision was held")
    with pytest.raises(BuildError, match="was replaced by another revision meanwhile"):
        store.save(*new)
    assert EngineStore(Bundle.open(built.path)).list() == ()
    if engines:
        assert EngineStore(rollback(built.path)).list() == EngineStore(built).list() != ()


def test_a_lock_whose_folder_gave_way_is_taken_where_the_new_one_is(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    held: list[int] = []

    def wait() -> None:
        with exclusive(old / LOCK):
            held.append(os.stat(old / LOCK).st_ino)
            with pytest.raises(BuildError), exclusive(old / LOCK, timeout_s=0.0):
                pass

    with exclusive(old / LOCK):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        exchange(old, new)
    waiting.join(60)
    assert held == [os.stat(old / LOCK).st_ino]


def test_code_that_another_build_is_about_to_describe_is_not_swept(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EngineStore(built).compiled
    (record,) = EngineStore(built).list()
    other, threads = replace(record, key="a" * 32), []

    def keeps() -> None:
        thread = threading.Thread(target=store.keep, args=(other, CompiledGraph(b"other", "test")))
        threads.append(thread)
        thread.start()
        thread.join(0.5)

    write, calls = compiled.write_atomic, []

    def slowly(path: Path, payload: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:  # the code of this build lies there, and nothing describes it yet
            keeps()
        write(path, payload)

    monkeypatch.setattr(compiled, "write_atomic", slowly)
    store.keep(record, CompiledGraph(b"this", "test"))
    threads[0].join(60)
    assert [store.load(each)[0] for each in (record, other)] == [
        CompiledGraph(b"this", "test"),
        CompiledGraph(b"other", "test"),
    ]


def test_an_engine_that_was_built_while_the_removal_waited_stays(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    new = other_bytes(built)
    before(monkeypatch, EngineStore, "building", lambda: EngineStore(built).save(*new))
    done = edge_mtl("engines", built.path, "--remove", "all", "--json")
    assert done.code == 0, done.err
    assert done.records[0]["removed"] == []
    assert EngineStore(built).list() == (new[0],)


def test_a_bundle_that_goes_away_among_others_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stays = make_bundle(tmp_path / "bundles" / "stays")
    goes = make_bundle(tmp_path / "bundles" / "goes")
    stat = Path.stat

    def gone(self: Path, **options: Any) -> Any:
        if self.name == MANIFEST and self.parent.name == goes.path.name:
            shutil.rmtree(goes.path, ignore_errors=True)
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", gone)
    assert find().digest == stays.digest
