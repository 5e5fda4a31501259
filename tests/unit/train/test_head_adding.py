"""A task that is added to a bundle: features are kept once, the head learns, and nothing that was there changes by a bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import add_head as add_head_script
import numpy as np
import onnx
import pytest
import torch
from mtl.bundling import export_bundle, load_trained
from mtl.datasets.sources import train_frames
from mtl.head_adding import frozen_features
from mtl.head_adding.adding import add_head
from mtl.head_adding.frozen_features import FeaturePlan, keep_features
from mtl.head_adding.revision import check_same_answers, golden_images, with_weights_of
from mtl.head_adding.training import train_head
from mtl.models.head_network import HeadNetwork
from mtl.run import Run
from mtl.settings import RunSettings
from mtl.tasks import LossTerms, head_of

from edge_mtl.bundle import EVALUATION, GOLDEN, OPTIMIZED_ONNX, Bundle, kept_revision
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.tasks import BoxesSpec, BoxTruth, graph_outputs
from tests.own_folder import OBJECTS, write_own_folder
from tests.synthetic_data import SIZE, rectangle_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training


SMALL = {"model.backbone": "test_convnext", "loop.pictures": "0"}


def settings_of(folder: Path, task: str, **changes: str) -> RunSettings:
    stages = f"[{{height={SIZE[0]}, width={SIZE[1]}, steps=4, batch=4}}]"
    changes = {"model.tasks": f"['{task}']", "stages": stages, **SMALL, **changes}
    return rectangle_settings(folder, ("things", "objects", "scene"), **changes)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("original")
    checkpoint = Run(rectangle_settings(folder, ("things",), **SMALL), console=quiet()).train()
    return export_bundle(checkpoint, folder / "bundle", console=quiet(), command="a test")


@pytest.fixture(scope="module")
def changed(original: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle with boxes; `kept_revision` has it as it was."""
    return added(original.path, tmp_path_factory.mktemp("cache"), "objects", "boxes")


def added(path: Path, folder: Path, task: str, kind: str, **changes: str) -> Bundle:
    room: dict[str, Any] = {"cache": folder / "features", "most_bytes": 1 << 24, "views": 2}
    settings = settings_of(folder, task, **changes)
    return add_head(path, task, kind, settings, **room, command="a test", console=quiet())


def test_the_next_revision_has_the_task_and_answers_the_old_one_bit_by_bit(changed: Bundle) -> None:
    before = Bundle.open(kept_revision(changed.path, 1))
    assert changed.manifest.revision == 2
    assert list(changed.manifest.tasks) == ["things", "objects"]
    check_same_answers(
        before.read(OPTIMIZED_ONNX), changed.read(OPTIMIZED_ONNX), ["things_logits"], golden_images(before), name="the graph"
    )
    one, other = load_trained(before.path).model.state_dict(), load_trained(changed.path).model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(name.startswith("heads.objects.") for name in other if name not in one)
    assert changed.manifest.accuracy["fp32"]["miou"] == before.manifest.accuracy["fp32"]["miou"]
    assert "ap" in changed.manifest.accuracy["fp32"]
    assert changed.manifest.provenance["added"][0]["task"] == "objects"


def test_golden_and_labelled_frames_know_the_task(changed: Bundle) -> None:
    (golden,) = changed.list(GOLDEN, suffixes=(".npz",))
    with np.load(changed.path / golden) as arrays:
        assert set(arrays) == set(graph_outputs(changed.manifest.tasks, SIZE, "host"))
    items = list(evaluation_frames(changed))
    assert [set(item.targets) for item in items] == [{"things"}] * 2 + [{"objects"}] * 2
    cameras = json.loads(changed.read(f"{EVALUATION}/intrinsics.json"))
    assert list(cameras) == ["000", "001", "002", "003"]


def test_a_second_head_leaves_the_first_one_alone(changed: Bundle, tmp_path: Path) -> None:
    place = changed.path
    again = added(place, tmp_path, "scene", "class")
    try:
        assert list(again.manifest.tasks) == ["things", "objects", "scene"]
        assert {"miou", "ap", "top1"} <= set(again.manifest.accuracy["fp32"])
        with pytest.raises(BuildError, match="has a task scene: it predicts things, objects, scene"):
            added(place, tmp_path, "scene", "class")
    finally:
        place.rename(place.with_name("thrice"))
        kept_revision(place, 2).rename(place)


