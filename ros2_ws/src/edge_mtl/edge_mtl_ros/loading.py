"""From parameters to a running Engine: bundle found and verified, an engine built where asked for, self-test passed.

Knows the SDK; imports nothing of ROS. Everything that may take long reports progress, and progress may stop it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_mtl.backends.selection import AUTO
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import DEMO_BUNDLE, Bundle, find
from edge_mtl.depth_scale import ScaleRecord, read_depth_scale
from edge_mtl.engine import Engine, SelfTest
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import DepthScaleError, EdgeMtlError, EngineMismatch
from edge_mtl.tasks.areas import OutputSize
from edge_mtl_ros.settings import Settings

__all__ = ["CameraScale", "Interrupted", "camera_scales", "close_engine", "load_engine"]

Progress = Callable[[str, int, int], None]
"""(what is being done, how many are done, of how many); 0 of 0 where nothing can be counted. May raise Interrupted."""

_OUTPUT_SIZE: Mapping[str, OutputSize] = {"frame": "frame", "network": "content"}
"""What the parameter says, as an Engine calls it: messages hold no bars of a letterbox."""
_SELF_TEST: Mapping[str, SelfTest] = {"load": "load", "all": "build"}
"""What the parameter says, as an Engine calls it: one golden frame, or all of them."""


class Interrupted(Exception):
    """The node is shutting down."""


@dataclass(frozen=True, slots=True)
class CameraScale:
    """What the distances of one of several cameras are multiplied by, in place of the engine's factor.

    Attributes:
        scale: as `Engine.predict` takes it.
        place: the file that says so; "" where it is a mere number.
    """

    scale: float | ScaleRecord
    place: str = ""

    @property
    def factor(self) -> float:
        """The number."""
        return self.scale.factor if isinstance(self.scale, ScaleRecord) else self.scale


def load_engine(settings: Settings, *, progress: Progress) -> Engine:
    """Open the engine that the parameters name.

    Where an engine is to be built first and any precision will do, a build that fails leaves the fastest that runs all the
    same; its `info.shortfall` says so.

    Raises:
        EdgeMtlError: there is none, it is damaged, or it disagrees with its reference; the message says what to run.
        Interrupted: `progress` raised it; nothing half-made is left.
    """
    key = os.path.expanduser(settings.public_key) or None
    if settings.bundle:
        bundle = find(Path(settings.bundle).expanduser(), public_key=key)
    else:
        progress("no bundle was given: using the demo bundle", 0, 0)
        bundle = Bundle.open(DEMO_BUNDLE, public_key=key)
    total = len(bundle.manifest.files)
    done = 0

    def verified(_: str) -> None:
        nonlocal done
        done += 1
        progress("verifying the bundle", done, total)

    bundle.verify(progress=verified)
    failure = _build(bundle, settings, progress) if settings.build and not _has_engine(bundle, settings) else None
    progress("loading the engine and testing it", 0, 0)
    if failure is None:
        return _open(bundle, settings, settings.precision)
    try:
        engine = _open(bundle, settings, AUTO)
    except EngineMismatch:  # those that are here are stale
        engine = _open(bundle, settings, "fp32")
    why = f"running {engine.info.precision}: the {settings.build} engine could not be built: {failure}"
    engine.info = replace(engine.info, shortfall=why)
    return engine


def camera_scales(engine: Engine, given: Mapping[str, str | float]) -> dict[str, CameraScale]:
    """The scales of the cameras that have one of their own, by name; files are read here, once.

    Raises:
        DepthScaleError: one is not plausible, cannot be read, or is of another network.
    """
    found: dict[str, CameraScale] = {}
    for camera, value in given.items():
        try:
            named = _scale(value)
            scale = read_depth_scale(named)
            if isinstance(scale, ScaleRecord):
                scale.check_bundle(Bundle.open(engine.info.bundle))
        except DepthScaleError as exc:
            raise DepthScaleError(f"{camera}.depth_scale: {exc}") from exc
        found[camera] = CameraScale(scale, str(named) if isinstance(scale, ScaleRecord) else "")
    return found


def _build(bundle: Bundle, settings: Settings, progress: Progress) -> EdgeMtlError | None:
    """Build the engine that was asked for; what went wrong where any precision will do, else that is raised."""
    try:
        build_engine(
            bundle,
            precision=settings.build,
            backend=settings.backend,
            threads=settings.threads or None,
            progress=lambda step, done, total: progress(f"building the {settings.build} engine: {step}", done, total),
        )
    except EdgeMtlError as exc:
        if settings.precision != AUTO:
            raise
        return exc
    return None


def _open(bundle: Bundle, settings: Settings, precision: str) -> Engine:
    return Engine(
        bundle,
        backend=settings.backend,
        precision=precision,
        threads=settings.threads or None,
        output_size=_OUTPUT_SIZE[settings.output_size],
        self_test=_SELF_TEST[settings.self_test],
        tasks=settings.task_names,
        depth_scale=_scale(settings.depth_scale),
        min_score=settings.min_score or None,
    )


def _scale(value: str | float) -> str | float | None:
    """What the parameter says, as an Engine takes it."""
    if isinstance(value, str):
        return str(Path(value).expanduser()) if value else None
    return value


def close_engine(engine: Engine, *, on_error: Callable[[str], Any]) -> None:
    """Free an engine that was replaced; where that fails it is reported, and the one that runs is not disturbed."""
    try:
        engine.close()
    except Exception as exc:
        on_error(f"an engine that is not used any more could not be closed: {exc}")


def _has_engine(bundle: Bundle, settings: Settings) -> bool:
    precision = settings.build if settings.precision == AUTO else settings.precision
    return EngineStore(bundle).is_built(precision=precision, backend=settings.backend)
