"""Revisions of a bundle where the file system refuses, or where something else lies in the way."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mtl.bundle import ENGINES, MANIFEST, OPTIMIZED_ONNX, Bundle
from edge_mtl.engine_store import revision
from edge_mtl.engine_store.engines import LOCK
from edge_mtl.engine_store.revision import changing, commit, history, repair, rollback
from edge_mtl.errors import BundleError
from edge_mtl.unfinished import TEMPORARY_PREFIX


def next_revision(bundle: Bundle, content: bytes = b"newer") -> Bundle:
    def change(folder: Path) -> None:
        (folder / OPTIMIZED_ONNX).write_bytes(content)

    with changing(bundle.path) as current:
        return commit(current, change)


def test_a_lock_that_cannot_be_taken_says_where_to_copy_the_bundle(quick_bundle: Bundle) -> None:
    quick_bundle.path.with_name(".own.lock").mkdir()
    with pytest.raises(BundleError, match=r"A new revision of .* cannot be written: .*Copy the bundle to"):
        next_revision(quick_bundle)
    assert Bundle.open(quick_bundle.path) == quick_bundle


def test_an_engine_lock_that_cannot_be_taken_is_named_and_the_bundle_stays(quick_bundle: Bundle) -> None:
    (quick_bundle.path / ENGINES / LOCK).mkdir(parents=True)
    with pytest.raises(BundleError, match=r"cannot be locked .*Delete it, then run the command again"):
        next_revision(quick_bundle)
    assert Bundle.open(quick_bundle.path) == quick_bundle
    assert history(quick_bundle.path) == {}


def test_a_rollback_that_the_file_system_refuses_changes_nothing(quick_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = next_revision(quick_bundle)

    def refuse(one: Path, other: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(revision, "exchange", refuse)
    with pytest.raises(BundleError, match=r"cannot be rolled back .*Read-only file system"):
        rollback(newer.path)
    assert Bundle.open(newer.path) == newer
    assert list(history(newer.path)) == [1]


@pytest.mark.parametrize("make", [lambda bundle: next_revision(bundle), lambda bundle: rollback(bundle.path)])
def test_where_the_one_that_gives_way_cannot_be_kept_it_stays(
    make: Callable[[Bundle], Bundle], quick_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders are exchanged by then."""
    newer, real = next_revision(quick_bundle), os.replace

    def refuse(one: Path, other: Path) -> None:
        if Path(other).name == "own.revision-2":
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        real(one, other)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BundleError, match=r"Disk quota exceeded"):
        make(newer)
    assert Bundle.open(newer.path) == newer
    assert list(history(newer.path)) == [1]
    assert Bundle.open(history(newer.path)[1]).manifest.revision == 1
    assert [path.name for path in newer.path.parent.iterdir() if path.name.startswith(TEMPORARY_PREFIX)] == []


def test_only_whole_bundles_with_a_number_of_ours_are_kept_revisions(quick_bundle: Bundle) -> None:
    newer = next_revision(quick_bundle)
    place = newer.path.parent
    shutil.copytree(place / "own.revision-1", place / "own.revision-01")
    (place / "own.revision-7").mkdir()
    shutil.copytree(place / "own.revision-1", place / "own.revision-x")
    assert history(newer.path) == {1: place / "own.revision-1"}


def test_where_nothing_is_whole_nothing_is_repaired(quick_bundle: Bundle) -> None:
    left = quick_bundle.path.with_name(f"{TEMPORARY_PREFIX}own.abc") / "own"
    left.parent.mkdir()
    quick_bundle.path.rename(left)
    (left / OPTIMIZED_ONNX).write_bytes(b"half")
    repair(quick_bundle.path)
    assert not quick_bundle.path.exists()
    assert (left / OPTIMIZED_ONNX).read_bytes() == b"half"


def test_a_leftover_of_a_revision_that_is_kept_already_is_swept(quick_bundle: Bundle) -> None:
    newer = next_revision(quick_bundle)
    kept = newer.path.with_name("own.revision-1")
    again = shutil.copytree(kept, newer.path.with_name("own.revision-5"))
    before = (kept / MANIFEST).stat().st_ino
    repair(newer.path)
    assert (kept / MANIFEST).stat().st_ino == before
    assert again.is_dir(), "a kept revision under another's number is left where its own name is taken"
