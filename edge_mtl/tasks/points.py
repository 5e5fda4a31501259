"""Which results are meant where no task is named: those of a point cloud (a depth, the classes of its points and their
normals), the first of a class, the only one of a class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from edge_mtl.errors import BundleError, TaskError
from edge_mtl.tasks import KINDS, DepthMap, LabelMap, NormalMap, Result
from edge_mtl.tasks.asked import LazyResults

__all__ = ["CloudMaps", "cloud_maps", "first_of", "main_labels", "only_of"]

R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True, eq=False)
class CloudMaps:
    """The maps of one cloud, of one size.

    Attributes:
        depth: where its points are.
        labels, normals: what they are and which way they face; None where the bundle has no such task.
    """

    depth: DepthMap
    labels: LabelMap | None
    normals: NormalMap | None


def cloud_maps(results: Mapping[str, Result], *, labels: str = "") -> CloudMaps | None:
    """The first depth, the labels named, else those of `main_labels`, and the first normals; None without depth.

    Raises:
        BundleError: no task of labels is called `labels`.
    """
    depth, chosen = first_of(results, DepthMap), main_labels(results)
    if labels:
        named = results.get(labels)
        if not isinstance(named, LabelMap):
            known = [name for name, result in results.items() if isinstance(result, LabelMap)]
            raise BundleError(
                f"The points should be labelled by the task {labels!r}; the bundle's tasks of labels are "
                f"{', '.join(known) or 'none'}. Name one of them, or none for the first."
            )
        chosen = named
    return None if depth is None else CloudMaps(depth, chosen, first_of(results, NormalMap))


def main_labels(results: Mapping[str, Result]) -> LabelMap | None:
    """The labels of the task "segmentation", else of the first task of labels; None without one."""
    named = results.get("segmentation")
    return named if isinstance(named, LabelMap) else first_of(results, LabelMap)


def first_of(results: Mapping[str, Result], kind: type[R]) -> R | None:
    """The first result of a class, in the bundle's order; None without one. Of lazy results no other is finished."""
    return next((result for name in _names(results, kind) if isinstance(result := results[name], kind)), None)


def only_of(results: Mapping[str, Result], kind: type[R]) -> R | None:
    """The only result of a class; None without one. Of lazy results no other is finished.

    Raises:
        TaskError: there are several.
    """
    if isinstance(results, LazyResults):
        found = list(results.of_class(kind))
    else:
        found = [name for name, result in results.items() if isinstance(result, kind)]
    if len(found) > 1:
        word = next(one.name for one in KINDS.values() if one.result is kind)
        raise TaskError(
            f"There are several tasks of {word}: {', '.join(found)}. Take one by its name, prediction[{found[0]!r}]."
        )
    return first_of(results, kind)


def _names(results: Mapping[str, Result], kind: type[R]) -> Iterable[str]:
    return results.of_class(kind) if isinstance(results, LazyResults) else results
