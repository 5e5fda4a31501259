"""Heads and data sets by name, weights of losses by task, and what old settings mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mtl.config import ConfigError, apply_overrides, as_written, describe, load_config, parse_config
from mtl.datasets.rooms.source import Rooms
from mtl.datasets.sources import data_sets
from mtl.datasets.sources import register as register_data
from mtl.resume import check_same_settings
from mtl.settings import RunSettings
from mtl.study.toml_tables import read_toml
from mtl.tasks import HEADS, chosen_tasks, head_of, register
from mtl.tasks.labels import LabelsHead

from edge_mtl.errors import BuildError
from edge_mtl.tasks import KINDS, NYU_TASKS, TaskSpec

pytestmark = pytest.mark.training


def test_every_kind_of_the_package_has_a_head() -> None:
    assert {"labels", "depth", "normals"} <= set(HEADS) & set(KINDS)
    for kind, head in HEADS.items():
        assert {column.measure for column in head.columns} <= {measure.name for measure in KINDS[kind].measures}


def test_a_second_head_or_data_set_of_one_name_is_refused() -> None:
    with pytest.raises(ValueError, match="a head for the kind 'labels' already: LabelsHead"):
        register(LabelsHead())
    with pytest.raises(ValueError, match="a data set 'rooms' already: Rooms"):
        register_data(Rooms())
    register(HEADS["labels"])
    register_data(data_sets()["rooms"])


def test_a_kind_without_a_head_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(BuildError, match=r"'smell', which cannot be trained.*leave the task out of model\.tasks"):
        head_of(TaskSpec("nose", "smell"))


@pytest.mark.parametrize("names", [(), ("depth", "depth"), ("depth", "boxes")])
def test_tasks_that_the_frames_have_no_truth_of_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(BuildError, match="expected some of segmentation, depth, normals"):
        chosen_tasks(NYU_TASKS, names)


def parsed(**overrides: str) -> RunSettings:
    return parse_config(apply_overrides({}, {key.replace("__", "."): value for key, value in overrides.items()}))


def test_a_weight_has_a_short_key_and_a_long_one() -> None:
    short, long = parsed(losses__depth="2.0"), parsed(losses__weights__depth="2.0")
    assert short == long
    assert (short.losses.weight_of("depth"), short.losses.weight_of("normals")) == (2.0, 1.0)
    in_file = parse_config({"losses": {"depth": 3.0}})
    assert in_file.losses.weights == {"depth": 3.0}
    changed = parse_config(apply_overrides({"losses": {"depth": 3.0}}, {"losses.depth": "0.5"}))
    assert changed.losses.weights == {"depth": 0.5}


def test_a_weight_that_changes_nothing_is_not_written_down() -> None:
    content = {"losses": {"segmentation": 1.0, "depth": 1.0, "normals": 1}, "stages": [{"height": 32, "width": 32, "steps": 1}]}
    content["stages"][0] |= {"segmentation": 0.0, "depth": 0.0, "normals": 4.0}  # type: ignore[index]
    settings = parse_config(content)
    assert settings.losses == RunSettings().losses
    assert settings.stages[0].weights == {"normals": 4.0}
    assert parse_config(describe(settings)) == settings


def test_a_weight_of_a_stage_can_be_set_by_its_short_key() -> None:
    stages = {"stages": [{"height": 32, "width": 32, "steps": 1}]}
    assert parse_config(apply_overrides(stages, {"stages.0.normals": "4.0"})).stages[0].weights == {"normals": 4.0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"losses.weights.edges": "1.5"}, "losses.weights.edges is not a task: they are segmentation, depth, normals"),
        ({"losses.weights.depth": "heavy"}, "losses.weights.depth should be a number"),
        ({"losses.weights": "2.0"}, "losses.weights should be a table"),
        ({"data.kind": "roms"}, "data.kind should be one of rooms, streets, nyuv2"),
        ({"data.validation_from_train": "3"}, 'is for data.kind "nyuv2"'),
    ],
)
def test_names_that_do_not_exist_are_refused(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(apply_overrides({}, overrides))
    assert message in str(caught.value)


def test_a_run_that_wrote_its_weights_in_the_old_places_can_be_resumed() -> None:
    settings = parsed(losses__depth="2.0")
    old = json.loads(json.dumps(describe(settings)))
    del old["losses"]["weights"]
    old["losses"] |= {"segmentation": 1.0, "depth": 2.0, "normals": 1.0}
    for stage in old["stages"]:
        del stage["weights"]
        stage |= {"segmentation": 0.0, "depth": 0.0, "normals": 0.0}
    assert parse_config(as_written(old)) == settings
    check_same_settings(json.dumps(old), 1, settings, where="runs/old")
    with pytest.raises(Exception, match=r"losses\.weights\.depth = 2\.0, not null"):
        check_same_settings(json.dumps(old), 1, RunSettings(), where="runs/old")


def test_the_committed_configurations_still_mean_what_they_say() -> None:
    weighed = 0
    for path in sorted((Path(__file__).parents[4] / "train" / "configs").rglob("*.toml")):
        content = read_toml(path)
        data = content.get("data", {})
        kinds = {data.get("kind"), *(one.get("kind") for one in data.get("sources", {}).values())}
        if kinds & {"folder", "coco", "ade20k", "imagenet", "bdd100k"}:  # what it means depends on files
            continue
        settings = load_config(path)
        places = [(content.get("losses", {}), settings.losses.weight_of)]
        places += [(one, stage.weights.get) for one, stage in zip(content["stages"], settings.stages, strict=True)]
        for table, weight_of in places:
            for task in set(NYU_TASKS) & set(table):
                weighed += 1
                assert weight_of(task) == table[task], (path.name, task)
    assert weighed > 10
