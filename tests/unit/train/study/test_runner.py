"""Rows of a study: read, planned, trained in processes of their own, stopped, gone on with, and noted when they fail."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import pytest
import study as study_script
from mtl.checkpoint import CheckpointError
from mtl.config import ConfigError, describe, load_config, split_arguments
from mtl.models import EdgeOptions
from mtl.study import process, runner
from mtl.study.definition import load_study
from mtl.study.records import read_outcome, read_records
from mtl.study.toml_tables import StudyError, merged, toml_value
from rich.console import Console

from edge_mtl.tasks import NYU_TASKS

pytestmark = pytest.mark.training

REPOSITORY = Path(__file__).parents[4]
STUDIES = REPOSITORY / "train" / "studies"

SMALL = """
name = "Small study"
title = "Title"
question = "Question?"
base = "base.toml"
reference = "all"
seeds = [0]
[single]
depth = "depth alone"
[groups]
tasks = { title = "Tasks" }
[overrides]
loop = { threads = 1 }
stages = [{ height = 32, width = 64, steps = 6, batch = 2 }]
[[rows]]
name = "all"
groups = ["tasks"]
seeds = [0, 1]
[[rows]]
name = "depth alone"
groups = ["tasks"]
overrides = { model.tasks = ["depth"] }
[[rows]]
name = "large"
groups = ["tasks"]
run = false
reason = "too large here"
"""

STAND_IN = """
import json, os, pathlib, signal, sys, time
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
name, folder = json.loads(given["--name"]), pathlib.Path(given["--folder"]) / json.loads(given["--name"])
control = json.loads(pathlib.Path("control.json").read_text())
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(True))
state = folder / "state.pt"
step = int(state.read_text()) if state.exists() else 0
def write(**record):
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(record) + "\\n")
if name in control.get("fails", []):
    print("train: the loss is not finite [here]", file=sys.stderr)
    sys.exit(13)
(folder / "config.json").write_text(pathlib.Path("described", name + ".json").read_text())
write(kind="start", step=step, parameters=100, time=time.time())
while step < 6:
    time.sleep(control.get("sleep", 0.0))
    step += 1
    print(f"step {step}/6", flush=True)
    if asked:
        state.write_text(str(step))
        sys.exit(130)
write(kind="validation", step=6, miou=0.5)
write(kind="test", step=6, weights="last", miou=0.4)
state.write_text("6")
write(kind="done", step=6, time=time.time())
"""
"""Behaves as train/train.py does towards a study; the real one is trained with below."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, whose runs are those of the stand-in."""
    (tmp_path / "study.toml").write_text(SMALL)
    (tmp_path / "base.toml").write_text("name = 'base'\n")
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "_TRAIN", tmp_path / "stand_in.py")
    monkeypatch.setattr(runner, "_POLL_S", 0.02)
    control(tmp_path)
    (tmp_path / "described").mkdir()
    for run in load_study(tmp_path / "study.toml").runs(Path("runs")):
        (tmp_path / "described" / f"{run.name}.json").write_text(json.dumps(describe(run.settings)))
    return tmp_path


def control(place: Path, **content: object) -> None:
    (place / "control.json").write_text(json.dumps(content))


def train(*, jobs: int = 1) -> runner.Tally:
    runs = load_study(Path("study.toml")).runs(Path("runs"))
    return runner.train_all(runs, jobs=jobs, console=Console(file=io.StringIO(), width=200))


