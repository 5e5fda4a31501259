"""The grid of the drivable area against streets whose ground is known by formula: equal where seen, never free where not."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import VOID, LabelMap, LabelsSpec
from edge_mtl.tasks.drivable_grid import BLOCKED, UNKNOWN, CameraPose, CostGrid, GridOptions, drivable_grid
from edge_mtl.tasks.floor import FloorPlane
from tests.streets import DEPTH, DRIVABLE, OBJECTS, SIZE, TrueStreet, true_street

STREETS = [120, 124, 122, 107]
OPTIONS = GridOptions(range_m=30.0)
SPEC = LabelsSpec("drivable", "labels", ("direct", "alternative", "background"))
CAMERA = Intrinsics(260.0, 260.0, 159.5, 95.5)
MOUNT = FloorPlane.of_mount(height_m=1.4, pitch_deg=2.0)


def pose_of(street: TrueStreet) -> CameraPose:
    """In the frame of the street."""
    return CameraPose.of(street.view.pose.axes.astype(np.float64), street.view.pose.position_m)


def grid_of(street: TrueStreet, pose: CameraPose, *, labels: np.ndarray | None = None) -> CostGrid:
    results = street.results()
    drivable = cast(LabelMap, results[DRIVABLE])
    if labels is not None:
        drivable = LabelMap(drivable.spec, labels)
    depth, boxes = results[DEPTH].depth_m, results[OBJECTS].xyxy  # type: ignore[attr-defined]
    return drivable_grid(drivable, street.camera, pose, depth_m=depth, boxes=boxes, options=OPTIONS)


def middles(grid: CostGrid) -> np.ndarray:
    """(Y, X, 2) metres."""
    y, x = np.mgrid[: grid.costs.shape[0], : grid.costs.shape[1]] + 0.5
    return np.stack([x, y], -1) * grid.resolution_m + grid.origin_m


def true_costs(street: TrueStreet, places: np.ndarray) -> np.ndarray:
    """By the formula of the road."""
    road = street.view.street.road
    return np.array([0, 50, 100])[road.drivable(*road.locate(places[..., 0], places[..., 1]))]


def visible(street: TrueStreet, places: np.ndarray, *, within: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Whether places of the ground are in the image, and whether the camera sees them: what it sees there is no nearer."""
    view, (height, width) = street.view, SIZE
    offsets = np.concatenate([places, np.zeros((*places.shape[:2], 1))], -1) - view.pose.position_m
    x, y, z = np.moveaxis(offsets @ view.pose.axes, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.rint(x / z * view.lens.fx + view.lens.cx), np.rint(y / z * view.lens.fy + view.lens.cy)
    inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height) & (np.hypot(*np.moveaxis(offsets, -1, 0)[:2]) < 30)
    depth = street.sample.depth_m[np.where(inside, v, 0).astype(int), np.where(inside, u, 0).astype(int)]
    return inside, inside & (np.abs(depth / np.where(inside, z, 1) - 1) < within)


def agreement(street: TrueStreet, grid: CostGrid, places: np.ndarray) -> float:
    """Share of the cells that are known and truly seen whose cost is that of the road."""
    compared = visible(street, places)[1] & (grid.costs != UNKNOWN)
    assert compared.sum() > 3000
    return float((grid.costs == true_costs(street, places))[compared].mean())


@pytest.mark.parametrize("seed", STREETS)
def test_cells_that_are_seen_have_the_costs_of_the_road(seed: int) -> None:
    street = true_street(seed)
    grid = grid_of(street, pose_of(street))
    places = middles(grid)
    assert agreement(street, grid, places) > 0.97
    seen = visible(street, places)[1]
    assert (grid.costs != UNKNOWN)[seen].mean() > 0.75, "the rest is within boxes"
    assert {0, BLOCKED, UNKNOWN} <= set(np.unique(grid.costs).tolist())


@pytest.mark.parametrize("seed", STREETS)
def test_a_wrong_mount_is_noticed(seed: int) -> None:
    """Positive control of the comparison: a camera that hangs half a metre beside, looks 8 degrees aside, or is mirrored."""
    street = true_street(seed)
    right = pose_of(street)
    turn = np.radians(8)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    turned = CameraPose.of(rotation @ street.view.pose.axes, street.view.pose.position_m)
    beside = CameraPose(right.axes, (right.position_m[0], right.position_m[1] + 0.5, right.position_m[2]))
    grids = [grid_of(street, turned), grid_of(street, beside)]
    grids.append(grid_of(street, right, labels=np.ascontiguousarray(street.sample.drivable[:, ::-1])))
    assert max(agreement(street, grid, middles(grid)) for grid in grids) < 0.95


