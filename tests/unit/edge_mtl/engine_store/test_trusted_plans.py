"""Plans in the engine store: what they depend on, who may load them, what altered, foreign or half-written ones come to."""

from __future__ import annotations

import dataclasses
import inspect
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.cuda.gpus import Gpu
from edge_mtl.device import fingerprint
from edge_mtl.engine_store import trusted_plans
from edge_mtl.engine_store.engines import EngineStore, cache_folder
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file, engine_key
from edge_mtl.engine_store.trusted_plans import TrustedPlans
from edge_mtl.engine_store.validity import why_stale
from edge_mtl.errors import BuildError, BundleError, EngineMismatch
from edge_mtl.files import sha256_bytes
from tests.command_line import assert_failed, edge_mtl

ORIN = Gpu("Orin", "8.7", "12.6", 8 << 30, True)
CARD = Gpu("NVIDIA GeForce RTX 3080", "8.6", "13.0", 10 << 30, False)
PLAN = b"ftrt" + bytes(range(256)) * 8
RUNTIMES = {"onnxruntime": "1.0", "tensorrt": "10.3.0"}
GRAPH = "a" * 64


def plan_record(graph_sha256: str, payload: bytes = PLAN, **changes: object) -> EngineRecord:
    """A plan's record for an Orin with TensorRT 10.3 unless `changes` say otherwise."""
    values: dict[str, object] = {
        "precision": "int8+fp16",
        "backend": "tensorrt",
        "runtime_version": "10.3.0",
        "device": fingerprint(),
        "graph_sha256": graph_sha256,
        "options": {"threads": None, "hardwareCompatibilityLevel": "none", "versionCompatible": False},
        "gpu": ORIN,
        "latency_ms": 5.0,
        "ratio": 4.0,
        "self_test": {"passed": True},
        "created": time.time(),
    } | changes
    named = ("backend", "runtime_version", "device", "precision", "graph_sha256", "options", "gpu")
    key = engine_key(**{name: values[name] for name in named})  # type: ignore[arg-type]
    digest = sha256_bytes(payload)
    file = engine_file(key, digest, str(values["backend"]))
    return EngineRecord(key=key, file=file, sha256=digest, size=len(payload), **values)  # type: ignore[arg-type]


@pytest.fixture
def own_bundle(quick_bundle: Bundle) -> Bundle:
    return quick_bundle


@pytest.fixture
def graph(own_bundle: Bundle) -> str:
    return own_bundle.entry(OPTIMIZED_ONNX).sha256


@pytest.fixture
def store(own_bundle: Bundle) -> EngineStore:
    return EngineStore(own_bundle, runtimes=RUNTIMES, gpu=ORIN)


def test_a_plan_is_kept_under_its_own_suffix_and_loaded_by_who_built_it(store: EngineStore, graph: str) -> None:
    record = plan_record(graph)
    path = store.save(record, PLAN)
    assert path.suffix == ".plan"
    assert store.list() == (record,)
    assert store.load(record) == PLAN
    assert store.best("int8") == record, "INT8 covers INT8 with half precision"
    assert EngineRecord.from_json(record.to_json(), source="x") == record
    store.remove(record)
    assert [path.name for path in store.folder.iterdir() if path.suffix != ".lock"] in ([], [".lock"])


def test_a_plan_that_cannot_be_noted_as_built_here_is_not_kept(store: EngineStore, graph: str) -> None:
    store.receipts.folder.parent.mkdir(parents=True, exist_ok=True)
    store.receipts.folder.write_text("a file in the way")
    with pytest.raises(BuildError, match="could not be noted"):
        store.save(plan_record(graph), PLAN)
    assert store.list() == ()


@pytest.mark.parametrize(
    "change",
    [
        {"runtime_version": "10.13.3"},
        {"gpu": dataclasses.replace(ORIN, name="Orin Nano")},
        {"gpu": dataclasses.replace(ORIN, compute_capability="8.6")},
        {"gpu": dataclasses.replace(ORIN, driver="13.0")},
        {"gpu": None},
        {"precision": "fp16"},
        {"options": {"threads": None, "builderOptimizationLevel": 5}},
    ],
)
def test_the_key_of_a_plan_covers_library_gpu_driver_and_options(graph: str, change: dict[str, object]) -> None:
    assert plan_record(graph, **change).key != plan_record(graph).key
    assert plan_record("0" * 64).key != plan_record(graph).key
    assert plan_record(graph, latency_ms=1.0, created=0.0).key == plan_record(graph).key


