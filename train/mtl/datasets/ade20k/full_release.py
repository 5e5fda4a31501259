"""The JSON beside an image of ADE20K's full release: whether it numbers classes as the benchmark's table expects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_mtl.documents import parse_json
from mtl.datasets.ade20k.classes import NUMBERS

__all__ = ["other_numbers"]

_NAME_OF = {number: name for name, numbers in NUMBERS.items() for number in numbers[:1]}


def other_numbers(path: Path) -> tuple[str, ...]:
    """Classes of the benchmark that the file gives other names, in sentences: then the release is numbered in another way.

    The file may be missing, as in the release of 2016; its text may be of ISO 8859-1.
    """
    try:
        payload = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as exc:
        return (f"{path} cannot be read ({exc.strerror or exc})",)
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        text = payload.decode("iso-8859-1")
    try:
        objects = parse_json(text)["annotation"]["object"]
        named = {one["name_ndx"]: str(one["name"]) for one in objects if isinstance(one, Mapping)}
    except (ValueError, KeyError, TypeError) as exc:
        return (f"{path} is not a description of the full release ({type(exc).__name__}: {exc}): expected annotation.object",)
    return tuple(
        f"{path}: the number {number} is {name!r}, the benchmark's {_NAME_OF[number]!r} was expected"
        for number, name in named.items()
        if number in _NAME_OF and name.split(",")[0].strip().lower() != _NAME_OF[number]
    )
