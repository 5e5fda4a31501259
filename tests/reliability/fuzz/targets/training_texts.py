"""Targets of the gate fuzz-texts: what training reads from JSON, TOML, YAML and lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.reliability.fuzz.finds import ROOT
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.texts import mutate_json, mutate_lines, mutate_toml

__all__ = ["TARGETS"]

_GATE = "fuzz-texts"

Read = Callable[[bytes], None]


def _open_settings(scratch: Path) -> Read:
    from mtl.config import config_sha256, load_config

    def read(mutant: bytes) -> None:
        path = scratch / "settings.toml"
        path.write_bytes(mutant)
        config_sha256(load_config(path, {"optimizer.lr": "5e-4"}))

    return read


def _settings(scratch: Path) -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "train" / "configs").glob("*.toml"))]


def _open_study(scratch: Path) -> Read:
    from mtl.study.definition import load_study

    (scratch / "configs").symlink_to(ROOT / "train" / "configs")
    (scratch / "studies").mkdir()

    def read(mutant: bytes) -> None:
        path = scratch / "studies" / "study.toml"
        path.write_bytes(mutant)
        load_study(path).runs(scratch / "runs")

    return read


def _studies(scratch: Path) -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "train" / "studies").glob("*.toml"))]


def _open_folder(scratch: Path) -> Read:
    from mtl.datasets.folder.index import folder_index
    from mtl.datasets.folder.source import read_frame

    from tests.own_folder import write_own_folder

    root = write_own_folder(scratch / "own", frames=2, objects=True)
    (root / "train.txt").write_text("run0/0000\n", encoding="utf-8")
    (root / "val.txt").write_text("run0/0001\n", encoding="utf-8")

    def read(mutant: bytes) -> None:
        (root / "dataset.toml").write_bytes(mutant)
        index = folder_index(root)
        if index.unusable() is None:
            read_frame(index, next(iter(index.photos)))

    return read


def _folders(scratch: Path) -> Sequence[bytes]:
    from tests.own_folder import OBJECTS_TOML, TOML

    listed = TOML.replace("val = 0.2\ntest = 0.2", 'train = "train.txt"\nval = "val.txt"')
    named = TOML.replace("range_m", "file_scale = 1\nrange_m").replace('folder = "masks"', 'folder = "masks"\nvoid = [255]')
    return [each.encode() for each in (TOML, TOML + OBJECTS_TOML, listed, named)]


def _open_camera_file(scratch: Path) -> Read:
    from mtl.datasets.folder.camera import CameraFiles

    def read(mutant: bytes) -> None:
        (scratch / "frame.json").write_bytes(mutant)
        CameraFiles(".").of(scratch, "frame", (480, 640))

    return read


def _camera_files(scratch: Path) -> Sequence[bytes]:
    camera = {"fx": 500.0, "fy": 500.0, "cx": 319.5, "cy": 239.5}
    return [json.dumps(each).encode() for each in (camera, camera | {"width": 640, "height": 480})]


def _open_camera_info(scratch: Path) -> Read:
    from mtl.pseudo_labels.cameras import parse_camera

    def read(mutant: bytes) -> None:
        path = scratch / "camera.yaml"
        path.write_bytes(mutant)
        parse_camera(str(path))
        parse_camera(str(path), rectified=True)

    return read


_CALIBRATION = b"""\
image_width: 640
image_height: 480
camera_name: head
camera_matrix:
  rows: 3
  cols: 3
  data: [500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.0, 0.0, 0.0, 0.0, 0.0]
projection_matrix:
  rows: 3
  cols: 4
  data: [500.0, 0.0, 319.5, 0.0, 0.0, 500.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]
"""
_MESSAGE = b"""\
header:
  stamp: {sec: 1, nanosec: 2}
  frame_id: camera
