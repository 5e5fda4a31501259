"""Makes a model from names and options: encoder, decoder, other heads, sharing, first answers.

Knows nothing about data or losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs, TaskSpec
from mtl.models.aspp import AsppDecoder
from mtl.models.backbone import STAGES, Backbone, Stages, build_backbone
from mtl.models.edge import EdgeDecoder, EdgeOptions
from mtl.models.head_network import HeadNetwork
from mtl.models.model import MultiTaskModel, Sharing
from mtl.models.sharing import TaskPart, TaskParts
from mtl.tasks import HeadOptions, chosen_tasks, head_of

__all__ = ["DecoderName", "build_model"]

DecoderName = Literal["edge", "aspp", "aspp_folded"]

_OUTPUT_STD = 0.01


def build_model(
    backbone: str,
    *,
    specs: Specs = NYU_TASKS,
    tasks: Sequence[str] | None = None,
    decoder: DecoderName = "edge",
    width: int = 64,
    edge: EdgeOptions | None = None,
    sharing: Sharing = "full",
    shared_stages: int = 2,
    size: tuple[int, int] = (288, 384),
    options: HeadOptions | None = None,
    pretrained: bool | Path | Mapping[str, Tensor] = False,
    drop_path: float = 0.0,
    output_stride: int | None = None,
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    std: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> MultiTaskModel:
    """Make a model, ready to train.

    Args:
        backbone: timm name, for example "pvt_v2_b0".
        specs: the tasks that there are, the study's three by default.
        tasks: names of those that it predicts; all by default.
        decoder: "edge" (ours, stride 4, four stages), "aspp" (the study's, full size, last stage), or "aspp_folded" (the
            same function up to `size` without the weights that only ever read padding).
        width: channels of the edge decoder and of the networks of tasks that are no maps; the ASPP's 256 are the study's and
            stay.
        edge: parts of the edge decoder; all the usual ones by default.
        sharing: "full": one backbone. "partial": its first `shared_stages` (1 to 3). "separate": nothing, which is as many
            single-task models. A single task shares everything with itself.
        size: (H, W) of the largest image, for "aspp_folded" only.
        options: what its heads say.
        pretrained, drop_path, output_stride: see `build_backbone`.
        mean, std: normalisation that goes with the model. See `NORMALISATIONS`; the study's protocol has none.
    Raises:
        BuildError: unknown task, decoder or backbone; weights that do not load; a backbone without strides 4, 8, 16, 32
            for the edge decoder, or the strides of a task's levels; one that cannot be cut for partial sharing.
    """
    chosen = chosen_tasks(specs, specs if tasks is None else tasks)
    said = options or HeadOptions()
    _check_choice("decoder", decoder, get_args(DecoderName))
    _check_choice("sharing", sharing, get_args(Sharing))
    _check_choice("depth output", said.depth_output, ("log", "linear"))
    if sharing == "partial" and not 1 <= shared_stages < STAGES:
        raise BuildError(f"{shared_stages} shared stages: expected 1 to {STAGES - 1}, or another sharing")
    ordered = list(chosen)

    def encoder() -> Backbone:
        return build_backbone(backbone, pretrained=pretrained, drop_path=drop_path, output_stride=output_stride)

    def head(whole: Backbone, names: Sequence[str]) -> EdgeDecoder | AsppDecoder:
        outputs = {task: head_of(chosen[task]).channels(chosen[task]) for task in names}
        if decoder == "edge":
            asked = EdgeDecoder.strides(edge)
            if whole.strides[-len(asked) :] != asked:
                raise BuildError(f"{backbone} has strides {whole.strides}: the edge decoder needs {asked}. Use aspp")
            return EdgeDecoder(whole.channels, outputs, width=width, options=edge)
        last = whole.strides[-1]
        largest = (-(-size[0] // last), -(-size[1] // last)) if decoder == "aspp_folded" else None
        return AsppDecoder(whole.channels, outputs, largest=largest)

    whole = encoder()
    networks = {task: head_of(spec).build(spec, whole.channels, whole.strides, width=width) for task, spec in chosen.items()}
    own = {task: network for task, network in networks.items() if network is not None}
    maps = [task for task in ordered if task not in own]
    shared: Backbone | Stages = whole
    task_parts: EdgeDecoder | AsppDecoder | TaskParts | None
    heads: dict[str, HeadNetwork] = {}
    if sharing == "full" or len(ordered) == 1:
        sharing = "full"
        task_parts, heads = head(whole, maps) if maps else None, own
    else:
        first = shared_stages if sharing == "partial" else 0
        wholes = [whole, *(encoder() for _ in ordered[1:])]
        rest = [one.part(first, STAGES) if first else one for one in wholes]
        task_parts = TaskParts(
            {
                task: TaskPart(part, own[task] if task in own else head(whole, [task]))
                for task, part in zip(ordered, rest, strict=True)
            }
        )
        shared = whole.part(0, first)
    for task, layer in task_parts.output_layers().items() if task_parts is not None else ():
        _initialise_output(chosen[task], layer, said)
    return MultiTaskModel(shared, task_parts, specs=chosen, heads=heads, sharing=sharing, options=said, mean=mean, std=std)


def _check_choice(what: str, found: str, choices: tuple[str, ...]) -> None:
    if found not in choices:
        raise BuildError(f"unknown {what} {found!r}: expected one of {', '.join(choices)}")


def _initialise_output(spec: TaskSpec, layer: nn.Conv2d, options: HeadOptions) -> None:
    """Start every pixel at an answer that is plausible: all classes alike, 2.5 m in a room, facing the camera."""
    nn.init.normal_(layer.weight, std=_OUTPUT_STD)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        head_of(spec).start(spec, layer, options)
