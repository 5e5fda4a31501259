"""Energy per frame: blocks of frames without a pause, interleaved, and what the sensors counted during each.

A sensor cannot tell who used the energy: what is measured is the device, above what it uses when idle and as a whole.
Latency is measured elsewhere, so that reading sensors disturbs no clock. Knows sensors and clocks; knows no engines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_mtl.bench.sensors.find import Sensor
from edge_mtl.bench.sensors.hwmon import Hwmon
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.sensors.sources import EnergySource, PowerSource
from edge_mtl.bench.statistics import Interval, median_interval

__all__ = ["EnergyRow", "Integrator", "counter_of", "measure_energy"]

_SAMPLING_S = 0.02


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """What one sensor counted for one callable.

    Attributes:
        source, covers: the sensor, and what part of the machine it measures.
        joules: per frame, of all that the sensor covers: median over blocks with its 95 % interval.
        above_idle_joules: per frame, what idling for as long would not have used.
        watts: while working, over all blocks.
        idle_watts: before the first block.
        frames: of all blocks.
    """

    source: str
    covers: str
    joules: Interval
    above_idle_joules: float
    watts: float
    idle_watts: float
    frames: int


class Integrator:
    """Makes an energy counter of a source of power: reads it all the time in a thread and adds up, by trapezoids.

    A context manager; the thread takes a reading every `every_s` seconds.
    """

    def __init__(
        self, source: PowerSource, *, every_s: float = _SAMPLING_S, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name, self.covers = source.name, source.covers
        self._source = source
        self._every_s = every_s
        self._clock = clock
        self._joules = 0.0
        self._last = (clock(), source.watts())
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._follow, name="edge_mtl-power", daemon=True)

    def joules(self) -> float:
        """See `EnergySource.joules`."""
        self.sample()
        if self._failure is not None:
            raise self._failure
        with self._lock:
            return self._joules

    def sample(self) -> None:
        """Take one reading."""
        watts = self._source.watts()
        with self._lock:
            now = self._clock()
            before, last = self._last
            self._joules += (now - before) * (watts + last) / 2
            self._last = now, watts

    def __enter__(self) -> Integrator:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.sample()
            except OSError as exc:
                self._failure = exc
                return


def measure_energy(
    callables: Mapping[str, Callable[[], object]],
    counters: Sequence[EnergySource],
    *,
    frames_per_call: int = 1,
    block_s: float = 2.0,
    blocks: int = 6,
    idle_s: float = 2.0,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, tuple[EnergyRow, ...]]:
    """Energy per frame of each callable, one row per counter.

    Args:
        callables: by name.
        frames_per_call: what each call of each of them is.
        block_s: seconds of frames without a pause, after one that is not counted; blocks are interleaved.
        idle_s: seconds of idling before the first block.
        progress: called with (blocks done, blocks).
        clock, sleep: only tests give others.
    Raises:
        OSError: a sensor has gone.
    """
    idle = _watts(counters, lambda: sleep(idle_s), clock)
    used: dict[str, list[list[tuple[float, float, int]]]] = {name: [[] for _ in counters] for name in callables}
    done = 0
    for number in range(blocks):
        for name in callables if number % 2 == 0 else reversed(list(callables)):
            call = callables[name]
            call()
            before, began, frames = [counter.joules() for counter in counters], clock(), 0
            while frames == 0 or clock() - began < block_s:
                call()
                frames += frames_per_call
            seconds = clock() - began
            for place, counter in enumerate(counters):
                used[name][place].append((counter.joules() - before[place], seconds, frames))
            done += 1
            if progress is not None:
                progress(done, blocks * len(callables))
    return {
        name: tuple(_row(counter, used[name][place], idle[place]) for place, counter in enumerate(counters))
        for name in callables
    }


def counter_of(source: Sensor) -> EnergySource:
    """The source itself where it counts energy, else an integrator, which has to be entered before use."""
    if isinstance(source, Nvml):
        return source if source.counts_energy else Integrator(source)
    return Integrator(source) if isinstance(source, Hwmon) else source


def _watts(counters: Sequence[EnergySource], wait: Callable[[], None], clock: Callable[[], float]) -> list[float]:
    before, began = [counter.joules() for counter in counters], clock()
    wait()
    seconds = max(clock() - began, 1e-9)
    return [(counter.joules() - joules) / seconds for counter, joules in zip(counters, before, strict=True)]


def _row(counter: EnergySource, blocks: Sequence[tuple[float, float, int]], idle_watts: float) -> EnergyRow:
    per_frame = [joules / frames for joules, _, frames in blocks]
    joules, seconds, frames = (sum(block[place] for block in blocks) for place in range(3))
    return EnergyRow(
        source=counter.name,
        covers=counter.covers,
        joules=median_interval(per_frame),
        above_idle_joules=(joules - idle_watts * seconds) / frames,
        watts=joules / seconds,
        idle_watts=idle_watts,
        frames=int(frames),
    )
