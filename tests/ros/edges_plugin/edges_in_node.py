"""The kind "edges" of `tests/plugins` with more topics: text, one without content, and one that cannot be made."""

from __future__ import annotations

from edges_kind import Edges, EdgesSpec

from edge_mtl.tasks import Topic


class EdgesInNode(Edges):
    """See the module."""

    def topics(self, spec: EdgesSpec) -> tuple[Topic, ...]:
        return (
            *super().topics(spec),
            Topic(f"{spec.name}/share", "", lambda result: f"{(result.probability > 0.5).mean():.4f}"),
            Topic(f"{spec.name}/none", "mono8", lambda result: None),
            Topic(f"{spec.name}/broken", "mono8", lambda result: result.probability / result.nothing),
        )


EDGES = EdgesInNode()
