"""Backbone, decoder and output activations as one model. Knows nothing about data, losses or files."""

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
        stride: pixels of the image per pixel of the output: 4 (edge) or 1 (aspp).
        sharing: "full" | "partial" | "separate": how much of the backbone all tasks share.
        options: what the heads say.
        mean, std: of image / 255, per RGB channel: `forward` expects (image / 255 - mean) / std.
    """

    def __init__(
        self,
        backbone: Backbone | Stages,
        decoder: EdgeDecoder | AsppDecoder | TaskParts,
        *,
        specs: Specs,
        sharing: Sharing = "full",
        options: HeadOptions | None = None,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.specs = dict(specs)
        self.stride = decoder.stride
        self.sharing = sharing
        self.options = options or HeadOptions()
        self.mean = mean
        self.std = std

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of `specs`."""
        return tuple(self.specs)

    def forward(self, image: Tensor, *, upsample: bool = False) -> dict[str, Tensor]:
        """Predict every task.

        Args:
            image: (B, 3, H, W) float RGB, normalised; H and W multiples of 32.
            upsample: whether to give maps of the image's size (bilinear, half-pixel centres) instead of stride `stride`.
        Returns:
            By task, float32 also under autocast, what its head describes (`mtl.tasks`): logits (B, classes, h, w), canonical
            metres (B, 1, h, w), normals (B, 3, h, w) of any length. Depth is above 0, unless it is "linear" and the model in
            training.
        Raises:
            BuildError: a size that is not a multiple of 32.
        """
        size = _size(image)
        maps = self._finish(self.decoder(self._read(image), size))
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
    ) -> dict[str, Tensor]:
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
        return self._finish(self.decoder(features, size))

    def quarter_maps(self, image: Tensor) -> dict[str, Tensor]:
        """As `forward`, at stride 4 with every decoder: what the exported graphs compute, and a host finishes."""
        return self._finish(self.decoder(self._read(image), _size(image), stride=4))

    def _read(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the decoder reads: maps of the shared stages, or the image where there are none."""
        check_divisible(image, by=32)
        maps = self.backbone(image)
        return tuple(maps[level] if level >= 0 else image for level in self.decoder.reads)

    def _finish(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return finish_maps(raw, self.specs, self.options, clamp=not self.training)

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..255 -> what `forward` expects."""
        image = image / 255.0
        if any(self.mean):
            image = image - image.new_tensor(self.mean).reshape(1, 3, 1, 1)
        return image if set(self.std) == {1.0} else image / image.new_tensor(self.std).reshape(1, 3, 1, 1)


def finish_maps(raw: Mapping[str, Tensor], specs: Specs, options: HeadOptions, *, clamp: bool = True) -> dict[str, Any]:
    """Raw maps of a decoder -> answers in float32.

    Args:
        raw: (B, C, h, w) per task.
        options: what the heads say.
        clamp: as in `Head.answer`.
    """
    return {task: head_of(specs[task]).answer(specs[task], value, options, clamp=clamp) for task, value in raw.items()}


def upsample_maps(maps: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Maps of (H, W) `size`, bilinear with half-pixel centres."""
    return {
        task: value if tuple(value.shape[2:]) == size else F.interpolate(value, size=size, mode="bilinear", align_corners=False)
        for task, value in maps.items()
    }


def _size(image: Tensor) -> tuple[int, int]:
    """(H, W) of a batch of images."""
    return int(image.shape[2]), int(image.shape[3])
