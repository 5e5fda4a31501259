"""A scale of depth: what it multiplies, what it leaves alone, and which bundle and camera it holds for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.depth_scale import ScaleCamera, ScaleRecord, check_factor, network_digest
from edge_mtl.engine import Engine
from edge_mtl.errors import DepthScaleError, EdgeMtlError, FrameError
from edge_mtl.evaluation import self_test
from edge_mtl.image.frames import Intrinsics
from edge_mtl.prediction import Prediction
from edge_mtl.tasks import TaskSpec
from edge_mtl.tasks.depth import DepthSpec
from tests.bundles import dense_model, make_bundle, make_image

FRAME = make_image(3, height=120, width=160)
CAMERA = (150.0, 150.0, 79.5, 59.5)


def predicted(bundle: Bundle, scale: Any = None, *, intrinsics: Any = CAMERA, **options: Any) -> Prediction:
    with Engine(bundle, threads=1, depth_scale=scale, **options) as engine:
        return engine.predict(FRAME, intrinsics=intrinsics)


def record_for(bundle: Bundle, **changes: Any) -> ScaleRecord:
    camera = ScaleCamera(Intrinsics(*CAMERA), (120, 160), "front")
    return replace(ScaleRecord(1.28, network_digest(bundle), bundle.name, 1, camera, (1.2, 1.36), {"frames": 9}), **changes)


@pytest.mark.parametrize("intrinsics", [None, CAMERA])
@pytest.mark.parametrize("output_size", ["frame", "network"])
def test_depth_and_what_is_made_of_it_are_scaled_and_nothing_else_is(
    tiny_bundle: Bundle, intrinsics: Any, output_size: Any
) -> None:
    plain = predicted(tiny_bundle, intrinsics=intrinsics, output_size=output_size)
    scaled = predicted(tiny_bundle, 1.28, intrinsics=intrinsics, output_size=output_size)
    assert (plain.depth_scale, scaled.depth_scale) == (1.0, 1.28)
    np.testing.assert_allclose(scaled.depth, 1.28 * plain.depth, rtol=1e-6)
    np.testing.assert_allclose(scaled.point_cloud().points, 1.28 * plain.point_cloud().points, rtol=1e-6)
    np.testing.assert_array_equal(scaled.segmentation, plain.segmentation)
    np.testing.assert_array_equal(scaled.normals, plain.normals)
    assert plain.consistency is not None
    np.testing.assert_allclose(scaled.consistency, plain.consistency, atol=0.01)


@pytest.mark.parametrize("one", [None, 1.0, 1, "1.0", np.float32(1.0)])
def test_no_scale_and_one_answer_the_same_bits(tiny_bundle: Bundle, one: Any) -> None:
    for intrinsics in (None, CAMERA):
        plain, again = predicted(tiny_bundle, intrinsics=intrinsics), predicted(tiny_bundle, one, intrinsics=intrinsics)
        np.testing.assert_array_equal(again.depth, plain.depth)
        np.testing.assert_array_equal(again.normals, plain.normals)


def test_every_task_of_depth_is_scaled(tmp_path: Path) -> None:
    specs: dict[str, TaskSpec] = {name: DepthSpec(name, "depth") for name in ("near", "far")}
    bundle = make_bundle(tmp_path / "two", of_kinds=specs, deploy=dense_model(specs), evaluation=0)
    plain, scaled = predicted(bundle, self_test="off"), predicted(bundle, 2.0, self_test="off")
    for task in specs:
        np.testing.assert_allclose(scaled[task].depth_m, 2.0 * plain[task].depth_m, rtol=1e-6)


def test_a_graph_that_ends_in_whole_maps_is_scaled_too(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "whole", placement="graph")
    plain, scaled = predicted(bundle, intrinsics=None), predicted(bundle, 1.28, intrinsics=None)
    np.testing.assert_allclose(scaled.depth, 1.28 * plain.depth, rtol=1e-6)
    np.testing.assert_array_equal(scaled.normals, plain.normals)


def test_a_stream_and_results_that_are_finished_later_are_scaled(tiny_bundle: Bundle) -> None:
    plain = predicted(tiny_bundle)
    with Engine(tiny_bundle, threads=1, depth_scale=0.5) as engine:
        for prediction in engine.stream([FRAME, FRAME], intrinsics=CAMERA, finish="lazily"):
            np.testing.assert_allclose(prediction.depth, 0.5 * plain.depth, rtol=1e-6)
            assert prediction.depth_scale == 0.5


def test_the_self_test_judges_answers_without_the_scale(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth is far beyond every tolerance; the control scales what the self-test sees, and it notices."""
    with Engine(tiny_bundle, threads=1, depth_scale=0.1, self_test="build") as engine:
        assert engine.info.self_test is not None
        assert (engine.info.depth_scale, engine.info.depth_scale_from) == (0.1, "")
    make = self_test.InferencePipeline
    monkeypatch.setattr(self_test, "InferencePipeline", lambda *args, **options: make(*args, **options, depth_scale=0.1))
    with pytest.raises(EdgeMtlError, match="Depth, mean difference"):
        Engine(tiny_bundle, threads=1, self_test="build")