@pytest.mark.parametrize("seed", STREETS)
def test_what_is_hidden_is_never_free(seed: int) -> None:
    """Not even where all of the image is called the own lane, if it is hidden by what is higher than the tolerance."""
    street, everything = true_street(seed), np.zeros(SIZE, np.uint8)
    right, wrong = grid_of(street, pose_of(street)), grid_of(street, pose_of(street), labels=everything)
    inside, seen = visible(street, middles(right))
    hidden, behind = inside & ~seen, inside & ~visible(street, middles(right), within=0.21)[1]
    assert min(hidden.sum(), behind.sum()) > 1000
    for grid, where in ((right, hidden), (wrong, behind)):
        free = (grid.costs != UNKNOWN) & (grid.costs != BLOCKED)
        assert not free[where | ~inside].any()
        assert free[seen].any()
    blind = drivable_grid(LabelMap(SPEC, everything), street.camera, pose_of(street), options=OPTIONS)
    assert (blind.costs == 0)[behind].all(), "positive control: without depth and boxes it is"


def test_in_its_own_frame_the_camera_is_at_the_origin_and_looks_along_x() -> None:
    street = true_street(124)
    up = street.view.pose.axes[2].astype(np.float64)
    x, y, z = (float(value) for value in up)
    pose = CameraPose.over(FloorPlane((x, y, z), float(street.view.pose.position_m[2])))
    assert pose.position_m[:2] == (0.0, 0.0)
    assert pose.floor.height_m == pytest.approx(street.view.pose.position_m[2])
    grid = grid_of(street, pose)
    assert grid.origin_m[0] == 0.0
    ahead = street.view.pose.axes[:2, 2] / np.linalg.norm(street.view.pose.axes[:2, 2])
    turn = np.array([[ahead[0], -ahead[1]], [ahead[1], ahead[0]]])
    places = middles(grid) @ turn.T + street.view.pose.position_m[:2]
    assert agreement(street, grid, places) > 0.97


def plain(labels: np.ndarray, pose: CameraPose | None = None, **options: Any) -> CostGrid:
    """Without depth and boxes."""
    return drivable_grid(LabelMap(SPEC, labels), CAMERA, pose or CameraPose.over(MOUNT), options=GridOptions(**options))


def test_range_and_resolution_are_those_asked_for() -> None:
    free = np.zeros(SIZE, np.uint8)
    fine, coarse = plain(free, resolution_m=0.1), plain(free, resolution_m=0.5)
    for grid in (fine, coarse):
        away = np.linalg.norm(middles(grid), axis=-1)
        assert (grid.costs[away > 20.0] == UNKNOWN).all()
        assert away[grid.costs == 0].max() == pytest.approx(20.0, abs=0.5)
        nearest = 1.4 / np.tan(np.radians(2) + np.arctan(96 / 260))
        assert away[grid.costs == 0].min() == pytest.approx(nearest, abs=0.5)
    assert (fine.costs == 0).sum() / 25 == pytest.approx((coarse.costs == 0).sum(), rel=0.05)
    assert plain(free, range_m=40.0).costs.shape[1] == 400


def test_a_camera_that_shakes_does_not_change_the_size_of_its_grid() -> None:
    free = np.zeros(SIZE, np.uint8)
    shapes = set()
    for pitch in (1.9, 2.0, 2.1):
        grid = plain(free, CameraPose.over(FloorPlane.of_mount(height_m=1.4, pitch_deg=pitch)))
        shapes.add((grid.costs.shape, grid.origin_m))
    assert len(shapes) == 1


def test_a_camera_that_looks_back_sees_what_is_behind() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, :160] = 2
    ahead = CameraPose.over(MOUNT)
    axes = np.array(ahead.axes)
    back = CameraPose.of(np.diag([-1.0, -1.0, 1.0]) @ axes, np.array([-0.5, 0.0, 1.4]))
    first, second = plain(labels, ahead), plain(labels, back)
    assert middles(second)[second.costs != UNKNOWN][:, 0].max() < -2.0
    for cost in (0, BLOCKED):
        turned = -middles(second)[second.costs == cost] - [0.5, 0.0]
        assert np.allclose(turned.mean(axis=0), middles(first)[first.costs == cost].mean(axis=0), atol=0.1)
    left = middles(first)[first.costs == BLOCKED][:, 1]
    assert left.min() > -0.1, "the left half of the image is to the left"


