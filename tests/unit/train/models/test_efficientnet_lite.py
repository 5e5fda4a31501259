"""Published weights of EfficientNet-Lite as those of a backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mtl.models.backbone import build_backbone

from edge_mtl.errors import BuildError

pytestmark = pytest.mark.training

LITE = "tf_efficientnet_lite0"
_EXPANDING = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)


def published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state of timm's network under the names of the published files."""
    found = {"_fc.weight": torch.zeros(2), "_conv_head.weight": torch.zeros(2), "_bn1.weight": torch.zeros(2)}
    for name, value in state.items():
        parts = name.split(".")[1:]
        if parts[0] != "blocks":
            found[f"{'_conv_stem' if parts[0] == 'conv_stem' else '_bn0'}.{parts[1]}"] = value
            continue
        stage, block, layer, last = int(parts[1]), int(parts[2]), parts[3], parts[4]
        names = _FIRST if stage == 0 else _EXPANDING
        found[f"_blocks.{sum(_BLOCKS[:stage]) + block}.{names[layer]}.{last}"] = value
    return found


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("lite") / "lite0.pth"
    torch.save(published(build_backbone(LITE).state_dict()), path)
    return path


def test_published_weights_are_those_of_timms_network(lite: Path) -> None:
    torch.manual_seed(0)
    expected = build_backbone(LITE).state_dict()
    found = build_backbone(LITE, pretrained=lite).state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_weights_of_another_network_are_refused(lite: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"is not of tf_efficientnet_lite2: .* does not fit"):
        build_backbone("tf_efficientnet_lite2", pretrained=lite)
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(BuildError, match=r"no file of PyTorch's weights"):
        build_backbone(LITE, pretrained=tmp_path / "bad.pth")


@pytest.mark.parametrize("names", ["published", "timm"])
def test_a_file_leaves_the_random_numbers_that_follow_as_they_were(names: str, lite: Path, tmp_path: Path) -> None:
    path = lite if names == "published" else tmp_path / "timm.pth"
    if names == "timm":
        torch.save(build_backbone(LITE).net.state_dict(), path)
    torch.manual_seed(0)
    build_backbone(LITE)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build_backbone(LITE, pretrained=path)
    assert torch.equal(torch.rand(1), expected)  # one network is made, so that a decoder begins alike
