"""The operators of an optimized ONNX graph in torch, on tensors with one more axis in front: the batch. Knows no graphs.

An optimized ONNX graph is of batch 1 throughout and its shapes are constants, often without a batch axis at all (attention
works on (N, C) matrices). Here every tensor that comes from the image has a leading axis of B beside whatever axes ONNX gives
it, so that one network serves any batch: an axis k of ONNX is axis k + 1. Constants have no such axis.
Operators: https://onnx.ai/onnx/operators, opsets 17 to 20.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_mtl.errors import BuildError

__all__ = ["OPERATORS", "Value"]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph; `batched` says whether it has the leading axis."""

    tensor: Tensor
    batched: bool

    @property
    def rank(self) -> int:
        """Number of axes that ONNX knows."""
        return self.tensor.ndim - int(self.batched)


Inputs = Sequence[Value | None]
Attributes = Mapping[str, Any]
Operator = Callable[[Inputs, Attributes], Tensor]


def _aligned(values: Sequence[Value]) -> list[Tensor]:
    """Tensors that broadcast as ONNX would without the leading axis."""
    rank = max(value.rank for value in values)
    found = []
    for value in values:
        missing = rank - value.rank
        tensor = value.tensor
        if value.batched and missing:
            tensor = tensor.reshape(tensor.shape[0], *([1] * missing), *tensor.shape[1:])
        found.append(tensor)
    return found


def _axis(axis: int, value: Value) -> int:
    """Where ONNX's `axis` is in the tensor."""
    return axis % value.rank + int(value.batched)


def _integers(value: Value | None) -> list[int]:
    return [] if value is None else [int(number) for number in value.tensor.reshape(-1).tolist()]


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: function(*_aligned([item for item in inputs if item is not None]))


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: function(_first(inputs).tensor)


def _first(inputs: Inputs) -> Value:
    value = inputs[0]
    assert value is not None
    return value


def _tensor(inputs: Inputs, index: int) -> Tensor | None:
    value = inputs[index] if index < len(inputs) else None
    return None if value is None else value.tensor


