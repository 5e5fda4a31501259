"""Training of depth that reaches farther than rooms: first answers, reach, paintings, files; rooms stay as they were."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mtl.pseudo_labels.dataset_file import _task_table
from mtl.tasks.depth import DEPTH_RANGE_M, DepthHead
from mtl.tasks.head import HeadOptions
from torch import nn

from edge_mtl.tasks.depth import DepthSpec

pytestmark = pytest.mark.training


def depth(farthest_m: float) -> DepthSpec:
    return DepthSpec("depth", "depth", (0.5, farthest_m))


class TestDepth:
    def bias(self, spec: DepthSpec, output: Any) -> float:
        layer = nn.Conv2d(4, 1, 1)
        with torch.no_grad():
            DepthHead().start(spec, layer, HeadOptions(output))
        assert layer.bias is not None
        return float(layer.bias.detach())

    @pytest.mark.parametrize(("farthest_m", "start_m"), [(5.0, 2.5), (10.0, 2.5), (20.0, 5.0), (80.0, 20.0)])
    def test_the_first_answer_follows_the_range(self, farthest_m: float, start_m: float) -> None:
        assert self.bias(depth(farthest_m), "linear") == start_m
        assert self.bias(depth(farthest_m), "log") == float(np.float32(math.log(start_m)))

    def test_answers_reach_beyond_the_range_and_those_of_rooms_as_far_as_ever(self) -> None:
        raw = torch.tensor([100.0, -100.0]).reshape(2, 1, 1, 1)
        for farthest_m, reach_m in ((10.0, DEPTH_RANGE_M[1]), (40.0, 80.0), (80.0, 160.0)):
            for output in ("log", "linear"):
                scaled = raw if output == "log" else raw * 10
                found = DepthHead().answer(depth(farthest_m), scaled, HeadOptions(output), clamp=True)  # type: ignore[arg-type]
                assert found.flatten().tolist() == pytest.approx([reach_m, DEPTH_RANGE_M[0]], rel=1e-5)

    def test_paintings_of_rooms_are_as_ever_and_of_streets_tell_distances_apart(self) -> None:
        head, image = DepthHead(), np.zeros((1, 6, 3), np.uint8)
        truth = np.array([[0.0, 2.0, 4.0, 8.0, 16.0, 64.0]], np.float32)
        rooms = head.paint(depth(10.0), image, truth)
        assert (rooms[0, 3:] == rooms[0, 3]).all(), "blue from 8 m on"
        street = head.paint(depth(80.0), image, truth)
        assert street[0, 0].tolist() == [0, 0, 0]
        assert np.abs(np.diff(street[0, 1:].astype(int), axis=0)).sum(axis=1).min() > 60

    def test_pseudo_labels_of_streets_are_stored_in_a_unit_that_reaches_them(self) -> None:
        tables = [_task_table(spec, {"depth": spec}) for spec in (depth(10.0), depth(80.0))]
        assert [table["scale_m"] for table in tables] == [0.001, 0.002]
