"""What ONNX Runtime on a CUDA GPU is: where it is found, what is built for it.

The reference ONNX is timed beside the rewritten one, because compilers for GPUs know patterns that rewriting may hide, and
its maps are finished on the GPU. ONNX Runtime has few integer kernels on GPUs, so no INT8 is built.
"""

from __future__ import annotations

from edge_mtl.backends.spec import BackendSpec, BuildVariant

__all__ = ["SPEC"]

SPEC = BackendSpec(
    name="onnxruntime-cuda",
    title="ONNX Runtime on CUDA",
    module="edge_mtl.backends.onnxruntime_cuda.backend",
    packages={"onnxruntime": ("onnxruntime-gpu",)},
    member="InferenceSession",
    extra="gpu",
    device="cuda",
    needs_distribution=True,  # the same package serves the processor only
    unbuilt=("fp32", "tf32"),
    builds={
        "fp32": (BuildVariant("fp32"), BuildVariant("fp32", plain=True)),
        "fp16": (BuildVariant("fp16"), BuildVariant("fp16", plain=True)),
    },
    halves_in_graph=True,
)
