"""validate_dataset.py on published data sets: what is wrong, how often classes occur, and a sheet to look at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import validate_dataset

from tests.bdd_files import write_bdd, write_cityscapes
from tests.published_files import (
    SIZE,
    coco_json,
    grey_png,
    jpeg,
    write_ade_challenge,
    write_ade_full,
    write_coco,
    write_imagenet,
)


def report(capsys: pytest.CaptureFixture[str], root: Path, *more: str, code: int = 0) -> dict[str, Any]:
    assert validate_dataset.main([str(root), "--json", *more]) == code
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


def test_coco_has_boxes_by_class_and_size(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checks = report(capsys, write_coco(tmp_path))
    objects = checks["objects"]["details"]
    assert objects["of"] == "boxes"
    assert objects["boxes"] == {
        "count": 4, "crowds": 2, "per_image": round(4 / 7, 3), "most": 1, "small": 1.0, "medium": 0.0, "large": 0.0,
    }  # fmt: skip
    person = {"share": 0.5, "boxes": 1, "frames": 1}
    assert objects["classes"]["person"] == {"train": person, "val": person}
    assert "are not learnt: toothbrush" in checks["objects"]["note"]
    assert "train: 2 images have no box" in checks["frames"]["note"]
    assert "may not be copied into bundles" in checks["COCO"]["found"]
    assert validate_dataset.main([str(tmp_path)]) == 0
    assert "share of the boxes, boxes and frames" in capsys.readouterr().out


def test_what_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    content = coco_json(4)
    content["annotations"][0]["bbox"][3] = 0
    root = write_coco(tmp_path, jsons={"train": content})
    jpeg(root / "train2017" / f"{1:012d}.jpg", 1, size=(60, 64))
    (root / "train2017" / f"{2:012d}.jpg").write_bytes(b"")
    shutil.copy(root / "train2017" / f"{3:012d}.jpg", root / "val2017" / f"{50:012d}.jpg")
    checks = report(capsys, root, code=1)
    assert "20.5 x 0 pixels" in checks["frames"]["problems"][0]
    problems = " ".join(checks["images"]["problems"])
    for words in ("expected 48x64", f"{2:012d}.jpg", "is the same image as"):
        assert words in problems


def test_ade20k_is_checked_and_numbers_that_mean_something_else_are_seen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checks = report(capsys, write_ade_challenge(tmp_path / "a"))
    assert "25.0% void" in checks["segmentation"]["found"]
    assert checks["scene"]["details"]["of"] == "frames"
    full = write_ade_full(tmp_path / "b")
    report(capsys, full)
    path = next(full.glob("images/ADE/training/*/*/*.json"))
    path.write_text(path.read_text(encoding="iso-8859-1").replace('"wall"', '"zebra"'), encoding="iso-8859-1")
    assert "zebra" in report(capsys, full, code=1)["images"]["problems"][0]


def test_some_images_of_class_folders_are_looked_at(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checks = report(capsys, write_imagenet(tmp_path), "--images", "2")
    assert "looked at 4 of them" in checks["frames"]["note"]
    assert checks["category"]["details"]["coverage"] == {"train": [2, 2], "val": [2, 2]}


def test_class_folders_without_splits_are_named_by_kind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        jpeg(tmp_path / name / "1.jpg", number)
    assert validate_dataset.main([str(tmp_path)]) == 9
    assert "--kind" in capsys.readouterr().err
    assert report(capsys, tmp_path, "--kind", "imagenet")["frames"]["found"] == "train 2"
    assert validate_dataset.main([str(tmp_path), "--kind", "rooms"]) == 9


def test_a_sheet_shows_masks_boxes_and_classes(tmp_path: Path) -> None:
    for number, root in enumerate(
        (write_coco(tmp_path / "a"), write_ade_challenge(tmp_path / "b"), write_imagenet(tmp_path / "c"))
    ):
        sheet = tmp_path / f"{number}.png"
        assert validate_dataset.main([str(root), "--sheet", str(sheet), "--frames", "4"]) == 0
        drawn = cv2.imread(str(sheet))
        assert drawn.shape[0] > 180
        assert drawn.shape[1] > 240 * 2
    bad = next((tmp_path / "b" / "annotations" / "training").iterdir())
    bad.write_bytes(grey_png(np.full(SIZE, 200, np.uint8)))
    assert validate_dataset.main([str(tmp_path / "b"), "--sheet", str(sheet)]) == 1


def test_bdd100k_says_which_tasks_its_frames_have_and_what_it_may_be_used_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    checks = report(capsys, write_bdd(tmp_path / "bdd"), "--sheet", str(sheet))
    assert "not-for-profit" in checks["BDD100K"]["found"]
    assert "may not be copied into bundles" in checks["BDD100K"]["found"]
    assert checks["objects"]["details"]["coverage"] == {"train": [4, 5], "val": [2, 3]}
    assert checks["segmentation"]["details"]["coverage"] == {"train": [1, 5], "val": [1, 3]}
    assert checks["weather"]["details"]["classes"]["clear"]["train"]["frames"] == 2
    assert "train: 1 boxes are crowds or to be ignored" in checks["frames"]["note"]
    assert cv2.imread(str(sheet)) is not None


def test_cityscapes_is_told_from_nyuv2_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    checks = report(capsys, write_cityscapes(tmp_path / "city"), "--sheet", str(sheet))
    assert checks["segmentation"]["details"]["coverage"] == {"train": [3, 3], "val": [2, 2]}
    assert "vehicle" in checks["segmentation"]["details"]["classes"]
    depth = checks["relative_depth"]
    stored = np.linspace(0, 0.4922, 2048)
    known = stored[stored > 1 / 80]
    assert "no metres" in depth["note"]
    assert depth["details"] == {
        "kind": "depth",
        "coverage": {"train": [3, 3], "val": [2, 2]},
        "median": pytest.approx(float(np.median(1 / known)), abs=1e-5),
        "known": round(known.size / 2048, 6),
    }
    assert cv2.imread(str(sheet)) is not None
