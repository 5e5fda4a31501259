"""The engine store: what it keeps, what it refuses, what it chooses."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
import pwd
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mtl.backends import BackendSpec, register, unregister
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle, new_revision
from edge_mtl.device import DeviceFingerprint, fingerprint
from edge_mtl.engine import Engine
from edge_mtl.engine_store import engines
from edge_mtl.engine_store.engines import EngineSelection, EngineStore, cache_folder
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file, engine_key
from edge_mtl.errors import BackendUnavailable, BuildError, BundleError, EngineMismatch
from edge_mtl.files import sha256_bytes
from edge_mtl.signing.signatures import Signed
from tests.bundles import make_image
from tests.command_line import edge_mtl

RUNTIMES = {"onnxruntime": "1.0", "openvino": "2.0"}
PAYLOAD = b"the bytes of an engine" * 100


def record_of(bundle: Bundle, payload: bytes = PAYLOAD, **changes: object) -> EngineRecord:
    """A record that fits this machine and RUNTIMES unless `changes` say otherwise."""
    values: dict[str, object] = {
        "precision": "int8",
        "backend": "onnxruntime",
        "runtime_version": "1.0",
        "device": fingerprint(),
        "graph_sha256": bundle.entry(OPTIMIZED_ONNX).sha256,
        "options": {"threads": None},
        "latency_ms": 10.0,
        "ratio": 2.0,
        "self_test": {"passed": True},
        "created": time.time(),
    } | changes
    named = ("backend", "runtime_version", "device", "precision", "graph_sha256", "options")
    key = engine_key(**{name: values[name] for name in named})
    digest = sha256_bytes(payload)
    file = engine_file(key, digest, str(values["backend"]))
    return EngineRecord(key=key, file=file, sha256=digest, size=len(payload), **values)


@pytest.fixture
def own_bundle(quick_bundle: Bundle) -> Bundle:
    return quick_bundle


@pytest.fixture
def store(own_bundle: Bundle) -> EngineStore:
    return EngineStore(own_bundle, runtimes=RUNTIMES)


def test_what_is_saved_is_loaded(own_bundle: Bundle, store: EngineStore) -> None:
    record = record_of(own_bundle)
    path = store.save(record, PAYLOAD)
    assert path.parent == own_bundle.path / "engines"
    assert store.list() == (record,)
    assert store.load(record) == PAYLOAD
    assert EngineRecord.from_json(record.to_json(), source="x") == record
    assert path.parent.stat().st_mode & 0o777 == 0o700
    own_bundle.verify()


def test_the_key_covers_everything_that_decides_validity(own_bundle: Bundle) -> None:
    record = record_of(own_bundle)
    other = dataclasses.replace(fingerprint(), cpu_model="another")
    for change in (
        {"backend": "openvino"},
        {"runtime_version": "1.1"},
        {"device": other},
        {"precision": "fp32"},
        {"graph_sha256": "0" * 64},
        {"options": {"threads": 3}},
    ):
        assert record_of(own_bundle, **change).key != record.key
    assert record_of(own_bundle, latency_ms=1.0, created=0.0).key == record.key


def test_a_record_that_does_not_describe_its_bytes_is_not_saved(own_bundle: Bundle, store: EngineStore) -> None:
    with pytest.raises(BuildError, match="does not describe these bytes"):
        store.save(record_of(own_bundle), PAYLOAD + b"!")
    assert store.list() == ()


def test_a_folder_that_goes_away_while_it_is_listed_has_no_engines(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(record_of(own_bundle), PAYLOAD)
    is_dir = Path.is_dir

    def then_gone(path: Path) -> bool:
        was = is_dir(path)
        shutil.rmtree(store.folder, ignore_errors=True)
        return was

    def scan(path: Path, pattern: str) -> None:
        raise FileNotFoundError(path)  # as Python before 3.13 does

    monkeypatch.setattr(Path, "is_dir", then_gone)
    monkeypatch.setattr(Path, "glob", scan)
    assert store.list() == ()


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove", "link"])
def test_an_altered_engine_is_refused(own_bundle: Bundle, store: EngineStore, damage: str, tmp_path: Path) -> None:
    record = record_of(own_bundle)
    path = store.save(record, PAYLOAD)
    if damage == "flip":
        path.write_bytes(PAYLOAD[:-1] + b"X")
    elif damage == "cut":
        path.write_bytes(PAYLOAD[:-1])
    elif damage == "grow":
        path.write_bytes(PAYLOAD + b"X")
    else:
        path.unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(PAYLOAD)
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="build-engine"):
        store.load(record)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format_version": 2}',
        b'{"format_version": 1}',
        b"[" * 100_000,
        b"\xff\xfe",
        b" " * (2 << 20),
    ],
)
def test_a_damaged_sidecar_is_named_and_never_chosen(own_bundle: Bundle, store: EngineStore, content: bytes) -> None:
    good = record_of(own_bundle)
    store.save(good, PAYLOAD)
    (store.folder / "broken.json").write_bytes(content)
    assert store.list() == (good,)
    assert store.best() == good
    (problem,) = store.problems()
    assert "broken.json" in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("key", "../../etc/passwd"),
        ("file", "../evil.onnx"),
        ("sha256", "zz"),
        ("size", -1),
        ("options", []),
        ("options", {"a": {}}),
        ("device", None),
        ("ratio", "fast"),
    ],
)
def test_a_sidecar_with_a_wrong_value_is_refused(own_bundle: Bundle, key: str, value: object) -> None:
    content = json.loads(record_of(own_bundle).to_json())
    content[key] = value
    with pytest.raises(BundleError, match="not a valid engine description"):
        EngineRecord.from_json(json.dumps(content).encode(), source="sidecar")


@pytest.mark.parametrize("digit", ["0", "f"])
def test_a_sidecar_under_another_name_is_refused(own_bundle: Bundle, store: EngineStore, digit: str) -> None:
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    sidecar = store.folder / f"{record.key}.json"
    sidecar.rename(store.folder / f"{digit * 32}.json")
    assert store.list() == ()
    assert "describes engine" in store.problems()[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"runtime_version": "0.9"}, "built with onnxruntime 0.9; this device has 1.0"),
        ({"graph_sha256": "0" * 64}, "another version of this bundle's graph"),
        ({"device": dataclasses.replace(fingerprint(), cpu_model="Another CPU")}, "built on Another CPU"),
    ],
)
def test_a_stale_engine_is_explained_with_the_command(
    own_bundle: Bundle, store: EngineStore, change: dict[str, object], reason: str
) -> None:
    record = record_of(own_bundle, **change)
    store.save(record, PAYLOAD)
    for attempt in (lambda: store.load(record), store.best, lambda: store.best(precision="int8", backend="onnxruntime")):
        with pytest.raises(EngineMismatch, match=reason) as caught:
            attempt()
        assert f"edge-mtl build-engine {own_bundle.path} --int8" in str(caught.value)
    assert not store.is_built()
    fresh = record_of(own_bundle)
    store.save(fresh, PAYLOAD)
    assert store.best() == fresh
    assert store.is_built()


def test_the_fastest_engine_that_passed_its_self_test_is_chosen(own_bundle: Bundle, store: EngineStore) -> None:
    slow = record_of(own_bundle, ratio=1.5)
    fast = record_of(own_bundle, backend="openvino", runtime_version="2.0", precision="int8+bf16", ratio=3.0)
    wrong = record_of(own_bundle, options={"threads": 9}, ratio=9.0, self_test={"passed": False})
    plain = record_of(own_bundle, precision="fp32", ratio=1.2)
    assert store.best() is None
    assert store.select().reason == "no engine was built here yet"
    for record in (slow, wrong, fast, plain):
        store.save(record, PAYLOAD)
    assert store.best() == fast
    assert "the fastest engine built here" in store.select().reason
    assert store.best(precision="int8") == fast, "INT8 covers INT8 with bfloat16"
    assert store.best(precision="int8", backend="onnxruntime") == slow
    assert store.best(precision="fp32") == plain
    assert store.best(precision="bf16") is None
    assert [record.ratio for record in store.find(backend="onnxruntime")] == [9.0, 1.5, 1.2]


def test_a_runtime_that_is_gone_is_passed_over_with_a_reason(own_bundle: Bundle, store: EngineStore) -> None:
    slow = record_of(own_bundle, ratio=1.5)
    fast = record_of(own_bundle, backend="openvino", runtime_version="2.0", ratio=3.0)
    store.save(slow, PAYLOAD)
    store.save(fast, PAYLOAD)
    without = EngineStore(own_bundle, runtimes={"onnxruntime": "1.0"})
    selection = without.select()
    assert selection.record == slow
    assert "needs openvino, which is not installed" in selection.reason
    with pytest.raises(BackendUnavailable, match="openvino is not installed"):
        without.best(backend="openvino")
    store.remove(slow)
    nothing = without.select()
    assert nothing.record is None
    assert "need openvino" in nothing.reason


def test_engines_of_a_read_only_bundle_go_to_the_users_cache(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(
        engines.os,
        "access",
        lambda path, mode: access(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(own_bundle.path)),
    )
    record = record_of(own_bundle)
    path = store.save(record, PAYLOAD)
    assert path.is_relative_to(cache_folder())
    assert own_bundle.digest[:32] in str(path)
    assert store.list() == (record,)
    assert store.load(record) == PAYLOAD
    store.remove(record)
    assert store.list() == ()
    assert not path.exists()


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no entry in /etc/passwd; what stands for a home cannot be made, by root neither."""

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    (tmp_path / "file").write_text("in the way")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(engines, "_NO_HOME", tmp_path / "file" / "home")


