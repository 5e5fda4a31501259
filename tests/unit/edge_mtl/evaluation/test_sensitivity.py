"""Sensitivity: blocks alone in INT8, run from remembered activations, ranked, resumed, drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mtl.backends import open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import CalibrationSet, load_calibration
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import LabelledFrame, evaluation_frames
from edge_mtl.evaluation.sensitivity import measure as module
from edge_mtl.evaluation.sensitivity.blocks import find_blocks, only, without
from edge_mtl.evaluation.sensitivity.figure import draw_sensitivity
from edge_mtl.evaluation.sensitivity.measure import measure_sensitivity
from edge_mtl.evaluation.sensitivity.prefix import choose_cuts, cut_before, suffix
from edge_mtl.evaluation.sensitivity.report import BlockSensitivity, Sensitivity, load_sensitivity, save_sensitivity
from edge_mtl.evaluation.sensitivity.score import ReferenceEvaluator
from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.quantize import calibrate, equalized, insert_qdq
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe
from tests.bundles import ROOMS_B0, host_model, make_bundle, make_image, reference
from tests.command_line import assert_failed, edge_mtl
from tests.transformers import transformer_block

RECIPE = load_recipe()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny bundle whose network is a transformer block with one head."""
    path = tmp_path_factory.mktemp("bundles") / "block"
    return make_bundle(path, tasks=("normals",), deploy=transformer_block(), evaluation=2, calibration=4, golden=1)


@pytest.fixture(scope="module")
def images(bundle: Bundle) -> CalibrationSet:
    return load_calibration(bundle, count=4, unreadable_share=0.0)


def measured(bundle: Bundle, images: CalibrationSet, **options: object) -> Sensitivity:
    return measure_sensitivity(
        bundle, images, list(evaluation_frames(bundle)), recipe=RECIPE, threads=1, **{"rounds": 0, **options}
    )


class TestBlocks:
    """Names people understand, made of layers."""

    def test_the_network_of_rooms_b0_has_the_blocks_of_its_parts(self) -> None:
        deploy = Bundle.open(ROOMS_B0).read(OPTIMIZED_ONNX)
        names = [block.name for block in find_blocks(deploy, RECIPE, target="onnxruntime")]
        parts = [f"stage {stage} {part}" for stage in (1, 2, 3, 4) for part in ("attention", "mlp")]
        assert names[0] == "stem"
        assert {*parts, "neck", "segmentation branch", "depth branch", "normals branch"} <= set(names)
        assert len(names) == 16

    def test_layers_of_an_unknown_network_are_blocks_of_their_own(self) -> None:
        names = [block.name for block in find_blocks(host_model(), RECIPE, target="onnxruntime")]
        assert names == ["stem", "depthwise", "pointwise", "residual"]

    def test_a_block_alone_and_all_but_a_block_are_what_they_say(self) -> None:
        model = transformer_block()
        blocks = find_blocks(model, RECIPE, target="onnxruntime")
        calibrated = calibrate(model, [make_image(1)], recipe=RECIPE)
        total = sum(len(block.layers) for block in blocks)
        for block in blocks:
            alone = dataclasses.replace(RECIPE, layers=only(block))
            others = dataclasses.replace(RECIPE, layers=without((block,)))
            for recipe, expected in ((alone, len(block.layers)), (others, total - len(block.layers))):
                assert facts(insert_qdq(model, calibrated, recipe=recipe, target="onnxruntime")).integer_layers == expected

    def test_an_unknown_level_is_refused(self) -> None:
        with pytest.raises(BuildError, match="expected block or layer"):
            find_blocks(host_model(), RECIPE, target="onnxruntime", level="atom")  # type: ignore[arg-type]


