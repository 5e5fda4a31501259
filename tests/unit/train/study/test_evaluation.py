"""Delta-m, significance and the study's columns: against hand numbers and the study's own table."""

from __future__ import annotations

import io
import json
from pathlib import Path

import evaluate as evaluate_script
import pytest
import torch
from mtl.arguments import size_argument
from mtl.checkpoint import save_weights
from mtl.config import apply_overrides, describe, parse_config
from mtl.datasets.rooms import RoomsDataset
from mtl.models.configured import model_from
from mtl.study.choices import best_on_test, best_validation, mean_of_last
from mtl.study.columns import DELTA_M, EPOCH, PARAMETERS, STEP, study_table
from mtl.study.delta import change, delta_m, task_changes
from mtl.study.records import RunRecords
from mtl.study.results import Measured
from mtl.study.significance import Difference, Noise
from mtl.tasks.columns import columns_for, every_metric, one_metric
from rich.console import Console

from edge_mtl.tasks import NYU_TASKS, measure_names

pytestmark = pytest.mark.training

ONE, EVERY = one_metric(NYU_TASKS), every_metric(NYU_TASKS)
NAMES = [column.key for column in columns_for(measure_names(NYU_TASKS))]
PVTV2 = dict(zip(NAMES, [0.5463, 0.7585, 0.3770, 0.1544, 25.22, 18.75, 0.3195, 0.5703, 0.6827], strict=True))
SINGLE = dict(zip(NAMES, [0.5526, 0.7605, 0.3854, 0.1562, 23.55, 16.33, 0.3680, 0.6149, 0.7147], strict=True))
"""The study's shared model and its three single-task models."""


def test_delta_m_of_the_study_is_what_its_table_gives_by_hand() -> None:
    changes = task_changes(PVTV2, SINGLE, by=ONE)
    assert changes["segmentation"] == pytest.approx(100 * (0.5463 - 0.5526) / 0.5526)
    assert changes["depth"] == pytest.approx(100 * (0.3854 - 0.3770) / 0.3854)
    assert changes["normals"] == pytest.approx(-100 * (25.22 - 23.55) / 23.55)
    assert delta_m(PVTV2, SINGLE, by=ONE) == pytest.approx((-1.1401 + 2.1796 - 7.0913) / 3, abs=1e-4)


def test_with_every_metric_of_a_task_the_normals_weigh_no_more_than_a_task() -> None:
    changes = task_changes(PVTV2, SINGLE, by=EVERY)
    assert changes["segmentation"] == pytest.approx((-1.1401 - 0.2630) / 2, abs=1e-3)
    assert changes["depth"] == pytest.approx((2.1796 + 1.1524) / 2, abs=1e-3)
    assert changes["normals"] == pytest.approx((-7.0913 - 14.8194 - 13.1793 - 7.2532 - 4.4774) / 5, abs=1e-3)
    assert delta_m(PVTV2, SINGLE, by=EVERY) == pytest.approx(-2.800, abs=1e-3)


def test_a_pair_is_compared_on_its_own_tasks_and_nothing_on_none() -> None:
    pair = {name: value for name, value in PVTV2.items() if not name.startswith("normal")}
    assert delta_m(pair, SINGLE, by=ONE) == pytest.approx((-1.1401 + 2.1796) / 2, abs=1e-4)
    assert delta_m({}, SINGLE, by=ONE) is None
    assert delta_m({"miou": float("nan")}, SINGLE, by=ONE) is None
    assert delta_m(SINGLE, SINGLE, by=ONE) == 0


@pytest.mark.parametrize(("name", "sign"), [("miou", 1), ("depth_abs_m", -1), ("normal_mean_deg", -1), ("normal_within_30", 1)])
def test_a_change_is_positive_when_it_is_for_the_better(name: str, sign: int) -> None:
    assert change(name, 1.1, 1.0) == pytest.approx(10 * sign)
    with pytest.raises(ValueError, match="baseline is 0"):
        change(name, 1.0, 0.0)


def test_a_difference_within_the_spread_of_seeds_is_none_shown_and_a_larger_one_is() -> None:
    noise = Noise(
        [{"miou": Measured.over([0.50, 0.51])}, {"miou": Measured.over([0.40, 0.408])}, {"miou": Measured.over([0.3])}]
    )
    share = (((0.01 / 2**0.5) / 0.505) ** 2 + ((0.008 / 2**0.5) / 0.404) ** 2) / 2
    assert noise.share("miou") == pytest.approx(share**0.5)
    assert noise.freedom("miou") == 2
    small = noise.difference({"miou": 3.0}, seeds={"miou": (2, 2)})
    assert small.margin == pytest.approx(100 * 4.30 * share**0.5)
    assert (small.verdict, noise.difference({"miou": 9.0}, seeds={"miou": (2, 2)}).verdict) == ("none shown", "better")
    assert noise.difference({"miou": -9.0}, seeds={"miou": (2, 2)}).verdict == "worse"
    one_seed = noise.difference({"miou": 3.0}, seeds={"miou": (1, 1)})
    assert one_seed.margin == pytest.approx(small.margin * 2**0.5)


def test_without_any_second_seed_nothing_is_claimed() -> None:
    noise = Noise([{"miou": Measured.over([0.5])}])
    difference = noise.difference({"miou": 50.0}, seeds={"miou": (1, 1)})
    assert difference == Difference(50.0, None)
    assert difference.verdict == "unknown"


