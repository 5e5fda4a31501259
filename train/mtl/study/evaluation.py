"""What train/evaluate.py found, as a report: the table, and whether the tasks' gradients pulled apart while a run was trained.

Knows metrics by name and cosines; knows nothing about models or how they are measured.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence

from mtl.study.columns import study_cells
from mtl.study.cosines import PairCosines
from mtl.study.document import Block, Document, Heading, Items, Text, TextTable
from mtl.study.figures import cosine_figure
from mtl.study.full_tables import Cells
from mtl.study.tables import cosine_table

__all__ = ["evaluation_document"]

Rows = Mapping[str, Mapping[str, float | None]]


def evaluation_document(
    measured: Rows,
    recorded: Rows,
    cosines: Mapping[str, Sequence[PairCosines]],
    *,
    frames: str,
    command: Sequence[str],
    remarks: Sequence[str] = (),
    pseudo: Collection[str] = (),
    tables: Mapping[str, Cells] | None = None,
) -> Document:
    """The report.

    Args:
        measured: metrics of every model, by name; see `study_cells`.
        recorded: what runs measured on validation frames while they were trained.
        cosines: of each run, by name; empty where it sampled none.
        frames: which they are, in words: "654 test frames of NYU Depth v2".
        remarks: what a reader of the measures should know, see `edge_mtl.tasks.remarks`.
        pseudo: keys of measures whose truth was computed, see `study_cells`.
        tables: more tables of the same models, by caption.
    """
    blocks: list[Block] = [_table(measured, frames, pseudo), *(Text(remark, small=True) for remark in remarks)]
    blocks += [TextTable(headings, tuple(lines), caption=caption) for caption, (headings, lines) in (tables or {}).items()]
    if recorded:
        blocks.append(_table(recorded, "validation frames, as the runs recorded them"))
    if cosines:
        blocks.append(Heading("Negative transfer: gradients of the tasks"))
    for number, (name, pairs) in enumerate(cosines.items()):
        if not pairs:
            none = f"{name} sampled no gradients: train with --loop.cosine_every 25 to see whether the tasks pull apart."
            blocks.append(Text(none, small=True))
            continue
        blocks += [cosine_figure(name, pairs, file=f"cosines-{number}.svg"), cosine_table(pairs)]
    blocks += [Heading("Repeat it"), Items((shlex.join(command),), code=True)]
    return Document("Evaluation", f"How well do these models see {frames}?", blocks)


def _table(rows: Rows, caption: str, pseudo: Collection[str] = ()) -> TextTable:
    headings, lines = study_cells(rows, pseudo=pseudo)
    return TextTable(headings, tuple(lines), caption=caption)
