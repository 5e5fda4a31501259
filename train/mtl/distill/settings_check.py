"""What cannot work in the settings of distillation, said before anything is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtl.settings import RunSettings

__all__ = ["distill_problem"]


def distill_problem(settings: RunSettings) -> str | None:
    """The first of them, for an error message; None where all is well. Files are looked at when training begins."""
    distill, model = settings.distill, settings.model
    numbers = {f"weights.{task}": value for task, value in distill.weights.items()} | {
        "features_weight": distill.features_weight
    }
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0):
            return f"distill.{name} should be 0 or more, found {value}"
    strange = next((task for task in distill.weights if task not in model.tasks), None)
    if strange is not None:
        return f"distill.weights.{strange} is not one of model.tasks: they are {', '.join(model.tasks)}"
    if not (math.isfinite(distill.temperature) and distill.temperature > 0):
        return f"distill.temperature should be above 0, found {distill.temperature}"
    if not (distill.answers or distill.graph):
        given = next((name for name in ("weights", "sources") if getattr(distill, name)), None)
        if given is not None:
            return (
                f"distill.{given} are for a teacher of answers: "
                "give distill.answers, a checkpoint or a bundle, or distill.graph"
            )
    for name in ("answers", "features"):
        if distill.graph and getattr(distill, name):
            return f"distill.graph and distill.{name} both teach {name}: give one of them"
    unknown = next((name for name in distill.sources if name not in settings.data.sources), None)
    if unknown is not None:
        named = ", ".join(settings.data.sources) or "none: it is no mixture"
        return f"distill.sources: {unknown!r} is not one of data.sources ({named})"
    if bool(distill.features) != bool(distill.features_file):
        return "distill.features and distill.features_file go together: a backbone of timm and a local file of its weights"
    hints = "graph" if distill.graph and distill.features_weight > 0 else "features" if distill.features else ""
    if hints and model.sharing != "full":
        without = ", or distill.features_weight 0" if hints == "graph" else ""
        return (
            f"distill.{hints} teaches a backbone that all tasks share: "
            f'model.sharing should be "full", not {model.sharing!r}{without}'
        )
    return None
