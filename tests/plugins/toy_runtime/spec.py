"""A runtime from outside the package: what it is."""

from __future__ import annotations

from edge_mtl.backends import BackendSpec, BuildVariant, QdqStyle

SPEC = BackendSpec(
    name="toy",
    title="Toy",
    module="toy_runtime.backend",
    packages={"onnx": ("onnx",)},
    member="ModelProto",
    requirement="toy-runtime",
    builds={"fp32": (BuildVariant("fp32"),), "int8": (BuildVariant("int8"),)},
    qdq=QdqStyle("toy", byte_sums="exact"),
    profiler="toy_runtime.backend",
)