NOT_PORTABLE: dict[str, object] = {}
AMPERE = {"hardwareCompatibilityLevel": "ampere+"}
SAME = {"hardwareCompatibilityLevel": "sameComputeCapability"}
VERSIONS = {"versionCompatible": True}


@pytest.mark.parametrize(
    ("options", "version", "gpu", "reason"),
    [
        (NOT_PORTABLE, "10.3.0", ORIN, None),
        (NOT_PORTABLE, "10.3.1", ORIN, "built with tensorrt 10.3.0; this device has 10.3.1"),
        (NOT_PORTABLE, "10.13.3", ORIN, "this device has 10.13.3"),
        (NOT_PORTABLE, "11.0.0", ORIN, "this device has 11.0.0"),
        (NOT_PORTABLE, "10.3.0", CARD, "built on Orin .*this device has NVIDIA GeForce RTX 3080"),
        (NOT_PORTABLE, "10.3.0", dataclasses.replace(ORIN, name="Orin NX"), "this device has Orin NX"),
        (NOT_PORTABLE, "10.3.0", dataclasses.replace(ORIN, driver="13.0"), "CUDA 12.6; this device has one for CUDA 13.0"),
        (NOT_PORTABLE, "10.3.0", None, "no GPU is here"),
        (NOT_PORTABLE, None, None, None),  # the runtime is missing: passed over, not stale
        (VERSIONS, "10.13.3", ORIN, None),
        (VERSIONS, "11.0.0", ORIN, "this device has 11.0.0"),
        (VERSIONS, "10.2.0", ORIN, "this device has 10.2.0"),
        (AMPERE, "10.3.0", dataclasses.replace(CARD, driver="12.6"), None),
        (AMPERE, "10.3.0", dataclasses.replace(CARD, driver="12.6", compute_capability="7.5"), "compute capability 7.5"),
        (AMPERE, "10.3.0", dataclasses.replace(CARD, driver="12.6", compute_capability="8.0"), None),
        (AMPERE, "10.3.0", dataclasses.replace(CARD, driver="12.6", compute_capability="12.0"), None),
        (AMPERE, "10.3.0", dataclasses.replace(ORIN, name="Orin NX"), "this device has Orin NX"),
        (AMPERE, "10.3.0", ORIN, None),
        (VERSIONS, "10.3.0", ORIN, None),
        (VERSIONS, "9.9.0", ORIN, "this device has 9.9.0"),
        ({"versionCompatible": 1}, "10.13.3", ORIN, "this device has 10.13.3"),
        (NOT_PORTABLE, "10.3.0", dataclasses.replace(ORIN, compute_capability="8.6"), "this device has Orin"),
        (NOT_PORTABLE, "10.3.0", dataclasses.replace(ORIN, driver="12.5"), "one for CUDA 12.5"),
        (SAME, "10.3.0", dataclasses.replace(ORIN, name="Orin NX"), None),
        (SAME, "10.3.0", CARD, "RTX 3080"),
        (VERSIONS, "10.3.0+jetpack", ORIN, None),
        (NOT_PORTABLE, "10.3.0", dataclasses.replace(ORIN, name="AGX"), "this device has AGX"),
        (NOT_PORTABLE, "10.3.0", dataclasses.replace(ORIN, compute_capability="8.9"), "this device has Orin"),
    ],
)  # fmt: skip
def test_which_plans_fit_which_machine(
    options: dict[str, object], version: str | None, gpu: Gpu | None, reason: str | None
) -> None:
    record = plan_record(GRAPH, options=options)
    found = why_stale(record, graph_sha256=GRAPH, device=fingerprint(), version=version, gpu=gpu)
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(reason, found), found


