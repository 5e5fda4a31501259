"""Teachers in training steps: gradients, frames without truth, what a source's truths count for, resume and export."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mtl.checkpoint import load_weights
from mtl.config import ConfigError
from mtl.datasets.frame import Batch
from mtl.distill.answers import AnswerTeacher
from mtl.distill.distillation import Distillation
from mtl.distill.features import BackboneMaps, FeatureTeacher
from mtl.distill.teachers import answer_teacher, make_distillation
from mtl.loop import Training
from mtl.losses import MultiTaskLoss
from mtl.models.backbone import build_backbone
from mtl.models.configured import model_from
from mtl.run import BEST, STATE, Run
from mtl.settings import DistillSettings, LossSettings, RunSettings, SourceSettings
from mtl.tasks import head_of
from mtl.weighting import make_weighting
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS
from tests.tiny_training import made_up_batch, make_rooms, quiet, tiny_settings

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rooms(tmp_path_factory.mktemp("rooms"))


def settings_of(tmp_path: Path, **changes: str) -> RunSettings:
    return tiny_settings(tmp_path, tmp_path, **changes)


def hints(settings: RunSettings, model: Any) -> FeatureTeacher:
    torch.manual_seed(5)
    reads = model.decoder.reads
    channels = [model.backbone.channels[level] for level in reads]
    return FeatureTeacher(BackboneMaps(build_backbone("test_convnext"), reads, mean=(0.5,) * 3, std=(0.5,) * 3), channels)


def training_with(settings: RunSettings, *, answers: bool = False, features: bool = False) -> Training:
    torch.manual_seed(settings.seed)
    model = model_from(settings)
    distillation = None
    if answers or features:
        torch.manual_seed(settings.seed + 1)
        teacher = AnswerTeacher(model_from(settings), model.tasks) if answers else None
        hinted = hints(settings, model) if features else None
        distillation = Distillation(settings.distill, model.specs, answers=teacher, features=hinted)
    loss = MultiTaskLoss(settings.losses, model.specs, stride=model.stride)
    weighting = make_weighting(settings.losses, tasks=model.tasks, seed=settings.seed)
    return Training(model, loss, weighting, settings, distillation=distillation)


def without_truth(batch: Batch) -> Batch:
    return replace(batch, targets={})


def moved(training: Training, batch: Batch) -> bool:
    before = [value.detach().clone() for value in training.model.parameters()]
    training.advance(batch)
    return any(not torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))


def test_softened_labels_are_hintons_and_other_kinds_have_no_temperature() -> None:
    found, wanted = torch.tensor([[[[2.0]], [[0.0]]]]), torch.tensor([[[[0.0]], [[1.0]]]])
    spec, head = NYU_TASKS["segmentation"], head_of(NYU_TASKS["segmentation"])
    p, q = (F.softmax(one.flatten() / 3.0, dim=0) for one in (wanted, found))
    expected = 9.0 * float((p * (p / q).log()).sum())
    assert float(head.softened(spec, found, wanted, LossSettings(), temperature=3.0)) == pytest.approx(expected, rel=1e-5)
    assert float(head.softened(spec, found, wanted, LossSettings(), temperature=1.0)) == float(
        head.distance(spec, found, wanted, LossSettings())
    )
    depth, other = torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 4.0)
    spec, head = NYU_TASKS["depth"], head_of(NYU_TASKS["depth"])
    assert float(head.softened(spec, depth, other, LossSettings(), temperature=3.0)) == pytest.approx(math.log(2.0))


def test_a_teacher_with_the_same_weights_has_nothing_to_teach(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    training = training_with(settings)
    training.model.eval()  # as the teacher is
    batch = made_up_batch(2)
    pixels = batch.image.permute(0, 3, 1, 2).float()
    answers = training.model(training.model.normalise(pixels))
    teacher = AnswerTeacher(training_with(settings).model, training.model.tasks)
    same = Distillation(DistillSettings(), training.model.specs, answers=teacher)
    other = Distillation(DistillSettings(weights={"depth": 0.5}), training.model.specs, answers=teacher)
    assert all(float(one.detach()) < 1e-5 for one in same.distances(pixels, answers, settings.losses).values())
    worse = {**answers, "depth": answers["depth"] * 2}
    assert other.distances(pixels, worse, settings.losses)["depth"].item() == pytest.approx(0.5 * math.log(2), rel=1e-3)


@pytest.mark.parametrize("kind", ["answers", "features"])
def test_frames_without_truth_teach_where_there_is_a_teacher(kind: str, tmp_path: Path) -> None:
    settings, batch = settings_of(tmp_path), without_truth(made_up_batch(4))
    assert not moved(training_with(settings), batch)
    assert moved(training_with(settings, **{kind: True}), batch)


def test_answers_are_learnt_only_on_the_sources_that_are_named(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings = replace(settings, distill=DistillSettings(sources=("nyu",)))
    batch = without_truth(made_up_batch(4))
    assert not moved(training_with(settings, answers=True), replace(batch, source="rooms"))
    assert moved(training_with(settings, answers=True), replace(batch, source="nyu"))


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "famo", "mgda"])
def test_every_weighting_works_with_teachers(weighting: str, tmp_path: Path) -> None:
    training = training_with(settings_of(tmp_path, **{"losses.weighting": weighting}), answers=True, features=True)
    reports = [training.advance(made_up_batch(4, seed=seed)) for seed in range(3)]
    assert all(report.finite and 0 < report.features < 2 for report in reports)


@pytest.mark.parametrize("weighting", ["fixed", "mgda"])
def test_the_pull_on_the_backbone_is_the_gradient_of_the_loss_of_features(weighting: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, **{"losses.weighting": weighting, "distill.features_weight": "0.7", "optimizer.clip": "0"})
    plain, hinted = training_with(settings), training_with(settings, features=True)
    batch = made_up_batch(4)
    torch.manual_seed(0)
    plain._gradients(batch, 0.0)
    torch.manual_seed(0)
    hinted._gradients(batch, 0.0)
    alone = training_with(settings, features=True)
    model = alone.model
    pixels = batch.image.permute(0, 3, 1, 2).float()
    torch.manual_seed(0)
    assert alone._distillation is not None
    assert alone._distillation.features is not None
    (0.7 * alone._distillation.features(pixels, model.features(model.normalise(pixels).contiguous()))).backward()
    checked = 0
    for one, both, other in zip(plain.model.parameters(), hinted.model.parameters(), model.parameters(), strict=True):
        if other.grad is not None:
            assert both.grad is not None
            assert one.grad is not None
            torch.testing.assert_close(both.grad, one.grad + other.grad, rtol=1e-3, atol=2e-5)
            checked += float(other.grad.abs().max()) > 1e-4
    assert checked > 5


def test_parts_of_a_batch_pull_as_the_whole_does(tmp_path: Path) -> None:
    one, two = (training_with(settings_of(tmp_path, **{"loop.accumulate": count}), features=True) for count in ("1", "2"))
    batch = without_truth(made_up_batch(4))
    found = [training._gradients(batch, 0.0).features for training in (one, two)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    for a, b in zip(one.model.backbone.parameters(), two.model.backbone.parameters(), strict=True):
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-2, atol=1e-5)


def test_projections_are_in_the_state_and_go_on_exactly(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    whole = training_with(settings, answers=True, features=True)
    whole.advance(made_up_batch(4, seed=0))
    state = copy.deepcopy(whole.state())
    again = training_with(settings, answers=True, features=True)
    assert again._distillation is not None
    with torch.no_grad():
        for parameter in again._distillation.parameters():
            parameter.zero_()
    again.restore(state)
    for training in (whole, again):
        training.advance(made_up_batch(4, seed=1))
    assert whole._distillation is not None
    pairs = zip(whole._distillation.parameters(), again._distillation.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    ours, theirs = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert not any("projections" in name for name in ours)


def test_truths_count_as_far_as_their_source_is_trusted(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    sources = {"nyu": SourceSettings(weights={"normals": 0.25, "depth": 0.0}), "rooms": SourceSettings()}
    mixed = replace(settings, data=replace(settings.data, sources=sources))
    reports = {}
    for name, source in (("plain", "rooms"), ("less", "nyu")):
        training = training_with(settings)
        training._trust = {key: one.weights for key, one in mixed.data.sources.items() if one.weights}
        reports[name] = training.advance(replace(made_up_batch(4), source=source)).losses
    assert reports["less"]["normals"] == pytest.approx(reports["plain"]["normals"] / 4, rel=1e-5)
    assert reports["less"]["segmentation"] == reports["plain"]["segmentation"]
    assert "depth" in reports["plain"]
    assert "depth" not in reports["less"]  # left out, not weighed with 0


def test_a_teacher_is_refused_before_the_training_frames_are_opened(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"losses.class_weights": "true", "distill.answers": f"'{tmp_path / 'none.safetensors'}'"}
    monkeypatch.setattr(Run, "_frames", lambda self: pytest.fail("frames were opened"))
    with pytest.raises(BuildError, match=r"distill\.answers: there is no"):
        Run(tiny_settings(rooms, tmp_path, **wanted), console=quiet()).train()


def test_a_run_learns_from_a_checkpoint_resumes_and_drops_the_teacher(rooms: Path, tmp_path: Path) -> None:
    teacher = tiny_settings(rooms, tmp_path, name="'teacher'", **{"loop.evaluate_every": "4"})
    Run(teacher, console=quiet()).train()
    best = tmp_path / "teacher" / BEST
    taught = tiny_settings(rooms, tmp_path, name="'taught'", **{"distill.answers": f"'{best}'", "loop.evaluate_every": "4"})
    Run(taught, console=quiet()).train()
    assert (tmp_path / "taught" / STATE).is_file()
    weights, _ = load_weights(tmp_path / "taught" / BEST)
    assert set(weights) == set(load_weights(best)[0])
    Run(taught, console=quiet(), resume=True).train()  # nothing is left to do


def test_teachers_that_cannot_teach_are_refused(rooms: Path, tmp_path: Path) -> None:
    teacher = tiny_settings(rooms, tmp_path, name="'deep'", **{"model.tasks": "['depth']", "loop.evaluate_every": "4"})
    Run(teacher, console=quiet()).train()
    best = tmp_path / "deep" / BEST
    specs = {task: NYU_TASKS[task] for task in ("segmentation", "depth")}
    assert answer_teacher(best, specs, weights={}, canonical=True).tasks == ("depth",)
    with pytest.raises(BuildError, match=r"cannot teach segmentation \(segmentation: it has no such task\)"):
        answer_teacher(best, specs, weights={"segmentation": 1.0}, canonical=True)
    with pytest.raises(BuildError, match=r"cannot teach any task"):
        answer_teacher(best, specs, weights={"depth": 0.0}, canonical=True)
    with pytest.raises(BuildError, match=r"they answer for different cameras"):
        answer_teacher(best, specs, weights={}, canonical=False)
    missing = tiny_settings(rooms, tmp_path, **{"distill.answers": "'nowhere.safetensors'"})
    with pytest.raises(BuildError, match=r"distill\.answers: there is no nowhere\.safetensors"):
        make_distillation(missing, model_from(missing))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill.temperature": "0"}, r"distill\.temperature should be above 0"),
        ({"distill.features_weight": "-1"}, r"distill\.features_weight should be 0 or more"),
        ({"distill.weights": "{depth = 1}"}, r"distill\.weights are for a teacher of answers"),
        ({"distill.weights": "{boxes = 1}"}, r"distill\.weights\.boxes is not one of model\.tasks"),
        ({"distill.sources": "['rooms']"}, r"distill\.sources are for a teacher of answers"),
        ({"distill.graph": "'t.onnx'", "distill.answers": "'b'"}, r"distill\.graph and distill\.answers both teach answers"),
        (
            {"distill.graph": "'t.onnx'", "distill.features": "'resnet18'", "distill.features_file": "'x.pth'"},
            r"distill\.graph and distill\.features both teach features",
        ),
        ({"distill.graph": "'t.onnx'", "distill.graph_precision": "'int8'"}, r"graph_precision should be one of auto, fp32"),
        (
            {"distill.graph": "'t.onnx'", "model.sharing": "'separate'"},
            r"distill\.graph teaches a backbone that all tasks share",
        ),
        ({"distill.features": "'resnet18'"}, r"features and distill\.features_file go together"),
        (
            {"distill.features": "'resnet18'", "distill.features_file": "'x.pth'", "model.sharing": "'separate'"},
            r"model\.sharing should be \"full\"",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(tmp_path, **changes)
