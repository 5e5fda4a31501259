"""Static quantization of a deploy graph for CPUs: unsigned activations, signed weights per channel, as Q/DQ nodes.

Knows graphs and ranges; knows nothing about bundles, frames on disk or engines. One set of ranges serves every target:
`calibrate` measures it, `emit` writes a graph for one runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.build.graphs import GraphIndex, attribute, import_onnx, parse
from edge_mtl.build.integer_ops import CONTRIB_DOMAIN, gelu_nodes, upsampling_nodes
from edge_mtl.build.placement import Plan, Target, place
from edge_mtl.build.ranges import Range, collect_ranges
from edge_mtl.device import fingerprint
from edge_mtl.errors import BuildError
from edge_mtl.recipes import Recipe

__all__ = ["TARGETS", "calibrate", "emit", "quantize_for_cpu"]

Array = np.ndarray
Progress = Callable[[str, int, int], None]

TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino")

_IMAGE_RANGE = Range(0.0, 255.0)
"""The input holds whole numbers of 0..255: with this range the scale is 1, the zero point 0, and nothing is lost."""

_BIAS_LIMIT = 2.0**30
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def quantize_for_cpu(
    deploy_model: bytes,
    frames: Iterable[Array],
    *,
    recipe: Recipe,
    target: Target = "onnxruntime",
    reduce_range: bool | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Quantize a graph of placement "host".

    Args:
        deploy_model: ONNX; its input is float32 (1, 3, H, W) RGB of 0..255.
        frames: calibration frames, (H, W, 3) uint8 RGB of the network's size.
        recipe: what to quantize and how.
        target: the runtime that the Q/DQ nodes are placed for; either graph is right on both.
        reduce_range: 7-bit weights; None follows the recipe.
        threads, progress: see `edge_mtl.build.ranges.collect_ranges`.
    Returns:
        The quantized ONNX model; inputs and outputs are named and typed as before.
    Raises:
        CalibrationError: no frames, or activations that never change.
        BuildError: the graph cannot be used, or nothing is left to quantize.
        BackendUnavailable: onnx or ONNX Runtime is missing.
    """
    ranges = calibrate(deploy_model, frames, recipe=recipe, threads=threads, progress=progress)
    return emit(deploy_model, ranges, recipe=recipe, target=target, reduce_range=reduce_range)


def calibrate(
    deploy_model: bytes,
    frames: Iterable[Array],
    *,
    recipe: Recipe,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Range]:
    """Ranges of every tensor that any target wants to quantize. Raises as `quantize_for_cpu` does."""
    model = parse(deploy_model, name="the deploy graph")
    index = GraphIndex(model)
    wanted: dict[str, None] = {}
    for target in TARGETS:
        wanted.update(dict.fromkeys(place(index, recipe.placement, target=target).ranged))
    images = [name for name in wanted if name in index.inputs]
    tensors = [name for name in wanted if name not in index.inputs]
    ranges = collect_ranges(model, tensors, list(frames), settings=recipe.activations, threads=threads, progress=progress)
    return {**ranges, **dict.fromkeys(images, _IMAGE_RANGE)}


def emit(
    deploy_model: bytes,
    ranges: Mapping[str, Range],
    *,
    recipe: Recipe,
    target: Target,
    reduce_range: bool | None = None,
) -> bytes:
    """Write Q/DQ nodes into `deploy_model`.

    Args:
        ranges: of every tensor the target's placement quantizes, from `calibrate`.
        reduce_range: 7-bit weights, for processors on which sums of byte products saturate; None follows the recipe,
            whose "auto" asks this machine.
    Raises:
        BuildError: a range is missing, or the graph cannot be used.
    """
    if reduce_range is None:
        mode = recipe.weights.reduce_range
        reduce_range = mode == "always" or (mode == "auto" and not fingerprint().has_vnni)
    model = parse(deploy_model, name="the deploy graph")
    index = GraphIndex(model)
    plan = place(index, recipe.placement, target=target)
    missing = [name for name in plan.ranged if name not in ranges]
    if missing:
        raise BuildError(f"There is no range for activation {missing[0]}: calibrate this graph with this recipe first.")
    writer = _Writer(model, index, plan, ranges, levels=63 if reduce_range else 127, integer_bias=target == "onnxruntime")
    return writer.write()


