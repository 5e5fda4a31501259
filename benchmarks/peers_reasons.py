"""Where the time of our fastest INT8 engine goes, and what stands between it and an aim: figures, and sentences about them.

Knows layer profiles and kinds of work; the only numbers in its sentences are those that were measured in this run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_mtl.backends.profiling import profile_graph
from edge_mtl.bench.layer_groups import LayerGroupMap
from edge_mtl.bench.op_types import kind_of
from edge_mtl.bench.profile import by_kind
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle

__all__ = ["AIMS", "OUTSIDE", "frame_by_kind", "reasons", "time_by_kind"]

AIMS: Mapping[str, float] = {"pvt_v2_b0": 3.5, "pvt_v2_b2": 4.0}
"""By backbone: how many times faster than the plain export in ONNX Runtime an INT8 engine should be."""

OUTSIDE = "outside the layers"
"""Preparing the image, finishing the maps, and what the runtime does between layers."""

_LONGEST = 6
"""Kinds of work that sentences are about."""

_NEAR_CHANCE = 2.0
"""Times the mIoU that one and the same answer for every pixel can have; at or below, a network was hardly trained."""

_CHANGES: Mapping[str, str] = {
    "convolutions": "they run in INT8 already; fewer channels in the decoder or a smaller image would shorten them",
    "depthwise convolutions": "nine multiplications for each number that is read: bound by memory, not by integer units; a "
    "network with fewer hidden channels, or 1x1 convolutions in their place, would shorten them",
    "linear layers": "they run in INT8 already; fewer tokens or channels would shorten them",
    "attention products": "they stay in FP32 or BF16, where they are more accurate and were faster; kernels that fuse integer "
    "products with their softmax, or fewer keys, would shorten them",
    "normalisation": "LayerNorm stays in FP32 and writes what the next layer rounds; a kernel that norms and rounds at once, "
    "or BatchNorm folded into the layers in training, would remove most of it",
    "activations": "GELU of the widest maps; ReLU in training folds into the convolution before it",
    "resizing": "a decoder with fewer scales",
    "memory layout and shapes": "tokens and maps lie differently in memory; a backbone that is channels-last throughout, or a "
    "runtime that takes it so, would remove it",
    "rounding and conversion": "boundaries between integers and floats; fewer islands of floats would remove them",
    OUTSIDE: "preparing the image, finishing the maps, and what the runtime does between layers; a smaller image, or, of "
    "recordings, several frames at once, as Engine(parallel_frames=2).stream does",
    "sums and the rest": "sums of skip connections, bound by memory",
}


def time_by_kind(
    bundle: Bundle, graph: bytes, *, backend: str, precision: str, threads: int, runs: int
) -> list[dict[str, Any]]:
    """By kind of work, the longest first: "kind", "milliseconds", "share" of all layers, "layers".

    Raises:
        BackendUnavailable, BundleError, InferenceError: the runtime has no profiler, or fails in it.
    """
    found = profile_graph(backend, graph, precision=precision, threads=threads, runs=runs)
    known = LayerGroupMap(bundle.read(OPTIMIZED_ONNX))
    kinds = [kind_of(layer.kind, known.operators(layer.sources)) for layer in found.layers]
    return [
        {"kind": row.part, "milliseconds": row.milliseconds, "share": row.share, "layers": row.layers}
        for row in by_kind(found, kinds)
    ]


def reasons(content: Mapping[str, Any]) -> list[str]:
    """Sentences for the page: whether ours is ahead, whether the aim is reached, and if not, exactly why.

    Args:
        content: of the page, with "classes", "conclusion", "rows", "baseline", "aim" and "kinds".
    """
    lines = _untrained(content)
    found = content["conclusion"]
    if not found:
        return [*lines, _nothing_to_compare(content["rows"])]
    state = {
        "faster": "ahead of every peer",
        "slower": "not ahead of every peer",
        "no difference shown": "no difference is shown, so not ahead of every peer",
    }[found["verdict"]]
    low, high = found["ahead_sure"]
    lines.append(
        f"Within the budget, our fastest INT8 engine is {found['ours']} at {found['ratio']:.2f}; the fastest peer is "
        f"{found['rival']} at {found['rival_ratio']:.2f}: round by round ours is {found['ahead']:.2f} times as fast "
        f"(95 %: {low:.2f} to {high:.2f}), {state}."
    )
    if found["faster_ours"]:
        lines.append(f"Of our own engines {', '.join(found['faster_ours'])} is faster still.")
    took, rival_took = _frame_ms(content, found["ours"]), _frame_ms(content, found["rival"])
    short = []
    if found["verdict"] != "faster":
        short.append(f"A frame takes {took:.1f} ms, with {found['rival']} {rival_took:.1f} ms.")
    aim = content.get("aim")
    if aim is not None and found["ratio"] >= aim:
        lines.append(f"The aim was {aim:g} times: reached.")
    elif aim is not None:
        wanted = took * found["ratio"] / aim
        short.append(
            f"The aim was {aim:g} times: not reached. A frame takes {took:.1f} ms and would have to take {wanted:.1f} ms, "
            f"{took - wanted:.1f} ms less."
        )
    if short:
        lines.append(" ".join([*short, "Why, and what would change it, by what takes the time:"]))
        lines += _why(frame_by_kind(content), took, found["ratio"])
    return lines


def frame_by_kind(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where a frame of our fastest INT8 engine goes, the longest first: "kind", "milliseconds", "share" of the frame, "layers".

    Layers have their own milliseconds, of the profiler; what of the frame is left is `OUTSIDE`, without layers. It is missing
    where the profiler made the layers slower than the whole frame.
    """
    took = _frame_ms(content, content["conclusion"]["ours"])
    rows = [(row["kind"], float(row["milliseconds"]), row["layers"]) for row in content["kinds"]]
    rest = took - sum(spent for _, spent, _ in rows)
    rows += [(OUTSIDE, rest, None)] if rest > 0 else []
    return [
        {"kind": kind, "milliseconds": spent, "share": spent / took, "layers": layers}
        for kind, spent, layers in sorted(rows, key=lambda row: -row[1])
    ]


