"""The graph of every candidate: quantized once for each Q/DQ style, halved where the graph decides that.

Knows recipes, quantization and precisions; runs nothing but calibration, and knows nothing about engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape

from edge_mtl.backends import spec_of, style_of
from edge_mtl.builder.candidates import DEPTHWISE, Candidate, target_of
from edge_mtl.builder.converters import converter_of
from edge_mtl.builder.tensorrt.half import to_half
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import OWN_FRAMES, CalibrationSet
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.allowlist import check_graph
from edge_mtl.onnx_graph.model import GraphIndex, attribute, facts, parse
from edge_mtl.quantization.layers import layer_name
from edge_mtl.quantization.learned import int8_graph
from edge_mtl.quantization.quantize import Calibrated, calibrate, insert_qdq
from edge_mtl.quantization.recipes import LayerOverride, Recipe, recipe_for

__all__ = ["CandidateGraphs", "candidate_graphs", "named_by"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CandidateGraphs:
    """The graph of every candidate, and the ranges that INT8 ones for processors were made with."""

    graphs: Mapping[Candidate, bytes]
    calibrated: Calibrated | None


def candidate_graphs(
    bundle: Bundle,
    tried: Sequence[Candidate],
    frames: CalibrationSet | None,
    recipe: Recipe,
    *,
    threads: int | None,
    progress: Progress,
    weak: bool = False,
) -> CandidateGraphs:
    """Graphs that hold the precision of each of `tried`; those that would be the same as another's are left out.

    Args:
        frames: for ranges; not needed where nothing is quantized.
        recipe: for all of them but those whose style it does not name and the package has a recipe for: see `recipe_for`.
        weak: what makes plans chooses among types by itself: its graphs stay in full precision.
    Raises:
        BuildError: a graph does not hold the integers or halves that were asked for.
        CalibrationError, BackendUnavailable: as their parts say.
    """
    deploy = bundle.read(OPTIMIZED_ONNX)
    check_graph(deploy, name=str(bundle.path / OPTIMIZED_ONNX))
    source = int8_graph(bundle, own_frames=frames is None or frames.source == OWN_FRAMES)
    check_graph(source, name=f"the graph of {bundle.path} that INT8 is made from")
    quantized = [(item.backend, item.weight_bits) for item in tried if item.precision.startswith("int8")]
    wanted = list(dict.fromkeys(quantized)) if frames is not None else []
    recipes = {target: recipe_for(target, recipe) for target in (target_of(backend) for backend, _ in wanted)}
    ranges: dict[str, Calibrated] = {}  # by digest of the recipe
    integers: dict[tuple[str, int], bytes] = {}
    for number, (backend, bits) in enumerate(wanted):
        target, chosen = target_of(backend), recipes[target_of(backend)]
        if chosen.digest not in ranges and frames is not None:
            alike = dict.fromkeys((*chosen.targets, *(other for other, known in recipes.items() if known == chosen)))
            together = replace(chosen, targets=tuple(alike))
            ranges[chosen.digest] = calibrate(source, frames.material, recipe=together, threads=threads, progress=progress)
        fixed = bits if spec_of(backend).device == "cpu" else None
        emitted = insert_qdq(source, ranges[chosen.digest], recipe=chosen, target=target, bits=fixed)
        integers[backend, bits] = emitted
        found = facts(emitted, name="the quantized graph")
        if found.integer_layers == 0:
            raise BuildError(f"INT8 was asked for, but the graph for {backend} has {found.describe()}. Check the recipe.")
        progress("quantize", number + 1, len(wanted))
    graphs: dict[Candidate, bytes] = {}
    for item in tried:
        if item.plain:
            if not bundle.has(REFERENCE_ONNX):
                continue
            graph = _plain(bundle, item)
        elif DEPTHWISE in item.float_blocks:
            kept = _depthwise_in_floats(source)
            if not kept or frames is None:
                continue
            target = target_of(item.backend)
            chosen = recipes[target]
            changed = replace(chosen, layers=(*chosen.layers, *kept))
            graph = insert_qdq(source, ranges[chosen.digest], recipe=changed, target=target)
        else:
            graph = integers[item.backend, item.weight_bits] if item.precision.startswith("int8") else deploy
        graphs[item] = to_half(graph, name="the graph") if _halved(item, weak=weak) else graph
    on_cpu = any(spec_of(backend).device == "cpu" for backend, _ in wanted)
    return CandidateGraphs(graphs, ranges.get(recipe.digest) if on_cpu else None)


def _plain(bundle: Bundle, candidate: Candidate) -> bytes:
    graph = bundle.read(REFERENCE_ONNX)
    check_graph(graph, name=str(bundle.path / REFERENCE_ONNX))
    converter = converter_of(candidate.backend)
    return graph if converter is None else converter.prepare(graph, name=REFERENCE_ONNX)


def _depthwise_in_floats(source: bytes) -> tuple[LayerOverride, ...]:
    """What a recipe has to say besides so that depthwise convolutions stay in floating point; nothing where there are none."""
    index = GraphIndex(parse(source, name="the graph that INT8 is made from"))
    nodes = [node for node in index.nodes if node.op_type == "Conv" and attribute(node, "group", 1) > 1]
    names = dict.fromkeys(layer_name(node, index) for node in nodes)
    return tuple(LayerOverride(escape(name), precision="float") for name in names)


def named_by(recipe: Recipe, tried: Sequence[Candidate], *, others: bool = False) -> tuple[Candidate, ...]:
    """`tried` without the INT8 graphs of runtimes that the recipe is not for.

    Args:
        others: whether those stay all the same that the package has another recipe for, see `recipe_for`.
    Raises:
        BuildError: none of the INT8 graphs is left.
    """
    integers = {candidate.backend for candidate in tried if candidate.precision.startswith("int8")}
    styles = {backend: style_of(target_of(backend)) for backend in integers}
    known = {backend for backend, style in styles.items() if style.name in recipe.targets or (others and style.recipe)}
    if integers and not known:
        raise BuildError(
            f"The recipe {recipe.name} is for {', '.join(recipe.targets)}; INT8 can be built here for "
            f"{', '.join(sorted(integers))}. Add one of these to its targets, or give another recipe: --recipe FILE"
        )
    return tuple(item for item in tried if item.backend in known or not item.precision.startswith("int8"))


def _halved(candidate: Candidate, *, weak: bool) -> bool:
    """Whether half precision is written into the graph; other runtimes take it as an option instead."""
    spec = spec_of(candidate.backend)
    if weak and not spec.takes_graphs:
        return False
    return spec.halves_in_graph and candidate.precision in ("fp16", "int8+fp16")
