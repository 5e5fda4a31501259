"""Boxes and truths made up from a seed, for tests of the kind "boxes"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_mtl.tasks.boxes import Boxes, BoxesSpec, BoxTruth

Array = np.ndarray


def a_spec(*, classes: int = 3, score: float = 0.3, name: str = "objects") -> BoxesSpec:
    return BoxesSpec(name, "boxes", tuple(f"class {number}" for number in range(classes)), score=score)


def boxes(spec: BoxesSpec, xyxy: object, scores: Sequence[float] | Array, classes: Sequence[int] | Array) -> Boxes:
    return Boxes(spec, np.array(xyxy, float).reshape(-1, 4), np.array(scores, float), np.array(classes, np.int64))


def truth(xyxy: object, classes: Sequence[int] | Array, crowd: Sequence[bool] | Array | None = None) -> BoxTruth:
    many = np.zeros(len(classes), bool) if crowd is None else np.array(crowd, bool)
    return BoxTruth(np.array(xyxy, float).reshape(-1, 4), np.array(classes, np.int64), many)


def frames(seed: int, *, images: int = 12, classes: int = 3) -> list[tuple[Boxes, BoxTruth]]:
    """Answers and truths: four of five objects found, shifted, one of ten of them in another class, and strays."""
    random, spec, found = np.random.default_rng(seed), a_spec(classes=classes), []
    for _ in range(images):
        count = random.integers(0, 6)
        there = _random_boxes(random, count)
        names = random.integers(0, classes, count)
        kept = random.random(count) < 0.8
        near = there[kept] + random.normal(0, 4, (kept.sum(), 4))
        called = np.where(random.random(kept.sum()) < 0.9, names[kept], random.integers(0, classes, kept.sum()))
        strays = random.integers(0, 4)
        everything = np.concatenate([near, _random_boxes(random, strays)])
        of_class = np.concatenate([called, random.integers(0, classes, strays)])
        found.append((boxes(spec, everything, random.random(len(everything)), of_class), truth(there, names)))
    return found


def _random_boxes(random: np.random.Generator, count: int) -> Array:
    corner = random.uniform(0, 300, (count, 2))
    return np.concatenate([corner, corner + random.uniform(8, 120, (count, 2))], axis=1)
