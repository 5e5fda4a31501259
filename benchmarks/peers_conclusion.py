"""Which of our engines is held against which peer, and what may be said of the two. Knows rows and times; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_mtl.bench.statistics import Interval, Verdict, ratio_interval, verdict

__all__ = ["conclusion", "paired"]


def conclusion(rows: Sequence[Mapping[str, Any]], times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Our fastest INT8 engine within the accuracy budget beside the fastest peer that is within it too, round by round.

    Args:
        times: by name, seconds of every round; those of one round are neighbours in time.
    Returns:
        Nothing where there is no such engine or no such peer; else both with their ratios, "ahead" (how many times faster ours
        is than the peer), "ahead_sure" (95 %), "verdict", and as "faster_ours" our other engines that are faster still.
    """
    fit = [row for row in rows if row["within_budget"]]
    integers = [row for row in fit if row["ours"] and " int8" in row["name"]]
    others = [row for row in fit if not row["ours"]]
    if not integers or not others:
        return {}
    best, rival = max(integers, key=lambda row: row["ratio"]), max(others, key=lambda row: row["ratio"])
    ahead, judgement = paired(times[rival["name"]], times[best["name"]])
    return {
        "ours": best["name"],
        "ratio": best["ratio"],
        "rival": rival["name"],
        "rival_ratio": rival["ratio"],
        "ahead": ahead.value,
        "ahead_sure": [ahead.low, ahead.high],
        "verdict": judgement,
        "faster_ours": [
            row["name"] for row in fit if row["ours"] and paired(times[best["name"]], times[row["name"]])[1] == "faster"
        ],
    }


def paired(reference: Sequence[float], samples: Sequence[float]) -> tuple[Interval, Verdict]:
    """How many times faster `samples` are, and what may be said about it."""
    ratio = ratio_interval(reference, samples)
    return ratio, verdict(ratio, samples=len(samples))
