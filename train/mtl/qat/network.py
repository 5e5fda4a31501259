"""An optimized ONNX graph as a trainable network that rounds where the quantized graph will: weights and ranges are learnt
together.

Knows ONNX graphs, placement and fake quantization; knows nothing about data, checkpoints or loops. The graph itself is run,
node by node, so that whatever `edge_mtl.quantization.placement` decides holds here by construction: a tensor that gets
Q/DQ nodes is rounded at the same place, under the same name. Batch norm is already inside the convolutions of such a graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edge_mtl.backends import style_of
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, attribute
from edge_mtl.quantization.integer_ops import GELU_SLOPE
from edge_mtl.quantization.learned import Learned, read_learned, write_learned
from edge_mtl.quantization.placement import place
from edge_mtl.quantization.ranges import Range
from edge_mtl.tasks import Specs
from mtl.models.model import upsample_maps
from mtl.qat.fake_quantize import ActivationRange, RangeMode, rounded_weights
from mtl.qat.operators import OPERATORS, Value
from mtl.qat.teaching import TAUGHT
from mtl.tasks import head_of, output_names

__all__ = ["QatNetwork", "trainable_names"]

IMAGE_RANGE = Range(0.0, 255.0)
_GATE_RANGE = Range(0.0, 1.0)
_IMAGE_UNIT = 2.0**-8
"""Weights that read bytes of 0..255 are so much smaller than others. They are trained in this unit, or one step of an
optimiser whose steps are of one size for all weights would wipe them out; a power of two costs no digit."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One node: what it computes, and what happens to what it reads.

    Attributes:
        rounded: which of its inputs are read rounded.
        axis: of its weights that counts outputs, where they are rounded; None elsewhere.
        coarse_gelu: it is a GELU that the quantized graph does on bytes.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    rounded: frozenset[str]
    axis: int | None
    coarse_gelu: bool


