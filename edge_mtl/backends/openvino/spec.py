"""What OpenVINO on the processor is: where it is found, what is built for it."""

from __future__ import annotations

from edge_mtl.backends.spec import BackendSpec, BuildVariant, QdqStyle

__all__ = ["SPEC"]

SPEC = BackendSpec(
    name="openvino",
    title="OpenVINO",
    module="edge_mtl.backends.openvino.backend",
    packages={"openvino": ("openvino",)},
    member="Core",
    extra="openvino",
    builds={
        "fp32": (BuildVariant("fp32"),),
        "bf16": (BuildVariant("bf16"),),
        "fp16": (BuildVariant("fp16"),),
        "int8": (BuildVariant("int8"), BuildVariant("int8+bf16")),
    },
    # Half precision is left out: on CPUs that have it, bfloat16 was never slower and keeps the range of FP32.
    tried_by_auto=("fp32", "bf16", "int8"),
    # Its integer Gemm was no faster than its bfloat16 one (AMX) nor, at these sizes, than FP32.
    qdq=QdqStyle("openvino", op_types=("Conv",), byte_sums="saturate"),
    compiles=True,
    profiler="edge_mtl.backends.openvino.profiling",
)