def test_settings_of_the_export_decide_which_boxes_the_new_task_answers(original: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    first = kept_revision(original.path, 1)
    shutil.copytree(first if first.exists() else original.path, place)
    again = added(place, tmp_path, "objects", "boxes", **{"export.boxes.objects.score": "0.5"})
    spec = again.manifest.tasks["objects"]
    assert isinstance(spec, BoxesSpec)
    assert (spec.score, spec.nms_iou, spec.most) == (0.5, 0.6, 100)


def test_graphs_that_answer_differently_are_refused_and_rounding_is_taken_back(changed: Bundle) -> None:
    """The positive control of the check, and what is done about constants whose last bits differ."""
    graph = changed.read(OPTIMIZED_ONNX)
    frames = golden_images(changed)
    model = onnx.load_from_string(graph)
    tensor = next(one for one in model.graph.initializer if one.name.endswith("branches.things.output.bias"))
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values + np.float32(1.0), tensor.name))
    other = model.SerializeToString()
    with pytest.raises(BuildError, match=r"things_logits is off by up to 1\.0e\+00, where every bit should be the same"):
        check_same_answers(graph, with_weights_of(graph, other), ["things_logits"], frames, name="the graph")
    for one in model.graph.initializer:
        if one.name.startswith("network."):
            before = values if one.name == tensor.name else onnx.numpy_helper.to_array(one)
            one.CopyFrom(onnx.numpy_helper.from_array(before * np.float32(1 + 2**-22), one.name))
    rounded = model.SerializeToString()
    with pytest.raises(BuildError, match="where every bit should be the same"):
        check_same_answers(graph, rounded, ["things_logits"], frames, name="the graph")
    check_same_answers(graph, with_weights_of(graph, rounded), ["things_logits"], frames, name="the graph")


def test_maps_and_tasks_that_the_data_does_not_have_are_refused(original: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="give --kind class"):
        added(original.path, tmp_path, "scene", "boxes")
    settings = rectangle_settings(tmp_path, ("things", "groups"), **{"model.tasks": "['groups']"})
    room: dict[str, Any] = {"cache": tmp_path, "most_bytes": 1 << 24, "views": 1, "command": "a test", "console": quiet()}
    with pytest.raises(BuildError, match=r"a branch of the decoder of all maps.*--model\.init BUNDLE"):
        add_head(original.path, "groups", "labels", settings, **room)
    with pytest.raises(BuildError, match="has truths of things, groups, not of smell"):
        add_head(original.path, "smell", "class", settings, **room)


def test_the_command_takes_boxes_from_a_folder_of_one_s_own(changed: Bundle, tmp_path: Path) -> None:
    """Frames of the folder without boxes are left out."""
    path = Path(shutil.copytree(kept_revision(changed.path, 1), tmp_path / "bundle"))
    own = write_own_folder(tmp_path / "own", frames=12, objects=True)
    asked = ["--task", "objects", "--kind", "boxes", "--data.kind", "folder", "--data.root", str(own)]
    few = ["--steps", "2", "--batch", "2", "--cache", str(tmp_path / "kept"), "--export.evaluation", "2"]
    assert add_head_script.main([str(path), *asked, *few, "--loop.device", "cpu"]) == 0
    made = Bundle.open(path)
    assert list(made.manifest.tasks) == ["things", "objects"]
    assert made.manifest.tasks["objects"].classes == OBJECTS
    assert "ap" in made.manifest.accuracy["fp32"]
    assert made.manifest.provenance["added"][0]["dataset"] == "a small warehouse"
    truths = [item.targets["objects"] for item in evaluation_frames(made) if "objects" in item.targets]
    assert len(truths) == 2
    assert all(len(truth) for truth in truths)


class Mended:
    """Frames of which some were changed, by number."""

    def __init__(self, frames: Any, changes: dict[int, dict[str, Any]]) -> None:
        self.tasks, self._frames, self._changes = frames.tasks, frames, changes

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Any:
        return replace(self._frames[index], **self._changes.get(index, {}))


