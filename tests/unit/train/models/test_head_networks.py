"""Networks of tasks whose answers are no maps, beside a decoder, without one, and where less than everything is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mtl.models import MultiTaskModel, build_model
from mtl.models.box_network import BoxNetwork
from mtl.models.deploy import deploy, relative_error
from mtl.models.export import export_deploy, export_plain
from mtl.nested import mapped, tensors

from edge_mtl.backends import open_backend
from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs, graph_outputs, read_tasks
from tests.networks import as_if_trained

pytestmark = pytest.mark.training

HEIGHT, WIDTH = 64, 96
SPECS = {
    "depth": NYU_TASKS["depth"],
    **read_tasks(
        {
            "objects": {"kind": "boxes", "classes": ["cup", "jug", "plate"]},
            "scene": {"kind": "class", "classes": ["kitchen", "office"]},
        }
    ),
}
SHARINGS = [("full", 2), ("partial", 2), ("partial", 3), ("separate", 2)]


def build(*tasks: str, specs: Specs = SPECS, **options: Any) -> MultiTaskModel:
    """A model whose stages have one block each, in evaluation, with weights that a wrong rewrite would show."""
    torch.manual_seed(0)
    model = build_model("pvt_v2_b0", specs=specs, tasks=tasks or tuple(specs), width=16, **options)
    for name, layer in model.named_modules():
        if name.split(".")[-1].startswith("stages_"):
            del layer.blocks[1:]
    return as_if_trained(model)


def image() -> torch.Tensor:
    return torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("sharing", "stages"), SHARINGS)
def test_every_way_of_sharing_gives_the_same_answers_by_parts_and_after_the_rewrite(sharing: str, stages: int) -> None:
    model = build(sharing=sharing, shared_stages=stages)
    assert (len(model.heads) == 2) is (sharing == "full")
    with torch.inference_mode():
        features = model.features(image())
        expected, found = model(image()), model.from_features(features, (HEIGHT, WIDTH), image=image())
    assert list(expected) == ["depth", "objects", "scene"]
    for task in expected:
        for one, other in zip(tensors(found[task]), tensors(expected[task]), strict=True):
            assert torch.equal(one, other)
    boxes = expected["objects"]
    assert [tuple(one.shape) for one in boxes["scores"]] == [(1, 3, 8, 12), (1, 3, 4, 6), (1, 3, 2, 3)]
    assert [tuple(one.shape) for one in boxes["boxes"]] == [(1, 4, 8, 12), (1, 4, 4, 6), (1, 4, 2, 3)]
    assert min(float(one.min()) for one in boxes["boxes"]) >= 0.0
    assert expected["scene"].shape == (1, 2)
    rewritten = deploy(model, height=HEIGHT, width=WIDTH)  # raises where it differs
    with torch.inference_mode():
        again = rewritten(image() * 255.0)
    assert max(relative_error(again[task], model(image())[task]) for task in model.tasks) < 1e-4
    assert not [name for name, _ in rewritten.named_buffers() if "running_mean" in name], "all norms are folded"


@pytest.mark.parametrize("tasks", [("objects", "scene"), ("scene",)])
def test_a_network_without_maps_is_exported(tasks: tuple[str, ...], tmp_path: Path) -> None:
    model = build(*tasks)
    assert model.decoder is None
    assert model.stride == 4
    assert model.reads == ((1, 2, 3) if "objects" in tasks else (3,))
    export_deploy(model, tmp_path / "deploy.onnx", height=HEIGHT, width=WIDTH)
    export_plain(model, tmp_path / "plain.onnx", height=HEIGHT, width=WIDTH)
    for name, placement in (("deploy", "host"), ("plain", "graph")):
        outputs = open_backend("onnxruntime", (tmp_path / f"{name}.onnx").read_bytes(), threads=1).outputs
        assert list(outputs) == list(graph_outputs(model.specs, (HEIGHT, WIDTH), placement))  # type: ignore[arg-type]


def test_a_class_reads_the_last_stage_beside_a_decoder_of_any_kind() -> None:
    model = build("depth", "scene", decoder="aspp")
    with torch.inference_mode():
        found = model(image())
    assert found["depth"].shape == (1, 1, HEIGHT, WIDTH)
    assert found["scene"].shape == (1, 2)
    assert model.reads == (3,)


def test_a_network_of_maps_alone_has_the_names_and_values_of_before() -> None:
    alone, beside = build_model("pvt_v2_b0", width=16), build("depth")
    assert not [name for name in alone.state_dict() if name.startswith("heads")]
    assert {name.split(".")[0] for name in beside.state_dict()} == {"backbone", "decoder"}


def test_last_layers_stay_in_float32() -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = build()(image())
    assert {one.dtype for one in tensors(found)} == {torch.float32}


def test_first_answers_are_few_boxes_of_a_plausible_size_and_all_classes_alike() -> None:
    torch.manual_seed(0)
    model = build_model("pvt_v2_b0", specs=SPECS, width=16).eval()
    with torch.inference_mode():
        found = model(image())
    assert float(torch.cat([one.flatten() for one in found["objects"]["scores"]]).sigmoid().mean()) == pytest.approx(
        0.01, abs=0.005
    )
    assert float(torch.cat([one.flatten() for one in found["objects"]["boxes"]]).mean()) == pytest.approx(2.0, abs=0.3)
    assert float((found["scene"].softmax(1) - 0.5).abs().max()) < 0.1


def test_boxes_of_a_task_move_its_own_head_and_the_backbone_only() -> None:
    model = build().train()
    answer = model(image().expand(2, -1, -1, -1))["objects"]
    torch.stack([one.mean() for one in tensors(answer)]).sum().backward()
    moved = {name.split(".")[0] + "." + name.split(".")[1] for name, one in model.named_parameters() if one.grad is not None}
    assert moved == {"backbone.net", "heads.objects"}


@pytest.mark.parametrize(
    ("levels", "strides", "message"),
    [((8, 16, 64), (4, 8, 16, 32), "stages at 4, 8, 16, 32"), ((8, 32), (4, 8, 16, 32), "twice the one before")],
)
def test_levels_that_the_backbone_does_not_have_are_refused(
    levels: tuple[int, ...], strides: tuple[int, ...], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        BoxNetwork("objects", (8, 8, 8, 8), strides, levels=levels, classes=2, width=8)


def test_errors_of_answers_of_several_tensors_are_those_of_the_worst() -> None:
    expected = {"a": [torch.ones(4), torch.zeros(3)]}
    assert relative_error(mapped(expected, torch.clone), expected) == 0.0
    assert relative_error({"a": [torch.ones(4) * 1.5, torch.zeros(3)]}, expected) == pytest.approx(0.5)
    assert relative_error({"a": [torch.ones(4), torch.full((3,), 0.1)]}, expected) == float("inf")
    assert relative_error({"a": [torch.full((4,), float("nan")), torch.zeros(3)]}, expected) != 0.0
