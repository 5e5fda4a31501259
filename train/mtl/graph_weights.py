"""Trained weights out of a bundle that holds them in its reference ONNX only, as bundles before 0.2 did.

The exporter kept the names of most weights, turned those of linear layers and multiplied batch norms into the convolutions
before them. A batch norm that is gone is put back as one that passes its input on (`mtl.folded_norms`). Nothing is believed:
the rebuilt network has to answer as the graph does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_mtl.bundle import REFERENCE_ONNX, WEIGHTS, Bundle
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.onnx_graph.model import GraphIndex, import_onnx, parse
from edge_mtl.tasks import describe_tasks
from mtl.models.configured import model_from
from mtl.models.export import check_parity
from mtl.models.model import MultiTaskModel
from mtl.models.placement import GraphPlacement, PlainModel
from mtl.settings import ModelSettings, RunSettings, Stage

__all__ = ["read_back"]

Array = np.ndarray

_PREFIX = "network.model."
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def read_back(bundle: Bundle) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata, as `mtl.checkpoint.load_weights` gives them, of a bundle without weights.safetensors.

    Raises:
        BundleError: its graph is not of a network of this package, or the network that was rebuilt answers otherwise.
        BackendUnavailable: onnx or ONNX Runtime is missing.
    """
    try:
        graph = parse(bundle.read(REFERENCE_ONNX), name=f"{bundle.path / REFERENCE_ONNX}")
        found = _named(graph)
        settings = _settings(bundle, found, [node.op_type for node in graph.graph.node])
        model = model_from(settings, pretrained=False, specs=bundle.manifest.tasks).eval()
        _fill(model, found)
        _check(model, bundle)
    except BuildError as exc:
        raise BundleError(
            f"{bundle.path} has no {WEIGHTS}, and its {REFERENCE_ONNX} gives none that could be trained ({exc}). "
            "Export the bundle again from its checkpoint, or give the checkpoint itself"
        ) from exc
    described = dataclasses.asdict(settings)
    metadata = {
        "config": {"model": described["model"], "stages": list(described["stages"])},
        "size": [bundle.manifest.input.height, bundle.manifest.input.width],
        "tasks": describe_tasks(bundle.manifest.tasks),
    }
    return dict(model.state_dict()), metadata


def _named(graph: Any) -> dict[str, Array]:
    """Initializers by the name of the model's weight; those of linear layers turned back."""
    to_array = import_onnx().numpy_helper.to_array
    every = {one.name: to_array(one) for one in graph.graph.initializer}
    found = {name.removeprefix(_PREFIX): value for name, value in every.items() if name.startswith(_PREFIX)}
    index = GraphIndex(graph)
    for node in index.nodes:
        biases = [name for name in node.input if name.startswith(_PREFIX) and name.endswith(".bias")]
        if node.op_type != "Add" or len(biases) != 1:
            continue
        for name in node.input:
            maker = index.producer.get(name)
            if maker is not None and maker.op_type == "MatMul" and maker.input[1] in every:
                layer = biases[0].removeprefix(_PREFIX).removesuffix(".bias")
                found[f"{layer}.weight"] = every[maker.input[1]].T
    if not found:
        raise BuildError("it does not name the weights of a network")
    return found


def _settings(bundle: Bundle, found: Mapping[str, Array], operators: list[str]) -> RunSettings:
    """The network that a graph is of, told by the manifest and by what its weights are called."""
    told, given = bundle.manifest.provenance, bundle.manifest.input
    backbone, decoder = told.get("backbone"), told.get("decoder", "edge")
    if not isinstance(backbone, str) or decoder not in ("edge", "aspp", "aspp_folded"):
        raise BuildError("the manifest's provenance does not name its backbone and decoder")
    if any(name.startswith("decoder.parts.") for name in found):
        raise BuildError("its tasks do not share the whole backbone")

    def has(start: str, inside: str = "") -> bool:
        return any(name.startswith(f"decoder.{start}") and inside in name for name in found)

    stride4 = [value.shape for name, value in found.items() if name.endswith(".merge4.fine.weight")]
    lateral = found.get("decoder.laterals.3.0.weight")
    model = ModelSettings(
        backbone=backbone,
        decoder=decoder,
        width=64 if lateral is None else int(lateral.shape[0]),
        tasks=tuple(bundle.manifest.tasks),
        normalisation="imagenet" if any(given.mean) else "none",
        depth_output="log" if "Exp" in operators else "linear",
        exchange=has("exchange."),
        gated=not has("exchange.") or has("exchange.", ".gate."),
        context=has("context."),
        top_down=has("necks."),
        fine=bool(stride4),
        last_stage_only=decoder == "edge" and not has("laterals.2."),
        rays=has("rays."),
        slim=all(shape[0] == shape[1] for shape in stride4),
    )
    return RunSettings(stages=(Stage(height=given.height, width=given.width, steps=1),), model=model)


def _fill(model: MultiTaskModel, found: Mapping[str, Array]) -> None:
    """Copy what was found into the model. Raises BuildError where it does not fit."""
    before = ""
    state = model.state_dict()
    values: dict[str, Array] = {name: value for name, value in found.items() if name in state}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            before = name
        elif isinstance(module, _NORMS) and f"{name}.running_mean" not in found:
            shift = found.get(f"{before}.weight_bias")
            values[f"{name}.running_mean"] = np.zeros(module.num_features, np.float32)
            values[f"{name}.running_var"] = np.ones(module.num_features, np.float32)
            values[f"{name}.weight"] = np.full(module.num_features, np.sqrt(1.0 + module.eps), np.float32)
            values[f"{name}.bias"] = np.zeros(module.num_features, np.float32) if shift is None else shift
    for name, own in state.items():
        if name.endswith(".num_batches_tracked"):
            continue
        value = values.get(name)
        if value is None or tuple(value.shape) != tuple(own.shape):
            shape = "nothing" if value is None else "x".join(map(str, value.shape))
            raise BuildError(f"{name} should be {'x'.join(map(str, own.shape))}, found {shape}")
        own.copy_(torch.from_numpy(np.array(value)))


def _check(model: MultiTaskModel, bundle: Bundle) -> None:
    """Raise BuildError unless the network answers as the graph does, as closely as an export has to."""
    given = bundle.manifest.input
    placed = GraphPlacement(PlainModel(model)).eval()
    example = placed.example(given.height, given.width)
    check_parity(bundle.read(REFERENCE_ONNX), placed, example, REFERENCE_ONNX)
