"""A run that is interrupted ends where it would have: kills, signals, full disks, bad batches, another number of processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mtl.checkpoint import CheckpointError, load_state, load_weights
from mtl.clock import Clock
from mtl.config import ConfigError
from mtl.datasets.frame import Batch
from mtl.loop import StepReport, Training
from mtl.metric_logger import METRICS, MetricLogError, MetricLogger
from mtl.parallel import ALONE, Parallel
from mtl.run import BEST, STATE, Run, TrainingError
from mtl.settings import RunSettings

from benchmarks.killed_runs import survive
from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.tiny_training import make_rooms, quiet, tiny_settings, together

pytestmark = pytest.mark.training

REPOSITORY = Path(__file__).parents[3]
FROZEN = {
    "optimizer.batch_norm": "frozen",
    "losses.weighting": "uncertainty",
    "losses.class_weights": "true",
    "loop.evaluate_every": "4",
}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rooms(tmp_path_factory.mktemp("rooms"))


def state_of(settings: RunSettings) -> dict[str, Any]:
    state: dict[str, Any] = load_state(Path(settings.folder) / settings.name / STATE)["training"]
    return state


def records_of(settings: RunSettings) -> list[dict[str, Any]]:
    lines = (Path(settings.folder) / settings.name / METRICS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def train(parallel: Parallel, settings: RunSettings, steps: int | None = None) -> int:
    """Train, to the end or until `steps` steps are taken and SIGTERM arrives; how many checkpoints were written."""
    from mtl import run

    written = []
    save, advance = run.save_state, Training.advance

    def count(path: Path, state: Any) -> None:
        written.append(path)
        save(path, state)

    def interrupted(self: Training, batch: Batch) -> StepReport:
        report = advance(self, batch)
        if self.step == steps and parallel.rank == parallel.world - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    run.save_state, Training.advance = count, interrupted  # type: ignore[assignment, method-assign]
    try:
        Run(settings, console=quiet(), resume=True, parallel=parallel).train()
    except KeyboardInterrupt:
        assert steps is not None
    finally:
        run.save_state, Training.advance = save, advance  # type: ignore[method-assign]
    return len(written)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    found = survive(tmp_path, kills=4, steps=6, told=lambda line: None)
    assert found.kills == 4
    assert found.runs >= 1
    assert not found.differences


def test_one_process_ends_what_two_began(rooms: Path, tmp_path: Path) -> None:
    whole, parted = (tiny_settings(rooms, tmp_path, name=f"'{name}'", **FROZEN) for name in ("whole", "parted"))
    train(ALONE, whole)
    results = together(train, 2, parted, 2)  # the signal reaches the second process only
    assert results == [(0, 1), (0, 0)]  # one checkpoint, by the first process
    assert state_of(parted)["step"] == 2
    train(ALONE, parted)
    assert state_of(parted)["step"] == state_of(whole)["step"] == 4
    ours, theirs = state_of(whole)["model"], state_of(parted)["model"]
    away = torch.cat([(value - theirs[name]).abs().ravel() for name, value in ours.items() if value.is_floating_point()])
    assert float(away.quantile(0.99)) < 2e-4
    processes = [record["processes"] for record in records_of(parted) if record["kind"] == "start"]
    assert processes == [2, 1]
    with pytest.raises(CheckpointError, match=r"stages\.0\.batch = 4, not 2"):
        Run(tiny_settings(rooms, tmp_path, name="'parted'", **FROZEN, **{"stages.0.batch": "2"}), console=quiet(), resume=True)


def test_a_batch_that_does_not_divide_is_refused(rooms: Path, tmp_path: Path) -> None:
    results = together(train, 3, tiny_settings(rooms, tmp_path))
    assert [code for code, _ in results] == [1, 1, 1]
    assert results[0][1].startswith("TrainingError: stages.0.batch = 4 does not divide into 3 parts")
    assert {text.split(":")[0] for _, text in results[1:]} == {"PeerFailed"}


def train_on_a_full_disk(parallel: Parallel, settings: RunSettings, limit: int) -> str:
    """Files may not grow beyond `limit` bytes, which the kernel enforces."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    Run(settings, console=quiet(), resume=True).train()
    return "done"


