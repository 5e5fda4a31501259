"""Where the time of our fastest INT8 engine goes, and what stands between it and an aim: figures, and sentences about them.

Knows layer profiles and kinds of work; the only numbers in its sentences are those that were measured in this run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_mtl.backends.profiling import profile_graph
from edge_mtl.bench.kinds import kind_of
from edge_mtl.bench.parts import PartMap
from edge_mtl.bundle import DEPLOY_MODEL, Bundle
from edge_mtl.commands.profile import by_kind

__all__ = ["AIMS", "reasons", "time_by_kind"]

AIMS: Mapping[str, float] = {"pvt_v2_b0": 3.5, "pvt_v2_b2": 4.0}
"""By backbone: how many times faster than the plain export in ONNX Runtime an INT8 engine should be."""

_CHANGES: Mapping[str, str] = {
    "convolutions": "they run on integers already; fewer channels in the decoder or a smaller picture would shorten them",
    "depthwise convolutions": "nine multiplications for each number that is read: bound by memory, not by integer units; a "
    "network with fewer hidden channels, or 1x1 convolutions in their place, would shorten them",
    "linear layers": "they run on integers already; fewer tokens or channels would shorten them",
    "attention products": "they stay in floats, where they are more accurate and were faster; kernels that fuse integer "
    "products with their softmax, or fewer keys, would shorten them",
    "normalisation": "LayerNorm stays in floats and writes what the next layer rounds; a kernel that norms and rounds at once, "
    "or BatchNorm folded into the layers in training, would remove most of it",
    "activations": "GELU of the widest maps; ReLU in training folds into the convolution before it",
    "resizing": "a decoder with fewer scales",
    "memory layout and shapes": "tokens and maps lie differently in memory; a backbone that is channels-last throughout, or a "
    "runtime that takes it so, would remove it",
    "rounding and conversion": "boundaries between integers and floats; fewer islands of floats would remove them",
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
    known = PartMap(bundle.read(DEPLOY_MODEL))
    kinds = [kind_of(layer.kind, known.operators(layer.sources)) for layer in found.layers]
    return [
        {"kind": row.part, "milliseconds": row.milliseconds, "share": row.share, "layers": row.layers}
        for row in by_kind(found, kinds)
    ]


def reasons(content: Mapping[str, Any]) -> list[str]:
    """Sentences for the page: whether ours is ahead, whether the aim is reached, and if not, exactly why.

    Args:
        content: of the page, with "conclusion", "rows", "aim" and "kinds".
    """
    found = content.get("conclusion") or {}
    if not found:
        return []
    lines = []
    ahead = found["ratio"] / found["rival_ratio"]
    state = "ahead of every peer" if ahead > 1 else "not ahead of every peer"
    lines.append(
        f"Within the budget, our fastest INT8 engine is {found['ours']} at {found['ratio']:.2f}; the fastest peer is "
        f"{found['rival']} at {found['rival_ratio']:.2f}: ours is {ahead:.2f} times as fast, {state}."
    )
    faster = [row["name"] for row in content["rows"] if row["ours"] and row["within_budget"] and row["ratio"] > found["ratio"]]
    if faster:
        lines.append(f"Of our own engines {', '.join(faster)} is faster still.")
    aim = content.get("aim")
    row = next(row for row in content["rows"] if row["name"] == found["ours"])
    if aim is not None:
        took = float(row["times"]["p50_ms"])
        if found["ratio"] >= aim:
            lines.append(f"The aim was {aim:g} times: reached.")
        else:
            wanted = took * found["ratio"] / aim
            lines.append(
                f"The aim was {aim:g} times: not reached. A frame takes {took:.1f} ms and would have to take {wanted:.1f} ms, "
                f"{took - wanted:.1f} ms less. Why, and what would change it, by what takes the time:"
            )
            lines += _why(content["kinds"], took, found["ratio"])
    return lines


def _why(kinds: Sequence[Mapping[str, Any]], took_ms: float, ratio: float) -> list[str]:
    """Of the longest kinds: the time, what the ratio would be without it, what would change it."""
    found = []
    for entry in kinds[:6]:
        share = float(entry["share"])
        change = _CHANGES.get(entry["kind"], "not known")
        most = ratio / (1 - share)
        found.append(
            f"- {entry['kind']}: {share:.0%} of the layers' time, about {share * took_ms:.1f} ms; without it {most:.2f} times "
            f"at most. {change[:1].upper()}{change[1:]}."
        )
    return found
