"""Exports over a bundle of which a killed process left something."""

from __future__ import annotations

from pathlib import Path

import mtl.bundling
import pytest
from mtl.bundling import export_bundle
from mtl.checkpoint import CheckpointError

from edge_mtl.bundle import Bundle
from edge_mtl.engine_store.revision import changing, commit, history
from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.tiny_training import quiet

pytestmark = pytest.mark.training


def test_an_export_over_a_bundle_keeps_the_revision_that_a_killed_calibration_was_about_to_keep(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with changing(own_bundle.path) as current:
        commit(current, lambda folder: None)
    (kept,) = history(own_bundle.path).values()
    kept.rename(own_bundle.path.with_name(f"{TEMPORARY_PREFIX}{own_bundle.path.name}.dead"))
    assert history(own_bundle.path) == {}

    def refuse(path: Path, **_: object) -> None:
        raise CheckpointError("no such checkpoint")

    monkeypatch.setattr(mtl.bundling, "load_trained", refuse)
    with pytest.raises(CheckpointError):
        export_bundle(Path("none"), own_bundle.path, console=quiet(), command="a test", replace=True)
    assert list(history(own_bundle.path)) == [1]