def test_a_full_disk_ends_the_run_in_one_line_and_keeps_the_checkpoint_before(rooms: Path, tmp_path: Path) -> None:
    settings = tiny_settings(rooms, tmp_path)
    train(ALONE, settings, 2)
    folder = Path(settings.folder) / settings.name
    before = (folder / STATE).read_bytes()
    [(code, text)] = together(train_on_a_full_disk, 1, settings, 200_000)
    assert code == 1
    assert text.startswith("CheckpointError: ")
    assert "could not be written" in text
    assert "\n" not in text
    assert (folder / STATE).read_bytes() == before
    assert not list(folder.glob(f"{TEMPORARY_PREFIX}*"))
    train(ALONE, settings)
    assert state_of(settings)["step"] == 4


def test_records_after_the_checkpoint_and_torn_lines_are_written_once(tmp_path: Path) -> None:
    first = MetricLogger(tmp_path)
    for step in (1, 2, 3):
        first.write("validation", step=step, miou=float("nan"))
    first.write("done", step=2)
    with (tmp_path / METRICS).open("a") as stream:
        stream.write('{"kind": "valid')
    MetricLogger(tmp_path, step=2).write("start", step=2)
    records = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [(record["kind"], record["step"]) for record in records] == [("validation", 1), ("validation", 2), ("start", 2)]
    assert records[0]["miou"] is None
    MetricLogger(tmp_path).write("start", step=0)
    assert len((tmp_path / METRICS).read_text().splitlines()) == 1


def test_a_journal_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / METRICS).mkdir()
    with pytest.raises(MetricLogError, match="cannot be written"):
        MetricLogger(tmp_path)


def test_the_test_at_the_end_measures_the_last_and_the_best_weights(rooms: Path, tmp_path: Path) -> None:
    wanted = {"loop.test_at_end": "true", "loop.cosine_every": "2", "losses.weighting": "gls", "loop.evaluate_every": "2"}
    settings = tiny_settings(rooms, tmp_path, **wanted, **{"loop.tensorboard": "true"})
    train(ALONE, settings)
    records = records_of(settings)
    kinds = [record["kind"] for record in records]
    assert kinds == ["start", "cosine", "weights", "validation", "cosine", "weights", "validation", "test", "test", "done"]
    assert [record["weights"] for record in records if record["kind"] == "test"] == ["last", "best"]
    cosine = next(record for record in records if record["kind"] == "cosine")
    assert set(cosine) == {"kind", "time", "step", "segmentation+depth", "segmentation+normals", "depth+normals"}
    assert all(-1 <= cosine[pair] <= 1 for pair in cosine if "+" in pair)
    assert list((Path(settings.folder) / settings.name / "tensorboard").glob("events*"))
    train(ALONE, settings)  # resumed at its end: tested once more, written once
    assert [record["kind"] for record in records_of(settings)][-4:] == ["start", "test", "test", "done"]


def test_a_run_starts_from_the_weights_of_another(rooms: Path, tmp_path: Path) -> None:
    short = "[{height=32, width=64, steps=1, batch=4}]"
    source = tiny_settings(rooms, tmp_path, name="'source'", stages=short)
    best = Run(source, console=quiet()).train()
    given = {"model.init": f"'{best}'", "optimizer.lr": "1e-12", "ema.decay": "0.0", "optimizer.batch_norm": "frozen"}
    tuned = Run(tiny_settings(rooms, tmp_path, name="'tuned'", stages=short, **given), console=quiet()).train()
    before, after = load_weights(best)[0], load_weights(tuned)[0]
    assert all(torch.allclose(value, after[name], atol=1e-6) for name, value in before.items())
    with pytest.raises(CheckpointError, match="is of another network: decoder"):
        Run(tiny_settings(rooms, tmp_path, name="'wide'", **given, **{"model.width": "16"}), console=quiet()).train()


