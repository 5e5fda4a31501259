"""Making a teacher: which frames it learns from and is measured on, what training leaves alone, and the script as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import make_teacher
import pytest
import torch
from mtl.datasets.data_set import DataSet
from mtl.distill.deeplab import DeepLab, deeplab_from_tflite
from mtl.distill.graph import TeacherGraph
from mtl.distill.teacher_making import FineTuning, fine_tune, labelled_frames, measure
from mtl.distill.teachers import make_distillation
from mtl.models.configured import model_from
from mtl.settings import DataSettings, DistillSettings, RunSettings, SourceSettings
from torch import nn

from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_file
from edge_mtl.tasks.nyu13 import NYU13_CLASSES
from tests.tflite_files import tflite_file
from tests.tflite_networks import deeplab_layers
from tests.tiny_training import SIZE, make_rooms, quiet, tiny_settings

pytestmark = pytest.mark.training

NAME = "mobilenetv2_035"


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> DeepLab:
    pytest.importorskip("tflite")
    path = tmp_path_factory.mktemp("deeplab") / "net.tflite"
    path.write_bytes(tflite_file(deeplab_layers(NAME, classes=14)))
    return deeplab_from_tflite(path, range(13), classes=13, backbone=NAME)


def of(settings: RunSettings, **sources: SourceSettings) -> RunSettings:
    return replace(settings, data=replace(settings.data, sources=sources))


def test_frames_are_those_of_the_one_data_set_that_labels_the_classes(rooms: Path, tmp_path: Path) -> None:
    settings = tiny_settings(rooms, tmp_path)
    assert labelled_frames(settings, NYU13_CLASSES).spec.name == "segmentation"
    rooms_alone, nyu = SourceSettings(kind="rooms"), SourceSettings(kind="nyuv2", validation_from_train=8)
    both = of(settings, nyu=nyu, rooms=rooms_alone)
    taught = replace(both, distill=DistillSettings(sources=("nyu",)))
    assert labelled_frames(taught, NYU13_CLASSES, root=tmp_path).data == replace(nyu, root=str(tmp_path), workers=1)
    with pytest.raises(BuildError, match=r"2 data sets .*\(nyu, rooms\)\. Name one of nyu, rooms with --source"):
        labelled_frames(both, NYU13_CLASSES)
    assert labelled_frames(both, NYU13_CLASSES, source="nyu").data.kind == "nyuv2"
    with pytest.raises(BuildError, match=r"0 data sets of the configuration named attic"):
        labelled_frames(both, NYU13_CLASSES, source="attic")
    with pytest.raises(BuildError, match=r"0 data sets"):
        labelled_frames(settings, ("a", "b"))


def test_a_teacher_is_not_measured_on_test_frames(rooms: Path, tmp_path: Path) -> None:
    settings = tiny_settings(rooms, tmp_path)
    with pytest.raises(BuildError, match=r"are its test frames.*--data\.sources\.nyu\.validation_from_train 64"):
        labelled_frames(of(settings, nyu=SourceSettings(kind="nyuv2")), NYU13_CLASSES)
    alone = replace(settings, data=DataSettings(kind="nyuv2"))
    with pytest.raises(BuildError, match=r"--data\.validation_from_train 64"):
        labelled_frames(alone, NYU13_CLASSES)


def test_fine_tuning_moves_weights_leaves_statistics_and_reads_no_held_out_frame(
    rooms: Path, tmp_path: Path, net: DeepLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(rooms, tmp_path)
    labelled = labelled_frames(settings, NYU13_CLASSES)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with monkeypatch.context() as patched:
        patched.setattr(type(labelled.set), "held_out_frames", lambda *_: pytest.fail("held-out frames were opened"))
        tuned = fine_tune(net, labelled, settings, FineTuning(steps=4, lr=1e-2, batch=4, size=SIZE), console=quiet())
    after = tuned.state_dict()
    statistics = {name for name in before if "running" in name}
    assert statistics
    assert all(torch.equal(after[name], before[name]) for name in statistics)
    moved = [name for name in before if name not in statistics and not torch.equal(after[name], before[name])]
    assert {"net.conv_stem.weight", "logits.conv.weight", "skip.conv.bias"} <= set(moved)
    miou, frames = measure(tuned, labelled, SIZE)
    assert 0 <= miou <= 1
    assert frames == 2
    assert isinstance(labelled.set, DataSet)


def test_enough_steps_learn_the_training_frames(rooms: Path, tmp_path: Path, net: DeepLab) -> None:
    settings = tiny_settings(rooms, tmp_path)
    labelled = labelled_frames(settings, NYU13_CLASSES)
    train = replace(labelled, set=cast(DataSet, _Trained(labelled.set)))
    before, _ = measure(net, train, SIZE)
    tuned = fine_tune(net, labelled, settings, FineTuning(steps=200, lr=1e-2, batch=4, size=SIZE), console=quiet())
    after, _ = measure(tuned, train, SIZE)
    assert after > before + 0.04
    assert any(isinstance(one, nn.BatchNorm2d) for one in tuned.modules())


class _Trained:
    """A data set whose held-out frames are the training frames."""

    def __init__(self, one: DataSet) -> None:
        self._one = one

    def held_out_frames(self, data: DataSettings, split: str) -> object:
        from mtl.settings import Stage

        return self._one.train_frames(data, Stage(*SIZE))


def test_the_script_writes_a_graph_that_says_what_it_is_and_teaches(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tflite")
    file, out = tmp_path / "ade.tflite", tmp_path / "teacher.onnx"
    file.write_bytes(tflite_file(deeplab_layers("mobilenetv2_100", classes=151)))
    config = tmp_path / "c.toml"
    config.write_text(
        f"[data]\nroot = '{rooms}'\nheight = 32\nwidth = 64\ntrain = 4\nvalidation = 2\ntest = 2\nworkers = 1\n"
        "[loop]\nthreads = 1\nloader_workers = 0\nprecision = 'fp32'\n"
    )
    command = [str(file), str(out), "--config", str(config), "--size", "32x64", "--licence", "Apache-2.0"]
    assert make_teacher.main([*command, "--steps", "2", "--batch", "2"]) == 0
    graph = TeacherGraph(out, precision="fp32")
    assert graph.size == (32, 64)
    about = graph.notes.about
    assert about["weights"] == {"file": "ade.tflite", "sha256": sha256_file(file)}
    assert about["licence"] == "Apache-2.0"
    assert about["fine_tuned_on"]["steps"] == 2
    assert about["validation"]["frames"] == 2
    answers = graph.outputs(torch.rand(3, 3, 32, 64) * 255)["segmentation"]
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(3, 8, 16), rtol=1e-3, atol=1e-3)
    settings = tiny_settings(rooms, tmp_path, **{"distill.graph": f"'{out}'"})
    taught = make_distillation(settings, model_from(settings))
    assert taught is not None
    assert taught.tasks == ("segmentation",)
    assert taught.pulls
    assert make_teacher.main(command) == 12
    assert "is there already" in capsys.readouterr().err
    assert make_teacher.main([*command, "--replace", "--size", "30x64"]) != 0
    assert make_teacher.main([str(file), str(tmp_path / "none" / "t.onnx")]) != 0
    assert "there is no folder" in capsys.readouterr().err
