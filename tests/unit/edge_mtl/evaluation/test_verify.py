"""Verifying bundles: what is scored, the card, labelled folders, and faults that must be caught on a real network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edge_mtl.builder import pipeline
from edge_mtl.bundle import EVALUATION, OPTIMIZED_ONNX, Bundle, new_revision
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.revision import history
from edge_mtl.errors import AccuracyError, BuildError, BundleError, CalibrationError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.evaluation.labelled_frames import labelled_folder, labelled_set
from edge_mtl.evaluation.sqnr import sqnr_db
from edge_mtl.evaluation.verify import (
    REFERENCE,
    EvaluatedGraph,
    Verification,
    quantized_subjects,
    verify,
    verify_graphs,
    write_card,
)
from edge_mtl.evaluation.worst_frames import CARD
from edge_mtl.manifest import InputSpec
from edge_mtl.tasks import NYU_TASKS
from tests.bundles import HEIGHT, ROOMS_B0, WIDTH, make_bundle, make_image, write_image
from tests.command_line import assert_failed, edge_mtl

LOOSE = Budget({"miou": 0.3, "rel": 0.3, "normal": 20, "classes": 0.3, "depth": 0.3, "angle": 20})
LOOSE_TEXT = "miou=0.3,rel=0.3,normal=20,classes=0.3,depth=0.3,angle=20"


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the session's bundle in a folder of its own."""
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "place" / "own"))


@pytest.fixture(scope="module")
def verified(tiny_bundle: Bundle) -> Verification:
    return verify(tiny_bundle, budget=LOOSE, threads=1)


def test_without_engines_int8_is_judged_as_it_would_be_built(verified: Verification) -> None:
    assert list(verified.scores) == [REFERENCE, "int8 on onnxruntime", "int8 on openvino"]
    assert verified.passed
    assert verified.labelled
    assert verified.scores[REFERENCE].agreement == {
        "argmax_agreement": 1.0,
        "depth_relative_difference": 0.0,
        "normal_angle_deg": pytest.approx(0.0, abs=1e-6),
    }


def test_the_card_has_metrics_classes_calibration_error_noise_and_worst_frames(verified: Verification) -> None:
    card = json.loads(json.dumps(verified.card, allow_nan=False))
    fp32, int8 = card["graphs"][REFERENCE], card["graphs"]["int8 on onnxruntime"]
    assert fp32["miou"] > 0.99
    for graph in (fp32, int8):
        assert 0 <= graph["ece"] <= 1
        assert set(graph["class_iou"]) <= {
            "bed",
            "books",
            "ceiling",
            "chair",
            "floor",
            "furniture",
            "objects",
            "picture",
            "sofa",
            "table",
            "tv",
            "wall",
            "window",
        }
    assert int8["agreement_argmax_agreement"] > 0.9
    assert int8["sqnr_db"]["segmentation_logits"] > 15
    assert card["verdicts"]["int8 on onnxruntime"]["passed"] is True
    checks = {check["name"]: check for check in card["verdicts"]["int8 on onnxruntime"]["checks"]}
    assert checks["miou"]["low"] <= checks["miou"]["found"] <= checks["miou"]["high"]
    assert card["measured"]["frames"] == card["measured"]["frames"] | {"count": 4, "source": "bundle", "labelled": True}
    assert len(card["measured"]["frames"]["digest"]) == 64
    assert [item["picture"] for item in card["worst"]] == [f"{CARD}/worst-{number}.jpg" for number in range(3)]
    for payload in verified.images.values():
        drawn = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
        assert drawn.shape[1] > 4 * 300
        assert drawn.std() > 10


def test_the_card_becomes_a_revision_and_engines_stay(own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    pipeline.build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, budget=None)
    found = verify(own_bundle, budget=LOOSE, threads=1)
    assert list(found.scores) == [REFERENCE, "int8 on onnxruntime"], "the engine, and nothing made for the occasion"
    written = write_card(own_bundle, found)
    written.verify()
    assert written.manifest.revision == 2
    assert written.manifest.card == found.card
    assert written.list(CARD) == tuple(found.images)
    assert Bundle.open(history(own_bundle.path)[1]).digest == own_bundle.digest
    again = verify(written, budget=LOOSE, threads=1)
    assert again.scores.keys() == found.scores.keys(), "engines came along"
    with pytest.raises(BundleError, match="was changed while it was verified"):
        write_card(own_bundle, found)


