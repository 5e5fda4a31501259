"""The benchmark card: what a benchmark found, for people. Knows the JSON of a benchmark; measures nothing."""

from __future__ import annotations

from edge_mtl.bench.card.markdown import to_markdown
from edge_mtl.bench.card.page import to_html

__all__ = ["to_html", "to_markdown"]
