"""Post-processing: equal to its plainest definition, for both placements and both output sizes; buffers; void and NaN."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Intrinsics, letterbox
from edge_mtl.image.upsample import upsampled_argmax, upsampled_units
from edge_mtl.tasks import NYU_TASKS, VOID, finishing
from edge_mtl.tasks.areas import camera_change
from edge_mtl.tasks.normals import angles_deg
from tests.bundles import HOST_OUTPUTS, full_maps

NETWORK = (64, 96)


def finish(outputs: dict[str, np.ndarray], box: Any, **options: Any) -> SimpleNamespace:
    """The maps of `edge_mtl.tasks.finishing.finish` for the study's tasks that `outputs` has, in the placement they show."""
    host = any(name in outputs for name in HOST_OUTPUTS.values())
    specs = {name: spec for name, spec in NYU_TASKS.items() if (HOST_OUTPUTS[name] if host else name) in outputs}
    answer = finishing.finish(specs, outputs, box, placement="host" if host else "graph", **options)
    found: Any = answer.results
    labels = found.get("segmentation")
    return SimpleNamespace(
        segmentation=None if labels is None else labels.labels,
        confidence=None if labels is None else labels.confidence_maker,
        depth=found["depth"].depth_m if "depth" in found else None,
        normals=found["normals"].normals if "normals" in found else None,
        bad_values=answer.bad_values,
    )


def quarter_maps(seed: int = 0, *, smooth: bool = True) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def maps(channels: int) -> np.ndarray:
        values = random.normal(size=(channels, 16, 24)).astype(np.float32)
        return np.stack([cv2.GaussianBlur(plane, (0, 0), 2) * 8 for plane in values])[None] if smooth else values[None]

    return {
        "segmentation_logits": maps(13),
        "depth_quarter": np.abs(maps(1)) + 0.5,
        "normals_quarter": maps(3) + np.array([0, 0, -1.5], np.float32)[:, None, None],
    }