@pytest.mark.usefixtures("homeless")
def test_without_a_home_frames_are_predicted_and_the_doctor_says_so(tiny_bundle: Bundle) -> None:
    with Engine(tiny_bundle, precision="fp32", threads=1) as engine:
        engine.predict(make_image(0))
    assert edge_mtl("doctor").code == 0
    assert "NOT writable: set XDG_CACHE_HOME" in " ".join(edge_mtl("doctor").out.split())


@pytest.mark.usefixtures("homeless")
def test_without_a_home_an_engine_can_be_made_in_a_bundle_of_ones_own_only(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="home"):
        Path.home()
    assert cache_folder() == tmp_path / "file" / "home" / ".cache" / "edge_mtl"
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    assert store.load(record) == PAYLOAD
    access = os.access
    monkeypatch.setattr(engines.os, "access", lambda path, mode: access(path, mode) and not mode & os.W_OK)
    said = r"cannot be made \(Not a directory\)\. Set XDG_CACHE_HOME to a folder that can be written, or build in a copy"
    with pytest.raises(BuildError, match=said):
        store.save(record, PAYLOAD)


@pytest.mark.parametrize("receipts", ["a file", "a folder that others may write"])
def test_an_engine_whose_receipt_cannot_be_given_is_kept(own_bundle: Bundle, store: EngineStore, receipts: str) -> None:
    folder = store.receipts.folder
    folder.parent.mkdir(parents=True)
    if receipts == "a file":
        folder.write_text("in the way")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    assert store.load(record) == PAYLOAD