@pytest.mark.parametrize("name", ["rooms-small", "nyuv2", "nyuv2-brief"])
def test_the_arguments_of_every_row_mean_the_settings_that_were_planned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    study = load_study(STUDIES / f"{name}.toml")
    runs = study.runs(Path("runs") / "x", extra={"optimizer.lr": "5e-4"})
    for run in runs:
        given = dict(zip(run.arguments[::2], run.arguments[1::2], strict=True))
        config = Path(given.pop("--config"))
        assert load_config(config, split_arguments([text for pair in given.items() for text in pair])) == run.settings
    assert len({run.name for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)  # every row gets its first seed first


def test_the_studies_have_what_was_asked_of_them() -> None:
    small, full = (load_study(STUDIES / f"{name}.toml") for name in ("rooms-small", "nyuv2"))
    for study in (small, full):
        methods = {run.settings.losses.weighting for run in study.runs(Path("runs"))}
        gradient = {"pcgrad", "cagrad", "nash_mtl", "imtl_g", "mgda", "aligned_mtl", "upgrad"}
        assert methods == {"fixed", "uncertainty", "dwa", "rlw", "gls", "famo", *gradient}
        assert {run.settings.model.sharing for run in study.runs(Path("runs"))} == {"full", "partial", "separate"}
        assert {run.settings.model.decoder for run in study.runs(Path("runs"))} == {"edge", "aspp", "aspp_folded"}
    main = load_study(STUDIES / "rooms-main.toml")
    today = EdgeOptions()
    for study in (main, full):  # the decoder that new models have is judged too
        models = [run.settings.model for run in study.runs(Path("runs")) if run.settings.model.decoder == "edge"]
        assert any(all(getattr(model, part) == value for part, value in asdict(today).items()) for model in models)
    assert {run.settings.steps for run in small.runs(Path("runs"))} == {330}  # an equal budget
    assert [row.name for row in small.rows if not row.run] == ["ResNet-50", "Swin-B"]
    assert all(len(small[name].seeds) == 2 for name in (small.reference, *small.single.values()))


def test_the_brief_study_of_nyuv2_is_every_set_of_its_tasks_twice_under_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    study = load_study(STUDIES / "nyuv2-brief.toml")
    runs = study.runs(Path("runs"))
    assert len(runs) == 14
    assert all(run.row.run for run in runs)
    every = tuple(NYU_TASKS)
    sets = [chosen for count in (1, 2, 3) for chosen in combinations(every, count)]
    wanted = sorted((one, seed) for one in sets for seed in (0, 1))
    assert sorted((run.settings.model.tasks, run.seed) for run in runs) == wanted
    assert {task: study[row].overrides["model"]["tasks"] for task, row in study.single.items()} == {t: [t] for t in every}
    alike = [replace(run.settings, name="", seed=0, model=replace(run.settings.model, tasks=every)) for run in runs]
    assert all(replace(one, loop=replace(one.loop, cosine_every=0)) == alike[1] for one in alike)
    one = alike[1]
    assert (one.model.backbone, one.model.init_part, one.data.kind) == ("pvt_v2_b0", "backbone", "nyuv2")
    assert (one.stages[0].height, one.stages[0].width, one.steps) == (128, 160, 900)
    assert (one.data.validation_from_train, one.loop.test_at_end) == (64, True)
    assert Path(one.model.init, "manifest.json").is_file()
    assert study.whole is not None
    assert load_study(STUDIES / study.whole.study).name == "nyuv2"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('reference = "all"', 'reference = "nobody"', "which is not a row"),
        ('depth = "depth alone"', 'deep = "depth alone"', "single.deep"),
        ('groups = ["tasks"]', 'groups = ["task"]', "groups should be some of tasks"),
        ('reason = "too large here"', "", "needs a reason"),
        ('title = "Title"', "", "title is missing"),
        ("seeds = [0, 1]", "seeds = [true]", "whole numbers"),
        ("seeds = [0, 1]", "sedes = [0, 1]", "unknown key 'sedes'"),
        ('name = "large"', 'name = "ALL!"', "more than punctuation"),
        ("{ model.tasks", "{ seed = 3, model.tasks", "which the study sets"),
        ('name = "Small study"', 'name = "Small study', "is not TOML"),
        ("[overrides]", '[whole]\nstudy = "gone.toml"\nreason = "slow"\n[overrides]', "gone.toml, which is no file"),
        ("[overrides]", '[whole]\nstudy = "study.toml"\n[overrides]', "whole.: reason is missing"),
    ],
)
def test_mistakes_in_a_study_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    (tmp_path / "study.toml").write_text(SMALL.replace(old, new, 1))
    with pytest.raises(StudyError, match=message):
        load_study(tmp_path / "study.toml")


def test_a_row_with_an_unknown_setting_is_named_before_anything_is_trained(place: Path) -> None:
    (place / "study.toml").write_text(SMALL.replace("model.tasks", "model.task"))
    with pytest.raises(ConfigError, match=r"row 'depth alone'.*did you mean 'model.tasks'"):
        train()
    assert not (place / "runs").exists()


def test_values_are_written_as_toml_and_tables_are_merged() -> None:
    value = [{"height": 32, "fine": True}, 'a "b"', 1e-4]
    assert toml_value(value) == '[{height = 32, fine = true}, "a \\"b\\"", 0.0001]'
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": 3}, "d": [2]}) == {"a": {"b": 1, "c": 3}, "d": [2]}