def bilinear(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) -> (C, H, W) float64, half-pixel centres: the definition, written once more."""
    wide = planes.astype(np.float64)
    for axis, length in ((1, size[0]), (2, size[1])):
        count = wide.shape[axis]
        position = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
        low = position.astype(int)
        weight = (position - low).reshape([-1 if a == axis else 1 for a in range(3)])
        wide = wide.take(low, axis) * (1 - weight) + wide.take(np.minimum(low + 1, count - 1), axis) * weight
    return wide


def assert_argmax(labels: np.ndarray, logits: np.ndarray, *, tolerance: float = 1e-4) -> None:
    """The chosen class has the largest logit, up to rounding where two are equal."""
    chosen = np.take_along_axis(logits, labels[None].astype(int), axis=0)[0]
    assert (logits.max(axis=0) - chosen).max() <= tolerance * max(1.0, np.abs(logits).max())


@given(
    st.integers(0, 10_000),
    st.integers(1, 13),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_argmax_is_that_of_the_upsampled_planes(seed, planes, source, size, coarse):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(planes, *source)).astype(np.float32)
    if coarse:  # large regions of one class, and ties
        logits = np.round(logits)
    labels = upsampled_argmax(logits, size, pool=BufferPool())
    assert labels.shape == size
    assert labels.dtype == np.uint8
    assert_argmax(labels, bilinear(logits, size))


@pytest.mark.parametrize("size", [(288, 384), (480, 640), (719, 1279)])
def test_argmax_at_real_sizes(size):
    logits = quarter_maps(3)["segmentation_logits"][0]
    assert_argmax(upsampled_argmax(logits, size, pool=BufferPool()), bilinear(logits, size))


def test_among_equal_logits_the_first_class_wins():
    logits = np.zeros((5, 8, 8), np.float32)
    assert (upsampled_argmax(logits, (32, 32), pool=BufferPool()) == 0).all()
    logits[3:] = 1.0
    assert (upsampled_argmax(logits, (32, 32), pool=BufferPool()) == 3).all()


def test_units_have_length_one_and_zero_has_none():
    vectors = quarter_maps(1)["normals_quarter"][0]
    vectors[:, :4, :4] = 0
    units = upsampled_units(vectors, NETWORK, pool=BufferPool())
    lengths = np.linalg.norm(units, axis=2)
    assert np.isnan(units[:8, :8]).all()
    assert np.nanmax(np.abs(lengths - 1)) < 1e-5
    assert np.isfinite(units[20:]).all()


@pytest.mark.parametrize("seed", range(4))
def test_host_outputs_become_the_maps_of_the_definition(seed):
    outputs = quarter_maps(seed, smooth=seed % 2 == 0)
    expected = full_maps(outputs)
    maps = finish(outputs, letterbox(NETWORK, NETWORK), output_size="frame", change=None, pool=BufferPool())
    assert (maps.segmentation == expected["segmentation"]).mean() > 0.9999
    assert np.abs(maps.confidence() - expected["confidence"]).max() < 1e-5
    assert np.abs(maps.depth - expected["depth"]).max() < 1e-5
    assert np.abs(maps.normals - expected["normals"]).max() < 1e-4
    assert [maps.segmentation.dtype, maps.depth.dtype, maps.normals.dtype] == [np.uint8, np.float32, np.float32]
    assert maps.bad_values == 0


@pytest.mark.parametrize("frame", [(54, 96), (540, 960), (480, 640), (120, 40), (77, 131), (9, 16)])
def test_frame_size_crops_the_bars_and_resamples_the_rest(frame):
    outputs = quarter_maps(5)
    box = letterbox(frame, NETWORK)
    maps = finish(outputs, box, output_size="frame", change=None, pool=BufferPool())
    rows, columns = slice(box.top // 4, box.rows.stop // 4), slice(box.left // 4, box.columns.stop // 4)
    logits = bilinear(outputs["segmentation_logits"][0][:, rows, columns], frame)
    depth = bilinear(outputs["depth_quarter"][0][:, rows, columns], frame)[0]
    normals = bilinear(outputs["normals_quarter"][0][:, rows, columns], frame).transpose(1, 2, 0)
    assert maps.segmentation.shape == maps.depth.shape == maps.normals.shape[:2] == maps.confidence().shape == frame
    assert_argmax(maps.segmentation, logits)
    assert np.abs(maps.depth - depth).max() < 1e-4
    assert angles_deg(maps.normals, normals).max() < 0.01


def test_network_size_has_void_bars():
    box = letterbox((54, 96), NETWORK)
    maps = finish(quarter_maps(5), box, output_size="network", change=None, pool=BufferPool())
    bars = np.ones(NETWORK, bool)
    bars[box.rows, box.columns] = False
    assert bars.any()
    for field, unknown in ((maps.segmentation, VOID), (maps.confidence(), 0)):
        assert (field[bars] == unknown).all()
        assert (field[~bars] != VOID).all()
    assert np.isnan(maps.depth[bars]).all()
    assert np.isnan(maps.normals[bars]).all()
    assert np.isfinite(maps.depth[~bars]).all()
    assert np.isfinite(maps.normals[~bars]).all()


@pytest.mark.parametrize("output_size", ["frame", "network"])
@pytest.mark.parametrize("frame", [NETWORK, (54, 96), (128, 192)])
def test_both_placements_give_the_same_maps(output_size, frame):
    """The same to rounding, but for two pixels beside the bars (there a graph has mixed them in) and resampled labels."""
    outputs = quarter_maps(6)
    full = full_maps(outputs)
    in_graph = {name: full[name][None] for name in ("segmentation", "depth", "normals")}
    change = camera_change(Intrinsics(70.0, 75.0, 40.0, 30.0), Intrinsics(88.0, 88.0, 47.5, 31.5))
    options = {"output_size": output_size, "change": change, "pool": BufferPool()}
    host = finish(outputs, letterbox(frame, NETWORK), **options)
    graph = finish(in_graph, letterbox(frame, NETWORK), **options)
    assert graph.confidence is None
    assert (host.segmentation == graph.segmentation).mean() > (0.999 if frame == NETWORK else 0.95)
    known = np.isfinite(host.depth)
    assert np.array_equal(known, np.isfinite(graph.depth))
    assert np.nanmax(np.abs(host.depth - graph.depth)) < (1e-4 if frame == NETWORK else 0.5)
    assert np.nanmedian(np.abs(host.depth - graph.depth)) < 0.02
    assert np.nanmedian(angles_deg(host.normals[known], graph.normals[known])) < 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output_size", ["frame", "network"])
def test_bad_values_become_void_and_nan_and_are_counted(bad, output_size):
    outputs = quarter_maps(7)
    for name in outputs:
        outputs[name][0, 0, 3, 5] = bad
    before = {name: array.copy() for name, array in outputs.items()}
    maps = finish(outputs, letterbox(NETWORK, NETWORK), output_size=output_size, change=None, pool=BufferPool())
    touched = np.zeros(NETWORK, bool)
    touched[4 * 3 - 1 : 4 * 3 + 5, 4 * 5 - 1 : 4 * 5 + 5] = True
    assert maps.bad_values == 3
    assert (maps.segmentation[13, 21], maps.confidence()[13, 21]) == (VOID, 0)
    assert np.isnan(maps.depth[13, 21])
    assert np.isnan(maps.normals[13, 21]).all()
    far = np.ones(NETWORK, bool)
    far[6:24, 14:32] = False
    assert (maps.segmentation[far] != VOID).all()
    assert np.isfinite(maps.depth[far]).all()
    assert np.isfinite(maps.normals[far]).all()
    assert not np.isinf(maps.depth).any()
    assert all(np.array_equal(outputs[name], before[name], equal_nan=True) for name in outputs)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_depth_that_is_not_positive_is_unknown(value):
    outputs = {"depth_quarter": np.full((1, 1, 16, 24), value, np.float32)}
    maps = finish(outputs, letterbox(NETWORK, NETWORK), output_size="frame", change=None, pool=BufferPool())
    assert np.isnan(maps.depth).all()
    assert maps.bad_values == 16 * 24


def test_missing_tasks_are_none():
    maps = finish(
        {"depth": np.ones((1, *NETWORK), np.float32)},
        letterbox(NETWORK, NETWORK),
        output_size="frame",
        change=None,
        pool=BufferPool(),
    )
    assert maps.segmentation is maps.normals is maps.confidence is None
    assert maps.depth is not None


def test_the_canonical_camera_changes_nothing():
    camera = Intrinsics(353.0, 353.0, 191.5, 143.5)
    assert camera_change(camera, Intrinsics(353.0, 353.0, 191.5, 143.5)) is None


@given(st.floats(0.3, 3), st.floats(0.3, 3), st.floats(-60, 60), st.floats(-60, 60), st.floats(-0.7, 0.7), st.floats(-0.7, 0.7))
@settings(max_examples=60, deadline=None)
def test_normals_change_as_planes_do(fx, fy, dx, dy, slope_x, slope_y):
    """A plane seen through K, read as if seen through K_c: inverse depths are affine in the image and stay so."""
    canonical, camera = Intrinsics(88.0, 88.0, 47.5, 31.5), Intrinsics(88 * fx, 88 * fy, 47.5 + dx, 31.5 + dy)
    normal = np.array([slope_x, slope_y, -1.0])
    seen = np.linalg.inv(camera.matrix()).T @ normal  # the image: inverse depth = seen . (x, y, 1), up to scale
    read = canonical.matrix().T @ seen
    change = camera_change(camera, canonical)
    back = np.array(change.normals) @ read if change is not None else read
    assert angles_deg(back, normal) < 1e-4
    assert (change.depth_factor if change is not None else 1.0) == pytest.approx(fx)


def test_a_buffer_is_not_given_away_while_anyone_holds_it():
    pool = BufferPool()
    first = pool.take((4, 4))
    view = first[1:, 1:]
    address = first.ctypes.data
    assert pool.take((4, 4)).ctypes.data != address
    del first
    assert pool.take((4, 4)).ctypes.data != address, "a view keeps it"
    raw = memoryview(view)
    del view
    assert pool.take((4, 4)).ctypes.data != address, "so does a memoryview"
    del raw
    assert pool.take((4, 4)).ctypes.data == address


def test_buffers_differ_by_type_and_the_pool_stays_within_its_limit():
    pool = BufferPool(limit_bytes=1000)
    assert pool.take((2, 2), np.uint8).dtype == np.uint8
    held = [pool.take((size, 10)) for size in range(1, 60)]
    assert len({array.ctypes.data for array in held}) == len(held)
    assert pool._kept_bytes <= 1000
    assert pool.take((1000,)).size == 1000, "larger than the limit is an ordinary array"


def test_threads_never_share_a_buffer():
    pool, failures = BufferPool(), []

    def work(mark: int) -> None:
        for _ in range(300):
            array = pool.take((50,), np.int64)
            array.fill(mark)
            if not (array == mark).all():
                failures.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
