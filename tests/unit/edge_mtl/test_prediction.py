"""Prediction: lazy fields, images, points, and what it says when a map is missing."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import sys
import threading

import numpy as np
import pytest

from edge_mtl.errors import BundleError, FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.image.geometry import normals_of_depth, points_of_depth
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.tasks import NYU13_CLASSES, LabelMap, read_tasks
from edge_mtl.tasks.asked import LazyResults
from edge_mtl.tasks.normals import angles_deg
from tests.bundles import answer_of

CAMERA = Intrinsics(60.0, 58.0, 31.0, 19.5)


def plane_depth(normal, distance=2.0, size=(40, 64)) -> np.ndarray:
    """Depth of the plane normal . X = -distance (normal faces the camera)."""
    v, u = np.mgrid[: size[0], : size[1]]
    rays = np.dstack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(size)])
    return (-distance / (rays @ np.asarray(normal, float))).astype(np.float32)


def unit(x, y, z) -> np.ndarray:
    return np.array([x, y, z]) / np.linalg.norm([x, y, z])


def a_prediction(**changes) -> Prediction:
    normal = unit(0.2, -0.3, -1.0)
    maps = {
        "segmentation": np.tile(np.arange(64, dtype=np.uint8) // 5, (40, 1)),
        "depth": plane_depth(normal),
        "normals": np.tile(normal.astype(np.float32), (40, 64, 1)),
    }
    shown = {name: changes.pop(name, values) for name, values in maps.items()}
    fields = {
        "results": answer_of(shown, confidence=changes.pop("make_confidence", None)).results,
        "timing": Timing(total=0.0123),
        "intrinsics": CAMERA,
        "intrinsics_assumed": False,
        "frame_size": (40, 64),
    }
    return Prediction(**{**fields, **changes})


def test_a_prediction_is_frozen_and_has_no_dictionary():
    prediction = a_prediction()
    with pytest.raises(AttributeError):
        prediction.results = {}
    with pytest.raises((AttributeError, TypeError)):  # what Python says of a property of a frozen class differs
        prediction.depth = None
    assert not hasattr(prediction, "__dict__")
    assert repr(prediction) == "Prediction(segmentation, depth, normals; 40x64; 12.3 ms)"


def test_confidence_is_made_once_by_whoever_asks_first():
    calls, start = [], threading.Barrier(4)

    def make() -> np.ndarray:
        calls.append(1)
        return np.ones((40, 64), np.float32)

    prediction, found = a_prediction(make_confidence=make), []

    def ask() -> None:
        start.wait()
        found.append(prediction.confidence)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert all(entry is found[0] for entry in found)
    assert a_prediction().confidence is None


def test_dropping_a_prediction_frees_its_maps_without_the_garbage_collector():
    prediction = a_prediction(make_confidence=lambda: np.ones((40, 64), np.float32))
    depth = prediction.depth
    assert prediction.confidence is not None
    gc.disable()
    try:
        del prediction
        assert sys.getrefcount(depth) == 2
    finally:
        gc.enable()


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.4, 0.1, -1), (-0.2, 0.5, -1)])
def test_normals_of_a_plane_are_its_normal(normal):
    found = normals_of_depth(plane_depth(unit(*normal)), CAMERA)
    assert angles_deg(found, np.broadcast_to(unit(*normal), found.shape)).max() < 0.1


def test_heads_that_agree_are_consistent_and_others_not():
    assert a_prediction().consistency.max() < 0.1
    tilted = np.tile(unit(0.2, 0.3, -1.0).astype(np.float32), (40, 64, 1))
    angle = angles_deg(unit(0.2, 0.3, -1.0), unit(0.2, -0.3, -1.0))
    assert a_prediction(normals=tilted).consistency.mean() == pytest.approx(angle, abs=0.1)
    assert a_prediction(normals=None).consistency is None
    assert a_prediction(depth=None).consistency is None


def test_unknown_depth_has_unknown_consistency():
    depth = plane_depth((0, 0, -1))
    depth[10, 10] = np.nan
    consistency = a_prediction(depth=depth).consistency
    assert np.isnan(consistency[10, 10])
    assert consistency[10, 11] < 40, "a neighbour is judged by the depth on its other side"
    assert np.isfinite(consistency[20, 20])


def test_points_lie_on_the_plane_and_project_back():
    normal = unit(0.2, -0.3, -1.0)
    points = points_of_depth(plane_depth(normal), CAMERA)
    assert np.abs(points @ normal + 2.0).max() < 1e-4
    projected = points[7, 50] @ CAMERA.matrix().T
    assert projected[:2] / projected[2] == pytest.approx([50, 7], abs=1e-3)


def test_a_point_cloud_has_the_known_pixels_with_their_labels_and_colours():
    depth = plane_depth((0, 0, -1))
    depth[:10] = np.nan
    frame = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    prediction = a_prediction(depth=depth)
    cloud = prediction.point_cloud(frame)
    assert cloud.points.shape == (30 * 64, 3)
    assert cloud.points.dtype == np.float32
    assert np.allclose(cloud.points[:, 2], 2.0)
    assert np.array_equal(cloud.labels, prediction.segmentation[10:].ravel())
    assert np.array_equal(cloud.colours, frame[10:].reshape(-1, 3))
    assert cloud.normals.shape == cloud.points.shape
    thin = prediction.point_cloud(step=2)
    assert len(thin.points) == 15 * 32
    assert thin.colours is None
    assert np.array_equal(thin.points[0], prediction.point_cloud().points[0])


@pytest.mark.parametrize(
    ("missing", "ask"),
    [
        ({"segmentation": None}, lambda p, f: p.overlay(f)),
        ({"depth": None}, lambda p, f: p.depth_image()),
        ({"depth": None}, lambda p, f: p.point_cloud()),
        ({"normals": None}, lambda p, f: p.normals_image()),
    ],
)
def test_a_view_of_a_missing_map_is_an_error(missing, ask):
    with pytest.raises(BundleError, match="does not predict"):
        ask(a_prediction(**missing), np.zeros((40, 64, 3), np.uint8))


@pytest.mark.parametrize("view", ["overlay", "panel", "point_cloud"])
def test_a_frame_of_another_size_is_refused(view):
    with pytest.raises(FrameError, match="size of the maps"):
        getattr(a_prediction(), view)(np.zeros((20, 64, 3), np.uint8))


@pytest.mark.parametrize("missing", [{}, {"segmentation": None}, {"depth": None}, {"normals": None}])
def test_images(missing):
    frame = np.full((40, 64, 3), 90, np.uint8)
    prediction = a_prediction(**missing)
    panel = prediction.panel(frame, title="tiny")
    assert panel.dtype == np.uint8
    assert panel.ndim == 3
    for task, image in (("segmentation", "overlay"), ("depth", "depth_image"), ("normals", "normals_image")):
        if getattr(prediction, task) is not None:
            made = getattr(prediction, image)(*([frame] if image == "overlay" else []))
            assert made.shape == (40, 64, 3)
            assert made.dtype == np.uint8
            assert made.std() > 0 or image == "normals_image"


def test_the_opacity_of_an_overlay():
    frame = np.full((40, 64, 3), 90, np.uint8)
    prediction = a_prediction()
    assert np.abs(prediction.overlay(frame, opacity=0.0).astype(int) - 90).max() <= 1
    assert prediction.overlay(frame, opacity=1.0).std() > prediction.overlay(frame, opacity=0.3).std()


def test_the_size_of_maps_without_any_is_the_frames():
    assert a_prediction(segmentation=None, depth=None, normals=None).map_size == (40, 64)
    with pytest.raises(ValueError, match="at least 1"):
        a_prediction().point_cloud(step=0)


def test_results_by_task_and_what_a_bundle_lacks_is_named():
    prediction = a_prediction(depth=None)
    assert np.array_equal(prediction["segmentation"].labels, prediction.segmentation)
    assert prediction["normals"].normals is prediction.normals
    assert list(prediction.results) == ["segmentation", "normals"]
    with pytest.raises(BundleError, match=r"no task 'depth'; it predicts segmentation, normals"):
        prediction["depth"]


def test_several_tasks_of_labels_have_classes_of_their_own():
    lanes = read_tasks({"lane": {"kind": "labels", "classes": ["background", "line"]}, "segmentation": {}})
    first = LabelMap(lanes["lane"], np.zeros((40, 64), np.uint8))
    second = LabelMap(lanes["segmentation"], np.full((40, 64), 3, np.uint8))
    prediction = Prediction({"lane": first, "segmentation": second}, Timing(), CAMERA, False, (40, 64))
    assert prediction["lane"].classes == ("background", "line")
    assert prediction.classes == NYU13_CLASSES
    assert prediction.segmentation is second.labels
    only = Prediction({"lane": first}, Timing(), CAMERA, False, (40, 64))
    assert only.segmentation is None, "the attribute is of the task of that name"
    assert only.classes == ("background", "line")
    panel = prediction.panel(np.zeros((40, 64, 3), np.uint8))
    assert panel.shape[1] > only.panel(np.zeros((40, 64, 3), np.uint8)).shape[1]


@pytest.mark.parametrize("copied", [lambda it: pickle.loads(pickle.dumps(it)), copy.deepcopy, copy.copy])
def test_a_copy_of_a_prediction_has_all_of_it(copied):
    confidence = np.full((40, 64), 0.25, np.float32)
    before = a_prediction(make_confidence=lambda: confidence, bad_values=3, not_asked=("boxes",), depth_scale=1.5)
    after = copied(before)
    assert list(after.results) == ["segmentation", "depth", "normals"]
    np.testing.assert_array_equal(after.segmentation, before.segmentation)
    np.testing.assert_array_equal(after.depth, before.depth)
    np.testing.assert_array_equal(after.normals, before.normals)
    np.testing.assert_array_equal(after.confidence, confidence)
    np.testing.assert_array_equal(after.consistency, before.consistency)
    for name in ("timing", "intrinsics", "intrinsics_assumed", "frame_size", "bad_values", "not_asked", "depth_scale"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.classes == before.classes


def test_a_pickle_of_a_lazy_prediction_is_finished_and_counts_its_bad_values():
    results = answer_of({"depth": plane_depth(unit(0.2, -0.3, -1.0))}).results
    finished = []

    def finish():
        finished.append("depth")
        return results["depth"], 7

    lazy = LazyResults({"depth": results["depth"].spec}, {"depth": finish}, (40, 64))
    before = a_prediction(results=lazy)
    after = pickle.loads(pickle.dumps(before))
    assert (after.bad_values, after.map_size, finished) == (7, (40, 64), ["depth"])
    np.testing.assert_array_equal(after.depth, results["depth"].depth_m)


def test_a_prediction_comes_back_from_another_process():
    """As a worker's queue hands it over: an object that cannot be pickled never arrives, and nobody says so."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        after = pool.apply_async(_same, (a_prediction(),)).get(timeout=120)
    np.testing.assert_array_equal(after.depth, a_prediction().depth)


def _same(prediction: Prediction) -> Prediction:
    return prediction
