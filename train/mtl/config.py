"""From TOML and command-line overrides to `RunSettings`, with errors that name the nearest key.

Knows types and keys; knows nothing about what the settings do.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from edge_mtl.documents import parse_toml
from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.files import sha256_bytes
from edge_mtl.tasks import NYU_TASKS
from mtl.datasets.augment_check import augment_problem
from mtl.datasets.data_set import DataSet
from mtl.datasets.mixture_check import mixture_problem
from mtl.datasets.sources import data_set, data_tasks, disjoint_problem, stray_option
from mtl.distill.settings_check import distill_problem
from mtl.schedule import steps_per_pass
from mtl.settings import LINEAR_WEIGHTINGS, RunSettings

__all__ = [
    "ConfigError",
    "apply_overrides",
    "as_written",
    "config_sha256",
    "describe",
    "load_config",
    "parse_config",
    "split_arguments",
]

T = TypeVar("T")


class ConfigError(EdgeMtlError, ValueError):
    """A configuration file or an override cannot be used."""

    exit_code = 2


def load_config(path: Path, overrides: Mapping[str, str] | None = None) -> RunSettings:
    """Read a TOML file and apply overrides such as {"optimizer.lr": "5e-4"}.

    Raises:
        ConfigError: unreadable file, bad TOML, unknown key, wrong type, impossible value.
    """
    try:
        content = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read ({exc.strerror}). Try train/configs/rooms-quick.toml") from exc
    except ValueError as exc:  # also a path with a zero in it
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    content = apply_overrides(content, overrides or {})
    settings = parse_config(content, source=str(path))
    data = settings.data
    if data.sources and data.validation_from_train:  # refused here only: what a run wrote down still describes it
        name = next(iter(data.sources))
        raise ConfigError(
            f"{path}: data.validation_from_train is for a single data set, and none of data.sources takes it from there: its "
            f"frames would be those of the test. Give it to a source: data.sources.{name}.validation_from_train"
        )
    return settings


def parse_config(content: Mapping[str, Any], *, source: str = "configuration", checked: bool = True) -> RunSettings:
    """Nested mapping -> validated settings.

    Args:
        checked: whether values and the data set are looked at; false for settings of a run that is over, whose data may be
            elsewhere now.
    Raises:
        ConfigError: unknown key, wrong type, impossible value.
        BuildError: the data set does not say what its tasks are.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{source}: settings should be a table, found a {type(content).__name__}")
    settings = _build(RunSettings, _with_inherited(_in_todays_places(content)), "", source)
    if not checked:
        return settings
    try:
        data = data_set(settings.data).with_truths(settings.data, settings.model.tasks)
    except BuildError as exc:
        raise ConfigError(f"{source}: {exc}") from exc
    settings = dataclasses.replace(settings, data=data)
    known = data_set(data)
    if not settings.model.tasks or _means_all_tasks(content, known, settings):
        every = tuple(known.tasks(data))
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, tasks=every))
    if all(stage.batch > 0 for stage in settings.stages):
        settings = _count_steps(settings)
    _check(settings, source)
    return settings


def _means_all_tasks(content: Mapping[str, Any], known: DataSet, settings: RunSettings) -> bool:
    """Whether no tasks were named, and the data set does not have those that stand for that."""
    if isinstance(content.get("model"), Mapping) and "tasks" in content["model"]:
        return False
    try:
        return not set(settings.model.tasks) <= set(known.tasks(settings.data))
    except (BuildError, ValueError):  # what is wrong with the data set is said where it is checked
        return False


