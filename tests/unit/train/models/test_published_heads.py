"""Parameters of the published networks to the last one, and of ours for the same tasks; nothing is allocated to count them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from mtl.models import build_model
from mtl.models.backbone import build_backbone
from mtl.models.published_heads import GflHead, Pyramid, RetinaNetHead, SemanticFpnHead
from torch import nn

from edge_mtl.tasks import read_tasks

pytestmark = pytest.mark.training

COUNTS = {
    "pvt_v2_b0": (3_409_760, 3_666_760, 12_947_028, 11_547_641, 7_545_334),
    "pvt_v2_b1": (13_496_000, 14_009_000, 23_745_972, 21_756_761, 17_762_646),
    "pvt_v2_b2": (24_849_856, 25_362_856, 35_099_828, 33_110_617, 29_116_502),
    "pvt_v2_b2_li": (22_040_512, 22_553_512, 32_290_484, 30_301_273, 26_307_158),
    "pvt_v2_b3": (44_725_696, 45_238_696, 54_975_668, 52_986_457, 48_992_342),
    "pvt_v2_b4": (62_043_072, 62_556_072, 72_293_044, 70_303_833, 66_309_718),
    "pvt_v2_b5": (81_443_008, 81_956_008, 91_692_980, 89_703_769, 85_709_654),
}
"""Of the backbone, and with each published head: 1000 classes of ImageNet, RetinaNet and GFL with COCO's 80, Semantic FPN with
ADE20K's 150. GFL b2 (33.11 M) and the classifier of b2 (25.36 M) are stated by the authors of PVT v2."""

SHARED = {
    "pvt_v2_b0": (17_339_602, 21_279_442, 23_139_602, 23_792_530, 24_159_122),
    "pvt_v2_b1": (28_525_618, 44_171_314, 51_537_074, 54_096_306, 55_517_618),
    "pvt_v2_b2": (39_879_474, 61_870_898, 82_487_218, 87_456_946, 89_579_186),
}
"""With classifier, RetinaNet and Semantic FPN on one backbone: all of it shared, its first 3, 2 and 1 stages, nothing."""


def labels(count: int) -> dict[str, Any]:
    return {"kind": "labels", "classes": [f"label {index}" for index in range(count)]}


def boxes(count: int) -> dict[str, Any]:
    return {"kind": "boxes", "classes": [f"thing {index}" for index in range(count)]}


def scene(count: int) -> dict[str, Any]:
    return {"kind": "class", "classes": [f"scene {index}" for index in range(count)]}


DEPTH, NORMALS = {"kind": "depth"}, {"kind": "normals"}
INDOOR = {"segmentation": labels(13), "depth": DEPTH, "normals": NORMALS}
DRIVING = {"objects": boxes(10), "drivable": labels(3), "lane": labels(2)}
GENERAL = {"scene": scene(1000), "objects": boxes(80), "segmentation": labels(150)}


def parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def published(channels: tuple[int, ...]) -> dict[str, int]:
    """Parameters of each head with its pyramid."""
    return {
        "classifier": parameters(nn.Linear(channels[-1], 1000)),
        "retinanet": parameters(Pyramid(channels[1:], more=2), RetinaNetHead(80)),
        "gfl": parameters(Pyramid(channels[1:], more=2, made_from="map"), GflHead(80)),
        "semantic fpn": parameters(Pyramid(channels), SemanticFpnHead(150)),
    }


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_network_has_its_parameters(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
        own = parameters(backbone)
        found = [own, *(own + head for head in published(backbone.channels).values())]
    assert tuple(found) == COUNTS[name]


@pytest.mark.parametrize("name", SHARED)
def test_what_three_published_heads_share_decides_how_large_they_are(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
        stages = [parameters(backbone.part(stage, stage + 1)) for stage in range(4)]
        every = published(backbone.channels)
    heads = every["classifier"] + every["retinanet"] + every["semantic fpn"]
    assert sum(stages) == parameters(backbone)
    found = [sum(stages[:shared]) + 3 * sum(stages[shared:]) + heads for shared in (4, 3, 2, 1, 0)]
    assert tuple(found) == SHARED[name]


@pytest.mark.parametrize(
    ("backbone", "width", "entries", "expected"),
    [
        ("pvt_v2_b0", 64, INDOOR, 3_500_657),
        ("pvt_v2_b0", 64, {**INDOOR, "objects": boxes(11), "scene": scene(4)}, 3_580_066),
        ("pvt_v2_b0", 64, DRIVING, 3_559_887),
        ("pvt_v2_b0", 64, {**DRIVING, "depth": DEPTH}, 3_578_128),
        ("pvt_v2_b2", 128, DRIVING, 25_420_399),
        ("pvt_v2_b0", 64, GENERAL, 3_821_786),
        ("pvt_v2_b2", 128, GENERAL, 25_910_074),
    ],
)
def test_ours_for_the_same_tasks_is_smaller(
    backbone: str, width: int, entries: Mapping[str, Mapping[str, Any]], expected: int
) -> None:
    with torch.device("meta"):
        model = build_model(backbone, specs=read_tasks(entries), width=width)
    assert parameters(model) == expected
    if width == 64 and "objects" in entries:
        assert parameters(model.heads["objects"]) < 100_000


def test_published_heads_run() -> None:
    torch.manual_seed(0)
    channels, sizes = (8, 16, 24, 32), ((16, 24), (8, 12), (4, 6), (2, 3))
    stages = [torch.randn(1, count, *size) for count, size in zip(channels, sizes, strict=True)]
    coarser = [*sizes[1:], (1, 2), (1, 1)]
    with torch.inference_mode():
        retina = RetinaNetHead(3)(Pyramid(channels[1:], more=2)(stages[1:]))
        gfl = GflHead(3)(Pyramid(channels[1:], more=2, made_from="map")(stages[1:]))
        logits = SemanticFpnHead(5).eval()(Pyramid(channels)(stages))
    assert [(one.shape, other.shape) for one, other in retina] == [((1, 27, *size), (1, 36, *size)) for size in coarser]
    assert [(one.shape, other.shape) for one, other in gfl] == [((1, 3, *size), (1, 4, *size)) for size in coarser]
    assert all(bool((distances >= 0).all() and (distances <= 16).all()) for _, distances in gfl)
    assert logits.shape == (1, 5, 16, 24)
