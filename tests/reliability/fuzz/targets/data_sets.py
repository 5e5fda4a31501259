"""Folders of data sets, one file of them altered: labelled frames, one's own images, NYUv2, published data sets, rooms."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.labelled_frames import labelled_folder
from edge_mtl.manifest import InputSpec
from edge_mtl.tasks import NYU_TASKS, read_tasks
from tests.bundles import make_image, write_image
from tests.reliability.fuzz.archives import mutate_archive
from tests.reliability.fuzz.folders import in_one_file, packed_folder, unpack_into
from tests.reliability.fuzz.formats import damaged_file
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.texts import mutate_json, mutate_toml
from tests.reliability.fuzz.training import installed, training_modules
from tests.reliability.fuzz.values import Mutation, damaged_text

__all__ = ["TARGETS"]

_SMALL = (24, 32)
_BOXES = {"kind": "boxes", "classes": ["chair", "table"]}
_SCENE = {"kind": "class", "classes": ["kitchen", "office"]}


def _of_name(name: str) -> Mutation:
    if name.endswith(".json"):
        return mutate_json
    if name.endswith(".toml"):
        return mutate_toml
    if name.endswith(".npz"):
        return mutate_archive
    return damaged_text if name.endswith((".txt", ".csv")) else damaged_file(name)


def _reader(look: Callable[[Path], Iterator[Callable[[], object]]]) -> Callable[[Path], Callable[[bytes], None]]:
    """What reads a folder: all that `look` gives is called, and each may refuse."""

    def opened(folder: Path) -> Callable[[bytes], None]:
        training_modules()
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        forget = _caches()

        def read(data: bytes) -> None:
            forget()
            root = unpack_into(data, folder / "set")
            with contextlib.redirect_stderr(io.StringIO()):  # frames that are left out are named there
                for step in look(root):
                    with contextlib.suppress(EdgeMtlError):
                        step()

        return read

    return opened


def _caches() -> Callable[[], None]:
    """What forgets listings that are trusted for a second, in which many folders take each other's place."""
    from mtl.datasets.folder import index
    from mtl.datasets.published import data_set, index_cache

    kept: tuple[dict[Any, Any], ...] = (index._LISTED, data_set._FOUND, index_cache._KEPT)

    def forget() -> None:
        for one in kept:
            one.clear()

    return forget


def _labelled(root: Path) -> Iterator[Callable[[], object]]:
    tasks = {**NYU_TASKS, **read_tasks({"objects": _BOXES, "scene": _SCENE})}
    for size in ((16, 32), _SMALL):
        yield lambda size=size: [labelled_folder(root, InputSpec(*size), tasks).digest()]
        yield lambda size=size: list(labelled_folder(root, InputSpec(*size), tasks))


def _labelled_seeds(folder: Path) -> Sequence[bytes]:
    root = folder / "labelled"
    root.mkdir()
    for number in range(2):
        stem = root / f"{number:03d}"
        image = make_image(number, height=_SMALL[0], width=_SMALL[1])
        write_image(stem.with_suffix(".png"), image)
        import cv2

        cv2.imwrite(f"{stem}.label.png", image[..., 0] % 13)
        cv2.imwrite(f"{stem}.depth.png", image[..., 0].astype(np.uint16) * 40)
        write_image(Path(f"{stem}.normals.png"), image)
        Path(f"{stem}.objects.json").write_text('{"boxes": [{"class": "chair", "xyxy": [2, 3, 12.5, 20], "crowd": false}]}')
        Path(f"{stem}.scene.json").write_text('{"class": "office"}')
    (root / "intrinsics.json").write_text('{"000": [30, 30, 15.5, 11.5], "001.png": [31, 30.5, 15, 11]}')
    return [packed_folder(root)]


def _own(root: Path) -> Iterator[Callable[[], object]]:
    from mtl.datasets.folder.check import inspect
    from mtl.datasets.folder.source import FolderRequest

    yield lambda: inspect(root)
    for split in ("train", "val"):
        yield lambda split=split: list(FolderRequest(str(root), split, unlabelled=split == "train").open())