@pytest.mark.parametrize(
    ("version", "model", "reason"),
    [
        ("1.0", None, None),
        (None, None, None),
        ("1.1", None, "built with onnxruntime 1.0; this device has 1.1"),
        ("0.9", None, "this device has 0.9"),
        ("1.0", "A CPU", "built on .*; this device is A CPU"),
        (None, "z CPU", "built on .*; this device is z CPU"),
    ],
)
def test_which_engines_of_processors_fit_which_machine(version: str | None, model: str | None, reason: str | None) -> None:
    record = plan_record(GRAPH, gpu=None, backend="onnxruntime", runtime_version="1.0", options={})
    device = fingerprint() if model is None else dataclasses.replace(fingerprint(), cpu_model=model)
    found = why_stale(record, graph_sha256=GRAPH, device=device, version=version, gpu=ORIN)
    assert found is None if reason is None else re.search(reason, str(found))


def test_another_processor_does_not_make_a_plan_stale_but_another_architecture_does() -> None:
    record = plan_record(GRAPH)
    here = fingerprint()
    for device, stale in (
        (dataclasses.replace(here, cpu_model="Another CPU", isa=()), False),
        (dataclasses.replace(here, architecture="riscv64"), True),
        (dataclasses.replace(here, architecture="a"), True),
        (dataclasses.replace(here, system="Windows"), True),
        (dataclasses.replace(here, system="A"), True),
    ):
        found = why_stale(record, graph_sha256=GRAPH, device=device, version="10.3.0", gpu=ORIN)
        assert (found is not None) == stale
        if found is not None:
            assert found.endswith(f"this is {device.system} {device.architecture}")


@pytest.mark.parametrize("graph", [None, "0" * 64, "f" * 64])
def test_a_plan_of_another_graph_or_of_none_is_stale(graph: str | None) -> None:
    found = why_stale(plan_record(GRAPH), graph_sha256=graph, device=fingerprint(), version=None, gpu=None)
    assert found == "it was built from another version of this bundle's graph"


def test_a_stale_plan_is_an_error_that_names_the_command(own_bundle: Bundle, store: EngineStore, graph: str) -> None:
    record = plan_record(graph)
    store.save(record, PLAN)
    elsewhere = EngineStore(own_bundle, runtimes=RUNTIMES, gpu=CARD)
    for attempt in (lambda: elsewhere.load(record), elsewhere.best):
        with pytest.raises(EngineMismatch, match=r"built on Orin .*edge-mtl build-engine .* --int8"):
            attempt()


def test_a_plan_that_somebody_else_built_runs_only_where_its_user_says_so(
    own_bundle: Bundle, store: EngineStore, graph: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = plan_record(graph)
    store.save(record, PLAN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of-another-user"))
    other = EngineStore(Bundle.open(own_bundle.path), runtimes=RUNTIMES, gpu=ORIN)
    with pytest.raises(
        EngineMismatch, match=r"is a plan, which is a program, and was not built by this user.*trust_engine=True"
    ):
        other.load(record)
    assert other.load(record, trust_engine=True) == PLAN


def test_trust_does_not_cover_altered_bytes(store: EngineStore, graph: str) -> None:
    record = plan_record(graph)
    path = store.save(record, PLAN)
    path.write_bytes(PLAN[:-1] + b"!")
    with pytest.raises(BundleError, match="altered"):
        store.load(record, trust_engine=True)


@pytest.mark.parametrize(("key", "value"), [("runtime_version", "10.13.3"), ("precision", "fp16"), ("gpu", None)])
def test_an_altered_sidecar_of_a_plan_is_refused(store: EngineStore, graph: str, key: str, value: object) -> None:
    store.save(plan_record(graph), PLAN)
    (sidecar,) = store.folder.glob("*.json")
    content = json.loads(sidecar.read_bytes())
    sidecar.write_text(json.dumps(content | {key: value}))
    assert store.list() == ()
    (problem,) = store.problems()
    assert "it was altered" in problem


def test_receipts_in_a_folder_that_others_may_write_are_worth_nothing(store: EngineStore, graph: str) -> None:
    record = plan_record(graph)
    store.save(record, PLAN)
    assert store.receipts.has(record.sha256)
    store.receipts.folder.chmod(0o777)
    assert not store.receipts.has(record.sha256)
    assert not store.receipts.has("../" + record.sha256)


def test_plans_that_no_sidecar_names_are_swept(store: EngineStore, graph: str) -> None:
    record = plan_record(graph)
    store.save(record, PLAN)
    (store.folder / f"{'1' * 32}.aaaaaaaaaaaa.plan").write_bytes(b"half")
    with store.building():
        pass
    assert [path.name for path in store.folder.glob("*.plan")] == [record.file]


def _build(path: Path, graph: str, number: int, queue: multiprocessing.Queue) -> None:
    """One of several builders: the first writes, the others find what it wrote."""
    store = EngineStore(Bundle.open(path), runtimes=RUNTIMES, gpu=ORIN)
    with store.building():
        if not store.list():
            time.sleep(0.05)
            store.save(plan_record(graph, created=float(number)), PLAN)
            queue.put("built")
        else:
            queue.put("found")
    assert store.load(store.list()[0]) == PLAN


def test_of_builders_at_once_one_builds_and_the_others_use_it(own_bundle: Bundle, graph: str) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_build, args=(own_bundle.path, graph, number, queue)) for number in range(6)]
    for worker in workers:
        worker.start()
    said = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert sorted(said) == ["built", *["found"] * 5]


