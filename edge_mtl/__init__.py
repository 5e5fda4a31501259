"""edge_mtl: segmentation, metric depth and surface normals from one RGB frame, deployed on the edge.

    from edge_mtl import Engine

    with Engine() as engine:
        prediction = engine.predict(frame)  # (H, W, 3) uint8

Importing this package loads no runtime: backends are imported when an Engine asks for them, and Engine itself (with
OpenCV) when it is first used, so that a script that needs only the errors or the tasks starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_mtl.errors import (
    AccuracyError,
    BackendUnavailable,
    BuildError,
    BundleError,
    CalibrationError,
    DepthScaleError,
    EdgeMtlError,
    EngineClosed,
    EngineMismatch,
    FrameError,
    InferenceError,
)
from edge_mtl.few_threads import begin_few_threads

if TYPE_CHECKING:
    from edge_mtl.engine import Engine
    from edge_mtl.prediction import Prediction, Timing

__version__ = "0.2.0.dev0"

__all__ = [
    "AccuracyError",
    "BackendUnavailable",
    "BuildError",
    "BundleError",
    "CalibrationError",
    "DepthScaleError",
    "EdgeMtlError",
    "Engine",
    "EngineClosed",
    "EngineMismatch",
    "FrameError",
    "InferenceError",
    "Prediction",
    "Timing",
    "__version__",
]

begin_few_threads()  # before NumPy and OpenCV are imported

_LAZY = {"Engine": "edge_mtl.engine", "Prediction": "edge_mtl.prediction", "Timing": "edge_mtl.prediction"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
