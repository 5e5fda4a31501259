"""The study's questions, answered from its numbers in sentences that claim no more than the spread over seeds allows.

Knows comparisons; knows nothing about layout. A question whose rows are not finished is answered with what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_mtl.bench.statistics import Interval, verdict
from mtl.study.comparison import Comparison
from mtl.study.cosines import pair_cosines
from mtl.study.pareto import Point, front, points
from mtl.study.results import RowResult
from mtl.study.significance import Difference
from mtl.study.timings import Latencies

__all__ = ["Answer", "answer_all"]

Sign = Literal["good", "bad", "mixed", "none", "unknown"]

_MOST_NAMED = 3

_SIGNS: dict[str, Sign] = {"better": "good", "worse": "bad", "none shown": "none", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One question.

    Attributes:
        sign: good or bad news, both, no difference shown, or not known.
        label: the answer in a word or two.
        sentence: the answer.
        details: the numbers behind it, one line each.
    """

    question: str
    sign: Sign
    label: str
    sentence: str
    details: tuple[str, ...] = ()


def answer_all(compare: Comparison, latencies: Latencies | None) -> list[Answer]:
    """Every question that the study has rows for."""
    results = compare.results
    study = results.study
    asked: list[tuple[bool, Callable[[], Answer]]] = [
        (bool(results.study.single), lambda: _shared(compare)),
        (study.weighted_task in study.single and "tasks" in study.groups, lambda: _one_task(compare)),
        (any(len(row.tasks) == 2 for row in results.rows), lambda: _pairs(compare)),
        ("weighting" in results.study.groups, lambda: _weighting(compare)),
        ("sharing" in results.study.groups, lambda: _sharing(compare)),
        ("decoders" in results.study.groups, lambda: _decoders(compare, latencies)),
        ("ablation" in results.study.groups, lambda: _ablation(compare)),
        (True, lambda: _gradients(compare)),
    ]
    return [answer() for wanted, answer in asked if wanted]


def _shared(compare: Comparison) -> Answer:
    question = "Does one model for all tasks match one model for each?"
    results = compare.results
    reference, singles = results.reference, results.singles
    absent = [name for name in (results.study.reference, *results.study.single.values()) if results.get(name) is None]
    if reference is None or absent:
        return _missing(question, absent)
    difference = compare.against_single(reference)
    if difference is None:
        return _missing(question, [results.study.reference])
    together = sum(row.parameters for row in singles.values())
    share = f"{reference.parameters / 1e6:.2f} M parameters against {together / 1e6:.2f} M for {len(singles)} models"
    size = f"{share} ({reference.parameters / together:.0%})"
    sentence = {
        "better": f"Better than the single-task models: Δm {difference} with {size}.",
        "worse": f"Not quite: Δm {difference} with {size}.",
        "none shown": f"No difference shown: Δm {difference} is no more than seeds alone make, with {size}.",
        "unknown": f"Δm is {difference.percent:+.1f} % with {size}; with one seed each nobody knows what chance makes of it.",
    }[difference.verdict]
    label = {"better": "better", "worse": "worse", "none shown": "no difference shown", "unknown": "one seed"}
    tasks = compare.tasks_against_single(reference)
    shown = [
        f"{results.called(task)} {one.verdict}, {one}" for task, one in tasks.items() if one.verdict in ("better", "worse")
    ]
    sentence += f" By task, shown: {'; '.join(shown)}." if shown else ""
    every = compare.delta_m_every_metric(reference)
    details = [f"{results.called(task)}: {_told(one)}" for task, one in tasks.items()]
    if every is not None:
        details.append(f"with all metrics of a task averaged first, Δm is {every:+.1f} %")
    return Answer(question, _SIGNS[difference.verdict], label[difference.verdict], sentence, tuple(details))


