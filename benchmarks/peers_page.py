"""The peers table as a Markdown page. Knows the figures' layout; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peers_reasons import OUTSIDE, frame_by_kind, reasons

__all__ = ["markdown"]


def markdown(content: Mapping[str, Any]) -> str:
    """A page of what `peers.py` wrote as JSON."""
    (height, width), threads = content["size"], content["threads"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        f"# Peers: {content['bundle']['name']} revision {content['bundle']['revision']}",
        "",
        f"{content['date']}, commit {content['commit']}, {content['device']['description']}; {threads['runtime']} threads, "
        f"batch 1, frames of {height}x{width}, {content['rounds']} rounds, interleaved; load "
        f"{content['load']['before']} before, {content['load']['after']} after. {versions}. Engines built by commit "
        f"{', '.join(content.get('built_by') or ['unknown'])}.",
        "",
        "| who | p50 ms | p90 ms | times faster | 95 % | mIoU | depth error | normals | within the budget |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(content["rows"], key=lambda row: row["ratio"]):
        sure = "{:.2f} to {:.2f}".format(*row["ratio_sure"])
        name = f"**{row['name']}**" if row["ours"] else row["name"]
        held = "yes" if row["within_budget"] else "no"
        lines.append(
            f"| {name} | {row['times']['p50_ms']:.2f} | {row['times']['p90_ms']:.2f} | {row['ratio']:.2f} | {sure} "
            f"| {_figure(row['miou'], 100, '')} | {_figure(row['depth_rel'], 100, ' %')} "
            f"| {_figure(row['normal_mean_deg'], 1, '°')} | {held} |"
        )
    lines += [
        "",
        f"Times faster: than {content['baseline']}, the median over rounds. The budget against it: {content['budget']}.",
    ]
    runtimes = dict.fromkeys(row["runtime"] for row in content["rows"] if row.get("runtime"))
    if runtimes:
        lines += ["", f"Runtimes: {', '.join(runtimes)}."]
    outside = [f"- {row['name']}: {'; '.join(row['failures'])}" for row in content["rows"] if not row["within_budget"]]
    if outside:
        lines += ["", "Outside the budget, and so not compared below:", "", *outside]
    for sentence in reasons(content):
        lines += [sentence] if sentence.startswith("- ") and lines[-1].startswith("- ") else ["", sentence]
    if content.get("kinds"):
        lines += ["", f"Layers of {content['conclusion']['ours']} by kind of work, by the runtime's own profiler:", ""]
        lines += ["| kind | ms | of the frame | layers |", "|---|---|---|---|"]
        kinds = frame_by_kind(content)
        for row in kinds:
            lines.append(f"| {row['kind']} | {row['milliseconds']:.2f} | {row['share']:.1%} | {row['layers'] or ''} |")
        if any(row["kind"] == OUTSIDE for row in kinds):
            lines += [
                "",
                f"{OUTSIDE.capitalize()}: what is left of the frame. The profiler lengthens layers: it may be more.",
            ]
        else:
            lines += ["", "Under the profiler the layers took longer than the whole frame does without it."]
    if content["left_out"]:
        lines += ["", "Left out:", "", *(f"- {reason}" for reason in content["left_out"])]
    return "\n".join([*lines, "", f"`{content['command']}`", ""])


def _figure(value: float | None, factor: float, unit: str) -> str:
    return "" if value is None else f"{value * factor:.1f}{unit}"