height: 480
width: 640
distortion_model: plumb_bob
d: [0.0, 0.0, 0.0, 0.0, 0.0]
k: [500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0]
r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
p: [500.0, 0.0, 319.5, 0.0, 0.0, 500.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 0
binning_y: 0
roi: {x_offset: 0, y_offset: 0, height: 0, width: 0, do_rectify: false}
---
"""


def _camera_infos(scratch: Path) -> Sequence[bytes]:
    return [_CALIBRATION, _MESSAGE]


def _open_coco(scratch: Path) -> Read:
    from mtl.datasets.coco.index import coco_table

    from tests.published_files import write_coco

    root = write_coco(scratch / "coco", train=3, val=1)
    path = root / "annotations" / "instances_train2017.json"

    def read(mutant: bytes) -> None:
        path.write_bytes(mutant)
        coco_table(path, root, "train", lambda done, total: None)

    return read


def _cocos(scratch: Path) -> Sequence[bytes]:
    from tests.published_files import coco_json

    return [json.dumps(coco_json(3)).encode()]


def _open_lists(scratch: Path) -> Read:
    from mtl.datasets.ade20k.full_release import other_numbers
    from mtl.datasets.imagenet.layout import class_names
    from mtl.datasets.nyuv2.labels import read_class_mapping
    from mtl.datasets.nyuv2.layout import read_description

    def read(mutant: bytes) -> None:
        for name in ("LOC_synset_mapping.txt", "map.txt", "dataset.json", "full.json"):
            (scratch / name).write_bytes(mutant)
        other_numbers(scratch / "full.json")
        match len(mutant) % 3:
            case 0:
                read_description(scratch)
            case 1:
                class_names(scratch, ["n01440764", "n02012849", "n03126707"])
            case _:
                read_class_mapping(scratch / "map.txt")

    return read


def _lists(scratch: Path) -> Sequence[bytes]:
    from tests.published_files import write_ade_full, write_imagenet

    full = next(write_ade_full(scratch / "ade", count=1).rglob("*.json")).read_bytes()
    names = (write_imagenet(scratch / "imagenet") / "LOC_synset_mapping.txt").read_bytes()
    return [full, names, " ".join(str(number % 40) for number in range(894)).encode(), b"{}"]


def _open_run(scratch: Path) -> Read:
    """What a run writes and a later process reads: its metrics, how it ended, its latencies, what was labelled."""
    from mtl.pseudo_labels.records import RECORDS, Records
    from mtl.study.records import OUTCOME, read_outcome, read_records
    from mtl.study.timings import read_latencies

    def read(mutant: bytes) -> None:
        for name in ("metrics.jsonl", OUTCOME, "latency.json"):
            (scratch / name).write_bytes(mutant)
        read_outcome(scratch)
        found = read_latencies(scratch / "latency.json")
        if found is not None:
            found.int8()
        records = scratch / "records"
        records.mkdir(exist_ok=True)
        match len(mutant) % 3:
            case 0:
                _ = read_records(scratch).step
            case 1:
                (records / RECORDS).write_bytes(mutant)
                Records.open(records)
            case _:
                (records / RECORDS).unlink(missing_ok=True)
                (records / ".pseudo-labels.journal").write_bytes(mutant)
                Records.open(records)

    return read


def _runs(scratch: Path) -> Sequence[bytes]:
    from mtl.study.records import OUTCOME, Outcome, write_outcome
    from mtl.study.timings import EngineLatency, Latencies, RowLatency, write_latencies

    write_outcome(scratch, Outcome(-9, "killed", 12.0, "a machine", "abc"))
    engine = EngineLatency("int8 on onnxruntime", 10.0, (9.0, 11.0), 1.0, (0.9, 1.1))
    facts = {"height": 64, "width": 96, "machine": "x", "threads": 1, "rounds": 10, "load": 0.1, "date": "today", "asked": "a"}
    found = Latencies(runtimes=("onnxruntime 1",), rows=(RowLatency("a", (engine,), 0.1),), **facts)  # type: ignore[arg-type]
    write_latencies(scratch / "latency.json", found)
    metrics = [
        {"kind": "start", "step": 0, "parameters": 100},
        {"kind": "validation", "step": 10, "depth": {"rel": 0.2}},
        {"kind": "weights", "step": 10, "depth": 1.0},
        {"kind": "test", "step": 20, "weights": "best", "depth": {"rel": 0.2}},
        {"kind": "done", "step": 20},
    ]
    run = {"bundle": "b", "revision": 1, "digest": "d", "precision": "fp32", "backend": "onnxruntime", "runtime": "1"}
    run |= {"tasks": {"depth": {"least": 0.5}}, "started": "2026-01-01T00:00:00+00:00", "version": "0.2.0"}
    entry = {"run": "r", "file": "depth/a.png", "kept": 0.5, "sha256": "s", "source": "i", "classes": {}}
    labels = {"format": "edge_mtl pseudo-labels 1", "runs": {"r": run}, "files": {"depth": {"a": entry}}}
    journal = [{"run": run}, {"task": "depth", "stem": "a", "entry": entry}]
    written = [(scratch / name).read_bytes() for name in (OUTCOME, "latency.json")]
    return [*written, *("\n".join(map(json.dumps, each)).encode() for each in (metrics, [labels], journal))]


def _open_resume(scratch: Path) -> Read:
    from mtl.config import load_config
    from mtl.resume import check_same_settings

    settings = load_config(ROOT / "train" / "configs" / "rooms-quick.toml")

    def read(mutant: bytes) -> None:
        try:
            stored = mutant.decode()
        except UnicodeDecodeError:
            return  # the state holds it as text
        check_same_settings(stored, 10, settings, where="runs/x")

    return read


def _resumes(scratch: Path) -> Sequence[bytes]:
    from mtl.config import describe, load_config

    path = ROOT / "train" / "configs" / "rooms-quick.toml"
    return [json.dumps(describe(load_config(path))).encode()]


TARGETS = (
    Target("settings", _GATE, _open_settings, _settings, mutate_toml),
    Target("study", _GATE, _open_study, _studies, mutate_toml),
    Target("own-folder", _GATE, _open_folder, _folders, mutate_toml),
    Target("camera-file", _GATE, _open_camera_file, _camera_files, mutate_json),
    Target("camera-info", _GATE, _open_camera_info, _camera_infos, mutate_lines),
    Target("coco", _GATE, _open_coco, _cocos, mutate_json),
    Target("data-set-lists", _GATE, _open_lists, _lists, mutate_json),
    Target("run-records", _GATE, _open_run, _runs, mutate_lines),
    Target("resume", _GATE, _open_resume, _resumes, mutate_json),
)
