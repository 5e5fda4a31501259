"""Which combinations of runtime and precision are worth building here, and why others are not. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edge_mtl.backends import BACKENDS, Availability, BackendSpec, none_usable, spec_of
from edge_mtl.backends.selection import AUTO, check_known
from edge_mtl.backends.spec import DEPTHWISE
from edge_mtl.device import DeviceFingerprint
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.quantization.recipes import ReduceRange, Target
from edge_mtl.quantization.weights import weight_bits

__all__ = ["BUILDABLE", "DEPTHWISE", "BuildPrecision", "Candidate", "candidates", "target_of", "with_weight_bits"]

BuildPrecision = Literal["fp32", "bf16", "fp16", "int8"]
BUILDABLE: tuple[str, ...] = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A graph to build.

    Attributes:
        backend: what runs it.
        precision: what its layers compute in.
        float_blocks: which blocks stay in floating point besides the recipe's.
        plain: the bundle's reference ONNX, with pre- and post-processing in it, in place of the one rewritten for speed.
        weight_bits: of integer weights.
    """

    backend: str
    precision: str
    float_blocks: tuple[str, ...] = ()
    plain: bool = False
    weight_bits: int = 8

    @property
    def name(self) -> str:
        """For tables and messages."""
        return f"{self.precision} on {self.backend}{''.join(f', {trait}' for trait in self.traits)}"

    @property
    def traits(self) -> tuple[str, ...]:
        """What sets it apart from the usual graph of its precision, for people."""
        kept = (f"{' and '.join(self.float_blocks)} in floating point",) if self.float_blocks else ()
        kept = kept if self.weight_bits == 8 else (*kept, f"{self.weight_bits}-bit weights")
        return (*kept, "reference ONNX") if self.plain else kept


def candidates(
    precision: str, *, backend: str, available: Mapping[str, Availability], device: DeviceFingerprint
) -> tuple[Candidate, ...]:
    """Everything to try for `precision`, at least one; INT8 with the weights that are right on `device`.

    Args:
        precision: one of `BUILDABLE`, or "auto" for all that this machine computes in.
        backend: a name, or "auto" for every runtime that is here.
        available: from `edge_mtl.backends.available`.
    Raises:
        BuildError: an unknown precision, or one that neither the runtime nor the processor has; says what there is instead.
        BackendUnavailable: an unknown or missing runtime.
    """
    if precision not in (AUTO, *BUILDABLE):
        raise BuildError(f"Unknown precision {precision!r}. Choose {AUTO} or one of: {', '.join(BUILDABLE)}")
    check_known(backend)
    if backend != AUTO and not available[backend].usable:
        raise BackendUnavailable(available[backend].reason)
    specs = [BACKENDS[name] for name, found in available.items() if found.usable and backend in (AUTO, name)]
    if not specs:
        raise none_usable(available)
    found = tuple(dict.fromkeys(candidate for spec in specs for candidate in _of_runtime(spec, precision, device)))
    if found:
        return with_weight_bits(found, "auto", device)
    raise _nothing_to_build(specs, precision, available, device)


def _nothing_to_build(
    specs: Sequence[BackendSpec], precision: str, available: Mapping[str, Availability], device: DeviceFingerprint
) -> BuildError | BackendUnavailable:
    """Why none of the runtimes asked for builds `precision`, and which one does."""
    if all(spec.device != "cpu" for spec in specs):
        listed = "; ".join(f"{spec.name} builds {', '.join(spec.builds)}" for spec in specs)
        return BuildError(f"{listed}; {precision} was asked for. Choose one of those.")
    if not _in_hardware(precision, device):
        return BuildError(
            f"This processor does not compute in {precision} ({device.describe()}). "
            "Build another precision: edge-mtl build-engine --int8"
        )
    asked = " and ".join(spec.title for spec in specs if spec.device == "cpu")
    known = [BACKENDS[name] for name in available if name in BACKENDS]
    able = [spec for spec in known if spec.device == "cpu" and precision in spec.builds and spec not in specs]
    said = f"{asked} does not compute in {precision} on a CPU"
    here = next((spec for spec in able if available[spec.name].usable), None)
    if here is not None:
        return BuildError(
            f"{said}; {here.title} does. Run: edge-mtl build-engine --{precision} --backend {here.name}, or build --int8"
        )
    if able:
        return BackendUnavailable(f"{said}; {able[0].title} does. {available[able[0].name].reason} Or build --int8")
    return BuildError(f"{said}, and nothing else does. Build another precision: edge-mtl build-engine --int8")


def with_weight_bits(tried: Sequence[Candidate], mode: ReduceRange, device: DeviceFingerprint) -> tuple[Candidate, ...]:
    """`tried`, whatever bits their weights had, with those that a recipe wants.

    Args:
        mode: of the recipe; see `edge_mtl.quantization.weights.weight_bits`.
    """
    found: list[Candidate] = []
    for candidate in tried:
        if candidate.precision.startswith("int8") and spec_of(candidate.backend).device == "cpu":
            bits_here = weight_bits(mode, target_of(candidate.backend), device)
            found += [replace(candidate, weight_bits=bits) for bits in bits_here]
        else:
            found.append(candidate)
    return tuple(dict.fromkeys(found))


def target_of(backend: str) -> Target:
    """The Q/DQ style of a backend. Raises BuildError for one that no INT8 graphs are built for."""
    style = spec_of(backend).qdq
    if style is None:
        able = ", ".join(name for name, spec in BACKENDS.items() if spec.qdq is not None)
        raise BuildError(f"No INT8 graphs are built for {backend}. Choose one of: {able}")
    return style.name


def _of_runtime(spec: BackendSpec, precision: str, device: DeviceFingerprint) -> list[Candidate]:
    """What is built for a runtime where `precision` was asked for."""
    asked = (spec.tried_by_auto or tuple(spec.builds)) if precision == AUTO else (precision,)
    return [
        Candidate(spec.name, variant.precision, variant.float_blocks, variant.plain)
        for each in asked
        for variant in spec.builds.get(each, ())
        if spec.device != "cpu" or _in_hardware(variant.precision, device)
    ]


def _in_hardware(precision: str, device: DeviceFingerprint) -> bool:
    """Whether the processor has what floating-point layers compute in; "int8+bf16" is two precisions."""
    has = {"bf16": device.has_bf16, "fp16": device.has_fp16}
    return all(has.get(part, True) for part in precision.split("+"))
