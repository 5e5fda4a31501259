"""One runtime as one value: where it is found, what opens it, what is built for it. Imports no runtime.

A runtime that is to be used everywhere (Engine, build-engine, benchmark, doctor, profile) has a `BackendSpec` in the
registry and the modules that it names, which are imported when they are needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["DEPTHWISE", "PRECISIONS", "BackendSpec", "BuildVariant", "ByteSums", "DeviceKind", "Precision", "QdqStyle"]

Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8", "int8+bf16", "int8+fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
DeviceKind = Literal["cpu", "cuda"]
ByteSums = Literal["exact", "slower", "saturate"]

DEPTHWISE = "depthwise convolutions"
"""Among the `float_blocks` of a variant: every convolution that looks at one channel at a time."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_RESERVED = "auto"


@dataclass(frozen=True, slots=True)
class QdqStyle:
    """How a runtime wants the Q/DQ nodes of an INT8 graph: what recipes call a target.

    Attributes:
        name: that recipes have among their targets. Runtimes may share a style.
        signed: activations are int8 around zero, else uint8 over the whole range.
        integer_bias: biases become integers too.
        float_weights: weights stay float with Q and DQ nodes behind them, else they are stored as integers.
        outputs: outputs of convolutions and of the element-wise operators between them are quantized, and GELU runs on bytes;
            else only what layers read.
        products: attention's products of two activations run in INT8 where the recipe says so.
        op_types: the kinds of layers that may run in INT8.
        byte_sums: without VNNI, sums of products of bytes are "exact" all the same, exact with 8-bit weights but "slower"
            than with 7 bits, or they "saturate" with weights of 8 bits.
        recipe: name of the package's recipe for this style, for recipes that do not name it; "" where such a recipe makes no
            graphs of this style.
    """

    name: str
    signed: bool = False
    integer_bias: bool = False
    float_weights: bool = False
    outputs: bool = False
    products: bool = False
    op_types: tuple[str, ...] = ("Conv", "Gemm", "MatMul")
    byte_sums: ByteSums = "saturate"
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class BuildVariant:
    """One graph to try where a precision was asked for.

    Attributes:
        precision: what its layers compute in.
        float_blocks: which blocks stay in floating point besides the recipe's.
        plain: the reference ONNX, with pre- and post-processing in it, in place of the one rewritten for speed.
    """

    precision: Precision
    float_blocks: tuple[str, ...] = ()
    plain: bool = False


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """Everything that the package has to be told about a runtime.

    Attributes:
        name: what users call it by.
        title: its name in sentences.
        module: Python module with `open_graph(model: bytes, options: OpenOptions) -> Backend`, and with
            `compile_graph(model: bytes, *, precision: str) -> CompiledGraph | None` where `compiles` is set. It may import the
            runtime.
        packages: Python modules that it is found by, any of which will do, each with the distributions that install it, for
            the version.
        member: that every one of `packages` must have; those of a package that is broken may import without it.
        extra: of edge-mtl, that installs it.
        requirement: what pip installs it by; that extra when not given.
        device: what it runs on.
        needs_distribution: a package without a known distribution is not this runtime, but a variant for another device.
        needs_binding: it needs one of `edge_mtl.cuda.BINDINGS`.
        shares_files: distributions that overwrite each other's files when they are installed together.
        takes_graphs: it runs an ONNX graph, which is data; else a plan that `converter` makes of one, which is a program.
        unbuilt: precisions in which it runs a bundle's own graph, without an engine.
        builds: what is tried, by the precision asked for ("fp32", "bf16", "fp16", "int8"). On a processor, variants in bf16
            and fp16 only where it computes in them.
        tried_by_auto: which of those "auto" tries; all when empty.
        halves_in_graph: fp16 is written into the graph; else the runtime takes it as an option.
        qdq: how it wants INT8 graphs; None where none are built for it.
        compiles: it gives away what it makes of a graph, to be loaded in its place.
        profiler: Python module with `profile(model, *, precision, threads, runs, device) -> LayerProfile`, see
            `edge_mtl.backends.profiling`; "" without one.
        converter: Python module that makes plans, see `edge_mtl.builder.converters`; "" for runtimes that take graphs.
        problem: why it cannot be used whatever is installed; of a plug-in that does not load.
    Raises:
        ValueError: the parts do not fit together; says which.
    """

    name: str
    title: str
    module: str
    packages: Mapping[str, tuple[str, ...]]
    member: str
    extra: str = ""
    requirement: str = ""
    device: DeviceKind = "cpu"
    needs_distribution: bool = False
    needs_binding: bool = False
    shares_files: tuple[str, ...] = ()
    takes_graphs: bool = True
    unbuilt: tuple[Precision, ...] = ("fp32",)
    builds: Mapping[str, tuple[BuildVariant, ...]] = field(default_factory=dict)
    tried_by_auto: tuple[str, ...] = ()
    halves_in_graph: bool = False
    qdq: QdqStyle | None = None
    compiles: bool = False
    profiler: str = ""
    converter: str = ""
    problem: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == _RESERVED:
            raise ValueError(
                f"name should be lower-case letters, digits, - and _, and not {_RESERVED!r}; found {str(self.name)[:40]!r}"
            )
        if self.device not in get_args(DeviceKind):
            raise ValueError(f"{self.name}: device should be one of {', '.join(get_args(DeviceKind))}; found {self.device!r}")
        if self.takes_graphs == bool(self.converter):
            raise ValueError(f"{self.name}: a runtime takes graphs or has a converter that makes plans, one of the two")
        if self.unbuilt and not self.takes_graphs:
            raise ValueError(f"{self.name}: unbuilt should be empty for a runtime that takes no graphs; found {self.unbuilt}")
        precisions = [*self.unbuilt, *(variant.precision for variants in self.builds.values() for variant in variants)]
        if unknown := [precision for precision in precisions if precision not in PRECISIONS]:
            raise ValueError(f"{self.name}: precisions should be some of {', '.join(PRECISIONS)}; found {unknown[0]!r}")
        if self.qdq is None and any(precision.startswith("int8") for precision in precisions):
            raise ValueError(f"{self.name}: qdq should say how INT8 graphs are written, or builds should have none of them")
        if missing := [name for name in self.tried_by_auto if name not in self.builds]:
            raise ValueError(f"{self.name}: tried_by_auto should be some of builds; found {missing[0]!r}")

    @property
    def install(self) -> str:
        """The command that installs it."""
        requirement = self.requirement or f"edge-mtl[{self.extra}]"
        return f'pip install "{requirement}"'
