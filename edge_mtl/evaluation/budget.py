"""The accuracy check: what a graph may lose against FP32, per head, and whether it stays within that.

Knows scores and budgets; knows nothing about frames, graphs or files. Two questions are asked: does it lose accuracy on
labelled frames, and does it stray from FP32's own answers? The second needs no labels and sees more: where FP32 itself
is 25 degrees off, a broken scale that moves normals by 3 hardly shows in the mean error. `edge-mtl verify`, `calibrate`
and `build-engine --max-drop` all ask here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_mtl.errors import AccuracyError
from edge_mtl.evaluation.scores import DROPS, Drop, Score, drops

__all__ = ["DEFAULT_BUDGET", "Budget", "Check", "Verdict", "judge"]

_AGREEMENT: Mapping[str, tuple[str, str]] = {
    "classes": ("argmax_agreement", "segmentation"),
    "depth": ("depth_relative_difference", "depth"),
    "angle": ("normal_angle_deg", "normals"),
}
_HEADS: Mapping[str, str] = {"miou": "segmentation", "rel": "depth", "normal": "normals"}
_LIMITS: Mapping[str, float] = {"miou": 1.0, "rel": 10.0, "normal": 180.0, "classes": 1.0, "depth": 10.0, "angle": 180.0}


@dataclass(frozen=True, slots=True)
class Budget:
    """How much worse than FP32 a graph may be.

    Attributes:
        miou: loss of mean IoU, 0..1.
        rel: rise of the mean relative depth error, as a share of the true depth.
        normal: rise of the mean angle to the true normals, degrees.
        classes: share of pixels whose class may differ from FP32's; this and the next two need no labels.
        depth: mean relative difference from FP32's depth.
        angle: mean angle to FP32's normals, degrees.
    """

    miou: float = 0.01
    rel: float = 0.02
    normal: float = 0.5
    classes: float = 0.05
    depth: float = 0.05
    angle: float = 3.0

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and 0.0 <= value <= most):
                raise ValueError(f"{name} should be a number from 0 to {most:g}; found {value!r}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From "miou=0.01,rel=0.02,normal=0.5"; what is not named keeps its default.

        Raises:
            ValueError: a name that is no budget, one that occurs twice, or no number.
        """
        given: dict[str, float] = {}
        known = [item.name for item in fields(cls)]
        for part in (part.strip() for part in text.split(",")):
            name, separator, value = part.partition("=")
            if name not in known or not separator or name in given:
                raise ValueError(f"budgets should look like miou=0.01,rel=0.02 with any of {', '.join(known)}; found {part!r}")
            try:
                given[name] = float(value)
            except ValueError as exc:
                raise ValueError(f"the budget {name} should be a number; found {value!r}") from exc
        return cls(**given)

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


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

    def describe(self) -> str:
        """For messages: what was found and what is allowed."""
        if self.name in ("normal", "angle"):
            found, allowed = f"{self.found:.2f}°", f"{self.allowed:g}°"
        else:
            found, allowed = f"{100 * self.found:.2f} points", f"{100 * self.allowed:g}"
        what = {
            "miou": "mIoU fell by",
            "rel": "relative depth error rose by",
            "normal": "angle to the true normals rose by",
            "classes": "classes that differ from FP32:",
            "depth": "difference from FP32's depth:",
            "angle": "angle to FP32's normals:",
        }[self.name]
        return f"{self.head}: {what} {found}, at most {allowed} allowed"


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
    found = drops(reference, candidate)
    agreed = {name: candidate.agreement[metric] for name, (metric, _) in _AGREEMENT.items() if metric in candidate.agreement}
    missing = {_HEADS[name] for name, (metric, _) in DROPS.items() if metric in reference.accuracy and name not in found}
    missing |= {head for name, (metric, head) in _AGREEMENT.items() if metric in reference.agreement and name not in agreed}
    flaws = [f"there is no usable {head}" for head in sorted(missing)]
    if candidate.bad_values > reference.bad_values:
        flaws.append(f"{candidate.bad_values - reference.bad_values} values are not finite, or depths not positive")
    if not reference.frames:
        flaws.append("there are no frames to judge it on")
    checks = [_accuracy_check(name, drop, budget) for name, drop in found.items()]
    checks += [_agreement_check(name, value, budget) for name, value in agreed.items()]
    return Verdict(name, bool(found), tuple(checks), tuple(flaws))


def _accuracy_check(name: str, drop: Drop, budget: Budget) -> Check:
    return Check(name, _HEADS[name], drop.value, getattr(budget, name), drop.low, drop.high)


def _agreement_check(name: str, value: float, budget: Budget) -> Check:
    found = 1.0 - value if name == "classes" else value
    return Check(name, _AGREEMENT[name][1], found, getattr(budget, name))
