"""The report of the outdoors study: from its findings to a document, and every number of it as plain data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.tasks import remarks
from mtl.outdoors import figures, tables
from mtl.outdoors.definition import OutdoorsStudy
from mtl.outdoors.domains import cell_name
from mtl.outdoors.findings import Drawn, Findings
from mtl.outdoors.statistics import interval
from mtl.study.document import Block, Document, Facts, Heading, Items, Text

__all__ = ["Surroundings", "build_document", "numbers_of"]

_METHOD = (
    "All weights are those of the last step. Measures are those of train/evaluate.py, over all pixels of a domain's frames "
    "together.",
    "Intervals in brackets are 95 % ones from drawing the frames again with replacement, 1000 times. They say how much other "
    "frames might change a figure, not how much another seed of the training might.",
    "All cells show the same streets, and draws draw a street in all of them: differences and ratios between domains are of "
    "pairs. Boxes and depth are the same in every cell; only the image differs.",
    "mPC is the mean over severities 1 to 5 and then over corruptions, rPC is mPC divided by the value on clean frames "
    "(Michaelis et al. 2019, arXiv:1907.07484). Of errors, as those of depth and normals, rPC above 1 is worse.",
    "ECE is the mean gap between the confidence of labels and the share that is right, in 15 bins (Guo et al. 2017). AUROC is "
    "how often a wrong pixel is less sure than a right one: 50 is chance. It says nothing of how many are wrong.",
    "Consistency is the angle between predicted normals and those of the predicted depth. Its AUROC is how often a pixel whose "
    "depth is off by more than 25 % has the larger one.",
    "Shares of depth that are off count pixels that have truth and an angle. Depth beyond 80 m and the sky have no truth.",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and how it was run: `command` repeats it, `unfinished` are rows without a network."""

    command: Sequence[str]
    machine: str
    commit: str
    threads: int
    minutes: Mapping[str, float]
    unfinished: Sequence[str] = ()


def build_document(study: OutdoorsStudy, found: Findings, about: Surroundings) -> Document:
    """Everything that was measured, said so that a newcomer understands it."""
    home = cell_name(study.cells.home)
    blocks: list[Block] = [Heading("In short"), Items(tuple(tables.in_short(found, study.cells.home)))]
    blocks += [Heading("What was run"), Facts(tuple(_facts(study, found, about)))]
    blocks += [Text(note) for note in study.study.notes]
    if about.unfinished:
        blocks.append(Text(f"Not finished, and so in no table: {', '.join(about.unfinished)}.", small=True))
    if found.cells:
        blocks += [Heading("Other weather, other light")]
        blocks.append(tables.reach_table(found, study.cells.home))
        for name, cells in found.cells.items():
            blocks += [figures.cell_figure(found, name), tables.cell_table(name, cells)]
    if found.corruptions:
        blocks += [Heading("Worse images")]
        blocks.append(Text(f"Frames of {home}, each spoilt in one way; places without depth are infinitely far in fog."))
        blocks.append(tables.corruption_table(found))
        for name, spoilt in found.corruptions.items():
            blocks += [figures.severity_figure(found, name), tables.kinds_table(name, spoilt)]
    if found.cells:
        blocks += [Heading("Does it know?"), tables.confidence_table(found, study.cells.home)]
        more = (figures.reliability_figure(found, study.cells.home), tables.consistency_table(found, study.cells.home))
        blocks += [one for one in more if one is not None]
        blocks += [tables.ranking_table(found)]
    if found.focal:
        blocks += [Heading("Other lenses"), Text(_focal_words(found, home)), *_focal(found)]
    if found.transfer:
        blocks += [Heading("Rooms and streets"), Text(_transfer_words(study, home)), tables.transfer_table(found)]
    specs = {name: spec for one in found.networks.values() for name, spec in one.target.specs.items()}
    blocks += [Heading("How to read the numbers"), Items((*_METHOD, *remarks(specs)))]
    blocks += [Heading("Repeat it"), Items((shlex.join(about.command),), code=True)]
    return Document(study.study.title, study.study.question, blocks)


def _focal(found: Findings) -> list[Block]:
    blocks: list[Block] = []
    for name in found.focal:
        blocks += [figures.focal_figure(found, name), tables.focal_table(name, found.focal[name])]
    return blocks


