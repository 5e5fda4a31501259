"""A bundle as a model repository of NVIDIA's Triton Inference Server: config.pbtxt and a graph or a plan of it.

Knows Triton's layout and text format; knows nothing about engines of this package. The graph is the plain one: uint8 frames
of the network's size in, full-size maps out, so a client needs neither pre- nor post-processing of ours but the resize. Of
tasks that are no maps it gives what the network says: logits of a frame's class, and of boxes scores and distances by stride,
which `Kind.finish` turns into results. The configuration says of each task what the manifest does, and which outputs it has.

Source: Triton's model repository and model configuration documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.builder.tensorrt.batch import open_batch
from edge_mtl.builder.tensorrt.builder import build_plan
from edge_mtl.builder.tensorrt.half import to_half
from edge_mtl.builder.tensorrt.images import with_casts_at_the_ends
from edge_mtl.builder.tensorrt.options import PlanOptions, PlanPrecision
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.errors import BuildError
from edge_mtl.files import atomic_directory
from edge_mtl.onnx_graph.model import import_onnx, parse
from edge_mtl.remedies import told
from edge_mtl.tasks import describe_tasks, graph_outputs

__all__ = ["TritonModel", "write_triton"]

Runtime = Literal["onnxruntime", "tensorrt"]

_QUEUE_DELAY_US = 500
_TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 3: "TYPE_INT8", 6: "TYPE_INT32", 7: "TYPE_INT64", 9: "TYPE_BOOL", 10: "TYPE_FP16"}
"""Triton's names by ONNX's numbers of element types."""

_PLACES: Mapping[str, tuple[str, str]] = {"onnxruntime": ("onnxruntime", "model.onnx"), "tensorrt": ("tensorrt", "model.plan")}


@dataclass(frozen=True, slots=True)
class TritonModel:
    """What was written.

    Attributes:
        path: folder of the model, within the repository.
        files: in it, by relative name, in bytes.
        remark: a sentence about what Triton needs to run it.
    """

    path: Path
    files: Mapping[str, int]
    remark: str


def write_triton(
    bundle: Bundle,
    repository: Path,
    *,
    runtime: Runtime = "onnxruntime",
    precision: PlanPrecision = "fp32",
    max_batch: int = 1,
    library: Library | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TritonModel:
    """Write REPOSITORY/NAME/config.pbtxt and REPOSITORY/NAME/1/model.onnx or model.plan.

    Args:
        precision: "fp32" or "fp16".
        max_batch: Triton puts up to that many requests together; 1 is one frame a request.
        library: that builds the plan; for runtime "tensorrt".
        progress: of the plan's build, units done and in all.
    Raises:
        BuildError: the model is there already, cannot be made, or cannot be written.
        BackendUnavailable: the package onnx or TensorRT is missing.
        BundleError: the bundle is damaged.
    """
    if precision not in ("fp32", "fp16"):
        raise BuildError(f"The reference ONNX is exported in fp32 or fp16; {precision} was asked for.")
    if max_batch < 1:
        raise BuildError(f"The largest batch should be 1 or more; found {max_batch}.")
    if runtime == "tensorrt" and library is None:
        raise BuildError("A plan for Triton needs TensorRT on this machine; none was given. Export for onnxruntime instead.")
    target = repository / bundle.name
    if target.exists():
        raise BuildError(f"{target} exists already. Remove it, or export into another folder.")
    model = bundle.read(REFERENCE_ONNX)
    ends = _ends(model)
    graph = _graph(model, runtime, precision, max_batch)
    content = graph
    if runtime == "tensorrt" and library is not None:
        content = build_plan(library, graph, _options(ends, precision, max_batch), progress=progress).plan
    backend, file = _PLACES[runtime]
    config = _config(bundle, backend, ends, max_batch)
    files = {"config.pbtxt": config.encode(), f"1/{file}": content}
    try:
        with atomic_directory(target) as folder:
            for name, payload in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(payload)
    except OSError as exc:
        raise BuildError(f"{target} cannot be written {told(exc)}") from exc
    remark = "Start it with: tritonserver --model-repository " + str(repository)
    if library is not None and runtime == "tensorrt":
        remark = f"The plan runs where it was built, with {library.describe()}: Triton must have that version. {remark}"
    return TritonModel(target, {name: len(payload) for name, payload in files.items()}, remark)


@dataclass(frozen=True, slots=True)
class _End:
    """An input or output: sides without the batch."""

    name: str
    kind: str
    sides: tuple[int, ...]


def _ends(model: bytes) -> tuple[list[_End], list[_End]]:
    graph = parse(model, name=REFERENCE_ONNX).graph
    return [_end(value) for value in graph.input], [_end(value) for value in graph.output]


def _end(value: Any) -> _End:
    kind = value.type.tensor_type
    sides = tuple(side.dim_value for side in kind.shape.dim)
    if kind.elem_type not in _TYPES or not sides or sides[0] != 1 or not all(sides):
        name = import_onnx().TensorProto.DataType.Name(kind.elem_type)
        raise BuildError(f"{REFERENCE_ONNX}: {value.name} of type {name} and shape {sides} cannot be described for Triton.")
    return _End(value.name, _TYPES[kind.elem_type], sides[1:])


def _graph(model: bytes, runtime: Runtime, precision: str, max_batch: int) -> bytes:
    graph = with_casts_at_the_ends(model, name=REFERENCE_ONNX) if runtime == "tensorrt" else model
    if precision == "fp16":
        graph = to_half(graph, name=REFERENCE_ONNX)
    return open_batch(graph, name=REFERENCE_ONNX) if max_batch > 1 else graph


def _options(ends: tuple[list[_End], list[_End]], precision: PlanPrecision, max_batch: int) -> PlanOptions:
    if max_batch == 1:
        return PlanOptions(precision=precision)
    low, best, high = ({end.name: (count, *end.sides) for end in ends[0]} for count in (1, max(max_batch // 2, 1), max_batch))
    return PlanOptions(precision=precision, min_shapes=low, opt_shapes=best, max_shapes=high)


def _config(bundle: Bundle, backend: str, ends: tuple[list[_End], list[_End]], max_batch: int) -> str:
    """Without a largest batch Triton takes shapes as they are, with their first side."""
    batched = max_batch > 1
    lines = [f'name: "{_quoted(bundle.name)}"', f'backend: "{backend}"', f"max_batch_size: {max_batch if batched else 0}"]
    for word, listed in zip(("input", "output"), ends, strict=True):
        for end in listed:
            sides = ", ".join(str(side) for side in (end.sides if batched else (1, *end.sides)))
            lines.append(f'{word} [{{ name: "{_quoted(end.name)}" data_type: {end.kind} dims: [ {sides} ] }}]')
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_DELAY_US} }}")
    if backend == "tensorrt":
        lines.append("instance_group [{ count: 1 kind: KIND_GPU }]")
    size = bundle.manifest.input.height, bundle.manifest.input.width
    facts = {"bundle_digest": bundle.digest, "bundle_revision": str(bundle.manifest.revision), "tasks": " ".join(bundle.tasks)}
    for name, entry in describe_tasks(bundle.manifest.tasks).items():
        outputs = list(graph_outputs({name: bundle.manifest.tasks[name]}, size, "graph"))
        facts[f"task_{name}"] = json.dumps(entry | {"outputs": outputs}, ensure_ascii=False)
    lines += [
        f'parameters {{ key: "{key}" value {{ string_value: "{_quoted(value)}" }} }}' for key, value in facts.items() if value
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