def test_the_last_the_best_and_the_mean_of_evaluations_are_told_apart() -> None:
    validations = tuple({"step": step, "miou": miou} for step, miou in ((10, 0.1), (20, 0.4), (30, 0.2)))
    tests = ({"step": 20, "miou": 0.5}, {"step": 30, "miou": 0.3})
    records = RunRecords(validations=validations, tests=tests)
    assert best_validation(records) == {"miou": 0.4, "step": 20}
    assert mean_of_last(records, count=2) == {"miou": pytest.approx(0.3)}
    assert best_on_test(records) == {"miou": 0.5}
    assert best_on_test(RunRecords(tests=tests[1:])) is None  # one test chooses nothing
    assert mean_of_last(RunRecords(), count=2) is None


def test_the_table_has_the_studys_columns_and_leaves_out_what_nobody_measured() -> None:
    rows = {"shared": {**PVTV2, STEP: 1980, EPOCH: 20.0, PARAMETERS: 39_020_753, DELTA_M: -2.0173}, "seg": {"miou": 0.5526}}
    text = printed(rows)
    for wanted in ("mIoU", "pixAcc", "n. mean", "<11.25", "1980 (20.0)", "39.02M", "0.5463", "25.22", "-2.02"):
        assert wanted in text
    assert "rel" not in printed({"seg": {"miou": 0.5526}})


def test_a_size_is_height_times_width() -> None:
    import argparse

    assert size_argument("288x384") == (288, 384)
    with pytest.raises(argparse.ArgumentTypeError, match="HEIGHTxWIDTH"):
        size_argument("288")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    RoomsDataset(root, "test", 2, height=32, width=64, workers=1, progress=False)
    return root


def untrained(folder: Path, rooms: Path, tasks: list[str]) -> Path:
    """The folder of a run that stopped before it learnt anything."""
    stages = "[{height = 32, width = 64, steps = 4, batch = 2}]"
    data = {"data.root": f"'{rooms}'", "data.height": "32", "data.width": "64", "data.train": "4", "data.test": "2"}
    settings = parse_config(apply_overrides({}, {"stages": stages, "model.tasks": json.dumps(tasks), **data}))
    torch.manual_seed(len(tasks))
    weights = model_from(settings).state_dict()
    for name in ("last", "best"):
        save_weights(folder / f"{name}.safetensors", weights, {"config": describe(settings), "step": 4, "size": [32, 64]})
    lines = [
        {"kind": "start", "step": 0, "parameters": 1},
        *({"kind": "validation", "step": s, "miou": s / 10} for s in (2, 4)),
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_runs_are_measured_with_delta_m_against_single_task_models(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = untrained(tmp_path / "both", rooms, ["segmentation", "depth"])
    seg, depth = (untrained(tmp_path / task, rooms, [task]) for task in ("segmentation", "depth"))
    out = tmp_path / "numbers.json"
    code = evaluate_script.main([str(both), "--single", str(seg), str(depth), "--average", "2", "--save", str(out)])
    text = capsys.readouterr().out
    assert code == 0, text
    content = json.loads(out.read_text())
    assert {"date", "commit", "command", "device", "versions"} <= set(content), "the result names how it was measured"
    metrics = content["metrics"]
    assert set(metrics) == {"last", "best"}
    assert metrics["last"]["step"] == 4
    assert metrics["last"]["epoch"] == 2.0
    assert metrics["last"]["parameters"] > 1_000_000
    assert isinstance(metrics["last"]["delta_m"], float)
    for wanted in ("single: segmentation last", "Δm %", "both, mean of the last 2", "0.3000", "step (epoch)"):
        assert wanted in text


def test_a_report_holds_the_table_and_says_whether_the_tasks_pulled_apart(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet, sampled = (untrained(tmp_path / name, rooms, ["segmentation", "depth"]) for name in ("quiet", "sampled"))
    with (sampled / "metrics.jsonl").open("a") as journal:
        for step, cosine in enumerate((0.5, -0.25, -0.25, 0.2)):
            journal.write(json.dumps({"kind": "cosine", "step": step, "segmentation+depth": cosine}) + "\n")
    out = tmp_path / "report"
    assert evaluate_script.main([str(quiet), str(sampled), "--out", str(out)]) == 0, capsys.readouterr().err
    text = (out / "report.md").read_text()
    assert "| segmentation + depth | +0.050 | 50% |" in text
    assert "quiet sampled no gradients: train with --loop.cosine\\_every" in text
    assert "<svg" in (out / "cosines-1.svg").read_text()
    numbers = json.loads((out / "results.json").read_text())
    assert set(numbers["metrics"]) == {"quiet last", "quiet best", "sampled last", "sampled best"}
    for value in numbers["metrics"]["sampled last"].values():
        assert value is None or isinstance(value, (int, float))
    assert f"{numbers['metrics']['quiet last']['depth_abs_m']:.4f}" in text
    assert "<table" in (out / "report.html").read_text()


def test_models_whose_folders_have_one_name_are_told_apart(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [untrained(tmp_path / study / "edge-s0", rooms, ["depth"]) for study in ("one", "two")]
    out = tmp_path / "numbers.json"
    assert evaluate_script.main([*map(str, runs), "--weights", "last", "--json", str(out)]) == 0
    assert "is now `--save FILE`" in capsys.readouterr().err
    assert evaluate_script.main([*map(str, runs), "--weights", "last", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["metrics"] == json.loads(out.read_text())["metrics"]
    numbers = json.loads(out.read_text())
    assert set(numbers["metrics"]) == {"one/edge-s0 last", "two/edge-s0 last"}
    assert {name.partition(",")[0] for name in numbers["recorded_on_validation"]} == {"one/edge-s0", "two/edge-s0"}


def test_engines_of_a_run_are_refused_with_the_command_that_makes_a_bundle(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained(tmp_path / "run", rooms, ["depth"])
    assert evaluate_script.main([str(run), "--engines"]) == 3
    assert "train/export.py" in capsys.readouterr().err


def printed(rows: dict[str, dict[str, float]]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(study_table(rows))
    return stream.getvalue()