def test_an_engine_out_of_the_usual_budget_is_not_built_unless_asked_for(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    options = {"precision": "int8", "backend": "onnxruntime", "threads": 1}
    with pytest.raises(AccuracyError, match=r"int8 on onnxruntime is out of budget: segmentation: classes that differ"):
        pipeline.build_engine(own_bundle, **options, budget=Budget({"miou": 1, "classes": 0.0001}))
    with pytest.raises(AccuracyError, match=r"mIoU fell by .* Nothing was built.*--max-drop none"):
        pipeline.build_engine(own_bundle, **options)
    assert EngineStore(own_bundle).list() == ()
    report = pipeline.build_engine(own_bundle, **options, budget=None)
    assert any("loses more than it should" in warning for warning in report.warnings)
    assert pipeline.build_engine(own_bundle, **options, budget=LOOSE).chosen.stored


def test_an_engine_within_the_budget_is_chosen_before_a_faster_one_that_is_not(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full precision beside integers, which lose more than the usual budget on this network and are made to look faster."""
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    report = pipeline.build_engine(own_bundle, precision="auto", backend="onnxruntime", threads=1, search_s=0.0)
    assert report.chosen.precision == "fp32"
    refused = [row for row in report.rows if row.precision == "int8"]
    assert refused
    assert all(not row.stored and "out of budget" in row.reason for row in refused)


def without_labels(bundle: Bundle) -> Bundle:
    """Its next revision, with images only to measure on."""

    def change(folder: Path) -> None:
        for path in (folder / EVALUATION).glob("*.*.png"):
            path.unlink()

    return new_revision(bundle, change)


def test_without_labels_the_usual_budget_warns_and_ones_own_is_held(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    bare = without_labels(own_bundle)
    options = {"precision": "int8", "backend": "onnxruntime", "threads": 1}
    report = pipeline.build_engine(bare, **options)
    assert any("no labelled frames" in warning for warning in report.warnings)
    with pytest.raises(AccuracyError, match="classes that differ"):
        pipeline.build_engine(bare, **options, budget=Budget({"classes": 0.0001}))


def test_a_bundle_with_one_task_is_verified_on_that_task(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "single", tasks=("depth",))
    found = verify(bundle, budget=LOOSE, backend="onnxruntime", threads=1)
    assert found.passed
    (verdict,) = found.verdicts.values()
    assert {check.name for check in verdict.checks} == {"rel", "depth"}


class TestLabelledFolders:
    """Frames of the user's own, in the format of a bundle's evaluation frames."""

    def test_the_same_frames_as_a_folder_give_the_same_scores(self, tiny_bundle: Bundle, verified: Verification) -> None:
        folder = labelled_folder(tiny_bundle.path / "evaluation", tiny_bundle.manifest.input, NYU_TASKS)
        found = verify_graphs(tiny_bundle, [], frames=folder)
        assert found.scores[REFERENCE].accuracy == verified.scores[REFERENCE].accuracy
        assert folder.digest() == labelled_set(tiny_bundle).digest()

    def test_larger_frames_are_letterboxed_and_so_are_their_truths(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        for name in labelled_set(tiny_bundle).files:
            source = tiny_bundle.path / "evaluation" / name
            if source.suffix == ".json":
                content = {
                    key: [2 * fx, 2 * fy, 2 * cx + 0.5 + 40, 2 * cy + 0.5]
                    for key, (fx, fy, cx, cy) in json.loads(source.read_text()).items()
                }
                (tmp_path / name).write_text(json.dumps(content))
                continue
            array = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
            mode = cv2.INTER_LINEAR if name.count(".") == 1 else cv2.INTER_NEAREST_EXACT
            twice = cv2.resize(array, (2 * WIDTH, 2 * HEIGHT), interpolation=mode)
            void = 255 if "label" in name else 0
            cv2.imwrite(str(tmp_path / name), cv2.copyMakeBorder(twice, 0, 0, 40, 40, cv2.BORDER_CONSTANT, value=[void] * 4))
        item = next(iter(labelled_folder(tmp_path, InputSpec(HEIGHT, WIDTH), NYU_TASKS)))
        assert item.frame.shape == (HEIGHT, WIDTH, 3)
        assert item.targets["segmentation"].shape == (HEIGHT, WIDTH)
        assert (item.targets["segmentation"][:6] == 255).all(), "bars are void"
        assert item.intrinsics is not None
        scale = WIDTH / (2 * WIDTH + 80)
        original = next(iter(labelled_set(tiny_bundle)))
        assert original.intrinsics is not None
        assert item.intrinsics[0] == pytest.approx(2 * scale * original.intrinsics[0], rel=0.02)
        row, column = 20, 60
        there = (HEIGHT / 2 + (row - HEIGHT / 2) * 2 * scale, WIDTH / 2 + (column - WIDTH / 2) * 2 * scale)
        here = item.targets["depth"][int(there[0]), int(there[1])]
        assert here == pytest.approx(original.targets["depth"][row, column], rel=0.1)
        assert verify_graphs(tiny_bundle, [], frames=labelled_folder(tmp_path, tiny_bundle.manifest.input, NYU_TASKS)).labelled

    def test_images_without_truth_are_judged_by_agreement(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        for number in range(2):
            write_image(tmp_path / f"{number}.png", make_image(number, height=90, width=120))
        frames = labelled_folder(tmp_path, tiny_bundle.manifest.input, NYU_TASKS)
        found = verify(tiny_bundle, frames=frames, budget=LOOSE, backend="onnxruntime", threads=1)
        assert not found.labelled
        assert found.scores[REFERENCE].accuracy == {}
        assert found.scores[REFERENCE].details == {}
        (verdict,) = found.verdicts.values()
        assert {check.name for check in verdict.checks} == {"classes", "depth", "angle"}

    def test_frames_that_were_calibrated_with_are_refused(self, tiny_bundle: Bundle) -> None:
        frames = labelled_folder(tiny_bundle.path / "calibration", tiny_bundle.manifest.input, NYU_TASKS)
        with pytest.raises(CalibrationError, match="6 frames to measure on were calibrated with"):
            verify(tiny_bundle, frames=frames)

    def test_what_is_no_folder_of_frames_is_a_typed_error(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        size = tiny_bundle.manifest.input
        with pytest.raises(BundleError, match="cannot be read"):
            labelled_folder(tmp_path / "missing", size, NYU_TASKS)
        with pytest.raises(BundleError, match="holds no images"):
            labelled_folder(tmp_path, size, NYU_TASKS)
        write_image(tmp_path / "a.png", make_image(1))
        cv2.imwrite(str(tmp_path / "a.label.png"), np.zeros((10, 10), np.uint8))
        with pytest.raises(BundleError, match=r"should have the shape \(64, 96\)"):
            list(labelled_folder(tmp_path, size, NYU_TASKS))
        (tmp_path / "a.label.png").write_bytes(b"no image")
        with pytest.raises(BundleError, match="not an image"):
            list(labelled_folder(tmp_path, size, NYU_TASKS))

    def test_a_bundle_without_evaluation_frames_asks_for_a_folder(self, tmp_path: Path) -> None:
        bundle = make_bundle(tmp_path / "bare", evaluation=0)
        with pytest.raises(BundleError, match="--data DIR"):
            verify(bundle, backend="onnxruntime", threads=1)


def test_noise_is_measured_against_the_float_graph(tiny_bundle: Bundle) -> None:
    deploy = tiny_bundle.read(OPTIMIZED_ONNX)
    (good,) = quantized_subjects(tiny_bundle, backend="onnxruntime", threads=1)
    frames = [make_image(number) for number in range(2)]
    clean = sqnr_db(deploy, good.model, frames, threads=1)
    broken = sqnr_db(deploy, with_constant(good.model, first(good.model, "_weight_scales"), 2.0), frames, threads=1)
    assert set(clean) == set(broken)
    assert all(10 < value < 70 for value in clean.values())
    assert all(broken[name] < clean[name] - 3 for name in clean)
    assert sqnr_db(deploy, deploy, frames, threads=1) == {}, "a graph has no noise against itself"


def first(model: bytes, ending: str) -> str:
    return next(item.name for item in onnx.load_from_string(model).graph.initializer if item.name.endswith(ending))


def with_constant(model: bytes, name: str, factor: float) -> bytes:
    """`model` with one constant multiplied."""
    proto = onnx.load_from_string(model)
    tensor = next(item for item in proto.graph.initializer if item.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), name))
    return bytes(proto.SerializeToString())


def with_swapped_colours(model: bytes) -> bytes:
    """`model` that takes red for blue."""
    proto = onnx.load_from_string(model)
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if name == "image":
                node.input[place] = "image_swapped"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "order"))
    proto.graph.node.insert(0, helper.make_node("Gather", ["image", "order"], ["image_swapped"], axis=1))
    return bytes(proto.SerializeToString())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Verification:
    bundle = Bundle.open(ROOMS_B0)
    folder = tmp_path_factory.mktemp("frames")
    for name in ("001", "006", "010", "013", "016", "019"):
        for path in (ROOMS_B0 / "evaluation").glob(f"{name}.*"):
            shutil.copy(path, folder)
    shutil.copy(ROOMS_B0 / "evaluation" / "intrinsics.json", folder)
    frames = load_calibration(bundle, count=5, unreadable_share=0.0).frames
    random = np.random.default_rng(0)

    def int8(label: str, calibration: list[np.ndarray]) -> EvaluatedGraph:
        (made,) = quantized_subjects(bundle, backend="onnxruntime", frames=calibration, threads=1)
        return EvaluatedGraph(made.backend, made.precision, made.model, True, label=label)

    good = int8("good", list(frames))
    noise = int8("noise only", [random.integers(0, 256, frame.shape, np.uint8) for frame in frames])
    dim = int8("darker frames", [(frame * 0.7).astype(np.uint8) for frame in frames])
    scale = with_constant(good.model, first(good.model, "_weight_scales"), 2.0)
    subjects = [
        good,
        noise,
        dim,
        EvaluatedGraph("onnxruntime", "int8", scale, True, label="broken scale"),
        EvaluatedGraph(
            "onnxruntime", "fp32", with_swapped_colours(bundle.read(OPTIMIZED_ONNX)), False, label="swapped channels"
        ),
    ]
    folder_frames = labelled_folder(folder, bundle.manifest.input, NYU_TASKS)
    return verify_graphs(bundle, subjects, frames=folder_frames, threads=1, images=1, noise=False)


class TestPositiveControls:
    """On rooms-b0: what is broken is caught, what is harmless passes and is reported."""

    @pytest.mark.parametrize("fault", ["broken scale", "swapped channels", "noise only"])
    def test_a_fault_is_caught_and_named(self, found: Verification, fault: str) -> None:
        assert not found.verdicts[fault].passed
        with pytest.raises(AccuracyError, match=f"{fault}: [a-z]+: "):
            found.require()

    @pytest.mark.parametrize("harmless", ["good", "darker frames"])
    def test_what_is_harmless_passes_and_is_reported(self, found: Verification, harmless: str) -> None:
        assert found.verdicts[harmless].passed, found.verdicts[harmless].failures
        reported = found.card["graphs"][harmless]
        assert 0.95 < reported["agreement_argmax_agreement"] < 1
        assert {check["name"] for check in found.card["verdicts"][harmless]["checks"]} == {
            "miou",
            "rel",
            "normal",
            "classes",
            "depth",
            "angle",
        }

    def test_the_worst_frame_is_one_that_a_fault_spoils(self, found: Verification) -> None:
        (worst,) = found.worst.values()
        assert worst.graph in ("broken scale", "swapped channels", "noise only")
        assert worst.excess > 1


class TestCommand:
    """`edge-mtl verify`."""

    def test_a_bundle_that_nobody_named_is_measured_but_not_changed(
        self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGE_MTL_BUNDLE", str(own_bundle.path))
        before = (own_bundle.path / "manifest.json").read_bytes()
        (record,) = edge_mtl("verify", "--json", "--threads", 1, "--max-drop", "miou=1,rel=9,normal=180").records
        assert (record["passed"], record["revision"]) == (True, None)
        assert (own_bundle.path / "manifest.json").read_bytes() == before

    def test_it_shows_scores_and_writes_the_card(self, own_bundle: Bundle) -> None:
        common = ("--backend", "onnxruntime", "--threads", 1, "--max-drop", LOOSE_TEXT)
        outcome = edge_mtl("verify", own_bundle.path, *common)
        assert outcome.code == 0, outcome.err
        for words in ("fp32", "int8 on onnxruntime", "ECE", "within budget", "Signal to quantization noise", "revision 2"):
            assert words in outcome.out
        assert Bundle.open(own_bundle.path).manifest.card["graphs"]["fp32"]["miou"] > 0.99
        shown = edge_mtl("inspect", own_bundle.path)
        assert shown.code == 0
        (record,) = edge_mtl("verify", own_bundle.path, "--no-write", "--json", *common).records
        assert record["passed"] is True
        assert record["revision"] is None
        assert Bundle.open(own_bundle.path).manifest.revision == 2

    def test_out_of_budget_it_fails_and_leaves_the_bundle_alone(self, own_bundle: Bundle) -> None:
        common = ("--backend", "onnxruntime", "--threads", 1, "--max-drop", "classes=0.0001")
        outcome = edge_mtl("verify", own_bundle.path, "--json", *common)
        assert outcome.code == 8
        assert outcome.records[0]["passed"] is False
        assert "segmentation: classes that differ" in outcome.err.splitlines()[-1]
        assert Bundle.open(own_bundle.path).digest == own_bundle.digest
        assert "OUT OF BUDGET" in edge_mtl("verify", own_bundle.path, *common).out

    def test_any_loss_is_taken_with_a_warning_where_that_is_asked_for(
        self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hard = Budget({"miou": 0.0, "rel": 0.0, "normal": 0.0, "classes": 0.0, "depth": 0.0, "angle": 0.0})
        monkeypatch.setattr("edge_mtl.evaluation.budget.DEFAULT_BUDGET", hard)
        common = ("verify", own_bundle.path, "--backend", "onnxruntime", "--threads", 1, "--json", "--max-drop")
        assert edge_mtl(*common, "miou=0,classes=0").code == 8
        outcome = edge_mtl(*common, "none")
        assert outcome.code == 0, outcome.err
        assert "loses more than it should: segmentation" in outcome.err
        (record,) = outcome.records
        assert (record["passed"], record["revision"]) == (False, 2)

    def test_a_runtime_that_is_not_here_is_refused(self, own_bundle: Bundle) -> None:
        assert_failed(edge_mtl("verify", own_bundle.path, "--backend", "onnxruntime-cuda"), 5, "onnxruntime-gpu")


def test_images_of_the_worst_frames_are_written_although_a_head_is_out_of_budget(own_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "look"
    done = edge_mtl("verify", own_bundle.path, "--max-drop", "miou=0", "--out", out, "--threads", 1)
    assert done.code == 8
    card = json.loads((out / "card.json").read_text())
    assert [item["frame"] for item in card["worst"]]
    assert {path.name for path in out.glob("*.jpg")} == {Path(item["picture"]).name for item in card["worst"]}
    (tmp_path / "file").write_text("")
    done = edge_mtl("verify", own_bundle.path, "--max-drop", LOOSE_TEXT, "--out", tmp_path / "file" / "in", "--threads", 1)
    assert_failed(done, BuildError.exit_code, "--out DIR")
