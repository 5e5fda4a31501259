"""What this process holds, and whether it grew: memory, descriptors, threads and shared memory, sampled and judged."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from scipy.stats import theilslopes

__all__ = ["FRAME_RULES", "Rules", "Sample", "Slope", "judge", "sample", "slope"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What this process held after `done` frames or cycles.

    Attributes:
        rss, pss, uss: bytes that are resident, resident with what is shared divided among its users, and of this process only.
        shared: mappings and descriptors of this process in /dev/shm; other processes may come and go there meanwhile.
    """

    done: int
    rss: int
    pss: int
    uss: int
    descriptors: int
    threads: int
    shared: int

    def to_list(self) -> list[int]:
        """For JSON; `Sample(*values)` reads it."""
        return list(astuple(self))


@dataclass(frozen=True, slots=True)
class Rules:
    """What may grow, and by how much.

    Attributes:
        warm_up: frames or cycles at the start of a process that are not judged.
        growth_bytes, per: the most that memory may grow by, in so many frames or cycles.
        least_bytes: growth over the whole run that is noise of the allocator, whatever its slope.
    """

    warm_up: int
    growth_bytes: int
    per: int
    least_bytes: int = MIB


FRAME_RULES = Rules(warm_up=2_000, growth_bytes=2 * MIB, per=100_000)


@dataclass(frozen=True, slots=True)
class Slope:
    """Bytes per frame or cycle by Theil and Sen, with the ends of its interval of 95 %, and over how many."""

    bytes_each: float
    low: float
    high: float
    span: int

    def describe(self, per: int) -> str:
        """In MiB per so many."""
        middle, low, high = (value * per / MIB for value in (self.bytes_each, self.low, self.high))
        return f"{middle:+.2f} MiB per {per:,} (95 % interval {low:+.2f} to {high:+.2f})"


def sample(done: int) -> Sample:
    """Look at this process, at a moment when nothing runs in it."""
    fields: dict[str, int] = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) << 10
    links = [_target(number) for number in os.listdir("/proc/self/fd")]
    maps = Path("/proc/self/maps").read_text().splitlines()
    return Sample(
        done=done,
        rss=fields["Rss"],
        pss=fields["Pss"],
        uss=fields["Private_Clean"] + fields["Private_Dirty"],
        descriptors=sum(target != "" for target in links),
        threads=len(os.listdir("/proc/self/task")),
        shared=sum("/dev/shm/" in line for line in (*maps, *links)),
    )


def _target(number: str) -> str:
    """What a descriptor is open on; empty for the one that listed the descriptors, which is closed by now."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""


def slope(samples: Sequence[Sample], name: str) -> Slope:
    """How the attribute `name` went, robustly: half of the samples may be odd ones."""
    done = [each.done for each in samples]
    found = theilslopes([getattr(each, name) for each in samples], done)
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope), done[-1] - done[0])


def judge(samples: Sequence[Sample], rules: Rules, what: str) -> list[str]:
    """What grew in one process, a sentence each.

    Memory grew where the slope of what is resident is above what is allowed, its interval above nothing at all, and the sum
    above the allocator's noise; what is shared or alone depends on other processes. Counts grew where all of the last
    quarter are above all of the first.

    Args:
        samples: of one process, in order, those of its warm-up among them.
        what: "frames" or "cycles".
    """
    settled = [each for each in samples if each.done - samples[0].done >= rules.warm_up]
    if len(settled) < 8:
        return [f"only {len(settled)} samples after the warm-up of {rules.warm_up:,} {what}: nothing can be judged"]
    found = []
    grown = slope(settled, "rss")
    steep = grown.bytes_each * rules.per > rules.growth_bytes and grown.low > 0
    if steep and grown.bytes_each * grown.span > rules.least_bytes:
        allowed = f"at most {rules.growth_bytes / MIB:g} MiB are allowed"
        found.append(f"resident memory grows: {grown.describe(rules.per)} {what}, {allowed}")
    quarter = len(settled) // 4
    for name in ("descriptors", "threads", "shared"):
        first, last = ([getattr(each, name) for each in part] for part in (settled[:quarter], settled[-quarter:]))
        if min(last) > max(first):
            title = "entries in /dev/shm" if name == "shared" else name
            found.append(f"{title} grow: {statistics.median(first):g} at first, {statistics.median(last):g} in the end")
    return found
