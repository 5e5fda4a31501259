"""The rows of `calibration_domains.py`: calibration frames of each domain, INT8 graphs of them, and what a row measures.

Each row is one graph on all frames, measured by itself, so that rows can be kept and run beside one another.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
from consistency import sampled_from, summary
from kept_scores import pack
from nyuv2_frames import as_labelled, description_digest, open_nyuv2, seen
from rendered_rooms import open_rooms
from work_folder import WorkFolder

from edge_mtl.backends import BACKENDS, available, open_backend
from edge_mtl.backends.reference import GPU_STYLE, REFERENCE_RUNTIME
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.calibration.sampling import choose_frames, encode_frames
from edge_mtl.calibration.source import given_frames
from edge_mtl.device import fingerprint
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import LabelledFrame, labelled_set
from edge_mtl.evaluation.scores import Scorer
from edge_mtl.evaluation.verify import quantized_subjects
from edge_mtl.image.frames import Intrinsics
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.quantization.learned import int8_graph, int8_recipe
from edge_mtl.quantization.observation import Material
from edge_mtl.quantization.quantize import portable_bits, quantize
from edge_mtl.quantization.recipes import recipe_for
from edge_mtl.quantization.weights import weight_bits
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks import NYU_TASKS

__all__ = [
    "BUNDLE",
    "CALIBRATIONS",
    "EMULATED",
    "FP32",
    "NYUV2",
    "ROOMS",
    "Calibration",
    "Row",
    "Sources",
    "calibration_of",
    "check_tasks",
    "frames_digests",
    "measure",
    "rows_of",
]

BUNDLE, NYUV2, ROOMS = "bundle", "nyuv2", "rooms"
CALIBRATIONS = (BUNDLE, NYUV2, ROOMS)
FP32 = "fp32"
EMULATED = "tensorrt, emulated"
"""The graph that a GPU would get, run by ONNX Runtime."""

_EVERY = 100
"""Frames between two lines of progress."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where frames come from.

    Attributes:
        nyuv2, rooms: folders of the data sets; missing rooms are rendered.
        count: test frames of NYUv2 to measure on, 0 for all.
        pool: training frames of either to choose calibration frames from.
    """

    nyuv2: Path
    rooms: Path
    count: int
    pool: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Frames to calibrate with.

    Attributes:
        name: one of `CALIBRATIONS`.
        material: frames, or the statistics that stand in their place; None for what the bundle brings along.
        digest: SHA-256 of their pixels.
        facts: how they were chosen, for JSON.
    """

    name: str
    material: Material | None
    digest: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One graph to measure.

    Attributes:
        calibration: of `CALIBRATIONS`; "" for FP32.
        engine: `FP32`, a runtime, or `EMULATED`.
        runtime, precision: what to open the graph with.
        bits: of INT8 weights; None for FP32.
        graph: file of the ONNX graph.
    """

    calibration: str
    engine: str
    runtime: str
    precision: str
    bits: int | None
    graph: Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.engine}, calibrated by {self.calibration}" if self.calibration else self.engine


def check_tasks(bundle: Bundle) -> None:
    """Raises BuildError: a task of the bundle is none that NYUv2 and rooms have labels of."""
    strange = [name for name, spec in bundle.manifest.tasks.items() if NYU_TASKS.get(name) != spec]
    if strange:
        raise BuildError(
            f"{bundle.path} should have the tasks {', '.join(NYU_TASKS)} of NYUv2 and rooms, or some of them; found "
            f"{', '.join(strange)} besides, or with other classes. Measure it on frames of its own: edge-mtl verify --data DIR"
        )


def calibration_of(name: str, bundle: Bundle, sources: Sources, *, cache: Path, threads: int) -> Calibration:
    """What INT8 is calibrated with; frames of a data set are chosen and stored as `edge-mtl calibrate` does it.

    Args:
        cache: folder for looks at frames.
    Raises:
        EdgeMtlError: the data set cannot be used, or the bundle has no calibration.
    """
    settings = int8_recipe(bundle).calibration
    if name == BUNDLE:
        found = load_calibration(bundle, count=settings.frames, unreadable_share=settings.unreadable_share)
        held = "frames" if found.recorded is None else "statistics"
        told = str(bundle.manifest.calibration.get("source", "")) or "unknown"
        return Calibration(BUNDLE, None, found.digest, {"source": told, "count": len(found), "holds": held})
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    if name == NYUV2:
        frames, titled = open_nyuv2(sources.nyuv2, 0, train=True), "NYUv2, training frames"
        identity = description_digest(sources.nyuv2)
    else:
        frames, titled = open_rooms(sources.rooms, "train", sources.pool, size), "rendered rooms, training split"
        from mtl.datasets.rooms.render import RENDERER_VERSION

        identity = f"renderer {RENDERER_VERSION}"
    count = min(sources.pool, len(frames))
    indices = [number * len(frames) // count for number in range(count)]
    source = given_frames(
        titled, lambda number: seen(frames[indices[number]], {}, size).image, count, identity=f"{titled} {identity} {indices}"
    )
    chosen, _ = choose_frames(
        source, bundle, count=settings.frames, cache=cache, threads=threads, progress=functools.partial(_progress, titled)
    )
    files, digest = encode_frames(chosen.frames)
    images = [image for payload in files.values() if (image := decode_image(payload)) is not None]
    facts = {key: value for key, value in chosen.facts().items() if key != "names"}
    numbers = [indices[int(title)] for title in chosen.names]
    return Calibration(name, images, digest, {**facts, "count": len(images), "frames": numbers})


def rows_of(bundle: Bundle, calibration: Calibration, work: WorkFolder, *, threads: int) -> list[Row]:
    """INT8 of every runtime for processors here, as `edge-mtl verify` makes it, and TensorRT's graph; kept in `work`.

    Raises:
        EdgeMtlError: ranges cannot be learnt from the frames, or what is needed for it is missing.
    """
    rules = int8_recipe(bundle)
    plan = replace(recipe_for(GPU_STYLE, rules), targets=(GPU_STYLE,))
    material = calibration.material

    @functools.cache
    def for_processors() -> dict[str, bytes]:
        found = quantized_subjects(bundle, frames=material, threads=threads)
        return {subject.backend: subject.model for subject in found}

    def for_gpus() -> bytes:
        graph = int8_graph(bundle, own_frames=material is None)
        used = material
        if used is None:
            count, share = plan.calibration.frames, plan.calibration.unreadable_share
            used = load_calibration(bundle, count=count, unreadable_share=share).material
        return quantize(graph, used, recipes={EMULATED: plan}, threads=threads)[EMULATED]

    def kept(engine: str, bits: int, recipe: str, make: Callable[[], bytes]) -> Path:
        decided = {"bundle": bundle.digest, "calibration": calibration.digest, "own": material is None}
        return work.kept(
            f"{calibration.name}-{engine.replace(', ', '-')}.onnx",
            {**decided, "recipe": recipe, "bits": bits, "versions": _versions()},
            make,
        )

    rows = []
    for runtime, found in available().items():
        style = BACKENDS[runtime].qdq
        if not found.usable or BACKENDS[runtime].device != "cpu" or style is None or style.name not in rules.targets:
            continue
        bits = weight_bits(rules.weights.reduce_range, style.name, fingerprint())[-1]
        path = kept(runtime, bits, rules.digest, functools.partial(_chosen, for_processors, runtime))
        rows.append(Row(calibration.name, runtime, runtime, "int8", bits, path))
    path = kept(EMULATED, portable_bits(plan), plan.digest, for_gpus)
    return [*rows, Row(calibration.name, EMULATED, REFERENCE_RUNTIME, "int8", portable_bits(plan), path)]


def frames_digests(bundle: Bundle, sources: Sources) -> dict[str, Any]:
    """What decides which frames a row is measured on, plain values."""
    return {
        BUNDLE: labelled_set(bundle).digest(),
        NYUV2: [description_digest(sources.nyuv2), sources.count],
        "versions": _versions(),
    }


def measure(row: Row, path: Path, sources: Sources, *, threads: int) -> dict[str, Any]:
    """The row's scores on the bundle's labelled frames and on NYUv2's test frames, against FP32's answers to the same.

    Args:
        path: of the bundle.
    Returns:
        By frames (`BUNDLE`, `NYUV2`): "score", see `kept_scores`, and "consistency", see `consistency.summary`, or None.
    Raises:
        EdgeMtlError: the bundle, the frames or the runtime cannot be used.
    """
    cv2.setNumThreads(threads)
    bundle = Bundle.open(path)
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    own, test = labelled_set(bundle), open_nyuv2(sources.nyuv2, sources.count)
    with ExitStack() as stack:

        def opened(runtime: str, model: bytes, precision: str) -> InferencePipeline:
            backend = stack.enter_context(closing(open_backend(runtime, model, threads=threads, precision=precision)))
            return InferencePipeline(backend, bundle.manifest)

        reference = opened(REFERENCE_RUNTIME, bundle.read(OPTIMIZED_ONNX), FP32)
        found = reference if row.engine == FP32 else opened(row.runtime, row.graph.read_bytes(), row.precision)
        labelled = as_labelled(test, bundle.manifest.tasks, size)
        return {
            BUNDLE: _scored(found, reference, iter(own), bundle, None),
            NYUV2: _scored(found, reference, labelled, bundle, functools.partial(_measured, row.name, len(test))),
        }


def _scored(
    path: InferencePipeline,
    reference: InferencePipeline,
    frames: Iterator[LabelledFrame],
    bundle: Bundle,
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    scorer, samples = Scorer(bundle.manifest.tasks), []
    for number, item in enumerate(frames):
        expected = reference(item.frame, item.intrinsics)
        found = expected if path is reference else path(item.frame, item.intrinsics)
        scorer.update(item.name, found, item.targets, expected)
        if item.intrinsics is not None and NYU_TASKS.keys() <= item.targets.keys() and NYU_TASKS.keys() <= found.results.keys():
            samples.append(sampled_from(found.results, item.targets, Intrinsics.of(item.intrinsics), number))
        if progress is not None:
            progress(number + 1)
    return {"score": pack(scorer.score()), "consistency": summary(samples) if len(samples) > 1 else None}


def _chosen(graphs: Callable[[], Mapping[str, bytes]], runtime: str) -> bytes:
    return graphs()[runtime]


def _versions() -> dict[str, str]:
    return {name: str(found.version) for name, found in available().items() if found.usable}


def _progress(titled: str, step: str, done: int, total: int) -> None:
    if done == total or done % _EVERY == 0:
        print(f"{titled}: {step} {done}/{total}", file=sys.stderr, flush=True)


def _measured(name: str, total: int, done: int) -> None:
    if done == total or done % _EVERY == 0:
        print(f"{name}: {done}/{total} frames of NYUv2", file=sys.stderr, flush=True)
