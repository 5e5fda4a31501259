"""Which frames `train/evaluate.py --root` measures on."""

from __future__ import annotations

from pathlib import Path

import evaluate as evaluate_script
import pytest
from mtl.datasets.rooms.dataset import cache_folder
from mtl.datasets.rooms.render import DEFAULT_OPTIONS
from mtl.evaluation_targets import FrameChoice
from mtl.settings import DataSettings

from edge_mtl import bundle
from edge_mtl.errors import BuildError
from tests.own_folder import write_own_folder

ROOMS = DataSettings()
ROOMS_B0 = Path(bundle.__file__).parent / "bundles" / "rooms-b0"


def kind_at(root: Path, data: DataSettings = ROOMS) -> str:
    return FrameChoice("test", root=str(root)).applied(data, (32, 48)).kind


def test_a_mistyped_folder_is_an_error_and_nothing_is_rendered_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mistyped = tmp_path / "onw"
    assert evaluate_script.main([str(ROOMS_B0), "--root", str(mistyped)]) == 9
    said = capsys.readouterr().err
    assert f"{mistyped} should have frames: dataset.toml" in said
    assert "found no such folder. To render rooms there, make an empty folder first" in said
    assert not mistyped.exists()


def test_a_folder_of_images_without_a_description_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(BuildError, match="found none of them"):
        kind_at(tmp_path)
    (tmp_path / "rooms-of-ours").mkdir()
    with pytest.raises(BuildError, match="found none of them"):
        kind_at(tmp_path)


def test_an_empty_folder_is_for_rooms_as_is_the_folder_of_the_model(tmp_path: Path) -> None:
    assert kind_at(tmp_path) == "rooms"
    assert kind_at(Path(ROOMS.root)) == "rooms"


def test_rooms_that_are_there_are_told_and_a_description_comes_before_them(tmp_path: Path) -> None:
    own = write_own_folder(tmp_path, frames=4)
    cache_folder(own, "test", 16, 24, DEFAULT_OPTIONS).mkdir(parents=True)
    assert kind_at(own) == "folder"
    (own / "dataset.toml").unlink()
    assert kind_at(own) == "rooms"


def test_a_model_of_a_folder_says_itself_that_another_is_not_there(tmp_path: Path) -> None:
    assert kind_at(tmp_path / "absent", DataSettings(kind="folder", root=str(tmp_path))) == "folder"
