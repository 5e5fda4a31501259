"""A material is a texture and its parameters: `textures` turns it into reflectance. Knows nothing about shapes or light."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace

import numpy as np

Rng = np.random.Generator
Colour = tuple[float, float, float]  # linear reflectance, 0..1


@dataclass(frozen=True, slots=True)
class Material:
    """A texture blending `colour` into `accent` with features of about `scale_m`."""

    texture: str
    colour: Colour
    accent: Colour
    scale_m: float = 0.1
    seed: int = 0
    gloss: float = 0.0
    glow: float = 0.0  # light given off, as a multiple of the reflectance

    def shaded(self, factor: float) -> Material:
        """The same material, darker or lighter."""
        return replace(self, colour=scaled(self.colour, factor), accent=scaled(self.accent, factor))


def scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(0.95, channel * factor) for channel in colour)
    return red, green, blue


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Display hue (turns), saturation and value as linear reflectance."""
    red, green, blue = (channel**2.2 for channel in hsv_to_rgb(hue % 1.0, saturation, value))
    return red, green, blue


def drawn_seed(rng: Rng) -> int:
    return int(rng.integers(1 << 20))


def made(rng: Rng, texture: str, colour: Colour, accent: Colour, scale_m: float, gloss: float) -> Material:
    return Material(texture, colour, accent, scale_m, drawn_seed(rng), gloss)
