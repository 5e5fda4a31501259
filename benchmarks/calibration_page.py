"""What `calibration_domains.py` found as a Markdown page. Knows the figures' layout; measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_mtl.evaluation.budget import Check
from edge_mtl.tasks import headlines

__all__ = ["fooled", "markdown"]

Content = Mapping[str, Any]

_NAMES = {"bundle": "the bundle's own", "nyuv2": "NYUv2, training frames", "rooms": "rendered rooms", "": ""}
_HEADS = ("| calibrated by | engine |", "|---|---|")


def markdown(content: Content) -> str:
    """A page of what the script wrote as JSON."""
    frames, (height, width) = content["frames"], content["network"]
    own = f"the bundle's {frames['bundle']} labelled frames{' (rendered rooms)' if content['stand_ins'] else ''}"
    test = f"{frames['nyuv2']} test frames of NYUv2"
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return "\n".join(
        [
            f"# INT8 on real frames: {content['bundle']['name']} revision {content['bundle']['revision']}",
            "",
            f"{content['date']}, commit {content['commit']}, {content['device']['description']}; frames of {height}x{width}, "
            f"{content['threads']['runtime']} thread a row. {versions}. Measured by commit "
            f"{', '.join(content['kept_of']) or 'unknown'}.",
            "",
            "## Within the default budget?",
            "",
            f"{_HEADS[0]} on {own} | on {test} |",
            f"{_HEADS[1]}---|---|",
            *(
                f"{_who(row)} {_verdict(row['on']['bundle'])} | {_verdict(row['on']['nyuv2'])} |"
                for row in content["rows"]
                if row["calibration"]
            ),
            "",
            _danger(content["rows"]),
            "",
            "A share is that of the budget that is used up most. Open is what has its budget inside the 95 % interval of its "
            f"loss: other frames could have decided otherwise. The budget: {_budget(content['budget'])}.",
            "",
            f"## On {test}",
            "",
            *_table(content["rows"], "nyuv2"),
            "",
            *_truths(content["truths"]),
            f"## On {own}",
            "",
            *_table(content["rows"], "bundle"),
            "",
            "Losses are against FP32 on the same frames, in points of 100 or degrees, with the 95 % interval from drawing the "
            "frames again; those out of the budget are bold. ECE: calibration error of the confidence. Consistency: rank "
            "correlation with the true errors of normals / depth, in brackets that of the ranks of consistency and confidence "
            "added.",
            "",
            "## Calibration",
            "",
            *(f"- {_NAMES[name]}: {_chosen(facts)}" for name, facts in content["calibrations"].items()),
            "",
            f"`{content['command']}`",
            "",
        ]
    )


def fooled(rows: Sequence[Content]) -> list[Content]:
    """The rows that pass on the bundle's frames and fail on NYUv2's."""
    judged = [row for row in rows if row["calibration"]]
    return [row for row in judged if _passed(row["on"]["bundle"]) and not _passed(row["on"]["nyuv2"])]


def _danger(rows: Sequence[Content]) -> str:
    found = fooled(rows)
    count = sum(bool(row["calibration"]) for row in rows)
    if not found:
        return f"None of the {count} engines passes on the bundle's frames and fails on NYUv2's."
    named = "; ".join(f"{row['engine']}, calibrated by {_NAMES[row['calibration']]}" for row in found)
    return f"**{len(found)} of {count} engines pass on the bundle's frames and fail on NYUv2's:** {named}."


def _passed(on: Content) -> bool:
    return bool(on["verdict"]["passed"])


def _who(row: Content) -> str:
    bits = "" if row["weight_bits"] in (None, 8) else f" ({row['weight_bits']}-bit weights)"
    return f"| {_NAMES[row['calibration']]} | {row['engine']}{bits} |"


def _verdict(on: Content) -> str:
    verdict, checks = on["verdict"], _checks(on)
    failed = [
        f"{check.name} {_figure(check, check.found)} of {_figure(check, check.allowed, 'g')}"
        for check in checks
        if not check.passed
    ]
    if failed or verdict["flaws"]:
        return "**fails**: " + "; ".join([*failed, *verdict["flaws"]])
    most = max(checks, key=lambda check: check.found / check.allowed)
    kind = "passes" if verdict["labelled"] else "passes, without labels"
    unsure = ", ".join(check.name for check in checks if check.close)
    return f"{kind}, {most.found / most.allowed:.0%} ({most.name}){f'; open: {unsure}' if unsure else ''}"


def _checks(on: Content) -> list[Check]:
    """Of a row on some frames; none of FP32."""
    found = on["verdict"]["checks"] if on["verdict"] else []
    return [Check(one["name"], one["head"], one["found"], one["allowed"], one["low"], one["high"]) for one in found]


def _figure(check: Check, value: float, form: str = ".2f") -> str:
    """Degrees as they are, shares as points of 100."""
    return f"{value:{form}}°" if check.unit == "°" else f"{100 * value:{form}}"


def _budget(budget: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in budget.items())


def _table(rows: Sequence[Content], frames: str) -> Iterator[str]:
    """Accuracy, losses, agreement, ECE and consistency of every row on one set of frames."""
    found = [row["on"][frames] for row in rows]
    accuracy = headlines(*(one["accuracy"] for one in found))
    agreement = headlines(*(one["agreement"] for one in found))
    losses = list(dict.fromkeys(check.name for one in found for check in _checks(one) if check.low is not None))
    heads = [*(one.title for one in accuracy.values()), *(f"loss of {name}" for name in losses)]
    heads += [*(f"as FP32: {one.title}" for one in agreement.values()), "ECE %", "consistency"]
    yield f"{_HEADS[0]} {' | '.join(heads)} |"
    yield _HEADS[1] + "---|" * len(heads)
    for row, one in zip(rows, found, strict=True):
        checks = {check.name: check for check in _checks(one)}
        cells = [measure.show(one["accuracy"][key]) if key in one["accuracy"] else "–" for key, measure in accuracy.items()]
        cells += [_loss(checks.get(name)) for name in losses]
        cells += [measure.show(one["agreement"][key]) if checks else "" for key, measure in agreement.items()]
        cells += ["–" if one["ece"] is None else f"{100 * one['ece']:.2f}", _consistency(one["consistency"])]
        yield f"{_who(row)} {' | '.join(cells)} |"


def _loss(check: Check | None) -> str:
    if check is None or check.low is None or check.high is None:
        return ""
    low, value, high = (_figure(check, one, "+.2f") for one in (check.low, check.found, check.high))
    return f"{value if check.passed else f'**{value}**'} ({low} to {high})"


def _consistency(found: Content | None) -> str:
    if found is None:
        return "–"
    alone, both = (
        " / ".join(f"{found[measure][f'{error}_error']['spearman']:.3f}" for error in ("normal", "depth"))
        for measure in ("consistency", "both")
    )
    return f"{alone} ({both})"


def _truths(truths: Mapping[str, Content]) -> list[str]:
    """How the truth was made, as far as the data set says it."""
    told = [f"{task}: {one['made']}{', pseudo-truth' if one['pseudo'] else ''}" for task, one in truths.items()]
    return [f"Truth: {'; '.join(told)}.", ""] if told else []


def _chosen(facts: Content) -> str:
    held = facts.get("holds")
    if held is not None:
        return f"{held} of {facts['count']} frames ({facts['source']}), as they travel in it"
    return f"{facts['count']} of {facts['considered']} frames, {facts['method']}"
