"""From the settings of a run to its model. Knows the settings' names; knows nothing about data, losses or loops."""

from __future__ import annotations

from pathlib import Path

from mtl.models.building import build_model
from mtl.models.edge import EdgeOptions
from mtl.models.model import IMAGENET_MEAN, IMAGENET_STD, MultiTaskModel
from mtl.settings import RunSettings

__all__ = ["model_from"]


def model_from(settings: RunSettings, *, pretrained: bool = True) -> MultiTaskModel:
    """The model that `settings` describe, ready to train.

    Args:
        settings: of the run; besides `settings.model`, the largest of its sizes matters to the decoder "aspp_folded".
        pretrained: whether to load `settings.model.pretrained`; False to load a checkpoint into the model next.
    Raises:
        BuildError: as `build_model`.
    """
    wanted = settings.model
    weights: bool | Path = False
    if pretrained and wanted.pretrained:
        weights = True if wanted.pretrained == "imagenet" else Path(wanted.pretrained)
    normalised = wanted.normalisation == "imagenet"
    return build_model(
        wanted.backbone,
        tasks=wanted.tasks,
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
        depth_output=wanted.depth_output,
        pretrained=weights,
        drop_path=wanted.drop_path,
        output_stride=wanted.output_stride or None,
        mean=IMAGENET_MEAN if normalised else (0.0, 0.0, 0.0),
        std=IMAGENET_STD if normalised else (1.0, 1.0, 1.0),
    )
