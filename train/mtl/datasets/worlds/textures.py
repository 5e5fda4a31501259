"""Turns a material and texture coordinates into reflectance.

Patterns fade to their mean where they are finer than a pixel, so that they do not sparkle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .materials import Material

Array = np.ndarray
Pattern = Callable[[Array, Array, Array, Material], Array]

_LATTICE = np.random.default_rng(20240229).random(256 * 256, np.float32)


def reflectance(material: Material, u: Array, v: Array, pixel_m: Array) -> Array:
    """(3, N) float32 linear colour at texture coordinates (N,), seen with pixels `pixel_m` wide."""
    blend = _PATTERNS[material.texture](u, v, pixel_m, material)
    first = np.asarray(material.colour, np.float32)[:, None]
    second = np.asarray(material.accent, np.float32)[:, None]
    return first + (second - first) * blend


def _cell(i: Array, j: Array, seed: int) -> Array:
    """A random number in 0..1 for every lattice cell."""
    row = (i.astype(np.int32) + seed * 37) & 255
    return _LATTICE[(row << 8) | ((j.astype(np.int32) + (seed >> 8) * 59 + seed) & 255)]


def value_noise(u: Array, v: Array, seed: int) -> Array:
    """Smooth value noise in 0..1 with one feature per unit."""
    fu, fv = np.floor(u), np.floor(v)
    a, b = u - fu, v - fv
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    row0 = ((fu.astype(np.int32) + seed * 37) & 255) << 8
    row1 = ((fu.astype(np.int32) + 1 + seed * 37) & 255) << 8
    column = fv.astype(np.int32) + (seed >> 8) * 59 + seed
    column0, column1 = column & 255, (column + 1) & 255
    left = _LATTICE[row0 | column0] * (1 - b) + _LATTICE[row0 | column1] * b
    right = _LATTICE[row1 | column0] * (1 - b) + _LATTICE[row1 | column1] * b
    return left + (right - left) * a


def _fine(u: Array, v: Array, seed: int, per_m: float, pixel_m: Array) -> Array:
    """Noise around zero that vanishes where a pixel covers its features."""
    fade = 1 / (1 + (2 * per_m * pixel_m) ** 2)
    return (value_noise(u * per_m, v * per_m, seed) - np.float32(0.5)) * fade


def _line(x: Array, period: float, thick: float, pixel_m: Array) -> Array:
    """Coverage of lines `thick` metres wide at every multiple of `period`."""
    away = np.abs((x / period + 0.5) % 1 - 0.5) * period
    return np.clip((thick / 2 - away) / pixel_m + 0.5, 0, 1) * np.minimum(1, thick / pixel_m)


def _bands(x: Array, period: float, pixel_m: Array) -> Array:
    """0 and 1 in turn, each half a period wide."""
    ramp = (np.abs((x / period) % 1 - 0.5) - 0.25) * period
    return np.clip(ramp / pixel_m + 0.5, 0, 1)


def _plain(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    return 0.4 * value_noise(u * 3, v * 3, m.seed)


def _plaster(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    return 0.45 + 0.5 * (value_noise(u * 1.5, v * 1.5, m.seed) - 0.5) + 0.5 * _fine(u, v, m.seed + 1, 40, pixel_m)


def _mottled(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    scale = 1 / m.scale_m
    return 0.5 + 0.9 * (value_noise(u * scale, v * scale, m.seed) - 0.5) + 0.5 * _fine(u, v, m.seed + 1, 4 * scale, pixel_m)


def _speckle(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    return 0.5 + 1.0 * _fine(u, v, m.seed, 1 / m.scale_m, pixel_m) + 0.5 * _fine(u, v, m.seed + 1, 3 / m.scale_m, pixel_m)


def _grain(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Wood: streaks along v, bent by slow waves."""
    bent = u + 0.03 * value_noise(u * 3, v * 1.2, m.seed + 3)
    streak = value_noise(bent / m.scale_m, v * 0.8, m.seed)
    return 0.15 + 0.65 * streak + 0.6 * _fine(bent * 6, v * 0.3, m.seed + 1, 25, pixel_m * 6)


