"""From an ONNX graph to a plan of TensorRT: parse, check, configure, build. Knows the library it is given, no bundles.

Needs no GPU with TensorRT for RTX; TensorRT itself builds on the GPU that the plan is for. What a version of the library
lacks is an error that names the option, never a build without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_mtl.backends.tensorrt.api import Heard, Library, check_plan, has, listening, logger_of, member
from edge_mtl.builder.tensorrt.contents import NetworkContents, check_precision, network_contents, plan_layers
from edge_mtl.builder.tensorrt.monitor import Phases, monitor_of
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.builder.tensorrt.timing_cache import attach, cache_file, keep
from edge_mtl.cuda.gpus import Gpu, free_memory, gpus
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.remedies import told

__all__ = ["PlanReport", "build_plan"]

_WEAK_VERSION = (10, 3)
_SHARE_DISCRETE, _SHARE_INTEGRATED = 0.8, 0.5
"""Of the free memory; an integrated GPU shares it with the rest of the system."""

_COMPATIBILITY = {"ampere+": "AMPERE_PLUS", "sameComputeCapability": "SAME_COMPUTE_CAPABILITY"}
_MOST_MESSAGES = 20


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan and what is known of it.

    Attributes:
        plan: its bytes.
        library: name and version of what made it.
        network: what the parser read.
        layers: of the finished plan, how many give which type; empty where no GPU is here to ask it.
        warnings: what the library and this builder remarked.
        seconds: from start to end.
    """

    plan: bytes
    library: str
    network: NetworkContents
    layers: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def describe(self) -> str:
        """One line for reports."""
        fused = ", ".join(f"{count} {kind}" for kind, count in sorted(self.layers.items()))
        return f"{self.network.describe()}" + (f"; after fusion: {fused}" if fused else "")


