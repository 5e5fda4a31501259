"""What several rows of a study predict for the same held-out frames, beside the truth, as one image.

A report is made to be passed on: where images of the data set may not be, rendered rooms are predicted in their place. Knows
runs, models and how maps are painted; knows nothing about the rest of the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from edge_mtl.tasks import Specs
from mtl.bundle_images import embeds, kept_back
from mtl.checkpoint import load_weights
from mtl.datasets.frame import Frame
from mtl.datasets.sources import held_out_frames, stand_in_frames, stand_in_tasks
from mtl.evaluate import Judged, judge, model_predictor
from mtl.images import paint
from mtl.models.configured import model_from
from mtl.study.document import Figure
from mtl.study.results import Results, RowResult

__all__ = ["prediction_figure"]

_WEIGHTS = "last.safetensors"
_GAP_PX = 4
_CELL_WIDTH_PX = 192
_JPEG_QUALITY = 82
_ALONE = "one model per task"


def prediction_figure(results: Results) -> Figure | None:
    """The truth, the single-task models and the rows that the study asks for; None when none of them is finished.

    Every frame takes one line per task; the first column of its first line is the image.

    Raises:
        CheckpointError, BuildError: weights that cannot be read, frames that cannot be had.
    """
    columns: dict[str, dict[str, RowResult]] = {}
    singles = results.singles
    if singles and len(singles) == len(results.study.single):
        columns[_ALONE] = dict(singles)
    for name in results.study.images.rows:
        row = results.get(name)
        if row is not None:
            columns[name] = dict.fromkeys(row.tasks, row)
    rows = {row.row.name: row for parts in columns.values() for row in parts.values()}
    if not rows:
        return None
    withheld = _withheld(rows.values())
    judged = {name: _judged(row, results.study.images.frames, rooms=withheld is not None) for name, row in rows.items()}
    tasks = {task: spec for task, spec in results.tasks.items() if any(task in parts for parts in columns.values())}
    known = withheld is None or any(one.truths for shown in judged.values() for one in shown)
    lines = []
    for number in range(len(next(iter(judged.values())))):
        first = next(iter(judged.values()))[number]
        for task, spec in tasks.items():
            truths = [one[number].truths.get(task) for one in judged.values()]
            truth = next((one for one in truths if one is not None), None)
            cells = [first.image, *([paint(spec, first.image, truth)] if known else [])]
            for parts in columns.values():
                own = judged[parts[task].row.name][number].predicted if task in parts else {}
                cells.append(paint(spec, first.image, own.get(task)))
            lines.append(np.concatenate([_scaled(cell) for cell in cells], axis=1))
    sheet = np.concatenate(lines, axis=0)
    fine, payload = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert fine
    indices = ", ".join(str(index) for index in results.study.images.frames)
    frames = f"Validation frames {indices}" if withheld is None else "Rendered rooms"
    caption = f"{frames}: {', '.join(tasks)}, predicted with the last weights of each row's first seed."
    headings = ("image", *(["truth"] if known else []), *columns)
    return Figure("predictions.jpg", payload.tobytes(), caption if withheld is None else f"{caption} {withheld}", headings)


def _withheld(rows: Iterable[RowResult]) -> str | None:
    """Why no image of the data set is shown and where there are some; None where they may be."""
    runs = [row.finished[0].run for row in rows]
    kept = next((run for run in runs if not embeds(run.settings)), None)
    if kept is None:
        return None
    named = "; ".join(f"{title}, licence: {licence}" for title, licence in kept_back(kept.settings.data))
    why = f"which may not be passed on ({named})" if named else "as export.embed_images says"
    return f"They stand in for validation frames, {why}; pictures of those are in the folders of runs that drew some."


def _judged(row: RowResult, indices: Sequence[int], *, rooms: bool) -> list[Judged]:
    """The answers of a row's network.

    Args:
        indices: of validation frames.
        rooms: whether as many rendered rooms are shown in their place.
    """
    run = row.finished[0].run
    settings = run.settings
    model = model_from(settings, pretrained=False)
    weights, metadata = load_weights(run.folder / _WEIGHTS)
    model.load_state_dict(weights)
    height, width = (int(side) for side in metadata["size"])
    if rooms:
        source = stand_in_frames(len(indices), (height, width))
        chosen = [_with_own_truths(source[number], model.specs) for number in range(len(indices))]
    else:
        frames = held_out_frames(settings.data, "val").open(workers=settings.data.workers, progress=True)
        chosen = [frames[index % len(frames)] for index in indices]
    return list(judge(model_predictor(model), chosen, model.specs, size=(height, width), canonical=settings.data.canonical))


def _with_own_truths(room: Frame, specs: Specs) -> Frame:
    """A room with its truths of tasks that are the network's, classes and all."""
    known = stand_in_tasks()
    truths = {name: truth for name, truth in room.truths.items() if specs.get(name) == known[name]}
    return replace(room, truths=truths)


def _scaled(cell: np.ndarray) -> np.ndarray:
    """A cell of the sheet's width with a white gap at the right and below."""
    height = round(cell.shape[0] * _CELL_WIDTH_PX / cell.shape[1])
    resized = cv2.resize(cell, (_CELL_WIDTH_PX, height), interpolation=cv2.INTER_NEAREST)
    return np.pad(resized, [(0, _GAP_PX), (0, _GAP_PX), (0, 0)], constant_values=255)
