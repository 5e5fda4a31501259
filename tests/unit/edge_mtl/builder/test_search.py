"""Precision search: what goes back to floats, and what `build-engine --precision auto` makes of it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from edge_mtl.backends import Availability
from edge_mtl.builder import pipeline, search
from edge_mtl.builder.candidate_builds import CandidateBuild
from edge_mtl.builder.candidates import Candidate, candidates
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.builder.search import propose, smallest_fitting
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.device import fingerprint
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import AccuracyError, BuildError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.evaluation.sensitivity.report import BlockSensitivity, Sensitivity
from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.quantize import calibrate
from edge_mtl.quantization.recipes import load_recipe
from tests.command_line import assert_failed, edge_mtl

RECIPE = load_recipe()
WIDE, NARROW = Budget({"miou": 1.0, "rel": 10.0, "normal": 180.0}), Budget({"miou": 0.001, "rel": 0.001, "normal": 0.05})
ORT = (Candidate("onnxruntime", "int8"),)
HERE = {
    "onnxruntime": Availability(True, "1.0", "here", "cpu"),
    "openvino": Availability(True, "2.0", "here", "openvino"),
}


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 3)
    monkeypatch.setattr(search, "_ROUNDS", 1)


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))


class Measured:
    """Stands in for the measurement of sensitivity: noise and gain by block are given."""

    def __init__(self, **rows: tuple[float, float | None]) -> None:
        self.rows, self.calls = rows, []

    def __call__(self, bundle: Bundle, *arguments: object, **options: object) -> Sensitivity:
        self.calls.append(options)
        rows = tuple(
            BlockSensitivity(name, 1, {"depth": noise_db}, {}, {}, gain=gain, gain_high=gain)
            for name, (noise_db, gain) in self.rows.items()
        )
        return Sensitivity("key", bundle.name, "onnxruntime", "block", "onnxruntime", 4, {}, 1.0, rows)


def proposals(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    measured: Measured,
    *,
    budget: Budget = WIDE,
    limit_s: float = 60.0,
) -> list[search.Proposal]:
    monkeypatch.setattr(search, "measure_sensitivity", measured)
    images = load_calibration(bundle, count=4, unreadable_share=0.0)
    calibrated = calibrate(bundle.read(OPTIMIZED_ONNX), images.frames, recipe=RECIPE)
    return propose(bundle, images, ORT, recipe=RECIPE, calibrated=calibrated, budget=budget, limit_s=limit_s, threads=1)


PAYING = {"stem": (30.0, 0.1), "depthwise": (40.0, 0.1), "pointwise": (35.0, 0.1), "residual": (50.0, 0.1)}


@pytest.mark.parametrize("threshold", range(9))
def test_bisection_finds_the_smallest_number_that_fits(threshold: int) -> None:
    asked: list[int] = []

    def fits(number: int) -> bool:
        asked.append(number)
        return number >= threshold

    assert smallest_fitting(7, fits) == (threshold if threshold <= 7 else None)
    assert len(asked) <= 5


def test_nothing_is_proposed_where_everything_pays_within_the_budget(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proposals(tiny_bundle, monkeypatch, Measured(**PAYING)) == []


def test_blocks_that_do_not_pay_go_back_to_floats(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured(**{**PAYING, "depthwise": (40.0, -0.05), "residual": (50.0, None)})
    (found,) = proposals(tiny_bundle, monkeypatch, measured)
    assert found.float_blocks == found.candidate.float_blocks == ("depthwise",)
    assert facts(found.model).integer_layers == 3
    assert "depthwise in floating point" in found.candidate.name


def test_the_noisiest_blocks_go_first_until_the_budget_is_met(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[str, ...]] = []

    def fits(self: object, blocks: object) -> bool:
        kept.append(tuple(block.name for block in blocks))  # type: ignore[attr-defined]
        return len(kept[-1]) >= 2

    monkeypatch.setattr(search._Judge, "fits", fits)
    (found,) = proposals(tiny_bundle, monkeypatch, Measured(**PAYING))
    assert found.float_blocks == ("stem", "pointwise"), "30 and 35 dB"
    assert facts(found.model).integer_layers == 2
    assert kept[0] == ()


def test_a_budget_that_nothing_meets_gives_no_proposal(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search._Judge, "fits", lambda self, blocks: False)
    assert proposals(tiny_bundle, monkeypatch, Measured(**PAYING)) == []


def test_the_real_judge_holds_the_graph_against_the_budget(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts: list[bool] = []
    real = search._Judge.fits

    def watched(self: search._Judge, blocks: object) -> bool:
        verdicts.append(real(self, blocks))  # type: ignore[arg-type]
        return verdicts[-1]

    monkeypatch.setattr(search._Judge, "fits", watched)
    proposals(tiny_bundle, monkeypatch, Measured(**PAYING), budget=WIDE)
    assert verdicts == [True]
    verdicts.clear()
    proposals(tiny_bundle, monkeypatch, Measured(**PAYING), budget=NARROW)
    assert verdicts[0] is False


def test_the_time_limit_is_shared_out(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured(**PAYING)
    proposals(tiny_bundle, monkeypatch, measured, limit_s=40.0)
    assert 0 < measured.calls[0]["limit_s"] <= 40.0


def test_a_limit_of_no_time_still_ends_well(tiny_bundle: Bundle) -> None:
    images = load_calibration(tiny_bundle, count=4, unreadable_share=0.0)
    calibrated = calibrate(tiny_bundle.read(OPTIMIZED_ONNX), images.frames, recipe=RECIPE)
    found = propose(tiny_bundle, images, ORT, recipe=RECIPE, calibrated=calibrated, budget=WIDE, limit_s=0.0, threads=1)
    assert found == []


class TestCandidates:
    """What "auto" tries."""

    def test_auto_tries_every_precision_that_the_machine_has(self) -> None:
        plain = dataclasses.replace(fingerprint(), isa=("avx_vnni",))
        found = candidates("auto", backend="auto", available=HERE, device=plain)
        assert {candidate.name for candidate in found} == {
            "fp32 on onnxruntime",
            "int8 on onnxruntime",
            "fp32 on openvino",
            "int8 on openvino",
        }
        able = dataclasses.replace(fingerprint(), isa=("avx512_vnni", "avx512_bf16"))
        names = {candidate.name for candidate in candidates("auto", backend="openvino", available=HERE, device=able)}
        assert names == {"fp32 on openvino", "bf16 on openvino", "int8 on openvino", "int8+bf16 on openvino"}

    def test_an_unknown_precision_is_refused(self) -> None:
        with pytest.raises(BuildError, match="Choose auto or one of"):
            candidates("int3", backend="auto", available=HERE, device=fingerprint())


class TestBuild:
    """`build_engine(precision="auto")`."""

    def test_the_fastest_within_the_budget_is_stored_one_per_runtime(
        self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline, "propose", lambda *a, **k: [])
        report = build_engine(own_bundle, precision="auto", threads=1, budget=WIDE)
        within = [row for row in report.rows if not row.baseline and row.ratio is not None]
        assert {"fp32", "int8"} <= {row.precision for row in within}
        assert report.chosen.ratio == max(row.ratio for row in within if row.ratio is not None)
        stored = EngineStore(own_bundle).list()
        assert len(stored) == len({record.backend for record in stored}) == sum(row.stored for row in within)
        assert report.record.key in {record.key for record in stored}

    def test_int8_out_of_budget_is_left_out_and_said_so(self, own_bundle: Bundle) -> None:
        report = build_engine(own_bundle, precision="auto", backend="onnxruntime", threads=1, budget=NARROW, search_s=0.0)
        assert report.chosen.precision == "fp32"
        assert any("INT8 does not pay" in warning for warning in report.warnings)
        assert any("out of budget" in warning for warning in report.warnings)
        assert report.graph == "the bundle's optimized ONNX"

    def test_a_mixed_engine_is_stored_under_its_own_key(self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        measured = Measured(**{**PAYING, "depthwise": (40.0, -0.05)})
        monkeypatch.setattr(search, "measure_sensitivity", measured)

        def mixed_first(ranking: list[CandidateBuild]) -> list[CandidateBuild]:
            return sorted(ranking, key=lambda build: not build.candidate.float_blocks)

        monkeypatch.setattr(pipeline, "_best_per_runtime", mixed_first)
        report = build_engine(own_bundle, precision="auto", backend="onnxruntime", threads=1, budget=WIDE)
        mixed = [record for record in EngineStore(own_bundle).list() if record.options.get("float_blocks")]
        assert [record.options["float_blocks"] for record in mixed] == ["depthwise"]
        assert len({record.key for record in EngineStore(own_bundle).list()}) == 3
        assert report.record.key == mixed[0].key
        assert any("keeps in floating point: depthwise" in row.reason for row in report.rows)

    def test_a_named_precision_is_not_searched(self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pipeline, "propose", lambda *a, **k: pytest.fail("no search was asked for"))
        build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, budget=WIDE)

    def test_a_budget_that_no_precision_meets_is_an_error(self, own_bundle: Bundle) -> None:
        with pytest.raises(AccuracyError, match="out of budget"):
            build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, budget=NARROW)


def test_the_command_takes_auto_and_a_budget(own_bundle: Bundle) -> None:
    arguments = ("build-engine", own_bundle.path, "--precision", "auto", "--backend", "onnxruntime", "--threads", "1")
    done = edge_mtl(*arguments, "--max-drop", "miou=1,rel=1,normal=90", "--json")
    assert done.code == 0, done.err
    assert {row["precision"] for row in done.records[0]["rows"]} >= {"fp32", "int8"}
    assert_failed(edge_mtl(*arguments, "--max-drop", "miou=much"), 2, "--max-drop")
    assert_failed(edge_mtl("build-engine", own_bundle.path, "--int8", "--precision", "auto"), 2, "int8 and auto")