def test_an_engine_that_somebody_else_built_for_a_signed_bundle_runs_only_where_its_user_says_so(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    signed = EngineStore(dataclasses.replace(own_bundle, signed=Signed("a key", "a comment")), runtimes=RUNTIMES)
    assert signed.load(record) == PAYLOAD
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of-another-user"))
    with pytest.raises(
        EngineMismatch,
        match=r"onnx is not covered by the bundle's signature, and it was not built by this user.*trust_engine=True",
    ):
        signed.load(record)
    assert signed.load(record, trust_engine=True) == PAYLOAD
    assert store.load(record) == PAYLOAD, "nobody asked for a signature"


def test_a_folder_that_others_may_write_is_not_trusted(own_bundle: Bundle, store: EngineStore) -> None:
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    store.folder.chmod(0o777)
    with pytest.raises(BundleError, match="chmod 700"):
        store.load(record)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to give a folder away")
def test_a_folder_of_another_user_is_not_trusted(own_bundle: Bundle, store: EngineStore) -> None:
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    os.chown(store.folder, 12345, -1)
    with pytest.raises(BundleError, match="belongs to user 12345"):
        store.load(record)
    with pytest.raises(BundleError, match="belongs to user 12345"):
        store.save(record, PAYLOAD)


def test_a_new_engine_of_the_same_key_replaces_the_old_one_and_its_file(own_bundle: Bundle, store: EngineStore) -> None:
    old = record_of(own_bundle)
    new = record_of(own_bundle, PAYLOAD + b"2", ratio=3.0)
    assert old.key == new.key
    store.save(old, PAYLOAD)
    store.save(new, PAYLOAD + b"2")
    assert store.list() == (new,)
    assert store.load(new) == PAYLOAD + b"2"
    assert len(list(store.folder.glob("*.onnx"))) == 1


def test_leftovers_of_killed_builds_are_swept(own_bundle: Bundle, store: EngineStore) -> None:
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    (store.folder / ".tmp-edge-mtl-abc").write_bytes(b"half")
    (store.folder / f"{'1' * 32}.aaaaaaaaaaaa.onnx").write_bytes(b"no sidecar")
    with store.building():
        pass
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([".lock", record.file, f"{record.key}.json"])


def test_a_build_that_was_killed_is_known_until_the_next_one(own_bundle: Bundle, store: EngineStore) -> None:
    store.save(record_of(own_bundle), PAYLOAD)
    assert store.is_built()
    child = os.fork()
    if child == 0:
        with store.building():
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not store.is_built()
    with store.building():
        assert EngineStore(own_bundle, runtimes=RUNTIMES).is_built(), "another build is going on"
    assert store.is_built()
    assert not store.is_built(precision="fp16")


def test_the_store_is_held_by_one_build_at_a_time(own_bundle: Bundle, store: EngineStore) -> None:
    order: list[str] = []
    noticed = threading.Event()

    def second() -> None:
        with EngineStore(own_bundle, runtimes=RUNTIMES).building(waiting=noticed.set) as waited:
            order.append(f"second, waited: {waited}")

    with store.building() as waited:
        assert waited is False
        thread = threading.Thread(target=second)
        thread.start()
        assert noticed.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second, waited: True"]


def test_a_lock_that_stays_taken_is_given_up(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "lock"),
        pytest.raises(BuildError, match="held by another build"),
        exclusive(tmp_path / "lock", timeout_s=0.1),
    ):
        pass


