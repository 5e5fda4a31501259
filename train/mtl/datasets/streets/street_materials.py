"""What the things in a street are made of. Each constructor draws one material of a family from a generator.

By day and by night as many numbers are drawn, so that a street is the same street at any time.
"""

from __future__ import annotations

import numpy as np

from mtl.datasets.worlds.materials import Colour, Material, Rng, drawn_seed, hsv, made, scaled

__all__ = [
    "asphalt", "bark", "brick", "cloth", "concrete", "facade", "foliage", "glass", "glow", "grass", "lacquer", "metal",
    "pavement", "planks", "plastic", "roof", "rubber", "sign_face", "skin", "tarpaulin",
]  # fmt: skip


def asphalt(rng: Rng, wet: float) -> Material:
    """Grey, from fresh to worn; darker and glossier when wet."""
    value = rng.uniform(0.26, 0.52) * (1 - 0.35 * wet)
    colour = hsv(rng.uniform(0.05, 0.65), rng.uniform(0.0, 0.06), value)
    return made(rng, "speckle", colour, scaled(colour, 0.6), 0.12, 0.02 + 0.5 * wet)


def pavement(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.02, 0.14), rng.uniform(0.02, 0.2), rng.uniform(0.5, 0.75))
    if rng.random() < 0.5:
        return made(rng, "tiles", colour, scaled(colour, 0.65), float(rng.uniform(0.3, 0.8)), 0.02)
    return made(rng, "mottled", colour, scaled(colour, 0.75), 0.4, 0.02)


def concrete(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.05, 0.15), rng.uniform(0.0, 0.08), rng.uniform(0.55, 0.8))
    return made(rng, "mottled", colour, scaled(colour, 0.75), 0.7, 0.02)


def grass(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.13, 0.33), rng.uniform(0.3, 0.65), rng.uniform(0.3, 0.6))
    return made(rng, "carpet", colour, scaled(colour, 0.5), 0.1, 0.0)


def foliage(rng: Rng) -> Material:
    """Leaves, mostly green, now and then of autumn."""
    hue = rng.uniform(0.22, 0.36) if rng.random() < 0.8 else rng.uniform(0.05, 0.15)
    colour = hsv(hue, rng.uniform(0.35, 0.75), rng.uniform(0.25, 0.55))
    return made(rng, "speckle", colour, scaled(colour, 0.3), float(rng.uniform(0.12, 0.3)), 0.0)


def bark(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.05, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.45))
    return made(rng, "grain", colour, scaled(colour, 0.6), 0.05, 0.0)


def lacquer(rng: Rng) -> Material:
    """A car's paint: white, black and greys most often."""
    pick = rng.random()
    if pick < 0.7:
        colour = hsv(rng.random(), rng.uniform(0.0, 0.08), float(rng.choice([0.95, 0.85, 0.72, 0.5, 0.33, 0.18])))
    else:
        colour = hsv(float(rng.choice([0.0, 0.02, 0.6, 0.63, 0.1, 0.33])), rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.8))
    return made(rng, "plain", colour, scaled(colour, 0.92), 0.8, 0.55)


def glass(rng: Rng) -> Material:
    colour: Colour = (0.012, 0.016, 0.02)
    return Material("plain", colour, (0.05, 0.06, 0.07), 0.5, drawn_seed(rng), 0.8)


def rubber(rng: Rng) -> Material:
    return Material("plain", (0.012, 0.012, 0.012), (0.025, 0.025, 0.025), 0.2, drawn_seed(rng), 0.02)


def plastic(rng: Rng) -> Material:
    return Material("plain", (0.02, 0.02, 0.022), (0.04, 0.04, 0.042), 0.2, drawn_seed(rng), 0.1)


def metal(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.5, 0.65), rng.uniform(0.0, 0.06), rng.uniform(0.4, 0.75))
    return made(rng, "plain", colour, scaled(colour, 0.85), 0.4, 0.25)


def glow(colour: Colour, strength: float) -> Material:
    """Something lit: `strength` 0 for the same thing switched off."""
    return Material("plain", colour, colour, 1.0, 0, 0.3, strength)