def _own_seeds(folder: Path) -> Sequence[bytes]:
    from tests.own_folder import OBJECTS_TOML, TOML, write_frame

    found = []
    for name, splits in (("shares", ""), ("lists", 'train = "train.txt"\nval = "val.txt"')):
        root = folder / name
        for number in range(3):
            write_frame(root, f"run/{number:04d}", number, size=_SMALL, tasks="sndbc")
        text = TOML + OBJECTS_TOML
        (root / "dataset.toml").write_text(text.replace("val = 0.2\ntest = 0.2", splits) if splits else text)
        (root / "train.txt").write_text("run/0000\nrun/0001\n")
        (root / "val.txt").write_text("run/0002\n")
        found.append(packed_folder(root))
    return found


def _nyuv2(root: Path) -> Iterator[Callable[[], object]]:
    from mtl.datasets.nyuv2.check import inspect
    from mtl.datasets.nyuv2.frames import NyuRequest

    yield lambda: inspect(root)
    for part in ("train", "val"):
        yield lambda part=part: list(NyuRequest(str(root), part, tasks=("segmentation", "depth", "normals", "objects")).open())


def _nyuv2_seeds(folder: Path) -> Sequence[bytes]:
    training_modules()
    from mtl.datasets.nyuv2.axes import NormalAxes
    from mtl.datasets.nyuv2.frames import describe_folder

    from tests.nyu_files import write_folder

    bytes_kinds = {"image": "uint8", "label": "int8", "depth": "float16", "normal": "float16"}
    float_kinds = {"image": "float16", "label": "uint8", "depth": "float32", "normal": "float32"}
    plain = write_folder(folder / "plain", train=1, val=1, kinds=bytes_kinds)
    known = write_folder(folder / "known", train=1, val=1, axes=NormalAxes((2, 0, 1), (1, -1, 1)), kinds=float_kinds)
    describe_folder(known)
    return [packed_folder(plain), packed_folder(known)]


def _parquet(root: Path) -> Iterator[Callable[[], object]]:
    from mtl.datasets.nyuv2.parquet import ParquetFrames

    def read() -> None:
        frames = ParquetFrames(root)
        for part, count in frames.counts.items():
            list(frames.frames(part, range(min(count, 3))))

    yield read


def _parquet_seeds(folder: Path) -> Sequence[bytes]:
    training_modules()
    from tests.nyu_files import write_parquet

    return [packed_folder(write_parquet(folder / "parquet", train=2, val=1))]


def _official(root: Path) -> Iterator[Callable[[], object]]:
    from mtl.datasets.nyuv2.official import OfficialFrames

    def read() -> None:
        files = {"splits": root / "splits.mat", "classes": root / "classes.txt", "normals": root / "normals"}
        frames = OfficialFrames(root / "labeled.mat", size=(24, 32), **files)
        try:
            for part in frames.counts:
                list(frames.frames(part, [0]))
        finally:
            frames.close()

    yield read


def _official_seeds(folder: Path) -> Sequence[bytes]:
    import cv2
    import h5py
    from scipy.io import savemat

    root = folder / "official"
    (root / "normals").mkdir(parents=True)
    with h5py.File(root / "labeled.mat", "w") as file:
        for name, shape, kind, value in (
            ("images", (2, 3, 640, 480), np.uint8, 99),
            ("depths", (2, 640, 480), np.float32, 2.0),
            ("labels", (2, 640, 480), np.uint16, 7),
        ):
            file.create_dataset(name, data=np.full(shape, value, kind), chunks=(1, *shape[1:]), compression="gzip")
    savemat(root / "splits.mat", {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[2]])})
    (root / "classes.txt").write_text("\n".join(str(1 + number % 40) for number in range(894)))
    for number in range(2):
        cv2.imwrite(str(root / "normals" / f"{number:04d}.png"), np.full((480, 640, 3), (255, 128, 128), np.uint8))
    return [packed_folder(root)]


