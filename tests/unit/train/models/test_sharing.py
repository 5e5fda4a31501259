"""How much of the backbone tasks share: what is whose, the same maps by every way, as many weights as there should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mtl.checkpoint import load_weights
from mtl.config import parse_config
from mtl.models import EdgeOptions, MultiTaskModel, build_model
from mtl.models.configured import model_from
from mtl.models.deploy import deploy, relative_error
from mtl.models.export import export_deploy
from mtl.tasks.head import HeadOptions

from edge_mtl.bundle import find
from edge_mtl.documents import parse_toml
from edge_mtl.errors import BuildError
from tests.networks import as_if_trained

pytestmark = pytest.mark.training

HEIGHT, WIDTH = 64, 96
DEMO = find("rooms-b0").path
TASKS = ("segmentation", "depth", "normals")
SHARINGS = [("full", 2), ("partial", 1), ("partial", 3), ("separate", 2)]


def build(sharing: str, stages: int = 2, *, decoder: str = "edge", edge: EdgeOptions | None = None) -> MultiTaskModel:
    """A model whose stages have one block each, in evaluation, with weights that a wrong rewrite would show."""
    torch.manual_seed(0)
    model = build_model(
        "pvt_v2_b0",
        width=16,
        tasks=("depth", "normals"),
        decoder=decoder,
        edge=edge,
        sharing=sharing,
        shared_stages=stages,
    )
    for name, layer in model.named_modules():
        if name.split(".")[-1].startswith("stages_"):
            del layer.blocks[1:]
    return as_if_trained(model)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make_image() -> torch.Tensor:
    return torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("decoder", ["edge", "aspp"])
@pytest.mark.parametrize(("sharing", "stages"), SHARINGS)
def test_the_task_parts_continue_from_the_shared_features(sharing: str, stages: int, decoder: str) -> None:
    model = build(sharing, stages, decoder=decoder)
    image = make_image()
    with torch.inference_mode():
        features = model.features(image)
        found, expected = model.from_features(features, (HEIGHT, WIDTH), image=image), model(image)
    for task in expected:
        torch.testing.assert_close(found[task], expected[task], rtol=0, atol=0)
    own = max(1, stages - 1)  # the edge decoder does not read the first stage
    shared = {("full", "edge"): 3, ("full", "aspp"): 1, ("partial", "edge"): own, ("partial", "aspp"): 1}
    assert len(features) == shared.get((sharing, decoder), 0)
    if sharing == "partial":
        assert features[-1].shape[2] == HEIGHT // (4, 8, 16)[stages - 1]


@pytest.mark.parametrize(("sharing", "stages"), SHARINGS)
def test_a_task_moves_the_shared_weights_and_its_own_but_not_those_of_another(sharing: str, stages: int) -> None:
    model = build(sharing, stages, decoder="aspp")
    model(make_image())["depth"].mean().backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert not [name for name in moved if "normals" in name]
    assert [name for name in moved if "depth" in name]
    assert bool([name for name in moved if name.startswith("backbone.")]) is (sharing != "separate")
    assert {name for name in moved if name.startswith("backbone.")} == {
        name for name, _ in model.named_parameters() if name.startswith("backbone.")
    }


def test_separate_backbones_weigh_as_much_as_the_single_task_models() -> None:
    with torch.device("meta"):
        for decoder in ("edge", "aspp"):
            alone = [build_model("test_resnet", tasks=(task,), decoder=decoder) for task in TASKS]
            together = build_model("test_resnet", decoder=decoder, sharing="separate")
            assert parameters(together) == sum(parameters(model) for model in alone)
            for task, model in zip(TASKS, alone, strict=True):
                part = together.decoder.parts[task].state_dict()
                assert {name: value.shape for name, value in part.items()} == {
                    name: value.shape for name, value in model.state_dict().items()
                }


def test_the_more_stages_are_shared_the_fewer_weights_there_are() -> None:
    def count(sharing: str, stages: int) -> int:
        return parameters(build_model("test_resnet", decoder="aspp", sharing=sharing, shared_stages=stages))

    with torch.device("meta"):
        counts = [count("separate", 0), count("partial", 1), count("partial", 2), count("partial", 3), count("full", 4)]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts)


def test_every_task_starts_its_own_stages_from_weights_of_its_own() -> None:
    model = build_model("pvt_v2_b0", tasks=("depth", "normals"), decoder="aspp", sharing="partial", shared_stages=3)
    depth, normals = (model.decoder.parts[task].backbone.net.stages_3.downsample.proj.weight for task in ("depth", "normals"))
    assert depth.data_ptr() != normals.data_ptr()
    assert not torch.equal(depth, normals)


@pytest.mark.parametrize("decoder", ["edge", "aspp"])
@pytest.mark.parametrize(("sharing", "stages"), SHARINGS[1:])
def test_the_rewrite_gives_the_same_maps(sharing: str, stages: int, decoder: str) -> None:
    model = build(sharing, stages, decoder=decoder)
    rewritten = deploy(model, height=HEIGHT, width=WIDTH)
    image = make_image() * 255.0
    with torch.inference_mode():
        expected, found = model.quarter_maps(model.normalise(image)), rewritten(image)
    assert list(found) == list(expected)
    assert max(relative_error(found[task], expected[task]) for task in expected) <= 1e-5


def test_a_partly_shared_model_with_a_decoder_for_ablations_is_exported_for_speed(tmp_path: Path) -> None:
    model = build("partial", 3, edge=EdgeOptions(rays=True))
    export_deploy(model, tmp_path / "deploy.onnx", height=HEIGHT, width=WIDTH)
    assert (tmp_path / "deploy.onnx").is_file()  # the export has compared ONNX Runtime with torch


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_other_backbones_made_of_a_row_of_layers_can_be_cut_too(backbone: str) -> None:
    torch.manual_seed(0)
    model = build_model(backbone, width=16, tasks=("depth", "normals"), sharing="partial").eval()
    whole = build_model(backbone, width=16, tasks=("depth",)).eval()
    weights = {name: value for name, value in model.state_dict().items() if name.startswith("backbone.")}
    weights |= {
        name.removeprefix("decoder.parts.depth."): value
        for name, value in model.state_dict().items()
        if name.startswith("decoder.parts.depth.")
    }
    whole.load_state_dict(weights)
    with torch.inference_mode():
        torch.testing.assert_close(model(make_image())["depth"], whole(make_image())["depth"])


def test_a_backbone_with_channels_last_can_be_cut_too() -> None:
    swin = "swin_tiny_patch4_window7_224"
    with torch.device("meta"):
        partial = build_model(swin, tasks=("depth", "normals"), decoder="aspp", sharing="partial", shared_stages=1).eval()
        (shared,) = partial.features(torch.rand(1, 3, HEIGHT, WIDTH))
        own = partial.decoder.parts["normals"].backbone(shared)
    assert shared.shape == (1, 96, HEIGHT // 4, WIDTH // 4)
    assert [tuple(x.shape[1:]) for x in own] == [(192, 8, 12), (384, 4, 6), (768, 2, 3)]


def test_a_single_task_shares_everything_with_itself() -> None:
    with torch.device("meta"):
        names = [
            set(build_model("pvt_v2_b0", tasks=("depth",), sharing=sharing).state_dict()) for sharing in ("full", "separate")
        ]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"backbone": "test_efficientnet", "sharing": "partial"},
            'test_efficientnet cannot be told apart.*"full" or "separate"',
        ),
        ({"sharing": "half"}, "unknown sharing 'half': expected one of full, partial, separate"),
        ({"sharing": "partial", "shared_stages": 4}, "4 shared stages: expected 1 to 3"),
    ],
)
def test_a_sharing_that_cannot_be_is_refused(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises(BuildError, match=message):
        build_model(**{"backbone": "pvt_v2_b0", "decoder": "aspp", **arguments})


def test_a_depth_output_that_cannot_be_is_refused() -> None:
    with pytest.raises(BuildError, match="unknown depth output 'inverse'"):
        HeadOptions("inverse")  # type: ignore[arg-type]


def test_without_shared_features_the_task_parts_ask_for_the_image() -> None:
    model = build("separate", decoder="aspp")
    assert model.features(make_image()) == ()
    with pytest.raises(BuildError, match="from_features needs the image"):
        model.from_features((), (HEIGHT, WIDTH))


@pytest.mark.parametrize("sharing", ["full", "partial", "separate"])
def test_every_backbone_begins_with_that_of_a_bundle(sharing: str) -> None:
    """The bundle shares one backbone; however little is shared here, all of them are it."""
    text = f'model = {{ backbone = "pvt_v2_b0", width = 32, sharing = "{sharing}", pretrained = "{DEMO}" }}'
    model = model_from(parse_config(parse_toml(text)))
    weights, _ = load_weights(DEMO)
    own = {name: value for name, value in model.state_dict().items() if ".net." in name}
    names = [name[name.index("backbone.net.") :] for name in own]
    assert set(names) == {name for name in weights if name.startswith("backbone.net.")}
    assert all(torch.equal(own[name], weights[key]) for name, key in zip(own, names, strict=True))


def test_a_bundle_of_another_backbone_is_refused() -> None:
    text = f'model = {{ backbone = "pvt_v2_b1", width = 32, pretrained = "{DEMO}" }}'
    with pytest.raises(BuildError, match=r"not of pvt_v2_b1: .* should be"):
        model_from(parse_config(parse_toml(text)))
