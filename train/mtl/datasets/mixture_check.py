"""What cannot work in the settings of a mixture, said before anything is rendered or trained."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.datasets.mixture import Mixture, shares
from mtl.datasets.sources import data_set

if TYPE_CHECKING:
    from mtl.settings import RunSettings

__all__ = ["mixture_problem"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ANY_TASKS = ("fixed", "uncertainty", "dwa", "rlw", "gls", "famo")
"""Weightings that need no gradient of every task at the same weights."""


def mixture_problem(settings: RunSettings) -> str | None:
    """The first of them, for an error message; None where all is well, and for a single data set without such settings."""
    if not settings.data.sources:
        return next(_strays(settings), None)
    problem = next(_wrong_values(settings), None) or next(_wrong_ratios(settings), None)
    if problem is not None:
        return problem
    mixture = data_set(settings.data)
    assert isinstance(mixture, Mixture)
    try:
        mixture.tasks(settings.data)
        by_source = mixture.tasks_by_source()
    except BuildError as exc:
        return str(exc)
    return next(_missing_truth(settings, by_source), None)


def _strays(settings: RunSettings) -> Iterator[str]:
    needs = "is for several sources, and data.sources names none"
    if settings.data.deploy_source:
        yield f"data.deploy_source {needs}"
    if settings.optimizer.batch_norm == "per_source":
        yield f'optimizer.batch_norm "per_source" {needs}'
    for index, stage in enumerate(settings.stages):
        if stage.ratios:
            yield f"stages.{index}.ratios {needs}"


def _wrong_values(settings: RunSettings) -> Iterator[str]:
    data = settings.data
    for name, one in data.sources.items():
        where = f"data.sources.{name}"
        if not _NAME.fullmatch(name):
            yield f"{where}: a source's name is lower-case letters, digits, - and _, 32 at most, and begins with a letter"
        if one.sources or one.deploy_source:
            yield f"{where} has sources of its own: a source is one data set"
        if one.canonical != data.canonical:
            yield f"{where}.canonical differs: a network answers for one camera. Set data.canonical for all sources"
        if min(one.train, one.validation, one.test) < 1:
            yield f"{where}: train, validation and test should be 1 or more"
        if min(one.height, one.width) < 32 or one.validation_from_train < 0:
            yield f"{where}: sizes should be 32 pixels a side or more, and validation_from_train counts from 0"
        if not (math.isfinite(one.ratio) and one.ratio >= 0):
            yield f"{where}.ratio should be 0 or more, found {one.ratio}"
        if not (math.isfinite(one.depth_step_m) and one.depth_step_m >= 0):
            yield f"{where}.depth_step_m should be 0 or more, found {one.depth_step_m}"
        for task, weight in one.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                yield f"{where}.weights.{task} should be 0 or more, found {weight}"
    if data.tasks:
        yield "data.tasks is for a single data set: give data.sources.NAME.tasks"
    if data.deploy_source and data.deploy_source not in data.sources:
        yield f"data.deploy_source should be one of {', '.join(data.sources)}, found {data.deploy_source!r}"


def _wrong_ratios(settings: RunSettings) -> Iterator[str]:
    sources = settings.data.sources
    used: set[str] = set()
    for index, stage in enumerate(settings.stages):
        where = f"stages.{index}"
        for name, ratio in stage.ratios.items():
            if name not in sources:
                yield f"{where}.ratios.{name} is not a source: they are {', '.join(sources)}"
            if not (math.isfinite(ratio) and ratio >= 0):
                yield f"{where}.ratios.{name} should be 0 or more, found {ratio}"
        if stage.train:
            yield f"{where}.train is for a single data set: give data.sources.NAME.train"
        active = shares(settings.data, stage)
        if not active:
            yield f"{where} leaves every source out: one ratio should be above 0"
        used |= set(active)
    for name in sources:
        if name not in used:
            yield f"data.sources.{name} is trained with in no stage: give it a ratio above 0, or remove it"


def _missing_truth(settings: RunSettings, by_source: Mapping[str, Specs]) -> Iterator[str]:
    wanted = settings.model.tasks
    for name, one in settings.data.sources.items():
        for task in one.weights:
            if task not in by_source[name]:
                yield f"data.sources.{name}.weights.{task} is not a task of it: they are {', '.join(by_source[name])}"
    for index, stage in enumerate(settings.stages):
        for name in shares(settings.data, stage):
            labelled = by_source[name]
            if not any(task in labelled for task in wanted):
                yield (
                    f"stages.{index} takes frames of {name}, which has no truth of model.tasks {list(wanted)} but of "
                    f"{', '.join(labelled)}. Train one of these, or give the ratio 0"
                )
            lacking = [task for task in wanted if task not in labelled]
            if lacking and settings.losses.weighting not in _ANY_TASKS:
                yield (
                    f"losses.weighting {settings.losses.weighting!r} compares the gradients of all tasks at the same "
                    f"weights, and batches of {name} have no truth of {', '.join(lacking)}. "
                    f"Use one of {', '.join(_ANY_TASKS)}"
                )