class TestPrefix:
    """What comes before a block is run once."""

    def test_little_crosses_the_chosen_cuts(self) -> None:
        cuts = choose_cuts(Bundle.open(ROOMS_B0).read(OPTIMIZED_ONNX))
        assert len(cuts) >= 5
        assert [cut.position for cut in cuts] == sorted(cut.position for cut in cuts)
        assert all(cut.size_bytes < 3 << 20 for cut in cuts)

    def test_starting_at_a_cut_gives_the_same_as_starting_at_the_image(self) -> None:
        model = transformer_block()
        calibrated = calibrate(model, [make_image(1), make_image(2)], recipe=RECIPE)
        assert calibrated.scales, "with equalisation, activations inside differ from those of the reference ONNX"
        plain = equalized(model, calibrated)
        planes = np.ascontiguousarray(make_image(9).transpose(2, 0, 1)[None]).astype(np.float32)
        cuts, tried = choose_cuts(model, count=20), 0
        for block in find_blocks(model, RECIPE, target="onnxruntime"):
            if (cut := cut_before(model, block.layers, cuts)) is None:
                continue
            quantized = insert_qdq(
                model, calibrated, recipe=dataclasses.replace(RECIPE, layers=only(block)), target="onnxruntime"
            )
            whole = open_backend("onnxruntime", quantized, threads=1, precision="int8").run({"image": planes})
            rest = open_backend("onnxruntime", suffix(quantized, model, cut), threads=1, precision="int8")
            values = _activations(plain, list(rest.inputs), planes)
            for name, value in rest.run(values).items():
                np.testing.assert_allclose(value, whole[name], rtol=1e-4, atol=1e-4)
            tried += 1
        assert tried >= 2


def _activations(model: bytes, names: list[str], planes: np.ndarray) -> dict[str, np.ndarray]:
    from edge_mtl.onnx_graph.model import parse
    from edge_mtl.quantization.statistics import open_session

    session = open_session(parse(model, name="m"), names, 1, why="Testing")
    return dict(zip(names, session.run(names, {"image": planes}), strict=True))


class TestYardstick:
    """FP32 against others."""

    def test_fp32_is_perfect_against_itself_and_noise_shows_at_its_level(self, bundle: Bundle) -> None:
        model, frames = bundle.read(OPTIMIZED_ONNX), list(evaluation_frames(bundle))
        answers = [reference(model, item.frame) for item in frames]
        evaluator = ReferenceEvaluator(
            bundle, frames, lambda planes: reference(model, planes[0].transpose(1, 2, 0).astype(np.uint8))
        )
        assert evaluator.reference().sqnr_db == {"normals": 150.0}
        centred = np.concatenate([a["normals_quarter"] for a in answers])
        spread = (centred - centred.mean(axis=(0, 2, 3), keepdims=True)).std()
        noise = np.random.default_rng(0).normal(0, spread / 10, answers[0]["normals_quarter"].shape)
        found = evaluator.measure(lambda at: {"normals_quarter": (answers[at]["normals_quarter"] + noise).astype(np.float32)})
        assert found.sqnr_db["normals"] == pytest.approx(20.0, abs=0.5)

    def test_every_third_pixel_scores_nearly_as_all_do(self, bundle: Bundle) -> None:
        model, frames = bundle.read(OPTIMIZED_ONNX), list(evaluation_frames(bundle))

        def run(planes: np.ndarray) -> dict[str, np.ndarray]:
            return reference(model, planes[0].transpose(1, 2, 0).astype(np.uint8))

        whole, thinned = (ReferenceEvaluator(bundle, frames, run, stride=stride).reference() for stride in (1, 3))
        name = "normal_mean_deg"
        assert thinned.score.accuracy[name] == pytest.approx(whole.score.accuracy[name], abs=0.05)

    def test_no_frames_are_an_error(self, bundle: Bundle) -> None:
        with pytest.raises(BuildError, match="no evaluation frames"):
            ReferenceEvaluator(bundle, [], lambda planes: {})


