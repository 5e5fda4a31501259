"""The self-test: good graphs pass, broken ones do not (positive controls)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_mtl.backends import Backend, BackendInfo, open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.errors import AccuracyError, BundleError, InferenceError
from edge_mtl.evaluation.self_test import golden_frame, run_self_test, since_build, tolerance_of
from edge_mtl.quantization.quantize import quantize_for_cpu
from edge_mtl.quantization.recipes import load_recipe
from edge_mtl.tasks import NYU_TASKS
from tests.bundles import make_bundle

TOLERANCE = tolerance_of(NYU_TASKS, "int8")


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the session's bundle: much faster than making one."""
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))


@contextmanager
def opened(model: bytes, *, precision: str = "fp32") -> Iterator[Backend]:
    backend = open_backend("onnxruntime", model, threads=1, precision=precision)
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture(scope="module")
def int8(tiny_bundle: Bundle) -> bytes:
    frames = load_calibration(tiny_bundle, count=6, unreadable_share=0.0).frames
    return quantize_for_cpu(tiny_bundle.read(OPTIMIZED_ONNX), frames, recipe=load_recipe())


def with_constant(model: bytes, ending: str, factor: float) -> bytes:
    """`model` with the first constant whose name ends in `ending` multiplied."""
    proto = onnx.load_from_string(model)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith(ending))
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("graph", [OPTIMIZED_ONNX, REFERENCE_ONNX])
def test_full_precision_passes_in_either_placement(tiny_bundle: Bundle, graph: str) -> None:
    with opened(tiny_bundle.read(graph)) as backend:
        report = run_self_test(backend, tiny_bundle)
    assert report.frames == 2
    assert report.worst["argmax_agreement"] > 0.999
    assert report.to_dict()["passed"] is True


def test_good_integers_pass(tiny_bundle: Bundle, int8: bytes) -> None:
    with opened(int8, precision="int8") as backend:
        report = run_self_test(backend, tiny_bundle, frames=1)
    assert report.frames == 1
    assert report.tolerance == TOLERANCE


@pytest.mark.parametrize(
    ("ending", "factor"),
    [("stem_scale", 0.25), ("stem_raw_weight_scales", 0.5), ("residual_weight_scales", 2.0), ("features_scale", 0.3)],
)
def test_a_broken_scale_is_caught(tiny_bundle: Bundle, int8: bytes, ending: str, factor: float) -> None:
    with opened(with_constant(int8, ending, factor), precision="int8") as backend, pytest.raises(AccuracyError) as caught:
        run_self_test(backend, tiny_bundle, frames=1)
    assert "expected" in str(caught.value)


def test_integers_do_not_pass_for_full_precision(tiny_bundle: Bundle, int8: bytes) -> None:
    with opened(int8, precision="int8") as backend, pytest.raises(AccuracyError, match="Classes that agree"):
        run_self_test(backend, tiny_bundle, tolerance=tolerance_of(NYU_TASKS, "fp32"))


class Altered:
    """A real backend whose outputs are changed on the way."""

    def __init__(self, backend: Backend, change: Mapping[str, float | None]) -> None:
        self._backend, self._change = backend, change
        self.info: BackendInfo = backend.info
        self.inputs, self.outputs = backend.inputs, backend.outputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = {name: array.copy() for name, array in self._backend.run(feeds).items()}
        for name, value in self._change.items():
            if value is None:
                del outputs[name]
            else:
                outputs[name][0, 0, 3, 3] = value
        return outputs

    def close(self) -> None:
        self._backend.close()


@pytest.mark.parametrize("output", ["segmentation_logits", "depth_quarter", "normals_quarter"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_single_value_that_is_not_finite_fails(tiny_bundle: Bundle, output: str, value: float) -> None:
    with opened(tiny_bundle.read(OPTIMIZED_ONNX)) as backend, pytest.raises(AccuracyError, match=r"1 values .* not finite"):
        run_self_test(Altered(backend, {output: value}), tiny_bundle)


def test_a_missing_head_fails(tiny_bundle: Bundle) -> None:
    with opened(tiny_bundle.read(OPTIMIZED_ONNX)) as backend, pytest.raises(InferenceError, match="gives no depth"):
        run_self_test(Altered(backend, {"depth_quarter": None}), tiny_bundle)


@pytest.mark.parametrize("task", ["segmentation", "depth", "normals"])
def test_a_bundle_with_one_task_is_tested_on_that_task(tmp_path: Path, task: str) -> None:
    bundle = make_bundle(tmp_path / "single", tasks=(task,))
    with opened(bundle.read(OPTIMIZED_ONNX)) as backend:
        worst = run_self_test(backend, bundle).worst
    assert len(worst) == 1


def test_without_golden_frames_nothing_can_be_tested(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", golden=0)
    with opened(bundle.read(OPTIMIZED_ONNX)) as backend, pytest.raises(BundleError, match="no golden frames"):
        run_self_test(backend, bundle)
    with pytest.raises(BundleError, match="no golden frames"):
        golden_frame(bundle)


def test_altered_golden_files_are_refused(own_bundle: Bundle) -> None:
    path = own_bundle.path / "golden" / "000.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    with opened(own_bundle.read(OPTIMIZED_ONNX)) as backend, pytest.raises(BundleError, match="was altered"):
        run_self_test(backend, own_bundle)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_golden_files_that_hold_no_arrays_are_refused(own_bundle: Bundle, content: bytes, tiny_bundle: Bundle) -> None:
    from edge_mtl.bundle import new_revision

    bundle = new_revision(own_bundle, lambda folder: (folder / "golden/000.npz").write_bytes(content) and None)
    with (
        opened(tiny_bundle.read(OPTIMIZED_ONNX)) as backend,
        pytest.raises(BundleError, match="does not hold reference outputs"),
    ):
        run_self_test(backend, bundle)


def test_an_engine_must_do_as_well_as_when_it_was_built(tiny_bundle: Bundle, int8: bytes) -> None:
    with opened(tiny_bundle.read(OPTIMIZED_ONNX)) as backend:
        perfect = run_self_test(backend, tiny_bundle).to_dict()
    with opened(int8, precision="int8") as backend:
        report = run_self_test(backend, tiny_bundle)
        assert run_self_test(backend, tiny_bundle, built=report.to_dict()).worst == report.worst
        with pytest.raises(AccuracyError, match=r"did better when it was built here: build it again"):
            run_self_test(backend, tiny_bundle, built=perfect)


@pytest.mark.parametrize("built", [{}, {"worst": None}, {"worst": {"argmax_agreement": "high", "normal_angle_deg": None}}])
def test_a_sidecar_that_does_not_say_keeps_the_usual_tolerance(built: Mapping[str, object]) -> None:
    assert since_build(NYU_TASKS, TOLERANCE, built) == TOLERANCE


def test_the_usual_tolerance_is_never_widened() -> None:
    worst = {"argmax_agreement": 0.5, "depth_relative_difference": 0.5, "normal_angle_deg": 40.0}
    assert since_build(NYU_TASKS, TOLERANCE, {"worst": worst}) == TOLERANCE
    tight = since_build(NYU_TASKS, TOLERANCE, {"worst": {"argmax_agreement": 0.98, "normal_angle_deg": 1.0}})
    assert tight == {
        "argmax_agreement": pytest.approx(0.973),
        "depth_relative_difference": TOLERANCE["depth_relative_difference"],
        "normal_angle_deg": pytest.approx(1.45),
    }
