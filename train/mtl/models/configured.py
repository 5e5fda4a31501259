"""From the settings of a run to its model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from edge_mtl.bundle import WEIGHTS, Bundle
from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from edge_mtl.weights.safetensors import read_tensors
from mtl.datasets.sources import data_tasks
from mtl.models.building import build_model
from mtl.models.edge import EdgeOptions
from mtl.models.model import NORMALISATIONS, MultiTaskModel
from mtl.settings import RunSettings
from mtl.tasks import HeadOptions, chosen_tasks

__all__ = ["model_from", "tasks_of"]

_BACKBONE = "backbone.net."
"""How names of its weights begin in a network whose tasks share it."""


def tasks_of(settings: RunSettings) -> Specs:
    """What the model of a run predicts, in the order of reports."""
    return chosen_tasks(data_tasks(settings.data), settings.model.tasks)


def model_from(settings: RunSettings, *, pretrained: bool = True, specs: Specs | None = None) -> MultiTaskModel:
    """The model that `settings` describe, ready to train.

    Args:
        settings: of the run; besides `settings.model`, the largest of its sizes matters to the decoder "aspp_folded".
        pretrained: whether to load `settings.model.pretrained`; False to load a checkpoint into the model next.
        specs: the tasks as a checkpoint describes them; by default those of the frames.
    Raises:
        BuildError: as `build_model`, and where `settings.model.pretrained` is a bundle whose tasks do not share a backbone.
        BundleError: it is a folder, but no bundle, or one without its weights.
    """
    wanted = settings.model
    mean, std = NORMALISATIONS[wanted.normalisation]
    return build_model(
        wanted.backbone,
        specs=tasks_of(settings) if specs is None else specs,
        decoder=wanted.decoder,
        width=wanted.width,
        edge=EdgeOptions(
            exchange=wanted.exchange,
            gated=wanted.gated,
            context=wanted.context,
            top_down=wanted.top_down,
            fine=wanted.fine,
            last_stage_only=wanted.last_stage_only,
            rays=wanted.rays,
            slim=wanted.slim,
        ),
        sharing=wanted.sharing,
        shared_stages=wanted.shared_stages,
        size=(max(stage.height for stage in settings.stages), max(stage.width for stage in settings.stages)),
        options=HeadOptions(depth_output=wanted.depth_output),
        pretrained=_pretrained(wanted.pretrained) if pretrained else False,
        drop_path=wanted.drop_path,
        output_stride=wanted.output_stride or None,
        mean=mean,
        std=std,
    )


def _pretrained(text: str) -> bool | Path | dict[str, Tensor]:
    """What `build_backbone` takes for `settings.model.pretrained`; of a bundle its backbone's weights."""
    if text in ("", "imagenet"):
        return bool(text)
    path = Path(text)
    if not path.is_dir():
        return path
    weights = read_tensors(Bundle.open(path).read(WEIGHTS), name=f"{WEIGHTS} of {path}")
    own = {
        name.removeprefix(_BACKBONE): torch.from_numpy(value.copy())
        for name, value in weights.items()
        if name.startswith(_BACKBONE)
    }
    if not own or any(_BACKBONE in name for name in weights if not name.startswith(_BACKBONE)):
        raise BuildError(f"model.pretrained: the tasks of {path} do not share one backbone. Give a bundle whose tasks do")
    return own
