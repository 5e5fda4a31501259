"""What the things in a room are made of. Each constructor draws one material of a family from a generator.

Looks are tied to use, so that a class can be learnt from them.
"""

from __future__ import annotations

from mtl.datasets.worlds.materials import Colour, Material, Rng, drawn_seed, hsv, made, scaled


def wood(rng: Rng) -> Material:
    """Grained wood, from pale birch to dark walnut."""
    hue, saturation, value = rng.uniform(0.055, 0.1), rng.uniform(0.35, 0.65), rng.uniform(0.32, 0.82)
    dark = hsv(hue - 0.01, min(1.0, saturation * 1.15), value * rng.uniform(0.6, 0.85))
    return made(rng, "grain", hsv(hue, saturation, value), dark, 0.03, rng.uniform(0.02, 0.2))


def paint(rng: Rng) -> Material:
    """Smooth painted board: white, grey, black-brown or a muted colour."""
    pick = rng.random()
    if pick < 0.5:
        colour = hsv(rng.random(), rng.uniform(0.0, 0.07), rng.uniform(0.78, 0.97))
    elif pick < 0.65:
        colour = hsv(rng.uniform(0.02, 0.1), rng.uniform(0.1, 0.4), rng.uniform(0.16, 0.3))
    else:
        colour = hsv(rng.random(), rng.uniform(0.1, 0.4), rng.uniform(0.4, 0.85))
    return made(rng, "plain", colour, scaled(colour, 0.85), 0.3, rng.uniform(0.03, 0.2))


def board(rng: Rng) -> Material:
    """What furniture is made of: wood more often than paint."""
    return wood(rng) if rng.random() < 0.62 else paint(rng)


def upholstery(rng: Rng) -> Material:
    """Woven sofa fabric in muted colours, or leather."""
    if rng.random() < 0.22:
        colour = hsv(rng.uniform(0.02, 0.09), rng.uniform(0.35, 0.7), rng.uniform(0.2, 0.6))
        return made(rng, "mottled", colour, scaled(colour, 0.7), 0.12, 0.25)
    muted = rng.random() < 0.5
    colour = hsv(rng.random(), rng.uniform(0.02, 0.15) if muted else rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.75))
    return made(rng, "weave", colour, scaled(colour, rng.uniform(0.55, 0.75)), 0.012, 0.0)


def cushion(rng: Rng) -> Material:
    """A decorated cushion cover."""
    colour = hsv(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.4, 0.9))
    other = hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.95))
    return made(rng, str(rng.choice(["weave", "stripes", "checks"])), colour, other, rng.uniform(0.03, 0.08), 0.0)


def linen(rng: Rng) -> Material:
    """White or pale bed linen."""
    colour = hsv(rng.random(), rng.uniform(0.0, 0.14), rng.uniform(0.85, 0.97))
    return made(rng, "mottled", colour, scaled(colour, 0.8), 0.35, 0.0)


def quilt(rng: Rng) -> Material:
    """A bed cover: quilted squares, broad stripes or a soft print."""
    colour = hsv(rng.random(), rng.uniform(0.1, 0.65), rng.uniform(0.45, 0.95))
    other = scaled(colour, rng.uniform(0.45, 0.7))
    if rng.random() < 0.4:
        other = hsv(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.6, 0.95))
    return made(rng, str(rng.choice(["quilted", "quilted", "stripes", "checks"])), colour, other, rng.uniform(0.1, 0.24), 0.0)


def plastic(rng: Rng) -> Material:
    """Any colour, smooth and a little shiny."""
    colour = hsv(rng.random(), rng.uniform(0.2, 0.95), rng.uniform(0.3, 0.95))
    return made(rng, "plain", colour, scaled(colour, 0.8), 0.1, rng.uniform(0.05, 0.35))


def decorated(rng: Rng) -> Material:
    """Small things: plastic, glazed, printed."""
    if rng.random() < 0.55:
        return plastic(rng)
    colour = hsv(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.95))
    other = hsv(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.95))
    return made(rng, str(rng.choice(["mottled", "stripes", "checks"])), colour, other, rng.uniform(0.03, 0.1), 0.1)


def cardboard(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.07, 0.1), rng.uniform(0.3, 0.45), rng.uniform(0.55, 0.75))
    return made(rng, "plain", colour, scaled(colour, 0.8), 0.15, 0.0)


def metal(rng: Rng) -> Material:
    """Handles, legs and lamp stands: grey to black."""
    colour = hsv(rng.random(), rng.uniform(0.0, 0.08), rng.choice([rng.uniform(0.1, 0.25), rng.uniform(0.5, 0.8)]))
    return made(rng, "plain", colour, scaled(colour, 0.8), 0.1, 0.5)


def black_plastic(rng: Rng) -> Material:
    colour = hsv(rng.random(), rng.uniform(0.0, 0.1), rng.uniform(0.1, 0.2))
    return made(rng, "plain", colour, scaled(colour, 0.8), 0.1, 0.25)


def stone(rng: Rng) -> Material:
    """A kitchen worktop."""
    colour = hsv(rng.uniform(0.0, 0.7), rng.uniform(0.0, 0.15), rng.uniform(0.2, 0.85))
    return made(rng, "speckle", colour, scaled(colour, 0.6), 0.02, 0.35)


