"""Checkpoints: what is written comes back, and what others wrote is data at most."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from mtl.bundling import load_trained
from mtl.checkpoint import CheckpointError, load_state, load_weights, save_state, save_weights
from mtl.config import as_written, describe
from mtl.models.configured import model_from
from mtl.resume import check_same_settings
from mtl.settings import ModelSettings, RunSettings, Stage

from tests.bundles import ROOMS_B0

pytestmark = pytest.mark.training


class Hostile:
    """Pickled, it asks the reader to create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


def test_weights_come_back_with_their_description(tmp_path: Path) -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    save_weights(tmp_path / "w.safetensors", weights, {"step": 4, "name": "é"})
    loaded, description = load_weights(tmp_path / "w.safetensors")
    assert description == {"step": 4, "name": "é"}
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_a_run_older_than_a_setting_had_what_was_usual_then(tmp_path: Path) -> None:
    settings = RunSettings(
        stages=(Stage(height=32, width=64, steps=1),), model=ModelSettings(exchange=True, top_down=True, fine=True, slim=False)
    )
    written = describe(settings)
    for name in ("exchange", "top_down", "fine", "slim"):
        del written["model"][name]
    path = tmp_path / "runs" / "old" / "best.safetensors"
    path.parent.mkdir(parents=True)
    weights = model_from(settings).state_dict()
    save_weights(path, weights, {"config": written, "step": 1, "size": [32, 64]})
    found = load_trained(path)
    assert found.settings == settings
    assert all(torch.equal(weights[name], value) for name, value in found.model.state_dict().items())
    then = {"exchange": True, "top_down": False, "fine": True, "slim": False}
    assert as_written({"model": {"top_down": False}})["model"] == then
    assert as_written([]) == []
    check_same_settings(json.dumps(written), 1, settings, where="it")


def test_a_state_comes_back(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"step": 3, "rng": torch.get_rng_state(), "nested": {"x": [1.5, "text", None]}})
    state = load_state(tmp_path / "state.pt")
    assert state["step"] == 3
    assert state["nested"] == {"x": [1.5, "text", None]}


def test_a_hostile_pickle_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"version": 1, "model": Hostile(trap)}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="refused"):
        load_state(tmp_path / "state.pt")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 64, b"\x80\x02}q\x00."])
def test_corrupt_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for load in (load_state, load_weights):
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, keep: float) -> None:
    save_state(tmp_path / "state.pt", {"model": {"w": torch.randn(100, 100)}})
    save_weights(tmp_path / "w.safetensors", {"w": torch.randn(100, 100)}, {})
    for name, load in (("state.pt", load_state), ("w.safetensors", load_weights)):
        payload = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(payload[: int(len(payload) * keep)])
        with pytest.raises(CheckpointError):
            load(tmp_path / name)


def test_safetensors_of_others_have_no_description_and_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match="Give runs/<name>/best"):
        load_weights(tmp_path / "other.safetensors")


def test_missing_files_are_named(tmp_path: Path) -> None:
    for load in (load_state, load_weights):
        with pytest.raises(CheckpointError, match="absent cannot be read"):
            load(tmp_path / "absent")


def test_a_failed_write_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "state.pt", {"step": 1})

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        save_state(tmp_path / "state.pt", {"step": 2})
    monkeypatch.undo()
    assert load_state(tmp_path / "state.pt")["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


class TestBundleAsCheckpoint:
    def test_rooms_b0_rebuilds_its_network(self) -> None:
        found = load_trained(ROOMS_B0)
        assert found.size == (288, 384)
        assert sum(parameter.numel() for parameter in found.model.parameters()) == 3_500_657
        weights, _ = load_weights(ROOMS_B0)
        assert all(torch.equal(weights[name], value) for name, value in found.model.state_dict().items())


@pytest.mark.parametrize("pickled", [b"q", b"\x80\x02r\x00", b"\x80\x02}X\xff\xff\xff\x7f", b"\x80\x02h\x09."])
def test_a_state_whose_pickle_is_damaged_is_a_typed_error(tmp_path: Path, pickled: bytes) -> None:
    save_state(tmp_path / "state.pt", {"step": 1})
    with zipfile.ZipFile(tmp_path / "state.pt") as whole, zipfile.ZipFile(tmp_path / "damaged.pt", "w") as damaged:
        for name in whole.namelist():
            damaged.writestr(name, pickled if name.endswith("data.pkl") else whole.read(name))
    with pytest.raises(CheckpointError, match=r"corrupt|refused"):
        load_state(tmp_path / "damaged.pt")
