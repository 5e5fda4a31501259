"""The accuracy check: what a graph may lose against FP32, per task, and whether it stays within that.

Two questions are asked: does it lose accuracy on
labelled frames, and does it stray from FP32's own answers? The second needs no labels and sees more: where FP32 itself
is 25 degrees off, a broken scale that moves normals by 3 hardly shows in the mean error. `edge-mtl verify`, `calibrate`
and `build-engine --max-drop` all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_mtl.errors import AccuracyError
from edge_mtl.evaluation.scores import Limit, Score, drops, limits
from edge_mtl.numbers import is_number
from edge_mtl.tasks import KINDS, BudgetItem, Specs, load_installed

__all__ = ["DEFAULT_BUDGET", "Budget", "Check", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much worse than FP32 a graph may be, by budget; what is not given keeps the default of its kind.

    Attributes:
        given: limits by name: "miou", or "lane.miou" for one of several tasks of a kind. Which budgets a task has, in which
            unit and up to which limit, its kind says: see `edge_mtl.tasks.kind.BudgetItem`.
    """

    given: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            item = _item(name)
            if not (is_number(value) and 0.0 <= value <= item.most):
                raise ValueError(f"{name} should be a number from 0 to {item.most:g}; found {value!r}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From "miou=0.01,depth.rel=0.02"; what is not named keeps its default.

        Raises:
            ValueError: a name that no kind has, one that occurs twice, or no number.
        """
        given: dict[str, float] = {}
        for part in (part.strip() for part in text.split(",")):
            name, separator, value = part.partition("=")
            if not separator or name in given or name.rpartition(".")[2] not in _items(name.rpartition(".")[2]):
                known = ", ".join(_items())
                raise ValueError(f"budgets should look like miou=0.01,depth.rel=0.02 with any of {known}; found {part!r}")
            try:
                given[name] = float(value)
            except ValueError as exc:
                raise ValueError(f"the budget {name} should be a number; found {value!r}") from exc
        return cls(given)

    def allowed(self, limit: Limit) -> float:
        """For one budget of one task: given for it, given for its kind, or the kind's default."""
        own, of_kind = f"{limit.spec.name}.{limit.item.name}", limit.item.name
        return self.given.get(own, self.given.get(of_kind, limit.item.default))

    def check(self, specs: Specs) -> None:
        """Raises AccuracyError where a limit is given for a task that is not among `specs`."""
        every = (*limits(specs, labelled=True), *limits(specs, labelled=False))
        for name in self.given:
            task, _, item = name.rpartition(".")
            known = {f"{limit.spec.name}.{limit.item.name}" for limit in every}
            if task and f"{task}.{item}" not in known:
                raise AccuracyError(f"There is no budget {name}; this bundle has {', '.join(sorted(known))}.")

    def to_dict(self, specs: Specs) -> dict[str, float]:
        """Every limit by its key, plain values for JSON."""
        every = (*limits(specs, labelled=True), *limits(specs, labelled=False))
        return {limit.key: self.allowed(limit) for limit in every}


def _items(name: str = "") -> dict[str, BudgetItem]:
    """Every budget by name; kinds that are installed but were not needed so far are loaded where `name` is none of the
    others."""
    found = {item.name: item for kind in KINDS.values() for item in kind.budgets}
    if not name or name in found:
        return found
    load_installed()
    return {item.name: item for kind in KINDS.values() for item in kind.budgets}


def _item(name: str) -> BudgetItem:
    """Of a name, with or without its task. Raises ValueError where no kind has it."""
    try:
        item = name.rpartition(".")[2]
        return _items(item)[item]
    except KeyError:
        raise ValueError(f"there is no budget {name!r}; kinds of tasks have {', '.join(_items())}") from None


DEFAULT_BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class Check:
    """One head against its budget.

    Attributes:
        name: of the budget.
        head: the task.
        found: the loss; below 0 the graph is better than FP32.
        allowed: the budget.
        low, high: 95 % interval of the loss over frames; None where it is agreement that was judged.
    """

    name: str
    head: str
    found: float
    allowed: float
    low: float | None = None
    high: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the loss is within the budget; written so that NaN is not."""
        return self.found <= self.allowed

    @property
    def close(self) -> bool:
        """Whether the budget lies within the interval, so that other frames could have decided otherwise."""
        return self.low is not None and self.high is not None and self.low <= self.allowed <= self.high

    @property
    def unit(self) -> str:
        """Of what was found: "points" or "°"."""
        return _item(self.name).unit

    def describe(self) -> str:
        """For messages: what was found and what is allowed."""
        return f"{self.head}: {_item(self.name).describe(self.found, self.allowed)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the accuracy check says about one graph.

    Attributes:
        name: of the graph, for messages.
        labelled: whether accuracy was judged, or only agreement with FP32.
        checks: of accuracy and of agreement, one per head.
        flaws: other reasons to refuse it, sentences.
    """

    name: str
    labelled: bool
    checks: tuple[Check, ...]
    flaws: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every head is within its budget."""
        return not self.flaws and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is out of budget, one sentence each."""
        return (*self.flaws, *(check.describe() for check in self.checks if not check.passed))

    @property
    def close(self) -> tuple[str, ...]:
        """Checks that passed or failed by less than their error bar."""
        return tuple(check.describe() for check in self.checks if check.close)

    def require(self) -> None:
        """Raises AccuracyError if a head is out of budget."""
        if not self.passed:
            raise AccuracyError(
                f"{self.name} is out of budget. {'; '.join(self.failures)}. "
                "Calibrate with frames like those it will see (edge-mtl calibrate), keep more layers in float, or use another "
                "precision."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        checks = [{**asdict(check), "passed": check.passed, "close": check.close} for check in self.checks]
        return {"passed": self.passed, "labelled": self.labelled, "checks": checks, "flaws": list(self.flaws)}


def judge(reference: Score, candidate: Score, *, name: str, budget: Budget = DEFAULT_BUDGET) -> Verdict:
    """Hold `candidate` against `reference`, both scored on the same frames.

    Every head that FP32 has must be judged: one that the candidate lacks, or for which it gives nothing usable, is a flaw.

    Args:
        reference: of the FP32 graph.
        name: of the candidate, for messages.
    """
    specs, found = reference.specs, drops(reference, candidate)
    budget.check(specs)
    checks, flaws = [], set()
    for limit in limits(specs, labelled=True):
        if limit.key in found:
            drop = found[limit.key]
            checks.append(Check(limit.key, limit.spec.name, drop.value, budget.allowed(limit), drop.low, drop.high))
        elif limit.measure_key in reference.accuracy:
            flaws.add(f"there is no usable {limit.spec.name}")
    for limit in limits(specs, labelled=False):
        if limit.measure_key in candidate.agreement:
            agreed = candidate.agreement[limit.measure_key]
            different = 1.0 - agreed if limit.measure.higher_is_better else agreed
            checks.append(Check(limit.key, limit.spec.name, different, budget.allowed(limit)))
        elif limit.measure_key in reference.agreement:
            flaws.add(f"there is no usable {limit.spec.name}")
    reasons = sorted(flaws)
    if candidate.bad_values > reference.bad_values:
        reasons.append(f"{candidate.bad_values - reference.bad_values} values are not finite, or depths not positive")
    if not reference.frames:
        reasons.append("there are no frames to judge it on")
    return Verdict(name, bool(found), tuple(checks), tuple(reasons))
