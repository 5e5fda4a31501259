"""What a bundle says about its network: accuracy by class, and how it was trained."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from mtl.bundle_card import Trained, measure, provenance, training_command
from mtl.config import apply_overrides, config_sha256, describe, load_config, parse_config
from mtl.datasets.frame import Frame
from mtl.models.configured import model_from
from rich.console import Console

from edge_mtl.tasks import NYU13_CLASSES
from tests.nyu_frames import nyu_frame

pytestmark = pytest.mark.training

QUICK = Path(__file__).parents[3] / "train" / "configs" / "rooms-quick.toml"
SIZE = (32, 64)
HELD_OUT = {"split": "test", "count": 9}


@pytest.fixture(scope="module")
def trained() -> Trained:
    settings = load_config(QUICK, {"seed": "5"})
    return Trained(model_from(settings).eval(), settings, SIZE, {"config": describe(settings), "step": 12})


def frame() -> Frame:
    """The left half of the image is class 0, the right half class 3."""
    label = np.repeat(np.array([[0, 3]], np.uint8), SIZE[1] // 2, axis=1).repeat(SIZE[0], axis=0)
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[..., 2] = -1
    return nyu_frame(np.zeros((*SIZE, 3), np.uint8), label, np.full(SIZE, 2.0, np.float32), normals, (60.0, 60.0, 31.5, 15.5))


def everything_is_class_three(images: np.ndarray) -> Mapping[str, torch.Tensor]:
    count, height, width = len(images), SIZE[0] // 4, SIZE[1] // 4
    logits = torch.zeros(count, 13, height, width)
    logits[:, 3] = 1
    normals = torch.zeros(count, 3, height, width)
    normals[:, 2] = -1
    return {"segmentation": logits, "depth": torch.full((count, 1, height, width), 2.0), "normals": normals}


def test_the_card_holds_every_class_that_occurs(trained: Trained) -> None:
    card = measure(everything_is_class_three, [frame(), frame()], trained, Console(file=io.StringIO()))
    assert card["class_iou"] == {NYU13_CLASSES[0]: 0.0, NYU13_CLASSES[3]: 0.5}
    assert card["miou"] == 0.25
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_the_provenance_names_the_training_and_the_export(trained: Trained) -> None:
    metadata = {**trained.metadata, "command": "python train/train.py --seed 5"}
    content = provenance(Trained(trained.model, trained.settings, SIZE, metadata), HELD_OUT, "python train/export.py x")
    assert content["command"] == "python train/export.py x"
    assert content["training_command"] == "python train/train.py --seed 5"
    assert content["config_sha256"] == config_sha256(trained.settings)
    assert (content["steps"], content["seed"], content["run"]) == (12, 5, "rooms-quick")
    assert json.dumps(content, allow_nan=False)
    assert "imported" not in content
    (data_set,) = content["data_sets"]
    assert (data_set["title"], data_set["licence"]) == (content["dataset"], content["dataset_licence"])
    assert data_set["redistributable"] is True


def test_the_provenance_names_networks_that_taught_without_paths_of_this_machine(trained: Trained) -> None:
    assert "teachers" not in provenance(trained, HELD_OUT, "x")
    taught = load_config(
        QUICK,
        {
            "distill.features": "'tf_efficientnet_lite0'",
            "distill.features_file": "'/home/me/efficientnet-lite0-57934424.pth'",
            "distill.answers": "'/home/me/runs/large/best.safetensors'",
        },
    )
    content = provenance(Trained(trained.model, taught, SIZE, {"config": describe(taught), "step": 1}), HELD_OUT, "x")
    assert content["teachers"] == [
        "features of tf_efficientnet_lite0, weights efficientnet-lite0-57934424.pth",
        "answers of large",
    ]
    recorded = [{"file": "teacher.onnx", "sha256": "0" * 64, "answers": ["segmentation"], "about": {"licence": "Apache-2.0"}}]
    metadata = {"config": describe(taught), "step": 1, "teachers": recorded}
    assert provenance(Trained(trained.model, taught, SIZE, metadata), HELD_OUT, "x")["teachers"] == recorded


def test_the_provenance_of_foreign_weights_names_their_file(trained: Trained) -> None:
    origin = {"file": "theirs.pth", "sha256": "0" * 64, "source": "libmtl"}
    imported = Trained(trained.model, trained.settings, SIZE, {**trained.metadata, "imported": origin})
    content = provenance(imported, HELD_OUT, "x")
    assert content["imported"] == origin


def test_the_training_command_is_the_one_that_trained() -> None:
    settings = load_config(QUICK)
    assert training_command({}, settings, "python train/train.py --name x") == "python train/train.py --name x"
    by_config = "python train/train.py --config train/configs/rooms-quick.toml"
    assert training_command({}, settings, "python train/export.py x") == by_config
    resumed = parse_config(apply_overrides(describe(settings), {"loop.threads": "7", "export.golden": "1"}))
    assert training_command({}, resumed, "python train/export.py x") == by_config, "the loop decides nothing"
    other = parse_config(apply_overrides(describe(settings), {"seed": "77"}))
    assert training_command({}, other, "python train/export.py x") is None, "never a command that trains something else"
