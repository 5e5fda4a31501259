"""What a person is told of a run, and the images to look at."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mtl.pseudo_labels.labelling import Labelled, LabelOptions, label_folder
from mtl.pseudo_labels.preview import write_previews
from mtl.pseudo_labels.report import remarks, summary, summary_table
from mtl.pseudo_labels.trust import Thresholds
from rich.console import Console

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BuildError
from edge_mtl.image.encoding import encode_image
from tests.pseudo_folders import STATED, painted, painted_bundle, write_images

OPTIONS = LabelOptions(thresholds=Thresholds(confidence=0.0, geometry_confidence=0.0), backend="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return painted_bundle(tmp_path_factory.mktemp("bundle") / "painted")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images; a person labelled one, the third is damaged, and the last two have the same left half."""
    root = write_images(tmp_path, "a", "b", "deep/c")
    image = painted(2.0)
    image[:, image.shape[1] // 2 :] = painted(4.9)[:, image.shape[1] // 2 :]
    (root / "images/b.png").write_bytes(encode_image(image))
    (root / "masks").mkdir()
    (root / "masks/a.png").write_bytes(b"made by hand")
    (root / "images/broken.png").write_bytes(b"no image")
    return root


def labelled(folder: Path, bundle: Bundle) -> Labelled:
    return label_folder(folder, bundle, OPTIONS, stated=STATED)


def test_the_summary_counts_frames_and_shares_of_pixels(folder: Path, bundle: Bundle) -> None:
    found = summary(labelled(folder, bundle))
    assert found["engine"] == "fp32 on onnxruntime"
    row = found["tasks"]["segmentation"]
    counts = {"labelled_now": 2, "labelled_before": 0, "left_alone": 1, "held_out": 0}
    assert {key: row[key] for key in counts} == counts
    assert row["kept"] == pytest.approx(1.0)
    # b is half of class 5 and half of class 12, with a border of a network's cell; c is of class 5
    assert row["classes"]["furniture"] == pytest.approx(0.75, abs=0.03)
    assert row["classes"]["window"] == pytest.approx(0.25, abs=0.03)
    assert sum(row["classes"].values()) == pytest.approx(1.0, abs=1e-5)
    assert found["tasks"]["depth"]["classes"] == {}
    assert len(found["unreadable"]) == 1
    again = summary(labelled(folder, bundle))["tasks"]["segmentation"]
    assert (again["labelled_now"], again["labelled_before"], again["kept"]) == (0, 2, row["kept"])


def test_the_table_and_remarks_say_what_was_left_and_what_is_not_measured(folder: Path, bundle: Bundle) -> None:
    done = labelled(folder, bundle)
    shown = io.StringIO()
    Console(width=200, file=shown).print(summary_table(done))
    text = shown.getvalue()
    assert "furniture" in text
    assert "segmentation" in text
    told = "\n".join(remarks(done))
    assert "segmentation: 1 files are not recorded" in told
    assert str(folder / "masks/a.png") in told
    assert "1 images could not be used" in told
    split = replace(done, plan=replace(done.plan, measured=("depth",), held_out={"depth": 3}))
    told = "\n".join(remarks(split))
    assert "is agreement with tiny, not accuracy" in told
    assert "depth 3" in told


def test_previews_show_what_training_will_read(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    done = labelled(folder, bundle)
    paths = write_previews(done, tmp_path / "out", count=2)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == ["a.png", "deep/c.png"]
    before = cv2.imread(str(paths[1]))
    assert before.std() > 10
    # another mask on the disk is another preview
    path = folder / "masks/deep/c.png"
    mask = np.full((64, 96), 255, np.uint8)
    path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    write_previews(done, tmp_path / "out", count=2)
    assert (cv2.imread(str(paths[1]))[: before.shape[0]] != before[: cv2.imread(str(paths[1])).shape[0]]).any()
    assert len(write_previews(done, tmp_path / "all", count=50)) == 3


def test_a_folder_that_cannot_be_written_is_named(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match=r"Choose another folder: --out DIR"):
        write_previews(labelled(folder, bundle), tmp_path / "file", count=1)
