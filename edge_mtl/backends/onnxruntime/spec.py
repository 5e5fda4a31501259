"""What ONNX Runtime on the processor is: where it is found, what is built for it."""

from __future__ import annotations

from edge_mtl.backends.spec import BackendSpec, BuildVariant, QdqStyle

__all__ = ["SPEC"]

SPEC = BackendSpec(
    name="onnxruntime",
    title="ONNX Runtime",
    module="edge_mtl.backends.onnxruntime.backend",
    packages={"onnxruntime": ("onnxruntime", "onnxruntime-gpu")},
    member="InferenceSession",
    extra="cpu",
    shares_files=("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    builds={"fp32": (BuildVariant("fp32"),), "int8": (BuildVariant("int8"),)},
    # Its convolutions run in INT8 only between quantized tensors; without VNNI it can multiply in 16 bits.
    qdq=QdqStyle("onnxruntime", integer_bias=True, outputs=True, byte_sums="slower"),
    compiles=True,
    profiler="edge_mtl.backends.onnxruntime.profiling",
)
