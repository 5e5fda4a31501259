"""Training of tasks of lines: their column is the F-measure, and a data set says the tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from mtl.datasets.folder.description import read_description
from mtl.pseudo_labels.dataset_file import _task_table
from mtl.settings import LossSettings
from mtl.tasks import head_of
from mtl.tasks.columns import columns_for, every_metric, one_metric, score
from mtl.tasks.head import LossTerms
from mtl.tasks.labels import LabelsHead

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, LabelsSpec, read_tasks

pytestmark = pytest.mark.training

LANE: dict[str, Any] = {"kind": "labels", "classes": ["background", "line"], "ignore_in_mean": ["background"]}


def labels(**options: Any) -> LabelsSpec:
    return cast(LabelsSpec, read_tasks({"lane": {**LANE, **options}})["lane"])


class TestColumns:
    def test_the_f_measure_stands_for_a_task_of_lines_alone(self) -> None:
        specs = {"drivable": read_tasks({"drivable": LANE})["drivable"], "lane": labels(tolerance_px=2)}
        assert one_metric(specs) == {"drivable": ("drivable.miou",), "lane": ("lane.line_f",)}
        assert every_metric(specs)["lane"] == ("lane.line_f", "lane.miou", "lane.pixel_accuracy")
        assert head_of(specs["lane"]).columns_of(specs["lane"])[0].words == "F-measure of lines"
        assert every_metric(NYU_TASKS)["segmentation"] == ("miou", "pixel_accuracy")

    def test_it_counts_in_place_of_mean_iou_when_weights_are_chosen(self) -> None:
        metrics = {"drivable.miou": 0.5, "lane.miou": 0.2, "lane.line_f": 0.7, "lane.pixel_accuracy": 0.9, "depth_rel": 0.1}
        assert score(metrics) == pytest.approx(0.5 + 0.7 - 0.1)
        assert score({**metrics, "lane.line_f": float("nan")}) == pytest.approx(0.5 + 0.2 - 0.1)
        assert score({"miou": 0.2, "line_f": 0.7}) == pytest.approx(0.7)
        assert score({"miou": 0.2, "pixel_accuracy": 0.9}) == pytest.approx(0.2)

    def test_tables_have_it_where_it_was_measured(self) -> None:
        headings = [column.heading for column in columns_for(["lane.miou", "lane.line_f", "drivable.miou"])]
        assert headings == ["lane mIoU", "drivable mIoU", "lane line F"]
        assert [column.heading for column in columns_for(["miou"])] == ["mIoU"]


class TestDataSets:
    def test_one_of_two_may_say_the_tolerance(self) -> None:
        head, with_it, without = LabelsHead(), labels(tolerance_px=2), labels()
        assert head.joined(with_it, without) == head.joined(without, with_it) == with_it
        assert head.joined(with_it, labels(tolerance_px=3)) is None
        assert head.joined(without, without) == without
        red = labels(colours=[[0, 0, 0], [255, 0, 0]])
        assert head.joined(with_it, red) == head.joined(red, with_it)

    def test_a_folder_says_it_and_pseudo_labels_pass_it_on(self, tmp_path: Path) -> None:
        text = 'licence = "own"\nredistributable = true\n[splits]\nval = 0.5\n[tasks.lane]\nkind = "labels"\nfolder = "lane"\n'
        text += 'classes = ["background", "line"]\ntolerance_px = '
        (tmp_path / "dataset.toml").write_text(f"{text}3\n")
        spec = read_description(tmp_path).tasks["lane"]
        assert cast(LabelsSpec, spec).tolerance_px == 3
        assert _task_table(spec, {"lane": spec})["tolerance_px"] == 3
        assert "tolerance_px" not in _task_table(labels(), {"lane": labels()})
        (tmp_path / "dataset.toml").write_text(f"{text}30\n")
        with pytest.raises(BuildError, match="tolerance_px of lane should be a whole number of pixels from 1 to 20; found 30"):
            read_description(tmp_path)


def test_losses_of_lines_are_those_of_labels() -> None:
    """The tolerance is one of measuring."""
    logits = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 2, (1, 6, 8), generator=torch.Generator().manual_seed(1))
    terms = LossTerms(LossSettings(), stride=1)
    with_it, without = (LabelsHead().loss(spec, logits, target, terms) for spec in (labels(tolerance_px=2), labels()))
    assert torch.equal(with_it, without)