def test_every_row_and_seed_is_trained_once_and_not_again(place: Path) -> None:
    first = train()
    assert first.trained == ("all-s0", "depth-alone-s0", "all-s1")
    assert first.failed == ()
    assert not list((place / "runs").glob("*/state.pt"))  # nothing is left to continue
    assert not (place / "runs" / "large-s0").exists()
    second = train()
    assert (second.skipped, second.trained) == (("all-s0", "depth-alone-s0", "all-s1"), ())


def test_a_failing_row_costs_no_other_row_and_is_tried_again(place: Path) -> None:
    control(place, fails=["all-s0"])
    tally = train()
    assert (tally.failed, tally.trained) == (("all-s0",), ("depth-alone-s0", "all-s1"))
    outcome = read_outcome(place / "runs" / "all-s0")
    assert outcome is not None
    assert (outcome.exit_code, outcome.message) == (13, "the loss is not finite [here]")
    control(place)
    assert train().trained == ("all-s0",)


def test_two_jobs_train_two_rows_at_once(place: Path) -> None:
    control(place, sleep=0.15)
    train(jobs=2)
    spans = []
    for name in ("all-s0", "depth-alone-s0"):
        lines = [json.loads(line) for line in (place / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        spans.append((lines[0]["time"], lines[-1]["time"]))
    assert max(start for start, _ in spans) < min(end for _, end in spans)


AFTER = """
[[rows]]
name = "depth first"
groups = ["tasks"]
after = "depth alone"
seeds = [0]
"""


@pytest.fixture
def two_steps(place: Path) -> Path:
    """The same study, a row of which starts from another one's weights."""
    (place / "study.toml").write_text(SMALL + AFTER)
    for run in load_study(place / "study.toml").runs(Path("runs")):
        (place / "described" / f"{run.name}.json").write_text(json.dumps(describe(run.settings)))
    return place


class TestARowAfterAnother:
    def test_it_starts_from_the_last_weights_of_the_same_seed(self, two_steps: Path) -> None:
        runs = {run.name: run for run in load_study(Path("study.toml")).runs(Path("runs"))}
        first, then = runs["depth-alone-s0"], runs["depth-first-s0"]
        assert Path(then.settings.model.init) == first.folder / "last.safetensors"
        assert then.settings.model.pretrained == ""
        assert (then.after, first.after) == (first.folder, None)

    def test_it_waits_for_it_however_many_jobs_there_are(self, two_steps: Path) -> None:
        control(two_steps, sleep=0.05)
        assert set(train(jobs=4).trained) == {"all-s0", "all-s1", "depth-alone-s0", "depth-first-s0"}
        times = {}
        for name in ("depth-alone-s0", "depth-first-s0"):
            lines = [json.loads(line) for line in (two_steps / "runs" / name / "metrics.jsonl").read_text().splitlines()]
            times[name] = (lines[0]["time"], lines[-1]["time"])
        assert times["depth-first-s0"][0] > times["depth-alone-s0"][1]

    def test_it_fails_with_it_and_costs_no_other_row(self, two_steps: Path) -> None:
        control(two_steps, fails=["depth-alone-s0"])
        tally = train()
        assert set(tally.failed) == {"depth-alone-s0", "depth-first-s0"}
        assert set(tally.trained) == {"all-s0", "all-s1"}
        assert not (two_steps / "runs" / "depth-first-s0").exists()
        control(two_steps)
        assert set(train().trained) == {"depth-alone-s0", "depth-first-s0"}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('after = "depth alone"', 'after = "depth"', "after 'depth', which is no earlier row"),
            ('after = "depth alone"', 'after = "depth first"', "which is no earlier row"),
            ('after = "depth alone"', 'after = "large"', "after 'large', which is not run"),
            ("seeds = [0]\n", "seeds = [0, 7]\n", "seeds that row 'depth alone' has not"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        assert old in AFTER
        (tmp_path / "study.toml").write_text(SMALL + AFTER.replace(old, new))
        with pytest.raises(StudyError, match=message):
            load_study(tmp_path / "study.toml")


def test_a_run_of_other_settings_is_refused_and_not_reported(place: Path) -> None:
    train()
    (place / "study.toml").write_text(SMALL.replace("batch = 2", "batch = 4"))
    with pytest.raises(CheckpointError, match=r"all-s0 was trained with stages\.0\.batch = 2, not 4"):
        train()


DRIVER = """
import sys
sys.path[:0] = [{train!r}, {repository!r}]
from pathlib import Path
from mtl.study import process
process._TRAIN = Path("stand_in.py").resolve()
import study
sys.exit(study.main(["study.toml", "--runs", "runs", "--only", "all", "--no-images"]))
"""


@pytest.fixture
def started(place: Path) -> Callable[[], subprocess.Popen[bytes]]:
    """Starts the study's command as a process of its own, and returns when its first run has taken two steps."""
    (place / "driver.py").write_text(DRIVER.format(train=str(REPOSITORY / "train"), repository=str(REPOSITORY)))

    def start() -> subprocess.Popen[bytes]:
        log = place / "runs" / "all-s0" / "train.log"
        started = subprocess.Popen([sys.executable, "driver.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: b"step 2/6" in (log.read_bytes() if log.exists() else b"") or started.poll() is not None)
        return started

    return start


def until(happened: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    limit = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_study_leaves_checkpoints_and_goes_on(
    place: Path, started: Callable[[], subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    control(place, sleep=0.1)
    study = started()
    os.kill(study.pid, number)
    _, error = study.communicate(timeout=60)
    assert study.returncode == 130, error
    assert b"run the same command again" in error
    assert (place / "runs" / "all-s0" / "state.pt").exists()
    control(place)
    assert "all-s0" in train().trained
    records = [json.loads(line) for line in (place / "runs" / "all-s0" / "metrics.jsonl").read_text().splitlines()]
    starts = [one["step"] for one in records if one["kind"] == "start"]
    assert starts[0] == 0 < starts[1]


def test_a_killed_study_leaves_its_run_training_and_the_next_one_waits_for_it(
    place: Path, started: Callable[[], subprocess.Popen[bytes]]
) -> None:
    control(place, sleep=0.1)
    study = started()
    study.kill()
    study.communicate()
    assert process.is_trained_elsewhere(place / "runs" / "all-s0")
    with pytest.raises(StudyError, match="being trained by another process"):
        process.RunProcess(load_study(Path("study.toml")).runs(Path("runs"))[0], machine="", commit="")
    assert "all-s0" not in train().trained  # the run that was left behind finished it
    records = (place / "runs" / "all-s0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in records].count("start") == 1
    assert read_records(place / "runs" / "all-s0").finished


def test_what_a_resumed_run_repeats_is_read_once_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    lines = [
        {"kind": "start", "step": 0, "parameters": 7},
        *({"kind": "cosine", "step": step, "segmentation+depth": 0.1} for step in (1, 2, 3)),
        {"kind": "start", "step": 2, "parameters": 7},
        {"kind": "cosine", "step": 3, "segmentation+depth": 0.5},
        {"kind": "test", "step": 4, "weights": "last", "miou": 0.1},
        {"kind": "test", "step": 4, "weights": "best", "miou": 0.2},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "do')
    records = read_records(tmp_path)
    assert [(one["step"], one["segmentation+depth"]) for one in records.cosines] == [(1, 0.1), (2, 0.1), (3, 0.5)]
    assert (records.test("last") or {})["miou"] == 0.1
    assert (records.test("best") or {})["miou"] == 0.2
    assert (records.parameters, records.finished, records.step) == (7, False, 4)
    path.write_text('{"kind": "sta\n' + json.dumps(lines[0]) + "\n")
    with pytest.raises(StudyError, match="line 1 is damaged"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["absent.toml"], 14, "absent.toml cannot be read"),
        (["study.toml", "--only", "nobody"], 14, "has no row 'nobody'"),
        (["study.toml", "--jobs", "0"], 14, "--jobs should be 1 or more"),
        (["study.toml", "--optimiser.lr", "1"], 2, "did you mean 'optimizer.lr'"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_and_an_exit_code(
    place: Path, given: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study_script.main(given) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("study: ")
    assert error.count("\n") == 1


OTHERS = {"outdoors"}
"""Read by scripts of their own, not by train/study.py."""


@pytest.mark.parametrize(
    "path", [path for path in sorted(STUDIES.glob("*.toml")) if path.stem not in OTHERS], ids=lambda path: path.stem
)
def test_the_comment_of_a_study_counts_its_runs(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("name = ")[0]
    study = load_study(path)
    count = sum(len(row.seeds or study.seeds) for row in study.rows if row.run)
    assert all(int(told) == count for told in re.findall(r"(\d+) runs", head))


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": {"a": 1}, "step": 1}',
        '{"kind": "test", "step": 1, "weights": ["last"]}',
        '{"kind": "start", "step": 0, "parameters": "many"}',
        '{"kind": "validation", "step": [1]}',
        "[]",
    ],
)
def test_a_record_whose_kind_is_no_name_is_damaged(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{line}\n{{"kind": "done", "step": 1}}\n')
    with pytest.raises(StudyError, match="line 1 is damaged"):
        read_records(tmp_path)
