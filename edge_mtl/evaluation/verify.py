"""Verifying a bundle: every graph that this device would run, on labelled frames, against FP32 and a budget.

Reads top to bottom as what happens; scores, budgets and images are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.backends import BACKENDS, available, open_backend, proven
from edge_mtl.backends.reference import REFERENCE_RUNTIME, has_reference, reference_runtime
from edge_mtl.backends.selection import check_named
from edge_mtl.bundle import CALIBRATION, OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frame_features import thumbnail
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.calibration.leakage import refuse_calibrated
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.revision import changing, commit, copy_engines
from edge_mtl.errors import AccuracyError, BackendUnavailable, BundleError, EdgeMtlError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget, Verdict, judge
from edge_mtl.evaluation.labelled_frames import LabelledSet, evaluate, labelled_set, stand_ins
from edge_mtl.evaluation.scores import Score
from edge_mtl.evaluation.sqnr import sqnr_db
from edge_mtl.evaluation.worst_frames import CARD, WorstFrame, describe, draw, worst_frames
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.quantization.learned import int8_graph, int8_recipe
from edge_mtl.quantization.observation import Material
from edge_mtl.quantization.quantize import CPU_MODEL, TENSORRT_MODEL, calibrate, insert_qdq, portable_bits
from edge_mtl.quantization.recipes import Recipe
from edge_mtl.tasks import remarks

__all__ = [
    "REFERENCE",
    "EvaluatedGraph",
    "Verification",
    "engine_graphs",
    "quantized_subjects",
    "verify",
    "verify_graphs",
    "write_card",
]

Array = np.ndarray
Progress = Callable[[str, int, int], None]
"""Called with the step ("calibrate", "evaluate", "noise", "worst"), units done and in all."""

REFERENCE = "fp32"
"""Name of the reference in scores and cards."""

_NOISE_FRAMES = 4


@dataclass(frozen=True, slots=True)
class EvaluatedGraph:
    """A graph to verify.

    Attributes:
        backend, precision: what to open it with.
        model: ONNX, verified.
        integers: whether it was quantized, so that its noise can be looked at.
        label: in place of the name made of precision and backend.
    """

    backend: str
    precision: str
    model: bytes
    integers: bool
    label: str = ""

    @property
    def name(self) -> str:
        """For tables and messages."""
        return self.label or f"{self.precision} on {self.backend}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        scores: by name of the graph, `REFERENCE` first.
        verdicts: by name, without the reference.
        failed: graphs that could not be run, and why.
        labelled: whether there was truth to compare with; else the verdicts are about agreement with FP32.
        sqnr: by name of the graph, decibels by block.
        worst: the worst frames by file name of their image in a bundle.
        images: JPEG by file name.
        card: what goes into the manifest.
    """

    scores: Mapping[str, Score]
    verdicts: Mapping[str, Verdict]
    failed: Mapping[str, str]
    labelled: bool
    sqnr: Mapping[str, Mapping[str, float]]
    worst: Mapping[str, WorstFrame]
    images: Mapping[str, bytes]
    card: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether FP32 fits the data, and every graph ran and is within its budget."""
        return not (self.failed or self.unfit) and all(verdict.passed for verdict in self.verdicts.values())

    @property
    def unfit(self) -> str:
        """Why nothing follows from the comparison: FP32 itself is no better than a guess on these frames; "" where it is."""
        reasons = self.scores[REFERENCE].near_chance if REFERENCE in self.scores else ()
        return f"FP32 itself does not fit the data. {' '.join(reasons)}" if reasons else ""

    def require(self) -> None:
        """Raises AccuracyError where FP32 does not fit the data, else naming every graph and head that is out of budget."""
        if self.unfit:
            raise AccuracyError(f"{self.unfit} Nothing can be said of what the other graphs lose.")
        failures = [f"{name}: {'; '.join(verdict.failures)}" for name, verdict in self.verdicts.items() if not verdict.passed]
        failures += [f"{name}: {why}" for name, why in self.failed.items()]
        if failures:
            raise AccuracyError(
                f"Out of budget against FP32. {'. '.join(failures)}. Calibrate with frames like those it will see "
                "(edge-mtl calibrate), keep more layers in float, or build another precision."
            )


def verify(
    bundle: Bundle,
    *,
    frames: LabelledSet | None = None,
    budget: Budget = DEFAULT_BUDGET,
    backend: str = "auto",
    recipe: Recipe | None = None,
    store: EngineStore | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Score every engine of `bundle` on this device and its quantized graphs; where there are none, INT8 as it would be built.

    Args:
        frames: what to measure on; the bundle's evaluation frames by default. Without labels agreement decides.
        backend: only graphs of this runtime.
        recipe: for INT8 graphs that are made here.
    Raises:
        BundleError: the bundle is damaged, or there are no frames to measure on.
        CalibrationError: `frames` are those that the bundle was calibrated with.
        BackendUnavailable: no runtime, or not the one named.
    """
    check_named(proven(), backend)
    if frames is not None:
        refuse_calibrated(bundle, {item.name: thumbnail(item.frame) for item in frames})
    place = store or EngineStore(bundle)
    subjects = engine_graphs(bundle, place, backend=backend)
    if backend in ("auto", REFERENCE_RUNTIME):
        subjects += bundle_graphs(bundle)
    if not any(subject.integers for subject in subjects):
        subjects += quantized_subjects(bundle, backend=backend, recipe=recipe, threads=threads, progress=progress)
    return verify_graphs(
        bundle, subjects, frames=frames, budget=budget, threads=threads, device=place.device.describe(), progress=progress
    )


