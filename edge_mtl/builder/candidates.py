"""Which combinations of runtime and precision are worth building here, and why others are not. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edge_mtl.backends import DEVICES, Availability, none_usable
from edge_mtl.device import DeviceFingerprint
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.quantization.recipes import ReduceRange, Target
from edge_mtl.quantization.weights import weight_bits

__all__ = ["BUILDABLE", "DEPTHWISE", "BuildPrecision", "Candidate", "candidates", "target_of", "with_weight_bits"]

BuildPrecision = Literal["fp32", "bf16", "fp16", "int8"]
BUILDABLE: tuple[str, ...] = ("fp32", "bf16", "fp16", "int8")

AUTO = "auto"
_TRIED_BY_AUTO = ("fp32", "bf16", "int8")
"""Half precision is left out: on CPUs that have it, bfloat16 was never slower and keeps the range of FP32."""

DEPTHWISE = "depthwise convolutions"
"""Among a candidate's `float_blocks`: every convolution that looks at one channel at a time."""


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


_ON_GPU: Mapping[str, Mapping[str, tuple[Candidate, ...]]] = {
    "tensorrt": {
        "fp32": (Candidate("tensorrt", "fp32"), Candidate("tensorrt", "fp32", plain=True)),
        "fp16": (Candidate("tensorrt", "fp16"), Candidate("tensorrt", "fp16", plain=True)),
        "int8": (
            Candidate("tensorrt", "int8+fp16"),
            Candidate("tensorrt", "int8+fp16", (DEPTHWISE,)),
            Candidate("tensorrt", "fp16"),
            Candidate("tensorrt", "fp16", plain=True),
            Candidate("tensorrt", "fp32"),
        ),
    },
    "onnxruntime-cuda": {
        "fp32": (Candidate("onnxruntime-cuda", "fp32"), Candidate("onnxruntime-cuda", "fp32", plain=True)),
        "fp16": (Candidate("onnxruntime-cuda", "fp16"), Candidate("onnxruntime-cuda", "fp16", plain=True)),
    },
}
"""By what was asked for. INT8 is timed beside half and full precision: transformers in INT8 have run slower than in FP16, so
that must show. The reference ONNX is timed beside the rewritten one, because compilers for GPUs know patterns that rewriting
may hide, and its maps are finished on the GPU. Depthwise convolutions in INT8 made plans of TensorRT for RTX twice as large
(see docs/decisions/0010), so INT8 is tried without them, too. ONNX Runtime has few integer kernels on GPUs."""


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
    if backend != AUTO and backend not in available:
        raise BackendUnavailable(f"Unknown backend {backend!r}. Choose {AUTO} or one of: {', '.join(available)}")
    if backend != AUTO and not available[backend].usable:
        raise BackendUnavailable(available[backend].reason)
    names = [name for name, found in available.items() if found.usable and backend in (AUTO, name)]
    if not names:
        raise none_usable(available)
    found = tuple(candidate for name in names for candidate in _of_runtime(name, precision, device))
    if found:
        return with_weight_bits(found, "auto", device)
    if backend in _ON_GPU:
        raise BuildError(f"{backend} builds {', '.join(_ON_GPU[backend])}; {precision} was asked for. Choose one of those.")
    if not _in_hardware(precision, device):
        raise BuildError(
            f"This processor does not compute in {precision} ({device.describe()}). "
            "Build another precision: edge-mtl build-engine --int8"
        )
    if available["openvino"].usable:
        raise BuildError(
            f"ONNX Runtime does not compute in {precision} on a CPU; OpenVINO does. "
            f"Run: edge-mtl build-engine --{precision} --backend openvino, or build --int8"
        )
    raise BackendUnavailable(
        f"ONNX Runtime does not compute in {precision} on a CPU; OpenVINO does. {available['openvino'].reason} Or build --int8"
    )


def with_weight_bits(tried: Sequence[Candidate], mode: ReduceRange, device: DeviceFingerprint) -> tuple[Candidate, ...]:
    """`tried`, whatever bits their weights had, with those that a recipe wants.

    Args:
        mode: of the recipe; see `edge_mtl.quantization.weights.weight_bits`.
    """
    found: list[Candidate] = []
    for candidate in tried:
        if candidate.precision.startswith("int8") and DEVICES[candidate.backend] == "cpu":
            bits_here = weight_bits(mode, target_of(candidate.backend), device)
            found += [replace(candidate, weight_bits=bits) for bits in bits_here]
        else:
            found.append(candidate)
    return tuple(dict.fromkeys(found))


def target_of(backend: str) -> Target:
    """Whose emission the integers of a backend are written for."""
    targets: Mapping[str, Target] = {"openvino": "openvino", "tensorrt": "tensorrt"}
    return targets.get(backend, "onnxruntime")


def _of_runtime(backend: str, precision: str, device: DeviceFingerprint) -> list[Candidate]:
    """What a runtime builds for the precision asked for, each once."""
    on_gpu = _ON_GPU.get(backend)
    if on_gpu is not None:
        found = [candidate for each in (on_gpu if precision == AUTO else (precision,)) for candidate in on_gpu.get(each, ())]
    else:
        found = [
            Candidate(backend, kind)
            for each in (_TRIED_BY_AUTO if precision == AUTO else (precision,))
            for kind in _precisions(backend, each, device)
        ]
    return list(dict.fromkeys(found))


def _precisions(backend: str, precision: str, device: DeviceFingerprint) -> tuple[str, ...]:
    if backend == "onnxruntime":
        return (precision,) if precision in ("fp32", "int8") else ()
    if precision == "int8":
        return ("int8", "int8+bf16") if device.has_bf16 else ("int8",)
    return (precision,) if _in_hardware(precision, device) else ()


def _in_hardware(precision: str, device: DeviceFingerprint) -> bool:
    return {"bf16": device.has_bf16, "fp16": device.has_fp16}.get(precision, True)