class TestKeptFeatures:
    @pytest.fixture
    def plan(self, original: Bundle, tmp_path: Path) -> FeaturePlan:
        settings = settings_of(tmp_path, "objects")
        spec = train_frames(settings.data, settings.stages[0]).open().tasks["objects"]
        return FeaturePlan(spec, (1, 2, 3), SIZE, 2, settings.augment, 0, 1 << 24, "a test")

    def frames(self, folder: Path) -> Any:
        settings = settings_of(folder, "objects")
        return train_frames(settings.data, settings.stages[0]).open()

    def test_they_are_those_of_the_backbone_and_made_once(
        self, original: Bundle, plan: FeaturePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, frames = load_trained(original.path).model, self.frames(tmp_path)
        kept = keep_features(tmp_path / "kept", model, frames, plan, console=quiet())
        assert len(kept) == 8
        sizes = ((8, 12), (4, 6), (2, 3))
        assert [one.shape for one in kept.maps] == [
            (8, count, *size) for count, size in zip(model.backbone.channels[1:], sizes, strict=True)
        ]
        image = torch.from_numpy(frames[1].image).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            expected = model.backbone(model.normalise(image))
        maps, target = kept.batch(np.array([2]))
        for found, level in zip(maps, plan.reads, strict=True):
            torch.testing.assert_close(found, expected[level], rtol=2e-3, atol=2e-3)
        head = head_of(plan.spec)
        assert target.shape == (1, 8 * 12 + 4 * 6 + 2 * 3, 5)
        assert bool((target[..., 0] >= 0).any())
        assert head.count(plan.spec, target, None) > 0  # type: ignore[arg-type]

        before = kept.targets.copy()
        made = self.counted(monkeypatch)
        again = keep_features(tmp_path / "kept", model, frames, plan, console=quiet())
        np.testing.assert_array_equal(again.targets, before)
        assert made == [1], "one frame, to see how large features are"

    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Counts from now on how many frames the backbone sees."""
        made, whole = [0], frozen_features._features

        def counting(*given: Any) -> Any:
            made[0] += 1
            return whole(*given)

        monkeypatch.setattr(frozen_features, "_features", counting)
        return made

    def test_mended_truths_are_learnt_and_other_images_seen(
        self, original: Bundle, plan: FeaturePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, frames = load_trained(original.path).model, self.frames(tmp_path)
        keep_features(tmp_path / "kept", model, frames, plan, console=quiet())
        made = self.counted(monkeypatch)
        nothing = BoxTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
        mended = Mended(frames, {1: {"truths": {"objects": nothing}}})
        kept = keep_features(tmp_path / "kept", model, mended, plan, console=quiet())
        assert made == [1], "the images are the same"
        assert not (kept.targets[2:4, :, 0] >= 0).any()
        assert (kept.targets[4:6, :, 0] >= 0).any()
        unknown = Mended(frames, {1: {"truths": {}}, 2: {"image": 255 - frames[2].image}})
        kept = keep_features(tmp_path / "kept", model, unknown, plan, console=quiet())
        assert made == [3], "and that of the other image"
        assert len(kept) == 6
        fresh = keep_features(tmp_path / "fresh", model, unknown, plan, console=quiet())
        for one, two in zip((*kept.maps, kept.targets), (*fresh.maps, fresh.targets), strict=True):
            np.testing.assert_array_equal(one, two)

    def test_an_interrupted_folder_is_filled_from_where_it_is(
        self, original: Bundle, plan: FeaturePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, frames = load_trained(original.path).model, self.frames(tmp_path)
        monkeypatch.setattr(frozen_features, "_EVERY", 1)
        with monkeypatch.context() as patch:
            made, whole = self.counted(patch), frozen_features._features

            def fails(*given: Any) -> Any:
                if made[0] == 3:  # the first frame twice, to see how large features are, and the second
                    raise KeyboardInterrupt
                return whole(*given)

            patch.setattr(frozen_features, "_features", fails)
            with pytest.raises(KeyboardInterrupt):
                keep_features(tmp_path / "kept", model, frames, plan, console=quiet())
        made = self.counted(monkeypatch)
        kept = keep_features(tmp_path / "kept", model, frames, plan, console=quiet())
        assert made == [3], "the first frame for its size, then the last two"
        other = keep_features(tmp_path / "other", model, frames, plan, console=quiet())
        for one, two in zip(kept.maps, other.maps, strict=True):
            np.testing.assert_array_equal(one, two)

    def test_the_room_bounds_how_many_frames_are_kept(self, original: Bundle, plan: FeaturePlan, tmp_path: Path) -> None:
        model, frames = load_trained(original.path).model, self.frames(tmp_path)
        cells = (96, 24, 6)
        maps = sum(count * size for count, size in zip(model.backbone.channels[1:], cells, strict=True))
        each = 2 * (2 * maps + 4 * 5 * sum(cells))
        kept = keep_features(tmp_path / "kept", model, frames, replace(plan, most_bytes=3 * each + 1), console=quiet())
        assert len(kept) == 6
        with pytest.raises(BuildError, match="raise --keep-gb"):
            keep_features(tmp_path / "none", model, frames, replace(plan, most_bytes=each - 1), console=quiet())

    def test_a_head_learns_what_is_kept(self, original: Bundle, plan: FeaturePlan, tmp_path: Path) -> None:
        """The positive control: after some steps the loss on the same views is less than half of what it was."""
        model, frames, head = load_trained(original.path).model, self.frames(tmp_path), head_of(plan.spec)
        kept = keep_features(tmp_path / "kept", model, frames, plan, console=quiet())
        stages = f"[{{height={SIZE[0]}, width={SIZE[1]}, steps=150, batch=8}}]"
        settings = settings_of(tmp_path, "objects", **{"stages": stages, "optimizer.lr": "5e-3", "ema.decay": "0"})
        torch.manual_seed(0)
        network = head.build(plan.spec, model.backbone.channels, model.backbone.strides, width=16)
        assert network is not None
        maps, target = kept.batch(np.arange(len(kept)))

        def loss_of(one: HeadNetwork) -> float:
            with torch.no_grad():
                return float(head.loss(plan.spec, one.eval().raw(maps), target, LossTerms(settings.losses, 4)))

        before = loss_of(network)
        assert loss_of(train_head(network, plan.spec, kept, settings, console=quiet())) < before / 2
