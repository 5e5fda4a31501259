"""A DeepLab from a TensorFlow Lite file: the file's network, grouped classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mtl.distill.deeplab import DeepLab, deeplab_from_tflite
from mtl.models.backbone import build_backbone
from mtl.models.mobilenet_tflite import Convolution
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from tests.tflite_files import Layer, tflite_file
from tests.tflite_networks import deeplab_layers

pytestmark = pytest.mark.training

NAME = "mobilenetv2_035"
GROUPS = (0, 1, 1, 2, 0, 2, 1)


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    pytest.importorskip("tflite")
    return deeplab_layers(NAME, classes=len(GROUPS) + 1)


@pytest.fixture(scope="module")
def file(layers: list[Layer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("deeplab") / "net.tflite"
    path.write_bytes(tflite_file(layers))
    return path


def opened(path: Path, **options: int) -> DeepLab:
    return deeplab_from_tflite(path, GROUPS, classes=3, backbone=NAME, **options)


def grown(x: Tensor, factor: int) -> Tensor:
    """Pixel 0 on pixel 0, step by the factor, the edge repeated: one pixel after the other, by hand."""
    for dim in (2, 3):
        rows = []
        for place in range(x.shape[dim] * factor):
            first, part = divmod(place, factor)
            second = min(first + 1, x.shape[dim] - 1)
            rows.append(x.select(dim, first) * (1 - part / factor) + x.select(dim, second) * (part / factor))
        x = torch.stack(rows, dim=dim)
    return x


def by_hand(layers: list[Layer], body: nn.Module, image: Tensor, factor: int) -> tuple[Tensor, list[Tensor]]:
    """Logits of all classes, and the maps of the backbone's last three stages."""
    head = layers[-9:]

    def layer(number: int, x: Tensor) -> Tensor:
        one = head[number]
        weight, bias = torch.from_numpy(one.weight), torch.from_numpy(one.bias)
        groups = x.shape[1] if weight.shape[1] == 1 and weight.shape[2] == 3 else 1
        found = F.conv2d(x, weight, bias, padding=weight.shape[2] // 2, groups=groups)
        return F.relu6(found) if one.relu6 else found

    seen: list[Tensor] = []
    block = body.net.blocks[1][1]
    hook = block.bn2.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    maps = body(image / 127.5 - 1)
    hook.remove()
    coarse = maps[-1]
    pooled = layer(0, coarse.mean((2, 3), keepdim=True)).expand(-1, -1, *coarse.shape[2:])
    x = layer(2, torch.cat([pooled, layer(1, coarse)], dim=1))
    x = torch.cat([grown(x, factor), layer(3, seen[0])], dim=1)
    for number in (4, 5, 6, 7, 8):
        x = layer(number, x)
    return x, list(maps[1:])


@pytest.mark.parametrize("stride", [8, 16])
def test_the_network_is_the_files_at_both_strides(layers: list[Layer], file: Path, stride: int) -> None:
    net = opened(file, output_stride=stride)
    body = build_backbone(NAME, pretrained=file, output_stride=stride).eval()
    torch.manual_seed(1)
    image = torch.rand(2, 3, 64, 96) * 255
    with torch.no_grad():
        answers, *features = net(image)
        logits, maps = by_hand(layers, body, image, stride // 4)
    every = logits[:, 1:].softmax(dim=1)
    grouped = torch.stack([every[:, [g == wanted for g in GROUPS]].sum(dim=1) for wanted in range(3)], dim=1)
    middle = grown(grouped, 8)[:, :, 3::8, 3::8]  # 3/8 of a pixel further: the middle of pixels 4 i to 4 i + 3
    assert float(middle.std()) > 0.01
    torch.testing.assert_close(answers.exp(), middle, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(2, 16, 24), rtol=1e-4, atol=1e-4)
    assert [one.shape[1] for one in features] == list(net.channels)
    for own, other in zip(features, maps, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_files_of_another_network_are_refused(layers: list[Layer], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"there is no file .*none\.tflite"):
        opened(tmp_path / "none.tflite")
    (tmp_path / "notes.md").write_text("no network")
    with pytest.raises(BuildError, match=r"notes\.md should be the TensorFlow Lite file .*ends in \.tflite"):
        deeplab_from_tflite(tmp_path / "notes.md", GROUPS, classes=3, backbone=NAME)
    path = tmp_path / "other.tflite"
    path.write_bytes(tflite_file(layers[:-1]))
    with pytest.raises(BuildError, match=r"has 8 convolutions after its MobileNetV2: expected the 9"):
        opened(path)
    thin = Layer(layers[-2].weight[:, :-1], layers[-2].bias, relu6=True)
    path.write_bytes(tflite_file([*layers[:-2], thin, layers[-1]]))
    with pytest.raises(BuildError, match=r"is no DeepLabV3 with a fine map: pointwise1 should be"):
        opened(path)
    path.write_bytes(tflite_file(layers))
    with pytest.raises(BuildError, match=r"has 8 classes: expected 5, or one more for none"):
        deeplab_from_tflite(path, (0, 1, 1, 0, 0), classes=2, backbone=NAME)


def test_activations_are_those_of_the_file() -> None:
    head = [Convolution(one.weight, one.bias, activation=1 if one.relu6 else 0) for one in deeplab_layers(NAME, classes=8)[-9:]]
    net = DeepLab(NAME, head, GROUPS, classes=3)
    assert isinstance(net.project.activation, nn.ReLU)
    assert isinstance(net.logits.activation, nn.Identity)
    assert np.array_equal(net.logits.conv.weight.detach().numpy(), head[-1].weight)
