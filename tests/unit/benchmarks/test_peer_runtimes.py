"""PyTorch as a row of the peers table: the same answers as the network, whatever it computes in."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtl.models.placement import GraphPlacement, PlainModel
from mtl.settings import ModelSettings

from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.manifest import InputSpec, Manifest
from edge_mtl.tasks import NYU_TASKS
from tests.bundles import canonical_intrinsics, make_image
from tests.networks import small_model

pytestmark = pytest.mark.training


@pytest.mark.parametrize(("floats", "agree"), [("fp32", 0.9999), ("bf16", 0.9)])
def test_torch_answers_as_the_network_does(floats: str, agree: float, script: Any) -> None:
    runtime = script("peer_runtimes").TorchRuntime
    network = GraphPlacement(PlainModel(small_model())).eval()
    frame = make_image(3)
    with torch.no_grad():
        expected = dict(zip(network.output_names, network(torch.from_numpy(frame[None])), strict=True))
    threads = torch.get_num_threads()
    rival = runtime(network, (64, 96), threads=1, floats=floats, compiled=False)
    torch.set_num_threads(threads)
    manifest = Manifest("tiny", 1, NYU_TASKS, InputSpec(64, 96), canonical_intrinsics(), {})
    maps = InferencePipeline(rival, manifest)(frame)
    assert (maps["segmentation"].labels == expected["segmentation"][0].numpy()).mean() >= agree
    assert np.abs(maps["depth"].depth_m / expected["depth"][0].numpy() - 1).mean() < (1e-4 if floats == "fp32" else 0.1)


def test_a_kept_graph_is_that_of_every_setting_of_the_network(script: Any, tmp_path: Path) -> None:
    decided_by = script("multitask_saving").decided_by
    work = script("work_folder").WorkFolder(tmp_path)
    usual = ModelSettings()
    place = work.place("network.deploy.onnx", decided_by(usual, (64, 96)))
    assert work.place("network.deploy.onnx", decided_by(ModelSettings(), (64, 96))) == place
    for field in fields(ModelSettings):
        other = replace(usual, **{field.name: ("another", getattr(usual, field.name))})
        assert work.place("network.deploy.onnx", decided_by(other, (64, 96))) != place, field.name
    assert work.place("network.deploy.onnx", decided_by(usual, (96, 128))) != place
