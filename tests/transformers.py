"""A tiny transformer block as an ONNX graph: attention, LayerNorm, softmax, GELU, residual sums, named as real ones are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, STRIDE, CHANNELS, HIDDEN = 64, 96, 4, 8, 16


def transformer_block(seed: int = 5) -> bytes:
    """float32 (1, 3, 64, 96) planes of 0..255 -> normals_quarter (1, 3, 16, 24): one block of a hierarchical transformer."""
    random = np.random.default_rng(seed)
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    first = "network.backbone.blocks.0.0"
    shapes = {
        "network.backbone.embeddings.0.proj": ((CHANNELS, 3, STRIDE, STRIDE), 0.3 / 255),
        f"{first}.attention.query": ((CHANNELS, CHANNELS), 0.4),
        f"{first}.attention.key": ((CHANNELS, CHANNELS), 0.4),
        f"{first}.attention.value": ((CHANNELS, CHANNELS), 0.4),
        f"{first}.attention.project": ((CHANNELS, CHANNELS), 0.4),
        f"{first}.mlp.expand": ((HIDDEN, CHANNELS, 1, 1), 0.4),
        f"{first}.mlp.depthwise": ((HIDDEN, 1, 3, 3), 0.4),
        f"{first}.mlp.shrink": ((CHANNELS, HIDDEN, 1, 1), 0.3),
        "network.decoder.branches.normals.refine": ((CHANNELS, CHANNELS, 1, 1), 0.4),
        "network.decoder.branches.normals.output": ((3, CHANNELS, 1, 1), 0.4),
    }
    constants: dict[str, np.ndarray] = {
        "pixels": np.array([-1, CHANNELS], np.int64),
        "map": np.array([1, rows, columns, CHANNELS], np.int64),
    }
    for name, (shape, spread) in shapes.items():
        # Channels of very different reach, as trained networks have them: what equalization is for.
        reach = np.exp(random.normal(0, 0.7, (shape[0],) + (1,) * (len(shape) - 1)))
        constants[f"{name}.weight"] = (random.normal(0, spread, shape) * reach).astype(np.float32)
        constants[f"{name}.bias"] = random.normal(0, 0.1, shape[0]).astype(np.float32)
    for name in ("norm1", "norm2"):
        constants[f"{first}.{name}.weight"] = np.exp(random.normal(0, 1.0, CHANNELS)).astype(np.float32)
        constants[f"{first}.{name}.bias"] = random.normal(0, 0.2, CHANNELS).astype(np.float32)
    node = helper.make_node

    def layer(kind: str, name: str, source: str, result: str, **attributes: object) -> onnx.NodeProto:
        return node(kind, [source, f"{name}.weight", f"{name}.bias"], [result], name=f"node_{result}", **attributes)

    nodes = [
        layer("Conv", "network.backbone.embeddings.0.proj", "image", "stem", strides=[4, 4], kernel_shape=[4, 4]),
        node("Transpose", ["stem"], ["stem_last"], perm=[0, 2, 3, 1]),
        node("Reshape", ["stem_last", "pixels"], ["tokens"]),
        layer("LayerNormalization", f"{first}.norm1", "tokens", "normed", axis=-1),
        layer("Gemm", f"{first}.attention.query", "normed", "query", transB=1),
        layer("Gemm", f"{first}.attention.key", "normed", "key", transB=1),
        layer("Gemm", f"{first}.attention.value", "normed", "value", transB=1),
        node("Transpose", ["key"], ["key_last"], perm=[1, 0]),
        node("MatMul", ["query", "key_last"], ["scores"], name="scores"),
        node("Softmax", ["scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "value"], ["mixed"], name="mixed"),
        layer("Gemm", f"{first}.attention.project", "mixed", "projected", transB=1),
        node("Add", ["tokens", "projected"], ["attended"], name="residual1"),
        layer("LayerNormalization", f"{first}.norm2", "attended", "normed2", axis=-1),
        node("Reshape", ["normed2", "map"], ["normed2_map"]),
        node("Transpose", ["normed2_map"], ["normed2_first"], perm=[0, 3, 1, 2]),
        layer("Conv", f"{first}.mlp.expand", "normed2_first", "expanded"),
        layer("Conv", f"{first}.mlp.depthwise", "expanded", "spread", group=HIDDEN, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Gelu", ["spread"], ["gelu"]),
        layer("Conv", f"{first}.mlp.shrink", "gelu", "shrunk"),
        node("Transpose", ["shrunk"], ["shrunk_last"], perm=[0, 2, 3, 1]),
        node("Reshape", ["shrunk_last", "pixels"], ["shrunk_tokens"]),
        node("Add", ["attended", "shrunk_tokens"], ["block"], name="residual2"),
        node("Reshape", ["block", "map"], ["block_map"]),
        node("Transpose", ["block_map"], ["features"], perm=[0, 3, 1, 2]),
        layer("Conv", "network.decoder.branches.normals.refine", "features", "refined_raw"),
        node("Relu", ["refined_raw"], ["refined"]),
        layer("Conv", "network.decoder.branches.normals.output", "refined", "normals_quarter"),
    ]
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("normals_quarter", TensorProto.FLOAT, [1, 3, rows, columns])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
