"""The report of a study: answers that claim no more than the seeds allow, and files that hold the numbers of the records."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import study as study_script
import torch
from mtl.config import describe
from mtl.datasets.rooms import RoomsDataset
from mtl.study.answers import Answer, answer_all
from mtl.study.comparison import Comparison
from mtl.study.cosines import PairCosines, pair_cosines, smoothed
from mtl.study.definition import load_study
from mtl.study.document import Document, Figure, Heading, Items, TextTable
from mtl.study.facts import facts_of
from mtl.study.html import to_html
from mtl.study.latency import giga_macs, measure_latencies
from mtl.study.markdown import to_markdown
from mtl.study.pareto import Point, front, points
from mtl.study.plots import bars, cosine_lines
from mtl.study.records import Outcome, write_outcome
from mtl.study.report import build_document, write_report
from mtl.study.results import Results, collect_results
from mtl.study.significance import Difference
from mtl.study.timings import EngineLatency, Latencies, RowLatency, read_latencies, write_latencies
from rich.console import Console
from torch import nn

pytestmark = pytest.mark.training

REPOSITORY = Path(__file__).parents[4]
DECODERS = ("shared", "small", "large")

STUDY = """
name = "paper"
title = "A <title> & more"
question = "Does it help?"
base = "base.toml"
reference = "shared"
notes = ["Numbers are made up."]
[single]
segmentation = "seg"
depth = "depth"
normals = "normals"
[groups]
tasks = { title = "Tasks" }
weighting = { title = "Weighting" }
decoders = { title = "Decoders" }
[overrides]
stages = [{ height = 32, width = 64, steps = 6, batch = 2 }]
[latency]
rows = ["shared", "small"]
[[rows]]
name = "shared"
groups = ["tasks", "weighting", "decoders"]
seeds = [0, 1]
[[rows]]
name = "seg"
groups = ["tasks"]
seeds = [0, 1]
overrides = { model.tasks = ["segmentation"] }
[[rows]]
name = "depth"
groups = ["tasks"]
seeds = [0, 1]
overrides = { model.tasks = ["depth"] }
[[rows]]
name = "normals"
groups = ["tasks"]
seeds = [0, 1]
overrides = { model.tasks = ["normals"] }
[[rows]]
name = "seg+depth"
groups = ["tasks"]
overrides = { model.tasks = ["segmentation", "depth"] }
[[rows]]
name = "PCGrad"
groups = ["weighting"]
overrides = { losses.weighting = "pcgrad" }
[[rows]]
name = "small"
groups = ["decoders"]
[[rows]]
name = "large"
groups = ["decoders"]
[[rows]]
name = "broken"
groups = ["weighting"]
[[rows]]
name = "Swin"
groups = ["tasks"]
run = false
reason = "too large | here"
"""

METRICS = {
    "miou": 0.5,
    "pixel_accuracy": 0.7,
    "depth_abs_m": 0.4,
    "depth_rel": 0.16,
    "normal_mean_deg": 24.0,
    "normal_median_deg": 17.0,
    "normal_within_11_25": 0.35,
    "normal_within_22_5": 0.6,
    "normal_within_30": 0.7,
}
TASKS = {"segmentation": ("miou", "pixel_"), "depth": ("depth_",), "normals": ("normal_",)}

Write = Callable[..., Results]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the records of every run, as if it had been trained, and reads them back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "base.toml").write_text("name = 'base'\n")
    study = load_study(Path("study.toml"))
    runs = study.runs(Path("runs"))

    def write(*, spread: float = 0.002, seeds: int = 2, truths: object = None, **changes: dict[str, float]) -> Results:
        for run in runs:
            if not run.row.run:
                continue
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / "config.json").write_text(json.dumps(describe(run.settings)))
            (run.folder / "metrics.jsonl").unlink(missing_ok=True)
            if run.row.name == "broken":
                write_outcome(run.folder, Outcome(13, "the loss is not finite", 3.0))
            elif run.seed < seeds:
                values = metrics_of(run.settings.model.tasks, run.seed * spread, changes.get(run.row.name, {}))
                size = 1_000_000 * (1 + len(run.row.name))
                (run.folder / "metrics.jsonl").write_text(records_of(values, size=size, truths=truths))
                write_outcome(run.folder, Outcome(0, "", 60.0 * (1 + run.seed), "a machine", "abc123"))
        return collect_results(study, runs)

    return write


def metrics_of(tasks: tuple[str, ...], noise: float, changes: dict[str, float]) -> dict[str, float]:
    """Metrics of some tasks; `changes` are factors, `noise` is a share."""
    names = tuple(prefix for task in tasks for prefix in TASKS[task])
    return {name: value * changes.get(name, 1.0) * (1 + noise) for name, value in METRICS.items() if name.startswith(names)}


def records_of(values: dict[str, float], *, size: int, truths: object = None) -> str:
    made = {"truths": truths} if truths else {}
    records = [
        {"kind": "start", "step": 0, "parameters": size},
        *({"kind": "cosine", "step": step, "segmentation+depth": 0.5, "segmentation+normals": 2 - step} for step in range(6)),
        {"kind": "validation", "step": 3, **{name: value * 0.9 for name, value in values.items()}},
        {"kind": "validation", "step": 6, **values},
        *({"kind": "test", "step": 6, "weights": weights, **made, **values} for weights in ("last", "best")),
        {"kind": "done", "step": 6, "seconds": 1.0},
    ]
    return "".join(json.dumps(record) + "\n" for record in records)


def answers_of(results: Results) -> dict[str, Answer]:
    return {answer.question: answer for answer in answer_all(Comparison(results), None)}


SHARED = "Does one model for all tasks match one model for each?"
WEIGHTING = "Does weighting the losses help the normals?"
COST = "Do the normals suffer from sharing?"


def test_a_difference_smaller_than_the_spread_of_seeds_is_not_claimed(written: Write) -> None:
    answer = answers_of(written(spread=0.05, shared={"normal_mean_deg": 1.01}))[SHARED]
    assert (answer.sign, answer.label) == ("none", "no difference shown")
    assert "No difference shown" in answer.sentence
    assert "11.67" not in answer.sentence


def test_a_difference_larger_than_the_spread_is_claimed_with_its_task(written: Write) -> None:
    answer = answers_of(written(spread=0.002, shared={"normal_mean_deg": 1.2}))[SHARED]
    assert answer.sign == "bad"
    assert re.search(r"Δm -6\.\d % \(± \d\.\d\)", answer.sentence)
    assert "normals worse, -20." in answer.sentence
    assert "segmentation" not in answer.sentence
    assert any("segmentation: +0.0 %" in line and "no difference shown" in line for line in answer.details)


def test_with_one_seed_nothing_is_claimed_however_large_the_difference(written: Write) -> None:
    answers = answers_of(written(seeds=1, shared={"normal_mean_deg": 2.0}, PCGrad={"normal_mean_deg": 0.5}))
    assert (answers[SHARED].sign, answers[SHARED].label) == ("unknown", "one seed")
    assert answers[WEIGHTING].sign == "unknown"
    assert "no claim" in answers[WEIGHTING].sentence


@pytest.mark.parametrize(
    ("factor", "seeds", "sign", "said"),
    [
        (1.1, 2, "bad", "“shared” is worse, -10.0 %"),
        (0.9, 2, "good", "“shared” is better, +10.0 %"),
        (1.0001, 2, "none", "Not shown: worst against “normals” is “shared”"),
        (1.1, 1, "unknown", "one seed each, so no claim"),
    ],
)
def test_the_task_that_is_asked_about_is_judged_against_the_network_for_it_alone(
    written: Write, factor: float, seeds: int, sign: str, said: str
) -> None:
    answer = answers_of(written(seeds=seeds, shared={"normal_mean_deg": factor, "miou": 0.3}))[COST]
    assert answer.sign == sign
    assert said in answer.sentence
    assert len(answer.details) == 1, "seg+depth has no normals"


def test_what_suffers_is_not_answered_without_the_network_that_it_is_compared_with(written: Write, tmp_path: Path) -> None:
    results = written()
    for seed in (0, 1):
        (tmp_path / "runs" / f"normals-s{seed}" / "metrics.jsonl").unlink()
    answer = answers_of(collect_results(results.study, results.study.runs(Path("runs"))))[COST]
    assert (answer.sign, answer.sentence) == ("unknown", "Not answered: “normals” not finished.")


def test_rows_are_compared_over_the_seeds_that_both_have(written: Write) -> None:
    compare = Comparison(written(spread=0.2))
    same = compare.against(compare.results["PCGrad"], compare.results["shared"])  # one seed, its numbers are the reference's
    assert same is not None
    assert same.percent == 0.0
    assert compare.results["shared"].metrics()["miou"].mean != compare.results["PCGrad"].metrics()["miou"].mean


def test_weighting_is_judged_by_the_normals_against_equal_weights(written: Write) -> None:
    better = answers_of(written(PCGrad={"normal_mean_deg": 0.8, "miou": 0.5}))[WEIGHTING]
    assert better.sign == "good"
    assert "PCGrad, +20." in better.sentence
    worse = answers_of(written(PCGrad={"normal_mean_deg": 1.2}))[WEIGHTING]
    assert (worse.sign, worse.label) == ("none", "no improvement shown")


def test_pairs_say_who_helps_whom(written: Write) -> None:
    answer = answers_of(written(**{"seg+depth": {"miou": 1.3, "depth_abs_m": 1.3}}))["Which tasks help each other?"]
    assert answer.sign == "mixed"
    assert "depth helps segmentation" in answer.sentence
    assert "segmentation hurts depth" in answer.sentence


def test_a_question_whose_rows_are_missing_is_answered_with_their_names(written: Write, tmp_path: Path) -> None:
    results = written()
    for seed in (0, 1):
        (tmp_path / "runs" / f"seg-s{seed}" / "metrics.jsonl").unlink()
    answer = answers_of(collect_results(results.study, results.study.runs(Path("runs"))))[SHARED]
    assert (answer.sign, answer.sentence) == ("unknown", "Not answered: “seg” not finished.")


def test_the_cosines_of_gradients_are_counted_by_halves(written: Write) -> None:
    shared = written()["shared"]
    kind, opposed = pair_cosines(shared)
    assert (kind.pair, kind.negative_share, kind.mean) == (("segmentation", "depth"), 0.0, 0.5)
    assert opposed.negative_share == 0.5  # 2, 1, 0, -1, -2, -3, in two seeds
    assert (opposed.negative_share_of_half(0), opposed.negative_share_of_half(1)) == (0.0, 1.0)
    assert len(opposed.values) == 12
    assert smoothed([0.0, 3.0, 0.0, 3.0], window=3) == [1.5, 1.0, 2.0, 1.5]


def test_a_row_is_on_the_front_when_no_other_is_cheaper_and_better() -> None:
    every = [Point(name, cost, gain, None, True) for name, cost, gain in (("a", 1, 0), ("b", 2, 3), ("c", 3, 2), ("d", 2, 1))]
    assert [point.name for point in front(every)] == ["a", "b"]


def latencies(**changes: object) -> Latencies:
    rows = tuple(
        RowLatency(
            name,
            (
                EngineLatency("fp32 on onnxruntime", 5.0, (4.0, 6.0), 1.0, (0.9, 1.1)),
                EngineLatency("int8 on onnxruntime", 30.0, (29.0, 31.0), 1.0, (0.9, 1.1)),
                EngineLatency("int8+bf16 on openvino", ms, (ms - 1, ms + 1), 20.0 / ms, (20.0 / ms - 0.1, 20.0 / ms + 0.1)),
            ),
            1.25 if name == "shared" else 0.0,
        )
        for name, ms in (("shared", 20.0), ("small", 10.0))
    )
    content = {"height": 288, "width": 384, "machine": "a machine", "runtimes": ("onnxruntime 1",), "threads": 2, "rounds": 21}
    return Latencies(**{**content, "load": 0.5, "date": "2026-01-01", "asked": "x", "rows": rows, **changes})  # type: ignore[arg-type]


def test_cost_is_int8_latency_where_it_was_measured_and_size_elsewhere(written: Write, tmp_path: Path) -> None:
    compare = Comparison(written(small={"miou": 1.1}))
    assert {point.name: point.cost for point in points(compare, latencies())} == {"shared": 20.0, "small": 10.0}
    assert {point.name for point in points(compare, None)} == set(DECODERS)
    write_latencies(tmp_path / "latency.json", latencies())
    assert read_latencies(tmp_path / "latency.json") == latencies()
    (tmp_path / "latency.json").write_text("{}")
    assert read_latencies(tmp_path / "latency.json") is None


class WellFormed(HTMLParser):
    """Fails on tags that are not closed in order; collects text and links."""

    VOID = ("meta", "img", "br", "path", "use", "rect", "line", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        self.images += tag in ("svg", "img")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> WellFormed:
    page = WellFormed()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def test_the_report_parses_stands_alone_and_holds_the_numbers_of_the_records(written: Write, tmp_path: Path) -> None:
    results = written(spread=0.01)
    image = cv2.imencode(".jpg", np.full((8, 8, 3), 200, np.uint8))[1].tobytes()
    figure = Figure("predictions.jpg", image, "What they see", ("image", "truth"))
    document = build_document(results, latencies=latencies(), images=figure, command=["python", "train/study.py", "a b.toml"])
    markdown, html = write_report(tmp_path / "out", document, results, latencies=latencies())
    page = parsed(html.read_text())
    text = " ".join("".join(page.text).split())
    miou = np.array([0.5, 0.505])
    for wanted in (
        "A <title> & more",
        f"{miou.mean():.4f} ± {miou.std(ddof=1):.4f}",
        "24.12 ± 0.17",
        "Swin: too large | here",
        "broken, seed 0: exit code 13, the loss is not finite",
        "12 of 13 finished",
        "abc123",
        "python train/study.py 'a b.toml'",
        "int8+bf16 on openvino, the fastest in INT8 here",
        "10.0 (9.0 to 11.0)",
        "2.00 (1.90 to 2.10)",
        "small: 10.0 ms as int8+bf16 on openvino, 2.00 times as fast as shared (1.90 to 2.10), faster",
        "Numbers are made up.",
        "What they see",
    ):
        assert wanted in text, wanted
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links), page.links
    assert base64.b64encode(image).decode() in html.read_text()
    assert "prefers-color-scheme:dark" in html.read_text()
    assert page.images == 8  # tasks, weighting (normals, all), decoders, Pareto, cosines, learning curves, predictions

    written_text = markdown.read_text()
    names = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", written_text)
    assert len(names) == page.images
    for name in names:
        content = (tmp_path / "out" / name).read_bytes()
        assert content == image if name.endswith(".jpg") else ET.fromstring(content).tag.endswith("svg")
    assert "0.5025 ± 0.0035" in written_text
    assert "too large | here" in written_text

    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = {row["name"]: row for row in numbers["rows"]}
    assert rows["shared"]["test_last"]["miou"]["mean"] == pytest.approx(0.5025)
    assert rows["shared"]["seeds"]["1"]["miou"] == pytest.approx(0.505)
    assert rows["shared"]["delta_m"]["percent"] == pytest.approx(0.0, abs=1e-9)


def test_times_of_frames_are_shown_in_a_study_without_a_group_of_decoders_too(written: Write) -> None:
    results = written()
    groups = {key: group for key, group in results.study.groups.items() if key != "decoders"}
    without = replace(results, study=replace(results.study, groups=groups))
    text = to_markdown(build_document(without, latencies=latencies(), images=None, command=["python"]))
    assert "## Time of a frame" in text
    assert text.count("10.0 (9.0 to 11.0)") == 1
    assert "| shared | 1.25 |" in text
    assert "| small | - |" in text, "nobody counted"
    assert "Time of a frame" not in to_markdown(build_document(results, latencies=latencies(), images=None, command=["python"]))


def test_an_unfinished_study_has_a_report_too(written: Write, tmp_path: Path) -> None:
    results = written(seeds=0)
    document = build_document(results, latencies=None, images=None, command=["python"])
    page = parsed(write_report(tmp_path / "out", document, results, latencies=None)[1].read_text())
    assert "No row of this table is finished." in "".join(page.text)
    assert "none is finished" in "".join(page.text)


PSEUDO = {"depth": {"made": "8 bits", "pseudo": False}, "normals": {"made": "plane fits", "pseudo": True}}


def test_computed_truth_is_marked_wherever_it_is_compared_with(written: Write, tmp_path: Path) -> None:
    plain = built(written())
    assert "pseudo" not in plain
    assert "truth of" not in plain
    results = written(truths=PSEUDO, shared={"normal_mean_deg": 1.2})
    text = built(results)
    assert text.count("| n. mean (pseudo) |") == 4  # tasks, weighting, decoders, how weights were chosen
    assert "rel (pseudo)" not in text
    assert "normals (pseudo) worse, -20." in text
    assert "- normals (pseudo) in “shared”: -20." in text
    assert "- **truth of depth**: 8 bits\n- **truth of normals**: plane fits: computed, not measured" in text
    assert "Measured against pseudo-truth, which is computed, not measured: normals, plane fits." in text
    document = build_document(results, latencies=None, images=None, command=["python"])
    figures = {one.name: one.content for one in document.blocks if isinstance(one, Figure)}
    assert "shared: normals (pseudo)" in str(figures["tasks.svg"])
    assert "(pseudo)" in str(figures["learning.svg"])
    write_report(tmp_path / "out", document, results, latencies=None)
    rows = {row["name"]: row for row in json.loads((tmp_path / "out" / "results.json").read_text())["rows"]}
    assert rows["shared"]["truths"] == PSEUDO


def built(results: Results) -> str:
    return to_markdown(build_document(results, latencies=None, images=None, command=["python"]))


def test_a_cut_names_the_rows_of_the_whole_study_as_not_run(written: Write, tmp_path: Path) -> None:
    (tmp_path / "whole.toml").write_text(STUDY)
    (tmp_path / "study.toml").write_text(STUDY.replace("[groups]", '[whole]\nstudy = "whole.toml"\nreason = "a GPU"\n[groups]'))
    written()
    study = load_study(Path("study.toml"))
    text = built(collect_results(study, study.runs(Path("runs"))))
    assert "- whole.toml, the study that this one is a cut of, and none of its 10 rows: a GPU" in text
    assert "- of whole.toml, Tasks: shared; seg; depth; normals; seg+depth; Swin" in text
    assert "- of whole.toml, Weighting: PCGrad; broken" in text


def test_a_report_says_how_long_runs_took_and_on_how_few_seeds_its_intervals_rest(written: Write) -> None:
    text = built(written())
    assert "- **time of a run**: 1.0 minutes (1.0 to 2.0), test included, all cores each" in text
    assert "- **arithmetic**: bf16" in text
    assert "Degrees of freedom behind each metric's spread over seeds: 2." in text
    assert "Degrees of freedom" not in built(written(seeds=1))


def test_rows_of_fewer_seeds_are_mentioned_where_there_are_any(written: Write) -> None:
    results = written()
    assert dict(facts_of(results))["seeds"] == "0, 1; not every row ran all of them"
    both = tuple(row for row in results.rows if sum(run.records.finished for run in row.runs) == 2)
    assert dict(facts_of(replace(results, rows=both)))["seeds"] == "0, 1"


def test_text_of_rows_is_shown_as_it_is_in_both_languages() -> None:
    table = TextTable(("model", "x"), (("a|b<c>*d*", "1 ± 2"),), frozenset({(0, 1)}))
    document = Document("T", "Q?", [Heading("H"), table, Items(("rm -rf *",), code=True)])
    text = to_markdown(document)
    assert "| a\\|b&lt;c>\\*d\\* | **1 ± 2** |" in text
    assert "```bash\nrm -rf *\n```" in text
    html = to_html(document)
    assert "a|b&lt;c&gt;*d*" in html
    assert "<strong>1</strong> <small>± 2</small>" in html
    parsed(html)


def test_plots_are_the_same_for_the_same_numbers_and_take_the_colour_of_the_text() -> None:
    changes = {"good": Difference(3.0, 1.0), "none": Difference(0.5, 1.0), "unknown": Difference(9.0, None)}
    first, second = (bars(changes, label="change, %") for _ in range(2))
    assert first == second
    root = ET.fromstring(first)
    words = " ".join(element.text or "" for element in root.iter() if element.tag.endswith("text"))
    assert all(word in words for word in (*changes, "change, %"))
    assert "currentColor" in first
    assert "#123457" not in first
    assert first.count("#3fa66b") == 1  # only a difference that is shown is coloured
    ET.fromstring(cosine_lines([PairCosines(("a", "b"), (((1, 2, 3), (0.1, -0.2, 0.3)),))]))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    for split in ("train", "val", "test"):
        RoomsDataset(root, split, 2, height=32, width=64, workers=1, progress=False)
    return root


REAL = """
name = "real"
title = "Real"
question = "Does it run?"
base = "BASE"
reference = "both"
[single]
depth = "depth"
[groups]
decoders = { title = "Decoders" }
[overrides]
stages = [{ height = 32, width = 64, steps = 4, batch = 2 }]
data = { root = "ROOMS", height = 32, width = 64, train = 4, validation = 2, test = 2, workers = 1 }
loop = { threads = 1, loader_workers = 0, pictures = 0, evaluate_every = 2, cosine_every = 1, test_at_end = true }
[pictures]
rows = ["both"]
frames = [0]
[latency]
rows = ["both"]
height = 32
width = 64
[[rows]]
name = "both"
groups = ["decoders"]
overrides = { model.tasks = ["segmentation", "depth"] }
[[rows]]
name = "depth"
groups = ["decoders"]
overrides = { model.tasks = ["depth"] }
[[rows]]
name = "impossible"
groups = ["decoders"]
overrides = { model = { tasks = ["depth"], pretrained = "absent.pth" } }
"""


@pytest.mark.slow
def test_a_study_is_trained_timed_and_reported_by_one_command_though_a_row_fails(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = REPOSITORY / "train" / "configs" / "rooms-quick.toml"
    (tmp_path / "real.toml").write_text(REAL.replace("BASE", str(base)).replace("ROOMS", str(rooms)))
    code = study_script.main(["real.toml", "--latency", "--threads", "1"])
    out, error = capsys.readouterr()
    assert code == 14, out + error
    assert "not every run finished: impossible-s0 failed" in error
    report = tmp_path / "reports" / "real"
    text = "".join(parsed((report / "report.html").read_text()).text)
    assert "impossible, seed 0: exit code 9, no pretrained weights at absent.pth" in text
    tests = {}
    for name in ("both-s0", "depth-s0"):
        records = [json.loads(line) for line in (tmp_path / "runs" / "real" / name / "metrics.jsonl").read_text().splitlines()]
        tests[name] = next(one for one in records if one["kind"] == "test" and one["weights"] == "last")
        assert f"{tests[name]['depth_abs_m']:.4f}" in text
    against = 100 * (tests["depth-s0"]["depth_abs_m"] - tests["both-s0"]["depth_abs_m"]) / tests["depth-s0"]["depth_abs_m"]
    rows = {row["name"]: row for row in json.loads((report / "results.json").read_text())["rows"]}
    assert rows["both"]["delta_m"]["percent"] == pytest.approx(against, abs=1e-3)
    assert set(rows["both"]["cosines"]) == {"segmentation+depth"}
    sheet = cv2.imread(str(report / "predictions.jpg"))
    assert sheet is not None
    assert sheet.shape == (2 * 100, 4 * 196, 3)  # two tasks; image, truth, one model per task, both
    timed = read_latencies(report / "latency.json")
    assert timed is not None
    assert [row.name for row in timed.rows] == ["both"]
    results = collect_results(load_study(Path("real.toml")), load_study(Path("real.toml")).runs(Path("runs/real")))
    again = measure_latencies(
        [results["both"]], results.study.latency, path=report / "latency.json", threads=1, console=Console()
    )
    assert again == timed  # kept, not measured again


def test_operations_of_a_frame_are_counted_as_by_hand() -> None:
    attention = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.attention = nn.Conv2d(3, 8, 3, stride=2, padding=1), attention

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            tokens = self.stem(image).flatten(2).transpose(1, 2)
            return torch.as_tensor(self.attention(tokens, tokens, tokens, need_weights=False)[0])

    tokens = 8 * 12
    by_hand = tokens * 8 * 3 * 9 + 4 * tokens * 8 * 8 + 2 * tokens * tokens * 8
    assert giga_macs(Small(), (16, 24)) == pytest.approx(by_hand / 1e9)
