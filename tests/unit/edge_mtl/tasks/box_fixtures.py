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


def whole(found: Boxes) -> Boxes:
    """Without boxes that were shifted until nothing was left of them."""
    kept = (found.xyxy[:, 2:] > found.xyxy[:, :2]).all(axis=1)
    return Boxes(found.spec, found.xyxy[kept], found.scores[kept], found.classes[kept])


def crowded(seed: int) -> list[tuple[Boxes, BoxTruth]]:
    """As `frames`, with crowds, equal scores, exact answers, and more boxes of one class than count."""
    random, found = np.random.default_rng(seed), []
    for answer, true in frames(seed, images=30, classes=4):
        own = whole(answer)
        everything = np.concatenate([own.xyxy, _random_boxes(random, 140), true.xyxy])
        of_class = np.concatenate([own.classes, np.arange(140) % 25 // 24, true.classes])
        scores = np.round(random.random(len(everything)), 2)
        crowd = random.random(len(true)) < 0.3
        found.append((boxes(answer.spec, everything, scores, of_class), truth(true.xyxy, true.classes, crowd)))
    return found


def _random_boxes(random: np.random.Generator, count: int) -> Array:
    corner = random.uniform(0, 300, (count, 2))
    return np.concatenate([corner, corner + random.uniform(8, 120, (count, 2))], axis=1)
