"""The trainable model: exact sizes, outputs, any subset of tasks, gradients, errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mtl.models import EdgeOptions, MultiTaskModel, build_model
from mtl.models.torchvision_ops import make_timm_importable

from edge_mtl.errors import BuildError

make_timm_importable()

import timm  # noqa: E402

pytestmark = pytest.mark.training

HEIGHT, WIDTH = 64, 96


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(scope="module")
def model() -> MultiTaskModel:
    torch.manual_seed(0)
    return build_model("pvt_v2_b0")


@pytest.mark.parametrize(
    ("tasks", "count"),
    [
        (("segmentation", "depth", "normals"), 39_020_753),
        (("segmentation",), 29_575_373),
        (("depth",), 29_572_289),
        (("normals",), 29_572_803),
        (("segmentation", "depth"), 34_297_806),
        (("segmentation", "normals"), 34_298_320),
        (("depth", "normals"), 34_295_236),
    ],
)
def test_the_aspp_model_has_the_parameter_count_of_the_study(tasks: tuple[str, ...], count: int) -> None:
    with torch.device("meta"):
        assert parameters(build_model("pvt_v2_b2", tasks=tasks, decoder="aspp")) == count


def test_the_dilated_resnet_has_the_parameter_count_of_the_study() -> None:
    with torch.device("meta"):
        resnet = build_model("resnet50", decoder="aspp", output_stride=8)
    assert parameters(resnet) == 71_888_721
    assert resnet.backbone.strides == (4, 8, 8, 8)


def test_the_edge_model_is_small(model: MultiTaskModel) -> None:
    assert parameters(model) == 3_500_657
    assert parameters(model.decoder) == 90_897


def test_a_fresh_model_answers_plausibly(model: MultiTaskModel) -> None:
    with torch.inference_mode():
        maps = model.eval()(torch.rand(2, 3, HEIGHT, WIDTH))
    assert {task: tuple(value.shape) for task, value in maps.items()} == {
        "segmentation": (2, 13, HEIGHT // 4, WIDTH // 4),
        "depth": (2, 1, HEIGHT // 4, WIDTH // 4),
        "normals": (2, 3, HEIGHT // 4, WIDTH // 4),
    }
    assert model.stride == 4
    assert 2.0 < maps["depth"].mean() < 3.0
    assert maps["depth"].min() > 0
    assert (maps["normals"][:, 2] < 0).all()  # facing the camera


@pytest.mark.parametrize("decoder", ["edge", "aspp"])
def test_upsampling_gives_maps_of_the_images_size(decoder: str) -> None:
    model = build_model("pvt_v2_b0", tasks=("depth",), decoder=decoder).eval()  # type: ignore[arg-type]
    image = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        assert model(image, upsample=True)["depth"].shape == (1, 1, HEIGHT, WIDTH)
        assert model(image)["depth"].shape == (1, 1, HEIGHT // model.stride, WIDTH // model.stride)
        assert model.quarter_maps(image)["depth"].shape == (1, 1, HEIGHT // 4, WIDTH // 4)


def test_tasks_are_given_in_one_order_however_they_are_asked_for() -> None:
    model = build_model("pvt_v2_b0", tasks=("normals", "segmentation"))
    assert model.tasks == ("segmentation", "normals")
    with torch.inference_mode():
        assert list(model.eval()(torch.rand(1, 3, HEIGHT, WIDTH))) == ["segmentation", "normals"]


def test_one_task_has_nobody_to_talk_to() -> None:
    talking = EdgeOptions(exchange=True)
    assert build_model("pvt_v2_b0", tasks=("depth",), edge=talking).decoder.exchange is None
    assert build_model("pvt_v2_b0").decoder.exchange is None
    assert build_model("pvt_v2_b0", edge=talking).decoder.exchange is not None


def test_gradients_reach_every_parameter_under_bfloat16_and_outputs_stay_float32(model: MultiTaskModel) -> None:
    model.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        maps = model(torch.rand(2, 3, HEIGHT, WIDTH))
    assert {value.dtype for value in maps.values()} == {torch.float32}
    sum(value.square().mean() for value in maps.values()).backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []


def test_depth_never_leaves_its_range_however_wrong_the_weights(model: MultiTaskModel) -> None:
    bias = model.decoder.branches["depth"].output.bias
    before = bias.detach().clone()
    with torch.inference_mode():
        for extreme in (-1e4, 1e4):
            bias.fill_(extreme)
            depth = model.eval()(torch.rand(1, 3, HEIGHT, WIDTH))["depth"]
            assert torch.isfinite(depth).all()
            assert (depth > 0).all()
        bias.copy_(before)


def test_another_backbone_with_four_stages_trains_too() -> None:
    model = build_model("resnet18", tasks=("depth",)).eval()
    with torch.inference_mode():
        assert math.isfinite(model(torch.rand(1, 3, HEIGHT, WIDTH))["depth"].mean())


def test_local_weights_are_the_ones_loaded(tmp_path: Path) -> None:
    torch.manual_seed(7)
    source = timm.create_model("pvt_v2_b0")
    file = tmp_path / "pvt_v2_b0.pth"
    torch.save(source.state_dict(), file)
    loaded = build_model("pvt_v2_b0", tasks=("depth",), pretrained=file).backbone.net
    assert torch.equal(loaded.patch_embed.proj.weight, source.patch_embed.proj.weight)
    assert torch.equal(loaded.stages_3.blocks[1].mlp.fc2.weight, source.stages[3].blocks[1].mlp.fc2.weight)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"patch_embed.proj.weight": torch.zeros(1, 2, 3)}, file)
    with pytest.raises(BuildError, match=r"pvt_v2_b0 could not be made with .*other\.pth"):
        build_model("pvt_v2_b0", pretrained=file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "pvt_v9"}, "unknown backbone 'pvt_v9'"),
        ({"tasks": ()}, "expected some of segmentation, depth, normals"),
        ({"tasks": ("depth", "depth")}, "at most once"),
        ({"tasks": ("edges",)}, "edges"),
        ({"decoder": "unet"}, "unknown decoder 'unet'"),
        ({"pretrained": Path("/nowhere/weights.pth")}, "no pretrained weights at /nowhere"),
        ({"backbone": "resnet18", "output_stride": 8}, "needs \\(8, 16, 32\\)"),
    ],
)
def test_a_wrong_choice_says_what_was_expected(arguments: dict, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        build_model(**{"backbone": "pvt_v2_b0", **arguments})


def test_a_size_that_is_no_multiple_of_32_is_refused(model: MultiTaskModel) -> None:
    with pytest.raises(BuildError, match="70 x 96: expected multiples of 32"):
        model(torch.rand(1, 3, 70, 96))


def test_the_missing_operators_are_defined_at_most_once() -> None:
    assert make_timm_importable() is False  # importing mtl.models has done it where it was needed
