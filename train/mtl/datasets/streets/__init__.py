"""Procedural streets with exact boxes, drivable area, lanes, depth, classes and normals, rendered once and kept on disk."""

from .dataset import StreetsDataset
from .render import RENDERER_VERSION, StreetOptions, StreetSample, render_street

__all__ = ["RENDERER_VERSION", "StreetOptions", "StreetSample", "StreetsDataset", "render_street"]
