"""Weights read back from the graph of a bundle that has no others: the same network, or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mtl.bundling import load_trained
from mtl.checkpoint import load_weights
from mtl.fine_tuning import start_from

from edge_mtl.bundle import REFERENCE_ONNX, Bundle, write_bundle
from edge_mtl.errors import BundleError
from tests.bundles import ROOMS_B0, make_bundle

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rooms-b0 as version 0.1 wrote it: the graph lies there whole, and no weights beside it."""
    bundle = Bundle.open(ROOMS_B0)
    told = bundle.manifest

    def fill(folder: Path) -> None:
        (folder / REFERENCE_ONNX).write_bytes(bundle.read(REFERENCE_ONNX))
        (folder / "calibration").mkdir()
        for name in bundle.list("calibration")[:4]:
            (folder / name).write_bytes(bundle.read(name))

    path = tmp_path_factory.mktemp("old") / "rooms-b0"
    write_bundle(
        path,
        fill,
        name="rooms-b0",
        tasks=told.tasks,
        input=told.input,
        canonical_intrinsics=told.canonical_intrinsics,
        provenance=told.provenance,
        accuracy={},
        calibration={},
    )
    return path


def test_the_weights_of_rooms_b0_come_back(old: Path) -> None:
    found, metadata = load_weights(old)
    expected, told = load_weights(ROOMS_B0)
    assert set(found) == set(expected)
    assert {key: metadata["config"]["model"][key] for key in told["config"]["model"]} == {
        **told["config"]["model"],
        "tasks": ("segmentation", "depth", "normals"),
    }
    assert metadata["size"] == told["size"]
    assert metadata["tasks"] == told["tasks"]
    for name, value in expected.items():
        if not name.endswith(("num_batches_tracked", "running_mean", "running_var")):
            error = (found[name] - value).norm() / value.norm()
            assert error < 2e-5, name


def test_training_starts_from_it_with_the_answers_of_the_bundle(old: Path) -> None:
    known = load_trained(ROOMS_B0).model.eval()
    model = load_trained(ROOMS_B0).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert start_from(model, old, meaning={"normalisation": "none", "depth_output": "log"}) == {}
    image = torch.rand(1, 3, 288, 384, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = model.eval()(image), known(image)
    for task in expected:
        assert (found[task] - expected[task]).norm() / expected[task].norm() < 1e-5


def test_a_graph_of_another_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "old", whole=True)
    with pytest.raises(BundleError, match=r"has no weights\.safetensors.*Export the bundle again"):
        load_weights(bundle.path)
    with pytest.raises(BundleError, match="no manifest"):
        load_weights(tmp_path)


def test_a_graph_that_answers_otherwise_is_refused(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtl import graph_weights

    named = graph_weights._named

    def altered(graph: object) -> dict[str, object]:
        found = dict(named(graph))
        found["decoder.branches.depth.output.bias"] = found["decoder.branches.depth.output.bias"] + 0.01
        return found

    monkeypatch.setattr(graph_weights, "_named", altered)
    with pytest.raises(BundleError, match=r"depth differs from torch by .*Export the bundle again"):
        load_weights(old)