def test_a_build_that_cannot_be_marked_says_so_and_frees_the_store(store: EngineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(engines, "make_file", full)
        with (
            pytest.raises(
                BuildError, match=r"Nothing can be written to .*\(No space left on device\)\. Free some space, then build"
            ),
            store.building(),
        ):
            pass
    with store.building() as waited:
        assert waited is False


def test_an_engine_that_is_stale_is_not_built(own_bundle: Bundle, store: EngineStore) -> None:
    store.save(dataclasses.replace(record_of(own_bundle), runtime_version="0.0"), PAYLOAD)
    assert not store.is_built()


def test_an_error_inside_a_build_passes_through_and_frees_the_store(store: EngineStore) -> None:
    with pytest.raises(OSError, match="from inside"), store.building():
        raise OSError("from inside")
    with store.building() as waited:
        assert waited is False


def test_by_default_the_device_and_runtimes_are_looked_up(own_bundle: Bundle) -> None:
    store = EngineStore(own_bundle)
    assert isinstance(store.device, DeviceFingerprint)
    assert "onnxruntime" in store.runtimes


def test_an_engine_is_of_the_bundles_optimized_graph_and_of_no_other(own_bundle: Bundle, store: EngineStore) -> None:
    record = record_of(own_bundle)
    assert store.mismatch(record) is None
    without = new_revision(own_bundle, lambda folder: (folder / OPTIMIZED_ONNX).unlink())
    found = EngineStore(without, runtimes=RUNTIMES).mismatch(record)
    assert found == "it was built from another version of this bundle's graph"


def test_engines_lie_in_the_bundle_or_under_its_digest_in_the_cache(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = tmp_path / "cache" / "edge_mtl"
    assert store.folders == (own_bundle.path / "engines", cache / own_bundle.digest[:32])
    assert (store.compiled.folder, store.receipts.folder, store.timings) == (
        cache / "compiled",
        cache / "built",
        cache / "timings",
    )
    for named in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "edge_mtl"


def test_an_engine_in_the_cache_is_found_beside_those_in_the_bundle(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, cached = record_of(own_bundle, ratio=1.0), record_of(own_bundle, options={"threads": 2}, ratio=2.0)
    store.save(inside, PAYLOAD)
    with monkeypatch.context() as patch:
        patch.setattr(EngineStore, "folder", property(lambda self: self.folders[1]))
        store.save(cached, PAYLOAD)
        store.save(dataclasses.replace(inside, ratio=9.0), PAYLOAD)
    assert store.list() == (cached, inside), "of two under one name the bundle's own counts"
    assert store.load(cached) == store.load(inside) == PAYLOAD
    store.remove(inside)
    assert store.list() == (cached,), "both are gone"
    assert [path.name for folder in store.folders for path in sorted(folder.iterdir())] == sorted(
        [cached.file, f"{cached.key}.json"]
    )


def test_engines_in_the_cache_after_one_that_is_in_the_bundle_too_are_found(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, cached = sorted((record_of(own_bundle, options={"threads": number}) for number in (1, 2)), key=lambda one: one.key)
    store.save(both, PAYLOAD)
    with monkeypatch.context() as patch:
        patch.setattr(EngineStore, "folder", property(lambda self: self.folders[1]))
        store.save(both, PAYLOAD)
        store.save(cached, PAYLOAD)
    assert store.list() == (both, cached)


def test_engines_are_listed_fastest_first_then_by_key(own_bundle: Bundle, store: EngineStore) -> None:
    records = [
        record_of(own_bundle, options={"threads": number}, ratio=ratio) for number, ratio in enumerate((2.0, 3.0, 2.0, 2.0))
    ]
    for record in records:
        store.save(record, PAYLOAD)
    first, *others = store.list()
    assert first == records[1]
    assert [record.key for record in others] == sorted(record.key for record in records if record.ratio == 2.0)


def test_a_sidecar_of_a_megabyte_is_read_and_a_larger_one_is_not(own_bundle: Bundle, store: EngineStore) -> None:
    record = record_of(own_bundle)
    store.save(record, PAYLOAD)
    sidecar = store.folder / f"{record.key}.json"
    content = sidecar.read_bytes()
    sidecar.write_bytes(content + b" " * (1024 * 1024 - len(content)))
    assert store.list() == (record,)
    sidecar.write_bytes(content + b" " * (1024 * 1024 - len(content) + 1))
    assert store.list() == ()
    (problem,) = store.problems()
    assert "cannot be read (larger than 1048576 bytes). Delete it" in problem


def test_a_sidecar_that_cannot_be_read_is_a_problem_of_its_own(own_bundle: Bundle, store: EngineStore) -> None:
    good = record_of(own_bundle)
    store.save(good, PAYLOAD)
    (store.folder / "gone.json").symlink_to("nowhere")
    (store.folder / f"{'1' * 32}.json").mkdir()
    os.mkfifo(store.folder / "pipe.json")
    assert store.list() == (good,)
    assert len(store.problems()) == 2, "what is gone is no problem"
    assert all("cannot be read" in said for said in store.problems())
    with store.building():
        pass
    assert store.load(good) == PAYLOAD, "what is described stays"


@pytest.mark.parametrize("step", [0, 1])
def test_an_engine_that_cannot_be_written_is_an_error_and_the_old_one_stays_whole(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    old, new = record_of(own_bundle), record_of(own_bundle, PAYLOAD + b"2", ratio=3.0)
    store.save(old, PAYLOAD)
    before = sorted(path.name for path in store.folder.iterdir())
    write, calls = engines.write_atomic, []

    def full(path: Path, payload: bytes) -> None:
        calls.append(path)
        if len(calls) > step:
            raise OSError(28, "No space left on device")
        write(path, payload)

    with monkeypatch.context() as patch:
        patch.setattr(engines, "write_atomic", full)
        with pytest.raises(
            BuildError, match=r"could not be written to .*\(No space left on device\)\. Free some space, then build"
        ):
            store.save(new, PAYLOAD + b"2")
    assert sorted(path.name for path in store.folder.iterdir()) == before
    assert store.load(old) == PAYLOAD


def test_bytes_of_another_digest_or_size_are_not_saved(own_bundle: Bundle, store: EngineStore) -> None:
    record = record_of(own_bundle)
    for wrong in ({"size": 1}, {"size": len(PAYLOAD) + 1}, {"sha256": "0" * 64}, {"sha256": "f" * 64}):
        with pytest.raises(BuildError, match="does not describe these bytes"):
            store.save(dataclasses.replace(record, **wrong), PAYLOAD)
    assert not store.folder.exists(), "nothing was made"


@pytest.mark.parametrize("where", ["the bundle", "a cache before it", "z cache after it"])
def test_the_store_says_before_a_build_that_there_is_no_room_for_it(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Of the larger graph, 4000 bytes: once for the engine, 1.25 times for compiled code, and 1 MiB on top."""
    if where != "the bundle":
        monkeypatch.setenv("XDG_CACHE_HOME", str(own_bundle.path.with_name(where)))
        monkeypatch.setattr(EngineStore, "folder", property(lambda self: self.folders[1]))
    needed = int(3 * (2.25 * 4000 + (1 << 20)))
    usage = shutil.disk_usage(own_bundle.path)
    asked = []

    def free(folder: Path, room: int) -> object:
        asked.append(folder)
        return usage._replace(free=room)

    monkeypatch.setattr(engines.shutil, "disk_usage", lambda folder: free(folder, needed))
    store.require_space(3)
    monkeypatch.setattr(engines.shutil, "disk_usage", lambda folder: free(folder, needed - 1))
    with pytest.raises(BuildError) as caught:
        store.require_space(3)
    said = str(caught.value)
    assert f"Building may need 3.2 MB in {store.folder}; 3.2 MB are free there. Free some space, or" in said
    inside = "copy the bundle to a disk with room and use it there: EDGE_MTL_BUNDLE names it"
    assert (inside in said) == (where == "the bundle")
    assert ("let XDG_CACHE_HOME name a folder on a disk with room" in said) == (where != "the bundle")
    assert said.endswith("then build the engine again.")
    assert set(asked) == {next(place for place in (store.folder, *store.folder.parents) if place.is_dir())}


@pytest.mark.parametrize("elsewhere", ["the cache", "the bundle"])
def test_compiled_code_on_another_disk_takes_no_room_of_this_one(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    """Either may have the larger number."""
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == own_bundle.path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    usage, room = shutil.disk_usage(own_bundle.path), [0]
    monkeypatch.setattr(engines.shutil, "disk_usage", lambda folder: usage._replace(free=room[0]))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        there = Path(folder)
        if elsewhere == "the bundle":
            shutil.copytree(own_bundle.path, there / "own")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", str(there))
        path = there / "own" if elsewhere == "the bundle" else own_bundle.path
        store = EngineStore(dataclasses.replace(own_bundle, path=path))
        room[0] = 4000 + (1 << 20)
        store.require_space(1)
        room[0] -= 1
        with pytest.raises(BuildError, match="Building may need"):
            store.require_space(1)
        monkeypatch.setenv("XDG_CACHE_HOME", str(path.parent))
        room[0] = 4000 + (1 << 20)
        with pytest.raises(BuildError, match="Building may need"):
            store.require_space(1)


def test_a_store_that_cannot_be_locked_is_an_error(store: EngineStore) -> None:
    store.folder.mkdir()
    (store.folder / ".lock").mkdir()
    with pytest.raises(BuildError, match=r"engines/\.lock cannot be locked \("), store.building():
        raise AssertionError("it was held all the same")


def test_a_build_in_a_folder_that_takes_no_files_is_refused_before_it_begins(
    store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engines, "make_file", full)
    said = r"Nothing can be written to .*/engines \(No space left on device\)\. Free some space, then build the engine again"
    with pytest.raises(BuildError, match=said), store.building():
        raise AssertionError("it began all the same")


def test_what_a_build_leaves_and_what_it_says(own_bundle: Bundle, store: EngineStore) -> None:
    assert store.best() is None
    record = record_of(own_bundle, precision="int8+bf16")
    assert store.rebuild_command(record) == f"edge-mtl build-engine {own_bundle.path} --int8"
    path = store.save(record, PAYLOAD)
    assert path == own_bundle.path / "engines" / record.file
    selection = store.select()
    assert selection.reason == "int8+bf16 on onnxruntime is the fastest engine built here (10.0 ms a frame)"
    with pytest.raises(AttributeError):
        selection.reason = "another"
    assert not hasattr(selection, "__dict__")


def test_a_faster_engine_whose_runtime_is_gone_is_named_only_where_it_is_faster(own_bundle: Bundle, store: EngineStore) -> None:
    here = record_of(own_bundle, ratio=2.0)
    gone = record_of(own_bundle, backend="openvino", runtime_version="2.0", ratio=2.0)
    store.save(here, PAYLOAD)
    store.save(gone, PAYLOAD)
    without = EngineStore(own_bundle, runtimes={"onnxruntime": "1.0"})
    assert without.select().record == here
    assert "a faster one needs" not in without.select().reason
    store.save(dataclasses.replace(gone, ratio=1.9), PAYLOAD)
    assert "a faster one needs" not in without.select().reason
    store.save(dataclasses.replace(gone, ratio=2.1), PAYLOAD)
    assert without.select().reason.endswith("; a faster one needs openvino, which is not installed")


def test_of_runtimes_that_are_gone_and_of_engines_that_are_stale_the_fastest_is_named(
    own_bundle: Bundle, store: EngineStore
) -> None:
    here = record_of(own_bundle, ratio=1.0)
    gone = [
        record_of(own_bundle, backend=backend, runtime_version="2.0", ratio=ratio)
        for backend, ratio in (("openvino", 3.0), ("onnxruntime-cuda", 2.0))
    ]
    for record in (here, *gone):
        store.save(record, PAYLOAD)
    without = EngineStore(own_bundle, runtimes={"onnxruntime": "1.0"})
    assert without.select().reason.endswith("; a faster one needs openvino, which is not installed")
    store.remove(here)
    assert without.select() == EngineSelection(None, "the engines built here need openvino, which is not installed")
    for version, ratio in (("0.8", 1.0), ("0.9", 2.0)):
        store.save(record_of(own_bundle, runtime_version=version, ratio=ratio), PAYLOAD)
    with pytest.raises(EngineMismatch, match=r"built with onnxruntime 0\.9"):
        without.select()


@pytest.mark.parametrize("precision", ["INT8", "int", "none"])
def test_a_precision_that_there_is_not_covers_no_engine(own_bundle: Bundle, store: EngineStore, precision: str) -> None:
    store.save(record_of(own_bundle), PAYLOAD)
    assert store.find(precision=precision) == ()


def test_the_runtime_of_a_plug_in_that_cannot_be_used_is_not_looked_for(store: EngineStore) -> None:
    register(BackendSpec("abacus", "Abacus", "", {}, "", unbuilt=(), problem="The plug-in does not load."))
    try:
        with pytest.raises(BackendUnavailable, match="abacus is not installed here"):
            store.select(backend="abacus")
    finally:
        unregister("abacus")


def test_an_unknown_backend_is_not_looked_for(store: EngineStore) -> None:
    with pytest.raises(BackendUnavailable, match="nonsense"):
        store.select(backend="nonsense")


def test_the_gpu_is_looked_up_once_and_only_for_engines_of_one(own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(engines, "gpus", lambda: asked.append(1) or ())
    store = EngineStore(own_bundle, runtimes=RUNTIMES)
    assert store.mismatch(record_of(own_bundle)) is None
    assert asked == []
    assert store.gpu is None
    assert asked == [1]


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (EngineStore, ["device", "runtimes", "gpu"]),
        (EngineStore.find, ["precision", "backend"]),
        (EngineStore.select, ["precision", "backend"]),
        (EngineStore.load, ["trust_engine"]),
        (EngineStore.building, ["waiting"]),
        (EngineStore.is_built, ["precision", "backend"]),
    ],
)
def test_options_are_given_by_name(call: Callable[..., object], names: list[str]) -> None:
    parameters = inspect.signature(call).parameters
    assert [name for name in parameters if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY] == names


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-1e999"])
def test_a_sidecar_with_a_number_that_is_not_finite_is_a_problem(store: EngineStore, own_bundle: Bundle, word: str) -> None:
    path = store.save(record_of(own_bundle), PAYLOAD).parent / f"{record_of(own_bundle).key}.json"
    path.write_text(path.read_text().replace('"latency_ms": 10.0', f'"latency_ms": {word}'))
    (problem,) = store.problems()
    assert "finite" in problem


def test_a_removal_that_is_cut_short_leaves_no_compiled_code_that_nothing_leads_to(
    own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, removed = record_of(own_bundle), []
    store.save(record, PAYLOAD)
    monkeypatch.setattr("edge_mtl.engine_store.compiled.CompiledStore.remove", lambda self, which: removed.append(which))

    def die(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            store.remove(record)
    assert removed == [record]
