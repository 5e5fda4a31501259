"""ImageNet and other class folders: classes by sorted names, flat validation images, names of any bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtl.datasets.imagenet.source import ImageNet
from mtl.datasets.mixture import MixtureFrames
from mtl.datasets.sources import data_set, data_tasks, held_out_frames, train_frames
from mtl.settings import DataSettings, Stage
from mtl.tasks.frame_class import frame_weights

from edge_mtl.errors import BuildError
from tests.published_files import SYNSETS, jpeg, write_imagenet

STAGE = Stage(height=32, width=32, steps=1)


def settings(root: Path, **changes: Any) -> DataSettings:
    return DataSettings(kind="imagenet", root=str(root), **changes)


def classes_of(frames: Any) -> list[int]:
    return [frames[index].truths["category"] for index in range(len(frames))]


def test_class_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    data = settings(write_imagenet(tmp_path))
    frames = train_frames(data, STAGE).open()
    assert classes_of(frames) == [0, 0, 1, 1, 2, 2]
    spec = data_tasks(data)["category"]
    assert (spec.kind, spec.classes) == ("class", ("tench", "crane (n02012849)", "crane (n03126707)"))  # type: ignore[attr-defined]
    assert classes_of(held_out_frames(data, "val").open()) == [0, 1, 2]
    assert data_set(data).counts(data) == "6 training, 3 validation, 3 test (the same)"
    assert data_set(data).title(data) == "ImageNet"
    assert "research" in data_set(data).licence(data)
    assert ImageNet().holds(tmp_path)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("LOC_val_solution.csv", ["ImageId,PredictionString", *(f"{{}},{synset} 1 2 3 4 " for synset in reversed(SYNSETS))]),
        ("val.txt", ["{}.JPEG 2", "{}.JPEG 1", "{}.JPEG 0"]),
    ],
)
def test_flat_validation_images_have_their_classes_from_a_list(name: str, lines: list[str], tmp_path: Path) -> None:
    root = write_imagenet(tmp_path, flat=True)
    images = iter(f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3))
    (root / name).write_text("\n".join(line.format(next(images)) if "{}" in line else line for line in lines))
    assert classes_of(held_out_frames(settings(root), "val").open()) == [2, 1, 0]


def test_classes_are_weighed_by_all_frames_and_none_is_opened(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path)
    (next((root / "train" / SYNSETS[1]).iterdir())).unlink()
    named = settings(root, task_names={"category": "what"})
    frames = train_frames(named, STAGE).open()
    for path in root.rglob("*.JPEG"):
        path.write_bytes(b"")
    weights = frame_weights(frames.tasks["what"], frames)  # type: ignore[arg-type]
    shares = np.array([2, 1, 2]) / 5
    expected = 1 / np.sqrt(shares)
    np.testing.assert_allclose(weights, expected / (expected * shares).sum(), rtol=1e-6)
    mixture = MixtureFrames({"one": frames, "two": frames}, {})
    np.testing.assert_allclose(frame_weights(frames.tasks["what"], mixture), weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [".", "val", "ILSVRC"])
def test_a_list_that_was_mended_is_read_again_wherever_it_is(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept in ("index_cache", "data_set"):
        monkeypatch.setattr(f"mtl.datasets.published.{kept}._TRUSTED_S", -1.0)
    root = write_imagenet(tmp_path, flat=True)
    (root / place).mkdir(exist_ok=True)
    for numbers in ((2, 1, 0), (0, 1, 2)):
        lines = [f"ILSVRC2012_val_{image:08d}.JPEG {number} " for image, number in enumerate(numbers, 1)]
        (root / place / "val.txt").write_text("\n".join(lines) + "\n" * (1 + numbers[0]))
        assert classes_of(held_out_frames(settings(root), "val").open()) == list(numbers)


def test_class_folders_whose_names_no_bundle_may_have_are_refused_before_training(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path)
    (root / "LOC_synset_mapping.txt").unlink()
    for split in ("train", "val"):
        (root / split / SYNSETS[0]).rename(root / split / "n0\t1")
    with pytest.raises(BuildError, match=r"without control characters.*Mend the names there"):
        data_tasks(settings(root))


def test_flat_images_without_a_list_that_can_be_used_say_which(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path, flat=True)
    with pytest.raises(BuildError, match=r"LOC_val_solution\.csv or val\.txt"):
        held_out_frames(settings(root), "val").open()
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n361\n171\n")
    with pytest.raises(BuildError, match=r"meta\.mat"):
        held_out_frames(settings(root), "val").open()
    (root / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 3\n")
    with pytest.raises(BuildError, match="line 1: expected an image and a number below 3"):
        held_out_frames(settings(root), "val").open()


def test_an_image_that_the_list_lacks_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path, flat=True)
    (root / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 0\nILSVRC2012_val_00000002.JPEG 1\n")
    with pytest.raises(BuildError, match=r"00000003\.JPEG"):
        held_out_frames(settings(root), "val").open()
    assert len(held_out_frames(settings(root, may_skip=0.5), "val").open()) == 2


def test_the_layout_of_ilsvrc_and_one_without_splits_are_found(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "a" / "ILSVRC" / "Data" / "CLS-LOC", names=False)
    assert data_tasks(settings(tmp_path / "a"))["category"].classes == SYNSETS  # type: ignore[attr-defined]
    for name in ("cat", "dog"):
        for number in range(3):
            jpeg(tmp_path / "b" / name / f"{number}.jpg", number)
    data = settings(tmp_path / "b", validation_from_train=2)
    assert data_set(data).counts(data) == "4 training, 2 validation, 2 test (the same)"
    assert data_set(data).title(data) == "class folders of b"
    assert "none is stated" in data_set(data).licence(data)
    with pytest.raises(BuildError, match="no folder val"):
        held_out_frames(settings(tmp_path / "b"), "val").open()


def test_names_that_are_no_utf_8_are_read_and_shown_as_bytes(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "train") + b"/caf\xe9"))
    jpeg(folder / os.fsdecode(b"\xff.jpg"), 1)
    jpeg(tmp_path / "train" / "dog" / "1.jpg", 2)
    data = settings(tmp_path, validation_from_train=1)
    assert data_tasks(data)["category"].classes == ("caf\\xe9", "dog")  # type: ignore[attr-defined]
    assert len(train_frames(data, STAGE).open()) == 1
    assert len(held_out_frames(data, "val").open()) == 1


def test_classes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path / "a")
    jpeg(root / "val" / "n09999999" / "1.JPEG", 1)
    with pytest.raises(BuildError, match="n09999999 is a class that training has no folder of"):
        held_out_frames(settings(root), "val").open()
    (root / "LOC_synset_mapping.txt").write_text("n01440764 tench\n")
    (tmp_path / "b").symlink_to(root)
    with pytest.raises(BuildError, match="no line of n02012849"):
        data_tasks(settings(tmp_path / "b"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match="2 to 4096 class folders"):
        data_tasks(settings(tmp_path / "empty"))
    with pytest.raises(BuildError, match="there is no folder"):
        data_tasks(settings(tmp_path / "nowhere"))
