"""Truths that are dealt out between tasks: every frame keeps one of them, and which does not depend on the run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from mtl.config import ConfigError, parse_config
from mtl.datasets.disjoint import DisjointFrames
from mtl.datasets.frame import Frame
from mtl.datasets.sources import train_frames
from mtl.settings import DataSettings, Stage

from edge_mtl.documents import parse_toml
from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs

pytestmark = pytest.mark.training

TASKS = ("segmentation", "depth", "normals")


class Numbered:
    """Frames whose truths are their own number."""

    tasks: Specs = NYU_TASKS

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Frame:
        return Frame(np.zeros((2, 2, 3), np.uint8), dict.fromkeys(TASKS, index), (1.0, 1.0, 0.5, 0.5))


def test_every_task_has_its_share_and_no_frame_shows_two() -> None:
    frames = DisjointFrames(Numbered(), TASKS)
    shown = [tuple(frames[index].truths) for index in range(len(frames))]
    assert {len(one) for one in shown} == {1}
    assert Counter(one[0] for one in shown) == dict.fromkeys(TASKS, 20)
    assert all(set(one) == frames.known(index) for index, one in enumerate(shown))
    assert len({shown[index : index + 3] == shown[:3] for index in range(0, 60, 3)}) == 2, "the order should vary"
    assert all(frames[index].truths == {shown[index][0]: index} for index in range(60))
    assert frames[-1].truths == frames[59].truths


def test_tasks_that_are_not_dealt_out_stay() -> None:
    frames = DisjointFrames(Numbered(), ("segmentation", "normals"))
    assert all("depth" in frames[index].truths and len(frames[index].truths) == 2 for index in range(60))


@pytest.mark.parametrize("dealt", [("depth",), ("depth", "depth"), ("depth", "lanes")])
def test_what_cannot_be_dealt_out_is_named(dealt: tuple[str, ...]) -> None:
    with pytest.raises(BuildError, match="two or more of the tasks segmentation, depth, normals"):
        DisjointFrames(Numbered(), dealt)


def test_settings_deal_out_training_frames_alone(tmp_path: object) -> None:
    data = DataSettings(root=str(tmp_path), height=32, width=32, train=3, disjoint=TASKS)
    frames = train_frames(data, Stage(height=32, width=32, steps=1)).open()
    assert sorted(task for index in range(3) for task in frames[index].truths) == sorted(TASKS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('data.disjoint = ["depth"]', "two or more of the tasks segmentation, depth, normals"),
        (
            'data = { disjoint = ["depth", "normals"], sources = { one = { kind = "rooms" } } }',
            "give it to one of data.sources",
        ),
        ('data.sources.one = { kind = "rooms", disjoint = ["depth", "lanes"] }', "two or more of the tasks"),
    ],
)
def test_settings_that_cannot_be_dealt_out_are_refused_before_anything_is_made(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(parse_toml(text))