def _one_task(compare: Comparison) -> Answer:
    """Whether one task, the one that the study asks about, is worse in networks that it shares with others."""
    results = compare.results
    task = results.study.weighted_task
    question = f"{'Do' if _is_plural(task) else 'Does'} the {task} suffer from sharing?"
    rows = [row for row in results.in_group("tasks") if row.finished and len(row.tasks) > 1]
    judged = {row.row.name: one for row in rows if (one := compare.tasks_against_single(row).get(task)) is not None}
    if not judged:
        planned = [row for row in results.in_group("tasks") if task in row.tasks and row.row.run]
        names = [row.row.name for row in planned if not row.finished]
        return _missing(question, names)
    counts = _counts(judged.values())
    details = [f"{results.called(task)} in “{name}”: {_told(one)}" for name, one in judged.items()]
    alone = f"against “{results.study.single[task]}”"
    claims = [*_claims(judged, "worse"), *_claims(judged, "better")]
    if claims:
        sign: Sign = "mixed" if counts["worse"] and counts["better"] else "bad" if counts["worse"] else "good"
        label = {"mixed": "both ways", "bad": f"in {counts['worse']} of {len(judged)}", "good": "no, they gain"}[sign]
        rest = counts["none shown"] + counts["unknown"]
        others = f"; no difference shown for {rest} of {len(judged)}" if rest else ""
        return Answer(question, sign, label, f"{results.called(task)} {alone}: {'; '.join(claims)}{others}.", tuple(details))
    least = min(judged, key=lambda name: judged[name].percent)
    if counts["unknown"]:
        sentence = f"Worst {alone} is “{least}”, {judged[least].percent:+.1f} %; one seed each, so no claim."
        return Answer(question, "unknown", "one seed", sentence, tuple(details))
    sentence = f"Not shown: worst {alone} is “{least}”, {judged[least]}."
    return Answer(question, "none", "not shown", sentence, tuple(details))


def _pairs(compare: Comparison) -> Answer:
    question = "Which tasks help each other?"
    pairs = [row for row in compare.results.rows if len(row.tasks) == 2 and row.finished]
    shown: dict[str, list[str]] = {"better": [], "worse": [], "none shown": [], "unknown": []}
    details = []
    for row in pairs:
        for task, one in compare.tasks_against_single(row).items():
            other = next(name for name in row.tasks if name != task)
            verb = "help" if one.percent > 0 else "hurt"
            shown[one.verdict].append(f"{other} {verb if _is_plural(other) else verb + 's'} {compare.results.called(task)}")
            details.append(f"{compare.results.called(task)} beside {other}: {_told(one)}")
    if not details:
        return _missing(question, [row.row.name for row in compare.results.rows if len(row.tasks) == 2])
    claims = [*shown["better"], *shown["worse"]]
    open_count = len(shown["none shown"]) + len(shown["unknown"])
    if not claims:
        sentence = f"Of {len(details)} combinations none shows a difference beyond what seeds alone make."
        return Answer(question, "none" if shown["none shown"] else "unknown", "no difference shown", sentence, tuple(details))
    sentence = f"Shown: {'; '.join(claims)}. For {open_count} of {len(details)} combinations no difference is shown."
    sign: Sign = "mixed" if shown["better"] and shown["worse"] else "good" if shown["better"] else "bad"
    return Answer(question, sign, {"mixed": "some do", "good": "some help", "bad": "some hurt"}[sign], sentence, tuple(details))


def _is_plural(task: str) -> bool:
    return task.endswith("s") and not task.endswith("ss")