def _weave(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    thread = 0.5 + 1.2 * _fine(u, v, m.seed, 1 / m.scale_m, pixel_m)
    return thread + 0.5 * (value_noise(u * 5, v * 5, m.seed + 1) - 0.5)


def _carpet(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    pile = 0.5 + 0.8 * _fine(u, v, m.seed, 60, pixel_m) + 0.7 * _fine(u, v, m.seed + 1, 12, pixel_m)
    return pile + 0.4 * (value_noise(u * 2, v * 2, m.seed + 2) - 0.5)


def _stripes(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Broad stripes mostly stand upright, narrow ones run either way."""
    either_way = m.scale_m < 0.09 or m.seed & 2
    return _bands(v if either_way and not m.seed & 1 else u, m.scale_m, pixel_m)


def _checks(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    across, along = _bands(u, 2 * m.scale_m, pixel_m), _bands(v, 2 * m.scale_m, pixel_m)
    return across + along - 2 * across * along


def _quilted(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Stitched diamonds, darker in the seams."""
    first, second = (u + v) * 0.7071, (u - v) * 0.7071
    seam = np.maximum(_line(first, m.scale_m, 0.02, pixel_m), _line(second, m.scale_m, 0.02, pixel_m))
    return 0.75 * seam + 0.35 * value_noise(u * 4, v * 4, m.seed)


def _bricks(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    row = np.floor(v / 0.075)
    joint = np.maximum(_line(v, 0.075, 0.012, pixel_m), _line(u + 0.11 * (row % 2), 0.22, 0.012, pixel_m))
    return np.maximum(joint, 0.35 * _cell(np.floor((u + 0.11 * (row % 2)) / 0.22), row, m.seed))


def _planks(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    row = np.floor(u / m.scale_m)
    along = v + 1.3 * _cell(row, row, m.seed)
    shade = _cell(row, np.floor(along / 1.2), m.seed + 1)
    gap = np.maximum(_line(u, m.scale_m, 0.005, pixel_m), _line(along, 1.2, 0.005, pixel_m))
    streak = 0.6 * _fine(u * 8, v * 0.5 + shade * 9, m.seed + 2, 10, pixel_m * 8)
    return 0.1 + 0.75 * shade + streak + 1.2 * gap


def _tiles(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    joint = np.maximum(_line(u, m.scale_m, 0.008, pixel_m), _line(v, m.scale_m, 0.008, pixel_m))
    return np.maximum(joint, 0.3 * _cell(np.floor(u / m.scale_m + 0.5), np.floor(v / m.scale_m + 0.5), m.seed))


def _folds(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Hanging cloth: soft vertical waves."""
    phase = u / m.scale_m + 0.6 * value_noise(u * 6, v * 0.7, m.seed)
    return 0.5 + 0.5 * np.sin(2 * np.pi * phase).astype(np.float32)


def _slats(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    return _line(v, m.scale_m, m.scale_m * 0.35, pixel_m)


def _spine(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Bands near the ends and a block for the title."""
    band = np.maximum(_line(v - 0.07, 10.0, 0.01, pixel_m), _line(v + 0.08, 10.0, 0.015, pixel_m))
    title = _line(v, 10.0, 0.08, pixel_m) * (0.4 if m.seed % 3 else 0.8)
    return np.maximum(band if m.seed & 1 else 0 * band, title * (m.seed % 5 > 1))


def _art(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Layered patches of a few tones."""
    scale = 1 / m.scale_m
    shape = value_noise(u * scale * 2, v * scale * 2, m.seed) + 0.5 * value_noise(u * scale * 5, v * scale * 5, m.seed + 1)
    return np.round(shape * 3) / 3 - 0.25 + 0.3 * (v * scale * 0.5)


def _sky(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    ramp = np.clip(0.5 - v * 1.1 + 0.6 * (value_noise(u * 4, v * 2, m.seed) - 0.5), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _screen(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    return value_noise(u / m.scale_m * 2, v / m.scale_m * 2, m.seed)


def _windows(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Rows of windows, each darker or lighter than the next."""
    glass = _panes(u, v, pixel_m, m)
    shade = _cell(np.floor(u / m.scale_m), np.floor(v / m.scale_m), m.seed)
    return np.maximum(glass * (0.75 + 0.25 * shade), 0.25 * value_noise(u * 0.7, v * 0.7, m.seed + 1))


def _lit_windows(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """The same at night: some are lit, the others are darker than the wall."""
    lit = _cell(np.floor(u / m.scale_m), np.floor(v / m.scale_m), m.seed) > 0.68
    return _panes(u, v, pixel_m, m) * np.where(lit, np.float32(1), np.float32(-0.2))


def _panes(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Coverage of window panes, one in the middle of every cell."""
    across = np.abs((u / m.scale_m) % 1 - 0.5) * m.scale_m
    down = np.abs((v / m.scale_m) % 1 - 0.5) * m.scale_m
    inside = np.minimum(0.27 * m.scale_m - across, 0.3 * m.scale_m - down)
    fade = np.minimum(1, 0.5 * m.scale_m / pixel_m)
    return np.clip(inside / pixel_m + 0.5, 0, 1) * fade + 0.3 * (1 - fade)


def _emblem(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """A rim, and a bar, an arrow or figures in the middle of a sign that reaches to `scale_m`."""
    radius = np.maximum(np.abs(u), np.abs(v)) if m.seed & 1 else np.sqrt(u * u + v * v)
    rim = np.clip((radius - 0.8 * m.scale_m) / pixel_m + 0.5, 0, 1)
    pick = (m.seed >> 1) % 3
    if pick == 0:
        inside = 0.16 * m.scale_m - np.abs(v) + 0 * u
    elif pick == 1:
        inside = np.minimum(0.12 * m.scale_m - np.abs(u), 0.5 * m.scale_m - np.abs(v))
    else:
        inside = np.minimum(0.32 * m.scale_m - np.abs(np.abs(u) - 0.3 * m.scale_m), 0.42 * m.scale_m - np.abs(v))
    return np.maximum(rim, np.clip(inside / pixel_m + 0.5, 0, 1) * (np.abs(u) < 0.62 * m.scale_m))


def _lettering(u: Array, v: Array, pixel_m: Array, m: Material) -> Array:
    """Rows of words."""
    row = np.floor(v / m.scale_m)
    high = 0.28 * m.scale_m - np.abs((v / m.scale_m) % 1 - 0.5) * m.scale_m
    words = _cell(np.floor(u / (0.35 * m.scale_m)), row, m.seed) > 0.35
    fade = np.minimum(1, 0.4 * m.scale_m / pixel_m)
    return np.clip(high / pixel_m + 0.5, 0, 1) * words * fade + 0.25 * (1 - fade)


_PATTERNS: dict[str, Pattern] = {
    "plain": _plain, "plaster": _plaster, "mottled": _mottled, "speckle": _speckle, "grain": _grain, "weave": _weave,
    "carpet": _carpet, "stripes": _stripes, "checks": _checks, "quilted": _quilted, "bricks": _bricks,
    "planks": _planks, "tiles": _tiles, "folds": _folds, "slats": _slats, "spine": _spine, "art": _art, "sky": _sky,
    "screen": _screen, "windows": _windows, "lit_windows": _lit_windows, "emblem": _emblem, "lettering": _lettering,
}  # fmt: skip