def brick(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.0, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.75))
    return made(rng, "bricks", colour, scaled(colour, 1.3), 0.2, 0.0)


def facade(rng: Rng, *, dark: bool) -> Material:
    """A wall with rows of windows, some of them lit at night."""
    hue, saturation = rng.uniform(0.0, 0.14) if rng.random() < 0.75 else rng.uniform(0.5, 0.65), rng.uniform(0.03, 0.4)
    colour = hsv(hue, saturation, rng.uniform(0.35, 0.85))
    pitch, seed = float(rng.uniform(2.4, 4.0)), drawn_seed(rng)
    lit: Colour = (0.95, 0.72 + 0.1 * float(rng.random()), 0.4)
    strength = float(rng.uniform(0.05, 0.2))
    if dark:
        return Material("lit_windows", scaled(colour, 0.55), lit, pitch, seed, 0.0, strength)
    return Material("windows", colour, (0.05, 0.07, 0.1), pitch, seed, 0.05)


def roof(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.0, 0.08), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.55))
    return made(rng, "planks", colour, scaled(colour, 0.7), 0.3, 0.02)


def planks(rng: Rng) -> Material:
    """Of a fence."""
    colour = hsv(rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.85))
    return Material("slats", colour, scaled(colour, 0.5), float(rng.uniform(0.1, 0.2)), drawn_seed(rng))


def cloth(rng: Rng) -> Material:
    muted = rng.random() < 0.6
    colour = hsv(rng.random(), rng.uniform(0.0, 0.2) if muted else rng.uniform(0.4, 0.9), rng.uniform(0.12, 0.85))
    return made(rng, "weave", colour, scaled(colour, 0.7), 0.03, 0.0)


def skin(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.03, 0.08), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.9))
    return made(rng, "plain", colour, scaled(colour, 0.9), 0.3, 0.02)


def tarpaulin(rng: Rng) -> Material:
    """The side of a lorry: white or of one colour, sometimes with writing."""
    colour = (
        hsv(rng.random(), rng.uniform(0.0, 0.05), rng.uniform(0.7, 0.95))
        if rng.random() < 0.6
        else hsv(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.8))
    )
    if rng.random() < 0.4:
        other = hsv(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.8))
        return made(rng, "art", colour, other, float(rng.uniform(1.5, 4.0)), 0.1)
    return made(rng, "plain", colour, scaled(colour, 0.9), 1.0, 0.1)


def sign_face(rng: Rng, *, kind: str, dark: bool) -> Material:
    """The front of a traffic sign; it throws head lights back."""
    colours: dict[str, tuple[Colour, Colour]] = {
        "stop": (hsv(0.0, 0.9, 0.75), (0.9, 0.9, 0.9)),
        "limit": ((0.9, 0.9, 0.9), (0.05, 0.05, 0.05)),
        "ring": ((0.88, 0.88, 0.88), hsv(0.0, 0.9, 0.75)),
        "warning": (hsv(0.13, 0.95, 0.95), (0.05, 0.05, 0.05)),
        "parking": (hsv(0.6, 0.85, 0.6), (0.9, 0.9, 0.9)),
        "guide": (hsv(0.4, 0.85, 0.35), (0.9, 0.9, 0.9)),
        "motorway": (hsv(0.61, 0.85, 0.5), (0.9, 0.9, 0.9)),
    }
    first, second = colours[kind]
    texture = "lettering" if kind in ("guide", "motorway") else "emblem"
    scale = 0.45 if texture == "lettering" else 0.3
    seed, strength = drawn_seed(rng), float(rng.uniform(0.25, 0.5))
    return Material(texture, first, second, scale, seed, 0.1, strength if dark else 0.0)


def sky_noise(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    """Clouds: (N,) float32 around 0.5."""
    from mtl.datasets.worlds.textures import value_noise

    total = np.zeros(u.shape, np.float32)
    for octave, weight in ((1.0, 0.5), (2.1, 0.28), (4.3, 0.15), (9.0, 0.07)):
        total += np.float32(weight) * value_noise(u * np.float32(octave), v * np.float32(octave), seed + int(octave))
    return total
