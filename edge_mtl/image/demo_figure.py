"""The figure of the demo: a row per sample, a column per task, the truth beside, a legend below."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mtl.image.lettering import put_text
from edge_mtl.image.panel import BACKGROUND, FAINT, INK, column, fit, legend, row, titled
from edge_mtl.prediction import Prediction
from edge_mtl.sources.samples import Sample
from edge_mtl.tasks import kind_of
from edge_mtl.tasks.drawing import legend_entries, scales, true_results
from edge_mtl.tasks.drawing import title as tile_title

__all__ = ["draw", "notes"]

Image = NDArray[np.uint8]

_TILE_WIDTH, _TRUTH_WIDTH, _MARGIN = 400, 132, 28


def draw(samples: Sequence[tuple[Sample, Prediction]], *, title: str, subtitle: str, footnotes: Sequence[str]) -> Image:
    """One image, (H, W, 3) uint8 RGB, of all samples and what was predicted on them."""
    rows = [_sample_row(sample, prediction) for sample, prediction in samples]
    width = max(image.shape[1] for image in rows)
    entries = dict.fromkeys(entry for _, prediction in samples for entry in legend_entries(prediction.results))
    body = column([_header(width, title, subtitle), *rows, legend(sorted(entries), width)], gap=14)
    lines = [_text_line(width, note, 15, FAINT) for note in footnotes]
    whole = column([body, column(lines, gap=0)] if lines else [body], gap=6)
    framed = cv2.copyMakeBorder(whole, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT, value=BACKGROUND)
    return np.asarray(framed, np.uint8)


def notes(sample: Sample, prediction: Prediction) -> dict[str, str]:
    """How good each task's result is, in a few words, where the truth of the sample is known."""
    found: dict[str, str] = {}
    for name, result in prediction.results.items():
        if sample.truths.get(name) is not None:
            kind = kind_of(result.spec)
            metric = kind.metric(result.spec)
            metric.update(result, sample.truths[name])
            found[name] = kind.note(metric.compute())
    return found


def _sample_row(sample: Sample, prediction: Prediction) -> Image:
    truths = true_results(prediction.results, sample.truths)
    scale = scales(prediction.results) | scales(truths)
    small = fit(sample.pixels, _TILE_WIDTH)
    shown = [titled(small, sample.title)]
    height = shown[0].shape[0]
    # Drawn at the size of the tile, so that names and scales have one size whatever the frame's is.
    size = (small.shape[0], small.shape[1])
    noted = notes(sample, prediction)
    for name, result in prediction.results.items():
        kind = kind_of(result.spec)
        drawn = kind.draw(result.spec, small, kind.resize(result, size), scale=scale.get(name))
        shown.append(titled(drawn, tile_title(result), noted.get(name, "")))
    thumbnails = []
    for name, truth in truths.items():
        kind = kind_of(truth.spec)
        shown_truth = kind.colours(truth.spec, truth, scale=scale.get(name))
        if shown_truth is None and kind.viewed_as in ("boxes", "text"):  # no map: drawn on the frame
            shown_truth = kind.draw(truth.spec, sample.pixels, truth)
        if shown_truth is not None:
            thumbnails.append(fit(shown_truth, _TRUTH_WIDTH))
    if thumbnails:
        stack = column(thumbnails, gap=4)
        shown.append(titled(stack[: height - 30], "truth"))
    return row(shown, gap=12)


def _header(width: int, title: str, subtitle: str) -> Image:
    canvas = np.full((86, width, 3), BACKGROUND, np.uint8)
    put_text(canvas, title, (0, 36), size=34, colour=INK, bold=True)
    put_text(canvas, subtitle, (0, 70), size=20, colour=FAINT)
    return canvas


def _text_line(width: int, text: str, size: int, colour: tuple[int, int, int]) -> Image:
    canvas = np.full((size + 9, width, 3), BACKGROUND, np.uint8)
    put_text(canvas, text, (0, size + 1), size=size, colour=colour)
    return canvas
