"""From a checkpoint to a bundle: graphs, frames, measured accuracy and where everything came from.

Knows checkpoints, the model's export and the bundle's layout; knows nothing about the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_mtl.bundle import (
    CALIBRATION,
    EVALUATION,
    GOLDEN,
    OPTIMIZED_ONNX,
    RECORDED,
    REFERENCE_ONNX,
    WEIGHTS,
    Bundle,
    write_bundle,
)
from edge_mtl.console import Console
from edge_mtl.engine_store.revision import changing
from edge_mtl.errors import BundleError
from edge_mtl.manifest import InputSpec
from edge_mtl.quantization.learned import QAT_MODEL
from edge_mtl.quantization.recipes import load_recipe
from edge_mtl.tasks import Specs, read_tasks
from edge_mtl.unfinished import temporary_folders
from mtl.bundle_card import Trained, describe_held_out, measure, provenance
from mtl.bundle_frames import (
    calibration_choice,
    labelled_spread,
    write_calibration,
    write_evaluation,
    write_golden,
    write_statistics,
)
from mtl.bundle_images import TravellingImages, images_of
from mtl.checkpoint import CheckpointError, load_statistics, load_weights, save_weights
from mtl.config import ConfigError, apply_overrides, as_written, describe, parse_config
from mtl.datasets.augment import apply_view, whole_view
from mtl.datasets.frame import FrameSource
from mtl.datasets.mixture import calibration_shares, deployed_source
from mtl.datasets.sources import data_set, held_out_frames, stand_in_frames, train_frames
from mtl.evaluate import model_predictor
from mtl.geometry import Intrinsics, canonical_intrinsics
from mtl.models.backbone import check_divisible
from mtl.models.configured import model_from, tasks_of
from mtl.onnx_predictor import OnnxGraph
from mtl.settings import ExportSettings, RunSettings
from mtl.tasks import bundled_tasks, chosen_tasks, head_of

__all__ = ["Trained", "export_bundle", "load_trained"]


def load_trained(
    path: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    tasks: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> Trained:
    """Rebuild the model of a checkpoint; `overrides` change its settings of data and export only.

    Args:
        tasks: those that it shall answer, the others are left out; all where none is named.
        size: (H, W) of its input in place of that it was trained for last.
    Raises:
        BuildError: the checkpoint has no such task, or the network cannot take images of this size.
        CheckpointError: missing, corrupt, or not a model of this package.
        ConfigError: overrides that do not exist, or that would change what was trained.
    """
    foreign = [key for key in overrides or {} if key.split(".")[0] not in ("data", "export")]
    if foreign:
        raise ConfigError(f"{foreign[0]} cannot change after training: only data.* and export.* can")
    weights, metadata = load_weights(path)
    try:
        content = apply_overrides(as_written(metadata["config"]), overrides or {})
        settings = parse_config(content, source=str(path), checked=not path.is_dir())  # a bundle does not name its data
        height, width = (int(side) for side in metadata["size"])
        learnt = read_tasks(metadata["tasks"]) if "tasks" in metadata else tasks_of(settings)  # once all had the study's three
    except (KeyError, TypeError, ValueError) as exc:
        if overrides and isinstance(exc, ConfigError):
            raise
        raise CheckpointError(f"{path} does not describe its model ({exc}). Give runs/<name>/best.safetensors") from exc
    try:
        specs = bundled_tasks(learnt, settings.export)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    fine_tuned = None
    if tasks:
        specs = chosen_tasks(specs, tasks)
        settings = replace(settings, model=replace(settings.model, tasks=tuple(specs)))
    if size is not None and size != (height, width):
        check_divisible(size, by=32)
        if settings.qat.enabled:
            raise ConfigError(f"{path} was fine-tuned for integers at {height}x{width}: export it at that size")
        if settings.model.decoder == "aspp_folded" and not (size[0] <= height and size[1] <= width):
            raise ConfigError(
                f"{path} lacks the weights that see beyond {height}x{width} (aspp_folded): export it at that size or less"
            )
    if tasks and settings.qat.enabled:
        raise ConfigError(f"{path} was fine-tuned for integers, with all its tasks in one graph: export it whole")
    if settings.qat.enabled:
        from mtl.qat.exporting import fine_tuned_network, trained_weights  # with onnx: other checkpoints do without

        fine_tuned = fine_tuned_network(path, settings, specs)
        path = trained_weights(path)
        weights, before = load_weights(path)
        metadata = {"teachers": before.get("teachers"), **metadata}
    model = model_from(settings, pretrained=False, specs=specs)
    if settings.optimizer.batch_norm == "per_source" and not settings.qat.enabled:
        weights |= _statistics(path, deployed_source(settings.data, settings.stages[-1]))
    if tasks:
        weights = {name: value for name, value in weights.items() if name in model.state_dict()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as exc:
        raise CheckpointError(f"{path} does not fit its own description ({str(exc).splitlines()[0]})") from exc
    return Trained(model.eval(), settings, size or (height, width), metadata, fine_tuned)


def _statistics(path: Path, source: str) -> Mapping[str, Tensor]:
    """What the batch norms of a checkpoint remember of a source."""
    kept = load_statistics(path)
    if source not in kept:
        raise CheckpointError(
            f"{path} has no statistics of the source {source!r} but of {', '.join(kept) or 'none'}. "
            "Choose another with --data.deploy_source NAME"
        )
    return kept[source]


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    console: Console,
    command: str,
    replace: bool = False,
    name: str | None = None,
    overrides: Mapping[str, str] | None = None,
    tasks: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> Bundle:
    """Write the bundle `out`, whole or not at all, and measure it on the held-out test frames.

    Args:
        command: what the person typed, for the provenance: the training too, or the export of a checkpoint.
        replace: whether an existing bundle at `out` may be replaced.
        name: of the bundle; the folder's name by default.
        overrides: of the settings data.* and export.*.
        tasks: those that the bundle answers; all where none is named.
        size: (H, W) of the network's input; that it was trained for last where none is given.
    Raises:
        CheckpointError, BuildError, BundleError: as their parts say; nothing is left behind.
        ConfigError: overrides that do not fit, or a network that no bundle can describe.
    """
    if out.exists() and not replace:
        raise BundleError(f"{out} exists already. Remove it, choose another --out, or replace it with --replace")
    if temporary_folders(out):
        with suppress(BundleError), changing(out):  # a revision that a killed calibration was about to keep is kept
            pass
    trained = load_trained(checkpoint, overrides=overrides, tasks=tasks, size=size)
    settings, size = trained.settings, trained.size
    test = held_out_frames(settings.data, "test").open(workers=settings.data.workers, progress=True)
    train = train_frames(settings.data, settings.stages[-1]).open(workers=settings.data.workers, progress=True)
    wanted = settings.export
    images = images_of(settings, trained.model.specs)
    most = wanted.calibration
    if not images.embedded:  # as many as INT8 would take of them
        most = min(most, load_recipe().calibration.frames)
    chosen, by_source = calibration_choice(train, most, calibration_shares(settings.data))
    calibration_count = len(chosen)
    if line := images.describe(wanted, calibration=calibration_count, labelled=_labelled_count(wanted, trained.model.specs)):
        console.print(line, highlight=False)
    accuracy: dict[str, dict[str, Any]] = {"fp32": {}}
    calibration: dict[str, Any] = {
        "count": calibration_count,
        "source": f"{data_set(settings.data).title(settings.data)}, train split",
    }
    if by_source:
        calibration["by_source"] = by_source

    camera = _camera(settings, size, test)
    measuring = partial(measure, answers_for=camera)

    def fill(folder: Path) -> None:
        # imported here: the exporter is heavy, and reading a checkpoint does not need it
        from mtl.models.export import export_deploy, export_plain

        console.print(f"exporting {REFERENCE_ONNX} and {OPTIMIZED_ONNX} at {size[0]}x{size[1]}", highlight=False)
        export_plain(trained.model, folder / REFERENCE_ONNX, height=size[0], width=size[1])
        export_deploy(trained.model, folder / OPTIMIZED_ONNX, height=size[0], width=size[1])
        save_weights(folder / WEIGHTS, trained.model.state_dict(), _model_description(trained))
        if trained.fine_tuned is not None:
            console.print(f"writing {QAT_MODEL}, the graph that INT8 is made from", highlight=False)
            (folder / QAT_MODEL).write_bytes(trained.fine_tuned.graph())
        graph = OnnxGraph((folder / OPTIMIZED_ONNX).read_bytes(), trained.model.specs)
        calibration.update(_write_frames(folder, trained, images, graph, train=train, test=test, chosen=chosen))
        accuracy["fp32"] = measuring(graph, test, trained, console)
        if trained.fine_tuned is not None:
            accuracy["int8"] = measuring(model_predictor(trained.fine_tuned), test, trained, console, name="int8, simulated")

    bundle = write_bundle(
        out,
        fill,
        name=name or out.name,
        tasks=trained.model.specs,
        input=InputSpec(size[0], size[1], "rgb", trained.model.mean, trained.model.std),
        canonical_intrinsics=camera,
        provenance={**provenance(trained, describe_held_out(test, trained), command), **images.provenance()},
        accuracy=accuracy,
        calibration=calibration,
        replace=replace,
    )
    megabytes = sum(entry.size for entry in bundle.manifest.files.values()) / 1e6
    console.print(f"bundle: {bundle.path} ({len(bundle.manifest.files)} files, {megabytes:.1f} MB)", highlight=False)
    return bundle


def _write_frames(
    folder: Path,
    trained: Trained,
    images: TravellingImages,
    graph: OnnxGraph,
    *,
    train: FrameSource,
    test: FrameSource,
    chosen: Sequence[int],
) -> dict[str, Any]:
    """The folders of frames, or what stands in their place; what the manifest says of the calibration.

    Args:
        graph: whose answers are golden.
        chosen: numbers of the calibration frames in `train`.
    """
    size, wanted, specs = trained.size, trained.settings.export, trained.model.specs
    for sub in (CALIBRATION, EVALUATION, GOLDEN):
        (folder / sub).mkdir()
    facts: dict[str, Any] = {}
    shown: FrameSource
    truths: Specs
    if images.embedded:
        shown, truths = test, specs
        facts["digest"] = write_calibration(folder / CALIBRATION, train, chosen, size, wanted.jpeg_quality)
    else:
        source = folder / (QAT_MODEL if (folder / QAT_MODEL).exists() else OPTIMIZED_ONNX)
        shown = stand_in_frames(_labelled_count(wanted, specs) + wanted.golden, size)
        truths = specs if images.labelled else {}
        facts["recorded"] = True
        facts["digest"] = write_statistics(folder / RECORDED, source.read_bytes(), train, chosen, size, wanted.jpeg_quality)
    labelled, more, golden = _shares(shown, specs, wanted)
    write_evaluation(folder / EVALUATION, shown, truths, labelled, size, wanted.jpeg_quality, more=more)
    write_golden(folder / GOLDEN, shown, golden, size, graph.run)
    return facts


def _model_description(trained: Trained) -> dict[str, Any]:
    """What rebuilds the model for its weights, and no path of the machine that trained it."""
    written = describe(trained.settings)
    model = {key: value for key, value in written["model"].items() if key not in ("init", "init_part", "pretrained")}
    return {"config": {"model": model, "stages": written["stages"]}, "size": list(trained.size)}


def _camera(settings: RunSettings, size: tuple[int, int], frames: FrameSource) -> Intrinsics:
    """The camera that the network answers for, in pixels of its input.

    At another size than that of the training its focal length stays what it was: the network knows how large things are in
    pixels. NYUv2's depth at 192x256 by one that learnt at 288x384: error 0.17 so, 0.42 with a focal length that shrinks, too.
    """
    last = settings.stages[-1]
    learnt, here = (_camera_at(settings, one, frames) for one in ((last.height, last.width), size))
    return (*learnt[:2], *here[2:])


def _camera_at(settings: RunSettings, size: tuple[int, int], frames: FrameSource) -> Intrinsics:
    """The canonical camera, or that of all frames of a data set with one camera."""
    if settings.data.canonical:
        return canonical_intrinsics(*size)
    if not data_set(settings.data).one_camera(settings.data):
        name = settings.data.kind
        raise ConfigError(f"{name} have many cameras: a network for a bundle should be trained with data.canonical = true")
    frame = frames[0]
    view = whole_view(frame.size, aspect=size[1] / size[0])
    return apply_view(frame, view, {}, size=size, canonical=False).intrinsics


def _labelled_count(wanted: ExportSettings, specs: Specs) -> int:
    """How many evaluation frames there are, where there are enough."""
    sparse = any(head_of(spec).sparse for spec in specs.values())
    return max(wanted.evaluation, wanted.evaluation_sparse) if sparse else wanted.evaluation


def _shares(test: FrameSource, specs: Specs, wanted: ExportSettings) -> tuple[list[int], list[int], list[int]]:
    """Different test frames for evaluation, for that of sparse tasks alone, and golden ones, as far as there are enough."""
    count = len(test)
    last = max(1, count - wanted.golden)
    labelled = labelled_spread(test, tuple(specs), min(wanted.evaluation, last), last)
    sparse = tuple(name for name, spec in specs.items() if head_of(spec).sparse)
    every = labelled_spread(test, sparse, min(wanted.evaluation_sparse, last), last) if sparse else []
    more = [index for index in every if index not in labelled][: max(0, wanted.evaluation_sparse - len(labelled))]
    return labelled, more, list(range(count - min(wanted.golden, count), count))
