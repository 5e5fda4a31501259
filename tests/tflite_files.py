"""TensorFlow Lite files for tests: convolutions one after the other, as converters write them, with the package tflite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Layer", "tflite_file"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution: weight (out, in / groups, h, w) and bias (out,).

    Attributes:
        scale: (out,) of INT8 weights, which `weight` then holds; None for float.
        dilated: as converters wrote dilated ones: pixels moved into the batch and back, then a factor and a term of their own.
    """

    weight: np.ndarray
    bias: np.ndarray
    relu6: bool
    scale: np.ndarray | None = None
    dilated: bool = False


def tflite_file(layers: Sequence[Layer]) -> bytes:
    """The file of these layers, of which each reads what the one before wrote."""
    writer = _Writer()
    last = writer.tensor(None, (1, 33, 33, layers[0].weight.shape[1]))
    for layer in layers:
        last = writer.convolution(layer, last)
    return writer.file()


class _Writer:
    def __init__(self) -> None:
        import flatbuffers
        import tflite

        self._t, self._b = tflite, flatbuffers.Builder(1 << 16)
        self._codes: list[int] = []
        self._operators: list[int] = []
        self._tensors: list[int] = []
        self._buffers: list[int] = [self._buffer(b"")]

    def convolution(self, layer: Layer, image: int) -> int:
        t, kinds = self._t, self._t.BuiltinOperator
        depthwise = layer.weight.shape[1] == 1
        stored = layer.weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        weight = self.tensor(np.ascontiguousarray(stored), stored.shape, scale=layer.scale, axis=3 if depthwise else 0)
        if depthwise and layer.scale is not None:  # as converters write it where a runtime has no such kernel
            weight = self._operator(kinds.DEQUANTIZE, [weight])
        kind = kinds.DEPTHWISE_CONV_2D if depthwise else kinds.CONV_2D
        name = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        act = t.ActivationFunctionType.RELU6 if layer.relu6 else t.ActivationFunctionType.NONE
        if not layer.dilated:
            return self._operator(kind, [image, weight, self._constant(layer.bias)], options=name, activation=act)
        half = np.full(len(layer.bias), 0.5, np.float32)
        image = self._operator(kinds.SPACE_TO_BATCH_ND, [image])
        image = self._operator(kind, [image, weight, self._constant(2 * layer.bias)], options=name)
        image = self._operator(kinds.BATCH_TO_SPACE_ND, [image])
        image = self._operator(kinds.MUL, [image, self._constant(half)], options="MulOptions")
        return self._operator(kinds.ADD, [image, self._constant(half)], options="AddOptions", activation=act)

    def tensor(self, values: np.ndarray | None, shape: Sequence[int], *, scale: np.ndarray | None = None, axis: int = 0) -> int:
        t, b = self._t, self._b
        number = 0
        if values is not None:
            self._buffers.append(self._buffer(values.tobytes()))
            number = len(self._buffers) - 1
        steps = None
        if scale is not None:
            scales, zeros = b.CreateNumpyVector(scale.astype(np.float32)), b.CreateNumpyVector(np.zeros(len(scale), np.int64))
            t.QuantizationParametersStart(b)
            t.QuantizationParametersAddScale(b, scales)
            t.QuantizationParametersAddZeroPoint(b, zeros)
            t.QuantizationParametersAddQuantizedDimension(b, axis)
            steps = t.QuantizationParametersEnd(b)
        sizes = b.CreateNumpyVector(np.asarray(shape, np.int32))
        t.TensorStart(b)
        t.TensorAddShape(b, sizes)
        t.TensorAddType(b, t.TensorType.FLOAT32 if scale is None else t.TensorType.INT8)
        t.TensorAddBuffer(b, number)
        if steps is not None:
            t.TensorAddQuantization(b, steps)
        self._tensors.append(t.TensorEnd(b))
        return len(self._tensors) - 1

    def file(self) -> bytes:
        t, b = self._t, self._b
        tensors = self._vector(t.SubGraphStartTensorsVector, self._tensors)
        operators = self._vector(t.SubGraphStartOperatorsVector, self._operators)
        t.SubGraphStart(b)
        t.SubGraphAddTensors(b, tensors)
        t.SubGraphAddOperators(b, operators)
        graphs = self._vector(t.ModelStartSubgraphsVector, [t.SubGraphEnd(b)])
        codes = []
        for kind in self._codes:
            t.OperatorCodeStart(b)
            t.OperatorCodeAddDeprecatedBuiltinCode(b, kind)
            t.OperatorCodeAddBuiltinCode(b, kind)
            codes.append(t.OperatorCodeEnd(b))
        all_codes = self._vector(t.ModelStartOperatorCodesVector, codes)
        buffers = self._vector(t.ModelStartBuffersVector, self._buffers)
        t.ModelStart(b)
        t.ModelAddVersion(b, 3)
        t.ModelAddOperatorCodes(b, all_codes)
        t.ModelAddSubgraphs(b, graphs)
        t.ModelAddBuffers(b, buffers)
        b.Finish(t.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _constant(self, values: np.ndarray) -> int:
        return self.tensor(values.astype(np.float32), values.shape)

    def _operator(self, kind: int, inputs: Sequence[int], *, options: str = "", activation: int = 0) -> int:
        t, b = self._t, self._b
        if kind not in self._codes:
            self._codes.append(kind)
        output = self.tensor(None, ())
        table = None
        if options:
            getattr(t, f"{options}Start")(b)
            getattr(t, f"{options}AddFusedActivationFunction")(b, activation)
            table = getattr(t, f"{options}End")(b)
        reads, writes = b.CreateNumpyVector(np.asarray(inputs, np.int32)), b.CreateNumpyVector(np.asarray([output], np.int32))
        t.OperatorStart(b)
        t.OperatorAddOpcodeIndex(b, self._codes.index(kind))
        t.OperatorAddInputs(b, reads)
        t.OperatorAddOutputs(b, writes)
        if table is not None:
            t.OperatorAddBuiltinOptionsType(b, getattr(t.BuiltinOptions, options))
            t.OperatorAddBuiltinOptions(b, table)
        self._operators.append(t.OperatorEnd(b))
        return output

    def _buffer(self, payload: bytes) -> int:
        t, b = self._t, self._b
        data = b.CreateByteVector(payload) if payload else None
        t.BufferStart(b)
        if data is not None:
            t.BufferAddData(b, data)
        return int(t.BufferEnd(b))

    def _vector(self, start: Any, places: Sequence[int]) -> int:
        start(self._b, len(places))
        for place in reversed(places):
            self._b.PrependUOffsetTRelative(place)
        return int(self._b.EndVector())