def _focal_words(found: Findings, home: str) -> str:
    ranges = "; ".join(f"{name}: {low:.2f} to {high:.2f}" for name, (low, high) in found.trained_focal.items())
    return (
        f"Frames of {home}, rendered through one lens after the other: the same streets, zoomed. Focal lengths are in those of "
        f"the canonical camera (decision 0002). Training saw {ranges}. “Told” converts answers with the true focal length, "
        "“assumed” with the middle one of the streets of training, as if the lens were not known."
    )


def _transfer_words(study: OutdoorsStudy, home: str) -> str:
    return (
        f"Depth and normals have no classes, so that a network of rooms can be measured on streets ({home}) and one of streets "
        "on rooms, each at its own size. Rooms end at 10 m, streets at 80 m. Depth is also shown after median scaling, which "
        "multiplies the answers of a frame by median(truth) / median(answer): only the shape counts then, the scale is given."
    )


def _facts(study: OutdoorsStudy, found: Findings, about: Surroundings) -> list[tuple[str, str]]:
    facts = []
    for network in found.networks.values():
        one = network.target
        size = f"{one.size[0]}x{one.size[1]}"
        minutes = about.minutes.get(network.name)
        trained = [f"{one.step} steps"] if one.step else []
        trained += [f"{one.parameters / 1e6:.2f} million weights"] if one.parameters else []
        trained += [f"trained in {minutes:.0f} minutes beside whatever else the machine did"] if minutes is not None else []
        facts.append((network.name, ", ".join([*trained, f"{size}, predicts {', '.join(one.specs)}"])))
    frames = [f"{study.cells.frames} in each of the 12 cells"]
    frames += [f"{study.corruptions.frames} for each corruption and severity"] if found.corruptions else []
    frames += [f"{study.focal.frames} for each lens"] if found.focal else []
    frames += [f"{study.transfer.frames} of rooms and of streets"] if found.transfer else []
    seeds = sorted(set(study.study.seeds))
    return [
        *facts,
        ("test frames", ", ".join(frames)),
        ("seeds of training", ", ".join(map(str, seeds))),
        ("machine", f"{about.machine}, {about.threads} thread{'' if about.threads == 1 else 's'}"),
        ("commit", about.commit),
    ]


def numbers_of(study: OutdoorsStudy, found: Findings, about: Surroundings) -> dict[str, Any]:
    """Every number, for programs: by network and domain each measure with its interval, [value, low, high]."""

    def of(every: Mapping[Any, Drawn], named: Any = str) -> dict[str, Any]:
        return {named(key): _numbers(one) for key, one in every.items()}

    def spoilt(key: tuple[str, int]) -> str:
        return f"{key[0]} {key[1]}"

    return {
        "study": study.study.name,
        "home": list(study.cells.home),
        "networks": {
            name: {"size": list(one.target.size), "step": one.target.step, "parameters": one.target.parameters}
            for name, one in found.networks.items()
        },
        "cells": {name: of(cells, cell_name) for name, cells in found.cells.items()},
        "corruptions": {name: of(one, spoilt) for name, one in found.corruptions.items()},
        "robustness": {
            name: {
                key: {"mpc": mean.as_list(), "rpc": share.as_list()} for key, (mean, share) in tables.robustness(one).items()
            }
            for name, one in found.corruptions.items()
        },
        "focal": {
            name: {
                f"{factor:g}": {"told": _numbers(one.told), "assumed": _numbers(one.assumed)} for factor, one in every.items()
            }
            for name, every in found.focal.items()
        },
        "trained_focal": {name: list(one) for name, one in found.trained_focal.items()},
        "transfer": {name: of(worlds) for name, worlds in found.transfer.items()},
        "rankings": tables.rankings(found),
        "command": shlex.join(about.command),
        "machine": about.machine,
        "threads": about.threads,
        "commit": about.commit,
        "minutes": dict(about.minutes),
        "unfinished": list(about.unfinished),
    }


def _numbers(one: Drawn) -> dict[str, Any]:
    plain = {key: value if np.isfinite(value) else None for key, value in one.measured.measures.items()}
    return {
        "frames": one.measured.frames,
        "measures": plain,
        "details": dict(one.measured.details),
        "intervals": {key: interval(values).as_list() for key, values in one.values.items()},
    }
