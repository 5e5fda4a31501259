"""Backbone, decoder, other heads and output activations as one model. Knows nothing about data, losses or files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.models.aspp import AsppDecoder
from mtl.models.backbone import Backbone, Stages, check_divisible
from mtl.models.edge import EdgeDecoder
from mtl.models.head_network import HeadNetwork
from mtl.models.sharing import TaskParts
from mtl.tasks import HeadOptions, head_of

__all__ = ["IMAGENET_MEAN", "NORMALISATIONS", "MultiTaskModel", "Sharing", "finish_maps"]

Sharing = Literal["full", "partial", "separate"]

IMAGENET_MEAN: tuple[float, float, float] = (0.485, 0.456, 0.406)

NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": (IMAGENET_MEAN, (0.229, 0.224, 0.225)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of image / 255, per RGB channel, by what settings call them."""


class MultiTaskModel(nn.Module):
    """One image in, one answer per task out.

    Attributes:
        specs: the tasks, in the order of reports.
        decoder: of the tasks whose answers are maps, or of all tasks where they do not share the whole backbone; None where
            there are none.
        heads: by task, the networks of those whose answers are no maps, where the whole backbone is shared.
        sharing: "full" | "partial" | "separate": how much of the backbone all tasks share.
        options: what the heads say.
        mean, std: of image / 255, per RGB channel: `forward` expects (image / 255 - mean) / std.
    """

    def __init__(
        self,
        backbone: Backbone | Stages,
        decoder: EdgeDecoder | AsppDecoder | TaskParts | None,
        *,
        specs: Specs,
        heads: Mapping[str, HeadNetwork] | None = None,
        sharing: Sharing = "full",
        options: HeadOptions | None = None,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.heads = nn.ModuleDict(dict(heads or {}))
        self.specs = dict(specs)
        self.sharing = sharing
        self.options = options or HeadOptions()
        self.mean = mean
        self.std = std

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of `specs`."""
        return tuple(self.specs)

    @property
    def stride(self) -> int:
        """Pixels of the image per pixel of the maps: 4 (edge, and where there are no maps) or 1 (aspp)."""
        return 4 if self.decoder is None else self.decoder.stride

    @property
    def reads(self) -> tuple[int, ...]:
        """Which stages decoder and heads read, from 0, finest first; (-1,), the image, where nothing is shared."""
        own = [one.reads for one in (self.decoder, *self.heads.values()) if one is not None]
        return tuple(sorted({level for reads in own for level in reads}))

    def last_layers(self) -> dict[str, tuple[nn.Conv2d, ...]]:
        """By task, the layers that say its classes or values, which start fresh where these change."""
        maps = {} if self.decoder is None else {task: (layer,) for task, layer in self.decoder.output_layers().items()}
        return maps | {one.task: one.class_layers() for one in self.modules() if isinstance(one, HeadNetwork)}

    def forward(self, image: Tensor, *, upsample: bool = False) -> dict[str, Any]:
        """Predict every task.

        Args:
            image: (B, 3, H, W) float RGB, normalised; H and W multiples of 32.
            upsample: whether to give maps of the image's size (bilinear, half-pixel centres) instead of stride `stride`.
        Returns:
            By task, float32 also under autocast, what its head describes (`mtl.tasks`): logits (B, classes, h, w), canonical
            metres (B, 1, h, w), normals (B, 3, h, w) of any length, boxes as lists by level. Depth is above 0, unless it is
            "linear" and the model in training.
        Raises:
            BuildError: a size that is not a multiple of 32.
        """
        size = _size(image)
        maps = self._finish(self._raw(self._read(image), size))
        return upsample_maps(maps, size) if upsample else maps

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """The representation that all tasks share: those outputs of the shared stages that the task parts read.

        Args:
            image: (B, 3, H, W) float RGB, normalised; H and W multiples of 32.
        Returns:
            Maps (B, C_i, H / s_i, W / s_i), finest first; () where nothing is shared.
        Raises:
            BuildError: a size that is not a multiple of 32.
        """
        return () if self.sharing == "separate" else self._read(image)

    def from_features(
        self, features: Sequence[Tensor], size: tuple[int, int], *, image: Tensor | None = None
    ) -> dict[str, Any]:
        """The task parts: what `forward` gives without upsampling, from what `features` gave.

        Args:
            features: of `features`.
            size: (H, W) of the image.
            image: what `features` was given; needed only where nothing is shared.
        Raises:
            BuildError: nothing is shared and there is no image.
        """
        if self.sharing == "separate":
            if image is None:
                raise BuildError('nothing is shared (sharing "separate"): from_features needs the image, or call the model')
            features = (image,)
        return self._finish(self._raw(features, size))

    def quarter_maps(self, image: Tensor) -> dict[str, Any]:
        """As `forward`, at stride 4 with every decoder: what the exported graphs compute, and a host finishes."""
        return self._finish(self._raw(self._read(image), _size(image), stride=4))

    def _read(self, image: Tensor) -> tuple[Tensor, ...]:
        """What is read: maps of the shared stages, or the image where there are none."""
        check_divisible(image, by=32)
        maps = self.backbone(image)
        return tuple(maps[level] if level >= 0 else image for level in self.reads)

    def _raw(self, features: Sequence[Tensor], size: tuple[int, int], *, stride: int | None = None) -> dict[str, Any]:
        return raw_answers(
            self.decoder, self.heads, dict(zip(self.reads, features, strict=True)), size, stride=stride or self.stride
        )

    def _finish(self, raw: dict[str, Any]) -> dict[str, Any]:
        return finish_maps(raw, self.specs, self.options, clamp=not self.training)

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..255 -> what `forward` expects."""
        image = image / 255.0
        if any(self.mean):
            image = image - image.new_tensor(self.mean).reshape(1, 3, 1, 1)
        return image if set(self.std) == {1.0} else image / image.new_tensor(self.std).reshape(1, 3, 1, 1)


def raw_answers(
    decoder: Any, heads: nn.ModuleDict, maps: Mapping[int, Tensor], size: tuple[int, int], *, stride: int
) -> dict[str, Any]:
    """What a decoder (None for none) and heads make of the stages `maps`, by task."""
    raw: dict[str, Any] = {}
    if decoder is not None:
        raw |= decoder([maps[level] for level in decoder.reads], size, stride=stride)
    for head in heads.values():
        raw |= head([maps[level] for level in head.reads])
    return raw


def finish_maps(raw: Mapping[str, Any], specs: Specs, options: HeadOptions, *, clamp: bool = True) -> dict[str, Any]:
    """Raw answers of decoder and heads -> answers in float32, in the order of the tasks.

    Args:
        raw: by task, (B, C, h, w) or what its own network gives.
        options: what the heads say.
        clamp: as in `Head.answer`.
    """
    return {task: head_of(one).answer(one, raw[task], options, clamp=clamp) for task, one in specs.items() if task in raw}


def upsample_maps(answers: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Answers whose maps are of (H, W) `size`, bilinear with half-pixel centres; those that are no maps stay."""
    return {
        task: F.interpolate(value, size=size, mode="bilinear", align_corners=False)
        if isinstance(value, Tensor) and value.ndim == 4 and tuple(value.shape[2:]) != size
        else value
        for task, value in answers.items()
    }


def _size(image: Tensor) -> tuple[int, int]:
    """(H, W) of a batch of images."""
    return int(image.shape[2]), int(image.shape[3])