def _frame_ms(content: Mapping[str, Any], name: str) -> float:
    """Median of a whole frame."""
    return float(next(row for row in content["rows"] if row["name"] == name)["times"]["p50_ms"])


def _untrained(content: Mapping[str, Any]) -> list[str]:
    """A warning where the baseline hardly knows more than the name of one class.

    Whoever always says the same of C classes has the IoU of that class, at most 1, and 0 for the others: at most 1/C.
    """
    classes = content["classes"]
    miou = next(row for row in content["rows"] if row["name"] == content["baseline"])["miou"]
    if miou is None or not classes or miou > _NEAR_CHANCE / classes:
        return []
    return [
        f"This network was hardly trained: its mIoU is {miou:.1%}, and the same answer for every pixel can have up to "
        f"{1 / classes:.1%}. To be within the budget says little here: what knows nothing cannot lose much. Times are those of "
        "the architecture."
    ]


def _nothing_to_compare(rows: Sequence[Mapping[str, Any]]) -> str:
    integers = [row for row in rows if row["ours"] and " int8" in row["name"]]
    if not integers:
        return "None of our INT8 engines was measured, so that nothing of ours is compared: what was left out says why."
    if not any(row["within_budget"] for row in integers):
        names = ", ".join(row["name"] for row in integers)
        return f"None of our INT8 engines is within the budget ({names}), so that nothing of ours is compared."
    return "No peer is within the budget, so that there is nothing to compare ours with."


def _why(kinds: Sequence[Mapping[str, Any]], took_ms: float, ratio: float) -> list[str]:
    """Of the longest kinds: the time, what the ratio would be without it, what would change it."""
    found = []
    for entry in kinds[:_LONGEST]:
        spent = float(entry["milliseconds"])
        change = _CHANGES.get(entry["kind"], "not known")
        without = f"; without it {ratio * took_ms / (took_ms - spent):.2f} times at most" if spent < took_ms else ""
        found.append(
            f"- {entry['kind']}: {spent:.2f} ms, {entry['share']:.0%} of the frame{without}. {change[:1].upper()}{change[1:]}."
        )
    return found
