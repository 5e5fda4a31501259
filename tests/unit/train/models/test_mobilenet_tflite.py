"""MobileNetV2's weights from a TensorFlow Lite file: the same maps, norms that can be trained, others refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mtl.checkpoint import load_weights
from mtl.folded_norms import folded_norms
from mtl.models.backbone import Backbone, build_backbone
from mtl.models.configured import model_from
from mtl.run import Run
from torch import nn

from edge_mtl.errors import BackendUnavailable, BuildError
from tests.tflite_files import Layer, tflite_file
from tests.tiny_training import make_rooms, quiet, tiny_settings

pytestmark = pytest.mark.training

NAME = "mobilenetv2_035"
HEAD = Layer(np.ones((4, 112, 1, 1), np.float32), np.zeros(4, np.float32), relu6=False)


def convolutions(net: nn.Module) -> Iterator[tuple[str, nn.Conv2d, nn.Module]]:
    layers = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    for (name, layer), (_, norm) in zip(layers[::2], layers[1::2], strict=True):
        assert isinstance(layer, nn.Conv2d)
        yield name, layer, norm


def made(path: Path) -> Backbone:
    """Writes a file of every form that weights have, with a head behind; the network that it is of, without norms."""
    torch.manual_seed(3)
    expected = build_backbone(NAME).eval()
    draws = np.random.default_rng(3)
    layers = []
    with torch.no_grad():
        for name, layer, norm in convolutions(expected.net):
            bias = draws.normal(0, 0.3, layer.out_channels).astype(np.float32)
            weight, scale = layer.weight.numpy().copy(), None
            dilated = layer.groups > 1 and name >= "blocks.4"
            if name >= "blocks.1":
                scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
                weight = np.round(weight / scale[:, None, None, None]).astype(np.int8)
                layer.weight.copy_(torch.from_numpy(weight * scale[:, None, None, None]))
            if dilated:
                layer.weight.mul_(0.5)
            norm.running_var.fill_(1 - norm.eps)  # type: ignore[operator, union-attr]
            norm.bias.copy_(torch.from_numpy(bias + 0.5 if dilated else bias))  # type: ignore[operator, union-attr]
            relu6 = isinstance(norm.act, nn.ReLU6)
            layers.append(Layer(weight, bias, relu6, scale, dilated))
    path.write_bytes(tflite_file([*layers, HEAD]))
    return expected


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Backbone]:
    pytest.importorskip("tflite")
    path = tmp_path_factory.mktemp("tflite") / "net.tflite"
    return path, made(path)


def test_the_maps_are_those_of_the_files_network(file: tuple[Path, Backbone]) -> None:
    path, expected = file
    found = build_backbone(NAME, pretrained=path).eval()
    image = torch.rand(2, 3, 65, 97) * 2 - 1
    with torch.no_grad():
        for own, other in zip(found(image), expected(image), strict=True):
            assert float(other.abs().max()) > 0.1
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)
    for _, layer, _ in convolutions(found.net):
        lengths = layer.weight.detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_run_starts_with_the_statistics_of_training_frames(file: tuple[Path, Backbone], tmp_path: Path) -> None:
    rooms = make_rooms(tmp_path / "rooms")
    frozen = {"optimizer.batch_norm": "frozen", "optimizer.lr": "1e-12"}
    given = {"model.backbone": NAME, "model.pretrained": f"'{file[0]}'", "model.normalisation": "symmetric", **frozen}
    settings = tiny_settings(rooms, tmp_path, **given)
    model = model_from(settings).eval()
    folded = [name for name in folded_norms(model) if name.startswith("backbone.")]
    assert len(folded) == len(list(convolutions(model.backbone)))
    image = torch.rand(2, 3, 32, 64) * 255
    with torch.no_grad():
        before = model.backbone(model.normalise(image))
    model.load_state_dict(load_weights(Run(settings, console=quiet()).train())[0])
    with torch.no_grad():
        after = model.backbone(model.normalise(image))
        for own, other in zip(after, before, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-3)
    assert [name for name in folded_norms(model) if name.startswith("backbone.")] == []


def test_files_of_another_network_and_broken_ones_are_refused(file: tuple[Path, Backbone], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"is not of mobilenetv2_100: conv_stem should be 32x3x3x3 .*, found 16x3x3x3"):
        build_backbone("mobilenetv2_100", pretrained=file[0])
    short = tmp_path / "short.tflite"
    short.write_bytes(tflite_file([HEAD]))
    with pytest.raises(BuildError, match=r"conv_stem should be 16x3x3x3 with ReLU6, found 4x112x1x1 without ReLU6"):
        build_backbone(NAME, pretrained=short)
    with pytest.raises(BuildError, match=r"pvt_v2_b0 is not read from TensorFlow Lite files"):
        build_backbone("pvt_v2_b0", pretrained=file[0])
    for payload in (b"", b"no model at all", file[0].read_bytes()[:5000]):
        short.write_bytes(payload)
        with pytest.raises(BuildError, match=r"short\.tflite is no whole TensorFlow Lite model"):
            build_backbone(NAME, pretrained=short)


def test_without_its_package_a_file_is_refused_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    (tmp_path / "net.tflite").write_bytes(b"")
    with pytest.raises(BackendUnavailable, match=r"net\.tflite needs the package tflite.*pip install .*tflite"):
        build_backbone(NAME, pretrained=tmp_path / "net.tflite")
