"""Statistics of batch norms by source: apart in training, each with its own in evaluation, back after a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mtl.checkpoint import CheckpointError, load_statistics, load_weights, save_weights
from mtl.source_statistics import SourceStatistics
from torch import nn

pytestmark = pytest.mark.training


def network() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(1, momentum=0.5)).train()


def see(model: nn.Sequential, value: float) -> None:
    model(torch.full((1, 1, 2, 2), value))


def mean(model: nn.Sequential) -> float:
    return float(model[0].running_mean)  # type: ignore[arg-type]


def test_every_source_has_a_memory_of_its_own() -> None:
    model, alone = network(), network()
    statistics = SourceStatistics(model)
    statistics.use("a")
    for value in (8.0, 4.0):
        see(alone, value)
    see(model, 8.0)
    statistics.use("b")
    assert mean(model) == 4.0, "a new source begins with what is there"
    see(model, 100.0)
    assert mean(model) == 52.0
    statistics.use("a")
    see(model, 4.0)
    assert mean(model) == mean(alone) == 4.0
    found = {name: float(values["0.running_mean"]) for name, values in statistics.by_source().items()}
    assert found == {"a": 4.0, "b": 52.0}


def test_a_block_shows_another_source_and_changes_nothing() -> None:
    model = network()
    statistics = SourceStatistics(model)
    for name, value in (("a", 8.0), ("b", 20.0)):
        statistics.use(name)
        see(model, value)
    with statistics.showing("a"):
        assert mean(model) == 4.0
    assert mean(model) == 12.0
    with statistics.showing("unheard of"):
        assert mean(model) == 12.0
    assert set(statistics.by_source()) == {"a", "b"}


def test_a_resumed_run_goes_on_with_all_of_them() -> None:
    model = network()
    statistics = SourceStatistics(model)
    for name, value in (("a", 8.0), ("b", 20.0)):
        statistics.use(name)
        see(model, value)
    other = network()
    resumed = SourceStatistics(other)
    resumed.restore(statistics.state())
    assert mean(other) == 12.0
    resumed.use("a")
    assert mean(other) == 4.0
    see(other, 0.0)
    assert float(statistics.by_source()["a"]["0.running_mean"]) == 4.0, "no tensors are shared"


def test_they_travel_beside_the_weights_and_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    kept = {"a": {"0.running_mean": torch.tensor([1.0])}, "b-2": {"0.running_mean": torch.tensor([2.0])}}
    save_weights(path, {"0.running_mean": torch.tensor([1.0])}, {"step": 1}, statistics=kept)
    assert load_weights(path)[0] == {"0.running_mean": torch.tensor([1.0])}
    assert load_statistics(path) == kept
    save_weights(path, {"w": torch.zeros(1)}, {})
    assert load_statistics(path) == {}
    with pytest.raises(CheckpointError):
        load_statistics(tmp_path / "absent")