def _weighting(compare: Comparison) -> Answer:
    task = compare.results.study.weighted_task
    question = f"Does weighting the losses help the {task}?"
    reference, rows = _others(compare, "weighting")
    if reference is None or not rows:
        return _missing(question, [row.row.name for row in compare.results.in_group("weighting") if not row.finished])
    every = {row.row.name: compare.tasks_against(row, reference).get(task) for row in rows}
    judged = {name: one for name, one in every.items() if one is not None}
    if not judged:
        return _missing(question, [row.row.name for row in rows])
    best = max(judged, key=lambda name: judged[name].percent)
    counts = _counts(judged.values())
    details = []
    for row in sorted(rows, key=lambda row: -judged[row.row.name].percent if row.row.name in judged else 0.0):
        overall = compare.against(row, reference)
        if row.row.name in judged and overall is not None:
            details.append(f"{row.row.name}: {task} {judged[row.row.name]}, all tasks {overall}")
    if len(judged) > 1:
        details.append(f"{len(judged)} comparisons at 95 %: about {0.05 * len(judged):.1f} would show a difference by chance")
    least = f"against {_quoted(reference)}"
    if counts["better"]:
        names = ", ".join(name for name, one in judged.items() if one.verdict == "better")
        sentence = (
            f"{counts['better']} of {len(judged)} methods show better {task} {least}: {names}; most {best}, {judged[best]}."
        )
        return Answer(question, "good", f"{counts['better']} of {len(judged)} do", sentence, tuple(details))
    if counts["unknown"] == len(judged):
        sentence = f"The largest change {least} is that of {best}, {judged[best].percent:+.1f} %; one seed each, so no claim."
        return Answer(question, "unknown", "one seed", sentence, tuple(details))
    sentence = f"No improvement shown {least}: the largest change is that of {best}, {judged[best]}."
    return Answer(question, "none", "no improvement shown", sentence, tuple(details))


def _sharing(compare: Comparison) -> Answer:
    question = "How much of the network should the tasks share?"
    reference, rows = _others(compare, "sharing")
    if reference is None or not rows:
        return _missing(question, [row.row.name for row in compare.results.in_group("sharing") if not row.finished])
    return _listed(compare, question, reference, rows)


def _decoders(compare: Comparison, latencies: Latencies | None) -> Answer:
    question = "Which decoder gives the most for its cost?"
    reference, rows = _others(compare, "decoders")
    if reference is None or not rows:
        return _missing(question, [row.row.name for row in compare.results.in_group("decoders") if not row.finished])
    answer = _listed(compare, question, reference, rows)
    every = points(compare, latencies)
    best = front(every)
    timed = latencies if latencies is not None and every and every[0].is_latency else None
    unit = f"latency ({timed.int8_engine})" if timed is not None else "parameters"
    names = ", ".join(f"“{point.name}” ({_cost(point)})" for point in best)
    sentence = f"{answer.sentence} Not beaten in both accuracy (mean values) and {unit}: {names}."
    return Answer(question, answer.sign, answer.label, sentence, (*answer.details, *_speeds(timed)))


def _speeds(latencies: Latencies | None) -> list[str]:
    """How fast the timed rows are beside the first of them, one sentence each."""
    if latencies is None:
        return []
    first, found = latencies.rows[0].name, []
    for name, one in list(latencies.int8().items())[1:]:
        low, high = one.ratio_sure
        judged = verdict(Interval(one.ratio, low, high))
        times = f"{one.ratio:.2f} times as fast as {first} ({low:.2f} to {high:.2f}), {judged}"
        found.append(f"{name}: {one.median_ms:.1f} ms as {one.engine}, {times}")
    return found


def _ablation(compare: Comparison) -> Answer:
    question = "Which parts of the decoder matter?"
    reference, rows = _others(compare, "ablation")
    if reference is None or not rows:
        return _missing(question, [row.row.name for row in compare.results.in_group("ablation") if not row.finished])
    answer = _listed(compare, question, reference, rows)
    counts = _counts(one for row in rows if (one := compare.against(row, reference)) is not None)
    if not counts["better"] + counts["worse"]:
        return answer
    label = f"{counts['worse']} of {len(rows)} changes lose, {counts['better']} gain"
    return Answer(question, "mixed", label, answer.sentence, answer.details)


