"""How training frames are varied, as settings of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AugmentMode", "AugmentSettings", "MixShape"]

AugmentMode = Literal["none", "consistent", "libmtl"]
MixShape = Literal["rectangle", "classes"]


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How training frames are varied; probabilities are per frame.

    Attributes:
        mode: "consistent" zooms, mirrors and changes the photometry, depth and normals stay true to geometry; "libmtl" is
            the study's: a zoom of 1, 1.2 or 1.5 that divides depth and leaves normals alone, a mirror, no photometry.
        scale: range of the random zoom of "consistent".
        grey: probability of an image without colour.
        shot_noise: largest standard deviation of noise that grows with the root of the brightness, at white, as a share of
            the range (the Poisson part of Foi et al. 2008, doi:10.1109/TIP.2008.2001399); half of the frames have some.
        jpeg, jpeg_quality: probability of JPEG compression, and the range of its quality.
        erase: probability that a rectangle of 2 to 20 % of the image is covered with noise (Zhong et al. 2017,
            arXiv:1708.04896); what is true there stays true.
        mix: probability that part of another frame of the batch is pasted into a frame, image and truths.
        mix_shape: "rectangle" pastes one of a random share of the area (CutMix: Yun et al. 2019, arXiv:1905.04899),
            "classes" the pixels of half of the other frame's classes (ClassMix: Olsson et al. 2020, arXiv:2007.07936), or a
            rectangle where it has no labels.
    """

    mode: AugmentMode = "consistent"
    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.5)
    scale_probability: float = 0.7
    brightness: float = 0.25
    contrast: float = 0.25
    gamma: float = 0.3
    colour: float = 0.15
    saturation: float = 0.4
    blur: float = 0.15
    noise: float = 0.03
    grey: float = 0.0
    shot_noise: float = 0.0
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 95)
    erase: float = 0.0
    mix: float = 0.0
    mix_shape: MixShape = "rectangle"
