"""What edge-mtl needs, with the versions that are installed here: its own requirements, an extra's, and all that these need."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["PROJECT", "Resolved", "direct", "extras", "resolve"]

PROJECT = "edge-mtl"
_NOT_USED = ("dev", "docs", "peers", "ros-test", "gpu-test")
"""Extras of whoever works on the package; nothing of them runs on a robot."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """All that was found.

    Attributes:
        needs: names that a distribution needs, by its own; the project itself among them.
        versions: by name; the project is not among them.
        absent: requirements that are not installed here, so that nothing is known of what they need.
    """

    needs: dict[str, tuple[str, ...]]
    versions: dict[str, str]
    absent: tuple[str, ...]


def extras() -> tuple[str, ...]:
    """Names of the extras that users install."""
    found = importlib.metadata.metadata(PROJECT).get_all("Provides-Extra") or []
    return tuple(name for name in found if name not in _NOT_USED)


def direct(wanted: Iterable[str] = ()) -> Iterator[Requirement]:
    """The project's requirements on this Python, and those of some extras."""
    return _applying(PROJECT, wanted)


def resolve(wanted: Iterable[str] = ()) -> Resolved:
    """Follow the requirements of the project and of these extras to the end."""
    needs: dict[str, tuple[str, ...]] = {}
    versions: dict[str, str] = {}
    absent: set[str] = set()
    todo: list[tuple[str, frozenset[str]]] = [(PROJECT, frozenset(wanted))]
    seen = set(todo)
    while todo:
        name, asked = todo.pop()
        found = []
        for requirement in _applying(name, asked):
            other = canonicalize_name(requirement.name)
            try:
                versions[other] = importlib.metadata.version(other)
            except importlib.metadata.PackageNotFoundError:
                absent.add(str(requirement))
                continue
            found.append(other)
            step = (str(other), frozenset(requirement.extras))
            if step not in seen:
                seen.add(step)
                todo.append(step)
        needs[name] = tuple(sorted({*needs.get(name, ()), *found}))
    return Resolved(needs, dict(sorted(versions.items())), tuple(sorted(absent)))


def _applying(name: str, wanted: Iterable[str]) -> Iterator[Requirement]:
    asked = ("", *wanted)
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in asked):
            yield requirement
