"""Every row of the study is a configuration: the right network, weight for weight, trained by the study's protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mtl.config import ConfigError, load_config, parse_config
from mtl.models import IMAGENET_MEAN, MultiTaskModel, build_model, model_from
from mtl.settings import RunSettings
from mtl.tasks import HeadOptions

from edge_mtl.errors import BuildError

pytestmark = pytest.mark.training

FOLDER = Path(__file__).parents[4] / "train" / "configs" / "study"

PARAMETERS = {
    "pvt_v2_b2": 39_020_753,
    "pvt_v2_b2-scratch": 39_020_753,
    "resnet50": 71_888_721,
    "resnet50-scratch": 71_888_721,
    "swin_base": 112_450_697,
    "swin_base-scratch": 112_450_697,
    "segmentation": 29_575_373,
    "depth": 29_572_289,
    "normals": 29_572_803,
    "segmentation-depth": 34_297_806,
    "segmentation-normals": 34_298_320,
    "depth-normals": 34_295_236,
}


def row(which: str, **overrides: str) -> RunSettings:
    return load_config(FOLDER / f"{which}.toml", overrides)


def without_weights(settings: RunSettings) -> MultiTaskModel:
    """The model on the meta device: names and shapes only."""
    with torch.device("meta"):
        return model_from(settings, pretrained=False)


def count(model: MultiTaskModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_row_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_row_has_exactly_the_studys_parameters(name: str) -> None:
    model = without_weights(row(name))
    assert count(model) == PARAMETERS[name]
    assert model.stride == 1
    if name.startswith("resnet"):
        assert model.backbone.strides == (4, 8, 8, 8)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_row_is_trained_by_the_studys_protocol(name: str) -> None:
    settings = row(name)
    stage, optimizer, losses = settings.stages[0], settings.optimizer, settings.losses
    assert len(settings.stages) == 1
    assert (stage.height, stage.width, stage.batch, stage.epochs, stage.steps) == (288, 384, 8, 200, 200 * (795 // 8))
    assert (settings.data.kind, settings.data.canonical, settings.augment.mode) == ("nyuv2", False, "none")
    assert (optimizer.name, optimizer.schedule, optimizer.lr, optimizer.weight_decay) == ("adam", "constant", 1e-4, 1e-5)
    assert (optimizer.betas, optimizer.warmup, optimizer.clip, settings.ema.decay) == ((0.9, 0.999), 0.0, 0.0, 0.0)
    assert losses.weighting == "fixed"
    assert [losses.weight_of(task) for task in ("segmentation", "depth", "normals")] == [1.0, 1.0, 1.0]
    assert (losses.depth_kind, losses.normal_kind, losses.supervision) == ("l1", "dot", "full")
    assert (losses.class_weights, losses.label_smoothing) == (False, 0.0)
    assert (settings.model.normalisation, settings.model.depth_output, settings.loop.precision) == ("none", "linear", "fp32")
    assert settings.name == f"study-{name}"
    assert bool(settings.model.pretrained) is not name.endswith("-scratch")


@pytest.mark.parametrize("one", ["pvt_v2_b2", "resnet50", "swin_base"])
def test_a_row_without_pretraining_differs_in_nothing_else(one: str) -> None:
    scratch = {"name": f"study-{one}-scratch", "model.pretrained": ""}
    assert row(one, **scratch) == row(f"{one}-scratch")


def test_the_folded_decoder_has_only_weights_that_learn_at_the_studys_size() -> None:
    whole = without_weights(row("pvt_v2_b2"))
    folded = without_weights(row("pvt_v2_b2", **{"model.decoder": "aspp_folded"}))
    assert count(whole) - count(folded) == 3 * 3 * 8 * 512 * 256  # tasks x rates x taps x inputs x outputs
    kernels = {tuple(dilated[0].kernel_size) for head in folded.decoder.heads.values() for dilated in head.dilated}
    assert kernels == {(1, 1)}


@pytest.mark.parametrize(("largest", "kernels"), [((9, 12), (1, 1, 1)), ((13, 30), (3, 3, 1))])
def test_folded_it_is_the_same_function(largest: tuple[int, int], kernels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    size = (largest[0] * 32, largest[1] * 32)
    models = [build_model("test_resnet", tasks=("depth",), decoder=name, size=size).eval() for name in ("aspp", "aspp_folded")]
    heads = [model.decoder.heads["depth"] for model in models]
    assert tuple(dilated[0].kernel_size[1] for dilated in heads[1].dilated) == kernels
    weights = heads[0].state_dict()
    for name, value in heads[1].state_dict().items():
        while weights[name].shape[2:] != value.shape[2:]:  # the middle rows and columns of the kernel
            axis = 2 if weights[name].shape[2] != value.shape[2] else 3
            weights[name] = weights[name].narrow(axis, 1, 1)
    heads[1].load_state_dict(weights)
    x = torch.randn(2, heads[0].point[0].in_channels, *largest)
    with torch.inference_mode():
        torch.testing.assert_close(heads[1](x), heads[0](x), atol=1e-6, rtol=1e-5)
    heads[1].train()(x).mean().backward()
    assert all(parameter.grad is not None for parameter in heads[1].parameters())


def test_the_whole_decoder_has_weights_that_get_no_gradient_at_the_studys_size() -> None:
    head = build_model("test_resnet", tasks=("depth",), decoder="aspp").decoder.heads["depth"]
    head(torch.randn(2, head.point[0].in_channels, 9, 12)).mean().backward()
    for dilated in head.dilated:
        gradient = dilated[0].weight.grad
        assert gradient[:, :, 1, 1].abs().max() > 0
        gradient[:, :, 1, 1] = 0
        assert gradient.abs().max() == 0


def test_folded_for_one_size_it_is_refused_at_a_larger_one() -> None:
    model = build_model("test_resnet", tasks=("depth",), decoder="aspp_folded", size=(64, 96)).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 32, 64))["depth"].shape == (1, 1, 32, 64)
        with pytest.raises(BuildError, match=r'cut for maps up to 2x3: found 2x4. .* or use "aspp"'):
            model(torch.rand(1, 3, 64, 128))


def test_linear_depth_is_free_in_training_and_metres_above_zero_afterwards() -> None:
    torch.manual_seed(0)
    model = build_model("test_resnet", tasks=("depth",), decoder="aspp", options=HeadOptions(depth_output="linear"))
    assert 1.5 < float(model(torch.rand(2, 3, 64, 96))["depth"].detach().mean()) < 3.5
    with torch.no_grad():
        model.decoder.heads["depth"].output.bias.fill_(-1.0)
    assert float(model(torch.rand(2, 3, 64, 96))["depth"].detach().min()) < 0
    assert float(model.eval()(torch.rand(1, 3, 64, 96))["depth"].detach().min()) >= 0.05 - 1e-6


def test_settings_choose_the_normalisation() -> None:
    settings = row("pvt_v2_b2", **{"model.normalisation": "imagenet"})
    assert without_weights(settings).mean == IMAGENET_MEAN
    assert without_weights(row("pvt_v2_b2")).mean == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"losses.depth_kind": "log_l1"}, 'model.depth_output "linear" may be below 0'),
        ({"model.shared_stages": "4"}, "model.shared_stages should be 1 to 3, found 4"),
        ({"model.output_stride": "4"}, "model.output_stride should be 0, 8 or 16"),
        ({"model.sharing": "half"}, "model.sharing should be one of full, partial, separate"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_they_are_read(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        row("pvt_v2_b2", **overrides)


def test_linear_depth_is_only_about_depth() -> None:
    parse_config({"model": {"depth_output": "linear", "tasks": ["normals"]}})


def test_weights_that_cannot_be_downloaded_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise RuntimeError("no weights") from ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr("mtl.models.backbone.timm.create_model", offline)
    with pytest.raises(BuildError, match=r"pvt_v2_b2 could not be downloaded .*--model.pretrained FILE"):
        model_from(row("pvt_v2_b2"))
