"""Plans of a whole PVT v2-b2 with three heads, really built by TensorRT for RTX, which needs no GPU for that.

Small images and random weights: neither changes what the parser and the builder have to understand. INT8 within float32
and batches take as long again: EDGE_MTL_LONG_TESTS=1 runs them, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from mtl.models import MultiTaskModel, build_model, export

from edge_mtl.backends.tensorrt.api import Library, find_library
from edge_mtl.builder.tensorrt.batch import open_batch
from edge_mtl.builder.tensorrt.builder import build_plan
from edge_mtl.builder.tensorrt.half import to_half
from edge_mtl.builder.tensorrt.images import with_casts_at_the_ends
from edge_mtl.builder.tensorrt.options import PlanOptions, PlanPrecision
from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe
from tests.bundles import make_image
from tests.networks import as_if_trained

pytestmark = pytest.mark.training

pytest.importorskip("tensorrt_rtx", reason='TensorRT for RTX is not installed: pip install "edge-mtl[rtx]"')

HEIGHT, WIDTH = 64, 96
LONG = pytest.mark.skipif(os.environ.get("EDGE_MTL_LONG_TESTS") != "1", reason="EDGE_MTL_LONG_TESTS=1 runs it")


@pytest.fixture(scope="module")
def rtx() -> Library:
    return find_library("tensorrt_rtx")


@pytest.fixture(scope="module")
def b2() -> MultiTaskModel:
    """All sixteen blocks and three heads."""
    torch.manual_seed(0)
    return as_if_trained(build_model("pvt_v2_b2", size=(HEIGHT, WIDTH)))


@pytest.fixture(scope="module")
def deploy(b2: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("b2") / "deploy.onnx"
    export.export_deploy(b2, path, height=HEIGHT, width=WIDTH)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8+fp16", pytest.param("int8", marks=LONG)])
def test_an_rtx_plan_of_a_b2(rtx: Library, deploy: bytes, precision: PlanPrecision) -> None:
    graph = deploy
    if precision.startswith("int8"):
        recipe, frames = load_recipe(TENSORRT_INT8), [make_image(0, height=HEIGHT, width=WIDTH)]
        graph = insert_qdq(graph, calibrate(graph, frames, recipe=recipe, threads=1), recipe=recipe, target="tensorrt")
    graph = to_half(graph) if precision.endswith("fp16") else graph
    report = build_plan(rtx, graph, PlanOptions(precision=precision, builder_optimization_level=0))
    counted = facts(graph)
    assert report.plan[:4] == b"vtrt"
    assert set(report.network.computing) == {"fp16" if precision.endswith("fp16") else "fp32"}
    assert (report.network.quantize, report.network.dequantize) == (counted.quantize_nodes, counted.dequantize_nodes)
    assert (counted.integer_layers > 100) == precision.startswith("int8")


@LONG
def test_an_rtx_plan_of_a_b2_takes_batches(rtx: Library, b2: MultiTaskModel, tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    export.export_plain(b2, path, height=HEIGHT, width=WIDTH)
    shapes = [{"image": (batch, HEIGHT, WIDTH, 3)} for batch in (1, 2, 4)]
    options = PlanOptions(
        precision="fp16", builder_optimization_level=0, min_shapes=shapes[0], opt_shapes=shapes[1], max_shapes=shapes[2]
    )
    graph = open_batch(to_half(with_casts_at_the_ends(path.read_bytes())))
    assert build_plan(rtx, graph, options).plan[:4] == b"vtrt"