def _conv(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight, bias = _first(inputs).tensor, _tensor(inputs, 1), _tensor(inputs, 2)
    assert weight is not None
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    half = len(pads) // 2
    strides, dilations = list(attributes.get("strides", [1] * half)), list(attributes.get("dilations", [1] * half))
    groups = int(attributes.get("group", 1))
    flat = x.flatten(0, 1)
    if pads[:half] != pads[half:]:
        flat = F.pad(flat, [pads[1], pads[3], pads[0], pads[2]])
        pads = [0, 0, 0, 0]
    return F.conv2d(flat, weight, bias, strides, pads[:half], dilations, groups).unflatten(0, x.shape[:2])


def _gemm(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight, bias = _first(inputs).tensor, _tensor(inputs, 1), _tensor(inputs, 2)
    assert weight is not None
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise BuildError("a Gemm of the optimized ONNX is scaled or transposed: it cannot be trained")
    return F.linear(x, weight if attributes.get("transB", 0) else weight.t(), bias)


def _matmul(inputs: Inputs, attributes: Attributes) -> Tensor:
    first, second = _aligned([item for item in inputs if item is not None])
    return first @ second


def _layer_norm(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, scale, bias = _first(inputs), _tensor(inputs, 1), _tensor(inputs, 2)
    first = _axis(int(attributes.get("axis", -1)), x)
    return F.layer_norm(x.tensor, x.tensor.shape[first:], scale, bias, float(attributes.get("epsilon", 1e-5)))


def _reshape(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, wanted = _first(inputs), _integers(inputs[1])
    if not attributes.get("allowzero", 0):
        own = x.tensor.shape[int(x.batched) :]
        wanted = [own[index] if side == 0 else side for index, side in enumerate(wanted)]
    return x.tensor.reshape(*([x.tensor.shape[0]] if x.batched else []), *wanted)


def _transpose(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _first(inputs)
    order = list(attributes.get("perm", range(x.rank - 1, -1, -1)))
    return x.tensor.permute([0, *(axis + 1 for axis in order)] if x.batched else order)


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _first(inputs)
    axes = _integers(inputs[1])
    rank = x.rank + len(axes)
    tensor = x.tensor
    for axis in sorted(axis % rank for axis in axes):
        tensor = tensor.unsqueeze(axis + int(x.batched))
    return tensor


def _squeeze(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _first(inputs)
    axes = _integers(inputs[1]) if len(inputs) > 1 else [at for at in range(x.rank) if x.tensor.shape[at + int(x.batched)] == 1]
    return x.tensor.squeeze([_axis(axis, x) for axis in axes])


def _softmax(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _first(inputs)
    return torch.softmax(x.tensor, dim=_axis(int(attributes.get("axis", -1)), x))


def _concat(inputs: Inputs, attributes: Attributes) -> Tensor:
    values = [item for item in inputs if item is not None]
    batch = max((value.tensor.shape[0] for value in values if value.batched), default=1)
    tensors = [value.tensor if value.batched else value.tensor.expand(batch, *value.tensor.shape) for value in values]
    return torch.cat(tensors, dim=int(attributes["axis"]) % values[0].rank + 1)


def _mean(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _first(inputs)
    axes = _integers(inputs[1]) if len(inputs) > 1 else list(attributes.get("axes", range(x.rank)))
    return x.tensor.mean(dim=[_axis(axis, x) for axis in axes], keepdim=bool(attributes.get("keepdims", 1)))


def _global_average(inputs: Inputs, attributes: Attributes) -> Tensor:
    return _first(inputs).tensor.mean(dim=(-2, -1), keepdim=True)


def _resize(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _first(inputs).tensor
    scales, sizes = (inputs[index] if index < len(inputs) else None for index in (2, 3))
    if sizes is not None and sizes.tensor.numel():
        height, width = _integers(sizes)[2:]
    else:
        assert scales is not None
        height, width = (round(side * float(scale)) for side, scale in zip(x.shape[-2:], scales.tensor[2:], strict=True))
    mode, places = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    flat = x.flatten(0, 1)
    if mode == "nearest":
        whole = height % x.shape[-2] == 0 and width % x.shape[-1] == 0
        if not whole:
            raise BuildError("a Resize of the optimized ONNX is nearest by a broken factor: it cannot be trained")
        result = F.interpolate(flat, size=(height, width), mode="nearest")
    elif mode == "linear" and places in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        result = F.interpolate(flat, size=(height, width), mode="bilinear", align_corners=places == "align_corners")
    else:
        raise BuildError(f"a Resize of the optimized ONNX is {mode}, {places}: it cannot be trained")
    return result.unflatten(0, x.shape[:2])


def _clip(inputs: Inputs, attributes: Attributes) -> Tensor:
    least, most = _tensor(inputs, 1), _tensor(inputs, 2)
    return torch.clamp(_first(inputs).tensor, least, most)


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Tensor:
    slope, offset = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return torch.clamp(slope * _first(inputs).tensor + offset, 0.0, 1.0)


def _gelu(inputs: Inputs, attributes: Attributes) -> Tensor:
    return F.gelu(_first(inputs).tensor, approximate="tanh" if attributes.get("approximate") == "tanh" else "none")


def _max_pool(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, pads = _first(inputs).tensor, list(attributes.get("pads", [0, 0, 0, 0]))
    kernel, strides = list(attributes["kernel_shape"]), list(attributes.get("strides", [1, 1]))
    if attributes.get("ceil_mode", 0) or pads[:2] != pads[2:]:
        raise BuildError("a MaxPool of the optimized ONNX is padded unevenly: it cannot be trained")
    return F.max_pool2d(x.flatten(0, 1), kernel, strides, pads[:2]).unflatten(0, x.shape[:2])


OPERATORS: Mapping[str, Operator] = {
    "Add": _elementwise(torch.add),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _elementwise(torch.div),
    "Exp": _unary(torch.exp),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSigmoid": _hard_sigmoid,
    "Identity": _unary(lambda x: x),
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _elementwise(torch.mul),
    "ReduceMean": _mean,
    "Relu": _unary(F.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _unary(torch.sigmoid),
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _elementwise(torch.sub),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX type. A result is batched if any input is."""
