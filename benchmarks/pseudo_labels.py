"""How far can pseudo-labels be trusted? Share of the pixels kept and how right they are, at several thresholds.

    python benchmarks/pseudo_labels.py edge_mtl/bundles/rooms-b0 --rooms data/rooms --out benchmarks/results/NAME.json
    python benchmarks/pseudo_labels.py BUNDLE --folder data/own --split val

Frames are the test split of rendered rooms, or those of a folder (`data.kind = "folder"`) that people labelled: the second
form says what thresholds are worth on one's own images. All pixels of known truth count, by the rules of
`mtl.pseudo_labels.trust` itself. "one answer" rows are the network without the mirrored image.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Conditions
from rendered_rooms import open_rooms

from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import VOID, Specs, TaskSpec
from edge_mtl.tasks.normals import angles_deg

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from mtl.pseudo_labels.answers import Answer, answer_of
from mtl.pseudo_labels.trust import RULES, Thresholds

Array = np.ndarray

_ALL = Thresholds(confidence=0.0, geometry_confidence=0.0, depth_mirror=1e9, normals_mirror_deg=180.0, consistency_deg=180.0)
_DEFAULT = Thresholds()
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Of labels."""
GRID: Mapping[str, tuple[Thresholds, ...]] = {
    "labels": (_ALL, *(replace(_ALL, confidence=value) for value in CONFIDENCES)),
    "depth": (
        _ALL,
        *(replace(_ALL, depth_mirror=value) for value in (0.2, 0.1, 0.05, 0.02)),
        *(replace(_ALL, geometry_confidence=value) for value in (0.5, 0.7, 0.9)),
        replace(_DEFAULT, depth_mirror=0.1),
        _DEFAULT,
        replace(_DEFAULT, geometry_confidence=0.9),
    ),
    "normals": (
        _ALL,
        *(replace(_ALL, normals_mirror_deg=value) for value in (20.0, 10.0, 5.0)),
        *(replace(_ALL, consistency_deg=value) for value in (45.0, 30.0)),
        *(replace(_ALL, geometry_confidence=value) for value in (0.7, 0.9)),
        replace(_DEFAULT, consistency_deg=180.0),
        _DEFAULT,
        replace(_DEFAULT, normals_mirror_deg=5.0),
        replace(_DEFAULT, consistency_deg=30.0),
    ),
}
"""By kind, what is tried: each measure alone, then together around the defaults."""


@dataclass(slots=True)
class Row:
    """One set of thresholds for one task, over all frames.

    Attributes:
        pixels: of known truth.
        kept: of these, those that get a pseudo-label.
        sums: of what is measured of the kept ones.
    """

    pixels: int = 0
    kept: int = 0
    sums: Array | float = 0.0

    def add(self, known: Array, kept: Array, measured: Array) -> None:
        """A frame: (H, W) bool twice, and (M, K) of the kept pixels."""
        self.pixels += int(known.sum())
        self.kept += int(kept.sum())
        self.sums = self.sums + measured.sum(axis=1, dtype=np.float64)

    def figures(self, names: Iterable[str]) -> dict[str, float | None]:
        """Share kept, and means over the kept pixels; None where none is."""
        sums = np.broadcast_to(np.asarray(self.sums, np.float64), (len(MEASURED["normals"]),))
        found = {name: float(total / self.kept) if self.kept else None for name, total in zip(names, sums, strict=False)}
        return {"kept": self.kept / self.pixels if self.pixels else None, **found}


MEASURED: Mapping[str, tuple[str, ...]] = {
    "labels": ("right",),
    "depth": ("relative_error", "within_10_percent", "within_1_25"),
    "normals": ("mean_deg", "within_11_25_deg", "within_22_5_deg"),
}
"""By kind, means over the kept pixels."""


def measured(kind: str, found: Array, truth: Array, kept: Array) -> Array:
    """(M, K) of the K kept pixels, in the order of `MEASURED`."""
    if kind == "labels":
        return (found[kept] == truth[kept])[None]
    if kind == "depth":
        error = np.abs(found[kept] - truth[kept]) / truth[kept]
        ratio = np.maximum(found[kept] / truth[kept], truth[kept] / found[kept])
        return np.stack([error, error < 0.1, ratio < 1.25])
    angle = angles_deg(found[kept], truth[kept])
    return np.stack([angle, angle < 11.25, angle < 22.5])


