"""Frames that cannot be read: an error, or left out up to a share; and settings that are for published data sets only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mtl.config import ConfigError, apply_overrides, parse_config
from mtl.datasets.sources import train_frames
from mtl.settings import DataSettings, Stage

from edge_mtl.errors import BuildError
from tests.published_files import image, write_coco, write_imagenet

STAGE = Stage(height=32, width=32, steps=1)
SHORT = {"stages": "[{height=32, width=32, steps=1, batch=2}]", "loop.device": "cpu"}


def broken(root: Path) -> Path:
    """One of six images is empty, one cut short."""
    write_imagenet(root)
    first, second = sorted((root / "train" / "n01440764").iterdir())
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:200])
    return root


def test_an_image_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    frames = train_frames(DataSettings(kind="imagenet", root=str(broken(tmp_path))), STAGE).open()
    for index in (0, 1, 0):
        with pytest.raises(BuildError, match=f"n01440764_{index}.JPEG") as caught:
            frames[index]
        assert "data.may_skip" in str(caught.value)
    assert frames[2].truths == {"category": 1}


def test_the_next_frame_stands_in_for_one_that_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = train_frames(DataSettings(kind="imagenet", root=str(broken(tmp_path)), may_skip=0.4), STAGE).open()
    for index in (0, 1, 2, 0):
        assert frames[index].truths == {"category": 1}
        assert np.abs(frames[index].image.astype(int) - image(10)).mean() < 12
    assert capsys.readouterr().err.count("left out:") == 2, "once each"
    fewer = train_frames(DataSettings(kind="imagenet", root=str(tmp_path), may_skip=0.2), STAGE).open()
    with pytest.raises(BuildError, match=r"2 of 6 frames, more than data.may_skip = 0.2"):
        fewer[0]


def test_fewer_training_frames_are_chosen_by_their_names(tmp_path: Path) -> None:
    data = DataSettings(kind="imagenet", root=str(write_imagenet(tmp_path, train=4)))
    few, more = (train_frames(data, Stage(height=32, width=32, steps=1, train=count)).open() for count in (3, 6))
    assert (len(few), len(more)) == (3, 6)
    assert set(few._numbers) < set(more._numbers)


def test_settings_that_other_data_sets_have_no_use_for_are_refused(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    heeding = "coco, ade20k, imagenet, bdd100k, cityscapes"
    with pytest.raises(ConfigError, match=rf"data\.may_skip is for {heeding}; rooms has no use for it"):
        parse_config(apply_overrides({}, {**SHORT, "data.may_skip": "0.1"}))
    given = {**SHORT, "data.kind": "'coco'", "data.root": f"'{root}'"}
    with pytest.raises(ConfigError, match="below 1"):
        parse_config(apply_overrides({}, {**given, "data.may_skip": "1.5"}))
    assert parse_config(apply_overrides({}, given)).model.tasks == ("objects",), "all that the frames have"


def test_a_source_of_a_mixture_may_name_its_task_as_another_one_does(tmp_path: Path) -> None:
    first, second = write_coco(tmp_path / "a"), write_coco(tmp_path / "b")
    content = {
        "data": {
            "sources": {
                "a": {"kind": "coco", "root": str(first)},
                "b": {"kind": "coco", "root": str(second), "task_names": {"objects": "things"}},
                "c": {"kind": "imagenet", "root": str(write_imagenet(tmp_path / "c"))},
            }
        },
        "model": {"tasks": []},
    }
    assert set(parse_config(apply_overrides(content, SHORT)).model.tasks) == {"objects", "things", "category"}
    del content["data"]["sources"]["b"]["task_names"]  # type: ignore[attr-defined]
    assert set(parse_config(apply_overrides(content, SHORT)).model.tasks) == {"objects", "category"}
