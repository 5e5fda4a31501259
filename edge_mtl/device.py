"""What this machine is: processor, instruction sets, usable cores, memory. Knows nothing about runtimes or engines.

Cheap: a few small files under /proc and /sys are read, nothing is started. `EDGE_MTL_DISABLE_CPU_FEATURES` takes instruction
sets away from what is reported, as NumPy's variable of that kind does: to see here what is built on a lesser processor, and
for tests of what is done without them. Runtimes choose their kernels by themselves all the same.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_mtl.control_groups import cpu_quota, memory_limit
from edge_mtl.files import sha256_bytes

__all__ = ["DISABLED_FEATURES", "DeviceFingerprint", "fingerprint"]

DISABLED_FEATURES = "EDGE_MTL_DISABLE_CPU_FEATURES"
"""Environment variable: names of instruction sets to do without, as /proc/cpuinfo spells them, between spaces or commas."""

_X86_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
_ARM_FLAGS = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2")


@dataclass(frozen=True, slots=True)
class DeviceFingerprint:
    """One machine, as far as engines care.

    Attributes:
        architecture: "x86_64", "aarch64", ...
        cpu_model: as the processor names itself; "" where the system does not say.
        isa: instruction sets that change which kernels run, in a fixed order.
        cores: processors this process may use (affinity and container quota), at least 1.
        memory_bytes: what this process may use (machine and container limit), 0 where unknown.
        system: "Linux", "Darwin", ...
        python: version of the interpreter, for reports.
    """

    architecture: str
    cpu_model: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    system: str
    python: str

    @property
    def key(self) -> str:
        """16 hexadecimal digits over what decides whether an engine built here is valid and was timed for this processor.

        Cores, memory and Python are left out: they change how fast an engine is, not whether it is right.
        """
        text = "\n".join((self.architecture, self.cpu_model, ",".join(self.isa), self.system))
        return sha256_bytes(text.encode())[:16]

    @property
    def has_vnni(self) -> bool:
        """Whether products of unsigned and signed bytes add up in 32 bits (VNNI, AMX, or ARM's dot product).

        Without, x86 processors add two of them in 16 bits (VPMADDUBSW), where large weights saturate.
        """
        return any(flag in self.isa for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"))

    @property
    def has_bf16(self) -> bool:
        """Whether the processor multiplies bfloat16 in hardware."""
        return any(flag in self.isa for flag in ("avx512_bf16", "amx_bf16", "bf16"))

    @property
    def has_fp16(self) -> bool:
        """Whether the processor computes with half precision in hardware."""
        return any(flag in self.isa for flag in ("avx512_fp16", "asimdhp"))

    def describe(self) -> str:
        """One line for people."""
        memory = f", {self.memory_bytes / 2**30:.0f} GiB" if self.memory_bytes else ""
        sets = f" ({', '.join(self.isa)})" if self.isa else ""
        return f"{self.cpu_model or self.architecture}, {self.cores} cores{memory}{sets}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "isa": list(self.isa)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeviceFingerprint:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError on anything else."""
        return cls(
            architecture=str(values["architecture"]),
            cpu_model=str(values["cpu_model"]),
            isa=tuple(str(flag) for flag in values["isa"]),
            cores=int(values["cores"]),
            memory_bytes=int(values["memory_bytes"]),
            system=str(values["system"]),
            python=str(values["python"]),
        )


def fingerprint(*, root: Path = Path("/")) -> DeviceFingerprint:
    """Describe this machine.

    Args:
        root: where proc/ and sys/ are; anything but "/" is for tests.
    """
    architecture = platform.machine()
    entries = _cpuinfo(_text(root / "proc/cpuinfo"))
    flags = set((entries.get("flags") or entries.get("features") or "").split())
    flags -= set(os.environ.get(DISABLED_FEATURES, "").replace(",", " ").split())
    known = _ARM_FLAGS if "features" in entries else _X86_FLAGS
    return DeviceFingerprint(
        architecture=architecture,
        cpu_model=entries.get("model name") or _arm_model(entries) or platform.processor(),
        isa=tuple(flag for flag in known if flag in flags),
        cores=_cores(root),
        memory_bytes=_memory(root),
        system=platform.system(),
        python=platform.python_version(),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _cpuinfo(text: str) -> dict[str, str]:
    """The first value of every key, keys in lower case."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            entries.setdefault(key.strip().lower(), value.strip())
    return entries


def _arm_model(entries: Mapping[str, str]) -> str:
    implementer, part = entries.get("cpu implementer"), entries.get("cpu part")
    return f"ARM implementer {implementer} part {part}" if implementer and part else ""


def _cores(root: Path) -> int:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, cpu_quota(root) or affinity))


def _memory(root: Path) -> int:
    total = _cpuinfo(_text(root / "proc/meminfo")).get("memtotal", "0 kB").split()
    limits = [int(total[0]) * 1024] if total and total[0].isdigit() else []
    limits += [limit] if (limit := memory_limit(root)) is not None else []
    return min((limit for limit in limits if limit > 0), default=0)
