"""Whether a run may continue other settings than it began with. Knows settings; knows nothing about training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge_mtl.documents import parse_json
from mtl.checkpoint import CheckpointError
from mtl.config import as_written, describe, parse_config
from mtl.settings import RunSettings

__all__ = ["check_same_settings", "check_same_teachers"]

_FREE_TO_CHANGE = ("loop", "export", "folder")
"""Settings that a resumed run may change: they do not decide what is learnt."""


def check_same_settings(stored: str, done: int, settings: RunSettings, *, where: str) -> None:
    """Refuse to resume with settings that would have led elsewhere.

    Legs of the curriculum that have not begun may change, and so may the length of the one under way.

    Args:
        stored: the settings of the checkpoint, as JSON.
        done: steps taken.
        where: the run, for messages.
    Raises:
        CheckpointError: naming the first setting that differs.
    """
    try:
        before = _plain(parse_config(as_written(parse_json(stored)), source=where))
    except (ValueError, TypeError) as exc:
        raise CheckpointError(f"{where} does not say how it was trained ({exc}). Train again") from exc
    now = _plain(settings)
    before["stages"], now["stages"] = _begun(before["stages"], done), _begun(now["stages"], done)
    for key in now:
        difference = None if key in _FREE_TO_CHANGE else _difference(before[key], now[key], key)
        if difference is not None:
            raise CheckpointError(
                f"{where} was trained with {difference}. Resume with the same settings, or choose another --name"
            )


def check_same_teachers(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], *, where: str) -> None:
    """Refuse to resume with teachers whose files have changed since. Raises CheckpointError.

    Args:
        before, now: what is recorded of them, see `mtl.distill.teachers`.
    """
    for one, other in zip(before, now, strict=False):
        if one.get("sha256") != other.get("sha256"):
            raise CheckpointError(
                f"{where} was taught by {one.get('file')} with the SHA-256 {str(one.get('sha256'))[:12]}, and "
                f"{other.get('file')} has {str(other.get('sha256'))[:12]}. Resume with that file, or choose another --name"
            )


def _plain(settings: RunSettings) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(describe(settings)))
    return content


def _begun(stages: Sequence[Mapping[str, Any]], done: int) -> list[dict[str, Any]]:
    """The stages that began before step `done`, the last of them without its length."""
    begun: list[dict[str, Any]] = []
    start = 0
    for stage in stages:
        if start >= done:
            break
        begun.append(dict(stage))
        start += int(stage["steps"])
    if begun:
        del begun[-1]["steps"], begun[-1]["epochs"]
    return begun


def _difference(before: Any, now: Any, key: str) -> str | None:
    """ "key = old, not new" of the first leaf that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            found = _difference(before.get(name), now.get(name), f"{key}.{name}")
            if found is not None:
                return found
        return None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return next(
            filter(None, (_difference(a, b, f"{key}.{i}") for i, (a, b) in enumerate(zip(before, now, strict=True)))), None
        )
    if before == now:
        return None
    if isinstance(before, list) and isinstance(now, list):
        return f"{len(before)} {key} so far, not {len(now)}"
    return f"{key} = {json.dumps(before)}, not {json.dumps(now)}"
