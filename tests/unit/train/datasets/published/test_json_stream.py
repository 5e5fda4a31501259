"""JSON item by item: the same as reading it whole, wherever the pieces that are read end; and what is no JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mtl.datasets.published import json_stream
from mtl.datasets.published.json_stream import top_level_items

from edge_mtl.errors import BuildError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def collected(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in top_level_items(path):
        found.setdefault(key, []).append(item)
    return found


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), st.integers(1, 7), st.sampled_from([None, 2]))
@example({"a": 0.0, "b": -1e-300}, 1, None)
def test_items_are_those_of_the_whole_file(content: dict[str, Any], chunk: int, indent: int | None) -> None:
    expected = {key: value if isinstance(value, list) else [value] for key, value in content.items() if value != []}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8", errors="surrogatepass")
        assert collected(path) == expected


def test_an_outermost_array_has_a_key_where_it_may_be_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, expected in (("[1, [2]]", [("b", 1), ("b", [2])]), ("[]", []), ('{"a": [3]}', [("a", 3)])):
        path.write_text(text)
        assert list(top_level_items(path, array="b")) == expected
    path.write_text("3")
    with pytest.raises(BuildError, match=r"a\.json: expected an array of b, or an object"):
        list(top_level_items(path, array="b"))
    path.write_text("[1, 2")
    with pytest.raises(BuildError, match="cut short"):
        list(top_level_items(path, array="b"))


def test_progress_is_in_bytes_and_a_mark_of_byte_order_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": [1, 2]}')
    seen: list[int] = []
    assert list(top_level_items(path, on_bytes=seen.append)) == [("a", 1), ("a", 2)]
    assert seen[-1] == path.stat().st_size


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"a": [1, 2', "not JSON, or was cut short"),
        (b'{"a": [{"b": "c', "not JSON, or was cut short"),
        (b'{"a" 1}', "not JSON"),
        (b"{1: 2}", "not JSON"),
        (b"", "expected an object"),
        (b"[1, 2]", "expected an object"),
        (b'{"a": ["\xff"]}', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_json_is_named(payload: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(payload)
    with pytest.raises(BuildError, match=words) as caught:
        list(top_level_items(path))
    assert str(path) in str(caught.value)
    with pytest.raises(BuildError, match="cannot be read"):
        list(top_level_items(tmp_path / "none.json"))
