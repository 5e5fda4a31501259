"""The rewrite for speed: the same numbers as the trained model, which is left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from mtl.models import MultiTaskModel, build_model
from mtl.models.aspp import resample
from mtl.models.deploy import DeployModel, deploy, relative_error
from mtl.models.deploy_decoder import without_dead_taps
from mtl.models.fold import fold_norm, scale_input
from mtl.models.model import finish_maps
from mtl.models.pooling import adaptive_pooling_matrix
from torch import nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS
from tests.networks import as_if_trained, small_model

pytestmark = pytest.mark.training

TASK_NAMES = tuple(NYU_TASKS)

HEIGHT, WIDTH = 64, 96


def worst_error(model: MultiTaskModel, rewritten: DeployModel, height: int = HEIGHT, width: int = WIDTH) -> float:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3)) * 255.0
    with torch.inference_mode():
        expected, found = model.quarter_maps(model.normalise(image)), rewritten(image)
    assert list(found) == list(expected)
    return max(relative_error(found[task], expected[task]) for task in expected)


@pytest.mark.parametrize("decoder", ["edge", "aspp"])
@pytest.mark.parametrize("tasks", [TASK_NAMES, ("depth",), ("segmentation", "normals")])
def test_the_rewrite_gives_the_same_maps(decoder: str, tasks: tuple[str, ...]) -> None:
    model = as_if_trained(build_model("pvt_v2_b0", decoder=decoder, tasks=tasks))  # type: ignore[arg-type]
    assert worst_error(model, deploy(model, height=HEIGHT, width=WIDTH)) <= 1e-5


@pytest.mark.parametrize("backbone", ["pvt_v2_b2", "pvt_v2_b2_li", "resnet18", "pvt_v2_b0_li", "pvt_v2_b0_s8"])
def test_the_rewrite_gives_the_same_maps_on_other_backbones(backbone: str) -> None:
    model = as_if_trained(build_model(backbone, tasks=("depth", "normals"), std=(0.2, 0.3, 0.25)))
    assert worst_error(model, deploy(model, height=HEIGHT, width=WIDTH)) <= 1e-5


def test_a_mean_is_subtracted_before_the_padding() -> None:
    model = small_model(mean=(0.45, 0.55, 0.35))
    rewritten = deploy(model, height=HEIGHT, width=WIDTH)
    assert worst_error(model, rewritten) <= 1e-5
    rewritten.normalise.mean = None  # positive control
    assert worst_error(model, rewritten) > 1e-2


def test_the_trained_model_is_left_as_it_was() -> None:
    model = small_model().train()
    before = copy.deepcopy(model.state_dict())
    deploy(model, height=HEIGHT, width=WIDTH)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert before.keys() == model.state_dict().keys()


def test_no_batch_norm_is_left() -> None:
    rewritten = deploy(small_model(), height=HEIGHT, width=WIDTH)
    assert not [layer for layer in rewritten.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_weights_that_are_not_finite_are_refused() -> None:
    model = small_model(tasks=("depth",))
    with torch.no_grad():
        model.decoder.context.weight[0] = float("nan")
    with pytest.raises(BuildError, match="is off by nan"):
        deploy(model, height=HEIGHT, width=WIDTH)


def test_a_rewrite_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.models.deploy.input_scale", lambda std: [0.5 / 255.0] * 3)
    with pytest.raises(BuildError, match=r"is off by \d\.\de-\d\d: expected <= 1e-05"):
        deploy(small_model(tasks=("depth",)), height=HEIGHT, width=WIDTH)


def off_by(factor: float) -> Callable[..., dict[str, torch.Tensor]]:
    """`finish_maps` of a rewrite whose maps are all so many times too large."""
    return lambda *given, **options: {task: factor * value for task, value in finish_maps(*given, **options).items()}


def test_a_difference_is_judged_by_what_rounding_does_to_the_trained_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.models.deploy.TOLERANCE", 0.0)
    deploy(small_model(), height=HEIGHT, width=WIDTH)  # only float64 can say that this is near enough
    monkeypatch.setattr("mtl.models.deploy.finish_maps", off_by(1.0001))
    with pytest.raises(BuildError, match=r"is off by 1\.0e-04: expected <= \de-0[67]"):
        deploy(small_model(), height=HEIGHT, width=WIDTH)


def test_rounding_never_excuses_a_large_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.models.deploy.ROUNDING_FACTOR", 1e9)
    monkeypatch.setattr("mtl.models.deploy.finish_maps", off_by(1.01))
    with pytest.raises(BuildError, match=r"is off by 1\.0e-02: expected <= 1e-03"):
        deploy(small_model(tasks=("depth",)), height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize(("height", "width", "kernel"), [(9, 12, (1, 1)), (12, 13, (1, 3)), (13, 12, (3, 1)), (15, 20, (3, 3))])
def test_taps_are_cut_exactly_when_they_can_only_read_padding(height: int, width: int, kernel: tuple[int, int]) -> None:
    conv = nn.Conv2d(4, 6, 3, padding=12, dilation=12).requires_grad_(False)
    cut = without_dead_taps(conv, height, width)
    assert cut.kernel_size == kernel
    x = torch.randn(1, 4, height, width)
    torch.testing.assert_close(cut(x), conv(x))


def test_the_study_model_loses_its_dead_weights_at_288x384_only_where_they_are_dead() -> None:
    with torch.device("meta"):
        model = build_model("pvt_v2_b2", decoder="aspp").eval()
        small = DeployModel(copy.deepcopy(model), 288, 384)
        large = DeployModel(copy.deepcopy(model), 480, 640)
    before = sum(parameter.numel() for parameter in model.parameters())
    dead = 3 * 512 * 256 * 8  # a head's rates x inputs x outputs x taps
    lost_small = before - sum(parameter.numel() for parameter in small.parameters())
    lost_large = before - sum(parameter.numel() for parameter in large.parameters())
    assert 0 <= lost_small - 3 * dead < 50_000  # besides them only batch norm and biases
    assert 0 <= lost_large - 2 * dead < 50_000  # at 15x20 the taps of rate 12 reach the map


def test_adaptive_pooling_as_a_product() -> None:
    x = torch.randn(2, 3, 16, 23)
    rows, columns = adaptive_pooling_matrix(16, 7), adaptive_pooling_matrix(23, 7)
    torch.testing.assert_close(rows @ x @ columns.T, F.adaptive_avg_pool2d(x, 7))


def test_folding_into_a_convolution() -> None:
    conv, norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    norm.eval()
    x = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(fold_norm(conv, norm)(x), norm(conv(x)), atol=1e-5, rtol=1e-5)
    scaled = x * torch.tensor([2.0, 3.0, 4.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(scale_input(conv, [2.0, 3.0, 4.0])(x), conv(scaled), atol=1e-5, rtol=1e-5)


def test_quarter_maps_of_the_aspp_lie_where_the_full_map_puts_them() -> None:
    ramp = torch.linspace(0, 1, 12).expand(1, 1, 9, 12)
    full = resample(ramp, size=(288, 384), stride=1)
    quarter = resample(ramp, size=(288, 384), stride=4)
    again = F.interpolate(quarter, scale_factor=4.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(again[..., 2:-2], full[..., 2:-2], atol=1e-5, rtol=0)
