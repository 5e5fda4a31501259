"""A kind of task that the package does not know: the probability that a pixel lies on an edge between classes."""

from __future__ import annotations

from edge_mtl.tasks import register as register_kind

from .kind import Edges, EdgesSpec

__all__ = ["EdgesSpec", "register"]

KIND = Edges()


def register() -> None:
    """Make the kind known at run time and in training; any number of times."""
    import mtl.tasks

    from .head import HEAD

    register_kind(KIND)
    mtl.tasks.register(HEAD)
