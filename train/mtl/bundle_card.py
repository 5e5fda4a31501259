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
from rich.console import Console
from rich.progress import Progress

from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.tasks import remarks
from mtl.config import as_written, config_sha256, describe, load_config, parse_config
from mtl.datasets.data_set import DataSet
from mtl.datasets.frame import FrameSource
from mtl.datasets.sources import data_set
from mtl.evaluate import Predictor, judge
from mtl.models import MultiTaskModel
from mtl.progress import metrics_table
from mtl.revision import commit
from mtl.settings import DataSettings, RunSettings

if TYPE_CHECKING:
    from mtl.qat.network import QatNetwork

__all__ = ["Trained", "measure", "provenance", "training_command"]

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


def measure(predict: Predictor, test: FrameSource, trained: Trained, console: Console, *, name: str = "fp32") -> dict[str, Any]:
    """The accuracy card: measures of all tasks and their details, such as the intersection over union of every class.

    Args:
        name: of the graph, for the table.
    """
    metrics = TaskMetrics(trained.model.specs)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("held-out frames", total=len(test))
        for judged in judge(predict, test, trained.model.specs, size=trained.size, canonical=trained.settings.data.canonical):
            metrics.update(judged.predicted, judged.truths)
            bar.advance(task)
    values = metrics.compute()
    console.print(metrics_table({name: values}, title=f"{len(test)} held-out frames at {trained.size[0]}x{trained.size[1]}"))
    for remark in remarks(trained.model.specs):
        console.print(remark, markup=False, highlight=False)
    card: dict[str, Any] = {key: round(value, 6) for key, value in values.items() if math.isfinite(value)}
    return card | {key: _rounded(value) for key, value in metrics.details().items()}


def _rounded(value: Any) -> Any:
    """A figure, or a table of figures, to six digits."""
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def provenance(trained: Trained, held_out: int, command: str) -> dict[str, Any]:
    """Where the bundle comes from: data, training, model and versions.

    Args:
        held_out: how many test frames its accuracy was measured on.
        command: what the person typed to make the bundle.
    """
    settings, metadata = trained.settings, trained.metadata
    as_trained = parse_config(as_written(metadata["config"]), checked=False)
    dataset = data_set(settings.data)
    content: dict[str, Any] = {
        "dataset": dataset.title(settings.data),
        "dataset_licence": dataset.licence(settings.data),
        "data_sets": [_data_set(one, data) for one, data in dataset.parts(settings.data)],
        "held_out": {"split": "test", "count": held_out},
        "command": command,
        "training_command": training_command(metadata, as_trained, command),
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
