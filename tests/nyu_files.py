"""Tiny NYUv2 in its file formats: a box-shaped room seen from several sides, with exact depth and normals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from mtl.datasets.frame import Frame
from mtl.datasets.nyuv2.axes import NormalAxes
from mtl.datasets.nyuv2.layout import frame_path, intrinsics_at
from mtl.geometry import Intrinsics

from tests.nyu_frames import nyu_frame

SIZE = (48, 64)

_WALLS = (("x", -2.1), ("x", 1.9), ("y", -1.1), ("y", 1.3), ("z", -3.0), ("z", 3.6))
_LABELS = (11, 12, 2, 4, 5, 0)


def box_frame(number: int, size: tuple[int, int] = SIZE, camera: Intrinsics | None = None) -> Frame:
    """The room seen at an angle of its own; the image says where each pixel is, some are void or unknown."""
    camera = camera or intrinsics_at(size)
    fx, fy, cx, cy = camera
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], -1)
    turn = _rotation(yaw=0.5 + 0.9 * number, pitch=0.2 * np.sin(number))
    world = rays @ turn.T
    depth, label, normals = np.full(size, np.inf), np.zeros(size, np.uint8), np.zeros((*size, 3))
    for (axis, place), name in zip(_WALLS, _LABELS, strict=True):
        along = world[..., "xyz".index(axis)]
        distance = np.divide(place, along, out=np.full(size, np.inf), where=along * place > 1e-9)
        nearer = distance < depth
        depth, label = np.where(nearer, distance, depth), np.where(nearer, name, label).astype(np.uint8)
        inwards = -np.sign(place) * np.eye(3)["xyz".index(axis)]
        normals[nearer] = inwards @ turn
    rows, columns = v / size[0], u / size[1]
    image = np.stack([255 * columns, 255 * rows, np.full(size, 20.0 * (number % 12))], -1).astype(np.uint8)
    label[:2, :3] = 255
    depth[-2:, -3:] = 0
    normals[-2:, :3] = 0
    return nyu_frame(image, label, depth.astype(np.float32), normals.astype(np.float32), camera)


def write_folder(
    root: Path, *, train: int = 4, val: int = 2, axes: NormalAxes | None = None, kinds: dict[str, str] | None = None
) -> Path:
    """LibMTL's folder. `axes`: how its normals are stored; `kinds`: dtypes by modality (float64 where not named)."""
    dtypes = {"image": "float64", "label": "float64", "depth": "float64", "normal": "float64"} | (kinds or {})
    for part, count in (("train", train), ("val", val)):
        for index in range(count):
            frame = box_frame(index if part == "train" else index + 100)
            whole_numbers = dtypes["image"].startswith("uint")
            void = 255 if dtypes["label"].startswith("uint") else -1
            label = frame.truths["segmentation"].astype(np.int64)
            label[label == 255] = void
            arrays = {
                "image": frame.image if whole_numbers else frame.image / 255.0,
                "label": label,
                "depth": frame.truths["depth"][..., None],
                "normal": stored_normals(frame.truths["normals"], axes or NormalAxes()),
            }
            for modality, array in arrays.items():
                path = frame_path(root, part, modality, index)  # type: ignore[arg-type]
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array.astype(dtypes[modality]))
    return root


def stored_normals(normals: np.ndarray, axes: NormalAxes) -> np.ndarray:
    """Camera normals as a file with those axes stores them: the inverse of `NormalAxes.apply`."""
    stored = np.empty_like(normals)
    for component, (place, sign) in enumerate(zip(axes.order, axes.signs, strict=True)):
        stored[..., place] = sign * normals[..., component]
    return stored


def write_parquet(folder: Path, *, train: int = 6, val: int = 3, per_file: int = 4, axes: NormalAxes | None = None) -> Path:
    """The Hugging Face files: lists within lists, several files a part, the field marks of its `Array3D`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("val", val)):
        files = -(-count // per_file)
        for number in range(files):
            frames = [
                box_frame(i if part == "train" else i + 100)
                for i in range(number * per_file, min(count, (number + 1) * per_file))
            ]
            label = [
                np.where(frame.truths["segmentation"] == 255, -1, frame.truths["segmentation"].astype(np.int64))
                for frame in frames
            ]
            stored = [stored_normals(frame.truths["normals"], axes or NormalAxes()) for frame in frames]
            columns = {
                "image": [np.moveaxis(np.float32(frame.image / 255), -1, 0) for frame in frames],
                "segmentation": label,
                "depth": [frame.truths["depth"][None] for frame in frames],
                "normal": [np.moveaxis(normals, -1, 0).astype(np.float32) for normals in stored],
                "noise": [np.zeros((1, 2, 2), np.float32) for _ in frames],
            }
            fields, arrays = [], []
            for name, values in columns.items():
                kind = pa.int64() if name == "segmentation" else pa.float32()
                depth = values[0].ndim
                for _ in range(depth):
                    kind = pa.list_(kind)
                mark = {
                    b"ARROW:extension:name": f"datasets.features.features.Array{depth}DExtensionType".encode(),
                    b"ARROW:extension:metadata": json.dumps([list(values[0].shape), str(values[0].dtype)]).encode(),
                }
                fields.append(pa.field(name, kind, metadata=mark))
                arrays.append(pa.array([value.tolist() for value in values], kind))
            table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
            pq.write_table(table, folder / f"{part}-{number:05d}-of-{files:05d}.parquet", row_group_size=3)
    return folder


def write_images(
    folder: Path, *, train: int = 2, val: int = 1, bits: int = 8, classes: int = 13, image: str = ".png", palette: bool = False
) -> Path:
    """A public copy as images of 480x640 with numbers from 1; the test frames come first, as some of the official ones do.

    Args:
        bits: of the depth: 8 in steps of 39 mm, or 16 in millimetres.
        classes: of the labels, 13 or 40.
        palette: labels as PNG with a palette.
    """
    import cv2
    from mtl.datasets.nyuv2.depth_steps import FARTHEST_M
    from mtl.datasets.nyuv2.labels import NYU40_TO_NYU13
    from mtl.datasets.nyuv2.valid_region import CAMERA
    from PIL import Image

    for name in ("image", "depth", f"label{classes}"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(1, train + val + 1):
        frame = box_frame(number, (480, 640), CAMERA)
        depth, label = frame.truths["depth"], frame.truths["segmentation"]
        names = np.zeros(256, np.uint8)
        names[:13] = range(1, 14) if classes == 13 else [NYU40_TO_NYU13.index(one) + 1 for one in range(1, 14)]
        units = np.floor(depth / FARTHEST_M * 255).astype(np.uint8) if bits == 8 else np.rint(1000 * depth).astype(np.uint16)
        stem = f"{number:04d}"
        cv2.imwrite(str(folder / "image" / f"{stem}{image}"), frame.image[..., ::-1])
        cv2.imwrite(str(folder / "depth" / f"{stem}.png"), units)
        mask = Image.fromarray(names[label])
        if palette:
            mask.putpalette([value for index in range(41) for value in (index * 5, 255 - index, 77)])
        mask.save(folder / f"label{classes}" / f"{stem}.png")
    (folder / "test.txt").write_text("".join(f"{number:04d}\n" for number in range(1, val + 1)))
    (folder / "train.txt").write_text("".join(f"{number}\n" for number in range(val + 1, train + val + 1)))
    return folder


def _rotation(*, yaw: float, pitch: float) -> np.ndarray:
    a, b, c, d = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[a, 0, b], [0, 1, 0], [-b, 0, a]]) @ np.array([[1, 0, 0], [0, c, -d], [0, d, c]])
