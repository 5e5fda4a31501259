"""Settings of a run of a few steps on a folder of `tests.own_folder`."""

from __future__ import annotations

from pathlib import Path

from mtl.config import apply_overrides, parse_config
from mtl.settings import RunSettings

__all__ = ["own_settings"]

_SMALL = {
    "data.kind": "folder",
    "model.tasks": "[]",
    "stages": "[{height=64, width=96, steps=4, batch=3}]",
    "model.backbone": "pvt_v2_b0",
    "model.width": "8",
    "loop.device": "cpu",
    "loop.threads": "1",
    "loop.loader_workers": "0",
    "loop.precision": "fp32",
    "loop.pictures": "2",
    "losses.class_weights": "true",
    "export.calibration": "2",
    "export.evaluation": "4",
    "export.golden": "1",
}


def own_settings(root: Path, folder: Path, **changes: str) -> RunSettings:
    """Keys of `changes` are dotted, values as on the command line."""
    fixed = {"data.root": f"'{root}'", "folder": f"'{folder}'", "name": "own"}
    return parse_config(apply_overrides({}, {**_SMALL, **fixed, **changes}))
