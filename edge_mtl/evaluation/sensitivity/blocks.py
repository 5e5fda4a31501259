"""The blocks of a network that are kept or quantized together, by the names of their layers. Knows names only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from glob import escape
from typing import Literal

from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.layers import layer_name
from edge_mtl.quantization.placement import place
from edge_mtl.quantization.recipes import LayerOverride, Recipe, Target
from edge_mtl.tasks import TASK_NAMES
from edge_mtl.tasks.kind import TASK_NAME

__all__ = ["Block", "Level", "find_blocks", "only", "without"]

Level = Literal["block", "layer"]

_TASKS = "|".join(TASK_NAMES)
_BY_TASK = r"\b(?:heads|branches|enter|messages)"
"""Parts of a network that has one for each task."""
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"backbone\.(?:embeddings\.0|net\.patch_embed)\."), "stem"),
    (re.compile(r"backbone\.(?:embeddings\.|net\.stages_)(\d+)\.(?:downsample\.)?proj"), "stage {stage} embedding"),
    (re.compile(r"backbone\.(?:blocks\.|net\.stages_)(\d+)\..*\b(?:attention|attn)\."), "stage {stage} attention"),
    (re.compile(r"backbone\.(?:blocks\.|net\.stages_)(\d+)\..*\bmlp\."), "stage {stage} mlp"),
    (re.compile(rf"decoder\..*\b({_TASKS})\."), "{task} branch"),
    (re.compile(rf"{_BY_TASK}\.({TASK_NAME.pattern})\."), "{task} branch"),
    (re.compile(r"decoder\."), "neck"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """Layers that go together.

    Attributes:
        name: "stem", "stage 2 mlp", "neck", "depth branch", ..., or a layer's name.
        layers: names of its layers that the recipe runs in INT8, in the graph's order.
    """

    name: str
    layers: tuple[str, ...]


def find_blocks(deploy_model: bytes, recipe: Recipe, *, target: Target, level: Level = "block") -> tuple[Block, ...]:
    """What `recipe` quantizes for `target`, in the graph's order; layers of no known network are blocks of their own.

    Raises:
        BuildError: the graph cannot be used, or an unknown level.
    """
    if level not in ("block", "layer"):
        raise BuildError(f"Unknown level {level!r}: expected block or layer.")
    index = GraphIndex(parse(deploy_model, name="the optimized ONNX"))
    found: dict[str, list[str]] = {}
    for node in place(index, recipe, target=target).layers:
        name = layer_name(node, index)
        found.setdefault(name if level == "layer" else _block_name(name), []).append(name)
    return tuple(Block(name, tuple(layers)) for name, layers in found.items())


def only(block: Block) -> tuple[LayerOverride, ...]:
    """Overrides that leave nothing but `block` in INT8."""
    return (LayerOverride("*", precision="float"), *(LayerOverride(escape(name), precision="int8") for name in block.layers))


def without(blocks: tuple[Block, ...]) -> tuple[LayerOverride, ...]:
    """Overrides that keep all of `blocks` in floating point."""
    return tuple(LayerOverride(escape(name), precision="float") for block in blocks for name in block.layers)


def _block_name(layer: str) -> str:
    for pattern, text in _PATTERNS:
        if (found := pattern.search(f"{layer}.")) is not None:
            group = found.group(1) if found.groups() else ""
            return text.format(stage=int(group) + 1 if group.isdigit() else 0, task=group)
    return layer
