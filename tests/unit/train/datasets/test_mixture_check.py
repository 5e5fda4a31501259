"""What a configuration of several sources says where it cannot work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mtl.config import ConfigError, apply_overrides, describe, parse_config
from mtl.datasets.sources import data_sets, register
from mtl.settings import RunSettings

from tests.synthetic_data import Rectangles

pytestmark = pytest.mark.training

THINGS, DEPTH = "rectangles-of-things", "rectangles-of-depth"
STAGE = {"height": 64, "width": 96, "steps": 3, "batch": 2}


@pytest.fixture(autouse=True)
def _registered() -> None:
    for name, tasks in ((THINGS, ("things",)), (DEPTH, ("depth",))):
        if name not in data_sets():
            register(Rectangles(name, tasks))


def settings(**changes: str) -> RunSettings:
    sources = {"hall": {"kind": THINGS, "ratio": 1}, "yard": {"kind": DEPTH, "ratio": 3}}
    content: dict[str, Any] = {
        "data": {"train": 6, "validation": 2, "sources": sources},
        "model": {"tasks": ["things", "depth"]},
        "stages": [STAGE, STAGE],
    }
    return parse_config(apply_overrides(content, changes))


def test_sources_take_from_data_what_they_do_not_name() -> None:
    found = settings(**{"data.sources.yard.train": "9", "data.canonical": "false"}).data.sources
    assert (found["hall"].train, found["yard"].train, found["hall"].validation) == (6, 9, 2)
    assert (found["hall"].ratio, found["yard"].ratio) == (1.0, 3.0)
    assert not found["hall"].canonical


def test_settings_come_back_from_what_a_run_writes_down() -> None:
    one = settings(**{"stages.1.ratios.hall": "0", "data.deploy_source": "hall"})
    assert parse_config(json.loads(json.dumps(describe(one), sort_keys=True))) == one
    assert one.stages[1].ratios == {"hall": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.sources.hall.ratio": "-1"}, r"data\.sources\.hall\.ratio should be 0 or more, found -1\.0"),
        ({"data.sources.hall.ratio": "nan"}, r"data\.sources\.hall\.ratio should be 0 or more, found nan"),
        ({"data.sources.hall.ratio": "0"}, r"data\.sources\.hall is trained with in no stage"),
        ({"data.sources.hall.canonical": "false"}, r"data\.sources\.hall\.canonical differs: a network answers for one camera"),
        ({"data.sources.hall.train": "0"}, r"data\.sources\.hall: train, validation and test should be 1 or more"),
        ({"data.sources.hall.height": "16"}, r"data\.sources\.hall: sizes should be 32 pixels"),
        ({"data.sources.hall.deploy_source": "yard"}, r"data\.sources\.hall has sources of its own"),
        ({"data.sources.Hall.kind": THINGS}, r"data\.sources\.Hall: a source's name is lower-case"),
        ({"data.sources.hall.kind": "smoke"}, r"data\.sources\.hall: data\.kind should be one of"),
        ({"data.sources.hall.rato": "2"}, r"data\.sources\.hall\.rato'.*did you mean 'data\.sources\.NAME\.ratio'"),
        ({"data.sources.hall.weights": "{things = -1}"}, r"data\.sources\.hall\.weights\.things should be 0 or more"),
        ({"data.sources.hall.weights": "{depth = 1}"}, r"hall\.weights\.depth is not a task of it: they are things"),
        ({"data.sources.hall.depth_step_m": "-1"}, r"data\.sources\.hall\.depth_step_m should be 0 or more"),
        ({"data.deploy_source": "attic"}, r"data\.deploy_source should be one of hall, yard, found 'attic'"),
        ({"stages.0.ratios.attic": "1"}, r"stages\.0\.ratios\.attic is not a source: they are hall, yard"),
        ({"stages.1.ratios.hall": "-2"}, r"stages\.1\.ratios\.hall should be 0 or more"),
        ({"stages.1.ratios": "{hall = 0, yard = 0}"}, r"stages\.1 leaves every source out"),
        ({"stages.0.train": "4"}, r"stages\.0\.train is for a single data set: give data\.sources\.NAME\.train"),
        ({"model.tasks": "['things']"}, r"stages\.0 takes frames of yard, which has no truth of model\.tasks \['things'\]"),
        ({"model.tasks": "['things', 'depth', 'normals']"}, r"model\.tasks should be some of things, depth, found"),
        ({"losses.weighting": "mgda"}, r"'mgda' compares the gradients of all tasks .* batches of hall have no truth of depth"),
    ],
)
def test_what_cannot_work_is_refused_and_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_gradient_methods_may_mix_sources_that_label_every_task() -> None:
    register(both := Rectangles("rectangles-of-both", ("things", "depth")))
    changes = {f"data.sources.{name}.kind": both.name for name in ("hall", "yard")}
    assert settings(**changes, **{"losses.weighting": "nash_mtl"}).losses.weighting == "nash_mtl"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.deploy_source": "hall"}, r"data\.deploy_source is for several sources"),
        ({"optimizer.batch_norm": "per_source"}, r'optimizer\.batch_norm "per_source" is for several sources'),
        ({"stages.0.ratios.hall": "1"}, r"stages\.0\.ratios is for several sources"),
    ],
)
def test_settings_of_sources_without_any_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(apply_overrides({"stages": [STAGE]}, changes))