def test_ground_below_a_frame_is_where_it_is_said_to_be() -> None:
    labels = np.zeros(SIZE, np.uint8)
    raised = CameraPose(CameraPose.over(MOUNT).axes, (0.0, 0.0, 1.2), ground_m=-0.2)
    assert np.array_equal(plain(labels, raised).costs, plain(labels).costs)
    assert set(plain(labels, raised).points()[:, 2].tolist()) == {np.float32(-0.2)}
    below = CameraPose(CameraPose.over(MOUNT).axes, (0.0, 0.0, -0.1))
    assert (plain(labels, below).costs == UNKNOWN).all()


def test_costs_are_those_of_the_classes_by_name() -> None:
    labels = np.repeat(np.arange(4, dtype=np.uint8), 80)[None, :].repeat(192, 0)
    labels[labels == 3] = VOID
    chosen = plain(labels, costs={"Direct": 7})
    assert set(np.unique(chosen.costs).tolist()) == {7, BLOCKED, UNKNOWN}
    assert set(np.unique(plain(labels).costs).tolist()) == {0, 50, BLOCKED, UNKNOWN}
    right = middles(chosen)[..., 1] < -0.35 * middles(chosen)[..., 0]
    assert (chosen.costs[right] == UNKNOWN).all(), "void"


def test_unknown_depth_is_unknown_ground_and_a_dip_of_the_depth_is_something_that_stands_there() -> None:
    labels = LabelMap(SPEC, np.zeros(SIZE, np.uint8))
    pose, options = CameraPose.over(MOUNT), GridOptions()
    nothing = np.full(SIZE, np.nan, np.float32)
    assert (drivable_grid(labels, CAMERA, pose, depth_m=nothing, options=options).costs == UNKNOWN).all()
    assert (drivable_grid(labels, CAMERA, pose, depth_m=nothing + np.inf, options=options).costs == UNKNOWN).all()
    far = np.full(SIZE, 100.0, np.float32)
    assert (drivable_grid(labels, CAMERA, pose, depth_m=far, options=options).costs == 0).sum() > 5000
    far[:, 150:170] = 5.0
    seen = drivable_grid(labels, CAMERA, pose, depth_m=far, options=options)
    behind = middles(seen)[seen.costs == 0]
    assert not ((np.abs(behind[:, 1]) < 0.01 * behind[:, 0]) & (behind[:, 0] > 6.5)).any()


def test_a_box_blocks_at_its_foot_and_hides_what_is_behind() -> None:
    labels, pose = LabelMap(SPEC, np.zeros(SIZE, np.uint8)), CameraPose.over(MOUNT)
    foot = 10.0
    row = CAMERA.cy + CAMERA.fy * np.tan(np.arctan(1.4 / foot) - np.radians(2))
    box = np.array([[139.5, 60.0, 179.5, row]])
    grid = drivable_grid(labels, CAMERA, pose, boxes=box, options=GridOptions())
    ahead = grid.costs[np.abs(middles(grid)[:, 0, 1]).argmin()]
    x = middles(grid)[0, :, 0]
    assert (ahead[(x > 4) & (x < 9.8)] == 0).all()
    assert (ahead[(x > 10.1) & (x < 10.4)] == BLOCKED).all()
    assert (ahead[(x > 10.7) & (x < 20)] == UNKNOWN).all()
    cut = drivable_grid(labels, CAMERA, pose, boxes=np.array([[139.5, 60.0, 179.5, 191.5]]), options=GridOptions())
    assert not (cut.costs == BLOCKED).any(), "its foot is below the image"
    above = drivable_grid(labels, CAMERA, pose, boxes=np.array([[0.0, 0.0, 319.0, 60.0]]), options=GridOptions())
    assert np.array_equal(above.costs, plain(labels.labels).costs), "a light above the road hides none of it"


def test_points_are_the_known_cells() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 200:] = 1
    grid = plain(labels, resolution_m=0.5)
    points = grid.points()
    assert len(points) == (grid.costs != UNKNOWN).sum()
    columns, rows = ((points[:, axis] - grid.origin_m[axis]) / 0.5 for axis in (0, 1))
    assert np.array_equal(grid.costs[rows.astype(int), columns.astype(int)], points[:, 3].astype(int))
    assert len(grid.emptied().points()) == 0
    assert grid.emptied().costs.shape == grid.costs.shape
