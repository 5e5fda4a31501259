"""The figure of the demo: a row per sample, a column per map, the truth beside, a legend below."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.evaluation.metrics import MultiTaskMetrics
from edge_mtl.image.colour import colour_depth, colour_labels, colour_normals, depth_range
from edge_mtl.image.lettering import put_text
from edge_mtl.image.panel import BACKGROUND, FAINT, INK, Maps, column, fit, legend, map_tiles, row, titled
from edge_mtl.sources.samples import Sample, Truth
from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION, VOID

__all__ = ["draw"]

Image = NDArray[np.uint8]

_TILE_WIDTH, _TRUTH_WIDTH, _MARGIN = 400, 132, 28


def draw(
    samples: Sequence[tuple[Sample, Maps]], *, title: str, subtitle: str, footnotes: Sequence[str], classes: Sequence[str]
) -> Image:
    """One image, (H, W, 3) uint8 RGB, of all samples and what was predicted on them."""
    rows = [_sample_row(sample, prediction, classes) for sample, prediction in samples]
    width = max(image.shape[1] for image in rows)
    present = sorted({index for _, prediction in samples for index in _present(prediction, len(classes))})
    body = column([_header(width, title, subtitle), *rows, legend(present, width, classes=classes)], gap=14)
    lines = [_text_line(width, note, 15, FAINT) for note in footnotes]
    whole = column([body, column(lines, gap=0)] if lines else [body], gap=6)
    framed = cv2.copyMakeBorder(whole, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT, value=BACKGROUND)
    return np.asarray(framed, np.uint8)


def _sample_row(sample: Sample, prediction: Maps, classes: Sequence[str]) -> Image:
    truth = sample.truth
    known = truth.depth if truth.depth is not None else prediction.depth
    range_m = None if known is None else depth_range(known)
    notes = _notes(prediction, truth)
    tiles = [titled(fit(sample.pixels, _TILE_WIDTH), sample.title)]
    height = tiles[0].shape[0]
    # Drawn at the size of the tile, so that names and scales have one size whatever the frame's is.
    small = _resized(prediction, *fit(sample.pixels, _TILE_WIDTH).shape[:2])
    for name, image in map_tiles(fit(sample.pixels, _TILE_WIDTH), small, classes=classes, range_m=range_m):
        tiles.append(titled(image, name, notes.get(name, "")))
    thumbnails = _truth_thumbnails(truth, range_m)
    if thumbnails:
        stack = column(thumbnails, gap=4)
        tiles.append(titled(stack[: height - 30], "truth"))
    return row(tiles, gap=12)


def _truth_thumbnails(truth: Truth, range_m: tuple[float, float] | None) -> list[Image]:
    images = []
    if truth.segmentation is not None:
        images.append(colour_labels(truth.segmentation))
    if truth.depth is not None:
        images.append(colour_depth(truth.depth, range_m))
    if truth.normals is not None:
        images.append(colour_normals(truth.normals))
    return [fit(image, _TRUTH_WIDTH) for image in images]


def _notes(prediction: Maps, truth: Truth) -> dict[str, str]:
    """How good each map is where the truth is known, in words for its title line."""
    metrics = MultiTaskMetrics()
    metrics.update(
        {SEGMENTATION: prediction.segmentation, DEPTH: prediction.depth, NORMALS: prediction.normals},
        {SEGMENTATION: truth.segmentation, DEPTH: truth.depth, NORMALS: truth.normals},
    )
    values = metrics.compute()
    notes = {
        "segmentation": f"{100 * values['pixel_accuracy']:.0f} % of pixels right",
        "depth": f"error {100 * values['depth_rel']:.0f} %",
        "surface normals": f"error {values['normal_mean_deg']:.0f}°",
    }
    return {name: text for name, text in notes.items() if "nan" not in text}


def _resized(maps: Maps, height: int, width: int) -> Truth:
    size = (width, height)
    normals = None if maps.normals is None else cv2.resize(maps.normals, size, interpolation=cv2.INTER_LINEAR)
    return Truth(
        None if maps.segmentation is None else cv2.resize(maps.segmentation, size, interpolation=cv2.INTER_NEAREST),
        None if maps.depth is None else cv2.resize(maps.depth, size, interpolation=cv2.INTER_LINEAR),
        None if normals is None else normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-6),
    )


def _present(prediction: Maps, count: int) -> list[int]:
    labels = prediction.segmentation
    return [] if labels is None else [int(i) for i in np.unique(labels) if i < count and i != VOID]


def _header(width: int, title: str, subtitle: str) -> Image:
    canvas = np.full((86, width, 3), BACKGROUND, np.uint8)
    put_text(canvas, title, (0, 36), size=34, colour=INK, bold=True)
    put_text(canvas, subtitle, (0, 70), size=20, colour=FAINT)
    return canvas


def _text_line(width: int, text: str, size: int, colour: tuple[int, int, int]) -> Image:
    canvas = np.full((size + 9, width, 3), BACKGROUND, np.uint8)
    put_text(canvas, text, (0, size + 1), size=size, colour=colour)
    return canvas
