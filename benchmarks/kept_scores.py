"""Scores of graphs as plain values, so that a file keeps them and two that were measured apart are judged together.

Knows `edge_mtl.evaluation.scores`; knows nothing about files or graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.evaluation.scores import FrameScore, Score
from edge_mtl.tasks import Specs

__all__ = ["pack", "unpack"]


def pack(score: Score) -> dict[str, Any]:
    """A score for JSON; `unpack` gives it back with the same numbers.

    Raises:
        BuildError: a kind keeps something of a frame that is no tuple of arrays and numbers.
    """
    return {
        "accuracy": dict(score.accuracy),
        "agreement": dict(score.agreement),
        "details": dict(score.details),
        "bad_values": score.bad_values,
        "frames": [
            {
                "name": frame.name,
                "statistics": {task: _plain(task, values) for task, values in frame.statistics.items()},
                "agreement": dict(frame.agreement),
            }
            for frame in score.frames
        ],
    }


def unpack(content: Mapping[str, Any], specs: Specs) -> Score:
    """What `pack` made, of these tasks."""
    frames = tuple(
        FrameScore(
            frame["name"],
            {
                task: tuple(np.array(value) if isinstance(value, list) else value for value in values)
                for task, values in frame["statistics"].items()
            },
            frame["agreement"],
        )
        for frame in content["frames"]
    )
    return Score(content["accuracy"], content["agreement"], content["details"], content["bad_values"], frames, specs)


def _plain(task: str, values: Any) -> list[Any]:
    if not isinstance(values, tuple) or not all(isinstance(value, (int, float, np.ndarray, np.generic)) for value in values):
        raise BuildError(f"statistics of {task} should be a tuple of arrays and numbers; found {type(values).__name__}")
    return [value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value for value in values]
