"""What the study measures of which network: every domain, under the same draws of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from mtl.datasets.frame import FrameSource
from mtl.datasets.streets.classes import Time, Weather
from mtl.evaluation_targets import EvaluationTarget, FrameChoice, evaluation_targets
from mtl.geometry import canonical_intrinsics
from mtl.outdoors import domains
from mtl.outdoors.definition import OutdoorsStudy
from mtl.outdoors.measuring import DomainMeasures, measure_domain, pooled
from mtl.outdoors.statistics import draws
from mtl.study.definition import PlannedRun

__all__ = ["CLEAN", "Cell", "Drawn", "Findings", "Focal", "Network", "measure_study", "networks_of", "together"]

Array = np.ndarray
Cell = tuple[Weather, Time]
CLEAN = ("clean", 0)
"""Stands for frames that are not corrupted."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the study: `row` is what it is called in the file, `name` is that and the seed where there are several."""

    name: str
    row: str
    target: EvaluationTarget


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was measured in a domain, and the same under `draws`: arrays by key whose first value is of all frames."""

    measured: DomainMeasures
    values: Mapping[str, Array]

    @classmethod
    def of(cls, measured: DomainMeasures) -> Drawn:
        return cls(measured, measured.resampled(draws(measured.frames)))


@dataclass(frozen=True, slots=True)
class Focal:
    """A lens: with its focal length told to the network's conversion, and with that of the middle of training assumed."""

    told: Drawn
    assumed: Drawn


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything, by name of the network.

    Attributes:
        cells: by cell.
        corruptions: by kind and severity, `CLEAN` among them.
        focal: by factor.
        transfer: by world, "rooms" and "streets".
        trained_focal: by network of `focal`, the focal lengths of its training, in canonical ones.
    """

    networks: Mapping[str, Network]
    cells: Mapping[str, Mapping[Cell, Drawn]] = field(default_factory=dict)
    corruptions: Mapping[str, Mapping[tuple[str, int], Drawn]] = field(default_factory=dict)
    focal: Mapping[str, Mapping[float, Focal]] = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, Drawn]] = field(default_factory=dict)
    trained_focal: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def networks_of(study: OutdoorsStudy, runs: Sequence[PlannedRun], *, threads: int | None = None) -> dict[str, Network]:
    """The last weights of runs that are finished, and the bundles of [transfer]. Raises EdgeMtlError: one cannot be read."""
    found = {}
    rows = [run.row.name for run in runs]
    for run in runs:
        name = run.row.name if rows.count(run.row.name) == 1 else f"{run.row.name}, seed {run.seed}"
        found[name] = Network(name, run.row.name, _first(run.folder))
    for path in study.transfer.bundles:
        name = Path(path).name
        found[name] = Network(name, path, _first(Path(path), threads=threads))
    return found


def _first(path: Path, *, threads: int | None = None) -> EvaluationTarget:
    """The last weights of a run, or the FP32 graph of a bundle."""
    return next(evaluation_targets(path, weights="last", engines=False, frames=FrameChoice("test"), threads=threads))


def measure_study(
    study: OutdoorsStudy,
    networks: Mapping[str, Network],
    *,
    zooms: Mapping[str, tuple[float, float]],
    workers: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Findings:
    """Measure every network in its domains; frames that are missing are rendered first.

    Args:
        zooms: by network, how far training zoomed.
        workers: processes that render.
        say: told what is measured next.
    Raises:
        EdgeMtlError: frames cannot be rendered or read.
    """
    work = _Work(study, workers, say)

    def of(rows: Sequence[str], measure: Callable[[Network], _T]) -> dict[str, _T]:
        return {name: measure(one) for name, one in networks.items() if one.row in rows}

    focal = of(study.focal.rows, work.focal)
    return Findings(
        networks,
        cells=of(study.cells.rows, work.cells),
        corruptions=of(study.corruptions.rows, work.corruptions),
        focal=focal,
        transfer=of((*study.transfer.rows, *study.transfer.bundles), work.transfer),
        trained_focal={
            name: domains.focal_factors(networks[name].target.size, zoom=zooms.get(name, (1.0, 1.0))) for name in focal
        },
    )


class _Work:
    """Opens frames and measures them."""

    def __init__(self, study: OutdoorsStudy, workers: int, say: Callable[[str], None]) -> None:
        self._study, self._workers, self._say = study, workers, say
        weather, time = study.cells.home
        self._home: Cell = next(cell for cell in domains.CELLS if cell == (weather, time))

    def cells(self, network: Network) -> dict[Cell, Drawn]:
        found = {}
        for cell in domains.CELLS:
            self._say(f"{network.name}: {domains.cell_name(cell)}")
            found[cell] = self._measured(network, self._streets(network, self._study.cells.frames, cell))
        return found

    def corruptions(self, network: Network) -> dict[tuple[str, int], Drawn]:
        request = self._study.corruptions
        frames = self._streets(network, request.frames, self._home)
        found = {CLEAN: self._measured(network, frames)}
        for kind in request.kinds:
            self._say(f"{network.name}: {kind}")
            for severity in request.severities:
                found[kind, severity] = self._measured(network, domains.corrupted_frames(frames, kind, severity))
        return found

    def focal(self, network: Network) -> dict[float, Focal]:
        size = network.target.size
        low, high = domains.focal_factors(size)
        fx, fy, cx, cy = canonical_intrinsics(*size)
        middle = float(np.sqrt(low * high))
        found = {}
        for factor in self._study.focal.factors:
            self._say(f"{network.name}: {factor:g} times the canonical focal length")
            where = self._where(network, self._study.focal.frames)
            frames = domains.streets_at(where, network.target.specs, options=domains.through_lens(size, factor, self._home))
            assumed = domains.TakenBy(frames, (fx * middle, fy * middle, cx, cy))
            found[float(factor)] = Focal(
                self._measured(network, frames, only=domains.SHARED), self._measured(network, assumed, only=domains.SHARED)
            )
        return found

    def transfer(self, network: Network) -> dict[str, Drawn]:
        request = self._study.transfer
        shared = {name: spec for name, spec in network.target.specs.items() if name in domains.SHARED}
        self._say(f"{network.name}: rooms and streets")
        rooms = domains.rooms_at(domains.FramesAt(request.rooms, network.target.size, request.frames, self._workers), shared)
        streets = self._streets(network, request.frames, self._home)
        return {
            "rooms": self._measured(network, rooms, only=domains.SHARED),
            "streets": self._measured(network, streets, only=domains.SHARED),
        }

    def _where(self, network: Network, count: int) -> domains.FramesAt:
        return domains.FramesAt(self._study.streets, network.target.size, count, self._workers)

    def _streets(self, network: Network, count: int, cell: Cell) -> FrameSource:
        where = self._where(network, count)
        return domains.streets_at(where, network.target.specs, options=domains.cell_options(cell))

    def _measured(self, network: Network, frames: FrameSource, *, only: Sequence[str] = ()) -> Drawn:
        return Drawn.of(measure_domain(network.target, frames, only=only))


def together(parts: Sequence[Drawn]) -> Drawn:
    """Domains of the same streets as one."""
    return Drawn.of(pooled([one.measured for one in parts]))