def _gradients(compare: Comparison) -> Answer:
    question = "Do the tasks' gradients pull apart?"
    reference = compare.results.reference
    if reference is None:
        return _missing(question, [compare.results.study.reference])
    pairs = pair_cosines(reference)
    if not pairs:
        return _missing(question, [compare.results.study.reference], what="sampled no gradients (loop.cosine_every)")
    details = []
    for one in pairs:
        halves = [one.negative_share_of_half(half) for half in (0, 1)]
        early, late = ("-" if share is None else f"{share:.0%}" for share in halves)
        samples = len(one.values)
        details.append(
            f"{' and '.join(one.pair)}: mean cosine {one.mean:+.3f}, negative at {one.negative_share:.0%} of {samples} steps"
            f" (first half {early}, second half {late})"
        )
    most = max(pairs, key=lambda one: one.negative_share)
    sentence = f"Most often those of {' and '.join(most.pair)}: at {most.negative_share:.0%} of the sampled steps."
    sign: Sign = "bad" if most.negative_share > 0.5 else "none" if most.negative_share == 0 else "mixed"
    return Answer(question, sign, f"up to {most.negative_share:.0%} of steps", sentence, tuple(details))


def _listed(compare: Comparison, question: str, reference: RowResult, rows: Sequence[RowResult]) -> Answer:
    """Rows against one: what is shown, and every number."""
    judged = {row.row.name: one for row in rows if (one := compare.against(row, reference)) is not None}
    counts = _counts(judged.values())
    details = []
    for row in rows:
        if row.row.name in judged:
            tasks = ", ".join(f"{task} {one}" for task, one in compare.tasks_against(row, reference).items())
            size = f"{row.parameters / 1e6:.2f} M parameters"
            details.append(f"{row.row.name}: {_told(judged[row.row.name])}; {size}; {tasks}")
    claims = [*_claims(judged, "better"), *_claims(judged, "worse")]
    start = f"Against {_quoted(reference)} ({reference.parameters / 1e6:.2f} M parameters)"
    if claims:
        rest = len(judged) - counts["better"] - counts["worse"]
        others = f"; no difference shown for {rest} other {'row' if rest == 1 else 'rows'}" if rest else ""
        sentence = f"{start}: {'; '.join(claims)}{others}."
        sign: Sign = "mixed" if counts["better"] and counts["worse"] else "good" if counts["better"] else "bad"
        label = {"mixed": "both ways", "good": f"{counts['better']} better", "bad": f"{counts['worse']} worse"}[sign]
        return Answer(question, sign, label, sentence, tuple(details))
    if counts["none shown"]:
        return Answer(question, "none", "no difference shown", f"{start} no difference is shown.", tuple(details))
    sentence = f"{start}: one seed each, so no claim; the numbers are below."
    return Answer(question, "unknown", "one seed", sentence, tuple(details))


def _claims(judged: Mapping[str, Difference], verdict: Literal["better", "worse"]) -> list[str]:
    """Rows of a verdict, each by name; when there are many, their number and the first of them."""
    found = {name: one for name, one in judged.items() if one.verdict == verdict}
    if len(found) <= _MOST_NAMED:
        return [f"“{name}” is {verdict}, {one}" for name, one in found.items()]
    most = max(found, key=lambda name: abs(found[name].percent))
    return [f"{len(found)} of {len(judged)} rows are {verdict}, most “{most}”, {found[most]}"]


def _quoted(row: RowResult) -> str:
    return f"“{row.row.name}”"


def _others(compare: Comparison, group: str) -> tuple[RowResult | None, list[RowResult]]:
    reference = compare.results.get(compare.results.study.groups[group].reference)
    return reference, [row for row in compare.results.in_group(group) if row.finished and row is not reference]


def _counts(differences: Iterable[Difference]) -> dict[str, int]:
    counts = {"better": 0, "worse": 0, "none shown": 0, "unknown": 0}
    for one in differences:
        counts[one.verdict] += 1
    return counts


def _told(one: Difference) -> str:
    ending = {"better": "better", "worse": "worse", "none shown": "no difference shown", "unknown": "no claim"}
    return f"{one}, {ending[one.verdict]}"


def _cost(point: Point) -> str:
    return f"{point.cost:.1f} ms" if point.is_latency else f"{point.cost:.2f} M"


def _missing(question: str, names: Sequence[str], *, what: str = "not finished") -> Answer:
    listed = ", ".join(f"“{name}”" for name in dict.fromkeys(names)) or "its rows"
    return Answer(question, "unknown", "not measured", f"Not answered: {listed} {what}.")
