"""Targets of the gate fuzz-texts: what the SDK reads from JSON and TOML, and the heads of plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.reliability.fuzz.archives import mutate_archive
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.texts import mutate_json, mutate_toml

__all__ = ["TARGETS"]

_GATE = "fuzz-texts"
_BUNDLES = ("indoor-lite0", "indoor-b0", "rooms-b0")
_GRAPH = "a" * 64

Read = Callable[[bytes], None]


def _open_manifest(scratch: Path) -> Read:
    from edge_mtl.bundle import MANIFEST, Bundle

    def read(mutant: bytes) -> None:
        (scratch / MANIFEST).write_bytes(mutant)
        bundle = Bundle.open(scratch)
        bundle.manifest.to_json()  # as a new revision writes it
        bundle.list("evaluation")
        bundle.verify()

    return read


def _manifests(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.bundle import MANIFEST, bundled

    return [(bundled(name) / MANIFEST).read_bytes() for name in _BUNDLES]


def _record(backend: str, **changes: Any) -> Any:
    """A sidecar of this machine."""
    from edge_mtl.device import fingerprint
    from edge_mtl.engine_store.sidecars import EngineRecord, engine_file, engine_key

    values: dict[str, Any] = {
        "precision": "int8",
        "backend": backend,
        "runtime_version": "1.0",
        "device": fingerprint(),
        "graph_sha256": _GRAPH,
        "options": {"threads": None, "recipe": "b" * 64},
        "latency_ms": 10.0,
        "ratio": 2.0,
        "self_test": {"passed": True, "differences": {"depth": 0.01}},
        "agreement": {"depth": {"rel": 0.001}},
        "accuracy": {"fp32": {"miou": 0.7}, "this": {"miou": 0.7}},
    } | changes
    named = ("backend", "runtime_version", "device", "precision", "graph_sha256", "options")
    key = engine_key(**{name: values[name] for name in named}, gpu=values.get("gpu"))
    file = engine_file(key, "c" * 64, backend)
    return EngineRecord(key=key, file=file, sha256="c" * 64, size=100, **values)


def _open_sidecars(scratch: Path) -> Read:
    from edge_mtl.bundle import ENGINES
    from edge_mtl.cuda.gpus import Gpu
    from edge_mtl.engine_store.engines import EngineStore
    from tests.bundles import make_bundle

    bundle = make_bundle(scratch / "bundle", calibration=0, evaluation=0, golden=0)
    folder = bundle.path / ENGINES
    folder.mkdir(mode=0o700)
    runtimes, gpu = {"onnxruntime": "1.0", "tensorrt": "10.3.0"}, Gpu("Orin", "8.7", "12.6", 8 << 30, True)

    def read(mutant: bytes) -> None:
        for path in folder.iterdir():
            path.unlink()
        (folder / f"{_key_in(mutant)}.json").write_bytes(mutant)
        store = EngineStore(bundle, runtimes=runtimes, gpu=gpu)
        _ = store.problems()
        for record in store.list():
            record.to_json()
            store.mismatch(record)
            store.rebuild_command(record)
        chosen = store.select().record
        if chosen is not None:
            (folder / chosen.file).write_bytes(b"no engine")
            store.load(chosen)

    return read


def _key_in(mutant: bytes) -> str:
    """The engine's key as a file name, so that a sidecar is not refused for its own."""
    try:
        key = json.loads(mutant)["key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        key = ""
    return key if isinstance(key, str) and key.isalnum() and len(key) < 64 else "0" * 32


def _sidecars(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.cuda.gpus import Gpu
    from tests.bundles import make_bundle

    graph = make_bundle(scratch / "bundle", calibration=0, evaluation=0, golden=0).entry("model.deploy.onnx").sha256
    orin = Gpu("Orin", "8.7", "12.6", 8 << 30, True)
    records = (
        _record("onnxruntime", graph_sha256=graph),
        _record("openvino", precision="int8+bf16", self_test={}),
        _record("tensorrt", precision="int8+fp16", runtime_version="10.3.0", gpu=orin, graph_sha256=graph),
    )
    return [record.to_json() for record in records]


def _open_compiled(scratch: Path) -> Read:
    from edge_mtl.backends import CompiledGraph
    from edge_mtl.engine_store.compiled import CompiledStore

    scratch.chmod(0o700)
    record = _record("onnxruntime")
    store = CompiledStore(scratch)

    def read(mutant: bytes) -> None:
        (scratch / f"{record.key}.json").write_bytes(mutant)
        store.load(record)
        store.keep(_record("openvino"), CompiledGraph(b"code", "somewhere"))

    return read


def _compiled(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.backends import CompiledGraph
    from edge_mtl.engine_store.compiled import CompiledStore

    scratch.chmod(0o700)
    CompiledStore(scratch).keep(_record("onnxruntime"), CompiledGraph(b"code" * 100, "onnxruntime 1.0"))
    return [path.read_bytes() for path in scratch.glob("*.json")]


def _open_plans(scratch: Path) -> Read:
    from types import ModuleType

    from edge_mtl.backends.tensorrt.api import Library, check_plan

    libraries = [Library(ModuleType(name), name, (10, 3, 0)) for name in ("tensorrt", "tensorrt_rtx")]

    def read(mutant: bytes) -> None:
        for library in libraries[: 1 + len(mutant) % 2]:
            check_plan(library, mutant, source="The engine", remedy="Build it again.")

    return read


def _plans(scratch: Path) -> Sequence[bytes]:
    return [b"ftrt" + bytes(range(256)), b"vtrt" + bytes(range(256)), b"ftrt", b""]


def _open_recipe(scratch: Path) -> Read:
    from edge_mtl.quantization.recipes import load_recipe

    def read(mutant: bytes) -> None:
        path = scratch / "recipe.toml"
        path.write_bytes(mutant)
        _ = load_recipe(path).digest

    return read


def _recipes(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.quantization.recipes import CPU_INT8

    layers = b'\n[[layers]]\nmatch = "*head*"\nprecision = "fp32"\n\n[[layers]]\nmatch = "a"\npercentile = 99.0\n'
    own = [path.read_bytes() for path in sorted(CPU_INT8.parent.glob("*.toml"))]
    return [*own, *(one + layers for one in own)]


def _open_scale(scratch: Path) -> Read:
    from edge_mtl.depth_scale import ScaleRecord

    def read(mutant: bytes) -> None:
        path = scratch / "scale.json"
        path.write_bytes(mutant)
        record = ScaleRecord.read(path)
        record.to_json()
        record.check_camera(None, (480, 640))

    return read


def _scales(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.depth_scale import ScaleCamera, ScaleRecord
    from edge_mtl.image.frames import Intrinsics

    camera = ScaleCamera(Intrinsics(500.0, 500.0, 319.5, 239.5), (480, 640), "front")
    whole = ScaleRecord(1.28, "0" * 64, "indoor-b0", 1, camera, (1.2, 1.36), {"frames": 9, "by": "floor"})
    return [whole.to_json(), ScaleRecord(1.5, "0" * 64).to_json()]


def _open_benchmark(scratch: Path) -> Read:
    from edge_mtl.bench.compare import compare, judge, read
    from tests.benchmark_reports import report

    before, after = scratch / "before.json", scratch / "after.json"
    before.write_text(json.dumps(report()), encoding="utf-8")
    known = read(before)

    def read_one(mutant: bytes) -> None:
        after.write_bytes(mutant)
        found = read(after)
        for pair in ((known, found), (found, known)):
            comparison = compare(*pair)
            comparison.to_dict()
        judge(comparison)

    return read_one


def _benchmarks(scratch: Path) -> Sequence[bytes]:
    from tests.benchmark_reports import report

    return [json.dumps(report(full=full, rounds=12)).encode() for full in (False, True)]


def _open_sensitivity(scratch: Path) -> Read:
    from edge_mtl.evaluation.sensitivity.report import load_sensitivity

    def read(mutant: bytes) -> None:
        path = scratch / "sensitivity.json"
        path.write_bytes(mutant)
        found = load_sensitivity(path, "k" * 8)
        if found is not None:
            found.ranked()

    return read


def _sensitivities(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.evaluation.sensitivity.report import BlockSensitivity, Sensitivity, save_sensitivity

    rows = tuple(
        BlockSensitivity(f"block.{number}", 3, {"depth": 20.0 + number}, {"rel": 0.01}, {"rel": 0.99}, gain=0.1)
        for number in range(3)
    )
    found = Sensitivity("k" * 8, "tiny", "onnxruntime", "block", "onnxruntime", 9, {"rel": 0.1}, 12.0, rows)
    save_sensitivity(scratch / "sensitivity.json", found)
    return [(scratch / "sensitivity.json").read_bytes()]


def _open_cameras(scratch: Path) -> Read:
    from edge_mtl.evaluation.labelled_frames import labelled_folder
    from tests.bundles import make_bundle

    bundle = make_bundle(scratch / "bundle", calibration=0, evaluation=2, golden=0)
    folder = bundle.path / "evaluation"

    def read(mutant: bytes) -> None:
        (folder / "intrinsics.json").write_bytes(mutant)
        frames = labelled_folder(folder, bundle.manifest.input, bundle.manifest.tasks)
        for _ in frames:
            pass

    return read


def _cameras(scratch: Path) -> Sequence[bytes]:
    camera = [400.0, 400.0, 48.0, 32.0]
    return [json.dumps({"000": camera, "001": camera}).encode(), json.dumps({"000.png": camera}).encode(), b"{}"]


def _open_recorded(scratch: Path) -> Read:
    from edge_mtl.quantization.recorded import read_recorded, write_recorded

    def read(mutant: bytes) -> None:
        write_recorded(read_recorded(mutant, source="statistics.npz"))

    return read


def _recorded(scratch: Path) -> Sequence[bytes]:
    import numpy as np

    from edge_mtl.bundle import bundled
    from edge_mtl.quantization.recorded import Recorded, write_recorded

    prints = np.arange(128, dtype=np.uint8).reshape(2, 64)
    own = write_recorded(Recorded("d" * 64, ("e" * 64, "f" * 64), prints, ()))
    found = (bundled(name).rglob("*.npz") for name in _BUNDLES)
    return [own, *(path.read_bytes() for paths in found for path in paths if path.stat().st_size < 1 << 18)]


TARGETS = (
    Target("manifest", _GATE, _open_manifest, _manifests, mutate_json),
    Target("sidecar", _GATE, _open_sidecars, _sidecars, mutate_json),
    Target("compiled-code", _GATE, _open_compiled, _compiled, mutate_json),
    Target("plan-head", _GATE, _open_plans, _plans),
    Target("recipe", _GATE, _open_recipe, _recipes, mutate_toml),
    Target("depth-scale", _GATE, _open_scale, _scales, mutate_json),
    Target("benchmark", _GATE, _open_benchmark, _benchmarks, mutate_json),
    Target("sensitivity", _GATE, _open_sensitivity, _sensitivities, mutate_json),
    Target("intrinsics", _GATE, _open_cameras, _cameras, mutate_json),
    Target("calibration-statistics", _GATE, _open_recorded, _recorded, mutate_archive),
)
