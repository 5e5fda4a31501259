"""What kind of work a layer does: convolution, matrix product, attention, normalisation and so on, whatever a runtime calls it.

Each runtime has its own names and fuses in its own way; where its name of a layer tells too little, the operators of the
graph that were fused into it do. Knows names; knows nothing about times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["DEPTHWISE", "KINDS", "PRODUCT_OF_TWO", "kind_of"]

CONVOLUTION, GROUPED, MATRIX, ATTENTION = "convolutions", "depthwise convolutions", "linear layers", "attention products"
NORM, ACTIVATION, RESIZING = "normalisation", "activations", "resizing"
LAYOUT, CONVERSION, REST = "memory layout and shapes", "rounding and conversion", "sums and the rest"
KINDS: tuple[str, ...] = (
    *(CONVOLUTION, GROUPED, MATRIX, ATTENTION, NORM, ACTIVATION, RESIZING),
    *(LAYOUT, CONVERSION, REST),
)
"""In the order of tables; attention products include the softmax between them."""

DEPTHWISE = "DepthwiseConv"
"""In place of Conv among operators, where it has groups."""
PRODUCT_OF_TWO = "ProductOfTwo"
"""In place of MatMul among operators, where no factor is a constant."""

_BY_NAME: Mapping[str, frozenset[str]] = {
    GROUPED: frozenset({"GroupConvolution", DEPTHWISE}),
    CONVOLUTION: frozenset(
        {"Convolution", "Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger", "CaskConvolution"}
    ),
    ATTENTION: frozenset(
        {"Softmax", "SoftMax", "QLinearSoftmax", "MHA", "ScaledDotProductAttention", "Attention", PRODUCT_OF_TWO}
    ),
    MATRIX: frozenset(
        {"FullyConnected", "Gemm", "QGemm", "FusedGemm", "MatMul", "FusedMatMul", "QLinearMatMul", "MatMulInteger"}
    ),
    NORM: frozenset({"LayerNormalization", "SkipLayerNormalization", "MVN", "BatchNormalization", "RMSNormalization"}),
    ACTIVATION: frozenset(
        {"Gelu", "BiasGelu", "FastGelu", "QuickGelu", "QLinearSigmoid", "QLinearMul", "HardSigmoid", "Relu", "Sigmoid", "Exp"}
        | {"Erf", "Clip", "Softplus", "Tanh"}
    ),
    RESIZING: frozenset({"Resize", "Upsample", "Interpolate"}),
    LAYOUT: frozenset(
        {"Transpose", "Reorder", "ReorderInput", "ReorderOutput", "Reshape", "Concat", "Concatenation", "Slice", "StridedSlice"}
        | {"Squeeze", "Unsqueeze", "Gather", "Split", "Expand", "Broadcast"}
    ),
    CONVERSION: frozenset({"QuantizeLinear", "DequantizeLinear", "FakeQuantize", "Quantize", "Dequantize", "Cast", "Convert"}),
}
_IN_DOUBT = (ATTENTION, NORM, ACTIVATION, RESIZING, GROUPED, CONVOLUTION, MATRIX, CONVERSION, LAYOUT)


def kind_of(name: str, operators: Collection[str]) -> str:
    """The kind of a layer, one of `KINDS`.

    Args:
        name: what the runtime calls this kind of layer.
        operators: types of the graph's nodes in it, see `LayerGroupMap.operators`; empty where not known.
    """
    found = next((kind for kind, names in _BY_NAME.items() if name in names), None)
    if found == CONVOLUTION and DEPTHWISE in operators:
        return GROUPED
    if found == MATRIX and PRODUCT_OF_TWO in operators:
        return ATTENTION
    if found is not None:
        return found
    kinds = {kind for kind, names in _BY_NAME.items() if any(operator in names for operator in operators)}
    return next((kind for kind in _IN_DOUBT if kind in kinds), REST)
