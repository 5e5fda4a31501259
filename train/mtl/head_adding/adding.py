"""From a bundle and a data set to the bundle with one task more: what `train/add_head.py` does."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from edge_mtl.bundle import Bundle
from edge_mtl.console import Console
from edge_mtl.errors import BuildError
from edge_mtl.quantization.learned import QAT_MODEL
from edge_mtl.tasks import TaskSpec, ordered
from mtl.bundling import load_trained
from mtl.config import describe
from mtl.datasets.sources import data_set, data_tasks, held_out_frames, train_frames
from mtl.head_adding.frozen_features import FeaturePlan, keep_features
from mtl.head_adding.revision import write_revision
from mtl.head_adding.training import train_head
from mtl.models import MultiTaskModel
from mtl.models.head_network import HeadNetwork
from mtl.settings import RunSettings
from mtl.tasks import bundled_tasks, head_of

__all__ = ["add_head"]


def add_head(
    path: Path,
    task: str,
    kind: str,
    settings: RunSettings,
    *,
    cache: Path,
    most_bytes: int,
    views: int,
    command: str,
    console: Console,
) -> Bundle:
    """Train a head for one more task of the bundle at `path`, and put the revision that has it in the bundle's place.

    Args:
        kind: what the task is, as a check of what the data set says.
        settings: data, losses, steps and rates of the head; its only stage has the bundle's size.
        cache: folder of the kept features, `most_bytes` at most.
        views: of every training frame.
        command: what the person typed, for the provenance.
    Raises:
        BuildError: the bundle cannot take such a head, its frames have no truth of it, or an old task would answer otherwise.
        BundleError, CheckpointError: the bundle cannot be read or written.
    """
    bundle, trained = Bundle.open(path), load_trained(path)
    spec = _task(settings, task, kind)
    model = trained.model
    network = _network(bundle, model, spec, width=trained.settings.model.width, seed=settings.seed)
    train = train_frames(settings.data, settings.stages[-1]).open(workers=settings.data.workers, progress=True)
    test = held_out_frames(settings.data, "test").open(workers=settings.data.workers, progress=True)
    source = json.dumps([bundle.digest, describe(settings)["data"]], sort_keys=True)
    plan = FeaturePlan(spec, network.reads, trained.size, views, settings.augment, settings.seed, most_bytes, source)
    kept = keep_features(cache, model, train, plan, console=console)
    console.print(f"{task}: {sum(one.numel() for one in network.parameters()):,} weights, {len(kept)} views", highlight=False)
    balance = head_of(spec).balance(spec, lambda: train, settings.losses)
    network = train_head(network, spec, kept, settings, balance=balance, console=console)
    spec = bundled_tasks({task: spec}, settings.export)[task]
    whole = MultiTaskModel(
        model.backbone,
        model.decoder,
        specs=ordered({**model.specs, task: spec}),
        heads={**{name: one for name, one in model.heads.items() if isinstance(one, HeadNetwork)}, task: network},
        options=model.options,
        mean=model.mean,
        std=model.std,
    ).eval()
    added = {
        "task": task,
        "dataset": data_set(settings.data).title(settings.data),
        "dataset_licence": data_set(settings.data).licence(settings.data),
        "held_out": {"split": "test", "count": len(test)},
        "views": len(kept),
        "steps": settings.stages[-1].steps,
        "command": command,
    }
    return write_revision(bundle, whole, spec, settings, train=train, test=test, added=added, console=console)


def _task(settings: RunSettings, task: str, kind: str) -> TaskSpec:
    specs = data_tasks(settings.data)
    of = f"the data set {settings.data.kind!r}"
    if task not in specs:
        raise BuildError(f"{of} has truths of {', '.join(specs)}, not of {task}. Choose one of these, or another --data.kind")
    if specs[task].kind != kind:
        raise BuildError(f"{task} is of the kind {specs[task].kind} in {of}: give --kind {specs[task].kind}")
    return specs[task]


def _network(bundle: Bundle, model: MultiTaskModel, spec: TaskSpec, *, width: int, seed: int) -> HeadNetwork:
    """A fresh network for the task. Raises BuildError where the bundle cannot take it."""
    place = bundle.path
    if spec.name in model.specs:
        raise BuildError(f"{place} has a task {spec.name}: it predicts {', '.join(model.specs)}. Choose another --task")
    if model.sharing != "full":
        raise BuildError(f"the tasks of {place} do not share the whole backbone: there is none that a head could read")
    if bundle.has(QAT_MODEL):
        raise BuildError(
            f"{place} holds a graph that was fine-tuned for integers, which a new head is no part of. Add the head to the "
            "bundle that was exported before, then fine-tune: train/train.py --qat"
        )
    torch.manual_seed(seed)
    whole = model.backbone
    network = head_of(spec).build(spec, whole.channels, whole.strides, width=width)
    if network is None:
        raise BuildError(
            f"{spec.name} is of the kind {spec.kind}, whose head is a branch of the decoder of all maps: it cannot be added and"
            " leave them as they are. Train it with the others: --model.init BUNDLE"
        )
    return network
