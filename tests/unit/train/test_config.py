"""Settings from TOML and the command line: what is accepted, and how mistakes are answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mtl.config import ConfigError, apply_overrides, config_sha256, load_config, parse_config, split_arguments
from mtl.settings import RunSettings

pytestmark = pytest.mark.training

CONFIGS = Path(__file__).parents[3] / "train" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("rooms-*.toml")), ids=lambda path: path.stem)
def test_every_rooms_configuration_that_we_ship_is_valid(path: Path) -> None:
    settings = load_config(path)
    assert settings.name == path.stem
    assert settings.steps == sum(stage.steps for stage in settings.stages)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert load_config(tmp_path / "empty.toml") == RunSettings()


def test_overrides_are_typed_and_reach_items_of_lists() -> None:
    content = {"stages": [{"height": 96, "width": 128, "steps": 10}]}
    arguments = ["--optimizer.lr", "5e-4", "--stages.0.steps=7", "--name", "trial", "--augment.scale", "[1.0, 1.2]"]
    settings = parse_config(apply_overrides(content, split_arguments(arguments)))
    assert settings.optimizer.lr == 5e-4
    assert settings.stages[0].steps == 7
    assert settings.name == "trial"
    assert settings.augment.scale == (1.0, 1.2)


def test_a_whole_number_is_accepted_where_a_number_is_wanted() -> None:
    assert parse_config(apply_overrides({}, {"optimizer.clip": "1"})).optimizer.clip == 1.0


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("optimiser.lr", "optimizer.lr"),
        ("optimizer.lrate", "optimizer.lr"),
        ("lr", "optimizer.lr"),
        ("stages.0.step", "stages.0.steps"),
        ("loop.evaluate-evry", "loop.evaluate_every"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(key: str, suggestion: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{suggestion}'"):
        apply_overrides({"stages": [{}]}, {key: "1"})


def test_an_unknown_key_in_the_file_names_file_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text("[ema]\ndecai = 0.9\n")
    with pytest.raises(ConfigError, match=r"typo\.toml.*'ema\.decai'.*'ema\.decay'"):
        load_config(path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.lr": "fast"}, "optimizer.lr should be a number, found 'fast'"),
        ({"optimizer.lr": "-1"}, "optimizer.lr should be above 0"),
        ({"seed": "1.5"}, "seed should be a whole number"),
        ({"seed": "true"}, "seed should be a whole number"),
        ({"losses.class_weights": "1"}, "losses.class_weights should be true or false"),
        ({"losses.depth_kind": "l2"}, "losses.depth_kind should be one of log_l1, relative_l1, l1"),
        ({"augment.scale": "1.2"}, "augment.scale should be a list"),
        ({"augment.scale": "[1.2]"}, "augment.scale should be 2 values"),
        ({"augment.scale": "[1.5, 1.2]"}, "augment.scale should rise"),
        ({"model.tasks": "['depth', 'depth']"}, "model.tasks should be some of"),
        ({"model": "5"}, "model should be a table"),
        ({"stages": "[{height=96, width=128}]"}, "stages.0 needs steps"),
        ({"stages": "[{height=96, width=100, steps=1}]"}, "multiples of 32"),
        ({"stages": "[]"}, "at least one"),
        ({"name": "../elsewhere"}, "name should be a plain word"),
        ({"model.tasks": "['objects']", "export.boxes.objects.score": "1.5"}, "score of objects should be 0.001 to less"),
        ({"model.tasks": "['objects']", "export.boxes.objects.most": "2000"}, "most of objects should be a number of boxes"),
        ({"model.tasks": "['objects']", "export.boxes.objects.least": "0.5"}, "unknown setting 'export.boxes.objects.least'"),
        ({"export.boxes.depth.score": "0.5"}, "export.boxes.depth is not a task of boxes: they are none here"),
    ],
)
def test_impossible_values_are_refused_with_what_was_expected(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(apply_overrides({}, overrides))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["stray"], ["--seed"]])
def test_arguments_that_are_no_settings_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="are given as --section"):
        split_arguments(arguments)


@pytest.mark.parametrize("index", ["9", "first"])
def test_an_index_outside_a_list_is_refused(index: str) -> None:
    with pytest.raises(ConfigError, match="is not an index"):
        apply_overrides({"stages": [{}]}, {f"stages.{index}.steps": "1"})


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe\x00"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml is not TOML"):
        load_config(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


def test_the_digest_depends_on_values_only() -> None:
    written = parse_config({"seed": 0, "optimizer": {"lr": 1e-3}})
    assert config_sha256(written) == config_sha256(RunSettings())
    assert config_sha256(parse_config({"seed": 1})) != config_sha256(RunSettings())


def test_validation_frames_that_no_source_would_set_aside_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixture.toml"
    mixture = "[data]\n{0}\n[data.sources.nyu]\nkind = 'nyuv2'\n{1}\n[data.sources.rooms]\nkind = 'rooms'\n"
    path.write_text(mixture.format("validation_from_train = 64", ""))
    with pytest.raises(ConfigError, match=r"its frames would be those of the test.*data\.sources\.nyu\.validation_from_train"):
        load_config(path)
    path.write_text(mixture.format("", "validation_from_train = 64"))
    assert load_config(path).data.sources["nyu"].validation_from_train == 64
    shipped = load_config(CONFIGS / "indoor-b0.toml")
    assert shipped.data.sources["nyu"].validation_from_train == 64
    assert shipped.distill.graph


@pytest.mark.parametrize("text", ['[data]\nroot = "a\\u0000b"\n', f"[optimizer]\nlr = 1{'0' * 400}\n"])
def test_a_value_that_no_path_or_number_can_be_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"data\.root should be text|optimizer\.lr should be a number"):
        load_config(tmp_path / "a.toml")


@pytest.mark.parametrize("content", [[], "text", 3, None])
def test_settings_that_are_no_table_are_refused(content: Any) -> None:
    with pytest.raises(ConfigError, match="runs/x: settings should be a table, found a"):
        parse_config(content, source="runs/x")
