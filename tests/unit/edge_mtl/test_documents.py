"""Whatever is wrong with JSON or TOML from outside is a ValueError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge_mtl.documents import finite_json, parse_json, parse_toml

DEEP_JSON = {"lists": "[" * 65 + "]" * 65, "objects": '{"a":' * 65 + "1" + "}" * 65, "deeper than the stack": "[" * 200_000}
DEEP_TOML = {"lists": "a = " + "[" * 64 + "]" * 64, "tables": "[" + ".".join(["a"] * 64) + "]\nb = 1"}


def test_what_is_right_is_read() -> None:
    assert (
        parse_json(b'{"a": [1, 2.5, {"b": null}]}')
        == finite_json('{"a": [1, 2.5, {"b": null}]}')
        == {"a": [1, 2.5, {"b": None}]}
    )
    assert parse_toml(b"a = 1\n[b]\nc = [0.5]") == parse_toml("a = 1\n[b]\nc = [0.5]") == {"a": 1, "b": {"c": [0.5]}}
    assert parse_json("[" * 64 + "]" * 64) is not None
    assert parse_toml("a = " + "[" * 63 + "]" * 63)


@pytest.mark.parametrize("parse", [parse_json, finite_json])
@pytest.mark.parametrize("text", DEEP_JSON.values(), ids=DEEP_JSON)
def test_json_is_shallow(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        parse(text)


@pytest.mark.parametrize("text", [*DEEP_TOML.values(), "a = " + "[" * 200_000], ids=[*DEEP_TOML, "deeper than the stack"])
def test_toml_is_shallow(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        parse_toml(text)


@pytest.mark.parametrize("payload", [b"[NaN]", b"[-Infinity]", b"[1e999]"])
def test_json_that_could_not_be_written_again_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="finite"):
        finite_json(payload)
    parse_json(payload)


@pytest.mark.parametrize("payload", [b"\xff", b"", b"[1", b"1" * 5000])
def test_no_json_is_a_value_error(payload: bytes) -> None:
    for parse in (parse_json, finite_json, parse_toml) if payload else (parse_json, finite_json):
        with pytest.raises(ValueError, match=r"."):
            parse(payload)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        finite_json(b'{"a": "\\ud800"}')
