"""COCO, ADE20K and ImageNet in their file formats, a few small images each, made here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mtl.datasets.ade20k.classes import NUMBERS

from edge_mtl.image.encoding import encode_image

__all__ = [
    "CATEGORIES",
    "SIZE",
    "coco_json",
    "grey_png",
    "image",
    "jpeg",
    "write_ade_challenge",
    "write_ade_full",
    "write_coco",
    "write_imagenet",
]

SIZE = (48, 64)
CATEGORIES = ({"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"})
"""Ids with gaps, not in order."""

SYNSETS = ("n01440764", "n02012849", "n03126707")
SCENES = ("bedroom", "street", "kitchen")


def image(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8 RGB that differs from others."""
    rng = np.random.default_rng(number)
    return cv2.resize(rng.integers(0, 255, (4, 5, 3), np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)


def jpeg(path: Path, number: int, size: tuple[int, int] = SIZE) -> None:
    """Write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, payload = cv2.imencode(".jpg", image(number, size)[..., ::-1])
    assert done
    path.write_bytes(payload.tobytes())


def grey_png(values: np.ndarray) -> bytes:
    """(H, W) uint8 as PNG."""
    done, payload = cv2.imencode(".png", values)
    assert done
    return payload.tobytes()


def coco_json(count: int, first: int = 0, categories: Sequence[Mapping[str, Any]] = CATEGORIES) -> dict[str, Any]:
    """A JSON of `count` images; image i has i % 3 boxes, of the i-th category and on."""
    images = [
        {"id": 100 + first + one, "file_name": f"{first + one:012d}.jpg", "height": SIZE[0], "width": SIZE[1], "license": 1}
        for one in range(count)
    ]
    annotations = [
        {
            "id": 1000 + 10 * (first + one) + box,
            "image_id": 100 + first + one,
            "category_id": categories[(one + box) % len(categories)]["id"],
            "bbox": [4 + 8 * box, 6, 20.5, 10],
            "area": 205,
            "iscrowd": int(box == 1),
            "segmentation": [],
        }
        for one in range(count)
        for box in range(one % 3)
    ]
    return {
        "info": {"year": 2026},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": list(categories),
    }


def write_coco(root: Path, *, train: int = 4, val: int = 3, jsons: Mapping[str, Any] | None = None) -> Path:
    """COCO's folders; `jsons` has another JSON for a split."""
    for split, count, first in (("train", train, 0), ("val", val, 50)):
        content = (jsons or {}).get(split, coco_json(count, first))
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
        for one in range(count):
            jpeg(root / f"{split}2017" / f"{first + one:012d}.jpg", first + one)
    return root


def write_ade_challenge(root: Path, *, train: int = 4, val: int = 2, scenes: bool = True) -> Path:
    """The scene parsing challenge: columns 0 to 63 of mask i are 0, i + 1 and 150."""
    lines = []
    for word, split, count, first in (("training", "train", train, 1), ("validation", "val", val, 1)):
        for number in range(first, first + count):
            stem = f"ADE_{split}_{number:08d}"
            jpeg(root / "images" / word / f"{stem}.jpg", number + (100 if split == "val" else 0))
            mask = np.zeros(SIZE, np.uint8)
            mask[:, 16:40], mask[:, 40:] = number + 1, 150
            path = root / "annotations" / word / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(grey_png(mask))
            lines.append(f"{stem} {SCENES[number % 3]}")
    if scenes:
        (root / "sceneCategories.txt").write_text("\n".join(lines) + "\n")
    return root


def write_ade_full(root: Path, *, count: int = 3) -> Path:
    """The full release: half of an image is wall, the rest a class that the benchmark does not have."""
    for number in range(count):
        for word, split in (("training", "train"), ("validation", "val")):
            folder = root / "images" / "ADE" / word / "urban" / SCENES[number % 3]
            stem = f"ADE_{split}_{number:08d}"
            jpeg(folder / f"{stem}.jpg", number + (100 if split == "val" else 0))
            (folder / stem).mkdir()
            (folder / stem / f"instance_000_{stem}.png").write_bytes(grey_png(np.zeros(SIZE, np.uint8)))
            seg = np.zeros((*SIZE, 3), np.uint8)
            (wall,) = NUMBERS["wall"]
            seg[:, :32, 0], seg[:, :32, 1] = wall // 256 * 10, wall % 256
            seg[:, 32:, 0], seg[:, 32:, 1] = 597 // 256 * 10, 597 % 256
            seg[..., 2] = number
            (folder / f"{stem}_seg.png").write_bytes(encode_image(seg))
            (folder / f"{stem}_parts_1.png").write_bytes(encode_image(seg))
            named = [{"name_ndx": wall, "name": "wall"}, {"name_ndx": 597, "name": "caf\u00e9 container"}]
            text = json.dumps({"annotation": {"scene": [], "object": named}}, ensure_ascii=False)
            (folder / f"{stem}.json").write_text(text, encoding="iso-8859-1")
    return root


def write_imagenet(root: Path, *, train: int = 2, flat: bool = False, names: bool = True) -> Path:
    """Class folders of synsets; `flat` has validation images in one folder with a list, as ILSVRC2012 does."""
    for place, synset in enumerate(SYNSETS):
        for number in range(train):
            jpeg(root / "train" / synset / f"{synset}_{number}.JPEG", 10 * place + number)
        name = f"ILSVRC2012_val_{place + 1:08d}"
        jpeg(root / "val" / (f"{name}.JPEG" if flat else f"{synset}/{name}.JPEG"), 100 + place)
    if names:
        words = ("tench, Tinca tinca", "crane", "crane")
        lines = (f"{synset} {word}" for synset, word in zip(SYNSETS, words, strict=True))
        (root / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")
    return root
