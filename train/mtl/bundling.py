"""From a checkpoint to a bundle: graphs, frames, measured accuracy and where everything came from.

Knows checkpoints, the model's export and the bundle's layout; knows nothing about the command line.
"""

from __future__ import annotations

import math
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from edge_mtl.bundle import (
    CALIBRATION,
    DEPLOY_MODEL,
    EVALUATION,
    GOLDEN,
    PLAIN_MODEL,
    Bundle,
    InputSpec,
    task_descriptions,
    write_bundle,
)
from edge_mtl.errors import BundleError
from mtl.bundle_frames import spread, write_calibration, write_evaluation, write_golden
from mtl.checkpoint import CheckpointError, load_weights
from mtl.config import ConfigError, apply_overrides, config_sha256, describe, parse_config
from mtl.data.frame import FrameSource
from mtl.data.rooms import RENDERER_VERSION
from mtl.data.sources import stage_rooms, validation_rooms
from mtl.evaluate import evaluate
from mtl.geometry import canonical_intrinsics
from mtl.model import MultiTaskModel, build_model
from mtl.onnx_predictor import OnnxGraph
from mtl.progress import metrics_table
from mtl.settings import RunSettings

__all__ = ["Trained", "export_bundle", "load_trained"]

_DATASET = "procedural rooms"
_LICENCE = "rendered by this package from seeds; no third-party data"


@dataclass(frozen=True, slots=True)
class Trained:
    """A model from a checkpoint, with the settings it was trained by and the size (H, W) it was trained for."""

    model: MultiTaskModel
    settings: RunSettings
    size: tuple[int, int]
    metadata: Mapping[str, Any]


def load_trained(path: Path, *, overrides: Mapping[str, str] | None = None) -> Trained:
    """Rebuild the model of a checkpoint; `overrides` change its settings of data and export only.

    Raises:
        CheckpointError: missing, corrupt, or not a model of this package.
        ConfigError: overrides that do not exist, or that would change what was trained.
    """
    weights, metadata = load_weights(path)
    try:
        settings = parse_config(metadata["config"], source=str(path))
        height, width = (int(side) for side in metadata["size"])
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(f"{path} does not describe its model ({exc}). Give runs/<name>/best.safetensors") from exc
    foreign = [key for key in overrides or {} if key.split(".")[0] not in ("data", "export")]
    if foreign:
        raise ConfigError(f"{foreign[0]} cannot change after training: only data.* and export.* can")
    if overrides:
        settings = parse_config(apply_overrides(describe(settings), overrides), source="overrides")
    wanted = settings.model
    model = build_model(wanted.backbone, tasks=wanted.tasks, decoder=wanted.decoder, width=wanted.width)
    try:
        model.load_state_dict(weights)
    except RuntimeError as exc:
        raise CheckpointError(f"{path} does not fit its own description ({str(exc).splitlines()[0]})") from exc
    return Trained(model.eval(), settings, (height, width), metadata)


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    console: Console,
    command: str,
    replace: bool = False,
    name: str | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Bundle:
    """Write the bundle `out`, whole or not at all, and measure it on the held-out test rooms.

    Args:
        command: what the person typed, for the provenance.
        replace: whether an existing bundle at `out` may be replaced.
        name: of the bundle; the folder's name by default.
        overrides: of the settings data.* and export.*.
    Raises:
        CheckpointError, BuildError, BundleError: as their parts say; nothing is left behind.
    """
    if out.exists() and not replace:
        raise BundleError(f"{out} exists already. Remove it, choose another --out, or replace it with --replace")
    trained = load_trained(checkpoint, overrides=overrides)
    settings, size = trained.settings, trained.size
    test = validation_rooms(settings.data, "test").open(workers=settings.data.workers, progress=True)
    train = stage_rooms(settings.data, settings.stages[-1]).open(workers=settings.data.workers, progress=True)
    wanted = settings.export
    calibration_count = min(wanted.calibration, len(train))
    accuracy: dict[str, dict[str, Any]] = {"fp32": {}}
    calibration: dict[str, Any] = {"count": calibration_count, "source": f"{_DATASET}, train split"}

    def fill(folder: Path) -> None:
        # imported here: the exporter is heavy, and reading a checkpoint does not need it
        from mtl.model.export import export_deploy, export_plain

        console.print(f"exporting {PLAIN_MODEL} and {DEPLOY_MODEL} at {size[0]}x{size[1]}", highlight=False)
        export_plain(trained.model, folder / PLAIN_MODEL, height=size[0], width=size[1])
        export_deploy(trained.model, folder / DEPLOY_MODEL, height=size[0], width=size[1])
        graph = OnnxGraph((folder / DEPLOY_MODEL).read_bytes())
        for sub in (CALIBRATION, EVALUATION, GOLDEN):
            (folder / sub).mkdir()
        chosen = spread(calibration_count, len(train))
        calibration["digest"] = write_calibration(folder / CALIBRATION, train, chosen, size, wanted.jpeg_quality)
        labelled, golden = _shares(len(test), wanted.evaluation, wanted.golden)
        write_evaluation(folder / EVALUATION, test, labelled, size, wanted.jpeg_quality)
        write_golden(folder / GOLDEN, test, golden, size, graph.run)
        accuracy["fp32"] = _measure(graph, test, trained, console)

    bundle = write_bundle(
        out,
        fill,
        name=name or out.name,
        tasks=task_descriptions(trained.model.tasks),
        input=InputSpec(size[0], size[1], "rgb", trained.model.mean, trained.model.std),
        canonical_intrinsics=canonical_intrinsics(*size),
        provenance=_provenance(trained, len(test), command),
        accuracy=accuracy,
        calibration=calibration,
        replace=replace,
    )
    megabytes = sum(entry.size for entry in bundle.manifest.files.values()) / 1e6
    console.print(f"bundle: {bundle.path} ({len(bundle.manifest.files)} files, {megabytes:.1f} MB)", highlight=False)
    return bundle


def _measure(graph: OnnxGraph, test: FrameSource, trained: Trained, console: Console) -> dict[str, float]:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("held-out rooms", total=len(test))
        metrics = evaluate(
            graph, test, size=trained.size, tasks=trained.model.tasks, progress=lambda done: bar.update(task, completed=done)
        )
    console.print(metrics_table({"fp32": metrics}, title=f"{len(test)} held-out rooms at {trained.size[0]}x{trained.size[1]}"))
    return {key: round(value, 6) for key, value in metrics.items() if math.isfinite(value)}


def _shares(count: int, labelled: int, golden: int) -> tuple[list[int], list[int]]:
    """Different test rooms for evaluation and golden frames, as far as there are enough."""
    last = max(1, count - golden)
    return spread(min(labelled, last), last), list(range(count - min(golden, count), count))


def _provenance(trained: Trained, held_out: int, command: str) -> dict[str, Any]:
    settings = trained.settings
    content: dict[str, Any] = {
        "dataset": f"{_DATASET}, renderer {RENDERER_VERSION}",
        "dataset_licence": _LICENCE,
        "held_out": {"split": "test", "count": held_out},
        "command": command,
        "config_sha256": config_sha256(parse_config(trained.metadata["config"])),
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "backbone": settings.model.backbone,
        "decoder": settings.model.decoder,
        "steps": int(trained.metadata.get("step", 0)),
        "seed": settings.seed,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    commit = _commit()
    return {**content, "commit": commit} if commit else content


def _commit() -> str | None:
    """The commit of the repository this file is in, if git knows one."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  (fixed arguments)
            [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout.strip() or None
