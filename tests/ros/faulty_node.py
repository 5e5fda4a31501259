"""perception_node with a runtime that fails or is slow: python faulty_node.py FAULT --ros-args ...

FAULT is hang, lost, transient, slow, endless, endless-first, held or leak. From the third frame of a camera on, every
prediction hangs, or says that the GPU is lost; a transient fault is over when the engine has been opened again. A slow one
takes SLOW_S longer for every frame. Endless: a reload never ends, or the first load. Held: every engine is loaded only when the
file that HELD_BY names is gone. A leak keeps LEAKED_BYTES of every frame for ever.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mtl import Engine, InferenceError
from edge_mtl.cuda.errors import CudaError

FRAMES = 2
IN_A_ROW = 3
"""Failures after which the node opens its engine again."""
HANGS, LOST, TRANSIENT, SLOW, HELD = "hang", "lost", "transient", "slow", "held"
ENDLESS, ENDLESS_FIRST = "endless", "endless-first"
SLOW_S = 0.1
LEAK = "leak"
LEAKED_BYTES = 1_000_000
HELD_BY = "EDGE_MTL_TEST_HELD_BY"
HOLDING = "something that takes minutes"
"""What a held load reports."""


def make_faulty(fault: str) -> None:
    """Let `Engine.predict` work for a configured node and a few frames, then fail for good; or be slow from the start."""
    predict, done = Engine.predict, [0]

    def fails(self: Engine, frame: Any, **options: Any) -> Any:
        if frame.any():  # the black one is the node's own, at configure
            done[0] += 1
        if fault == SLOW:
            time.sleep(SLOW_S)
            return predict(self, frame, **options)
        if done[0] <= FRAMES or (fault == TRANSIENT and done[0] > FRAMES + IN_A_ROW):
            return predict(self, frame, **options)
        if fault == HANGS:
            threading.Event().wait()
        if fault == TRANSIENT:
            raise InferenceError("out of memory")
        raise CudaError("an illegal address was read", code="CUDA_ERROR_ILLEGAL_ADDRESS", sticky=True)

    Engine.predict = fails  # type: ignore[method-assign, assignment]


def make_endless(*, first: bool) -> None:
    """Let every engine, or every one after the first, stay in native code while it is loaded, as one that is compiled does."""
    load, loaded = Engine.__init__, [True] if first else []

    def loads(self: Engine, *arguments: Any, **options: Any) -> None:
        load(self, *arguments, **options)
        image = np.zeros((120, 160, 3), np.uint8)
        while loaded:
            cv2.bilateralFilter(image, 9, 50.0, 50.0)
        loaded.append(True)

    Engine.__init__ = loads  # type: ignore[method-assign]


def make_held() -> None:
    """Let every load last until a file is gone, between two steps of its progress."""
    from edge_mtl_ros import perception_node

    load, file = perception_node.load_engine, Path(os.environ[HELD_BY])

    def loads(settings: Any, *, progress: Any) -> Engine:
        while file.exists():
            progress(HOLDING, 0, 0)
            time.sleep(0.02)
        return load(settings, progress=progress)

    perception_node.load_engine = loads


def make_leaking() -> None:
    """Keep something of every frame."""
    predict, kept = Engine.predict, []

    def leaks(self: Engine, frame: Any, **options: Any) -> Any:
        kept.append(b"x" * LEAKED_BYTES)
        return predict(self, frame, **options)

    Engine.predict = leaks  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    from edge_mtl_ros.main import main

    fault = sys.argv.pop(1)
    if fault in (ENDLESS, ENDLESS_FIRST):
        make_endless(first=fault == ENDLESS_FIRST)
    elif fault == HELD:
        make_held()
    elif fault == LEAK:
        make_leaking()
    else:
        make_faulty(fault)
    sys.exit(main())
