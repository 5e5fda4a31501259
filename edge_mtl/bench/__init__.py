"""Measuring: how long things take, side by side. Knows nothing about engines or images."""

from __future__ import annotations

from edge_mtl.bench.latency import LatencyReport, LatencyRow, measure_interleaved

__all__ = ["LatencyReport", "LatencyRow", "measure_interleaved"]