def test_a_frame_may_have_a_scale_of_its_own(tiny_bundle: Bundle) -> None:
    record = record_for(tiny_bundle, camera=None)
    with Engine(tiny_bundle, threads=1, depth_scale=0.5) as engine:
        half = engine.predict(FRAME)
        for scale, factor in ((2.0, 2.0), ("2.0", 2.0), (record, record.factor), (None, 0.5)):
            own = engine.predict(FRAME, depth_scale=scale)
            assert own.depth_scale == factor
            assert np.allclose(own.depth, half.depth * (factor / 0.5), rtol=1e-5, equal_nan=True)
        assert engine.info.depth_scale == 0.5
        with pytest.raises(DepthScaleError, match=r"0\.1 to 10"):
            engine.predict(FRAME, depth_scale=40.0)
        with pytest.raises(DepthScaleError, match="another network"):
            engine.predict(FRAME, depth_scale=record_for(tiny_bundle, network="0" * 64))
        with pytest.raises(FrameError, match="found without a camera"):
            engine.predict(FRAME, depth_scale=record, intrinsics=(80.0, 80.0, 47.5, 31.5))
        assert engine.predict(FRAME, intrinsics=(80.0, 80.0, 47.5, 31.5)).depth_scale == 0.5


@pytest.mark.parametrize("bad", [0, -1.0, 0.05, 10.5, float("nan"), float("inf"), True, "0", "nan", [1.0], b"1"])
def test_an_implausible_factor_is_refused(tiny_bundle: Bundle, bad: Any) -> None:
    with pytest.raises(DepthScaleError, match=r"0\.1 to 10"):
        Engine(tiny_bundle, threads=1, depth_scale=bad)
    with pytest.raises(ValueError, match=r"0\.1 to 10"):
        check_factor(bad)


def test_a_file_scales_frames_of_its_camera_at_any_size(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "front.json"
    place.write_bytes(record_for(tiny_bundle).to_json())
    assert ScaleRecord.read(place) == record_for(tiny_bundle)
    plain = predicted(tiny_bundle)
    with Engine(tiny_bundle, threads=1, depth_scale=place) as engine:
        assert (engine.info.depth_scale, engine.info.depth_scale_from) == (1.28, str(place))
        np.testing.assert_allclose(engine.predict(FRAME, intrinsics=CAMERA).depth, 1.28 * plain.depth, rtol=1e-6)
        half = engine.predict(np.ascontiguousarray(FRAME[::2, ::2]), intrinsics=(75.0, 75.0, 39.5, 29.5))
        assert half.depth_scale == 1.28
        assert engine.predict(FRAME).intrinsics_assumed, "without a camera the frame says itself that it is not metric"
        for camera in ((170.0, 170.0, 79.5, 59.5), (150.0, 150.0, 90.0, 59.5)):
            with pytest.raises(FrameError, match=r"'front'.*edge-mtl scale"):
                engine.predict(FRAME, intrinsics=camera)
            with pytest.raises(FrameError, match="'front'"):
                list(engine.stream([FRAME], intrinsics=camera))


def test_a_scale_that_was_found_without_a_camera_holds_only_without_one(tiny_bundle: Bundle) -> None:
    with Engine(tiny_bundle, threads=1, depth_scale=record_for(tiny_bundle, camera=None)) as engine:
        assert engine.predict(FRAME).depth_scale == 1.28
        with pytest.raises(FrameError, match="without a camera"):
            engine.predict(FRAME, intrinsics=CAMERA)


def test_the_file_of_another_bundle_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(DepthScaleError, match=r"tiny revision 1.*edge-mtl scale SOURCE --bundle"):
        Engine(tiny_bundle, threads=1, depth_scale=record_for(tiny_bundle, network="0" * 64))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "something"}, "is not an edge_mtl depth scale"),
        ({"version": 2}, "version 1"),
        ({"factor": 40.0}, "0.1 to 10"),
        ({"factor": "1.2"}, "0.1 to 10"),
        ({"bundle": {}}, "key 'network' is missing"),
        ({"camera": {"name": "", "intrinsics": [1, 2], "size": [3, 4]}}, "not a valid depth scale"),
        ({"camera": {"name": "", "intrinsics": [9, 9, 2, 2], "size": [0, 4]}}, "height and a width"),
        ({"camera": {"name": "", "intrinsics": [150, 150, 319.5, 239.5], "size": [120, 160]}}, "an image of about 480x640"),
        ({"interval": [1.0]}, "not a valid depth scale"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(
    tiny_bundle: Bundle, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    place = tmp_path / "front.json"
    place.write_text(json.dumps(json.loads(record_for(tiny_bundle).to_json()) | change))
    with pytest.raises(DepthScaleError) as caught:
        ScaleRecord.read(place)
    assert words in str(caught.value)
    assert "front.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_record_is_refused(tiny_bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    for path in ("x.json", "missing.json"):
        with pytest.raises(DepthScaleError, match="edge-mtl scale SOURCE --save"):
            Engine(tiny_bundle, threads=1, depth_scale=tmp_path / path)
