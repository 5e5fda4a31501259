"""Where a benchmark goes: JSON, the card as HTML and Markdown, images of predictions, and the check against an older one.

Knows files; measures nothing.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from edge_mtl.bench.card import to_html, to_markdown
from edge_mtl.bench.report import BenchmarkReport
from edge_mtl.bench.targets import BenchmarkTarget, EngineTarget
from edge_mtl.commands.benchmark import OutputPaths
from edge_mtl.commands.terminal import Terminal, plain
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.files import write_atomic
from edge_mtl.sources.samples import photograph

__all__ = ["check_against", "check_places", "draw", "image_places", "write"]

_IMAGES = 3
_QUALITY = 82


def check_against(results: OutputPaths, planned: Mapping[str, Any]) -> None:
    """Refuse an older benchmark that what is `planned` cannot be compared with, see `edge_mtl.bench.compare.check_comparable`.

    Raises:
        BundleError: the older benchmark cannot be read, or measured something else.
    """
    if results.against is not None:
        from edge_mtl.bench.compare import check_comparable, read

        check_comparable(read(results.against), planned)


def check_places(results: OutputPaths) -> None:
    """Refuse what would fail after minutes of measuring. Raises OSError where a name is that of a folder."""
    for path in (results.html, results.markdown, results.out):
        if path is not None and path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "expected a file name, found a folder", str(path))


def image_places(results: OutputPaths) -> int:
    """How many images the results have room for."""
    return 0 if results.html is None else _IMAGES


def draw(fastest_first: Sequence[BenchmarkTarget], count: int) -> list[tuple[str, bytes]]:
    """(title, JPEG) of frames with the maps of the fastest Engine: labelled ones, and a photograph from scikit-image."""
    subject = next((entry for entry in fastest_first if isinstance(entry, EngineTarget)), None)
    if subject is None:
        return []
    frames = [(f"labelled frame {item.name}", item.frame, item.intrinsics) for item in evaluation_frames(subject.bundle)]
    # Spread over the set: neighbours in a folder resemble each other.
    chosen = [frames[place] for place in sorted({*np.linspace(0, len(frames) - 1, count).astype(int)})] if frames else []
    if (real := photograph(subject.bundle.manifest.tasks)) is not None:
        chosen[-1:] = [("a photograph, from scikit-image (Middlebury 2014)", real.pixels, real.intrinsics)]
    found = []
    for title, frame, intrinsics in chosen:
        prediction = subject.engine.predict(frame, intrinsics=intrinsics)
        image = prediction.panel(frame)
        fine, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if fine:
            found.append((f"{title}: {subject.name}", bytes(encoded.tobytes())))
    return found


def write(terminal: Terminal, report: BenchmarkReport, images: Sequence[tuple[str, bytes]], results: OutputPaths) -> None:
    """Write what was asked for, and compare with an older benchmark.

    Raises:
        OSError: a file cannot be written.
        BundleError, RegressionError: see `edge_mtl.commands.compare`.
    """
    content = plain(report.to_dict())
    for path, payload in (
        (results.out, lambda: json.dumps(content, indent=1, allow_nan=False) + "\n"),
        (results.html, lambda: to_html(content, images=images)),
        (results.markdown, lambda: to_markdown(content)),
    ):
        if path is not None:
            write_atomic(path, payload().encode())
            terminal.show(f"Written: {path}")
    if results.against is None:
        if terminal.json_output:
            terminal.record(content)
        return
    from edge_mtl.bench.compare import compare, read
    from edge_mtl.commands.compare import judge, record, show

    found = compare(read(results.against), content, threshold=results.threshold)
    if terminal.json_output:
        terminal.record({**content, "comparison": record(found)})
    else:
        show(terminal, found)
    judge(found)
