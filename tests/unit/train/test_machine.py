"""In which numbers a network computes: bfloat16 only where the device multiplies it, unless a person asks for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mtl import machine
from mtl.evaluate import model_predictor
from mtl.machine import computes_in_bf16, slow_arithmetic
from mtl.models import MultiTaskModel
from mtl.settings import LoopSettings

from edge_mtl.device import fingerprint
from tests.tiny_training import SIZE, made_up_batch, tiny_settings, tiny_training

pytestmark = pytest.mark.training

CPU = torch.device("cpu")


def processor(monkeypatch: pytest.MonkeyPatch, *isa: str) -> None:
    ours = replace(fingerprint(), isa=isa)
    monkeypatch.setattr(machine, "fingerprint", lambda: ours)


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        (("avx2", "fma"), False),
        (("avx2", "avx512f", "avx512_vnni"), False),
        (("avx512f", "avx512_bf16"), True),
        (("asimd", "bf16"), True),
    ],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    isa: tuple[str, ...], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, *isa)
    assert computes_in_bf16("auto", CPU) is expected
    assert computes_in_bf16("bf16", CPU)
    assert not computes_in_bf16("fp32", CPU)


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_is_bfloat16_on_gpus_that_have_it(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or hardware

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert computes_in_bf16("auto", torch.device("cuda")) is hardware


def test_auto_is_the_default() -> None:
    assert LoopSettings().precision == "auto"


@pytest.mark.parametrize("hardware", [True, False])
def test_steps_and_evaluations_compute_as_the_setting_says(
    hardware: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, *(["avx512_bf16"] if hardware else ["avx2"]))
    settings = tiny_settings(tmp_path, tmp_path, **{"loop.precision": "auto"})
    seen: list[bool] = []
    hook = MultiTaskModel.features

    def features(self: MultiTaskModel, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(torch.is_autocast_enabled("cpu"))
        return hook(self, images)

    monkeypatch.setattr(MultiTaskModel, "features", features)
    training = tiny_training(settings)
    training.advance(made_up_batch(2))
    model_predictor(training.model, precision="auto")(np.zeros((1, *SIZE, 3), np.uint8))
    assert seen
    assert set(seen) == {hardware}


def test_bfloat16_that_has_to_be_imitated_is_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "avx2")
    assert "this processor has to imitate bf16" in str(slow_arithmetic("bf16", CPU))
    assert slow_arithmetic("auto", CPU) is None
    assert slow_arithmetic("fp32", CPU) is None
    processor(monkeypatch, "avx512_bf16")
    assert slow_arithmetic("bf16", CPU) is None