def build_plan(
    library: Library,
    onnx: bytes | Path,
    options: PlanOptions,
    *,
    cache_folder: Path | None = None,
    device: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PlanReport:
    """Build a plan.

    Args:
        library: from `edge_mtl.backends.tensorrt.api.find_library`.
        onnx: a graph that holds the precision of `options`; a path where its weights lie in files beside it.
        cache_folder: where timings are kept between builds; none are kept without it and without `timing_cache_file`.
        device: index of the GPU, for the limit of scratch memory.
        progress: called with units done and in all.
    Raises:
        BuildError: the graph does not hold the precision or cannot be parsed (every reason is listed), an option is not to
            be had with this library, or the build fails; says what the library said.
        BackendUnavailable: the library does not start: no driver, or no GPU that it knows.
    """
    start = time.monotonic()
    model = onnx if isinstance(onnx, bytes) else _read(onnx)
    check_precision(model, options, library=library, name=str(onnx) if isinstance(onnx, Path) else "the graph")
    here = gpus()
    gpu = here[device] if device < len(here) else None
    remarks: list[str] = []
    with listening(library) as heard:
        builder = _builder(library, heard)
        network = builder.create_network(_network_flags(library, options))
        _parse(library, network, onnx, heard)
        contents = network_contents(library, network)
        _check_network(contents, options)
        config = builder.create_builder_config()
        _configure(library, config, options, workspace=_workspace(options, gpu, device))
        _add_profile(builder, network, config, options)
        path = _timing_cache(library, options, cache_folder, gpu)
        cache, why = attach(config, path) if path is not None else (None, "")
        phases = Phases(progress or _silent)
        monitor = monitor_of(library, phases)
        config.progress_monitor = monitor
        plan = _run(library, builder, network, config, phases, heard)
        remarks += [text for text in (why, keep(cache, path) if path is not None else "") if text]
        layers = _layers(library, plan) if gpu is not None else {}
    warnings = tuple(dict.fromkeys([*remarks, *heard.warnings]))[:_MOST_MESSAGES]
    return PlanReport(plan, library.describe(), contents, layers, warnings, time.monotonic() - start)


def _silent(done: int, total: int) -> None:
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BuildError(f"{path} cannot be read {told(exc)}") from exc


def _builder(library: Library, heard: Heard) -> Any:
    try:
        return library.module.Builder(logger_of(library))
    except (TypeError, RuntimeError) as exc:  # the library made none: it found no driver or no GPU that it knows
        raise BackendUnavailable(
            f"{library.describe()} does not start here. {_advice(heard.errors)} Run: edge-mtl doctor, or nvidia-smi"
        ) from exc


def _network_flags(library: Library, options: PlanOptions) -> int:
    if options.typing == "weak":
        if library.rtx or library.version[:2] != _WEAK_VERSION:
            raise BuildError(
                f"typing=weak is for TensorRT 10.3 only; here is {library.describe()}, which takes types from the graph. "
                "Leave --trt typing=weak out."
            )
        return 0
    if not has(library, "NetworkDefinitionCreationFlag.STRONGLY_TYPED"):
        return 0  # a version that knows nothing else
    return 1 << int(member(library, "NetworkDefinitionCreationFlag", "STRONGLY_TYPED"))


def _parse(library: Library, network: Any, onnx: bytes | Path, heard: Heard) -> None:
    parser = library.module.OnnxParser(network, logger_of(library))
    parsed = parser.parse(onnx) if isinstance(onnx, bytes) else parser.parse_from_file(str(onnx))
    if parsed and parser.num_errors == 0:
        return
    errors = [_error(parser.get_error(index)) for index in range(parser.num_errors)] or heard.errors
    listed = "; ".join(dict.fromkeys(errors[:_MOST_MESSAGES])) or "it gave no reason"
    raise BuildError(f"{library.describe()} cannot read the graph, {len(errors)} errors: {listed}. Export the bundle again.")


def _error(error: Any) -> str:
    """One parser error with the node it is about."""
    name, operator = str(error.node_name() or ""), str(error.node_operator() or "")
    where = f"node {error.node()} ({operator} {name}): " if name or operator else ""
    return where + " ".join(str(error.desc()).split())


def _check_network(contents: NetworkContents, options: PlanOptions) -> None:
    if options.quantized and not (contents.quantize and contents.dequantize):
        raise BuildError(f"{options.precision} was asked for, but the parsed network has {contents.describe()}.")
    if options.half and options.typing == "strong" and not contents.computing.get("fp16"):
        raise BuildError(f"{options.precision} was asked for, but the parsed network has {contents.describe()}.")


def _configure(library: Library, config: Any, options: PlanOptions, *, workspace: int) -> None:
    if workspace:
        config.set_memory_pool_limit(member(library, "MemoryPoolType", "WORKSPACE"), workspace)
    if options.builder_optimization_level is not None:
        config.builder_optimization_level = options.builder_optimization_level
    verbosity = options.profiling_verbosity.upper()
    config.profiling_verbosity = member(library, "ProfilingVerbosity", verbosity, option=f"profilingVerbosity={verbosity}")
    level = _COMPATIBILITY.get(options.hardware_compatibility_level)
    if level is not None:
        asked = f"hardwareCompatibilityLevel={options.hardware_compatibility_level}"
        config.hardware_compatibility_level = member(library, "HardwareCompatibilityLevel", level, option=asked)
    for wanted, name, option in (
        (options.version_compatible, "VERSION_COMPATIBLE", "versionCompatible"),
        (options.exclude_lean_runtime, "EXCLUDE_LEAN_RUNTIME", "excludeLeanRuntime"),
    ):
        if wanted:
            config.set_flag(member(library, "BuilderFlag", name, option=option))
    if not options.tf32:
        config.clear_flag(member(library, "BuilderFlag", "TF32", option="noTF32"))
    if options.typing == "weak":
        for wanted, name in ((options.half, "FP16"), (options.quantized, "INT8")):
            if wanted:
                config.set_flag(member(library, "BuilderFlag", name, option=f"typing=weak with {options.precision}"))


def _workspace(options: PlanOptions, gpu: Gpu | None, device: int) -> int:
    """Bytes; 0 leaves it to the library."""
    if options.workspace_mib is not None:
        return options.workspace_mib << 20
    if gpu is None:
        return 0
    return int(free_memory(gpu, index=device) * (_SHARE_INTEGRATED if gpu.integrated else _SHARE_DISCRETE))


def _timing_cache(library: Library, options: PlanOptions, folder: Path | None, gpu: Gpu | None) -> Path | None:
    """TensorRT for RTX times kernels on the device that runs them, and takes no cache."""
    if library.rtx:
        return None
    return options.timing_cache_file or (cache_file(folder, library, gpu) if folder is not None else None)


def _add_profile(builder: Any, network: Any, config: Any, options: PlanOptions) -> None:
    inputs = {(tensor := network.get_input(index)).name: tuple(tensor.shape) for index in range(network.num_inputs)}
    unknown = sorted(set(options.opt_shapes) - set(inputs))
    if unknown:
        raise BuildError(f"The graph has no input {unknown[0]}; its inputs are {', '.join(inputs)}. Check optShapes.")
    open_shapes = [name for name, shape in inputs.items() if any(side < 0 for side in shape)]
    missing = [name for name in open_shapes if name not in options.opt_shapes]
    if missing:
        raise BuildError(
            f"The shape of input {missing[0]} is not fixed: {inputs[missing[0]]}. Give its minShapes, optShapes and maxShapes."
        )
    if not options.opt_shapes:
        return
    profile = builder.create_optimization_profile()
    for name, best in options.opt_shapes.items():
        _check_range(name, inputs[name], options)
        profile.set_shape(name, options.min_shapes[name], best, options.max_shapes[name])
    if config.add_optimization_profile(profile) < 0:
        raise BuildError("The library refused the shapes of minShapes, optShapes and maxShapes.")


def _check_range(name: str, shape: tuple[int, ...], options: PlanOptions) -> None:
    for option, asked in (("minShapes", options.min_shapes[name]), ("maxShapes", options.max_shapes[name])):
        fits = len(asked) == len(shape) and all(side in (-1, want) for side, want in zip(shape, asked, strict=True))
        if not fits:
            raise BuildError(f"{option} of {name} should fit {shape}, where -1 is free; found {asked}.")


def _run(library: Library, builder: Any, network: Any, config: Any, phases: Phases, heard: Heard) -> bytes:
    before = len(heard.errors)
    try:
        serialized = builder.build_serialized_network(network, config)
    except (RuntimeError, TypeError, ValueError, MemoryError) as exc:
        raise BuildError(f"{library.describe()} failed to build ({exc}). {_advice(heard.errors[before:])}") from exc
    if phases.failure is not None:
        raise phases.failure
    if serialized is None:
        raise BuildError(f"{library.describe()} built nothing. {_advice(heard.errors[before:])}")
    plan = bytes(serialized)
    check_plan(library, plan, source="What was built", remedy="Build it again.")
    return plan


def _advice(errors: list[str]) -> str:
    listed = "; ".join(dict.fromkeys(" ".join(text.split()) for text in errors[-_MOST_MESSAGES:])) or "It gave no reason"
    memory = any(word in listed.lower() for word in ("out of memory", "outofmemory", "insufficient memory"))
    hint = " Free some memory of the GPU, or limit it: --trt workspace=512." if memory else ""
    return f"It said: {listed}.{hint}"


def _layers(library: Library, plan: bytes) -> dict[str, int]:
    """Counts from the inspector; empty where the library cannot load the plan here."""
    runtime = library.module.Runtime(logger_of(library))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None or not has(library, "LayerInformationFormat.JSON"):
        return {}
    inspector = engine.create_engine_inspector()
    return plan_layers(inspector.get_engine_information(member(library, "LayerInformationFormat", "JSON")))
