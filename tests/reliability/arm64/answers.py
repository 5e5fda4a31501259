"""Answers of the same graphs to the same frames, written on one architecture and compared with those of another.

x86-64 writes everything that an answer depends on: frames, bundles, and the INT8 graphs that it built. The other side runs just
these, so what differs is arithmetic. Only FOLDER goes in between: `python -m tests.reliability.arm64.answers FOLDER OUT.npz`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import numpy as np

from edge_mtl.backends import available
from edge_mtl.backends.onnxruntime.backend import OnnxRuntimeBackend
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import Bundle, bundled
from edge_mtl.engine import Engine
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.evaluation.exact_arithmetic import excess
from edge_mtl.evaluation.metrics import agreement
from edge_mtl.evaluation.self_test import tolerance_of
from edge_mtl.image.frames import letterbox_image
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.tasks import NYU_TASKS, measure_names
from tests.bundles import answer_of, make_bundle, make_image

__all__ = ["DEPLOYED", "FRAMES", "answers", "compare", "prepare"]

Array = np.ndarray
Maps = Mapping[str, Array]
"""By "case frame map": "indoor-lite0 int8/1/depth"; and "letterbox/1", what the network sees of a frame."""

DEPLOYED = ("indoor-lite0", "indoor-b0")
FRAMES = ((480, 640), (333, 217))
"""(height, width): the camera's, and one with bars whose sides divide by nothing."""
_TINY = ("host", "graph")
LETTERBOX_SHARE, LETTERBOX_LEVELS = 0.15, 1
"""Of the values of a resized frame at most so many may differ, by so much: OpenCV's wheels for ARM round a tenth otherwise. So
that answers show the arithmetic of the networks alone, both sides answer the frames that x86-64 resized."""


def prepare(folder: Path) -> None:
    """Write what answers depend on: frames, tiny bundles of both placements, INT8 graphs of the deployed bundles."""
    for placement in _TINY:
        make_bundle(folder / f"tiny-{placement}", placement=placement)
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, {"XDG_CACHE_HOME": cache}):
        for name in DEPLOYED:
            bundle = Bundle.open(bundled(name))
            store = EngineStore(bundle)
            record = build_engine(bundle, backend="onnxruntime", store=store).record
            (folder / f"{name}.int8.onnx").write_bytes(store.load(record))
    frames = {str(i): make_image(5 + i, height=h, width=w) for i, (h, w) in enumerate(FRAMES)}
    for name, bundle in _bundles(folder).items():
        frames |= {f"{name}/{i}": letterbox_image(frames[str(i)], bundle.manifest.input) for i in range(len(FRAMES))}
    np.savez(folder / "frames.npz", **frames)  # type: ignore[arg-type]


def answers(folder: Path) -> dict[str, Array]:
    """What this machine answers to what lies in `folder`, and how it prepares the frames."""
    with np.load(folder / "frames.npz") as content:
        frames = {name: content[name] for name in content.files}
    found: dict[str, Array] = {}
    for name in DEPLOYED:
        size = Bundle.open(bundled(name)).manifest.input
        found |= {f"letterbox {name}/{i}": letterbox_image(frames[str(i)], size) for i in range(len(FRAMES))}
    resized = {name: [frames[f"{name}/{i}"] for i in range(len(FRAMES))] for name in _bundles(folder)}
    for case, predicted in _predicted(folder, resized):
        for index, maps in enumerate(predicted):
            found |= {f"{case}/{index}/{task}": values for task, values in maps.items()}
    return found


def _bundles(folder: Path) -> dict[str, Bundle]:
    """Those that answer, by name."""
    tiny = {f"tiny-{placement}": Bundle.open(folder / f"tiny-{placement}") for placement in _TINY}
    return tiny | {name: Bundle.open(bundled(name)) for name in DEPLOYED}


