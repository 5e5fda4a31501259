"""The report of a study: from its results to a document, and to files, whole or not at all.

Knows what a reader asks, in which order; how it is written is elsewhere (`mtl.study.markdown`, `mtl.study.html`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_mtl.files import write_atomic
from edge_mtl.tasks import Specs, remarks
from mtl.study.answers import answer_all
from mtl.study.comparison import Comparison
from mtl.study.cosines import pair_cosines
from mtl.study.document import Answers, Block, Document, Facts, Figure, Heading, Items, Text
from mtl.study.facts import facts_of, left_out
from mtl.study.figures import change_figures, cosine_figure, learning_figure, pareto_figure
from mtl.study.html import to_html
from mtl.study.markdown import to_markdown
from mtl.study.numbers import numbers_of
from mtl.study.results import Results, RowResult
from mtl.study.tables import choices_table, cosine_table, group_table, latency_table
from mtl.study.timings import Latencies
from mtl.study.toml_tables import StudyError
from mtl.study.truths import truth_remarks
from mtl.tasks import head_of

__all__ = ["HTML", "MARKDOWN", "RESULTS", "build_document", "write_files", "write_report"]

MARKDOWN, HTML, RESULTS = "report.md", "report.html", "results.json"


def build_document(results: Results, *, latencies: Latencies | None, images: Figure | None, command: Sequence[str]) -> Document:
    """Everything that is finished, said so that a newcomer understands it.

    Args:
        latencies: of some rows, None when they were not measured; beside the decoders where they are compared, else apart.
        images: of predictions, if there are any.
        command: what repeats the study.
    """
    study, compare = results.study, Comparison(results)
    blocks: list[Block] = [
        Heading("Answers"),
        Answers(tuple(answer_all(compare, latencies))),
        Heading("What was run"),
        Facts(tuple(facts_of(results))),
        *(Text(note) for note in study.notes),
    ]
    for key, group in study.groups.items():
        rows = results.in_group(key)
        blocks.append(Heading(group.title))
        blocks += [Text(f"Not run: “{row.row.name}”. {row.row.reason}", small=True) for row in rows if not row.row.run]
        if not any(row.finished for row in rows):
            blocks.append(Text("No row of this table is finished."))
            continue
        caption = "Test frames, weights of the last step; mean ± standard deviation over seeds. Best mean in bold."
        caption += " (pseudo): against computed truth." if results.pseudo else ""
        blocks.append(group_table(compare, rows, caption=caption))
        blocks += change_figures(compare, key)
        if key == "decoders":
            blocks += [figure for figure in (pareto_figure(compare, latencies),) if figure is not None]
            blocks += [latency_table(latencies)] if latencies is not None else [Text("Latency was not measured.", small=True)]
    if latencies is not None and "decoders" not in study.groups:
        blocks += [Heading("Time of a frame"), latency_table(latencies)]
    blocks += _gradients(results.reference)
    learning = learning_figure(results)
    blocks += [Heading("Learning curves"), learning] if learning is not None else []
    blocks += [Heading("Predictions"), images] if images is not None else []
    compared = [row for row in (results.reference, *results.singles.values()) if row is not None]
    caption = "The same runs, with their weights chosen in different ways."
    choices = choices_table(compared, caption=caption, pseudo=results.pseudo)
    blocks += [Heading("How the weights were chosen"), choices] if choices is not None else []
    for heading, lines in left_out(results).items():
        blocks += [Heading(heading), Items(lines)] if lines else []
    blocks += [
        Heading("How to read the numbers"),
        Items((_delta_m(results.tasks), *remarks(results.tasks), *truth_remarks(results.truths), *_method(compare))),
        Heading("Repeat it"),
        Items((shlex.join(command),), code=True),
    ]
    return Document(study.title, study.question, blocks)


def write_report(folder: Path, document: Document, results: Results, *, latencies: Latencies | None) -> list[Path]:
    """Write report.md with its figures, report.html and results.json; the paths of the first two. Raises as `write_files`."""
    return write_files(folder, document, numbers=numbers_of(results, latencies))


def write_files(folder: Path, document: Document, *, numbers: Mapping[str, Any]) -> list[Path]:
    """Write report.md with its figures, report.html and, of `numbers`, results.json; the paths of the first two.

    Raises:
        StudyError: a file cannot be written.
    """
    files: dict[str, bytes] = {}
    for block in document.blocks:
        if isinstance(block, Figure):
            files[block.name] = _svg_file(block.content) if isinstance(block.content, str) else block.content
    content = json.dumps(numbers, indent=1, ensure_ascii=False)
    files |= {RESULTS: (content + "\n").encode(), MARKDOWN: to_markdown(document).encode(), HTML: to_html(document).encode()}
    for name, payload in files.items():
        try:
            write_atomic(folder / name, payload)
        except OSError as exc:
            raise StudyError(f"{folder / name} cannot be written ({exc.strerror}). Choose another folder with --out") from exc
    return [folder / MARKDOWN, folder / HTML]


_METHOD = (
    "± in tables is the standard deviation over seeds, of two values where a row has two; a row with one seed has none.",
    "± in sentences and lines in plots are 95 % intervals. How much a metric varies between seeds is pooled over all rows that "
    "ran several, as a share of its value, and is taken to hold for rows with one seed. The margins of several tasks are added "
    "up as if they moved together, the widest they can be.",
    "'No difference shown' means that the difference is not larger than that interval. It does not mean that there is none.",
    "Many rows are compared with one. With every twentieth true 'no difference', chance alone shows one.",
)


def _method(compare: Comparison) -> tuple[str, ...]:
    """How differences are judged, with how little the spread over seeds rests on here."""
    found = sorted({compare.noise.freedom(key) for keys in compare.one_metric.values() for key in keys} - {0})
    if not found:
        return _METHOD
    count = f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"
    few = (
        f"Degrees of freedom behind each metric's spread over seeds: {count}. The intervals are Student's, which are the wider "
        "the fewer there are; with few of them the spread itself is a rough estimate."
    )
    return (*_METHOD[:2], few, *_METHOD[2:])


def _delta_m(specs: Specs) -> str:
    measures = ", ".join(f"{head_of(spec).columns_of(spec)[0].words} for {task}" for task, spec in specs.items())
    return (
        "Δm is the mean over tasks of the relative change against the models trained for one task each, in percent, positive "
        f"is better (Maninis et al. 2019): {measures}."
    )


def _gradients(reference: RowResult | None) -> list[Block]:
    pairs = pair_cosines(reference) if reference is not None else []
    if reference is None or not pairs:
        return []
    figure = cosine_figure(reference.row.name, pairs)
    return [Heading("Negative transfer: gradients of the tasks"), figure, cosine_table(pairs)]


def _svg_file(svg: str) -> bytes:
    return ('<?xml version="1.0" encoding="utf-8"?>\n' + svg).encode()