class QatNetwork(nn.Module):
    """Stands where a `MultiTaskModel` stands in training: same tasks and maps, at stride 4, for one input size.

    Args:
        graph: an optimized ONNX graph (input `image` float32 (1, 3, H, W), RGB in 0..255) with what `write_learned` puts into
            it: the target, the recipe and the ranges to begin with. Its weights may be missing where a state is loaded next.
        specs: the tasks that it predicts.
        mean, std: of the network that it was made from, for the record: the graph normalises by itself.
        mode: how ranges go on from there.
    Attributes:
        specs, stride, mean, std: as those of `MultiTaskModel`.
        size: (H, W) of the image.
        rounds: whether it rounds; see `in_floats`.
        teacher: the weights that it learns to answer like, see `learn_from_itself`; None without.
    Raises:
        BuildError: the graph has an operator that cannot be trained, or nothing learnt to begin with.
    """

    stride = 4

    def __init__(
        self,
        graph: bytes,
        *,
        specs: Specs,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        std: tuple[float, float, float] = (1.0, 1.0, 1.0),
        mode: RangeMode = "learned",
    ) -> None:
        super().__init__()
        model = onnx.load_model_from_string(graph)
        learned = read_learned(model)
        if learned is None:
            raise BuildError("the graph has no ranges to begin with: prepare it with mtl.qat.prepare")
        index = GraphIndex(model)
        self.specs, self.mean, self.std, self.rounds = dict(specs), mean, std, True
        self.size: tuple[int, int] = index.shapes[index.inputs[0]][2:]  # type: ignore[assignment]
        self._learned = learned
        self._input, self._wanted = index.inputs[0], output_names(specs, "host")
        self._plan(index, learned, mode)
        names = trainable_names(index)
        self._of_image = {_key(name) for node in index.consumers[self._input] for name in node.input[1:2] if name in names}
        self._weights = nn.ParameterDict()
        self._floats = _Constants()
        self._whole: dict[str, Tensor] = {}
        for tensor in model.graph.initializer:
            if tensor.name in names:
                self._weights[_key(tensor.name)] = nn.Parameter(_array(tensor) / self._unit(_key(tensor.name)))
            elif tensor.data_type == onnx.TensorProto.FLOAT:
                self._floats.register_buffer(_key(tensor.name), _array(tensor), persistent=False)
            else:
                self._whole[tensor.name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        self.teacher: _Constants | None = None
        self._teaching = False
        self.skeleton: Tensor
        self.register_buffer("skeleton", torch.frombuffer(bytearray(_without(model, names)), dtype=torch.uint8))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], **options: Any) -> QatNetwork:
        """The network that a state dictionary is of, with its weights; `options` are those of the constructor.

        Raises:
            BuildError: as the constructor, or no state of such a network.
        """
        if "skeleton" not in state:
            raise BuildError("these weights were not fine-tuned for integers: they hold no graph. Train with --qat")
        network = cls(state["skeleton"].numpy().tobytes(), **options)
        if any(name.startswith("teacher.") for name in state):
            network.learn_from_itself()
        network.load_state_dict(dict(state))
        return network

    def learn_from_itself(self) -> None:
        """Keep the weights of now: in training, what they answer without rounding then comes beside every answer."""
        self.teacher = _Constants()
        for key, weight in self._weights.items():
            self.teacher.register_buffer(key, weight.detach().clone())

    @contextlib.contextmanager
    def in_floats(self) -> Iterator[None]:
        """The same weights without rounding, for as long as the context lasts."""
        before, self.rounds = self.rounds, False
        try:
            yield
        finally:
            self.rounds = before

    def normalise(self, image: Tensor) -> Tensor:
        """The image as it is: the graph takes RGB in 0..255."""
        return image

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """Nothing: a graph has no part that is known to be shared."""
        return ()

    def from_features(
        self, features: Sequence[Tensor], size: tuple[int, int], *, image: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Every task's map from the image; see `MultiTaskModel.from_features`."""
        if image is None:
            raise BuildError("an optimized ONNX graph shares nothing: from_features needs the image")
        return self(image)

    def forward(self, image: Tensor, *, upsample: bool = False) -> dict[str, Tensor]:
        """(B, 3, H, W) RGB in 0..255 -> maps at stride 4, or of the image's size, as those of `MultiTaskModel`.

        In training those of the teacher, if there is one, come along as `TAUGHT` + task.

        Raises:
            BuildError: another size than that of the graph.
        """
        if tuple(image.shape[2:]) != self.size:
            found = "x".join(map(str, image.shape[2:]))
            raise BuildError(f"the graph takes {self.size[0]}x{self.size[1]} pixels, found {found}: train at one size")
        with torch.autocast(image.device.type, enabled=False):
            maps = self._run(image.float())
            if self.training and self.teacher is not None:
                maps |= {TAUGHT + task: value for task, value in self._taught(image.float()).items()}
        return upsample_maps(maps, self.size) if upsample else maps

    def settled(self) -> Learned:
        """Target, recipe and ranges as they are now."""
        ranges = {name: item.settled() for name, item in self._named_ranges().items() if name != self._input}
        return Learned(self._learned.target, ranges, self._learned.recipe)

    def graph(self) -> bytes:
        """The float graph with the weights and ranges of now, from which `edge_mtl` writes Q/DQ graphs."""
        model = onnx.load_model_from_string(self.skeleton.cpu().numpy().tobytes())
        for tensor in model.graph.initializer:
            if (key := _key(tensor.name)) in self._weights:
                value = (self._weights[key].detach() * self._unit(key)).cpu().float().contiguous().numpy()
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        write_learned(model, self.settled())
        return bytes(model.SerializeToString())

    @torch.no_grad()
    def _taught(self, image: Tensor) -> dict[str, Tensor]:
        self._teaching = True
        try:
            with self.in_floats():
                return self._run(image)
        finally:
            self._teaching = False

    def _plan(self, index: GraphIndex, learned: Learned, mode: RangeMode) -> None:
        plan = place(index, learned.recipe, target=learned.target)
        style = style_of(learned.target)
        missing = [name for name in plan.ranged if name not in learned.ranges and name not in index.inputs]
        if missing:
            raise BuildError(f"there is no range to begin with for activation {missing[0]}: calibrate with the same recipe")
        self._ranges, self._ranged = nn.ModuleDict(), tuple(plan.ranged)
        for name in self._ranged:
            known = IMAGE_RANGE if name in index.inputs else learned.ranges[name]
            kept = "fixed" if name in index.inputs else mode
            self._ranges[_key(name)] = ActivationRange(known, signed=style.signed, mode=kept)
        self._gate = ActivationRange(_GATE_RANGE, signed=False, mode="fixed")
        self._outputs = frozenset(plan.outputs) - frozenset(plan.shared)
        self._shared = dict(plan.shared)
        self._levels = 63 if learned.recipe.weights.reduce_range == "always" else 127
        self._integer_bias = style.integer_bias
        layers, products = ({node.output[0] for node in some} for some in (plan.layers, plan.products))
        gelus, inputs = {node.output[0] for node in plan.gelus}, set(plan.inputs)
        self._steps = []
        for node in index.nodes:
            if node.op_type not in OPERATORS or len(node.output) != 1:
                raise BuildError(f"the optimized ONNX has the operator {node.op_type}, which cannot be trained here")
            output = node.output[0]
            read = node.input[:1] if output in layers else node.input if output in products else ()
            self._steps.append(
                _Step(
                    kind=node.op_type,
                    inputs=tuple(node.input),
                    output=output,
                    attributes={item.name: _plain(attribute(node, item.name, None)) for item in node.attribute},
                    rounded=frozenset(name for name in read if name in inputs),
                    axis=_output_axis(node) if output in layers else None,
                    coarse_gelu=output in gelus,
                )
            )

    def _named_ranges(self) -> dict[str, ActivationRange]:
        return {name: self._ranges[_key(name)] for name in self._ranged}  # type: ignore[misc]

    def _run(self, image: Tensor) -> dict[str, Tensor]:
        values = {self._input: Value(image.unsqueeze(1), True)}
        rounded: dict[str, Value] = {}
        for step in self._steps:
            inputs = [self._read(name, step, values, rounded) if name else None for name in step.inputs]
            if step.axis is not None and self.rounds:
                inputs[1] = self._round_weights(step, inputs)
            if step.coarse_gelu and self.rounds:
                result = self._coarse_gelu(inputs)
            else:
                result = OPERATORS[step.kind](inputs, step.attributes)
            if self.rounds and step.output in self._outputs:
                result = self._ranges[_key(step.output)](result)
            values[step.output] = Value(result, any(item is not None and item.batched for item in inputs))
        return {
            task: head_of(self.specs[task]).imported(self.specs[task], [values[name].tensor.squeeze(1) for name in names])
            for task, names in self._wanted.items()
        }

    def _read(self, name: str, step: _Step, values: dict[str, Value], rounded: dict[str, Value]) -> Value:
        if name not in values:
            return self._constant(name)
        if not self.rounds or name not in step.rounded:
            return values[name]
        if name not in rounded:
            rounded[name] = Value(self._ranges[_key(name)](values[name].tensor), values[name].batched)
        return rounded[name]

    def _constant(self, name: str) -> Value:
        if name in self._whole:
            return Value(self._whole[name], False)
        key = _key(name)
        if key not in self._weights:
            return Value(self._floats.get_buffer(key), False)
        weight: Tensor = self._weights[key]
        if self._teaching and self.teacher is not None:
            weight = self.teacher.get_buffer(key)
        return Value(weight * _IMAGE_UNIT if key in self._of_image else weight, False)

    def _unit(self, key: str) -> float:
        return _IMAGE_UNIT if key in self._of_image else 1.0

    def _round_weights(self, step: _Step, inputs: Sequence[Value | None]) -> Value:
        """The weights as integers would be; with integer biases these widen the scales."""
        weights, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
        assert weights is not None
        assert step.axis is not None
        widens = self._integer_bias and bias is not None and bias.tensor.ndim == 1
        found = rounded_weights(
            weights.tensor,
            axis=step.axis,
            levels=self._levels,
            bias=bias.tensor if widens and bias is not None else None,
            input_scale=self._scale(step.inputs[0]) if widens else None,
        )
        return Value(found, False)

    def _scale(self, tensor: str) -> Tensor:
        while tensor in self._shared:
            tensor = self._shared[tensor]
        with torch.no_grad():
            scale: Tensor = self._ranges[_key(tensor)].scale()[0]  # type: ignore[operator]
        return scale

    def _coarse_gelu(self, inputs: Sequence[Value | None]) -> Tensor:
        """x sigmoid(1.715 x) with a byte for the sigmoid: what `integer_ops.gelu_nodes` writes."""
        value = inputs[0]
        assert value is not None
        gate: Tensor = self._gate(torch.sigmoid(GELU_SLOPE * value.tensor))
        return value.tensor * gate


class _Constants(nn.Module):
    """Tensors by name that are not trained, so that they move with the network."""


def trainable_names(index: GraphIndex) -> set[str]:
    """Constants that are weights: of layers and norms, and biases that are added behind a product."""
    found: set[str] = set()
    for node in index.nodes:
        if node.op_type in ("Conv", "Gemm", "MatMul", "LayerNormalization"):
            found |= {name for name in node.input[1:] if name in index.weights and node.input[0] not in index.weights}
        elif node.op_type == "Add":
            found |= {name for name in node.input if name in index.weights and name.endswith(".bias")}
    return found


def _without(model: Any, names: set[str]) -> bytes:
    """The graph with the values of these constants left out; their shapes stay."""
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    for tensor in skeleton.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return bytes(skeleton.SerializeToString())


def _array(tensor: Any) -> Tensor:
    """A constant's values; zeros where they were left out."""
    if not tensor.raw_data and not tensor.float_data:
        return torch.zeros(tuple(tensor.dims))
    return torch.from_numpy(np.array(numpy_helper.to_array(tensor), np.float32))


def _output_axis(node: Any) -> int:
    return 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 1


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _key(name: str) -> str:
    """A tensor's name as torch allows it for a part of a module."""
    return name.replace(".", "|")