def test_a_run_takes_the_backbone_of_another_for_a_decoder_of_its_own(rooms: Path, tmp_path: Path) -> None:
    short = "[{height=32, width=64, steps=1, batch=4}]"
    best = Run(tiny_settings(rooms, tmp_path, name="'source'", stages=short), console=quiet()).train()
    given = {"model.init": f"'{best}'", "model.init_part": "'backbone'", "optimizer.lr": "1e-12", "ema.decay": "0.0"}
    given["optimizer.batch_norm"] = "frozen"
    tuned = tiny_settings(rooms, tmp_path, name="'tuned'", stages=short, **given, **{"model.width": "16"})
    before, after = load_weights(best)[0], load_weights(Run(tuned, console=quiet()).train())[0]
    kept = [name for name in before if name.startswith("backbone.")]
    assert kept
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in kept)
    bare = tiny_settings(rooms, tmp_path, name="'bare'", stages=short, **given, **{"model.normalisation": "'imagenet'"})
    with pytest.raises(CheckpointError, match=r"with model\.normalisation 'none'.*Give --model\.normalisation none"):
        Run(bare, console=quiet()).train()
    other = tiny_settings(rooms, tmp_path, name="'other'", stages=short, **given, **{"model.backbone": "'pvt_v2_b1'"})
    with pytest.raises(CheckpointError, match=r"is of another network: backbone\."):
        Run(other, console=quiet()).train()


@pytest.mark.parametrize("wrong", [{"model.init": "''"}, {"model.sharing": "'separate'"}])
def test_a_part_is_taken_from_a_checkpoint_into_a_shared_backbone_only(
    rooms: Path, tmp_path: Path, wrong: dict[str, str]
) -> None:
    given = {"model.init": "'somewhere'", "model.init_part": "'backbone'", **wrong}
    with pytest.raises(ConfigError, match=r"model\.init_part"):
        tiny_settings(rooms, tmp_path, **given)


def test_a_signal_while_waiting_for_data_ends_the_run_with_a_checkpoint(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Run._batches

    def stuck(self: Run, index: int, training: Training) -> Any:
        coming = made(self, index, training)
        yield next(coming)
        yield next(coming)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # a worker that never answers

    monkeypatch.setattr(Run, "_batches", stuck)
    settings = tiny_settings(rooms, tmp_path)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Run(settings, console=quiet()).train()
    assert time.monotonic() - began < 50
    assert load_state(Path(settings.folder) / settings.name / STATE)["training"]["step"] == 2


def test_a_loss_that_stays_infinite_ends_the_run(rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.run._MOST_BAD_STEPS", 3)
    forward = torch.nn.Module.__call__

    def infinite(self: torch.nn.Module, *given: Any, **named: Any) -> Any:
        found = forward(self, *given, **named)
        return {task: value * torch.inf for task, value in found.items()} if type(self).__name__ == "MultiTaskLoss" else found

    monkeypatch.setattr(torch.nn.Module, "__call__", infinite)
    with pytest.raises(TrainingError, match="not finite since 3 steps"):
        Run(tiny_settings(rooms, tmp_path), console=quiet()).train()


def test_the_clock_tells_waiting_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def source() -> Any:
        for _ in range(3):
            now[0] += 1.0
            yield None

    clock = Clock()
    for _ in clock.waited_for(source()):
        now[0] += 3.0
        clock.step(4.0, images=8)
    assert (clock.training_s, clock.waiting_s, clock.data_wait, clock.images_per_s) == (12.0, 3.0, 0.25, 2.0)


@pytest.mark.slow
def test_torchrun_stops_at_sigterm_with_one_checkpoint_and_goes_on(rooms: Path, tmp_path: Path) -> None:
    settings = tiny_settings(rooms, tmp_path)
    changes = {"model.backbone": "test_convnext", "model.width": "8", "loop.device": "cpu", "loop.loader_workers": "1"}
    changes |= {"stages": "[{height=32, width=64, steps=4000, batch=4}]", "loop.pictures": "0", "loop.threads": "1"}
    changes |= {"data.root": str(rooms), "folder": settings.folder, "data.train": "4", "data.validation": "2"}
    changes |= {"data.height": "32", "data.width": "64", "loop.evaluate_every": "2000", "name": "trial"}
    changes["loop.checkpoint_s"] = "0.0"
    given = [text for key, value in changes.items() for text in (f"--{key}", value)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, str(REPOSITORY / "train" / "train.py"), "--no-export", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    started = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (tmp_path / "trial" / STATE).exists() and started.poll() is None:
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    said = started.communicate()[0]
    assert said.count("continue with the same command and --resume") == 1, said
    assert started.returncode != 0
    step = load_state(tmp_path / "trial" / STATE)["training"]["step"]
    assert step > 0
    shorter = ["--stages.0.steps", str(step + 2), "--resume"]
    done = subprocess.run([*command, *shorter], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"resumed at step {step} of {step + 2}") == 1
    assert (tmp_path / "trial" / BEST).exists()
