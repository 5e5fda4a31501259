"""How a plan is to be built, under the names that users of trtexec know. Knows no library."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from edge_mtl.errors import BuildError

__all__ = ["PlanOptions", "PlanPrecision", "Shapes", "parse_options", "parse_shapes"]

PlanPrecision = Literal["fp32", "fp16", "int8", "int8+fp16"]
Typing = Literal["strong", "weak"]
HardwareCompatibility = Literal["none", "ampere+", "sameComputeCapability"]
Verbosity = Literal["none", "layer_names_only", "detailed"]
Shapes = Mapping[str, tuple[int, ...]]

_LEVELS = range(6)


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """One plan's options. Names follow trtexec's, in this package's spelling.

    Attributes:
        precision: what layers compute in; the graph must hold it. "int8" leaves the other layers in FP32.
        typing: "strong": as the graph says. "weak" lets the builder choose among the types of `precision`; TensorRT 10.3 only,
            whose strong typing is young.
        workspace_mib: --memPoolSize=workspace:N, scratch memory in MiB; by default from the device's free memory.
        timing_cache_file: --timingCacheFile; by default the user's cache, one file per library and GPU.
        builder_optimization_level: --builderOptimizationLevel, 0..5; the library's default when not given.
        hardware_compatibility_level: --hardwareCompatibilityLevel.
        version_compatible: --versionCompatible.
        exclude_lean_runtime: --excludeLeanRuntime.
        profiling_verbosity: --profilingVerbosity; "detailed" is what counts of layers per precision need.
        tf32: whether FP32 layers may use TF32 on GPUs that have it; --noTF32 is False.
        min_shapes, opt_shapes, max_shapes: --minShapes, ...; by input name, for inputs whose shape is not fixed.
        dla: --useDLACore; refused.
    """

    precision: PlanPrecision = "fp16"
    typing: Typing = "strong"
    workspace_mib: int | None = None
    timing_cache_file: Path | None = None
    builder_optimization_level: int | None = None
    hardware_compatibility_level: HardwareCompatibility = "none"
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    profiling_verbosity: Verbosity = "detailed"
    tf32: bool = True
    min_shapes: Shapes = field(default_factory=dict)
    opt_shapes: Shapes = field(default_factory=dict)
    max_shapes: Shapes = field(default_factory=dict)
    dla: int | None = None

    def __post_init__(self) -> None:
        """Raises BuildError naming the option, what was expected and what was found."""
        _one_of("precision", self.precision, get_args(PlanPrecision))
        _one_of("typing", self.typing, get_args(Typing))
        _one_of("hardwareCompatibilityLevel", self.hardware_compatibility_level, get_args(HardwareCompatibility))
        _one_of("profilingVerbosity", self.profiling_verbosity, get_args(Verbosity))
        level = self.builder_optimization_level
        if level is not None and level not in _LEVELS:
            raise BuildError(f"builderOptimizationLevel should be 0 to 5; found {level}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise BuildError(f"memPoolSize=workspace should be at least 1 MiB; found {self.workspace_mib}")
        if self.dla is not None:
            raise BuildError(
                f"DLA core {self.dla} was asked for, but this network does not run there: DLA has no LayerNorm and no MatMul "
                "of two activations, so every block of the transformer would go back to the GPU. Leave useDLACore out."
            )
        self._check_shapes()

    @property
    def quantized(self) -> bool:
        """Whether Q/DQ pairs are expected in the graph."""
        return self.precision.startswith("int8")

    @property
    def half(self) -> bool:
        """Whether float layers are expected in float16."""
        return self.precision in ("fp16", "int8+fp16")

    def key_values(self) -> dict[str, str | int | bool | None]:
        """What decides what the plan is, as plain values for an engine's key; caches and limits of memory are not in it."""
        shapes = {f"{kind}Shapes": _text(getattr(self, f"{kind}_shapes")) for kind in ("min", "opt", "max")}
        return {
            "typing": self.typing,
            "builderOptimizationLevel": self.builder_optimization_level,
            "hardwareCompatibilityLevel": self.hardware_compatibility_level,
            "versionCompatible": self.version_compatible,
            "excludeLeanRuntime": self.exclude_lean_runtime,
            "profilingVerbosity": self.profiling_verbosity,
            "tf32": self.tf32,
        } | {name: text for name, text in shapes.items() if text}

    def _check_shapes(self) -> None:
        names = [set(shapes) for shapes in (self.min_shapes, self.opt_shapes, self.max_shapes)]
        if not names[0] == names[1] == names[2]:
            raise BuildError("minShapes, optShapes and maxShapes should name the same inputs; found " + _lists(names))
        for name in self.opt_shapes:
            low, best, high = self.min_shapes[name], self.opt_shapes[name], self.max_shapes[name]
            ordered = len(low) == len(best) == len(high) and all(
                1 <= a <= b <= c for a, b, c in zip(low, best, high, strict=True)
            )
            if not ordered:
                raise BuildError(
                    f"Shapes of {name} should grow from min over opt to max; found {_side(low)}, {_side(best)}, {_side(high)}"
                )


