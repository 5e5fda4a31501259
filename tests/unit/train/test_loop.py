"""The loop's own settings: lengths in epochs, schedules, optimisers, parts, the machine, and weights from elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from mtl.config import ConfigError, apply_overrides, describe, parse_config
from mtl.datasets.nyuv2.layout import FRAMES
from mtl.datasets.nyuv2.source import NYUV2_TRAIN
from mtl.ema import Ema
from mtl.machine import prepared
from mtl.parallel import Parallel
from mtl.schedule import ends_pass, learning_rate, passes_at
from mtl.settings import LoopSettings, OptimizerSettings, RunSettings

from edge_mtl.errors import BackendUnavailable
from tests.tiny_training import made_up_batch, tiny_settings, tiny_training

pytestmark = pytest.mark.training


def settings_with(**changes: str) -> RunSettings:
    return parse_config(apply_overrides({}, {key.replace("__", "."): value for key, value in changes.items()}))


def test_epochs_are_whole_passes_without_the_frames_that_fill_no_batch() -> None:
    settings = settings_with(stages="[{height=96, width=128, epochs=3, batch=8}]", data__train="100")
    assert settings.steps == 3 * (100 // 8)
    assert parse_config(describe(settings)) == settings  # what a run wrote down means the same
    assert [ends_pass(settings, step) for step in (10, 11, 12, 23)] == [False, True, False, True]
    assert passes_at(settings, 24) == pytest.approx(2.0)


def test_epochs_of_nyuv2_are_its_official_split() -> None:
    assert FRAMES["train"] == NYUV2_TRAIN
    stages = "[{height=288, width=384, epochs=200, batch=8}]"
    assert settings_with(stages=stages, data__kind="nyuv2").steps == 200 * 99
    assert settings_with(stages=stages, data__kind="nyuv2", data__validation_from_train="95").steps == 200 * 87


def test_passes_are_counted_over_stages_of_different_batches() -> None:
    stages = "[{height=96, width=128, epochs=2, batch=10}, {height=96, width=128, epochs=1, batch=5, train=50}]"
    settings = settings_with(stages=stages, data__train="100")
    assert [stage.steps for stage in settings.stages] == [20, 10]
    assert passes_at(settings, 25) == pytest.approx(2.5)


def test_the_staircase_halves_every_hundred_passes_and_the_constant_stays() -> None:
    stairs = OptimizerSettings(lr=1e-4, schedule="step", warmup=0.0)
    rates = [learning_rate(10, steps=1000, settings=stairs, passes=passes) for passes in (0.0, 99.9, 100.0, 200.0)]
    assert rates == pytest.approx([1e-4, 1e-4, 0.5e-4, 0.25e-4])
    constant = OptimizerSettings(lr=1e-4, schedule="constant", warmup=0.0)
    assert {learning_rate(step, steps=10, settings=constant, passes=300.0) for step in range(10)} == {1e-4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loop.accumulate": "0"}, "loop.accumulate should be 1 or more"),
        ({"loop.accumulate": "3"}, "should divide the batch"),
        ({"loop.accumulate": "2", "losses.weighting": "gls"}, "weighs whole batches"),
        ({"loop.device": "tpu"}, "loop.device should be one of auto, cpu, cuda"),
        ({"loop.cosine_every": "-1"}, "count from 0"),
        ({"optimizer.warmup": "2"}, "share of all steps"),
        ({"optimizer.schedule": "linear"}, "should be one of cosine, constant, step"),
        ({"stages": "[{height=96, width=128}]"}, "stages.0 needs steps or epochs"),
        ({"stages": "[{height=96, width=128, epochs=2, batch=0}]"}, "batch should be 1 or more"),
    ],
)
def test_what_the_loop_cannot_do_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(apply_overrides({}, changes))


def test_adam_decays_every_weight_and_adamw_matrices_only() -> None:
    decayed = {}
    for name in ("adam", "adamw"):
        training = tiny_training(tiny_settings(Path("rooms"), Path("runs"), **{"optimizer.name": name}))
        decayed[name] = sum(parameter.numel() for parameter in training.optimizer.param_groups[0]["params"])
        assert type(training.optimizer) is {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    total = sum(parameter.numel() for parameter in training.model.parameters())
    assert decayed["adamw"] < decayed["adam"] == total


def test_frozen_statistics_stay_and_own_ones_move() -> None:
    for kind, moves in (("frozen", False), ("local", True)):
        training = tiny_training(tiny_settings(Path("rooms"), Path("runs"), **{"optimizer.batch_norm": kind}))
        before = {name: value.clone() for name, value in training.model.named_buffers() if "running" in name}
        training.advance(made_up_batch(4))
        moved = [name for name, value in training.model.named_buffers() if "running" in name and not value.equal(before[name])]
        assert before
        assert bool(moved) == moves


def test_a_step_does_not_depend_on_what_was_drawn_before_it() -> None:
    settings = tiny_settings(Path("rooms"), Path("runs"), **{"model.backbone": "pvt_v2_b0", "model.drop_path": "0.5"})
    totals = []
    for seed in (1, 2):
        training = tiny_training(settings)
        torch.manual_seed(seed)
        totals.append([training.advance(made_up_batch(4)).total for _ in range(2)])
    assert totals[0] == totals[1]
    other = tiny_training(dataclasses.replace(settings, seed=1))
    other.model.load_state_dict(tiny_training(settings).model.state_dict())
    assert other.advance(made_up_batch(4)).total != totals[0][0]


def test_the_average_follows_a_model_whose_weights_are_loaded_again() -> None:
    model = torch.nn.Linear(2, 2)
    ema = Ema(model, decay=0.0)
    ema.update(model, 5)
    model.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.zeros(2)})
    ema.update(model, 6)
    assert torch.equal(ema.model.weight, torch.ones(2, 2))


def test_the_machine_is_left_as_it_was_found() -> None:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with prepared(LoopSettings(device="cpu", threads=threads + 1, deterministic=True)) as device:
        assert device.type == "cpu"
        assert torch.get_num_threads() == threads + 1
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, strict)


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    with prepared(LoopSettings(device="cpu"), parallel=Parallel(world=4, local_world=4)):
        assert torch.get_num_threads() == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_typed_error() -> None:
    with pytest.raises(BackendUnavailable, match=r"--loop\.device cpu"), prepared(LoopSettings(device="cuda")):
        pass


@pytest.mark.parametrize("weighting", ["fixed", "pcgrad"])
def test_a_compiled_network_learns_what_the_plain_one_does(weighting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend="aot_eager"))  # needs no C++ compiler
    losses = []
    for compiled in ("false", "true"):
        changes = {"loop.compile": compiled, "losses.weighting": f"'{weighting}'", "loop.cosine_every": "1"}
        training = tiny_training(tiny_settings(Path("rooms"), Path("runs"), **changes))
        losses.append([training.advance(made_up_batch(4, seed=step)).losses for step in range(2)])
    for plain, traced in zip(*losses, strict=True):
        assert traced == pytest.approx(plain, rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_a_gpu_learns_what_the_cpu_does(compiled: str) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        changes = {"loop.device": device, "loop.compile": compiled if device == "cuda" else "false"}
        settings = tiny_settings(Path("rooms"), Path("runs"), **{**changes, "loop.deterministic": "false"})
        with prepared(settings.loop) as where:
            training = tiny_training(settings, device=where)
            losses.append([training.advance(made_up_batch(4, seed=step)).losses for step in range(3)])
    for ours, theirs in zip(*losses, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-2)