def split_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """["--optimizer.lr", "5e-4", "--seed=1"] -> {"optimizer.lr": "5e-4", "seed": "1"}. Raises ConfigError."""
    overrides: dict[str, str] = {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--"):
            raise ConfigError(f"unexpected argument {argument!r}: settings are given as --section.key VALUE")
        key, equals, value = argument[2:].partition("=")
        if not equals:
            if not waiting:
                raise ConfigError(f"--{key} has no value: settings are given as --section.key VALUE")
            value = waiting.pop(0)
        overrides[key] = value
    return overrides


def apply_overrides(content: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """A copy of `content` with dotted keys set; values are read as TOML, or as plain text where that fails.

    Raises:
        ConfigError: a key that the settings do not have.
    """
    result: dict[str, Any] = _in_todays_places(json.loads(json.dumps(content, default=str)))
    for dotted, text in overrides.items():
        keys = _todays_key(dotted.replace("-", "_").split("."))
        _check_key(keys, dotted)
        place: Any = result
        for position, key in enumerate(keys[:-1]):
            place = _item(place, key, dotted) if isinstance(place, list) else place.setdefault(key, {})
            if not isinstance(place, (dict, list)):
                raise ConfigError(f"--{dotted}: {'.'.join(keys[: position + 1])} is not a table")
        if isinstance(place, list):
            raise ConfigError(f"--{dotted}: name a key of the item, for example {dotted}.steps")
        place[keys[-1]] = _value(text)
    return result


def as_written(content: Any) -> Any:
    """What a run wrote down of its settings, with the values that settings had before they existed or changed their default.

    A run older than a setting did not write it; today's default may be another one.
    """
    model = content.get("model", {}) if isinstance(content, Mapping) else None
    return {**content, "model": {**_BEFORE, **model}} if isinstance(model, Mapping) else content


_BEFORE = {"exchange": True, "top_down": True, "fine": True, "slim": False}
"""Parts of the edge decoder that could not be chosen once."""


_WEIGHED = tuple(NYU_TASKS)
"""Tasks whose weights have keys of their own in [losses] and [[stages]], since there were no others once."""


def _in_todays_places(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which weights of losses are in tables `weights`, without those that mean what is meant anyway."""
    result = dict(content)
    if isinstance(content.get("losses"), Mapping):
        result["losses"] = _with_weights(content["losses"], neutral=1.0)
    if isinstance(content.get("stages"), (list, tuple)):
        stages = content["stages"]
        result["stages"] = [_with_weights(one, neutral=0.0) if isinstance(one, Mapping) else one for one in stages]
    return result


_INHERITED = ("canonical", "height", "width", "train", "validation", "test", "workers")
"""Keys of [data] that its sources have too where they name no value of their own."""


def _with_inherited(content: dict[str, Any]) -> dict[str, Any]:
    """A copy in which every source of [data.sources] names what it takes from [data]."""
    data = content.get("data")
    sources = data.get("sources") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(sources, Mapping):
        return content
    shared = {key: data[key] for key in _INHERITED if key in data}
    full = {name: {**shared, **one} if isinstance(one, Mapping) else one for name, one in sources.items()}
    return {**content, "data": {**data, "sources": full}}


def _with_weights(table: Mapping[str, Any], *, neutral: float) -> dict[str, Any]:
    weights = table.get("weights", {})
    if not isinstance(weights, Mapping):
        return dict(table)
    every = {**{task: table[task] for task in _WEIGHED if task in table}, **weights}
    kept = {task: value for task, value in every.items() if value != neutral}
    others = {key: value for key, value in table.items() if key not in (*_WEIGHED, "weights")}
    return {**others, "weights": kept} if every else others


def _todays_key(keys: list[str]) -> list[str]:
    """["losses", "depth"] -> ["losses", "weights", "depth"], and so in stages."""
    place = {"losses": 1, "stages": 2}.get(keys[0], 0)
    named = 0 < place == len(keys) - 1 and keys[place] in _WEIGHED
    return [*keys[:place], "weights", keys[place]] if named else keys


def describe(settings: RunSettings) -> dict[str, Any]:
    """The settings as plain nested data, ready for JSON."""
    return dataclasses.asdict(settings)


def config_sha256(settings: RunSettings) -> str:
    """Digest of all settings: equal runs have equal digests, whichever way they were written."""
    return sha256_bytes(json.dumps(describe(settings), sort_keys=True).encode())


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _item(items: list[Any], key: str, dotted: str) -> Any:
    if not key.isdigit() or int(key) >= len(items):
        raise ConfigError(f"--{dotted}: {key!r} is not an index of a list of {len(items)}")
    return items[int(key)]


def _check_key(keys: Sequence[str], dotted: str) -> None:
    kind: Any = RunSettings
    for key in keys:
        if dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            if key not in hints:
                raise ConfigError(f"unknown setting {dotted!r}{_nearest(dotted)}")
            kind = hints[key]
        elif get_origin(kind) is tuple and dataclasses.is_dataclass(get_args(kind)[0]):
            kind = get_args(kind)[0]
        elif get_origin(kind) is Mapping:
            kind = get_args(kind)[1]
        else:
            raise ConfigError(f"unknown setting {dotted!r}{_nearest(dotted)}")


def _all_keys(kind: Any = RunSettings, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, hint in typing.get_type_hints(kind).items():
        found.append(prefix + name)
        if dataclasses.is_dataclass(hint):
            found += _all_keys(hint, f"{prefix}{name}.")
        elif get_origin(hint) is tuple and dataclasses.is_dataclass(get_args(hint)[0]):
            found += _all_keys(get_args(hint)[0], f"{prefix}{name}.0.")
        elif get_origin(hint) is Mapping and dataclasses.is_dataclass(get_args(hint)[1]) and get_args(hint)[1] is not kind:
            found += _all_keys(get_args(hint)[1], f"{prefix}{name}.NAME.")
    return found


def _nearest(dotted: str) -> str:
    everything = _all_keys()
    last = dotted.rsplit(".", 1)[-1]
    same = [key for key in everything if key.rsplit(".", 1)[-1] == last]
    if dotted == last:  # no section: any of them may be meant
        close = same or difflib.get_close_matches(dotted, everything, n=1, cutoff=0.5)
    else:
        close = difflib.get_close_matches(dotted, same or everything, n=1, cutoff=0.0 if same else 0.5)
    return f": did you mean {' or '.join(map(repr, close))}?" if close else ". See train/mtl/settings.py for the list"


def _build(kind: type[T], content: Any, prefix: str, source: str) -> T:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{source}: {prefix.rstrip('.') or 'the file'} should be a table, found {content!r}")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in hints:
            raise ConfigError(f"{source}: unknown setting {prefix + key!r}{_nearest(prefix + key)}")
        values[key] = _convert(hints[key], value, prefix + key, source)
    try:
        return kind(**values)
    except TypeError as exc:
        missing = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in values]  # type: ignore[arg-type]
        raise ConfigError(f"{source}: {prefix.rstrip('.')} needs {', '.join(missing)}") from exc


def _convert(hint: Any, value: Any, key: str, source: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, key + ".", source)  # type: ignore[arg-type]
    if origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{source}: {key} should be one of {', '.join(map(str, arguments))}, found {value!r}")
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{source}: {key} should be a list, found {value!r}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise ConfigError(f"{source}: {key} should be {len(kinds)} values, found {len(value)}")
        return tuple(
            _convert(one, item, f"{key}.{index}", source) for index, (one, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {key} should be a table, found {value!r}")
        return {str(name): _convert(arguments[1], item, f"{key}.{name}", source) for name, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        raise AssertionError(f"settings have no unions: {key}")
    fits = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as exc:
            raise ConfigError(f"{source}: {key} should be a number, found one of {value.bit_length()} bits") from exc
    if not fits or (isinstance(value, str) and "\0" in value):  # no name of a file or of anything else has a zero in it
        raise ConfigError(f"{source}: {key} should be {_NAMES[hint]}, found {value!r}")
    return value


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _count_steps(settings: RunSettings) -> RunSettings:
    """The steps of stages that are given in epochs."""
    stages = (
        dataclasses.replace(stage, steps=stage.epochs * steps_per_pass(settings, index)) if stage.epochs else stage
        for index, stage in enumerate(settings.stages)
    )
    return dataclasses.replace(settings, stages=tuple(stages))


def _check_tasks(settings: RunSettings, source: str) -> None:
    """Refuse tasks that the frames have no truth of, weights of other tasks, and options that a task cannot work with."""
    from mtl.tasks import bundled_tasks, head_of  # with torch, which reading settings alone does without

    specs, tasks = data_tasks(settings.data), settings.model.tasks
    if not tasks or not set(tasks) <= set(specs) or len(set(tasks)) != len(tasks):
        raise ConfigError(f"{source}: model.tasks should be some of {', '.join(specs)}, found {list(tasks)}")
    tables = {"losses": settings.losses.weights, **{f"stages.{n}": stage.weights for n, stage in enumerate(settings.stages)}}
    for where, weights in tables.items():
        strange = [task for task in weights if task not in specs and task not in _WEIGHED]
        if strange:
            raise ConfigError(f"{source}: {where}.weights.{strange[0]} is not a task: they are {', '.join(specs)}")
    for task in tasks:
        problem = head_of(specs[task]).problem(specs[task], settings.model, settings.losses)
        if problem is not None:
            raise ConfigError(f"{source}: {problem}")
    try:
        bundled_tasks({task: specs[task] for task in tasks}, settings.export)
    except ValueError as exc:
        raise ConfigError(f"{source}: {exc}") from exc


def _check(settings: RunSettings, source: str) -> None:
    """Refuse values that could only fail later."""

    def require(fine: bool, message: str) -> None:
        if not fine:
            raise ConfigError(f"{source}: {message}")

    name = settings.name
    require(bool(name) and "/" not in name and name not in (".", ".."), f"name should be a plain word, found {name!r}")
    require(settings.seed >= 0, f"seed should be 0 or more, found {settings.seed}")
    require(bool(settings.stages), "there should be at least one [[stages]]")
    for index, stage in enumerate(settings.stages):
        where = f"stages.{index}"
        good = stage.height > 0 and stage.width > 0 and stage.height % 32 == 0 and stage.width % 32 == 0
        require(good, f"{where} is {stage.height}x{stage.width}: sizes should be positive multiples of 32")
        require(stage.batch > 0, f"{where}: batch should be 1 or more, found {stage.batch}")
        require(stage.steps > 0, f"{where} needs steps or epochs, 1 or more")
    data, augment, optimizer = settings.data, settings.augment, settings.optimizer
    require(min(data.train, data.validation, data.test) > 0, "data.train, data.validation and data.test should be 1 or more")
    require(min(data.height, data.width) >= 32, f"data is {data.height}x{data.width}: rooms should be 32 pixels a side or more")
    require(data.validation_from_train >= 0, f"data.validation_from_train counts from 0, found {data.validation_from_train}")
    problem = mixture_problem(settings) or stray_option(data) or data_set(data).problem(data) or disjoint_problem(data)
    require(problem is None, str(problem))
    low, high = augment.scale
    require(1.0 <= low <= high <= 4.0, f"augment.scale should rise within 1 to 4, found {augment.scale}")
    problem = augment_problem(settings)
    require(problem is None, str(problem))
    require(data.depth_step_m >= 0, f"data.depth_step_m should be 0 or more, found {data.depth_step_m}")
    require(optimizer.lr > 0, f"optimizer.lr should be above 0, found {optimizer.lr}")
    require(0 <= settings.ema.decay < 1, f"ema.decay should be in 0 to 1, found {settings.ema.decay}")
    _check_tasks(settings, source)
    model = settings.model
    require(1 <= model.shared_stages <= 3, f"model.shared_stages should be 1 to 3, found {model.shared_stages}")
    fitting = model.init_part == "all" or (bool(model.init) and model.sharing == "full")
    require(fitting, f'model.init_part "{model.init_part}" needs model.init and model.sharing "full"')
    require(model.output_stride in (0, 8, 16), f"model.output_stride should be 0, 8 or 16, found {model.output_stride}")
    require(min(settings.loop.threads, settings.loop.loader_workers) >= 0, "loop.threads and loop.loader_workers count from 0")
    loop = settings.loop
    counts = min(loop.evaluate_every, loop.pictures, loop.cosine_every) >= 0
    require(counts, "loop.evaluate_every, loop.images and loop.cosine_every count from 0")
    require(loop.accumulate > 0, f"loop.accumulate should be 1 or more, found {loop.accumulate}")
    whole = all(stage.batch % loop.accumulate == 0 for stage in settings.stages)
    require(whole, f"loop.accumulate = {loop.accumulate} should divide the batch of every stage")
    parts = loop.accumulate == 1 or settings.losses.weighting in LINEAR_WEIGHTINGS
    require(parts, f"losses.weighting {settings.losses.weighting!r} weighs whole batches: loop.accumulate should be 1")
    problem = distill_problem(settings)
    require(problem is None, str(problem))
    require(0 <= optimizer.warmup <= 1, f"optimizer.warmup is a share of all steps, found {optimizer.warmup}")
