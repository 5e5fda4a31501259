"""Whether an engine may run on this machine, and if not, why: a pure function of what was recorded and what is here.

Engines of processors depend on graph, machine and runtime version. Those of GPUs depend on the GPU, its driver and the
library instead of the processor; options of TensorRT that make plans portable widen what fits.
"""

from __future__ import annotations

import re

from edge_mtl.cuda.gpus import Gpu
from edge_mtl.device import DeviceFingerprint
from edge_mtl.engine_store.sidecars import EngineRecord

__all__ = ["why_stale"]

_AMPERE = (8, 0)


def why_stale(
    record: EngineRecord, *, graph_sha256: str | None, device: DeviceFingerprint, version: str | None, gpu: Gpu | None
) -> str | None:
    """A sentence, None if the engine fits.

    Args:
        graph_sha256: of the bundle's optimized ONNX; None where it has none.
        version: of the record's runtime here; None if that cannot be used here, which is not a mismatch.
        gpu: the one that engines would run on; None without one.
    """
    if graph_sha256 is None or graph_sha256 != record.graph_sha256:
        return "it was built from another version of this bundle's graph"
    if record.gpu is None:
        if record.device.key != device.key:
            return f"it was built on {record.device.describe()}; this device is {device.describe()}"
        if version is not None and version != record.runtime_version:
            return f"it was built with {record.backend} {record.runtime_version}; this device has {version}"
        return None
    if (record.device.architecture, record.device.system) != (device.architecture, device.system):
        there = f"{record.device.system} {record.device.architecture}"
        return f"it was built on {there}; this is {device.system} {device.architecture}"
    if version is None:
        return None
    if not _version_fits(record, version):
        return f"it was built with {record.backend} {record.runtime_version}; this device has {version}"
    if gpu is None:
        return f"it was built on {record.gpu.describe()}; no GPU is here"
    if not _gpu_fits(record, record.gpu, gpu):
        return f"it was built on {record.gpu.describe()}; this device has {gpu.describe()}"
    if gpu.driver != record.gpu.driver:
        return f"it was built with a driver for CUDA {record.gpu.driver}; this device has one for CUDA {gpu.driver}"
    return None


def _version_fits(record: EngineRecord, version: str) -> bool:
    """A version-compatible plan runs with the library that built it and later ones of the same major version."""
    if version == record.runtime_version:
        return True
    built, here = _numbers(record.runtime_version), _numbers(version)
    return record.options.get("versionCompatible") is True and built[:1] == here[:1] and here >= built


def _gpu_fits(record: EngineRecord, built: Gpu, here: Gpu) -> bool:
    level = record.options.get("hardwareCompatibilityLevel")
    if level == "ampere+" and not here.integrated:
        return _numbers(here.compute_capability) >= _AMPERE
    if built.compute_capability != here.compute_capability:
        return False
    return level == "sameComputeCapability" or built.name == here.name


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
