"""The report: every domain of every network in it, the same numbers as data, and figures that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import outdoors as outdoors_script
import pytest
from mtl.datasets.frame import Frame
from mtl.datasets.streets import dataset, render_street
from mtl.datasets.streets.tasks import STREET_TASKS
from mtl.evaluation_targets import EvaluationTarget
from mtl.outdoors.definition import load_outdoors
from mtl.outdoors.document import Surroundings, build_document, numbers_of
from mtl.outdoors.domains import CELLS, cell_options
from mtl.outdoors.findings import CLEAN, Drawn, Findings, Focal, Network
from mtl.outdoors.measuring import measure_domain
from mtl.outdoors.tables import rankings, robustness, worst_cell
from mtl.settings import DataSettings
from mtl.study.document import Figure, TextTable
from mtl.study.markdown import to_markdown
from mtl.study.report import write_files

from edge_mtl.tasks import DepthMap, LabelMap, NormalMap, Specs

pytestmark = pytest.mark.training

SIZE = (32, 64)
TASKS: Specs = {name: STREET_TASKS[name] for name in ("drivable", "depth", "normals")}
STUDY = Path(__file__).parents[4] / "train" / "studies" / "outdoors.toml"
HOME = ("clear", "daytime")


class Frames:
    """Two streets of a cell."""

    tasks = TASKS

    def __init__(self, cell: Any) -> None:
        streets = [render_street(seed, *SIZE, options=cell_options(cell)) for seed in range(2)]
        self._every = [
            Frame(one.image, {"drivable": one.drivable, "depth": one.depth_m, "normals": one.normals}, one.intrinsics)
            for one in streets
        ]

    def __len__(self) -> int:
        return len(self._every)

    def __getitem__(self, index: int) -> Frame:
        return self._every[index]


class ByBrightness:
    """Answers that follow the image, so that cells differ."""

    def results(self, image: np.ndarray, intrinsics: Any) -> dict[str, Any]:
        light = image.astype(np.float32).mean(axis=2) / 255
        spec = TASKS["drivable"]
        labels = np.where(light > 0.4, 2, 0).astype(np.uint8)
        normals = np.dstack([light - 0.5, light, light - 1.2])
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        return {
            "drivable": LabelMap(spec, labels, lambda: np.clip(0.4 + light, 0, 1)),
            "depth": DepthMap(TASKS["depth"], 5 + 30 * light),
            "normals": NormalMap(TASKS["normals"], normals),
        }


@pytest.fixture(scope="module")
def found() -> Findings:
    target = EvaluationTarget(Path("none"), "", ByBrightness(), SIZE, TASKS, DataSettings(), step=7, parameters=1000)
    cells = {cell: Drawn.of(measure_domain(target, Frames(cell))) for cell in CELLS}
    clean, dark = cells["clear", "daytime"], cells["rainy", "night"]
    spoilt = {CLEAN: clean, **{(kind, at): dark for kind in ("fog", "jpeg") for at in (1, 2)}}
    shared = Drawn.of(measure_domain(target, Frames(HOME), only=("depth", "normals")))
    network = Network("clear day", "clear day", target)
    return Findings(
        {"clear day": network},
        cells={"clear day": cells},
        corruptions={"clear day": spoilt},
        focal={"clear day": {0.6: Focal(shared, shared), 1.6: Focal(shared, shared)}},
        transfer={"clear day": {"rooms": shared, "streets": shared}},
        trained_focal={"clear day": (1.02, 1.31)},
    )


ABOUT = Surroundings(["python", "train/outdoors.py", "x.toml"], "a machine", "abc", 1, {"clear day": 3.0}, ("all-cells-s0",))


def test_every_domain_is_in_the_report_and_its_numbers_in_the_data(found, tmp_path):
    study = load_outdoors(STUDY)
    document = build_document(study, found, ABOUT)
    paths = write_files(tmp_path, document, numbers=numbers_of(study, found, ABOUT))
    text = paths[0].read_text()
    for words in (
        "foggy, night",
        "rPC",
        "AUROC",
        "median scaled",
        "told",
        "Not finished",
        "all-cells-s0",
        "x.toml",
        "a machine",
    ):
        assert words in text, words
    figures = [one for one in document.blocks if isinstance(one, Figure)]
    assert {one.name for one in figures} == {
        "cells-clear-day.svg", "corruptions-clear-day.svg", "reliability.svg", "focal-clear-day.svg",
    }  # fmt: skip
    assert all((tmp_path / one.name).read_text().count("<svg") == 1 for one in figures)
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert set(numbers["cells"]["clear day"]) == {f"{weather}, {time}" for weather, time in CELLS}
    night = numbers["cells"]["clear day"]["rainy, night"]
    assert night["intervals"]["depth_rel"][0] == pytest.approx(night["measures"]["depth_rel"])
    assert numbers["robustness"]["clear day"].keys() == {"miou", "depth_rel", "normal_mean_deg"}
    assert numbers["trained_focal"] == {"clear day": [1.02, 1.31]}


def test_tables_have_a_cell_under_every_heading(found):
    for block in build_document(load_outdoors(STUDY), found, ABOUT).blocks:
        if isinstance(block, TextTable):
            assert {len(row) for row in block.rows} == {len(block.headings)}, block.caption


def test_nothing_is_said_of_what_was_not_measured(found):
    alone = Findings(found.networks, cells=found.cells)
    text = to_markdown(build_document(load_outdoors(STUDY), alone, ABOUT))
    for words in ("Worse images", "Other lenses", "Rooms and streets"):
        assert words not in text


def test_rpc_of_frames_that_are_not_spoilt_is_one(found):
    clean = found.cells["clear day"]["clear", "daytime"]
    same = robustness({CLEAN: clean, ("fog", 1): clean, ("jpeg", 3): clean})
    for mean, share in same.values():
        assert (share.value, share.low, share.high) == pytest.approx((1, 1, 1))
        assert mean.low <= mean.value <= mean.high


def test_the_worst_cell_and_the_ranking_are_those_of_the_numbers(found):
    cells = found.cells["clear day"]
    errors = {cell: one.measured.measures["depth_rel"] for cell, one in cells.items()}
    assert worst_cell(cells, "depth_rel") == max(errors, key=lambda cell: errors[cell])
    ious = {cell: one.measured.measures["miou"] for cell, one in cells.items()}
    assert worst_cell(cells, "miou") == min(ious, key=lambda cell: ious[cell])
    ranked = rankings(found)["clear day"]
    assert set(ranked) == {"drivable", "depth"}
    assert all(value is None or -1 <= value <= 1 for value in ranked.values())


TINY = """
name = "tiny"
title = "Title"
question = "Question?"
base = "base.toml"
streets = "{root}"
[overrides]
stages = [{{ height = 32, width = 64, steps = 2, batch = 2 }}]
model = {{ backbone = "test_convnext", width = 8, tasks = ["drivable", "depth", "normals"] }}
data = {{ kind = "streets", root = "{root}", height = 32, width = 64, train = 2, validation = 2, test = 2, workers = 1 }}
loop = {{ device = "cpu", threads = 1, loader_workers = 0, precision = "fp32", pictures = 0 }}
[cells]
rows = ["clear day"]
frames = 2
[corruptions]
rows = ["clear day"]
kinds = ["fog", "jpeg"]
severities = [2]
frames = 2
[focal]
rows = ["clear day"]
factors = [0.6]
frames = 2
[[rows]]
name = "clear day"
overrides = {{ data.conditions = ["clear", "daytime"] }}
"""


def test_one_command_trains_measures_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "FRAMES_PER_SHARD", 2)
    (tmp_path / "base.toml").write_text("")
    (tmp_path / "study.toml").write_text(TINY.format(root=tmp_path / "streets"))
    command = [str(tmp_path / "study.toml"), "--out", str(tmp_path / "runs"), "--threads", "1"]
    assert outdoors_script.main([*command, "--report-only"]) != 0
    assert "no row of [cells] is finished" in capsys.readouterr().err
    refused = ((["--jobs", "0"], "--jobs should be 1 or more"), (["--threads", "-1"], "--threads should be 0 or more"))
    for wrong, words in refused:
        assert outdoors_script.main([*command, *wrong]) == 14
        assert words in capsys.readouterr().err
    assert outdoors_script.main(command) == 0
    numbers = json.loads((tmp_path / "runs" / "report" / "results.json").read_text())
    assert numbers["networks"]["clear day"]["step"] == 2
    assert len(numbers["cells"]["clear day"]) == 12
    assert set(numbers["corruptions"]["clear day"]) == {"clean 0", "fog 2", "jpeg 2"}
    clean = numbers["corruptions"]["clear day"]["clean 0"]["measures"]
    assert clean == numbers["cells"]["clear day"]["clear, daytime"]["measures"]
    assert set(numbers["focal"]["clear day"]["0.6"]) == {"told", "assumed"}
    assert (tmp_path / "runs" / "report" / "report.html").is_file()
