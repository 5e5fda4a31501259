"""Checkpoints of other code: LibMTL's and PVT's names become ours, the same function comes out, and no code in a file runs."""

from __future__ import annotations

import json
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from export import main as export_main
from import_checkpoint import main
from mtl.bundling import load_trained
from mtl.checkpoint import CheckpointError
from mtl.foreign_names import backbone_names
from mtl.importing import ImportMismatch, import_weights, read_weights, turn_normals
from mtl.models.torchvision_ops import make_timm_importable
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl import Engine
from edge_mtl.errors import BuildError
from tests.nyu_files import write_folder

make_timm_importable()

import timm  # noqa: E402
from torchvision.models.segmentation.deeplabv3 import DeepLabHead  # noqa: E402

pytestmark = pytest.mark.training

SIZE = (64, 96)
CHANNELS = {"segmentation": 13, "depth": 1, "normal": 3}


def authors_name(name: str) -> str:
    """timm's name of a PVT v2 weight -> the authors'."""
    name = re.sub(r"^patch_embed\.", "patch_embed1.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda m: f"patch_embed{int(m[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.", lambda m: f"block{int(m[1]) + 1}.", name)
    name = re.sub(r"^stages\.(\d)\.norm\.", lambda m: f"norm{int(m[1]) + 1}.", name)
    return name.replace(".dwconv.", ".dwconv.dwconv.")


class Theirs(nn.Module):
    """A multi-task model put together as LibMTL's example does: an encoder, and torchvision's DeepLabHead per task."""

    def __init__(self, encoder: nn.Module, channels: int, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleDict({task: DeepLabHead(channels, CHANNELS[task]) for task in tasks})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        last = self.encoder.forward_features(image)
        return {
            task: F.interpolate(head(last), tuple(image.shape[2:]), mode="bilinear", align_corners=True)
            for task, head in self.decoders.items()
        }


def unkind(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.3, generator=generator)
            layer.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    torch.manual_seed(0)
    return unkind(
        Theirs(timm.create_model("pvt_v2_b0", num_classes=0, global_pool=""), 256, ("segmentation", "depth", "normal"))
    )


@pytest.fixture(scope="module")
def libmtl(theirs: Theirs) -> OrderedDict[str, Tensor]:
    """The state dict of LibMTL's model around the authors' PVT v2, with the loss weights that its "UW" leaves in there."""
    named = OrderedDict(loss_scale=torch.zeros(3))
    for name, value in theirs.state_dict().items():
        part, _, rest = name.partition(".")
        named[f"encoder.{authors_name(rest)}" if part == "encoder" else name] = value
    assert {"encoder.patch_embed1.proj.weight", "encoder.block4.1.mlp.dwconv.dwconv.weight"} <= set(named)
    assert {"decoders.normal.0.convs.4.1.weight", "decoders.depth.4.bias"} <= set(named)
    return named


def test_a_model_trained_with_libmtl_says_the_same_after_the_import(
    theirs: Theirs, libmtl: OrderedDict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(libmtl, tmp_path / "best.pt")
    assert main([str(tmp_path / "best.pt"), "--out", str(tmp_path / "runs" / "libmtl"), "--size", "64x96"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pvt_v2_b0, aspp, segmentation, depth, normals" in said
    assert "not needed: loss_scale" in said
    assert "next: python train/export.py" in said
    trained = load_trained(tmp_path / "runs" / "libmtl" / "best.safetensors")  # what train/export.py builds again
    assert trained.size == SIZE
    assert (trained.settings.data.kind, trained.settings.model.depth_output) == ("nyuv2", "linear")
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, found = theirs(image), trained.model(image)
    torch.testing.assert_close(found["segmentation"], expected["segmentation"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["normals"], expected["normal"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["depth"], expected["depth"].clamp(0.05, 80.0), atol=1e-5, rtol=1e-4)
    assert json.loads((tmp_path / "runs" / "libmtl" / "config.json").read_text())["model"]["backbone"] == "pvt_v2_b0"


@pytest.mark.slow
def test_an_imported_model_becomes_a_bundle_that_an_engine_runs(
    theirs: Theirs, libmtl: OrderedDict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(libmtl, tmp_path / "best.pt")
    run, bundle, nyu = tmp_path / "runs" / "libmtl", tmp_path / "bundle", write_folder(tmp_path / "nyu")
    assert main([str(tmp_path / "best.pt"), "--out", str(run), "--size", "64x96"]) == 0
    counts = ["--export.calibration", "2", "--export.evaluation", "1", "--export.golden", "1"]
    code = export_main([str(run / "best.safetensors"), "--out", str(bundle), "--data.root", str(nyu), *counts])
    assert code == 0, capsys.readouterr().err
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    with Engine(bundle) as engine:
        maps = engine.predict(image)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0)
    labels = expected["segmentation"].argmax(1)[0].numpy()
    assert len(np.unique(labels)) > 1
    assert (maps.segmentation == labels).mean() > 0.9  # an engine ends at a quarter of the size
    assert maps.normals.shape == (*SIZE, 3)


def test_one_task_and_wrappers_are_understood_too(libmtl: OrderedDict[str, Tensor], tmp_path: Path) -> None:
    one = {
        "module." + name.replace("encoder.", "encoder.backbone."): value
        for name, value in libmtl.items()
        if not name.startswith(("decoders.segmentation", "decoders.normal"))
    }
    torch.save({"epoch": 81, "state_dict": one}, tmp_path / "one.pth")
    imported = import_weights(read_weights(tmp_path / "one.pth"), name="one", size=SIZE)
    assert imported.model.tasks == ("depth",)
    assert torch.equal(imported.model.decoder.heads["depth"].output.weight, libmtl["decoders.depth.4.weight"])


@pytest.mark.parametrize(
    ("prefix", "nested", "said"),
    [
        ("_orig_mod.", False, "'_orig_mod.' was taken"),  # torch.compile
        ("module._orig_mod.", False, "'module.' was taken"),
        ("model.", True, "'model.' was taken"),  # Lightning, whose module has the network as an attribute
        ("", False, ""),
    ],
)
def test_what_wrappers_put_before_all_names_is_taken_away_and_told(
    libmtl: OrderedDict[str, Tensor], tmp_path: Path, prefix: str, nested: bool, said: str
) -> None:
    wrapped = {prefix + name: value for name, value in libmtl.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "hyper_parameters": {"lr": 1e-3}} if nested else wrapped, tmp_path / "a.pt")
    remarks: list[str] = []
    assert read_weights(tmp_path / "a.pt", on_remark=remarks.append).keys() == libmtl.keys()
    assert len(remarks) == bool(said)
    assert said in "".join(remarks)


def test_a_layer_that_was_compiled_alone_keeps_its_name(libmtl: OrderedDict[str, Tensor], tmp_path: Path) -> None:
    wrapped = {name.replace("encoder.", "encoder._orig_mod."): value for name, value in libmtl.items()}
    torch.save(wrapped, tmp_path / "a.pt")
    assert read_weights(tmp_path / "a.pt").keys() == libmtl.keys()


def test_a_prefix_of_most_names_is_named(libmtl: OrderedDict[str, Tensor], tmp_path: Path) -> None:
    wrapped = {f"model.{name}": value for name, value in libmtl.items()} | {"criterion.weight": torch.zeros(3)}
    torch.save({"state_dict": wrapped}, tmp_path / "a.ckpt")
    with pytest.raises(ImportMismatch) as caught:
        import_weights(read_weights(tmp_path / "a.ckpt"), name="one", size=SIZE)
    assert "names in the file begin with 'model.'" in str(caught.value)


def test_the_dilated_resnet_of_libmtl_is_found() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        weights = {
            f"encoder.{name}": value for name, value in timm.create_model("resnet50", num_classes=0).state_dict().items()
        }
        heads = {f"decoders.depth.{name}": value for name, value in DeepLabHead(2048, 1).state_dict().items()}
        imported = import_weights({**weights, **heads}, name="resnet", size=SIZE)
    assert (imported.settings.model.backbone, imported.settings.model.output_stride) == ("resnet50", 8)
    assert imported.model.backbone.strides == (4, 8, 8, 8)


def test_published_pvt_weights_become_a_model_that_has_to_learn_its_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.manual_seed(0)
    published = timm.create_model("pvt_v2_b0").eval()
    torch.save({authors_name(name): value for name, value in published.state_dict().items()}, tmp_path / "pvt_v2_b0.pth")
    folder = tmp_path / "runs" / "start"
    assert main([str(tmp_path / "pvt_v2_b0.pth"), "--out", str(folder), "--tasks", "depth,normals"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not needed: head.weight, head.bias" in said
    assert "the decoder has learnt nothing yet; next: python train/train.py --model.init" in said
    assert "--model.init_part backbone --model.backbone pvt_v2_b0 --model.normalisation imagenet" in said
    model = load_trained(folder / "best.safetensors").model
    image = torch.rand(1, 3, *SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(model.backbone(image)[-1], published.forward_features(image))
    assert model.tasks == ("depth", "normals")
    assert max(model.std) < 1.0  # the normalisation that goes with these weights


class Harmful:
    """Creates a file when it is unpickled by a reader that runs what a pickle asks for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, how: str, capsys: pytest.CaptureFixture) -> None:
    harmed, file = tmp_path / "harmed", tmp_path / "best.pt"
    content = {"encoder.conv1.weight": torch.zeros(1), "more": Harmful(harmed)}
    if how == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content, protocol=2))
    assert main([str(file), "--out", str(tmp_path / "run")]) == CheckpointError.exit_code
    assert "is refused: it holds code or objects" in capsys.readouterr().err
    assert not harmed.exists()
    assert not (tmp_path / "run").exists()
    if how == "pickle":  # positive control: this file does harm
        pickle.loads(file.read_bytes())
        assert harmed.exists()


def test_a_whole_pickled_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(1, 1, 1), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "corrupt"), (b"PK\x03\x04 cut short", "corrupt"), (None, "cannot be read")]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    for suffix in ("pt", "safetensors"):
        file = tmp_path / f"x.{suffix}"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_weights(file)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_weights(tmp_path / "x.pt")


def test_weights_without_a_place_are_named_with_the_nearest_place(libmtl: OrderedDict[str, Tensor]) -> None:
    wrong = dict(libmtl)
    wrong["decoders.depth.0.convs.0.9.weight"] = wrong.pop("decoders.depth.0.convs.0.0.weight")
    with pytest.raises(ImportMismatch, match="the file is not pvt_v2_b0 with ASPP heads: 1 weights have no place") as caught:
        import_weights(wrong, name="x", size=SIZE)
    assert caught.value.unmatched == ("decoders.depth.0.convs.0.9.weight",)
    assert caught.value.missing == ("decoder.heads.depth.point.0.weight",)
    assert "1 are not in the file: decoder.heads.depth.point.0.weight (nearest: decoders.depth" in str(caught.value)


def test_weights_of_another_shape_have_no_place(libmtl: OrderedDict[str, Tensor]) -> None:
    wrong = {**libmtl, "decoders.segmentation.4.weight": torch.zeros(40, 256, 1, 1)}
    with pytest.raises(ImportMismatch) as caught:
        import_weights(wrong, name="x", size=SIZE)
    assert caught.value.unmatched == ("decoders.segmentation.4.weight",)


def test_another_architecture_or_task_is_refused(libmtl: OrderedDict[str, Tensor]) -> None:
    with pytest.raises(ImportMismatch, match=r"decoders\.edges"):
        import_weights({**libmtl, "decoders.edges.4.bias": torch.zeros(1)}, name="x", size=SIZE)
    with pytest.raises(ImportMismatch, match=r"gates\.0\.weight"):
        import_weights({**libmtl, "gates.0.weight": torch.zeros(1)}, name="x", size=SIZE)
    with pytest.raises(BuildError, match="unknown backbone 'pvt_v9'"):
        import_weights(libmtl, name="x", size=SIZE, backbone="pvt_v9")


def test_timms_own_names_need_no_renaming() -> None:
    with torch.device("meta"):
        names = {name: name for name in timm.create_model("pvt_v2_b0", features_only=True).state_dict()}
        nested = {name: name for name in timm.create_model("pvt_v2_b0").state_dict()}
    assert backbone_names(names) == (names, [])
    renamed, left = backbone_names(nested)
    assert set(renamed) == set(names)
    assert left == ["head.weight", "head.bias"]


def test_normals_in_other_axes_are_turned_into_ours(libmtl: OrderedDict[str, Tensor]) -> None:
    model = import_weights(libmtl, name="x", size=SIZE).model
    image = torch.rand(1, 3, *SIZE)
    with torch.inference_mode():
        before = model(image)["normals"]
        turn_normals(model, "x,-z,y")
        after = model(image)["normals"]
    torch.testing.assert_close(after, torch.stack([before[:, 0], -before[:, 2], before[:, 1]], dim=1))
    for axes in ("x,y", "x,x,z", "a,y,z", ",,"):
        with pytest.raises(BuildError, match="each of x, y, z once"):
            turn_normals(model, axes)


def test_a_run_that_is_there_is_not_replaced_unasked(libmtl: OrderedDict[str, Tensor], tmp_path: Path, capsys) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").write_bytes(b"mine")
    torch.save(libmtl, tmp_path / "best.pt")
    assert main([str(tmp_path / "best.pt"), "--out", str(tmp_path / "run")]) == CheckpointError.exit_code
    assert "holds a run already" in capsys.readouterr().err
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == b"mine"
