"""What surrounds a build of TensorRT: options, half precision, batches, progress, timings, counts, errors of a fake library.

Real builds are in test_tensorrt_rtx.py; names of the library in test_tensorrt_api.py.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.builder.tensorrt import builder as module
from edge_mtl.builder.tensorrt.batch import open_batch
from edge_mtl.builder.tensorrt.builder import build_plan
from edge_mtl.builder.tensorrt.contents import check_precision, plan_layers
from edge_mtl.builder.tensorrt.half import KEPT_IN_FP32, to_half
from edge_mtl.builder.tensorrt.images import with_casts_at_the_ends
from edge_mtl.builder.tensorrt.monitor import STEPS, Phases
from edge_mtl.builder.tensorrt.options import PlanOptions, parse_options
from edge_mtl.builder.tensorrt.timing_cache import attach, cache_file, keep
from edge_mtl.cuda.gpus import Gpu
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe
from tests.bundles import graph_model, host_model, make_image
from tests.transformers import transformer_block

OLD = Library(None, "tensorrt", (10, 3, 0))
RTX = Library(None, "tensorrt_rtx", (1, 7, 1, 116))


def outputs(model: bytes, feed: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [np.asarray(found) for found in session.run(None, {session.get_inputs()[0].name: feed})]


def sqnr_db(reference: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - found) ** 2).sum()))


def planes(seed: int) -> np.ndarray:
    return np.ascontiguousarray(make_image(seed).transpose(2, 0, 1)[None], np.float32)


def quantized() -> bytes:
    model, recipe = transformer_block(), load_recipe(TENSORRT_INT8)
    frames = [make_image(seed) for seed in range(3)]
    return insert_qdq(model, calibrate(model, frames, recipe=recipe, threads=1), recipe=recipe, target="tensorrt")


# Half precision


@pytest.mark.parametrize("model", [host_model, transformer_block])
def test_half_precision_agrees_with_full_and_keeps_names_and_types_at_the_ends(model: Callable[[], bytes]) -> None:
    half = to_half(model())
    for before, after in zip(
        onnx.load_from_string(model()).graph.output, onnx.load_from_string(half).graph.output, strict=True
    ):
        assert (before.name, before.type) == (after.name, after.type)
    for reference, found in zip(outputs(model(), planes(3)), outputs(half, planes(3)), strict=True):
        assert found.dtype == np.float32
        assert sqnr_db(reference, found) > 45


def test_layer_norm_stays_in_full_precision_and_layers_do_not() -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(to_half(transformer_block()))).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in KEPT_IN_FP32:
            assert {kinds[name] for name in node.input} == {TensorProto.FLOAT}, node.op_type
        if node.op_type in ("Conv", "Gemm", "MatMul", "Softmax"):
            assert {kinds[name] for name in node.input} == {TensorProto.FLOAT16}, node.op_type
    assert {node.op_type for node in graph.node} >= {"LayerNormalization", "Gemm"}


def test_every_q_and_dq_survives_half_precision() -> None:
    before, after = facts(quantized()), facts(to_half(quantized()))
    assert before.quantize_nodes > 5
    for count in ("quantize_nodes", "dequantize_nodes", "integer_layers"):
        assert getattr(before, count) == getattr(after, count)


def test_weights_beyond_half_precision_are_refused() -> None:
    model = onnx.load_from_string(host_model())
    first = model.graph.initializer[0]
    values = np.array(numpy_helper.to_array(first))
    values.flat[0] = 1e6
    first.CopyFrom(numpy_helper.from_array(values, first.name))
    with pytest.raises(BuildError, match=r"weights .* reach 1e\+06, float16 ends at 65504"):
        to_half(model.SerializeToString())


@pytest.mark.parametrize(("floor", "kept"), [(1e-6, True), (1e-12, True), (1e9, True), (0.5, False)])
def test_a_number_that_half_precision_cannot_hold_keeps_its_operator_in_full(floor: float, kept: bool) -> None:
    """A norm with a floor under it, as unit normals have: with a floor of zero a black frame gives 0 / 0."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("image", "unit")]
    constants = [
        numpy_helper.from_array(np.array(floor, np.float32), "floor"),
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceL2", ["image", "axes"], ["norm"], keepdims=1),
        helper.make_node("Clip", ["norm", "floor"], ["floored"]),
        helper.make_node("Div", ["image", "floored"], ["unit"]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "unit", ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 10
    half = to_half(model.SerializeToString())
    types = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(half).graph.initializer}
    assert (TensorProto.FLOAT in types.values()) == kept
    black = np.zeros((1, 3, 4, 4), np.float32)
    assert np.isfinite(outputs(half, black)[0]).all()


def test_pairs_in_half_precision_need_a_newer_opset() -> None:
    model = onnx.load_from_string(quantized())
    model.opset_import[0].version = 17
    del model.graph.value_info[:]
    with pytest.raises(BuildError, match="need opset 19"):
        to_half(model.SerializeToString())


# Batches and images


def test_frames_of_a_batch_get_the_answers_they_get_alone() -> None:
    frames = np.stack([make_image(seed) for seed in range(3)])
    for model in (graph_model(), with_casts_at_the_ends(graph_model())):
        together = outputs(open_batch(model), frames)
        for number in range(3):
            for batch, alone in zip(together, outputs(graph_model(), frames[number : number + 1]), strict=True):
                np.testing.assert_allclose(batch[number], alone[0], atol=1e-4)


def test_a_graph_that_folds_the_batch_into_rows_is_refused() -> None:
    with pytest.raises(BuildError, match=r"does not keep frames apart.*model.onnx"):
        open_batch(transformer_block())


def test_a_graph_without_bytes_is_left_alone() -> None:
    assert with_casts_at_the_ends(host_model()) == host_model()


# Precision


@pytest.mark.parametrize(
    ("options", "model", "words"),
    [
        (PlanOptions(precision="fp16"), host_model, "0 in half precision"),
        (PlanOptions(precision="int8"), host_model, "0 Q, 0 DQ"),
        (PlanOptions(precision="fp16"), quantized, "without Q/DQ pairs"),
        (PlanOptions(precision="fp32"), lambda: to_half(host_model()), "in float32"),
        (PlanOptions(precision="int8+fp16"), quantized, "with 0 in half precision"),
    ],
)
def test_a_graph_must_hold_what_was_asked_for(options: PlanOptions, model: Callable[[], bytes], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        check_precision(model(), options, library=RTX)


def test_graphs_that_hold_what_was_asked_for_pass() -> None:
    for precision, model in (("fp32", host_model()), ("fp16", to_half(host_model())), ("int8", quantized())):
        check_precision(model, PlanOptions(precision=precision), library=RTX)  # type: ignore[arg-type]
    check_precision(to_half(quantized()), PlanOptions(precision="int8+fp16"), library=OLD)
    check_precision(quantized(), PlanOptions(precision="int8+fp16", typing="weak"), library=OLD)


def test_an_opset_that_the_oldest_library_does_not_read_is_named() -> None:
    model = onnx.load_from_string(host_model())
    model.opset_import[0].version = 21
    with pytest.raises(BuildError, match=r"opset 21; TensorRT 10.3.0 reads up to 20"):
        check_precision(model.SerializeToString(), PlanOptions(precision="fp32"), library=OLD)
    check_precision(model.SerializeToString(), PlanOptions(precision="fp32"), library=RTX)


def test_layers_of_a_finished_plan_are_counted_by_what_they_give() -> None:
    def layer(*types: str) -> str:
        listed = ", ".join(f'{{"Name": "x", "Format/Datatype": "{kind}"}}' for kind in types)
        return f'{{"Name": "l", "Outputs": [{listed}]}}'

    layers = [
        layer("Int8 NC/32HW32"),
        layer("Row major linear INT8 format"),
        layer("Half"),
        layer("Row major linear FP16 format"),
        layer("Float"),
    ]
    assert plan_layers(f'{{"Layers": [{", ".join(layers)}]}}') == {"int8": 2, "fp16": 2, "fp32": 1}
    assert plan_layers('{"Layers": ["only names", "of layers"]}') == {}
    assert plan_layers("no JSON") == {}


# Options


def test_options_are_read_as_trtexec_writes_them(tmp_path: Path) -> None:
    options = parse_options(
        [
            "--memPoolSize=workspace:512",
            "builderOptimizationLevel=5",
            "hardwareCompatibilityLevel=ampere+",
            "versionCompatible",
            "profilingVerbosity=none",
            "noTF32",
            f"timingCacheFile={tmp_path / 'x'}",
            "minShapes=image:1x3x8x8",
            "optShapes=image:2x3x8x8",
            "maxShapes=image:4x3x8x8",
        ]
    )
    assert options.workspace_mib == 512
    assert options.builder_optimization_level == 5
    assert options.version_compatible
    assert not options.tf32
    assert options.max_shapes == {"image": (4, 3, 8, 8)}
    assert parse_options(["workspace=2G"]).workspace_mib == 2048
    assert parse_options(()) == PlanOptions()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("useDLACore=0", "DLA core 0 was asked for"),
        ("builderOptimizationLevel=6", "0 to 5; found 6"),
        ("builderOptimizationLevel=fast", "'fast' is not a value of builderOptimizationLevel"),
        ("hardwareCompatibilityLevel=turing", "one of none, ampere"),
        ("workspace=0", "at least 1 MiB; found 0"),
        ("workspace=lots", "'lots' is not a value"),
        ("minShapes=image", "should look like image:1x3x288x384"),
        ("optShapes=image:1x3", "should name the same inputs"),
        ("fp16", "there is no such option"),
        ("versionCompatible=perhaps", "is not a value of versionCompatible"),
    ],
)
def test_a_wrong_option_is_named(given: str, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        parse_options([given])


def test_shapes_must_grow() -> None:
    with pytest.raises(BuildError, match="from min over opt to max; found 4, 2, 1"):
        PlanOptions(min_shapes={"x": (4,)}, opt_shapes={"x": (2,)}, max_shapes={"x": (1,)})


def test_what_decides_what_a_plan_is_belongs_to_its_key() -> None:
    usual = PlanOptions().key_values()
    for change in (
        {"typing": "weak"},
        {"builder_optimization_level": 1},
        {"hardware_compatibility_level": "ampere+"},
        {"version_compatible": True},
        {"exclude_lean_runtime": True},
        {"profiling_verbosity": "none"},
        {"tf32": False},
        {"min_shapes": {"x": (1,)}, "opt_shapes": {"x": (1,)}, "max_shapes": {"x": (1,)}},
    ):
        assert PlanOptions(**change).key_values() != usual  # type: ignore[arg-type]
    assert PlanOptions(workspace_mib=7, timing_cache_file=Path("x")).key_values() == usual


# Progress


def test_progress_of_nested_phases_never_goes_back() -> None:
    told: list[int] = []
    phases = Phases(lambda done, total: told.append(done))
    phases.start("build", None, 4)
    for step in range(4):
        phases.start("inner", "build", 10)
        for part in range(10):
            assert phases.step("inner", part)
        phases.finish("inner")
        assert phases.step("build", step)
    phases.finish("build")
    assert told == sorted(told)
    assert told[-1] == STEPS
    assert len(set(told)) > 30


def test_phases_that_are_their_own_ancestors_do_not_hang() -> None:
    phases = Phases(lambda done, total: None)
    phases.start("outer", None, 2)
    phases.start("a", "b", 2)
    phases.start("b", "a", 2)
    assert phases.step("outer", 0)


def test_a_failing_report_stops_the_build_and_is_kept() -> None:
    def broken(done: int, total: int) -> None:
        raise KeyboardInterrupt

    phases = Phases(broken)
    phases.start("build", None, 1)
    assert not phases.step("build", 0)
    assert isinstance(phases.failure, KeyboardInterrupt)


# Timings


class FakeConfig:
    """Takes timings that begin with "good"."""

    def create_timing_cache(self, payload: bytes) -> Any:
        if payload and not payload.startswith(b"good"):
            raise RuntimeError("damaged")
        return types.SimpleNamespace(serialize=lambda: payload or b"good: new")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch


def test_timings_are_kept_between_builds(tmp_path: Path) -> None:
    path = cache_file(tmp_path / "timings", OLD, Gpu("Orin", "8.7", "12.6"))
    cache, why = attach(FakeConfig(), path)
    assert why == ""
    assert keep(cache, path) == ""
    assert path.read_bytes() == b"good: new"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    cache, why = attach(FakeConfig(), path)
    assert (cache.serialize(), why) == (b"good: new", "")


def test_timings_of_another_gpu_or_version_lie_elsewhere(tmp_path: Path) -> None:
    gpu = Gpu("Orin", "8.7", "12.6")
    paths = {
        cache_file(tmp_path, OLD, gpu),
        cache_file(tmp_path, OLD, dataclasses.replace(gpu, name="Thor")),
        cache_file(tmp_path, OLD, None),
        cache_file(tmp_path, dataclasses.replace(OLD, version=(10, 13, 3)), gpu),
    }
    assert len(paths) == 4


def test_damaged_timings_are_replaced_with_a_remark(tmp_path: Path) -> None:
    folder = tmp_path / "timings"
    folder.mkdir(mode=0o700)
    path = folder / "x.timing"
    path.write_bytes(b"bad")
    cache, why = attach(FakeConfig(), path)
    assert "starts again" in why
    assert keep(cache, path) == ""
    assert path.read_bytes() == b"good: new"


def test_timings_that_others_may_write_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "timings"
    folder.mkdir()
    (folder / "x.timing").write_bytes(b"good")
    folder.chmod(0o777)
    cache, why = attach(FakeConfig(), folder / "x.timing")
    assert "other users" in why
    assert cache.serialize() == b"good: new"


# Failures of a library


class FakeLibrary:
    """The vendor's boundary with as much as a build touches."""

    __version__ = "10.3.0"

    def __init__(self, plan: bytes | None, *, says: str = "", starts: bool = True) -> None:
        enum = types.SimpleNamespace
        self.NetworkDefinitionCreationFlag = enum(STRONGLY_TYPED=1)
        self.MemoryPoolType, self.ProfilingVerbosity = enum(WORKSPACE="workspace"), enum(DETAILED="detailed")
        self.BuilderFlag = enum(FP16="fp16", INT8="int8", TF32="tf32")
        self.LayerType = enum(CONVOLUTION=0, MATRIX_MULTIPLY=1, QUANTIZE=2, DEQUANTIZE=3)
        self.DataType = enum(HALF="half")
        self.plan, self.says, self.starts = plan, says, starts
        self.flags: list[Any] = []
        self.limits: dict[Any, int] = {}
        self.made_flags: list[int] = []
        fake = self

        class ILogger:
            INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

            def __init__(self) -> None:
                fake.logger = self

        class IProgressMonitor:
            pass

        self.ILogger, self.IProgressMonitor = ILogger, IProgressMonitor

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        if not self.starts:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return self

    def create_network(self, flags: int) -> Any:
        self.made_flags.append(flags)
        kinds = types.SimpleNamespace
        layers = [kinds(type=0, get_output=lambda index: kinds(dtype="half")), kinds(type=2), kinds(type=3)]
        return kinds(num_layers=len(layers), get_layer=lambda index: layers[index], num_inputs=0)

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        return types.SimpleNamespace(parse=lambda model: True, num_errors=0)

    def create_builder_config(self) -> Any:
        return types.SimpleNamespace(set_flag=self.flags.append, set_memory_pool_limit=self.limits.__setitem__)

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        if self.says:
            self.logger.log(1, self.says)
        return self.plan


GOOD = b"ftrt" + bytes(200)


def library(plan: bytes | None = GOOD, *, says: str = "", starts: bool = True) -> Library:
    return Library(FakeLibrary(plan, says=says, starts=starts), "tensorrt", (10, 3, 0))


def test_a_build_that_fails_says_what_the_library_said() -> None:
    with pytest.raises(BuildError, match=r"TensorRT 10.3.0 built nothing. It said: no tactic for node 7"):
        build_plan(library(None, says="no tactic\n for node 7"), host_model(), PlanOptions(precision="fp32"))


def test_a_build_out_of_memory_says_what_to_do() -> None:
    with pytest.raises(BuildError, match=r"Free some memory of the GPU, or limit it: --trt workspace=512"):
        build_plan(
            library(None, says="Requested amount of GPU memory: OutOfMemory"), host_model(), PlanOptions(precision="fp32")
        )


def test_a_library_that_does_not_start_is_unavailable() -> None:
    with pytest.raises(BackendUnavailable, match="does not start here"):
        build_plan(library(starts=False), host_model(), PlanOptions(precision="fp32"))


def test_what_is_no_plan_is_not_taken_for_one() -> None:
    with pytest.raises(Exception, match="What was built is not a plan"):
        build_plan(library(b"half a plan"), host_model(), PlanOptions(precision="fp32"))


def test_weak_typing_sets_flags_on_the_float_graph_of_10_3_and_strong_typing_none() -> None:
    weak = library()
    build_plan(weak, quantized(), PlanOptions(precision="int8+fp16", typing="weak"))
    assert (weak.module.made_flags, weak.module.flags) == ([0], ["fp16", "int8"])
    strong = library()
    build_plan(strong, to_half(quantized()), PlanOptions(precision="int8+fp16"))
    assert (strong.module.made_flags, strong.module.flags) == ([2], [])
    newer = dataclasses.replace(library(), version=(10, 13, 3))
    with pytest.raises(BuildError, match=r"TensorRT 10.3 only; here is TensorRT 10.13.3"):
        build_plan(newer, quantized(), PlanOptions(precision="int8+fp16", typing="weak"))


@pytest.mark.parametrize(("integrated", "expected"), [(False, 800), (True, 500)])
def test_scratch_memory_is_limited_by_what_is_free(monkeypatch: pytest.MonkeyPatch, integrated: bool, expected: int) -> None:
    monkeypatch.setattr(module, "gpus", lambda: (Gpu("x", "8.7", "12.6", 4000, integrated),))
    monkeypatch.setattr(module, "free_memory", lambda gpu, index: 1000)
    monkeypatch.setattr(module, "_layers", lambda library, plan: {"int8": 3})
    used = library()
    report = build_plan(used, host_model(), PlanOptions(precision="fp32"))
    assert used.module.limits == {"workspace": expected}
    assert "after fusion: 3 int8" in report.describe()
    build_plan(used, host_model(), PlanOptions(precision="fp32", workspace_mib=2))
    assert used.module.limits == {"workspace": 2 << 20}


def test_a_graph_of_words_is_refused_before_a_library_sees_it() -> None:
    value = helper.make_tensor_value_info("a", TensorProto.STRING, [1])
    graph = helper.make_graph([helper.make_node("If", ["a"], ["b"])], "words", [value], [])
    with pytest.raises(BuildError):
        build_plan(library(), helper.make_model(graph).SerializeToString(), PlanOptions(precision="fp32"))
