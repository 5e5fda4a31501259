"""From the checkpoint of a fine-tuning run to the graph that INT8 is made from, and to the network it began with.

Knows checkpoints and the files of such a run; knows nothing about bundles.
"""

from __future__ import annotations

from pathlib import Path

from edge_mtl.tasks import Specs
from mtl.checkpoint import CheckpointError, load_weights, save_weights
from mtl.qat.network import QatNetwork
from mtl.qat.prepare import resumed_network
from mtl.settings import RunSettings

__all__ = ["TRAINED", "fine_tuned_network", "keep_trained", "trained_weights"]

TRAINED = "trained.safetensors"
"""In the run's folder: the weights that the fine-tuning began with. They stay the bundle's FP32 network."""


def keep_trained(init: Path, folder: Path) -> None:
    """Copy the weights that a run begins with into its folder, so that its checkpoints can be exported ever after.

    Raises:
        CheckpointError: they cannot be read, or the copy cannot be written.
    """
    weights, metadata = load_weights(init)
    save_weights(folder / TRAINED, weights, metadata)


def trained_weights(checkpoint: Path) -> Path:
    """The file of the weights that the run of `checkpoint` began with. Raises CheckpointError where it is gone."""
    path = checkpoint.parent / TRAINED
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing: {checkpoint} was fine-tuned from it, and it stays the FP32 network of the bundle. "
            "Copy it from where the run was made"
        )
    return path


def fine_tuned_network(checkpoint: Path, settings: RunSettings, specs: Specs) -> QatNetwork:
    """The network of a checkpoint that `train.py --qat` wrote, for inference. Raises CheckpointError, BuildError."""
    weights, _ = load_weights(checkpoint)
    return resumed_network(settings, weights, specs).eval().requires_grad_(False)