def verify_graphs(
    bundle: Bundle,
    subjects: Sequence[EvaluatedGraph],
    *,
    frames: LabelledSet | None = None,
    budget: Budget = DEFAULT_BUDGET,
    threads: int | None = None,
    device: str = "",
    images: int = 3,
    noise: bool = True,
    progress: Progress | None = None,
) -> Verification:
    """Score given graphs of `bundle`; see `verify`.

    Args:
        images: how many of the worst frames to draw.
        noise: whether to look at the noise of quantized graphs, block by block.
    """
    chosen = labelled_set(bundle) if frames is None else frames
    if not len(chosen):
        raise BundleError(f"{bundle.path} has no evaluation frames: give a folder of frames to measure on with --data DIR.")
    report = progress or _silent
    with ExitStack() as stack:
        reference = _reference(bundle)
        paths = {REFERENCE: _open(reference, bundle, threads, stack)}
        failed: dict[str, str] = {}
        for subject in subjects:
            try:
                paths[subject.name] = _open(subject, bundle, threads, stack)
            except EdgeMtlError as exc:
                failed[subject.name] = str(exc)
        scores = evaluate(bundle, paths, reference=REFERENCE, frames=chosen, progress=report)
        others = {name: score for name, score in scores.items() if name != REFERENCE}
        labelled = bool(scores[REFERENCE].accuracy)
        verdicts = {name: judge(scores[REFERENCE], score, name=name, budget=budget) for name, score in others.items()}
        worst = worst_frames(scores[REFERENCE], others, budget=budget, labelled=labelled, count=images)
        drawn = _draw(worst, chosen, paths, report)
    few = [item.frame for item in chosen][:: max(1, len(chosen) // _NOISE_FRAMES)][:_NOISE_FRAMES] if noise and subjects else []
    sqnr = _noise(bundle, [subject for subject in subjects if subject.name in paths], few, threads, report) if noise else {}
    named = {f"{CARD}/worst-{number}.jpg": item for number, item in enumerate(worst)}
    measured = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "frames": {"source": chosen.source, "count": len(chosen), "digest": chosen.digest(), "labelled": labelled},
    }
    said = [*remarks(bundle.manifest.tasks), *(filter(None, [stand_ins(bundle)]) if frames is None else ())]
    if said:
        measured["remarks"] = said
    card = describe(
        scores,
        verdicts,
        reference=REFERENCE,
        budget=budget,
        sqnr=sqnr,
        worst=named,
        measured=measured,
    )
    return Verification(scores, verdicts, failed, labelled, sqnr, named, dict(zip(named, drawn, strict=True)), card)


def engine_graphs(bundle: Bundle, store: EngineStore, *, backend: str = "auto") -> list[EvaluatedGraph]:
    """The engines that this device can run, best first; of several alike only the best."""
    found: dict[tuple[str, str], EvaluatedGraph] = {}
    for record in store.find(backend=backend):
        if store.mismatch(record) is None and record.backend in store.runtimes:
            key = (record.backend, record.precision)
            if key not in found:
                found[key] = EvaluatedGraph(
                    record.backend, record.precision, store.load(record), record.precision.startswith("int8")
                )
    return list(found.values())


def bundle_graphs(bundle: Bundle) -> list[EvaluatedGraph]:
    """The quantized graphs that `bundle` brings along, run in ONNX Runtime, which does what any runtime should do with them."""
    if not has_reference():
        return []
    names = [name for name in (TENSORRT_MODEL, CPU_MODEL) if bundle.has(name)]
    return [EvaluatedGraph(REFERENCE_RUNTIME, "int8", bundle.read(name), True, label=name) for name in names]


def quantized_subjects(
    bundle: Bundle,
    *,
    backend: str = "auto",
    frames: Material | None = None,
    recipe: Recipe | None = None,
    portable: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[EvaluatedGraph]:
    """INT8 graphs for every runtime here, made from calibration frames: the bundle's, or `frames`.

    Args:
        portable: with the weights of graphs that travel, not with those that are fastest here.
    Raises:
        CalibrationError: there are frames, but ranges cannot be learnt from them.
    """
    if frames is None and not bundle.list(CALIBRATION):
        return []
    chosen = recipe or int8_recipe(bundle)
    graph = int8_graph(bundle, own_frames=frames is None)
    if frames is None:
        settings = chosen.calibration
        frames = load_calibration(bundle, count=settings.frames, unreadable_share=settings.unreadable_share).material
    calibrated = calibrate(graph, frames, recipe=chosen, threads=threads, progress=progress)
    bits = portable_bits(chosen) if portable else None
    styles = {
        name: BACKENDS[name].qdq
        for name, found in proven().items()
        if found.usable and backend in ("auto", name) and BACKENDS[name].device == "cpu"
    }
    return [
        EvaluatedGraph(name, "int8", insert_qdq(graph, calibrated, recipe=chosen, target=style.name, bits=bits), True)
        for name, style in styles.items()
        if style is not None and style.name in chosen.targets
    ]


def write_card(bundle: Bundle, verification: Verification) -> Bundle:
    """Put the card into the bundle as a new revision; engines come along, the old revision is kept.

    Raises:
        BundleError: the folder cannot be written, or the bundle was changed since it was measured.
    """
    with changing(bundle.path) as current:
        if current.digest != bundle.digest:
            raise BundleError(f"{bundle.path} was changed while it was verified. Run the command again.")

        def change(folder: Path) -> None:
            copy_engines(current, folder)
            place_images(folder, verification.images)

        return commit(current, change, card=verification.card)


def place_images(folder: Path, images: Mapping[str, bytes]) -> None:
    """Put the card's images into the copy of a bundle, in place of those of the last card."""
    (folder / CARD).mkdir(exist_ok=True)
    for old in (folder / CARD).iterdir():
        old.unlink()
    for name, payload in images.items():
        (folder / name).write_bytes(payload)


def _silent(step: str, done: int, total: int) -> None:
    return None


def _reference(bundle: Bundle) -> EvaluatedGraph:
    """FP32 in the reference runtime where it is here: what anyone can run."""
    runtime = reference_runtime(available())
    graph = OPTIMIZED_ONNX if bundle.has(OPTIMIZED_ONNX) else REFERENCE_ONNX
    return EvaluatedGraph(runtime, "fp32", bundle.read(graph), False, label=REFERENCE)


def _open(subject: EvaluatedGraph, bundle: Bundle, threads: int | None, stack: ExitStack) -> InferencePipeline:
    backend = open_backend(subject.backend, subject.model, threads=threads, precision=subject.precision)
    return InferencePipeline(stack.enter_context(closing(backend)), bundle.manifest)


def _draw(
    worst: Sequence[WorstFrame],
    frames: LabelledSet,
    paths: Mapping[str, InferencePipeline],
    progress: Progress,
) -> list[bytes]:
    wanted = {item.frame: item for item in worst}
    drawn: dict[str, bytes] = {}
    for item in frames:
        if item.name in wanted:
            entry = wanted[item.name]
            before = paths[REFERENCE](item.frame, item.intrinsics)
            after = paths[entry.graph](item.frame, item.intrinsics)
            drawn[item.name] = draw(item.frame, before, after, entry)
            progress("worst", len(drawn), len(wanted))
    return [drawn[item.frame] for item in worst]


def _noise(
    bundle: Bundle, subjects: Sequence[EvaluatedGraph], frames: Sequence[Array], threads: int | None, progress: Progress
) -> dict[str, dict[str, float]]:
    """SQNR of quantized graphs; nothing where onnx or ONNX Runtime is not here."""
    quantized = [subject for subject in subjects if subject.integers]
    found: dict[str, dict[str, float]] = {}
    for number, subject in enumerate(quantized):
        try:
            found[subject.name] = sqnr_db(int8_graph(bundle), subject.model, frames, threads=threads)
        except BackendUnavailable:
            return {}
        progress("noise", number + 1, len(quantized))
    return found
