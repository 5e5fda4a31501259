"""What TensorRT and TensorRT for RTX are: where they are found, what is built for them.

INT8 is timed beside half and full precision: transformers in INT8 have run slower than in FP16, so that must show. The
reference ONNX is timed beside the rewritten one, because compilers for GPUs know patterns that rewriting may hide, and its
maps are finished on the GPU. Depthwise convolutions in INT8 made plans of TensorRT for RTX twice as large (see
docs/decisions/0010), so INT8 is tried without them, too.
"""

from __future__ import annotations

from edge_mtl.backends.spec import DEPTHWISE, BackendSpec, BuildVariant, QdqStyle

__all__ = ["SPEC"]

SPEC = BackendSpec(
    name="tensorrt",
    title="TensorRT",
    module="edge_mtl.backends.tensorrt.opening",
    packages={
        "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "tensorrt_rtx": ("tensorrt-rtx", "tensorrt_rtx"),
    },
    member="Runtime",
    extra="tensorrt",
    device="cuda",
    needs_binding=True,
    takes_graphs=False,
    unbuilt=(),
    builds={
        "fp32": (BuildVariant("fp32"), BuildVariant("fp32", plain=True)),
        "fp16": (BuildVariant("fp16"), BuildVariant("fp16", plain=True)),
        "int8": (
            BuildVariant("int8+fp16"),
            BuildVariant("int8+fp16", (DEPTHWISE,)),
            BuildVariant("fp16"),
            BuildVariant("fp16", plain=True),
            BuildVariant("fp32"),
        ),
    },
    halves_in_graph=True,
    qdq=QdqStyle("tensorrt", signed=True, float_weights=True, products=True, byte_sums="exact", recipe="tensorrt-int8"),
    profiler="edge_mtl.backends.tensorrt.profiling",
    converter="edge_mtl.builder.tensorrt.convert",
)
