"""Boxes in space: an analytic scene, unknown depth, and which task's boxes are meant."""

from __future__ import annotations

import numpy as np
import pytest

from edge_mtl.errors import TaskError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.tasks import Boxes, DepthMap, Result, TaskSpec
from edge_mtl.tasks.asked import LazyResults
from edge_mtl.tasks.boxes_3d import boxes_in_space
from edge_mtl.tasks.depth import DepthSpec
from tests.unit.edge_mtl.tasks import box_fixtures as made

CAMERA = Intrinsics(80.0, 60.0, 31.0, 19.5)
SIZE = (40, 64)
SPEC = made.a_spec()
WALL_M = 5.0


def board(left_m: float, top_m: float, right_m: float, bottom_m: float, z_m: float) -> tuple[np.ndarray, list[float]]:
    """The depth of a board that faces the camera, before a wall, and its box."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    x, y = (u - CAMERA.cx) / CAMERA.fx * z_m, (v - CAMERA.cy) / CAMERA.fy * z_m
    inside = (left_m <= x) & (x <= right_m) & (top_m <= y) & (y <= bottom_m)
    (left, right), (top, bottom) = (
        [value / z_m * focal + middle for value in pair]
        for pair, focal, middle in (((left_m, right_m), CAMERA.fx, CAMERA.cx), ((top_m, bottom_m), CAMERA.fy, CAMERA.cy))
    )
    return np.where(inside, z_m, WALL_M).astype(np.float32), [left, top, right, bottom]


def prediction(results: dict[str, Result], **changes: object) -> Prediction:
    return Prediction(results, Timing(), CAMERA, False, SIZE, **changes)  # type: ignore[arg-type]


def depth_map(depth_m: np.ndarray) -> DepthMap:
    return DepthMap(DepthSpec("depth", "depth"), depth_m)


def test_a_board_before_a_wall_is_where_it_is() -> None:
    depth_m, box = board(-0.4, -0.3, 0.2, 0.5, 2.0)
    depth_m[15:17] = np.nan  # a stripe that nobody knows
    found = prediction({"objects": made.boxes(SPEC, box, [0.9], [1]), "depth": depth_map(depth_m)}).boxes_3d()
    assert found.centres.tolist() == [pytest.approx([-0.1, 0.1, 2.0], abs=1e-5)]
    assert found.sizes.tolist() == [pytest.approx([0.6, 0.8], abs=1e-5)]
    assert (found.centres.dtype, found.sizes.dtype) == (np.float32, np.float32)
    assert (len(found), found.boxes.names) == (1, ("class 1",))


def test_the_median_ignores_what_is_behind_as_long_as_it_fills_less_than_half() -> None:
    depth_m, (left, top, right, bottom) = board(-0.2, -0.3, 0.1, 0.5, 2.0)
    wider = made.boxes(SPEC, [left, top, right + 0.5 * (right - left), bottom], [0.9], [1])
    assert boxes_in_space(wider, depth_m, CAMERA).centres[0, 2] == 2.0
    widest = made.boxes(SPEC, [left, top, right + 2.0 * (right - left), bottom], [0.9], [1])
    assert boxes_in_space(widest, depth_m, CAMERA).centres[0, 2] == WALL_M


def test_unknown_depth_is_nan_and_a_box_between_pixels_takes_the_nearest() -> None:
    depth_m = np.full(SIZE, np.nan, np.float32)
    depth_m[10, 20] = 3.0
    cases = [[0, 0, 9, 9], [20.1, 9.8, 20.3, 10.2], [20.1, 10.1, 20.3, 10.3], [-0.5, -0.5, 63.5, 39.5]]
    found = boxes_in_space(made.boxes(SPEC, cases, [0.9] * 4, [0] * 4), depth_m, CAMERA)
    assert np.isnan(found.centres[0]).all()
    assert np.isnan(found.sizes[0]).all()
    assert found.centres[1:, 2].tolist() == [3.0, 3.0, 3.0]
    edge = made.boxes(SPEC, [[63.2, 39.1, 63.5, 39.5], [-0.5, -0.5, -0.4, -0.4]], [0.9] * 2, [0] * 2)
    assert boxes_in_space(edge, np.ones(SIZE, np.float32), CAMERA).centres[:, 2].tolist() == [1.0, 1.0]
    nothing = boxes_in_space(made.boxes(SPEC, [], [], []), depth_m, CAMERA)
    assert (nothing.centres.shape, nothing.sizes.shape) == ((0, 3), (0, 2))


def test_the_boxes_of_a_prediction_are_those_of_its_only_such_task() -> None:
    objects, depth = made.boxes(SPEC, [1, 2, 3, 4], [0.9], [0]), depth_map(np.ones(SIZE, np.float32))
    assert prediction({"depth": depth, "objects": objects}).boxes is objects
    assert prediction({"depth": depth}).boxes is None
    with pytest.raises(TaskError, match="Boxes in space need boxes, which this bundle does not predict"):
        prediction({"depth": depth}).boxes_3d()
    with pytest.raises(TaskError, match="Boxes in space need depth, which is not among objects"):
        prediction({"objects": objects}, not_asked=("depth",)).boxes_3d()
    signs = made.boxes(made.a_spec(name="signs"), [], [], [])
    with pytest.raises(TaskError, match=r"several tasks of boxes: objects, signs.*prediction\['objects'\]"):
        _ = prediction({"objects": objects, "signs": signs}).boxes


def test_of_lazy_results_only_the_boxes_are_finished() -> None:
    specs: dict[str, TaskSpec] = {"objects": SPEC, "depth": DepthSpec("depth", "depth")}
    objects: Boxes = made.boxes(SPEC, [1, 2, 3, 4], [0.9], [0])
    finishers = {"objects": lambda: (objects, 0), "depth": lambda: (depth_map(np.ones(SIZE, np.float32)), 0)}
    lazy = LazyResults(specs, finishers, SIZE)
    assert prediction(lazy).boxes is objects  # type: ignore[arg-type]
    assert lazy.finished == ("objects",)