class TestSensitivity:
    """The whole measurement."""

    def test_a_damaged_block_shows(self, bundle: Bundle, images: CalibrationSet) -> None:
        from edge_mtl.quantization.recipes import LayerOverride

        plain = measured(bundle, images)
        assert {row.name for row in plain.rows} == {"stem", "stage 1 attention", "stage 1 mlp", "normals branch"}
        victim = "stage 1 attention"
        blocks = find_blocks(bundle.read(OPTIMIZED_ONNX), RECIPE, target="onnxruntime")
        layers = next(block.layers for block in blocks if block.name == victim)
        harsh = dataclasses.replace(RECIPE, layers=tuple(LayerOverride(name, percentile=90.0) for name in layers))
        frames = list(evaluation_frames(bundle))
        worse = measure_sensitivity(bundle, images, frames, recipe=harsh, rounds=0, threads=1)
        before, after = (next(row for row in found.rows if row.name == victim) for found in (plain, worse))
        assert after.worst_db < before.worst_db - 3

    def test_a_run_that_was_stopped_goes_on(
        self, bundle: Bundle, images: CalibrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file, alone, made = tmp_path / "found.json", module._alone, []

        def counting(*arguments: object) -> bytes:
            made.append(arguments[-1].name)  # type: ignore[attr-defined]
            if len(made) == 3:
                raise KeyboardInterrupt
            return alone(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_alone", counting)
        with pytest.raises(KeyboardInterrupt):
            measured(bundle, images, resume=file)
        assert len(json.loads(file.read_text())["rows"]) == 2
        found = measured(bundle, images, resume=file)
        assert len(found.rows) == 4
        assert len(made) == 3 + 2, "two were found before the stop"
        measured(bundle, images, resume=file)
        assert len(made) == 5, "nothing is left to do"
        monkeypatch.setattr(module, "_alone", alone)
        fresh = measured(bundle, images)
        assert [row.sqnr_db for row in fresh.rows] == [row.sqnr_db for row in found.rows]

    def test_rows_of_another_recipe_are_not_taken(self, bundle: Bundle, images: CalibrationSet, tmp_path: Path) -> None:
        file = tmp_path / "found.json"
        first = measured(bundle, images, resume=file)
        frames = list(evaluation_frames(bundle))
        recipe = load_recipe(TENSORRT_INT8)
        other = measure_sensitivity(bundle, images, frames, recipe=recipe, target="tensorrt", rounds=5, threads=1, resume=file)
        assert other.key != first.key
        assert all(row.gain is None for row in other.rows), "TensorRT's graph is not timed on a CPU"

    def test_frames_without_labels_are_scored_by_agreement(self, bundle: Bundle, images: CalibrationSet) -> None:
        frames = [LabelledFrame(frame, None, {}) for frame in images.frames[:2]]
        found = measure_sensitivity(bundle, images, frames, recipe=RECIPE, rounds=0, threads=1)
        assert all(not row.lost and 0 < row.agreement["normal_angle_deg"] < 20 for row in found.rows)

    def test_blocks_are_timed_and_drawn(self, bundle: Bundle, images: CalibrationSet) -> None:
        found = measured(bundle, images, rounds=1)
        assert found.baseline_ms is not None
        assert all(row.gain is not None and row.gain < 1 for row in found.rows)
        assert Sensitivity.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        drawn = draw_sensitivity(found)
        assert drawn.dtype == np.uint8
        assert drawn.shape[2] == 3
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20


def test_the_command_writes_table_image_and_json(bundle: Bundle, tmp_path: Path) -> None:
    options = ["--frames", "1", "--rounds", "0", "--threads", "1", "--out", str(tmp_path)]
    done = edge_mtl("sensitivity", str(bundle.path), *options)
    assert done.code == 0, done.err
    assert "stage 1 mlp" in done.out
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".png"}


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge_mtl.evaluation.sensitivity.measure.measure_sensitivity", lambda *a, **k: pytest.fail("it was measured")
    )
    (tmp_path / "file").write_text("")
    assert_failed(edge_mtl("sensitivity", bundle.path, "--out", tmp_path / "file" / "in"), 9, "--out DIR")


def test_the_command_names_what_it_does_not_know(bundle: Bundle) -> None:
    assert_failed(edge_mtl("sensitivity", bundle.path, "--target", "abacus"), 2, "onnxruntime, openvino, tensorrt")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["rows"][0].update(sqnr_db={}),
        lambda content: content["rows"][0].update(sqnr_db=3),
        lambda content: content["rows"][0].update(sqnr_db={"depth": "high"}),
        lambda content: content["rows"][0].update(gain=[]),
        lambda content: content["rows"][0].update(name=None),
        lambda content: content.update(reference=[1]),
        lambda content: content.update(frames="many"),
        lambda content: content.update(rows=10**400),
    ],
)
def test_a_file_of_an_earlier_run_that_was_altered_is_measured_anew(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    row = BlockSensitivity("block", 3, {"depth": 20.0}, {"rel": 0.01}, {"rel": 0.99}, gain=0.1)
    save_sensitivity(tmp_path / "found.json", Sensitivity("key", "b", "t", "block", "", 9, {"rel": 0.1}, None, (row,)))
    assert load_sensitivity(tmp_path / "found.json", "key") is not None
    content = json.loads((tmp_path / "found.json").read_bytes())
    change(content)
    (tmp_path / "found.json").write_text(json.dumps(content))
    assert load_sensitivity(tmp_path / "found.json", "key") is None


def test_a_file_of_an_earlier_run_that_is_nested_too_deep_is_measured_anew(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text("[" * 5000)
    assert load_sensitivity(tmp_path / "found.json", "key") is None