@dataclass(frozen=True, slots=True)
class _Scale:
    """Names of the constants that hold one tensor's scale and zero point, and the scale itself."""

    scale: str
    zero_point: str
    value: float


class _Writer:
    """Rewrites one graph according to a plan."""

    def __init__(
        self, model: Any, index: GraphIndex, plan: Plan, ranges: Mapping[str, Range], *, levels: int, integer_bias: bool
    ) -> None:
        self._onnx = import_onnx()
        self._model, self._index, self._plan, self._ranges = model, index, plan, ranges
        self._levels, self._integer_bias = levels, integer_bias
        self._constants: dict[str, Any] = {}
        self._scales: dict[str, _Scale] = {}
        self._nodes: list[Any] = []

    def write(self) -> bytes:
        graph, plan = self._model.graph, self._plan
        folded = {node.output[0]: node.input[0] for node in plan.folded}
        sources = {source: output for output, source in folded.items()}
        inputs, outputs = set(plan.inputs), set(plan.outputs)
        layers = {node.output[0] for node in plan.layers}
        for name in self._index.inputs:
            if name in inputs:
                self._quantize(name, name, f"{name}_dequantized")
        gelus = {node.output[0] for node in plan.gelus}
        for node in list(graph.node):
            if node.output[0] in folded:
                continue
            if node.output[0] in gelus:
                self._gelu(node.input[0], node.output[0])
                continue
            if node.op_type == "Resize" and node.output[0] in plan.shared and self._upsample(node):
                continue
            copy = self._onnx.NodeProto()
            copy.CopyFrom(node)
            if node.output[0] in layers:
                if node.input[0] in inputs:
                    copy.input[0] = f"{node.input[0]}_dequantized"
                self._quantize_weights(copy, node)
            tensor = sources.get(node.output[0], node.output[0])
            if tensor in outputs:
                copy.output[0] = f"{tensor}_float"
                self._nodes.append(copy)
                self._quantize(tensor, f"{tensor}_float", tensor)
            else:
                self._nodes.append(copy)
            for name in node.output:
                if name in inputs:
                    self._quantize(name, name, f"{name}_dequantized")
        return self._finish()

    def _gelu(self, source: str, result: str) -> None:
        before, after = self._scale(source), self._scale(result)
        self._nodes += gelu_nodes(
            f"{source}_quantized",
            f"{result}_quantized",
            source_scale=(before.scale, before.zero_point, before.value),
            result_scale=(after.scale, after.zero_point),
            constant=self._constant,
        )
        self._dequantize(result, f"{result}_dequantized")

    def _upsample(self, node: Any) -> bool:
        """Write a nearest upsampling by whole factors on bytes; False if `node` is none."""
        before, after = (self._index.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
        if (
            len(before) != 4
            or len(after) != 4
            or not all(before[2:])
            or any(b % a for a, b in zip(before[2:], after[2:], strict=True))
        ):
            return False
        self._nodes += upsampling_nodes(
            f"{node.input[0]}_quantized",
            f"{node.output[0]}_quantized",
            size=(before[2], before[3]),
            factors=(after[2] // before[2], after[3] // before[3]),
            constant=self._constant,
        )
        self._dequantize(node.output[0], node.output[0])
        return True

    def _drop_dead_nodes(self) -> None:
        """Nodes whose outputs nobody reads, for example the DequantizeLinear before an operator now done on integers."""
        wanted, alive = set(self._index.outputs), []
        for node in reversed(self._nodes):
            if wanted & set(node.output):
                alive.append(node)
                wanted |= set(node.input)
        self._nodes = alive[::-1]

    def _finish(self) -> bytes:
        graph = self._model.graph
        self._drop_dead_nodes()
        if any(node.domain == CONTRIB_DOMAIN for node in self._nodes):
            self._model.opset_import.append(self._onnx.helper.make_opsetid(CONTRIB_DOMAIN, 1))
        used = {tensor for node in self._nodes for tensor in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend([*kept, *(value for name, value in self._constants.items() if name in used)])
        try:
            self._onnx.checker.check_model(self._model)
        except Exception as exc:
            raise BuildError(f"The quantized graph is not valid ONNX: {exc}") from exc
        return bytes(self._model.SerializeToString())

    def _quantize(self, tensor: str, source: str, result: str) -> None:
        """source -> QuantizeLinear -> DequantizeLinear -> result, with the range of `tensor`."""
        scale = self._scale(tensor)
        make = self._onnx.helper.make_node
        constants = [scale.scale, scale.zero_point]
        self._nodes.append(make("QuantizeLinear", [source, *constants], [f"{tensor}_quantized"], name=f"{tensor}_Q"))
        self._dequantize(tensor, result)

    def _dequantize(self, tensor: str, result: str) -> None:
        scale = self._scale(tensor)
        inputs = [f"{tensor}_quantized", scale.scale, scale.zero_point]
        self._nodes.append(self._onnx.helper.make_node("DequantizeLinear", inputs, [result], name=f"{tensor}_DQ"))

    def _scale(self, tensor: str) -> _Scale:
        while tensor in self._plan.shared:
            tensor = self._plan.shared[tensor]
        if tensor not in self._scales:
            wanted = self._ranges[tensor]
            value = np.float32(max((wanted.high - wanted.low) / 255.0, _SMALLEST_SCALE))
            zero_point = np.uint8(np.clip(round(-wanted.low / float(value)), 0, 255))
            names = (self._constant(f"{tensor}_scale", value), self._constant(f"{tensor}_zero_point", zero_point))
            self._scales[tensor] = _Scale(*names, float(value))
        return self._scales[tensor]

    def _quantize_weights(self, copy: Any, node: Any) -> None:
        """Replace weights and bias of `copy` by integers and DequantizeLinear nodes."""
        weights = self._index.array(node.input[1])
        axis = 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 1
        others = tuple(dimension for dimension in range(weights.ndim) if dimension != axis)
        activation = self._scale(node.input[0]).value
        scales = np.abs(weights).max(axis=others) / self._levels
        bias = self._index.array(node.input[2]) if len(node.input) > 2 and node.input[2] in self._index.weights else None
        if bias is not None and bias.ndim == 1 and self._integer_bias:
            scales = np.maximum(scales, np.abs(bias) / (activation * _BIAS_LIMIT))
        scales = np.where(scales > _SMALLEST_SCALE, scales, 1.0).astype(np.float32)
        shape = [-1 if dimension == axis else 1 for dimension in range(weights.ndim)]
        integers = np.clip(np.round(weights / scales.reshape(shape)), -self._levels, self._levels).astype(np.int8)
        base = f"{node.output[0]}_weight"
        copy.input[1] = self._dequantized(base, integers, scales, axis)
        if bias is not None and bias.ndim == 1 and len(bias) == len(scales) and self._integer_bias:
            products = (scales * np.float32(activation)).astype(np.float32)
            counts = np.round(bias.astype(np.float64) / products).astype(np.int32)
            copy.input[2] = self._dequantized(f"{node.output[0]}_bias", counts, products, 0)

    def _dequantized(self, base: str, integers: Array, scales: Array, axis: int) -> str:
        constants = [
            self._constant(f"{base}_integers", integers),
            self._constant(f"{base}_scales", scales),
            self._constant(f"{base}_zero_points", np.zeros(len(scales), integers.dtype)),
        ]
        node = self._onnx.helper.make_node("DequantizeLinear", constants, [base], name=f"{base}_DQ", axis=axis)
        self._nodes.append(node)
        return base

    def _constant(self, name: str, value: Any) -> str:
        self._constants[name] = self._onnx.numpy_helper.from_array(np.asarray(value), name)
        return name