def _predicted(folder: Path, frames: Mapping[str, list[Array]]) -> Iterator[tuple[str, list[Maps]]]:
    """Case by case, the maps of every frame of a bundle."""
    bundles = _bundles(folder)
    runtimes = [name for name in ("onnxruntime", "openvino") if available()[name].usable]
    for name, bundle in bundles.items():
        for runtime in runtimes:
            with Engine(bundle, backend=runtime, precision="fp32", threads=2, output_size="network") as engine:
                predictions = [engine.predict(frame) for frame in frames[name]]
            yield f"{name} fp32 {runtime}", [_maps(each.segmentation, each.depth, each.normals) for each in predictions]
    for name in DEPLOYED:
        model = (folder / f"{name}.int8.onnx").read_bytes()
        with closing(OnnxRuntimeBackend(model, threads=2, precision="int8")) as backend:
            pipeline = InferencePipeline(backend, bundles[name].manifest)
            results = [pipeline(frame).results for frame in frames[name]]
        yield (
            f"{name} int8 onnxruntime",
            [_maps(each["segmentation"].labels, each["depth"].depth_m, each["normals"].normals) for each in results],  # type: ignore[attr-defined]
        )


def _maps(labels: Array, depth_m: Array, normals: Array) -> Maps:
    return {"segmentation": labels, "depth": depth_m, "normals": normals}


def compare(reference: Maps, found: Maps) -> tuple[list[str], list[str]]:
    """What of `found` is no answer of `reference`, and how far the cases are apart, a line each.

    Of the letterbox at most 15 % of the values may differ, by one grey level. FP32 must be within the self-test's tolerance.
    INT8 must be, too, and no further from FP32 of the reference than its own INT8 by more than rounding, as builds judge: in
    the mean of all frames.
    """
    wrong, told = [], []
    from_full: dict[str, list[tuple[Mapping[str, float], Mapping[str, float]]]] = {}
    for key in sorted(reference.keys() - found.keys()):
        wrong.append(f"{key}: no answer")
    for key in sorted(name for name in reference if name.startswith("letterbox") and name in found):
        far = np.abs(reference[key].astype(int) - found[key].astype(int))
        share = np.count_nonzero(far) / far.size
        said = f"{key}: {share:.1%} of the values differ, by {far.max()} at most"
        if share > LETTERBOX_SHARE or far.max() > LETTERBOX_LEVELS:
            wrong.append(said)
        elif share:
            told.append(said)
    for case in sorted({key.rsplit("/", 1)[0] for key in reference if key.count("/") == 2}):
        meant, is_found = _results(reference, case), _results(found, case)
        if meant is None or is_found is None:
            continue
        precision = "int8" if " int8 " in case else "fp32"
        near = agreement(NYU_TASKS, is_found, meant)
        wrong += [f"{case}: {text}" for text in _outside(near, precision)]
        told.append(f"{case}: " + ", ".join(_shown(key, value) for key, value in near.items()))
        full = _results(reference, case.replace(" int8 ", " fp32 "))
        if precision == "int8" and full is not None:
            pair = agreement(NYU_TASKS, is_found, full), agreement(NYU_TASKS, meant, full)
            from_full.setdefault(case.partition("/")[0], []).append(pair)
    for case, pairs in from_full.items():
        there, here = (_mean(each) for each in zip(*pairs, strict=True))
        wrong += [f"{case}: {text}" for text in excess(NYU_TASKS, there, here)]
    return wrong, told


def _mean(agreements: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([each[key] for each in agreements])) for key in agreements[0]}


def _results(maps: Maps, case: str) -> Mapping[str, object] | None:
    parts = {task: maps.get(f"{case}/{task}") for task in NYU_TASKS}
    return answer_of(parts).results if all(part is not None for part in parts.values()) else None  # type: ignore[return-value]


def _outside(near: Mapping[str, float], precision: str) -> list[str]:
    """Where an agreement is beyond the self-test's tolerance; written so that NaN is."""
    measures, said = measure_names(NYU_TASKS, agreement=True), []
    for key, limit in tolerance_of(NYU_TASKS, precision).items():
        value, least = near.get(key, float("nan")), measures[key].higher_is_better
        if not (value >= limit if least else value <= limit):
            said.append(f"{_shown(key, value)}, {'at least' if least else 'at most'} {measures[key].show(limit)} expected")
    return said


def _shown(key: str, value: float) -> str:
    measure = measure_names(NYU_TASKS, agreement=True)[key]
    return f"{measure.label} {measure.show(value)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    np.savez(given.out, **answers(given.folder))  # type: ignore[arg-type]
