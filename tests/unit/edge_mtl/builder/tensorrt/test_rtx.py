"""Plans really built by TensorRT for RTX, whose parser and builder need no GPU: precisions, batches, refusals.

What happens on a GPU, running a plan and asking the inspector, is tested in tests/gpu.
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edge_mtl.backends.tensorrt.api import Library, find_library
from edge_mtl.builder.candidate_graphs import candidate_graphs
from edge_mtl.builder.candidates import DEPTHWISE, Candidate
from edge_mtl.builder.tensorrt.batch import open_batch
from edge_mtl.builder.tensorrt.builder import build_plan
from edge_mtl.builder.tensorrt.half import to_half
from edge_mtl.builder.tensorrt.images import with_casts_at_the_ends
from edge_mtl.builder.tensorrt.options import PlanOptions, PlanPrecision
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe
from tests.bundles import ROOMS_B0, graph_model, host_model, make_image
from tests.mapless_bundles import mapless_model, mapless_specs
from tests.transformers import transformer_block

pytest.importorskip("tensorrt_rtx", reason='TensorRT for RTX is not installed: pip install "edge-mtl[rtx]"')


@pytest.fixture(scope="module")
def rtx() -> Library:
    return find_library("tensorrt_rtx")


@pytest.fixture(scope="module")
def deploy() -> bytes:
    """The graph of rooms-b0: a PVT v2 with three heads."""
    return Bundle.open(ROOMS_B0).read(OPTIMIZED_ONNX)


def test_an_rtx_plan_of_rooms_b0_in_full_precision(rtx: Library, deploy: bytes) -> None:
    done: list[int] = []
    report = build_plan(rtx, deploy, PlanOptions(precision="fp32"), progress=lambda units, total: done.append(units))
    assert report.plan[:4] == b"vtrt"
    assert report.network.quantize == report.network.dequantize == 0
    assert set(report.network.computing) == {"fp32"}
    assert done == sorted(done), "progress never goes back"
    assert done[-1] == 1000
    assert len(set(done)) > 20, "a silent build looks like one that hangs"


def test_an_rtx_plan_of_rooms_b0_in_half_precision(rtx: Library, deploy: bytes) -> None:
    report = build_plan(rtx, to_half(deploy), PlanOptions(precision="fp16"))
    assert report.plan[:4] == b"vtrt"
    assert set(report.network.computing) == {"fp16"}
    assert len(report.plan) < 1.5 * len(deploy)


def test_an_rtx_plan_of_rooms_b0_in_int8_keeps_every_pair(rtx: Library, deploy: bytes) -> None:
    recipe = load_recipe(TENSORRT_INT8)
    frames = load_calibration(Bundle.open(ROOMS_B0), None, count=2, unreadable_share=0.0).frames
    quantized = to_half(
        insert_qdq(deploy, calibrate(deploy, frames, recipe=recipe, threads=1), recipe=recipe, target="tensorrt")
    )
    report = build_plan(rtx, quantized, PlanOptions(precision="int8+fp16", builder_optimization_level=0))
    counted = facts(quantized)
    assert report.plan[:4] == b"vtrt"
    assert counted.integer_layers > 60
    assert (report.network.quantize, report.network.dequantize) == (counted.quantize_nodes, counted.dequantize_nodes)
    assert set(report.network.computing) == {"fp16"}
    assert report.layers == {}, "without a GPU there is nobody to ask about the finished plan"


def test_an_rtx_plan_takes_batches_within_its_profile(rtx: Library) -> None:
    graph = open_batch(with_casts_at_the_ends(graph_model()))
    shapes = {side: {"image": (batch, 64, 96, 3)} for side, batch in (("min", 1), ("opt", 2), ("max", 4))}
    options = PlanOptions(
        precision="fp32", min_shapes=shapes["min"], opt_shapes=shapes["opt"], max_shapes=shapes["max"], tf32=False
    )
    assert build_plan(rtx, graph, options).plan[:4] == b"vtrt"
    with pytest.raises(BuildError, match=r"not fixed.*Give its minShapes"):
        build_plan(rtx, graph, PlanOptions(precision="fp32"))
    wrong = {"image": (1, 32, 96, 3)}
    with pytest.raises(BuildError, match="minShapes of image should fit"):
        build_plan(rtx, graph, PlanOptions(precision="fp32", min_shapes=wrong, opt_shapes=wrong, max_shapes=wrong))
    other = {"picture": (1, 64, 96, 3)}
    with pytest.raises(BuildError, match="no input picture; its inputs are image"):
        build_plan(rtx, graph, PlanOptions(precision="fp32", min_shapes=other, opt_shapes=other, max_shapes=other))


def test_an_rtx_plan_of_the_plain_graph_of_rooms_b0_takes_batches(rtx: Library) -> None:
    """What `edge-mtl export --triton --plan --max-batch 4` asks for: images in, finished maps out."""
    bundle = Bundle.open(ROOMS_B0)
    graph = with_casts_at_the_ends(bundle.read(REFERENCE_ONNX))
    sides = (bundle.manifest.input.height, bundle.manifest.input.width, 3)
    low, best, high = ({"image": (batch, *sides)} for batch in (1, 2, 4))
    options = PlanOptions(precision="fp16", builder_optimization_level=0, min_shapes=low, opt_shapes=best, max_shapes=high)
    report = build_plan(rtx, open_batch(to_half(graph)), options)
    assert report.plan[:4] == b"vtrt"
    assert set(report.network.computing) == {"fp16"}
    assert report.warnings == ()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8+fp16"])
def test_an_rtx_plan_of_boxes_and_the_class_of_a_frame(rtx: Library, precision: PlanPrecision) -> None:
    graph = mapless_model(mapless_specs())
    if precision.startswith("int8"):
        recipe = load_recipe(TENSORRT_INT8)
        ranges = calibrate(graph, [make_image(number) for number in range(4)], recipe=recipe, threads=1)
        graph = insert_qdq(graph, ranges, recipe=recipe, target="tensorrt")
        assert facts(graph).integer_layers == 6, "the trunk and the two steps down; the last layers are in floating point"
    report = build_plan(rtx, graph if precision == "fp32" else to_half(graph), PlanOptions(precision=precision))
    assert report.plan[:4] == b"vtrt"


@pytest.mark.skipif(os.environ.get("EDGE_MTL_LONG_TESTS") != "1", reason="EDGE_MTL_LONG_TESTS=1 runs it")
def test_depthwise_convolutions_in_int8_fill_an_rtx_plan_with_zeros(rtx: Library, deploy: bytes) -> None:
    """Why they are tried in floating point, too: see docs/decisions/0010. Where this fails, the library has become better."""
    bundle, recipe = Bundle.open(ROOMS_B0), load_recipe(TENSORRT_INT8)
    frames = load_calibration(bundle, None, count=2, unreadable_share=0.0)
    tried = [Candidate("tensorrt", "int8+fp16"), Candidate("tensorrt", "int8+fp16", (DEPTHWISE,))]
    graphs = candidate_graphs(bundle, tried, frames, recipe, threads=1, progress=lambda *_: None).graphs
    options = PlanOptions(precision="int8+fp16", builder_optimization_level=0)
    zeros = [build_plan(rtx, graphs[one], options).plan.count(bytes(4096)) * 4096 for one in tried]
    assert zeros[0] > 5 << 20
    assert zeros[1] < 1 << 20


def test_rtx_takes_bytes_of_images_only_behind_a_cast(rtx: Library) -> None:
    with pytest.raises(BuildError, match=r"cannot read the graph.*UInt8"):
        build_plan(rtx, Bundle.open(ROOMS_B0).read(REFERENCE_ONNX), PlanOptions(precision="fp32"))
    assert build_plan(rtx, with_casts_at_the_ends(graph_model()), PlanOptions(precision="fp32")).plan


@pytest.mark.parametrize(
    ("precision", "halved", "found"),
    [
        ("int8", False, "0 Q"),
        ("int8+fp16", True, "0 Q"),
        ("fp16", False, "0 in half precision"),
        ("fp32", True, "[1-9][0-9]* in half precision"),
    ],
)
def test_an_rtx_build_is_refused_where_the_graph_holds_another_precision(
    rtx: Library, precision: str, halved: bool, found: str
) -> None:
    graph = to_half(host_model()) if halved else host_model()
    with pytest.raises(BuildError, match=f"was asked for.*({found})"):
        build_plan(rtx, graph, PlanOptions(precision=precision))  # type: ignore[arg-type]


def test_an_rtx_build_of_integers_is_refused_where_floats_were_asked_for(rtx: Library) -> None:
    recipe, model = load_recipe(TENSORRT_INT8), transformer_block()
    quantized = insert_qdq(
        model, calibrate(model, [make_image(0), make_image(1)], recipe=recipe, threads=1), recipe=recipe, target="tensorrt"
    )
    with pytest.raises(BuildError, match="without Q/DQ pairs"):
        build_plan(rtx, quantized, PlanOptions(precision="fp32"))
    report = build_plan(rtx, quantized, PlanOptions(precision="int8"))
    assert report.network.quantize == facts(quantized).quantize_nodes


def test_every_error_of_the_rtx_parser_is_told(rtx: Library, tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.STRING, [1]) for name in ("a", "b")]
    nodes = [helper.make_node("Identity", ["a"], ["b"], name="of_words")]
    model = helper.make_model(helper.make_graph(nodes, "words", value[:1], value[1:]))
    model.ir_version = 10
    path = tmp_path / "words.onnx"
    onnx.save(model, path)
    with pytest.raises(BuildError, match=r"cannot read the graph, [1-9] errors?: \S"):
        build_plan(rtx, path, PlanOptions(precision="fp32"))


def test_an_rtx_build_that_is_interrupted_stops(rtx: Library) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx, host_model(), PlanOptions(precision="fp32"), progress=interrupt)
    assert build_plan(rtx, host_model(), PlanOptions(precision="fp32")).plan, "the next build works"


def test_options_that_rtx_lacks_are_named(rtx: Library) -> None:
    with pytest.raises(BuildError, match=r"typing=weak is for TensorRT 10.3 only"):
        build_plan(rtx, host_model(), PlanOptions(precision="fp32", typing="weak"))
    portable = PlanOptions(
        precision="fp32",
        version_compatible=True,
        exclude_lean_runtime=True,
        hardware_compatibility_level="ampere+",
        builder_optimization_level=1,
        workspace_mib=64,
        profiling_verbosity="none",
    )
    assert build_plan(rtx, host_model(), portable).plan


def test_an_rtx_build_without_a_gpu_says_what_the_library_said(rtx: Library) -> None:
    with pytest.raises(BuildError, match="It said: ") as caught:
        build_plan(rtx, host_model(), PlanOptions(precision="fp32", version_compatible=True))
    assert "RTX" in str(caught.value)


def test_rtx_keeps_no_timings_and_leaves_the_folder_alone(rtx: Library, tmp_path: Path) -> None:
    assert build_plan(rtx, host_model(), PlanOptions(precision="fp32"), cache_folder=tmp_path / "timings").plan
    assert not (tmp_path / "timings").exists()
