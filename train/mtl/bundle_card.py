"""What a bundle says about its network: how well it answers on held-out frames, and where it comes from.

Knows checkpoints, metrics and configurations; knows nothing about the files of a bundle.
"""

from __future__ import annotations

import contextlib
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import Progress

from edge_mtl.console import Console
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.tasks import Specs, remarks
from mtl.config import as_written, config_sha256, describe, load_config, parse_config
from mtl.datasets.data_set import DataSet
from mtl.datasets.frame import FrameSource
from mtl.datasets.mixture import MixtureFrames, deployed_source
from mtl.datasets.sources import data_set
from mtl.evaluate import Predictor, judge
from mtl.geometry import Intrinsics
from mtl.models import MultiTaskModel
from mtl.progress import metrics_table
from mtl.revision import commit
from mtl.settings import DataSettings, RunSettings

if TYPE_CHECKING:
    from mtl.qat.network import QatNetwork

__all__ = ["Trained", "describe_held_out", "figures", "measure", "measured_on", "provenance", "training_command"]

_CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True, slots=True)
class Trained:
    """A model from a checkpoint, with the settings it was trained by and the size (H, W) it was trained for.

    Attributes:
        fine_tuned: where the checkpoint was fine-tuned for integers, the network that rounds; `model` is what it began with.
    """

    model: MultiTaskModel
    settings: RunSettings
    size: tuple[int, int]
    metadata: Mapping[str, Any]
    fine_tuned: QatNetwork | None = None


def measure(
    predict: Predictor,
    test: FrameSource,
    trained: Trained,
    console: Console,
    *,
    name: str = "fp32",
    answers_for: Intrinsics | None = None,
) -> dict[str, Any]:
    """The accuracy card: measures of all tasks and their details, such as the intersection over union of every class.

    Of a mixture every task is measured on one source, see `measured_on`: figures of several are figures of nothing.

    Args:
        name: of the graph, for the table.
        answers_for: as of `mtl.evaluate.judge`.
    """
    metrics = TaskMetrics(trained.model.specs)
    sources = measured_on(test, trained)
    count = sum(len(frames) for frames, _ in sources.values())
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("held-out frames", total=count)
        for frames, specs in sources.values():
            canonical = trained.settings.data.canonical
            for judged in judge(predict, frames, specs, size=trained.size, canonical=canonical, answers_for=answers_for):
                metrics.update(judged.predicted, judged.truths)
                bar.advance(task)
    values = metrics.compute()
    of = ", ".join(f"{source}: {', '.join(specs)}" for source, (_, specs) in sources.items() if source)
    title = f"{count} held-out frames at {trained.size[0]}x{trained.size[1]}{of and f' ({of})'}"
    console.print(metrics_table({name: values}, title=title))
    for remark in remarks(trained.model.specs):
        console.print(remark, markup=False, highlight=False)
    return figures({**values, **metrics.details()})


def measured_on(test: FrameSource, trained: Trained) -> dict[str, tuple[FrameSource, Specs]]:
    """Test frames and the tasks that are measured on them, by source; "" where there is only one.

    A task of a mixture is measured on the source that the network is exported for where that labels it
    (`mtl.datasets.mixture.deployed_source`), else on the first that does.
    """
    settings, left = trained.settings, dict(trained.model.specs)
    if not isinstance(test, MixtureFrames):
        return {"": (test, left)}
    found: dict[str, tuple[FrameSource, Specs]] = {}
    deployed = deployed_source(settings.data, settings.stages[-1])
    for name in (deployed, *(one for one in test.sources if one != deployed)):
        source = test.sources[name]
        own = {task: left.pop(task) for task in list(left) if task in source.own}
        if own:
            found[name] = source, own
    return found


def figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """Figures and tables of figures as a manifest takes them: to six digits, without what is not finite or no number."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found[key] = figures(value)
        elif isinstance(value, (int, float)) and math.isfinite(value):
            found[key] = round(value, 6)
    return found


def provenance(trained: Trained, held_out: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Where the bundle comes from: data, training, model and versions.

    Args:
        held_out: the frames that its accuracy was measured on, see `describe_held_out`.
        command: what the person typed to make the bundle.
    """
    settings, metadata = trained.settings, trained.metadata
    as_trained = parse_config(as_written(metadata["config"]), checked=False)
    dataset = data_set(settings.data)
    content: dict[str, Any] = {
        "dataset": dataset.title(settings.data),
        "dataset_licence": dataset.licence(settings.data),
        "data_sets": [_data_set(one, data) for one, data in dataset.parts(settings.data)],
        "held_out": dict(held_out),
        "command": command,
        "training_command": training_command(metadata, as_trained, command),
        "teachers": metadata.get("teachers") or _teachers(as_trained) or None,
        "imported": metadata.get("imported"),
        "config_sha256": config_sha256(as_trained),
        "run": as_trained.name,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "backbone": settings.model.backbone,
        "decoder": settings.model.decoder,
        "steps": int(metadata.get("step", 0)),
        "seed": settings.seed,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }
    return {key: value for key, value in content.items() if value is not None}


def describe_held_out(test: FrameSource, trained: Trained) -> dict[str, Any]:
    """How many test frames, and of a mixture which tasks were measured on how many of which source."""
    sources = measured_on(test, trained)
    content: dict[str, Any] = {"split": "test", "count": sum(len(frames) for frames, _ in sources.values())}
    if isinstance(test, MixtureFrames):
        content["sources"] = {name: {"count": len(frames), "tasks": list(specs)} for name, (frames, specs) in sources.items()}
    return content


def _teachers(settings: RunSettings) -> list[str]:
    """The networks that taught while training, in words: for runs that did not record them with the weights."""
    taught, found = settings.distill, []
    if taught.features:
        found.append(f"features of {taught.features}, weights {Path(taught.features_file).name}")
    if taught.answers:
        path = Path(taught.answers)
        found.append(f"answers of {path.parent.name if path.suffix else path.name}")
    return found


def _data_set(one: DataSet, data: DataSettings) -> dict[str, Any]:
    """What is said of each data set that frames come from."""
    content = {"title": one.title(data), "licence": one.licence(data), "redistributable": one.redistributable(data)}
    labelled = one.pseudo_labels(data)
    return {**content, "pseudo_labels": dict(labelled)} if labelled else content


def training_command(metadata: Mapping[str, Any], settings: RunSettings, command: str) -> str | None:
    """What made the checkpoint: as it says itself, or `command` where that trains, or a configuration with its settings."""
    if isinstance(metadata.get("command"), str):
        return str(metadata["command"])
    if "train.py" in command:
        return command
    for path in sorted(_CONFIGS.rglob("*.toml")):
        with contextlib.suppress(EdgeMtlError):  # of settings, or of data that are not here
            if _decisive(load_config(path)) == _decisive(settings):
                return f"python train/train.py --config train/configs/{path.relative_to(_CONFIGS).as_posix()}"
    return None


def _decisive(settings: RunSettings) -> dict[str, Any]:
    """The settings that decide what is learnt: not those of the loop, which may change when a run is resumed, nor folders."""
    return {key: value for key, value in describe(settings).items() if key not in ("folder", "loop", "export")}
