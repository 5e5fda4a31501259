"""A folder as a team brings it: 20 classes in palette masks, depth of every second frame, normals of every third; boxes of the
boards and the kind of place where they are wanted.

`python tests/own_folder.py DIR` writes one to try the commands of docs/guides/own-data.md on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mtl.image.encoding import encode_image, encode_labels
from edge_mtl.tasks.labels import generated_palette

__all__ = [
    "CLASSES", "OBJECTS", "OBJECTS_TOML", "PLACES", "SIZE", "TOML", "boxes_of", "scene", "write_frame", "write_json",
    "write_own_folder",
]  # fmt: skip

Array = np.ndarray

SIZE = (96, 128)
CLASSES = (
    "floor", "wall", "ceiling", "door", "rack", "pallet", "box", "crate", "barrel", "forklift",
    "cart", "person", "robot", "ladder", "hose", "cable", "sign", "lamp", "window", "spill",
)  # fmt: skip
TOML = f"""\
title = "a small warehouse"
licence = "made for this example"
redistributable = true
images = "images"

[camera]
fx = 117.0
fy = 117.0
cx = 63.5
cy = 47.5
size = [96, 128]

[splits]
val = 0.2
test = 0.2

[tasks.segmentation]
kind = "labels"
folder = "masks"
classes = {list(CLASSES)}

[tasks.depth]
kind = "depth"
folder = "depth"
scale_m = 0.001
range_m = [0.3, 10.0]

[tasks.normals]
kind = "normals"
folder = "normals"
""".replace("'", '"')
OBJECTS = (*CLASSES[4:18], CLASSES[19])
"""The boards' classes."""
PLACES = ("store", "dock", "workshop", "hall")
OBJECTS_TOML = f"""
[tasks.objects]
kind = "boxes"
folder = "objects"
classes = {list(OBJECTS)}

[tasks.place]
kind = "class"
folder = "places"
classes = {list(PLACES)}
""".replace("'", '"')
_CAMERA = (117.0, 117.0, 63.5, 47.5)


def scene(number: int, size: tuple[int, int] = SIZE) -> tuple[Array, Array, Array, Array]:
    """A corridor with upright boards in it: image (H, W, 3) uint8, classes, depth in metres and normals, all exact.

    Every board is of a class of its own, and four scenes after each other have all 20 classes.
    """
    rng = np.random.default_rng(number)
    height, width = size
    scale = height / SIZE[0]
    fx, fy, cx, cy = (value * scale for value in _CAMERA)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    x, y = (u - cx) / fx, (v - cy) / fy
    surfaces = [  # class, normal, distance of the plane normal . point
        (0, (0.0, -1.0, 0.0), -1.2), (2, (0.0, 1.0, 0.0), -1.4), (1, (0.0, 0.0, -1.0), -6.0),
        (3, (1.0, 0.0, 0.0), -2.0), (18, (-1.0, 0.0, 0.0), -2.0),
    ]  # fmt: skip
    label = np.zeros(size, np.uint8)
    depth = np.full(size, np.inf, np.float32)
    normals = np.zeros((*size, 3), np.float32)
    for index, normal, distance in surfaces:
        along = normal[0] * x + normal[1] * y + normal[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            here = np.where(along < -1e-6, distance / along, np.inf).astype(np.float32)
        nearer = here < depth
        label[nearer], depth[nearer], normals[nearer] = index, here[nearer], normal
    for place, index in enumerate(range(4 + 4 * (number % 4), 8 + 4 * (number % 4))):
        far = 4.5 - 0.7 * place + float(rng.uniform(-0.2, 0.2))
        middle, half, top = float(rng.uniform(-1.2, 1.2)), float(rng.uniform(0.2, 0.45)), float(rng.uniform(-0.7, 0.5))
        board = (np.abs(x * far - middle) < half) & (y * far > top) & (y * far < 1.2) & (far < depth)
        label[board], depth[board], normals[board] = (19 if index == 18 else index), far, (0.0, 0.0, -1.0)
    shade = (0.55 + 0.45 * np.abs(normals @ np.array([0.3, 0.5, 0.8], np.float32)))[..., None]
    image = generated_palette(len(CLASSES))[label] * shade + rng.normal(0, 6, (*size, 3))
    return image.clip(0, 255).astype(np.uint8), label, depth, normals


def boxes_of(label: Array) -> list[dict[str, Any]]:
    """The boards of a scene as the file of its frame has them: edges of pixels whose centres are at whole numbers."""
    found = []
    for name in OBJECTS:
        rows, columns = np.nonzero(label == CLASSES.index(name))
        if len(rows):
            edges = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
            found.append({"class": name, "xyxy": [float(edge) for edge in edges]})
    return found


def write_json(root: Path, name: str, content: Any) -> None:
    """A file of the folder."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content), encoding="utf-8")


def write_frame(root: Path, stem: str, number: int, *, size: tuple[int, int] = SIZE, tasks: str = "snd") -> None:
    """One frame; `tasks` has s, d, n, b, c for the labels, depth, normals, boxes and class that it gets."""
    image, label, depth, normals = scene(number, size)
    if "b" in tasks:
        write_json(root, f"objects/{stem}.objects.json", {"boxes": boxes_of(label)})
    if "c" in tasks:
        write_json(root, f"places/{stem}.place.json", {"class": PLACES[number % 4]})
    label[:4, :6] = 255
    depth[-4:, -6:] = 0
    files: dict[str, Any] = {f"images/{stem}.png": encode_image(image)}
    if "s" in tasks:
        files[f"masks/{stem}.png"] = encode_labels(label, palette=generated_palette(len(CLASSES)))
    if "d" in tasks:
        files[f"depth/{stem}.png"] = cv2.imencode(".png", np.rint(depth * 1000).astype(np.uint16))[1].tobytes()
    for name, payload in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(payload)
    if "n" in tasks:
        path = root / "normals" / f"{stem}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, normals.astype(np.float16))


def write_own_folder(root: Path, *, frames: int = 20, replace: Mapping[str, str] | None = None, objects: bool = False) -> Path:
    """The folder; `replace` are changes of the text of its dataset.toml.

    Args:
        objects: boxes of four frames in five, and the class of six in seven, too.
    """
    for number in range(frames):
        tasks = "s" + ("d" if number % 2 == 0 else "") + ("n" if number % 3 == 0 else "")
        if objects:
            tasks += ("b" if number % 5 != 4 else "") + ("c" if number % 7 != 3 else "")
        write_frame(root, f"run{number // 8}/{number:04d}", number, tasks=tasks)
    text = TOML + (OBJECTS_TOML if objects else "")
    for old, new in (replace or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    (root / "dataset.toml").write_text(text, encoding="utf-8")
    return root


if __name__ == "__main__":
    write_own_folder(Path(sys.argv[1]), frames=int(sys.argv[2]) if len(sys.argv) > 2 else 60)