WRITER = """
import sys
from pathlib import Path
from edge_mtl.bundle import Bundle
from tests.unit.edge_mtl.engine_store.test_trusted_plans import ORIN, PLAN, RUNTIMES, EngineStore, plan_record
path, graph = Path(sys.argv[1]), sys.argv[2]
store = EngineStore(Bundle.open(path), runtimes=RUNTIMES, gpu=ORIN)
number = 0
print("ready", flush=True)
while True:
    number += 1
    payload = PLAN + str(number).encode() * 4096
    with store.building():
        store.save(plan_record(graph, payload), payload)
"""


def test_a_builder_killed_at_any_moment_leaves_a_whole_plan_or_none(own_bundle: Bundle, store: EngineStore, graph: str) -> None:
    root = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    writer = None
    for pause_s in (0.0, 0.017, 0.05):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(own_bundle.path), graph], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == "ready"
        time.sleep(pause_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
        with store.building():  # the lock is free: its holder is dead
            for record in store.list():
                assert store.load(record)[:4] == b"ftrt"
        assert store.problems() == ()
        left = {path.suffix for path in store.folder.iterdir() if path.name != ".lock"}
        assert left <= {".plan", ".json"}
        assert len(list(store.folder.glob("*.plan"))) == len(store.list())


def test_engines_lists_what_is_stale_and_why_and_removes_it(own_bundle: Bundle, store: EngineStore, graph: str) -> None:
    stale = plan_record(graph, device=dataclasses.replace(fingerprint(), architecture="aarch64"))
    store.save(stale, PLAN)
    listed = edge_mtl("engines", own_bundle.path, "--json")
    (row,) = listed.records[0]["engines"]
    assert "it was built on Linux aarch64" in row["problem"]
    assert row["device"].startswith("Orin (compute capability 8.7")
    shown = edge_mtl("engines", own_bundle.path)
    assert stale.key[:8] in shown.out
    assert "aarch64" in shown.out
    removed = edge_mtl("engines", own_bundle.path, "--remove-stale", "--json")
    assert removed.records[0]["removed"] == [stale.key]
    assert list(store.folder.glob("*.plan")) == []


def test_whatever_cannot_run_here_is_removed_with_what_is_stale(own_bundle: Bundle, store: EngineStore, graph: str) -> None:
    """A plan fits this machine, as far as its sidecar tells, where its runtime is missing."""
    record = plan_record(graph)
    store.save(record, PLAN)
    (row,) = edge_mtl("engines", own_bundle.path, "--json").records[0]["engines"]
    assert row["problem"] == "tensorrt cannot be used here: see edge-mtl doctor"
    assert edge_mtl("engines", own_bundle.path, "--remove-stale", "--json").records[0]["removed"] == [record.key]


def test_an_engine_is_removed_by_the_start_of_its_key(own_bundle: Bundle, store: EngineStore, graph: str) -> None:
    record = plan_record(graph)
    store.save(record, PLAN)
    assert_failed(edge_mtl("engines", own_bundle.path, "--remove", "zz"), 4, "--remove", record.key[:8])
    done = edge_mtl("engines", own_bundle.path, "--remove", record.key[:8])
    assert done.code == 0
    assert store.list() == ()
    assert "No engine yet" in edge_mtl("engines", own_bundle.path).out


def test_receipts_that_cannot_be_noted_are_an_error_and_those_that_cannot_be_forgotten_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    receipts = TrustedPlans(tmp_path / "file" / "built")
    with pytest.raises(BuildError, match=r"could not be noted in .*file/built \(Not a directory\)\. Set XDG_CACHE_HOME"):
        receipts.give(GRAPH)
    assert not receipts.has(GRAPH)
    receipts.take_back(GRAPH)


def test_a_receipt_is_given_looked_for_and_taken_back(tmp_path: Path) -> None:
    receipts = TrustedPlans(tmp_path / "not" / "there" / "yet")
    receipts.take_back(GRAPH)
    assert not receipts.has(GRAPH)
    for _ in range(2):
        receipts.give(GRAPH)
        assert receipts.has(GRAPH)
    assert not receipts.has("b" * 64)
    receipts.take_back(GRAPH)
    assert not receipts.has(GRAPH)
    receipts.give(GRAPH)
    (receipts.folder / "subfolder").mkdir()
    assert not receipts.has("subfolder"), "no digest"
    (receipts.folder / ("c" * 64)).mkdir()
    assert not receipts.has("c" * 64), "no file"


def test_a_folder_of_receipts_that_others_may_write_gets_no_more(tmp_path: Path) -> None:
    receipts = TrustedPlans(tmp_path / "built")
    receipts.give(GRAPH)
    receipts.folder.chmod(0o777)
    with pytest.raises(BundleError, match="can be written by other users"):
        receipts.give("b" * 64)
    assert [path.name for path in receipts.folder.iterdir()] == [GRAPH]


def test_of_very_many_receipts_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trusted_plans._MOST == 4096
    monkeypatch.setattr(trusted_plans, "_MOST", 3)
    receipts = TrustedPlans(tmp_path / "built")
    for number, letter in enumerate("fbdae"):
        receipts.give(letter * 64)
        os.utime(receipts.folder / (letter * 64), (number, number))
    receipts.give("c" * 64)
    assert sorted(path.name[0] for path in receipts.folder.iterdir()) == ["a", "c", "e"]


def test_receipts_that_another_process_sweeps_at_the_same_time_keep_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trusted_plans, "_MOST", 1)
    receipts, unlink = TrustedPlans(tmp_path / "built"), Path.unlink
    receipts.folder.mkdir(mode=0o700)
    for number, letter in enumerate("abc"):
        (receipts.folder / (letter * 64)).touch()
        os.utime(receipts.folder / (letter * 64), (number, number))

    def after_the_other(path: Path, *, missing_ok: bool = False) -> None:
        os.unlink(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", after_the_other)
    receipts.give("d" * 64)
    assert [path.name[0] for path in receipts.folder.iterdir()] == ["d"]


def test_receipts_are_of_one_folder(tmp_path: Path) -> None:
    receipts = TrustedPlans(tmp_path)
    with pytest.raises(AttributeError):
        receipts.folder = tmp_path / "another"  # type: ignore[misc]
    assert not hasattr(receipts, "__dict__")


def test_the_cache_of_receipts_is_private(store: EngineStore, graph: str) -> None:
    store.save(plan_record(graph), PLAN)
    assert (cache_folder() / "built").stat().st_mode & 0o777 == 0o700


def test_what_is_here_is_given_by_name() -> None:
    parameters = inspect.signature(why_stale).parameters
    named = [name for name in parameters if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY]
    assert named == ["graph_sha256", "device", "version", "gpu"]
