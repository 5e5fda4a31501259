"""What the demo predicts on, and how it is drawn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.evaluation.labelled_frames import LabelledFrame
from edge_mtl.image.demo_figure import draw
from edge_mtl.sources import samples
from edge_mtl.tasks import KINDS, NYU_TASKS
from tests.bundles import make_bundle, make_image


def test_rooms_are_labelled_frames_in_order(tiny_bundle: Bundle) -> None:
    chosen = samples.labelled_samples(tiny_bundle, 2)
    assert len(chosen) == 2
    assert chosen[0].title < chosen[1].title
    for room in chosen:
        assert room.pixels.shape == (64, 96, 3)
        assert set(room.truths) == {"segmentation", "depth", "normals"}
        assert room.intrinsics is not None


def test_the_bars_of_a_letterbox_are_cut_off_and_the_camera_moves_along(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_image(1)
    frame = np.maximum(frame, 40)
    frame[:8] = frame[-10:] = 3
    item = LabelledFrame(frame, (88.0, 88.0, 47.5, 31.5), {"segmentation": np.arange(64 * 96).reshape(64, 96).astype(np.uint8)})
    monkeypatch.setattr(samples, "evaluation_frames", lambda bundle: iter([item]))
    (room,) = samples.labelled_samples(tiny_bundle, 3)
    np.testing.assert_array_equal(room.pixels, frame[8:-10])
    np.testing.assert_array_equal(room.truths["segmentation"], item.targets["segmentation"][8:-10])
    assert room.intrinsics == (88.0, 88.0, 47.5, 23.5)


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed")
def test_the_photograph_comes_with_its_camera_and_its_depth() -> None:
    photograph = samples.photograph(NYU_TASKS)
    assert photograph is not None
    assert photograph.pixels.shape == (500, 741, 3)
    assert list(photograph.truths) == ["depth"]
    assert 1.5 < float(np.nanmedian(photograph.truths["depth"])) < 4.0


def test_a_garage_is_not_shown_to_a_network_for_streets() -> None:
    streets = {"depth": KINDS["depth"].spec("depth", {"range_m": [0.5, 80.0]})}
    assert samples.suits_photograph(NYU_TASKS)
    assert not samples.suits_photograph(streets)
    assert samples.photograph(streets) is None


def test_without_the_photograph_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert samples.photograph(NYU_TASKS) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    assert samples.photograph(NYU_TASKS) is None


@pytest.mark.parametrize("tasks", [("segmentation",), ("depth",), ("normals",), ("segmentation", "depth", "normals")])
def test_any_tasks_can_be_drawn(tasks: tuple[str, ...], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny", tasks=tasks)
    with Engine(bundle, threads=1) as engine:
        chosen = [
            (room, engine.predict(room.pixels, intrinsics=room.intrinsics)) for room in samples.labelled_samples(bundle, 2)
        ]
    drawn = draw(chosen, title="title", subtitle="subtitle", footnotes=["note"])
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] > 300
