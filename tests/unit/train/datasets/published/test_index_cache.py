"""Tables that are made once: kept between processes, made again when files change, or when what is kept is damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mtl.datasets.published import index_cache
from mtl.datasets.published.index_cache import Advance, Names, Table, cached_table, index_folder, shown_name


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Asks for a table of a file as a new process would; how often it was made so far."""
    path = tmp_path / "a.json"
    path.write_text("one")
    made: list[int] = []

    def make(advance: Advance) -> Table:
        made.append(1)
        advance(1, 1)
        return Table({"values": np.arange(3)}, {"text": path.read_text(), "name": "caf\udce9"})

    def asked() -> int:
        monkeypatch.setattr(index_cache, "_KEPT", {})
        table = cached_table("toy", path, lambda: [path], make)
        assert table.arrays["values"].tolist() == [0, 1, 2]
        assert table.meta == {"text": path.read_text(), "name": "caf\udce9"}
        return len(made)

    return asked


def test_a_table_is_made_once_and_again_when_its_file_changes(ask: Callable[[], int], tmp_path: Path) -> None:
    assert [ask(), ask(), ask()] == [1, 1, 1]
    (tmp_path / "a.json").write_text("two!")
    assert [ask(), ask()] == [2, 2]
    os.utime(tmp_path / "a.json", ns=(1, 1))
    assert [ask(), ask()] == [3, 3]


def test_a_damaged_file_is_made_again(ask: Callable[[], int]) -> None:
    ask()
    (kept,) = index_folder().glob("toy-*.npz")
    kept.write_bytes(kept.read_bytes()[:-40])
    assert [ask(), ask()] == [2, 2]


def test_where_nothing_can_be_kept_it_is_said_and_the_table_is_made(
    ask: Callable[[], int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [ask(), ask()] == [1, 2]
    assert "XDG_CACHE_HOME" in capsys.readouterr().err


def test_names_of_any_bytes_are_packed_and_unpacked() -> None:
    names = ["a/b.jpg", "", os.fsdecode(b"caf\xe9.jpg"), "\u00e9.jpg"]
    packed = Names.of(Table(Names.packed(names, "x"), {}), "x")
    assert [packed[index] for index in range(len(packed))] == names
    with pytest.raises(IndexError):
        packed[len(names)]
    assert len(Names.of(Table(Names.packed([], "x"), {}), "x")) == 0
    assert shown_name(names[2]) == "caf\\xe9.jpg"
