"""Draws a street: the road, who drives and walks there, and what stands beside it.

Everything is placed along and across the road. The car that carries the camera is at along = 0 in its lane.
"""

from __future__ import annotations

from mtl.datasets.worlds.materials import Rng

from . import street_materials as mat
from .classes import Scene
from .road_plan import draw_road
from .scene import Ground, Street
from .scenery import scenery
from .site import Site
from .street_furniture import furniture
from .traffic import crossing, cyclists, parked, traffic, walkers

__all__ = ["make_street"]


def make_street(rng: Rng, scene: Scene, *, left_hand: bool, dark: bool, wet: float) -> Street:
    """A street of a kind; `dark` and `wet` change what lamps and asphalt are made of, and nothing that is placed."""
    road = draw_road(rng, scene, left_hand=left_hand)
    ground = Ground(mat.asphalt(rng, wet), mat.asphalt(rng, wet), mat.concrete(rng), mat.pavement(rng), mat.grass(rng))
    site = Site(rng, road, scene, dark=dark)
    for place in (traffic, parked, crossing, walkers, cyclists, furniture, scenery):
        place(site)
    return Street(scene, site.blocked_road(), ground, tuple(site.pieces), tuple(site.classes), tuple(site.lamps))
