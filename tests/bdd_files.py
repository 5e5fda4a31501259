"""BDD100K in its file formats, both releases, and Cityscapes as LibMTL has it: a few small images each, made here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.published_files import SIZE, grey_png, jpeg

__all__ = [
    "box",
    "drivable_mask",
    "frame",
    "lane_mask",
    "stem",
    "write_bdd",
    "write_bdd_2018",
    "write_cityscapes",
    "write_json",
    "write_mask",
]

WEATHER = ("clear", "undefined", "rainy")
SCENES = ("city street", "highway", "undefined")


def stem(number: int) -> str:
    """The name of an image without its ending."""
    return f"{number:08x}-{7 * number + 1:08x}"


def frame(number: int, labels: Sequence[dict[str, Any]] | None = (), **more: Any) -> dict[str, Any]:
    """A frame in Scalabel's format."""
    attributes = {"weather": WEATHER[number % 3], "scene": SCENES[number % 3], "timeofday": "dawn/dusk"}
    listed = None if labels is None else list(labels)
    return {"name": f"{stem(number)}.jpg", "attributes": attributes, "timestamp": 10000, "labels": listed, **more}


def box(category: str, corners: Sequence[float], **attributes: Any) -> dict[str, Any]:
    """A label with a box."""
    known = {"occluded": False, "truncated": False, "trafficLightColor": "NA", **attributes}
    named = dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True))
    return {"id": "7", "category": category, "attributes": known, "box2d": named}


def boxes(number: int) -> list[dict[str, Any]]:
    """number % 3 boxes, the second one a crowd."""
    found = [box("car", (4, 5, 13, 20.5)), box("person", (30, 10, 31.25, 40), crowd=True)]
    return found[: number % 3]


def lane_mask() -> np.ndarray:
    """(H, W) uint8: a dashed white line, a crosswalk, a kerb; the rest is background."""
    mask = np.full(SIZE, 255, np.uint8)
    mask[:, 10:12], mask[30:33, 20:40], mask[:, 60:] = 6 | 16, 0 | 32, 4
    return mask


def drivable_mask() -> np.ndarray:
    """(H, W) uint8: background above, direct left, alternative right."""
    mask = np.full(SIZE, 2, np.uint8)
    mask[24:, :32], mask[24:, 32:] = 0, 1
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write it, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write it as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(grey_png(mask))


def write_bdd(root: Path, *, train: int = 4, val: int = 2, seg: int = 1) -> Path:
    """The layout of 2020: boxes, drivable areas and lanes of images/100k, `seg` of images/10k with classes of pixels."""
    for split, count, first in (("train", train, 0), ("val", val, 50)):
        numbers = range(first, first + count)
        for number in numbers:
            jpeg(root / "images" / "100k" / split / f"{stem(number)}.jpg", number)
            write_mask(root / "labels" / "drivable" / "masks" / split / f"{stem(number)}.png", drivable_mask())
            write_mask(root / "labels" / "lane" / "masks" / split / f"{stem(number)}.png", lane_mask())
            colours = root / "labels" / "lane" / "colormaps" / split / f"{stem(number)}.png"
            write_mask(colours, np.zeros(SIZE, np.uint8))
        write_json(root / "labels" / "det_20" / f"det_{split}.json", [frame(number, boxes(number)) for number in numbers])
        for number in range(first + 100, first + 100 + seg):
            jpeg(root / "images" / "10k" / split / f"{stem(number)}.jpg", number)
            mask = np.full(SIZE, 18, np.uint8)
            mask[:, :16], mask[0] = 0, 255
            write_mask(root / "labels" / "sem_seg" / "masks" / split / f"{stem(number)}.png", mask)
    return root


def objects_2018(number: int) -> list[dict[str, Any]]:
    """Labels of a file of the release of 2018."""
    area = [[0, 24, "L"], [32, 24, "L"], [32, 48, "L"], [0, 48, "L"]]
    line = [[10.5, 0, "L"], [10.5, 16, "C"], [10.5, 32, "C"], [10.5, 48, "C"]]
    found = [
        {"category": "traffic sign", "id": 0, "attributes": {}, "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}},
        {"category": "motor", "id": 1, "attributes": {}, "box2d": {"x1": 9, "y1": 9, "x2": 18, "y2": 18}},
        {"category": "area/drivable", "id": 2, "attributes": {}, "poly2d": area},
        {"category": "area/alternative", "id": 3, "attributes": {}, "poly2d": [[x + 32, y, form] for x, y, form in area]},
        {"category": "lane/single white", "id": 4, "attributes": {"direction": "parallel", "style": "solid"}, "poly2d": line},
    ]
    return found if number % 2 == 0 else found[:1]


def write_bdd_2018(root: Path, *, combined: bool, train: int = 2, val: int = 1) -> Path:
    """The release of 2018: a file for each image, or one of all, boxes, drivable areas and lanes in it."""
    for split, count, first in (("train", train, 0), ("val", val, 50)):
        frames = []
        for number in range(first, first + count):
            jpeg(root / "images" / "100k" / split / f"{stem(number)}.jpg", number)
            attributes = frame(number)["attributes"]
            objects = objects_2018(number)
            if not combined:
                content = {"name": stem(number), "frames": [{"timestamp": 10000, "objects": objects}], "attributes": attributes}
                write_json(root / "labels" / "100k" / split / f"{stem(number)}.json", content)
            frames.append(frame(number, [_combined(one) for one in objects]))
        if combined:
            write_json(root / "labels" / f"bdd100k_labels_images_{split}.json", frames)
    return root


def write_cityscapes(root: Path, *, train: int = 3, val: int = 2, size: tuple[int, int] = (32, 64)) -> Path:
    """LibMTL's folder: images of 0..1, labels with void as -1, inverse depth with 0 for unknown."""
    for part, count in (("train", train), ("val", val)):
        for number in range(count):
            rng = np.random.default_rng([number, count])
            label = np.repeat(np.arange(size[0])[:, None] % 8 - 1, size[1], axis=1)
            depth = np.linspace(0, 0.4922, size[0] * size[1]).reshape(*size, 1)
            for modality, array in (("image", rng.random((*size, 3))), ("label", label.astype(float)), ("depth", depth)):
                path = root / part / modality / f"{number}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array)
    return root


def _combined(label: dict[str, Any]) -> dict[str, Any]:
    """A label of a file for each image as the file of all images has it."""
    group, _, name = label["category"].partition("/")
    if not name:
        return label
    vertices, types = [point[:2] for point in label["poly2d"]], "".join(point[2] for point in label["poly2d"])
    outline = [{"vertices": vertices, "types": types, "closed": group == "area"}]
    if group == "area":
        area = "direct" if name == "drivable" else name
        return {**label, "category": "drivable area", "attributes": {"areaType": area}, "poly2d": outline}
    return {**label, "category": "lane", "attributes": {**label["attributes"], "laneTypes": name}, "poly2d": outline}
