"""Weights of MobileNetV2 from a TensorFlow Lite file, under timm's names: of a classifier, or of a DeepLab around it.

Such files have no batch norms: they are multiplied into the convolutions. Here every norm passes its input on, scaled as its
filters are; `mtl.fine_tuning.restore_pretrained_norms` gives it the statistics of real frames, without which training would
change the network at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError
from edge_mtl.packages import import_package

__all__ = ["RELU", "RELU6", "Convolution", "mobilenet_from_tflite", "read_convolutions"]

_USUAL = "mobilenetv2_100"
RELU, RELU6 = 1, 3
"""Numbers of activations, as the format has them; 0 is none."""


@dataclass(slots=True)
class Convolution:
    """One convolution: weight (out, in / groups, h, w) and bias (out,) float32; the number of the activation after it."""

    weight: np.ndarray
    bias: np.ndarray
    activation: int


def mobilenet_from_tflite(path: Path, net: nn.Module, *, backbone: str) -> dict[str, Tensor]:
    """The state of timm's `net` from the first convolutions of a file; what follows them, a head, is left.

    Filters are of unit length and the norms have their scale: folded ones differ in length by a factor of hundreds, and an
    optimizer that takes equal steps for all weights would change the small ones most. Integer weights are read as the floats
    that they stand for. The maps are the file's on sizes of 32 n + 1, where TensorFlow pads both sides alike; on other sizes
    pixels stay where they are on those, and TensorFlow's shift by one.

    Raises:
        BackendUnavailable: the package tflite is missing or broken.
        BuildError: no such file, or one of another network.
    """
    found = read_convolutions(path)
    layers = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    convolutions, norms = layers[::2], layers[1::2]
    if len(convolutions) != len(norms) or not all(isinstance(norm, nn.BatchNorm2d) for _, norm in norms):
        raise BuildError(f"{backbone} is not read from TensorFlow Lite files: expected a MobileNetV2, such as {_USUAL}")
    state = net.state_dict()
    for number, ((name, layer), (norm_name, norm)) in enumerate(zip(convolutions, norms, strict=True)):
        wanted = _form(layer.weight.shape, isinstance(getattr(norm, "act", None), nn.ReLU6))
        one = found[number] if number < len(found) else None
        has = "nothing" if one is None else _form(one.weight.shape, one.activation == RELU6)
        if one is None or has != wanted:
            raise BuildError(
                f"{path} is not of {backbone}: {name} should be {wanted}, found {has}. "
                f"Name the backbone that it is of, such as {_USUAL}"
            )
        weight = torch.from_numpy(np.ascontiguousarray(one.weight))
        length = weight.flatten(1).norm(dim=1)
        length = torch.where(length > 0, length, torch.ones_like(length))
        state[f"{name}.weight"] = weight / length[:, None, None, None]
        state[f"{norm_name}.weight"] = length * (1.0 + norm.eps) ** 0.5
        state[f"{norm_name}.bias"] = torch.from_numpy(one.bias)
        state[f"{norm_name}.running_mean"] = torch.zeros_like(length)
        state[f"{norm_name}.running_var"] = torch.ones_like(length)
    return state


def read_convolutions(path: Path) -> list[Convolution]:
    """The convolutions of a file in the order in which they run, weights as floats. Raises as `mobilenet_from_tflite`."""
    tflite = import_package("tflite", "Model", use=f"{path} needs the package tflite", install="edge-mtl[tflite]")
    payload = path.read_bytes()
    try:
        if not tflite.Model.ModelBufferHasIdentifier(payload, 0):
            raise ValueError("it does not begin as one does")
        return _convolutions(tflite, tflite.Model.GetRootAsModel(payload, 0))
    except (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError) as exc:
        raise BuildError(f"{path} is no whole TensorFlow Lite model ({exc}). Download it again") from exc


def _form(shape: tuple[int, ...], relu6: bool) -> str:
    return f"{'x'.join(map(str, shape))} {'with' if relu6 else 'without'} ReLU6"


def _convolutions(tflite: Any, model: Any) -> list[Convolution]:
    """The convolutions in the order in which they run, with factors and terms of the dilated ones multiplied in."""
    kinds = tflite.BuiltinOperator
    graph = model.Subgraphs(0)
    constants = _Constants(tflite, model, graph)
    found: list[Convolution] = []
    last: dict[int, Convolution] = {}  # by tensor: the convolution that made it, if nothing but moves of pixels came after
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs, output = [int(one) for one in operator.InputsAsNumpy()], int(operator.Outputs(0))
        before = last.get(inputs[0])
        if kind == kinds.DEQUANTIZE:
            constants.same[output] = inputs[0]
        elif kind in (kinds.SPACE_TO_BATCH_ND, kinds.BATCH_TO_SPACE_ND):
            if before is not None:
                last[output] = before
        elif kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
            options = tflite.Conv2DOptions() if kind == kinds.CONV_2D else tflite.DepthwiseConv2DOptions()
            weight = constants[inputs[1]].transpose((0, 3, 1, 2) if kind == kinds.CONV_2D else (3, 0, 1, 2))
            bias = constants[inputs[2]] if len(inputs) > 2 and inputs[2] >= 0 else np.zeros(len(weight), np.float32)
            last[output] = Convolution(weight, bias, _activation(options, operator))
            found.append(last[output])
        elif kind in (kinds.MUL, kinds.ADD) and before is not None and before.activation == 0 and inputs[1] in constants:
            value = constants[inputs[1]].reshape(-1)
            if kind == kinds.MUL:
                before.weight, before.bias = before.weight * value[:, None, None, None], before.bias * value
            else:
                before.bias = before.bias + value
            before.activation = _activation(tflite.MulOptions() if kind == kinds.MUL else tflite.AddOptions(), operator)
            last[output] = before
    return found


def _activation(options: Any, operator: Any) -> int:
    table = operator.BuiltinOptions()
    if table is None:
        return 0
    options.Init(table.Bytes, table.Pos)
    return int(options.FusedActivationFunction())


class _Constants:
    """The constant tensors of a graph by number, as float32: integers times their scale.

    Attributes:
        same: numbers of tensors that a graph only converts from others.
    """

    def __init__(self, tflite: Any, model: Any, graph: Any) -> None:
        types = tflite.TensorType
        self._types = {types.FLOAT32: "<f4", types.FLOAT16: "<f2", types.INT32: "<i4", types.INT8: "i1", types.UINT8: "u1"}
        self._model, self._graph = model, graph
        self.same: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        tensor = self._graph.Tensors(self.same.get(number, number))
        return self._model.Buffers(tensor.Buffer()).DataLength() > 0

    def __getitem__(self, number: int) -> np.ndarray:
        tensor = self._graph.Tensors(self.same.get(number, number))
        data = np.asarray(self._model.Buffers(tensor.Buffer()).DataAsNumpy(), np.uint8).tobytes()
        values = np.frombuffer(data, self._types[tensor.Type()]).reshape(tensor.ShapeAsNumpy()).astype(np.float32)
        steps = tensor.Quantization()
        if steps is None or steps.ScaleLength() == 0:
            return values
        scale, zero = steps.ScaleAsNumpy(), steps.ZeroPointAsNumpy()
        if scale.size > 1:
            axis = [-1 if place == steps.QuantizedDimension() else 1 for place in range(values.ndim)]
            scale, zero = scale.reshape(axis), zero.reshape(axis)
        return np.asarray((values - zero) * scale, np.float32)
