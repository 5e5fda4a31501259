"""The switches of the edge decoder: each changes what it should, trains, and is rewritten like the whole one."""

from __future__ import annotations

import pytest
import torch
from mtl.models import EdgeOptions, MultiTaskModel
from mtl.models.deploy import deploy, relative_error
from mtl.models.edge import EdgeDecoder

from edge_mtl.errors import BuildError
from tests.networks import as_if_trained, small_model

pytestmark = pytest.mark.training

HEIGHT, WIDTH = 64, 96
CHANNELS = (8, 16, 24, 32)

WHOLE = {"exchange": True, "top_down": True, "fine": True, "slim": False}
VARIANTS = {
    "default": EdgeOptions(),
    "default, fine": EdgeOptions(fine=True),
    "whole": EdgeOptions(**WHOLE),
    "exchange": EdgeOptions(**{**WHOLE, "exchange": False}),
    "gated": EdgeOptions(**WHOLE, gated=False),
    "context": EdgeOptions(**WHOLE, context=False),
    "top_down": EdgeOptions(**{**WHOLE, "top_down": False}),
    "fine": EdgeOptions(**{**WHOLE, "fine": False}),
    "last_stage_only": EdgeOptions(**WHOLE, last_stage_only=True),
    "rays": EdgeOptions(**WHOLE, rays=True),
    "slim": EdgeOptions(**{**WHOLE, "slim": True}),
    "flat": EdgeOptions(context=False, rays=True, slim=False),
    "deep": EdgeOptions(**{**WHOLE, "slim": True}, gated=False, last_stage_only=True, rays=True),
}


def variant(name: str) -> MultiTaskModel:
    """The small model with another decoder, in evaluation; rays that say something."""
    model = small_model()
    torch.manual_seed(0)
    outputs = {"segmentation": 13, "depth": 1, "normals": 3}
    model.decoder = EdgeDecoder(model.backbone.channels, outputs, width=16, options=VARIANTS[name])
    if model.decoder.rays is not None:
        for rays in model.decoder.rays:
            torch.nn.init.normal_(rays.weight)
    return as_if_trained(model)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_of_a_variant_learns(name: str) -> None:
    model = variant(name).train()
    image = torch.rand(2, 3, HEIGHT, WIDTH)
    features = model.features(image)
    maps = model.from_features(features, (HEIGHT, WIDTH))
    assert {task: tuple(value.shape[2:]) for task, value in maps.items()} == dict.fromkeys(maps, (HEIGHT // 4, WIDTH // 4))
    sum(value.square().mean() for value in maps.values()).backward()
    assert len(features) == len(model.decoder.reads)
    for key, parameter in model.decoder.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_gives_the_same_maps_when_rewritten(name: str) -> None:
    model = variant(name)
    rewritten = deploy(model, height=HEIGHT, width=WIDTH)
    image = torch.rand(1, 3, HEIGHT, WIDTH) * 255.0
    with torch.inference_mode():
        expected, found = model.quarter_maps(model.normalise(image)), rewritten(image)
    assert max(relative_error(found[task], expected[task]) for task in expected) <= 1e-5


def decoder(**options: bool) -> EdgeDecoder:
    """A decoder with every part, but for `options`."""
    torch.manual_seed(0)
    outputs = {"segmentation": 13, "depth": 1}
    return EdgeDecoder(CHANNELS, outputs, width=16, options=EdgeOptions(**{**WHOLE, **options})).eval()


def maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(1, count, 32 >> level, 48 >> level, generator=generator) for level, count in enumerate(CHANNELS)]


def test_without_options_it_is_the_decoder_with_all_of_todays_parts() -> None:
    today = EdgeDecoder(CHANNELS, {"segmentation": 13, "depth": 1}, width=16).state_dict()
    assert decoder(exchange=False, top_down=False, fine=False, slim=True).state_dict().keys() == today.keys()
    assert EdgeOptions() == EdgeOptions(False, True, True, False, False, False, False, True)


@pytest.mark.parametrize(
    ("options", "reads"),
    [({}, (0, 1, 2, 3)), ({"fine": False}, (1, 2, 3)), ({"last_stage_only": True}, (3,)), ({"top_down": False}, (0, 1, 2, 3))],
)
def test_a_decoder_says_which_stages_it_reads_and_needs_no_others(options: dict[str, bool], reads: tuple[int, ...]) -> None:
    one = decoder(**options)
    assert one.reads == reads
    assert one([maps()[level] for level in reads], (128, 192))["depth"].shape == (1, 1, 32, 48)


def test_without_the_neck_a_fine_branch_sees_the_coarse_stages_only_through_stride_16() -> None:
    flat, full = decoder(top_down=False), decoder()
    assert not [key for key in flat.state_dict() if key.startswith("necks")]
    assert parameters(flat) < parameters(full)


def test_without_a_context_a_far_corner_does_not_move_the_other_one() -> None:
    near, far = [x.requires_grad_() for x in maps()], decoder(context=False)
    far(near, (128, 192))["depth"][0, 0, 0, 0].backward()
    assert near[3].grad[0, :, -1, -1].abs().max() == 0
    with_context = [x.requires_grad_() for x in maps()]
    decoder()(with_context, (128, 192))["depth"][0, 0, 0, 0].backward()
    assert with_context[3].grad[0, :, -1, -1].abs().max() > 0  # positive control


def test_without_exchange_no_gradient_of_a_task_reaches_the_way_in_of_another() -> None:
    for options, moved in (({"exchange": False}, False), ({}, True), ({"gated": False}, True)):
        one = decoder(**options)
        one(maps(), (128, 192))["depth"].sum().backward()
        gradients = [parameter.grad for parameter in one.enter["segmentation"].parameters()]
        assert any(gradient is not None for gradient in gradients) is moved


def test_rays_start_as_nothing_and_know_left_from_right_and_up_from_down() -> None:
    one = decoder(rays=True)
    plain = decoder()
    plain.load_state_dict({key: value for key, value in one.state_dict().items() if not key.startswith("rays")})
    torch.testing.assert_close(one(maps(), (128, 192))["depth"], plain(maps(), (128, 192))["depth"])
    rays = one.rays[0]
    rays.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 8)
    offset = rays.offset(4, 6)
    torch.testing.assert_close(offset[0, 0, 0], torch.tensor([-5.0, -3.0, -1.0, 1.0, 3.0, 5.0]) / 4)  # the same angle per pixel
    torch.testing.assert_close(offset[0, 1, :, 0], torch.tensor([-3.0, -1.0, 1.0, 3.0]) / 4)


def test_a_slim_neck_has_fewer_weights() -> None:
    assert parameters(decoder(slim=True)) < parameters(decoder())


def test_a_combination_without_a_way_up_is_refused() -> None:
    with pytest.raises(BuildError, match="last_stage_only needs top_down"):
        EdgeOptions(top_down=False, last_stage_only=True)