def parse_options(given: Sequence[str]) -> PlanOptions:
    """Options as trtexec names them: "builderOptimizationLevel=5", "versionCompatible", "memPoolSize=workspace:512", ...

    Raises BuildError naming the option, what was expected and what was found.
    """
    values: dict[str, Any] = {}
    for text in given:
        name, _, value = text.strip().lstrip("-").partition("=")
        if name == "memPoolSize":
            name, _, value = value.partition(":")
        if name not in _NAMES:
            raise BuildError(f"--trt {text}: there is no such option. Known: {', '.join(sorted(_NAMES))}")
        attribute, read = _NAMES[name]
        try:
            values[attribute] = read(value)
        except ValueError as exc:
            raise BuildError(f"--trt {text}: {value!r} is not a value of {name}") from exc
    return PlanOptions(**values)


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Shapes as trtexec takes them: "image:1x3x288x384,other:4x8". Raises BuildError."""
    found = {}
    for part in filter(None, text.split(",")):
        matched = re.fullmatch(r"(.+):([0-9]+(?:x[0-9]+)*)", part.strip())
        if matched is None:
            raise BuildError(f"Shapes should look like image:1x3x288x384; found {part!r}")
        found[matched[1]] = tuple(int(side) for side in matched[2].split("x"))
    return found


def _switch(value: str) -> bool:
    if value.lower() not in ("", "true", "false"):
        raise ValueError(value)
    return value.lower() != "false"


def _workspace_mib(value: str) -> int:
    """MiB, as trtexec counts where no unit is given; "512M" and "2G" are taken too."""
    matched = re.fullmatch(r"([0-9]+)([MG]?)", value)
    if matched is None:
        raise ValueError(value)
    return int(matched[1]) * (1024 if matched[2] == "G" else 1)


_NAMES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "workspace": ("workspace_mib", _workspace_mib),
    "timingCacheFile": ("timing_cache_file", Path),
    "builderOptimizationLevel": ("builder_optimization_level", int),
    "hardwareCompatibilityLevel": ("hardware_compatibility_level", str),
    "versionCompatible": ("version_compatible", _switch),
    "excludeLeanRuntime": ("exclude_lean_runtime", _switch),
    "profilingVerbosity": ("profiling_verbosity", str),
    "noTF32": ("tf32", lambda value: not _switch(value)),
    "typing": ("typing", str),
    "minShapes": ("min_shapes", parse_shapes),
    "optShapes": ("opt_shapes", parse_shapes),
    "maxShapes": ("max_shapes", parse_shapes),
    "useDLACore": ("dla", int),
}


def _one_of(option: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise BuildError(f"{option} should be one of {', '.join(values)}; found {value!r}")


def _side(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)


def _text(shapes: Shapes) -> str:
    return ",".join(f"{name}:{_side(shape)}" for name, shape in sorted(shapes.items()))


def _lists(names: list[set[str]]) -> str:
    return "; ".join(", ".join(sorted(found)) or "none" for found in names)
