"""Which device was asked for, and which backends run there. Knows names of devices; knows nothing about bundles or engines."""

from __future__ import annotations

from collections.abc import Mapping

from edge_mtl.backends import BACKENDS, Availability, spec_of
from edge_mtl.cuda.gpus import Gpu, gpus
from edge_mtl.errors import BackendUnavailable

__all__ = ["AUTO", "check_any", "check_known", "check_named", "on_kind", "parse_device", "resolve_gpu"]

AUTO = "auto"


def parse_device(device: str) -> tuple[str, int]:
    """Kind and index of a device: "auto", "cpu", "cuda" or "cuda:1". Raises BackendUnavailable for what is none."""
    kind, separator, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in (AUTO, "cpu", "cuda") or (separator and (kind != "cuda" or not number.isdecimal())):
        raise BackendUnavailable(f'device should be "auto", "cpu", "cuda" or "cuda:1"; found {device!r}')
    return kind, int(number) if separator else 0


def resolve_gpu(index: int) -> Gpu | None:
    """The GPU with that index; None for the first, which need not be there. Raises BackendUnavailable where others are not."""
    if index == 0:
        return None
    found = gpus()
    if index >= len(found):
        listed = "; ".join(f"cuda:{number} {gpu.describe()}" for number, gpu in enumerate(found)) or "none"
        raise BackendUnavailable(f"cuda:{index} was asked for; GPUs here: {listed}. Run: edge-mtl doctor")
    return found[index]


def on_kind(found: Mapping[str, Availability], kind: str) -> dict[str, Availability]:
    """`found`, where backends of another kind of device than `kind` are not usable; each says so."""
    if kind == AUTO:
        return dict(found)
    there = ", ".join(name for name in found if spec_of(name).device == kind)
    others = f"does not run on {kind}. Choose {AUTO} or one of: {there}"
    return {
        name: entry if spec_of(name).device == kind else Availability(False, "", f"{name} {others}", entry.extra)
        for name, entry in found.items()
    }


def check_known(backend: str) -> None:
    """Raises BackendUnavailable where a backend was named that does not exist, with what may be named."""
    if backend not in (AUTO, *BACKENDS):
        raise BackendUnavailable(f"Unknown backend {backend!r}. Choose {AUTO} or one of: {', '.join(BACKENDS)}")


def check_named(found: Mapping[str, Availability], backend: str) -> None:
    """Raises BackendUnavailable where a backend was named that does not exist or is not usable here."""
    if backend == AUTO:
        return
    check_known(backend)
    if not found[backend].usable:
        raise BackendUnavailable(found[backend].reason)


def check_any(found: Mapping[str, Availability], kind: str) -> None:
    """Raises BackendUnavailable where nothing runs on the kind of device asked for; says why, for each backend of it."""
    if kind != AUTO and not any(entry.usable for entry in found.values()):
        reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in found.items() if spec_of(name).device == kind)
        raise BackendUnavailable(f"Nothing here runs on {kind}. {reasons}")
