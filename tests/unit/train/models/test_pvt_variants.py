"""Cheaper variants of PVT v2 b0: made by name like any model of timm, with what their name says."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from mtl.models import MultiTaskModel, build_model, export
from mtl.models.backbone import build_backbone
from mtl.models.box_network import BoxNetwork
from mtl.models.deploy import DeployModel, deploy, relative_error
from mtl.models.deploy_pvt_bn import DeployBatchNormPvt
from mtl.models.edge import EdgeOptions
from mtl.models.fold import as_point_conv
from mtl.models.pvt_variants import PVT_VARIANTS, TokenBatchNorm
from torch import nn

from edge_mtl.errors import BuildError

pytestmark = pytest.mark.training


def trained(name: str) -> MultiTaskModel:
    """With statistics of real inputs in its norms: with any others so deep a network amplifies rounding without end."""
    torch.manual_seed(0)
    model = build_model(name, tasks=("depth", "normals"), width=16, std=(0.2, 0.3, 0.25)).train()
    for layer_name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.3)
        if layer_name.endswith("output"):
            nn.init.normal_(layer.weight, std=0.3)
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 96))
    return model.eval()


def worst_error(model: MultiTaskModel, rewritten: DeployModel) -> float:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3)) * 255.0
    with torch.inference_mode():
        expected, found = model.quarter_maps(model.normalise(image)), rewritten(image)
    return max(relative_error(found[task], expected[task]) for task in expected)


@pytest.mark.parametrize("name", [name for name in PVT_VARIANTS if "bn" in name])
def test_the_rewrite_with_batch_norm_gives_the_same_maps(name: str) -> None:
    model = trained(name)
    rewritten = deploy(model, height=64, width=96)
    assert worst_error(model, rewritten) <= 5e-5
    rewritten.backbone.blocks[0][0].attention.project.bias += 1.0  # positive control: where the values' bias went
    assert worst_error(model, rewritten) > 5e-4


def node_types(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


PARAMETERS = {
    "pvt_v2_b0_bn": 3_500_657,
    "pvt_v2_b0_li": 3_227_761,
    "pvt_v2_b0_s8": 3_409_265,
    "pvt_v2_b0_bn_s8": 3_409_265,
    "pvt_v2_b0_bn_relu": 3_500_657,
}


@pytest.mark.parametrize("name", PVT_VARIANTS)
def test_a_variant_has_as_many_parameters_as_it_should(name: str) -> None:
    assert sum(value.numel() for value in build_model(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["pvt_v2_b0_bn", "pvt_v2_b0_bn_s8", "pvt_v2_b0_bn_relu"])
def test_both_graphs_of_batch_norm_answer_alike_and_hold_allowed_operators_only(name: str, tmp_path: Path) -> None:
    model = trained(name)
    export.export_plain(model, tmp_path / "plain.onnx", height=64, width=96)
    export.export_deploy(model, tmp_path / "deploy.onnx", height=64, width=96)
    assert node_types(tmp_path / "deploy.onnx").isdisjoint({"LayerNormalization", "BatchNormalization", "Gemm"})


@pytest.mark.parametrize("name", PVT_VARIANTS)
def test_a_variant_has_what_its_name_says(name: str) -> None:
    backbone = build_backbone(name)
    parts = name.removeprefix("pvt_v2_b0_").split("_")
    modules = list(backbone.modules())
    assert any(isinstance(one, TokenBatchNorm) for one in modules) == ("bn" in parts)
    assert any(isinstance(one, nn.LayerNorm) for one in modules) == ("bn" not in parts)
    assert any(isinstance(one, nn.AdaptiveAvgPool2d) for one in modules) == ("li" in parts)
    assert any(isinstance(one, nn.GELU) for one in modules) == ("relu" not in parts)
    assert backbone.strides == ((8, 8, 16, 32) if "s8" in parts else (4, 8, 16, 32))
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(one.shape[2:]) for one in maps] == [(64 // stride, 96 // stride) for stride in backbone.strides]
    assert [one.shape[1] for one in maps] == [32, 64, 160, 256]


def test_the_norm_of_tokens_is_that_of_their_channels() -> None:
    norm, whole = TokenBatchNorm(5), nn.BatchNorm2d(5)
    maps = torch.randn(3, 5, 4, 6)
    found, expected = norm(maps.permute(0, 2, 3, 1)), whole(maps)
    assert torch.allclose(found.permute(0, 3, 1, 2), expected, atol=1e-6)
    assert torch.allclose(norm.running_mean, whole.running_mean)


def test_with_batch_norm_nothing_but_the_ends_of_stages_is_left_of_it() -> None:
    rewritten = deploy(build_model("pvt_v2_b0_bn", tasks=("depth",)), height=64, width=96)
    assert isinstance(rewritten.backbone, DeployBatchNormPvt)
    kinds = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.Linear)
    assert not any(isinstance(one, kinds) for one in rewritten.modules())
    assert len(rewritten.backbone.norms) == 4


def test_the_coarse_stem_cannot_feed_a_decoder_that_reads_stride_4() -> None:
    build_model("pvt_v2_b0_s8", tasks=("depth",))
    with pytest.raises(BuildError, match=r"strides \(8, 8, 16, 32\): the edge decoder needs \(4, 8, 16, 32\)"):
        build_model("pvt_v2_b0_s8", tasks=("depth",), edge=EdgeOptions(fine=True))


def test_boxes_read_the_deepest_of_two_stages_of_one_stride() -> None:
    network = BoxNetwork("objects", (32, 64, 160, 256), (8, 8, 16, 32), levels=(8, 16, 32), classes=3)
    assert tuple(network.reads) == (1, 2, 3)


def test_a_linear_layer_without_bias_is_a_convolution_without_one() -> None:
    linear = nn.Linear(3, 4, bias=False)
    conv = as_point_conv(linear)
    x = torch.randn(1, 3, 2, 5)
    assert conv.bias is None
    assert torch.allclose(conv(x).permute(0, 2, 3, 1), linear(x.permute(0, 2, 3, 1)), atol=1e-6)
