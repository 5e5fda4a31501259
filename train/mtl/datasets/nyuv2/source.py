"""NYUv2 as a data set: the official split's 795 training and 654 test frames of one camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_mtl.tasks import NYU_TASKS, Specs
from mtl.datasets.data_set import DEFAULT_ROOT, DataSet, Split
from mtl.datasets.nyuv2.frames import NYUV2_TASKS, NyuRequest
from mtl.datasets.nyuv2.layout import DESCRIPTION, Part, frame_path
from mtl.datasets.task_choice import chosen, problem_of, with_more

if TYPE_CHECKING:
    from mtl.settings import DataSettings, Stage

__all__ = ["NYUV2_TRAIN", "Nyuv2"]

NYUV2_TRAIN = 795
"""Training frames of the official split."""

_TEST = 654
_FOLDER = "data/nyuv2"


class Nyuv2(DataSet):
    """See the module. Training frames are all that are not set aside for validation, or the first `stage.train` of them.

    "val" and "test" both mean the 654 test frames, unless `data.validation_from_train` sets training frames aside for "val".
    Frames have truths of `data.tasks`, of the three dense tasks where it names none.
    """

    name = "nyuv2"
    frames = "NYUv2"

    def holds(self, root: Path) -> bool:
        """Cityscapes' folders look alike: they have no normals."""
        there = frame_path(root, "val", "image", 0).is_file() and (root / "val" / "normal").is_dir()
        return there or (root / DESCRIPTION).is_file()

    def one_camera(self, data: DataSettings) -> bool:
        return True

    def title(self, data: DataSettings) -> str:
        return "NYU Depth v2"

    def licence(self, data: DataSettings) -> str:
        return "none is stated for the frames of Silberman et al. 2012: see the terms of its authors"

    def redistributable(self, data: DataSettings) -> bool:
        return False

    def tasks(self, data: DataSettings) -> Specs:
        return chosen(data.tasks, NYUV2_TASKS, default=NYU_TASKS)

    def with_truths(self, data: DataSettings, tasks: Sequence[str]) -> DataSettings:
        return with_more(data, tasks, NYUV2_TASKS, default=NYU_TASKS)

    def train_frames(self, data: DataSettings, stage: Stage) -> NyuRequest:
        return replace(self._request(data, "train", take="rest"), first=stage.train)

    def held_out_frames(self, data: DataSettings, split: Split) -> NyuRequest:
        if split == "val" and data.validation_from_train:
            return self._request(data, "train", take="aside")
        return self._request(data, "val")

    def train_count(self, data: DataSettings) -> int:
        return NYUV2_TRAIN - data.validation_from_train

    def counts(self, data: DataSettings) -> str:
        aside = data.validation_from_train
        return f"{NYUV2_TRAIN - aside} training, {aside or 'no'} validation, {_TEST} test (official split)"

    def validates_on_test(self, data: DataSettings) -> bool:
        return data.validation_from_train == 0

    def problem(self, data: DataSettings) -> str | None:
        return problem_of(data.tasks, NYUV2_TASKS, default=NYU_TASKS)

    def _request(self, data: DataSettings, part: Part, *, take: Literal["rest", "aside"] = "rest") -> NyuRequest:
        aside = data.validation_from_train if part == "train" else 0
        return NyuRequest(folder_of(data), part, aside=aside, take=take, tasks=data.tasks)


def folder_of(data: DataSettings) -> str:
    """Where the frames are: `data.root`, or the usual folder where that is left at that of the rooms."""
    return _FOLDER if data.root == DEFAULT_ROOT else data.root
