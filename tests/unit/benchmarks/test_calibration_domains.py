"""INT8 by the domain of its calibration: rows are what the protocol measures, kept, and judged on both sets of frames."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import prepare_nyuv2
import pytest

from edge_mtl.backends import available
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.budget import judge
from edge_mtl.evaluation.scores import Score, Scorer
from edge_mtl.tasks import NYU_TASKS
from tests import nyu_files
from tests.bundles import HEIGHT, WIDTH, answer_of, make_bundle
from tests.unit.benchmarks.conftest import BENCHMARKS

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


def score(shift: float) -> Score:
    """Of a graph whose depth is off by a share and whose classes are wrong in as many columns of 64."""
    random, scorer = np.random.default_rng(3), Scorer(NYU_TASKS)
    for number in range(5):
        labels = random.integers(0, 13, (48, 64)).astype(np.uint8)
        depth = random.uniform(1, 4, (48, 64)).astype(np.float32)
        normals = random.normal(size=(48, 64, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        truth = {"segmentation": labels, "depth": depth, "normals": normals}
        wrong = labels.copy()
        wrong[:, : round(64 * shift)] = (labels[:, : round(64 * shift)] + 1) % 13
        found = answer_of({"segmentation": wrong, "depth": depth * (1 + shift * number / 4), "normals": normals})
        scorer.update(f"{number}", found, truth, answer_of(truth))
    return scorer.score()


def test_scores_that_were_kept_are_judged_as_those_that_were_not(script: Any) -> None:
    kept = script("kept_scores")
    reference, candidate = score(0.0), score(0.25)
    expected = judge(reference, candidate, name="int8")
    restored = [kept.unpack(json.loads(json.dumps(kept.pack(one))), NYU_TASKS) for one in (reference, candidate)]
    assert judge(*restored, name="int8") == expected
    assert not expected.passed
    assert any(check.low is not None and check.low < check.found for check in expected.checks)


def test_statistics_that_json_would_change_are_refused(script: Any) -> None:
    strange = score(0.0)
    frame = replace(strange.frames[0], statistics={"depth": {"sum": 1.0}})
    with pytest.raises(BuildError, match="statistics of depth should be a tuple of arrays and numbers; found dict"):
        script("kept_scores").pack(replace(strange, frames=(frame,)))


def judged_row(reference: Score, *, bundle: float, nyuv2: float, calibration: str = "rooms") -> dict[str, Any]:
    on = {}
    for frames, shift in (("bundle", bundle), ("nyuv2", nyuv2)):
        found = score(shift)
        verdict = judge(reference, found, name="int8").to_dict()
        own = {"accuracy": dict(found.accuracy), "agreement": dict(found.agreement), "ece": 0.1, "consistency": None}
        on[frames] = {**own, "verdict": verdict}
    return {"calibration": calibration, "engine": "onnxruntime", "weight_bits": 8, "on": on}


def test_an_engine_that_passes_on_the_bundles_frames_and_fails_on_nyuv2_is_named(script: Any) -> None:
    page, reference = script("calibration_page"), score(0.0)
    fooled, honest = (judged_row(reference, bundle=0.0, nyuv2=shift) for shift in (0.25, 0.0))
    both = judged_row(reference, bundle=0.25, nyuv2=0.25, calibration="bundle")
    assert page.fooled([fooled, honest, both]) == [fooled]
    plain = judged_row(reference, bundle=0.0, nyuv2=0.0, calibration="")
    for one in plain["on"].values():
        one["verdict"] = None
    content = {
        "bundle": {"name": "b", "revision": 1},
        "date": "2026-11-29",
        "commit": "c",
        "kept_of": ["c"],
        "device": {"description": "a processor"},
        "threads": {"runtime": 1},
        "versions": {"numpy": "2"},
        "network": [48, 64],
        "frames": {"bundle": 5, "nyuv2": 5},
        "stand_ins": True,
        "truths": {"normals": {"made": "fitted", "pseudo": True}},
        "calibrations": {
            "rooms": {"count": 32, "considered": 128, "method": "farthest first by network"},
            "bundle": {"count": 32, "holds": "statistics", "source": "NYUv2"},
        },
        "budget": {"miou": 0.01},
        "command": "python x",
        "rows": [plain, fooled, honest, both],
    }
    text = page.markdown(content)
    assert (
        "**1 of 3 engines pass on the bundle's frames and fail on NYUv2's:** onnxruntime, calibrated by rendered rooms." in text
    )
    line = next(line for line in text.splitlines() if line.startswith("| rendered rooms | onnxruntime | passes"))
    assert "| passes, 0% (miou) | **fails**: " in line
    assert (
        "rel 12.50 of 2; classes 25.00 of 5; depth 12.50 of 5" in line
    )  # a quarter of the columns is wrong, depth off by 0 to 25 %
    assert "- the bundle's own: statistics of 32 frames (NYUv2), as they travel in it" in text
    assert "normals: fitted, pseudo-truth" in text
    healed = page.markdown({**content, "rows": [plain, honest, both]})
    assert "None of the 2 engines passes on the bundle's frames and fails on NYUv2's." in healed


def test_a_bundle_of_other_tasks_is_refused(script: Any, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "b", tasks=["depth"])
    script("calibration_rows").check_tasks(other)
    renamed = {"distance": replace(NYU_TASKS["depth"], name="distance")}
    strange = replace(other, manifest=replace(other.manifest, tasks=renamed))
    with pytest.raises(BuildError, match="found distance besides"):
        script("calibration_rows").check_tasks(strange)


@pytest.fixture(scope="module")
def nyuv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nyuv2")
    source = nyu_files.write_images(root / "copy", train=3, val=2)
    assert prepare_nyuv2.main(["images", str(source), "--out", str(root / "nyuv2"), "--size", f"{HEIGHT}x{WIDTH}"]) == 0
    return root / "nyuv2"


def test_rows_are_what_the_protocol_measures_and_are_measured_once(
    tiny_bundle: Bundle,
    nyuv2: Path,
    tmp_path: Path,
    script: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    from mtl.datasets.nyuv2.frames import NyuRequest
    from mtl.engine_predictor import EngineFrames
    from mtl.evaluate import evaluate_fully

    out, work = tmp_path / "int8-0.1", tmp_path / "work"
    words = [tiny_bundle.path, "--nyuv2", nyuv2, "--rooms", tmp_path / "rooms", "--pool", 4, "--work", work, "--out", out]
    command = [str(word) for word in (BENCHMARKS / "calibration_domains.py", *words)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "int8-0.1.json").read_text())
    engines = [name for name in ("onnxruntime", "openvino") if available()[name].usable] + ["tensorrt, emulated"]
    wanted = [("", "fp32"), *((name, engine) for name in ("bundle", "nyuv2", "rooms") for engine in engines)]
    assert [(row["calibration"], row["engine"]) for row in content["rows"]] == wanted
    assert content["calibrations"]["rooms"]["considered"] == 4
    assert content["device"]["description"]
    assert (tmp_path / "int8-0.1.md").read_text() in done.stdout

    frames = NyuRequest(str(nyuv2), "val").open()
    with EngineFrames(tiny_bundle, None, threads=1) as engine:
        expected = evaluate_fully(engine, frames, tiny_bundle.manifest.tasks, size=(HEIGHT, WIDTH))
    fp32 = content["rows"][0]["on"]["nyuv2"]
    assert fp32["accuracy"] == pytest.approx(expected.measures, rel=1e-5)
    assert fp32["ece"] == pytest.approx(expected.details["ece"], rel=1e-4)
    for row in content["rows"][1:]:
        assert {check["name"] for check in row["on"]["nyuv2"]["verdict"]["checks"]} >= {"miou", "rel", "normal", "classes"}
        assert row["on"]["nyuv2"]["accuracy"] != fp32["accuracy"]
        assert -1 <= row["on"]["nyuv2"]["consistency"]["both"]["depth_error"]["spearman"] <= 1

    domains = script("calibration_domains")
    monkeypatch.setattr(sys, "argv", command)

    def refuse(row: Any, *given: Any, **named: Any) -> Any:
        raise AssertionError(f"{row.name} was measured again")

    monkeypatch.setattr(domains, "measure", refuse)
    assert domains.main() == 0
    assert f"{len(wanted)} of {len(wanted)} rows are kept; measuring 0" in capsys.readouterr().err
    assert json.loads((tmp_path / "int8-0.1.json").read_text())["rows"] == content["rows"]
    next(work.glob("row-rooms-onnxruntime-*.json")).unlink()
    with pytest.raises(AssertionError, match="onnxruntime, calibrated by rooms was measured again"):
        domains.main()
