"""From a trained network to one that is fine-tuned for integers: rewritten for speed, calibrated, equalized.

Knows the order of these steps; each is elsewhere. Ranges begin where calibration leaves them, so that fine-tuning starts
from the INT8 graph as it would be built without any, but for the correction of biases, which training does by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from torch import Tensor

from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.learned import Learned, write_learned
from edge_mtl.quantization.placement import place
from edge_mtl.quantization.quantize import calibrate, equalized
from edge_mtl.quantization.recipes import CrossLayerEqualization, Recipe, Target, load_recipe, recipe_for
from edge_mtl.tasks import Specs
from mtl.bundle_frames import network_image, spread
from mtl.checkpoint import CheckpointError
from mtl.datasets.sources import train_frames
from mtl.fine_tuning import start_from
from mtl.models.configured import model_from
from mtl.models.export import export_deploy
from mtl.models.model import MultiTaskModel
from mtl.qat.network import QatNetwork
from mtl.settings import RunSettings

__all__ = ["prepared_network", "recipe_of", "resumed_network", "with_ranges"]


def recipe_of(settings: RunSettings) -> Recipe:
    """The recipe that `settings.qat` names. Raises BuildError where it cannot be read."""
    qat = settings.qat
    if qat.recipe:
        return load_recipe(Path(qat.recipe))
    return recipe_for(qat.target, load_recipe())


def prepared_network(settings: RunSettings) -> QatNetwork:
    """The network that a fine-tuning run begins with, from the checkpoint `settings.model.init`.

    Raises:
        CheckpointError: no such checkpoint, or one of another network.
        BuildError, CalibrationError: as exporting and calibrating do; an operator that cannot be trained.
        BackendUnavailable: onnx or ONNX Runtime is missing.
    """
    model = model_from(settings, pretrained=False)
    remarks = start_from(model, Path(settings.model.init))
    for task, remark in remarks.items():
        raise CheckpointError(
            f"{settings.model.init} is of other tasks: {task} {remark}. Fine-tuning for integers starts from a network that is "
            "trained: train one for these tasks first, or give --model.tasks those of the checkpoint"
        )
    stage = settings.stages[-1]
    size = (stage.height, stage.width)
    frames = train_frames(settings.data, stage).open(workers=settings.data.workers, progress=True)
    images = [network_image(frames, index, size) for index in spread(settings.qat.calibration, len(frames))]
    graph = with_ranges(_deployed(model, size), images, recipe=recipe_of(settings), target=settings.qat.target)
    network = QatNetwork(graph, specs=model.specs, mean=model.mean, std=model.std, mode=settings.qat.ranges)
    if settings.qat.teacher:
        network.learn_from_itself()
    return network


def resumed_network(settings: RunSettings, state: Mapping[str, Tensor], specs: Specs | None = None) -> QatNetwork:
    """The network of a checkpoint of such a run, with its weights. Raises BuildError as `QatNetwork.from_state`.

    Args:
        specs: the tasks; by default those of the frames.
    """
    shell = model_from(settings, pretrained=False, specs=specs)
    return QatNetwork.from_state(state, specs=shell.specs, mean=shell.mean, std=shell.std, mode=settings.qat.ranges)


def with_ranges(deploy: bytes, images: Sequence[np.ndarray], *, recipe: Recipe, target: Target) -> bytes:
    """The float graph with equalized scales and with the calibrated ranges of `target` in its metadata.

    Args:
        images: (H, W, 3) uint8 RGB of the graph's size.
    """
    calibrated = calibrate(deploy, images, recipe=replace(recipe, targets=(target,)))
    model = parse(equalized(deploy, calibrated), name="the optimized ONNX")
    kept = replace(
        recipe, equalisation=CrossLayerEqualization(enabled=False), weights=replace(recipe.weights, bias_correction=False)
    )
    index = GraphIndex(model)
    wanted = [name for name in place(index, kept, target=target).ranged if name not in index.inputs]
    write_learned(model, Learned(target, {name: calibrated.ranges[name] for name in wanted}, kept))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _deployed(model: MultiTaskModel, size: tuple[int, int]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edge-mtl-qat-") as folder:
        path = Path(folder) / "model.deploy.onnx"
        export_deploy(model, path, height=size[0], width=size[1])
        return path.read_bytes()
