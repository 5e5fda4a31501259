"""Targets of the gate fuzz-graphs: ONNX graphs, weights, what stands for both in a bundle, and checkpoints."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.reliability.fuzz.archives import mutate_archive
from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.protobufs import mutate_onnx
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.texts import mutate_json

__all__ = ["TARGETS"]

_GATE = "fuzz-graphs"
_SIZE = {"height": 32, "width": 32}

Read = Callable[[bytes], None]


def _graphs(scratch: Path) -> Sequence[bytes]:
    """Small graphs of every style: networks as bundles have them, transformers, INT8 with Q and DQ nodes."""
    from edge_mtl.quantization.quantize import quantize
    from tests.bundles import graph_model, host_model, make_image
    from tests.transformers import transformer_block

    network = host_model(**_SIZE)
    int8 = quantize(network, [make_image(seed, **_SIZE) for seed in range(2)], threads=1)
    return [network, graph_model(**_SIZE), host_model(tasks=("depth",), **_SIZE), transformer_block(), *_models(int8)]


def _models(quantized: Any) -> list[bytes]:
    found = quantized if isinstance(quantized, dict) else {"": quantized}
    return [bytes(each) for each in found.values() if isinstance(each, (bytes, bytearray))]


def _open_graph_check(scratch: Path) -> Read:
    """What is read of a graph before any library sees it."""
    from edge_mtl.backends.int8_saturation import saturating_weights
    from edge_mtl.onnx_graph.allowlist import check_graph
    from edge_mtl.onnx_graph.cut import cut_to, output_names

    def read(mutant: bytes) -> None:
        check_graph(mutant)
        saturating_weights(mutant)
        names = output_names(mutant)
        if names:
            check_graph(cut_to(mutant, names[:1]))

    return read


def _open_graph_facts(scratch: Path) -> Read:
    """The same with the ONNX library."""
    from edge_mtl.onnx_graph.batches import repeat_frames
    from edge_mtl.onnx_graph.model import facts, parse
    from edge_mtl.quantization.learned import forget, read_learned

    def read(mutant: bytes) -> None:
        facts(mutant).describe()
        read_learned(parse(mutant, name="the graph"))
        forget(mutant)
        repeat_frames(mutant, 2)

    return read


def _opened_by(runtime: str) -> Callable[[Path], Read]:
    def open_target(scratch: Path) -> Read:
        """A runtime loads the graph, and runs it on zeros where its inputs are of the size of images."""
        import numpy as np

        from edge_mtl.backends import open_backend

        def read(mutant: bytes) -> None:
            backend = open_backend(runtime, mutant, threads=1)
            try:
                specs = backend.inputs.values()
                if sum(int(np.prod(spec.shape, dtype=object)) for spec in specs) < 1 << 22:
                    backend.run({name: np.zeros(spec.shape, spec.dtype) for name, spec in backend.inputs.items()})
            finally:
                backend.close()

        return read

    return open_target


def _open_quantize(scratch: Path) -> Read:
    from edge_mtl.quantization.quantize import quantize
    from tests.bundles import make_image

    frames = [make_image(seed, **_SIZE) for seed in range(2)]

    def read(mutant: bytes) -> None:
        quantize(mutant, frames, threads=1)

    return read


def _open_weights(scratch: Path) -> Read:
    from edge_mtl.weights.byte_planes import pack, unpack
    from edge_mtl.weights.safetensors import read_tensors

    def read(mutant: bytes) -> None:
        tensors = read_tensors(mutant, name="weights.safetensors")
        for values in tensors.values():
            values.sum()
        if bytes(unpack(pack(mutant), name="packed")) != mutant:
            raise AssertionError("packing lost something")

    return read


def _weights(scratch: Path) -> Sequence[bytes]:
    import numpy as np

    from tests.bundles import safetensors

    some = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "steps": np.arange(3)}
    return [safetensors(some), safetensors(some, {"edge_mtl": json.dumps({"config": {}, "step": 1})})]


def mutate_weights(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The header of a safetensors file, as JSON; its length; or the bytes."""
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.15 or not 0 < size <= len(data) - 8:
        return mutate_bytes(data, other, rng)
    end = int.from_bytes(other[:8], "little")
    header = mutate_json(data[8 : 8 + size].rstrip(), other[8 : 8 + end].rstrip(), rng)
    length = len(header) if rng.random() < 0.9 else rng.choice((0, 1, len(data), 1 << 32, (1 << 64) - 1, len(header) + 1))
    rest = data[8 + size :] if rng.random() < 0.8 else mutate_bytes(data[8 + size :], other, rng)
    return length.to_bytes(8, "little") + header + rest


