"""The sidecar of a built engine: what it is, where and from what it was made, how well it did. Knows nothing about folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_mtl.backends import spec_of
from edge_mtl.cuda.gpus import Gpu
from edge_mtl.device import DeviceFingerprint
from edge_mtl.documents import finite_json
from edge_mtl.errors import BackendUnavailable, BundleError
from edge_mtl.files import sha256_bytes
from edge_mtl.numbers import is_number

__all__ = ["EngineRecord", "engine_file", "engine_key"]

_FORMAT_VERSION = 1
_KEY = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_DIGITS = 12

Option = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """One built engine.

    Attributes:
        key: 32 hexadecimal digits over everything that decides whether it is valid; also the stem of its files.
        precision: "fp32", "bf16", "fp16", "int8", "int8+bf16" or "int8+fp16": what `open_backend` is given.
        backend, runtime_version: what it was built and timed with.
        device: the machine it was built on.
        graph_sha256: of the bundle's optimized ONNX that it was made from.
        file: name of its graph or plan in the store: the key and the start of the content's digest, so that a new one
            never takes the place of one that a sidecar describes.
        sha256, size: of that file.
        options: what else it was built with: threads, recipe, digest of the calibration frames, ...
        build_seconds: time from start to the stored engine, all candidates included.
        latency_ms: median of a whole frame, image to maps.
        baseline_latency_ms: the same for plain FP32 in ONNX Runtime, measured interleaved with it.
        ratio: how many times faster than that, round by round.
        self_test: passed, and the differences found; see `edge_mtl.evaluation.self_test`.
        agreement: with FP32 on the evaluation frames, by head.
        accuracy: on the labelled evaluation frames: {"fp32": {...}, "this": {...}}.
        created: seconds since 1970.
        gpu: that it was built for; None for engines of processors.
        contents: what is in it, one line for reports.
    """

    key: str
    precision: str
    backend: str
    runtime_version: str
    device: DeviceFingerprint
    graph_sha256: str
    file: str
    sha256: str
    size: int
    options: Mapping[str, Option] = field(default_factory=dict)
    build_seconds: float = 0.0
    latency_ms: float = 0.0
    baseline_latency_ms: float = 0.0
    ratio: float = 0.0
    self_test: Mapping[str, Any] = field(default_factory=dict)
    agreement: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    gpu: Gpu | None = None
    contents: str = ""

    @property
    def plan(self) -> bool:
        """Whether the engine is a plan: a program rather than a graph."""
        return not spec_of(self.backend).takes_graphs

    @property
    def passed_self_test(self) -> bool:
        """Whether it agreed with the FP32 reference when it was built."""
        return self.self_test.get("passed") is True

    def to_json(self) -> bytes:
        """The sidecar as it is stored."""
        content = {"format_version": _FORMAT_VERSION, **asdict(self), "device": self.device.to_dict()}
        if self.gpu is None:
            del content["gpu"]
        return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, payload: bytes, *, source: str) -> EngineRecord:
        """Parse and check. Raises BundleError naming `source`."""
        try:
            return _record(finite_json(payload))
        except BackendUnavailable as exc:
            raise BundleError(f"{source} describes an engine for a runtime that is not known here. {exc}") from exc
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            what = f"key {exc} is missing" if isinstance(exc, KeyError) else str(exc)
            raise BundleError(
                f"{source} is not a valid engine description: {what}. Delete it and build the engine again."
            ) from exc


def engine_key(
    *,
    backend: str,
    runtime_version: str,
    device: DeviceFingerprint,
    precision: str,
    graph_sha256: str,
    options: Mapping[str, Option],
    gpu: Gpu | None = None,
) -> str:
    """32 hexadecimal digits over everything that decides whether an engine is valid."""
    content = [backend, runtime_version, device.key, precision, graph_sha256, sorted(options.items())]
    if gpu is not None:
        content.append([gpu.name, gpu.compute_capability, gpu.driver])
    return sha256_bytes(json.dumps(content, allow_nan=False).encode())[:32]


def engine_file(key: str, sha256: str, backend: str) -> str:
    """Name of an engine's graph or plan in the store. Raises BackendUnavailable for an unknown backend."""
    return f"{key}.{sha256[:_FILE_DIGITS]}.{'onnx' if spec_of(backend).takes_graphs else 'plan'}"


def _record(content: Any) -> EngineRecord:
    if not isinstance(content, dict) or content.get("format_version") != _FORMAT_VERSION:
        raise ValueError(f"format_version {_FORMAT_VERSION} was expected")
    key, digest, size = content["key"], content["sha256"], content["size"]
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError(f"key should be 32 hexadecimal digits; found {str(key)[:40]!r}")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise ValueError("sha256 and size should describe the engine's file")
    backend = str(content["backend"])
    if content["file"] != engine_file(key, digest, backend):
        raise ValueError(f"file should be {engine_file(key, digest, backend)}; found {str(content['file'])[:80]!r}")
    options = content["options"]
    if not all(isinstance(value, (str, int, float, bool, type(None))) for value in options.values()):
        raise ValueError("options should be plain values")
    record = EngineRecord(
        key=key,
        precision=str(content["precision"]),
        backend=backend,
        runtime_version=str(content["runtime_version"]),
        device=DeviceFingerprint.from_dict(content["device"]),
        graph_sha256=str(content["graph_sha256"]),
        file=content["file"],
        sha256=digest,
        size=size,
        options=dict(options),
        build_seconds=_number(content, "build_seconds"),
        latency_ms=_number(content, "latency_ms"),
        baseline_latency_ms=_number(content, "baseline_latency_ms"),
        ratio=_number(content, "ratio"),
        self_test=dict(content["self_test"]),
        agreement=dict(content["agreement"]),
        accuracy=dict(content["accuracy"]),
        created=_number(content, "created"),
        gpu=Gpu.from_dict(content["gpu"]) if content.get("gpu") is not None else None,
        contents=str(content.get("contents", "")),
    )
    if record.plan and _key_of(record) != key:
        raise ValueError("it was altered: the key does not fit the rest")
    return record


def _number(content: Mapping[str, Any], name: str) -> float:
    value = content[name]
    if not is_number(value):
        raise ValueError(f"{name} should be a number; found {str(value)[:40]!r}")
    return float(value)


def _key_of(record: EngineRecord) -> str:
    return engine_key(
        backend=record.backend,
        runtime_version=record.runtime_version,
        device=record.device,
        precision=record.precision,
        graph_sha256=record.graph_sha256,
        options=record.options,
        gpu=record.gpu,
    )
