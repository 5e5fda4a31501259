"""Which sensors this machine has. Imports NVIDIA's library where it is installed; opens nothing else."""

from __future__ import annotations

from pathlib import Path

from edge_mtl.bench.sensors.hwmon import Hwmon
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.sensors.rapl import Rapl
from edge_mtl.bench.sensors.sources import Unavailable
from edge_mtl.errors import BackendUnavailable
from edge_mtl.packages import import_package

__all__ = ["Sensor", "energy_sources", "gpu"]

Sensor = Rapl | Hwmon | Nvml


def gpu(*, index: int = 0) -> Nvml | Unavailable:
    """The NVIDIA GPU, or why none can be asked."""
    try:
        library = import_package("pynvml", "nvmlInit", use="it is read by the package nvidia-ml-py", install="nvidia-ml-py")
    except BackendUnavailable as exc:
        return Unavailable("NVML", str(exc))
    return Nvml.find(library, index=index)


def energy_sources(
    *, root: Path = Path("/"), gpu_found: Nvml | Unavailable | None = None
) -> tuple[tuple[Sensor, ...], tuple[Unavailable, ...]]:
    """What tells power or energy here, and what does not and why.

    Args:
        root: where sys/ is; anything but "/" is for tests.
        gpu_found: from `gpu`; looked for when not given.
    """
    powercap, hwmon = root / "sys/class/powercap", root / "sys/class/hwmon"
    asked = (Rapl.find(powercap), Hwmon.find(hwmon), gpu() if gpu_found is None else gpu_found)
    found: list[Sensor] = []
    missing: list[Unavailable] = []
    for source in asked:
        if isinstance(source, Unavailable):
            missing.append(source)
        else:
            found.append(source)
    return tuple(found), tuple(missing)