def known(kind: str, values: Array) -> Array:
    """(H, W) bool: where labels, depth or normals are known."""
    return values != VOID if kind == "labels" else values > 0 if kind == "depth" else np.asarray(values.any(axis=2))


def measure(engine: Engine, frames: Any, specs: Specs, count: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of every task."""
    rows = {task: [Row() for _ in range(len(GRID[spec.kind]) + 1)] for task, spec in specs.items()}
    mirrored = [task for task, spec in specs.items() if RULES[spec.kind].mirrored]
    for number in range(count):
        frame = frames[number]
        answer = answer_of(engine, frame.image, Intrinsics.of(frame.intrinsics), tasks=list(specs), mirrored=mirrored)
        for task, spec in specs.items():
            if task not in frame.truths:
                continue
            truth = np.asarray(frame.truths[task])
            there = known(spec.kind, truth)
            single = Answer(answer.results, answer.results)  # as if the mirrored image had got the same answer
            for row, given, thresholds in zip(
                rows[task], [single, *[answer] * len(GRID[spec.kind])], (_ALL, *GRID[spec.kind]), strict=True
            ):
                found = RULES[spec.kind].truth(spec, given, thresholds)
                kept = there & known(spec.kind, found)
                row.add(there, kept, measured(spec.kind, found, truth, kept))
        print(f"\r{number + 1}/{count} frames", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {task: _rows(spec, rows[task]) for task, spec in specs.items()}


def _rows(spec: TaskSpec, rows: list[Row]) -> list[dict[str, Any]]:
    rule, found = RULES[spec.kind], []
    for row, thresholds in zip(rows, (None, *GRID[spec.kind]), strict=True):
        asked = (
            {name: value for name, value in rule.facts(thresholds).items() if value != getattr(_ALL, name)}
            if thresholds
            else {}
        )
        name = "one answer, all pixels" if thresholds is None else "all pixels" if not asked else ""
        if thresholds is None and not rule.mirrored:
            continue
        default = thresholds is not None and rule.facts(thresholds) == rule.facts(_DEFAULT)
        found.append({"name": name or "default" * default, "thresholds": asked, **row.figures(MEASURED[spec.kind])})
    return found


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--rooms", type=Path, help="folder of rendered rooms; missing ones are rendered")
    source.add_argument("--folder", type=Path, help="a folder with dataset.toml whose labels people made")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="of --folder (default: %(default)s)")
    parser.add_argument("--count", type=int, default=100, help="frames at most (default: %(default)s)")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    try:
        bundle = Bundle.open(asked.bundle)
        frames, title = _frames(asked, bundle)
        count = min(asked.count, len(frames))
        shared = {name: spec for name, spec in bundle.manifest.tasks.items() if name in frames.tasks and spec.kind in RULES}
        with Engine(bundle, precision=asked.precision, threads=asked.threads) as engine:
            results = measure(engine, frames, shared, count)
            used = f"{engine.info.precision} on {engine.info.backend} {engine.info.runtime_version}"
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for task, rows in results.items():
        print(task)
        for row in rows:
            figures = {
                key: round(value, 4) if isinstance(value, float) else value for key, value in row.items() if key != "name"
            }
            print(f"  {row['name']:24s} {json.dumps(figures)}")
    if asked.out is not None:
        content = {
            "question": "share of pixels kept as pseudo-labels, and how right they are, by threshold",
            **conditions.describe(),
            "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
            "engine": used,
            "frames": {"of": title, "count": count},
            "results": results,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def _frames(asked: argparse.Namespace, bundle: Bundle) -> tuple[Any, str]:
    """The labelled frames, and what they are called."""
    if asked.rooms is not None:
        size = bundle.manifest.input.height, bundle.manifest.input.width
        return open_rooms(asked.rooms, "test", asked.count, size), f"rendered rooms, test split, {size[0]}x{size[1]}"
    from mtl.datasets.folder.description import read_description
    from mtl.datasets.folder.source import FolderRequest
    from mtl.pseudo_labels.records import Records

    if Records.open(asked.folder).entries:
        raise BuildError(
            f"{asked.folder} has pseudo-labels, which are no truth. Delete them: train/pseudo_label.py DIR --remove"
        )
    about = read_description(asked.folder)
    return FolderRequest(str(asked.folder), asked.split).open(), f"{about.title}, split {asked.split}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