def _open_packed(scratch: Path) -> Read:
    from edge_mtl.weights.byte_planes import unpack
    from edge_mtl.weights.safetensors import read_tensors

    def read(mutant: bytes) -> None:
        read_tensors(unpack(mutant, name="packed"), name="packed")

    return read


def _packed(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.weights.byte_planes import pack

    return [pack(each) for each in _weights(scratch)]


def _open_assembly(scratch: Path) -> Read:
    """The parts of a graph beside the weights of its bundle; what is assembled is then checked as any graph."""
    from edge_mtl.bundle import OPTIMIZED_ONNX
    from edge_mtl.onnx_graph.allowlist import check_graph
    from edge_mtl.weights.assembly import assemble
    from edge_mtl.weights.safetensors import read_tensors

    bundle = _tiny(scratch)
    tensors = read_tensors(bundle.read("weights.safetensors"), name="weights")

    def read(mutant: bytes) -> None:
        check_graph(assemble(mutant, tensors, name=OPTIMIZED_ONNX))

    return read


def _parts(scratch: Path) -> Sequence[bytes]:
    folder = _tiny(scratch).path
    return [path.read_bytes() for path in sorted(folder.glob("*.parts"))]


def mutate_parts(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The table of a file of parts, as JSON; or the bytes."""
    from edge_mtl.weights.assembly import _LENGTH

    size = _LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else 0
    if rng.random() < 0.2 or not 0 < size <= len(data) - _LENGTH.size:
        return mutate_bytes(data, other, rng)
    end = _LENGTH.size + size
    table = mutate_json(data[_LENGTH.size : end], data[_LENGTH.size : end], rng)
    return _LENGTH.pack(len(table)) + table + data[end:]


def _tiny(scratch: Path) -> Any:
    from tests.bundles import make_bundle

    return make_bundle(scratch / "bundle", calibration=0, evaluation=0, golden=1, **_SIZE)


def _open_bundle(scratch: Path) -> Read:
    """A bundle of which one file is a mutant, with the hashes that fit: its author is who made the mutant."""
    from edge_mtl.bundle import Bundle
    from edge_mtl.engine import Engine
    from edge_mtl.files import sha256_bytes

    path = _tiny(scratch).path
    manifest = json.loads((path / "manifest.json").read_bytes())
    whole = {name: (path / name).read_bytes() for name in manifest["files"]}
    names = sorted(name for name in whole if name.endswith((".parts", ".npz", ".png", ".packed")))

    def read(mutant: bytes) -> None:
        name = names[mutant[0] % len(names)] if mutant else names[0]
        content = json.loads(json.dumps(manifest))
        payload = mutant[1:]
        content["files"][name] = {"sha256": sha256_bytes(payload), "size": len(payload)}
        for each, given in whole.items():
            (path / each).write_bytes(payload if each == name else given)
        (path / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
        bundle = Bundle.open(path)
        bundle.verify()
        Engine(bundle, backend="onnxruntime", threads=1, self_test="build").close()

    return read


def _bundle_files(scratch: Path) -> Sequence[bytes]:
    path = _tiny(scratch).path
    files = json.loads((path / "manifest.json").read_bytes())["files"]
    names = sorted(name for name in files if name.endswith((".parts", ".npz", ".png", ".packed")))
    return [bytes([number]) + (path / name).read_bytes() for number, name in enumerate(names)]


def mutate_file(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One of a bundle's files, by what it is; the first byte says which."""
    content = data[1:]
    if content[:2] == b"PK":
        return data[:1] + mutate_archive(content, other[1:], rng)
    if content[8:9] == b"{" or content[4:5] == b"{":
        return data[:1] + mutate_parts(content, other[1:], rng)
    return data[:1] + mutate_bytes(content, other[1:], rng)


def _open_checkpoint(scratch: Path) -> Read:
    from mtl.checkpoint import load_statistics, load_weights

    def read(mutant: bytes) -> None:
        path = scratch / "best.safetensors"
        path.write_bytes(mutant)
        load_statistics(path)
        load_weights(path)

    return read


def _checkpoints(scratch: Path) -> Sequence[bytes]:
    import torch
    from mtl.checkpoint import save_weights

    weights = {"a.weight": torch.arange(24.0).reshape(2, 3, 4), "half": torch.ones(3, dtype=torch.bfloat16)}
    save_weights(scratch / "a", weights, {"config": {}, "step": 1})
    save_weights(scratch / "b", weights, {"config": {}}, statistics={"rooms": {"mean": torch.zeros(3)}})
    return [(scratch / name).read_bytes() for name in "ab"]


def _open_state(scratch: Path) -> Read:
    from mtl.checkpoint import CheckpointError, load_state
    from mtl.importing import read_weights

    def read(mutant: bytes) -> None:
        path = scratch / "last.pt"
        path.write_bytes(mutant)
        try:
            load_state(path)
        except CheckpointError:
            read_weights(path)

    return read


def _states(scratch: Path) -> Sequence[bytes]:
    import io
    import pickle

    import torch
    from mtl.checkpoint import save_state

    state = {
        "model": {"a": torch.arange(12.0).reshape(3, 4)},
        "step": 3,
        "names": ["x", "y"],
        "generator": torch.get_rng_state(),
    }
    save_state(scratch / "last.pt", state)
    old, hostile = io.BytesIO(), io.BytesIO()
    torch.save(state["model"], old, _use_new_zipfile_serialization=False)
    torch.save({"model": _Hostile()}, hostile)
    return [(scratch / "last.pt").read_bytes(), old.getvalue(), hostile.getvalue(), pickle.dumps(_Hostile())]


class _Hostile:
    """A pickle that would end the process."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.abort, ()


def _open_teacher(scratch: Path) -> Read:
    from mtl.distill.graph_notes import read_notes

    def read(mutant: bytes) -> None:
        read_notes(mutant, name="teacher.onnx")

    return read


def _teachers(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.tasks import NYU_TASKS
    from tests.teacher_graphs import noted

    return [noted(NYU_TASKS["segmentation"])]  # type: ignore[arg-type]


def mutate_notes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The notes of a teacher's graph, as JSON; or the graph."""
    import onnx

    if rng.random() < 0.4:
        return mutate_onnx(data, other, rng)
    try:
        proto = onnx.load_model_from_string(data)
    except Exception:
        return mutate_onnx(data, other, rng)
    for entry in proto.metadata_props:
        value: str | bytes = entry.value  # bytes where a mutant is no UTF-8
        text = value.encode() if isinstance(value, str) else value
        text = mutate_json(text, text, rng)
        entry.value = text.decode("utf-8", "replace")
    return bytes(proto.SerializeToString())


TARGETS = (
    Target("graph-check", _GATE, _open_graph_check, _graphs, mutate_onnx),
    Target("graph-facts", _GATE, _open_graph_facts, _graphs, mutate_onnx, native=True),
    Target("graph-onnxruntime", _GATE, _opened_by("onnxruntime"), _graphs, mutate_onnx, native=True),
    Target("graph-openvino", _GATE, _opened_by("openvino"), _graphs, mutate_onnx, native=True),
    Target("graph-quantize", _GATE, _open_quantize, _graphs, mutate_onnx, native=True),
    Target("weights", _GATE, _open_weights, _weights, mutate_weights),
    Target("packed-weights", _GATE, _open_packed, _packed),
    Target("assembly", _GATE, _open_assembly, _parts, mutate_parts),
    Target("bundle-files", _GATE, _open_bundle, _bundle_files, mutate_file, native=True),
    Target("checkpoint", _GATE, _open_checkpoint, _checkpoints, mutate_weights, native=True),
    Target("state", _GATE, _open_state, _states, mutate_archive, native=True),
    Target("teacher", _GATE, _open_teacher, _teachers, mutate_notes, native=True),
)