def lampshade(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.05, 0.17), rng.uniform(0.02, 0.3), rng.uniform(0.85, 0.97))
    return Material("plain", colour, colour, 0.2, drawn_seed(rng), 0.0, rng.uniform(0.15, 1.5))


def screen(rng: Rng) -> Material:
    """A television panel: almost always off, so black and glossy; sometimes showing a dim picture."""
    black: Colour = (0.006, 0.006, 0.008)
    if rng.random() < 0.92:
        return Material("screen", black, (0.02, 0.021, 0.025), 0.6, drawn_seed(rng), 0.9)
    tint = hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.4, 0.9))
    return Material("screen", black, tint, 0.25, drawn_seed(rng), 0.9, rng.uniform(0.6, 1.6))


def spine(rng: Rng) -> Material:
    """A book cover with bands and a title on its spine."""
    colour = hsv(rng.random(), rng.uniform(0.25, 0.9), rng.uniform(0.25, 0.9))
    if rng.random() < 0.25:
        colour = hsv(rng.random(), rng.uniform(0.0, 0.15), rng.uniform(0.2, 0.95))
    bright = sum(colour) > 0.9
    ink = hsv(rng.random(), rng.uniform(0.1, 0.6), 0.2 if bright else rng.uniform(0.75, 0.97))
    return made(rng, "spine", colour, ink, 0.2, rng.uniform(0.0, 0.15))


def art(rng: Rng) -> Material:
    """A painting or print."""
    colour = hsv(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.9))
    other = hsv(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.95))
    return made(rng, "art", colour, other, rng.uniform(0.15, 0.4), 0.05)


def picture_mat(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.08, 0.17), rng.uniform(0.0, 0.1), rng.uniform(0.9, 0.97))
    return made(rng, "plain", colour, colour, 0.3, 0.05)


def sky(rng: Rng) -> Material:
    """The bright view through a window: green or grey below, sky above."""
    above = hsv(rng.uniform(0.52, 0.62), rng.uniform(0.03, 0.35), rng.uniform(0.85, 1.0))
    below = hsv(rng.uniform(0.2, 0.45), rng.uniform(0.05, 0.45), rng.uniform(0.45, 0.8))
    return Material("sky", above, below, 0.5, drawn_seed(rng), 0.2, rng.uniform(1.2, 2.6))


def curtain(rng: Rng) -> Material:
    colour = hsv(rng.random(), rng.uniform(0.03, 0.45), rng.uniform(0.55, 0.95))
    return made(rng, "folds", colour, scaled(colour, rng.uniform(0.35, 0.55)), rng.uniform(0.06, 0.1), 0.0)


def foliage(rng: Rng) -> Material:
    colour = hsv(rng.uniform(0.22, 0.38), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.65))
    return made(rng, "mottled", colour, scaled(colour, 0.35), 0.05, 0.05)


def wall(rng: Rng) -> Material:
    """Matt pale paint, sometimes a faint wallpaper."""
    colour = hsv(rng.random(), rng.uniform(0.0, 0.22), rng.uniform(0.7, 0.95))
    texture = str(rng.choice(["plaster", "plaster", "plaster", "stripes"]))
    return made(rng, texture, colour, scaled(colour, rng.uniform(0.8, 0.93)), rng.uniform(0.1, 0.3), 0.0)


def accent_wall(rng: Rng) -> Material:
    """One wall of another colour, or of brick."""
    if rng.random() < 0.3:
        colour = hsv(rng.uniform(0.01, 0.07), rng.uniform(0.2, 0.6), rng.uniform(0.45, 0.8))
        return made(rng, "bricks", colour, hsv(0.1, 0.08, rng.uniform(0.6, 0.85)), 0.22, 0.0)
    colour = hsv(rng.random(), rng.uniform(0.2, 0.55), rng.uniform(0.35, 0.8))
    return made(rng, "plaster", colour, scaled(colour, 0.85), 0.3, 0.0)


def ceiling(rng: Rng) -> Material:
    colour = hsv(rng.random(), rng.uniform(0.0, 0.04), rng.uniform(0.88, 0.98))
    return made(rng, str(rng.choice(["plaster", "plaster", "tiles"])), colour, scaled(colour, 0.85), 0.6, 0.0)


def floor(rng: Rng) -> Material:
    """Planks, tiles or carpet."""
    pick = rng.random()
    if pick < 0.5:
        timber = wood(rng)
        return Material("planks", timber.colour, timber.accent, 0.14, timber.seed, rng.uniform(0.05, 0.35))
    if pick < 0.75:
        colour = hsv(rng.uniform(0.0, 0.15), rng.uniform(0.02, 0.35), rng.uniform(0.45, 0.9))
        return made(rng, "tiles", colour, scaled(colour, rng.uniform(0.4, 0.7)), rng.uniform(0.25, 0.5), 0.3)
    colour = hsv(rng.random(), rng.uniform(0.03, 0.4), rng.uniform(0.3, 0.75))
    return made(rng, "carpet", colour, scaled(colour, 0.65), 0.05, 0.0)


def rug(rng: Rng) -> Material:
    colour = hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.85))
    other = hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.9))
    return made(rng, str(rng.choice(["carpet", "stripes", "checks"])), colour, other, rng.uniform(0.1, 0.3), 0.0)
