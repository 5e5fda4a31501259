"""A backbone as a teacher: which weights it takes, what is learnt, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mtl.distill.features import BackboneMaps, FeatureTeacher, feature_teacher
from mtl.models.backbone import Backbone, build_backbone
from safetensors.torch import save_file

from edge_mtl.errors import BuildError

pytestmark = pytest.mark.training

LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("lite") / "lite0.safetensors"
    save_file(build_backbone(LITE).net.state_dict(), path)
    return path


def net_of(teacher: FeatureTeacher) -> Backbone:
    assert isinstance(teacher.maps, BackboneMaps)
    return teacher.maps.net


def test_files_and_strides_that_are_not_there_are_refused(lite: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"features_file: there is no file"):
        feature_teacher(LITE, tmp_path / "none.pth", channels=[8], strides=[8])
    with pytest.raises(BuildError, match=r"at strides 4, 8, 16, 32, and the network has one at 64"):
        feature_teacher(LITE, lite, channels=[8], strides=[64])


def test_files_of_timm_are_read_by_timm(tmp_path: Path) -> None:
    import timm

    model = timm.create_model(LITE)
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    teacher = feature_teacher(LITE, tmp_path / "timm.pth", channels=[8], strides=[8])
    assert torch.equal(net_of(teacher).net.conv_stem.weight, model.conv_stem.weight)


def test_projections_learn_and_the_teacher_stays(lite: Path) -> None:
    torch.manual_seed(1)
    teacher = feature_teacher(LITE, lite, channels=[8, 12], strides=[8, 16]).train()
    assert set(teacher.state_dict()) == {f"projections.{n}.{kind}" for n in (0, 1) for kind in ("weight", "bias")}
    before = {name: value.clone() for name, value in net_of(teacher).state_dict().items()}
    image = torch.rand(2, 3, 64, 96) * 255
    features = [torch.randn(2, 8, 8, 12, requires_grad=True), torch.randn(2, 12, 4, 6, requires_grad=True)]
    step = torch.optim.Adam([*teacher.parameters(), *features], lr=0.05)
    errors = []
    for _ in range(25):
        step.zero_grad()
        error = teacher(image, features)
        error.backward()
        step.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 3
    after = net_of(teacher).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())  # its norms' statistics too


def test_the_loss_is_one_minus_the_cosine_of_projected_features(lite: Path) -> None:
    teacher = feature_teacher(LITE, lite, channels=[40], strides=[8])
    assert isinstance(teacher, FeatureTeacher)
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        teacher.projections[0].weight.copy_(torch.eye(40)[..., None, None])
        teacher.projections[0].bias.zero_()
        own = net_of(teacher)((image / 255 - 0.5) / 0.5)[1]
        assert float(teacher(image, [3.0 * own])) == pytest.approx(0.0, abs=1e-5)
        assert float(teacher(image, [-own])) == pytest.approx(2.0, abs=1e-5)