def _images(root: Path) -> Iterator[Callable[[], object]]:
    from mtl.datasets.nyuv2.images import ImageFrames

    def read() -> None:
        frames = ImageFrames(root, size=(24, 32))
        list(frames.frames("val", [0]))

    yield read


def _image_seeds(folder: Path) -> Sequence[bytes]:
    training_modules()
    from tests.nyu_files import write_images

    return [
        packed_folder(write_images(folder / "deep", train=1, val=1, bits=16, image=".jpg")),
        packed_folder(write_images(folder / "flat", train=1, val=1, classes=40, palette=True, image=".jpg")),
    ]


def _published(name: str) -> Callable[[Path], Iterator[Callable[[], object]]]:
    def look(root: Path) -> Iterator[Callable[[], object]]:
        from mtl.datasets.published.check import inspect
        from mtl.datasets.published.data_set import PublishedSet
        from mtl.datasets.sources import data_sets
        from mtl.settings import DataSettings

        known = data_sets()[name]
        assert isinstance(known, PublishedSet)
        yield lambda: inspect(known, root)
        data = DataSettings(kind=name, root=str(root), may_skip=0.5)
        yield lambda: list(known.held_out_frames(data, "val").open())
        yield lambda: known.counts(data)

    return look


def _published_seeds(name: str) -> Callable[[Path], Sequence[bytes]]:
    def seeds(folder: Path) -> Sequence[bytes]:
        training_modules()
        from tests import bdd_files
        from tests import published_files as files

        if name == "bdd100k":
            old = bdd_files.write_bdd_2018(folder / "old", combined=False, train=1)
            return [packed_folder(bdd_files.write_bdd(folder / "new", train=2, val=1)), packed_folder(old)]
        if name == "cityscapes":
            return [packed_folder(bdd_files.write_cityscapes(folder / "cityscapes", train=1, val=1))]
        if name == "coco":
            return [packed_folder(files.write_coco(folder / "coco", train=2, val=1))]
        if name == "ade20k":
            full = files.write_ade_full(folder / "full", count=1)
            return [packed_folder(files.write_ade_challenge(folder / "challenge", train=1, val=1)), packed_folder(full)]
        flat = files.write_imagenet(folder / "flat", train=1, flat=True)
        return [packed_folder(files.write_imagenet(folder / "folders", train=1)), packed_folder(flat)]

    return seeds


def _rooms(root: Path) -> Iterator[Callable[[], object]]:
    from mtl.datasets.rooms.check import inspect

    yield lambda: inspect(root)


def _room_seeds(folder: Path) -> Sequence[bytes]:
    training_modules()
    from mtl.datasets.rooms import dataset

    before = dataset.FRAMES_PER_SHARD
    dataset.FRAMES_PER_SHARD = 1
    try:
        dataset.RoomsDataset(folder / "rooms", "train", 1, height=16, width=20, workers=1, progress=False, objects=True)
    finally:
        dataset.FRAMES_PER_SHARD = before
    return [packed_folder(folder / "rooms")]


_PUBLISHED = ("coco", "ade20k", "imagenet", "bdd100k", "cityscapes")

TARGETS = tuple(
    Target(f"data-{name}", "fuzz-media", _reader(look), seeds, in_one_file(_of_name), native=native)
    for name, look, seeds, native in (
        ("labelled", _labelled, _labelled_seeds, False),
        ("folder", _own, _own_seeds, False),
        ("nyuv2", _nyuv2, _nyuv2_seeds, False),
        *((("nyuv2-parquet", _parquet, _parquet_seeds, True),) if installed("pyarrow") else ()),
        *((("nyuv2-official", _official, _official_seeds, True),) if installed("h5py", "scipy") else ()),
        ("nyuv2-images", _images, _image_seeds, True),
        *((f"{name}", _published(name), _published_seeds(name), False) for name in _PUBLISHED),
        ("rooms", _rooms, _room_seeds, False),
    )
)
