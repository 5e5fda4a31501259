"""Images of predictions in a report: frames of the data set, or rooms where these may not be passed on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from mtl.datasets.rooms.source import RenderedRooms
from mtl.datasets.sources import data_sets, held_out_frames, register
from mtl.run import Run
from mtl.settings import RunSettings
from mtl.study.document import Figure
from mtl.study.predictions import prediction_figure

from edge_mtl.tasks import Specs
from tests.synthetic_data import SIZE, Rectangles, rectangle_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

CELL = (128, 192)


@pytest.fixture(scope="module", params=["free", "kept"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    """Of a finished run on rectangles that may be passed on, or not."""
    name = f"rectangles-{request.param}"
    if name not in data_sets():
        register(Rectangles(name, ("things", "depth"), free=request.param == "free"))
    wanted = {"data.kind": f"'{name}'", "model.backbone": "'test_convnext'", "loop.test_at_end": "true"}
    made = rectangle_settings(tmp_path_factory.mktemp(name), ("things", "depth"), **wanted)
    Run(made, console=quiet()).train()
    return made


def results_of(settings: RunSettings, specs: Specs) -> Any:
    """As much of a study's results as images need: one row with one finished run."""
    run = SimpleNamespace(settings=settings, folder=Path(settings.folder) / settings.name)
    row = SimpleNamespace(row=SimpleNamespace(name="both"), finished=[SimpleNamespace(run=run)], tasks=tuple(specs))
    study = SimpleNamespace(single={"things": "things"}, images=SimpleNamespace(rows=["both"], frames=(0, 1)))
    return SimpleNamespace(study=study, singles={}, tasks=specs, get={"both": row}.get)


def figure(settings: RunSettings) -> Figure:
    specs = held_out_frames(settings.data, "val").open().tasks
    found = prediction_figure(results_of(settings, specs))
    assert found is not None
    return found


def cells(found: Figure) -> np.ndarray:
    """(lines, columns, H, W, 3) uint8 RGB."""
    assert isinstance(found.content, bytes)
    sheet = cv2.imdecode(np.frombuffer(found.content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    high, wide = CELL[0] + 4, CELL[1] + 4
    parts = sheet.reshape(sheet.shape[0] // high, high, sheet.shape[1] // wide, wide, 3)
    return parts.transpose(0, 2, 1, 3, 4)[:, :, : CELL[0], : CELL[1]]


def difference(cell: np.ndarray, image: np.ndarray) -> float:
    shown = cv2.resize(image, CELL[::-1], interpolation=cv2.INTER_NEAREST)
    return float(np.abs(cell.astype(int) - shown.astype(int)).mean())


def test_a_report_shows_frames_that_may_be_passed_on_and_rooms_in_place_of_others(settings: RunSettings) -> None:
    found = figure(settings)
    own, rooms = held_out_frames(settings.data, "val").open(), RenderedRooms(2, SIZE)
    free = settings.data.kind == "rectangles-free"
    assert found.columns == ("image", "truth", "both")
    for number, line in ((0, 0), (1, 2)):
        first = cells(found)[line, 0]
        shown, other = (own, rooms) if free else (rooms, own)
        assert difference(first, shown[number].image) < 12
        assert min(difference(first, other[at].image) for at in range(2)) > 20
    assert found.caption.startswith("Validation frames 0, 1" if free else "Rendered rooms: things, depth")
    assert ("may not be passed on (coloured rectangles, licence: drawn by a test)" in found.caption) != free


def test_rooms_have_truth_of_the_tasks_that_are_theirs_only(settings: RunSettings) -> None:
    if settings.data.kind == "rectangles-free":
        pytest.skip("shows its own frames")
    things, depth = cells(figure(settings))[:2, 1]
    assert things.max() < 30, "classes of its own: nothing is true of a room"
    assert depth.max() > 100
