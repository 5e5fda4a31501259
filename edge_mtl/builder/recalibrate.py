"""Calibrating a bundle again: choose frames, quantize, check accuracy, build engines, then swap the revision in one step.

Reads top to bottom as what happens; every step is elsewhere. Nothing is changed before the last step: a process that dies
or fails on the way leaves the bundle as it was, and the revision before stays for `edge_mtl.engine_store.revision.rollback`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edge_mtl.backends import proven
from edge_mtl.backends.reference import CPU_STYLE, GPU_STYLE, REFERENCE_RUNTIME
from edge_mtl.backends.selection import check_named
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.builder.report import BuildReport
from edge_mtl.bundle import CALIBRATION, ENGINES, Bundle
from edge_mtl.calibration.sampling import Chosen, Embedding, choose_frames, encode_frames
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.revision import changing, commit
from edge_mtl.errors import BuildError, CalibrationError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget
from edge_mtl.evaluation.labelled_frames import LabelledSet, labelled_set
from edge_mtl.evaluation.verify import (
    EvaluatedGraph,
    Verification,
    bundle_graphs,
    place_images,
    quantized_subjects,
    verify_graphs,
)
from edge_mtl.quantization.learned import OWN_RECIPE, QAT_MODEL, int8_graph, int8_recipe
from edge_mtl.quantization.quantize import CPU_MODEL, TENSORRT_MODEL, quantize
from edge_mtl.quantization.recipes import Recipe, load_recipe, read_recipe, recipe_for
from edge_mtl.remedies import told
from edge_mtl.sources.frame_source import FrameSource
from edge_mtl.sources.images import decode_image
from edge_mtl.unfinished import new_folder

__all__ = ["Recalibration", "recalibrate"]

Array = np.ndarray
Progress = Callable[[str, int, int], None]
"""Called with the step, units done and in all; the steps are those of choosing, quantizing, verifying and building."""

_SPARE = 8


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What was done.

    Attributes:
        bundle: the new revision.
        previous: number of the revision before, which is kept.
        chosen: the calibration frames.
        labelled: what the accuracy check found on the bundle's evaluation frames; None where it has none.
        field: what it found on frames of the source that were kept out of calibration: agreement with FP32.
        before: agreement with FP32 on those frames as the bundle was calibrated before, by name of the metric; empty where
            it had no calibration.
        build: the engines that were built; None where none were wanted.
        warnings: sentences for people.
    """

    bundle: Bundle
    previous: int
    chosen: Chosen
    labelled: Verification | None
    field: Verification
    before: Mapping[str, float]
    build: BuildReport | None
    warnings: tuple[str, ...]

    @property
    def after(self) -> Mapping[str, float]:
        """As `before`, of the new revision."""
        return self.field.scores[CPU_MODEL].agreement


def recalibrate(
    path: Path,
    source: FrameSource,
    *,
    recipe: Path | None = None,
    count: int | None = None,
    seed: int = 0,
    embedding: Embedding = "network",
    budget: Budget | None = DEFAULT_BUDGET,
    engines: bool = True,
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Recalibration:
    """Calibrate the bundle at `path` with frames of `source`, and put the result in its place if it passes the gate.

    Args:
        recipe: how to quantize, a TOML file, which goes into the bundle and counts from then on; the bundle's own, or else
            the package's, when not given.
        count: how many frames; as many as the recipe uses by default.
        seed, embedding: see `edge_mtl.calibration.sampling.choose_frames`.
        budget: what INT8 may lose against FP32: of accuracy on the bundle's labelled frames, of agreement on others; None
            takes any loss, with a warning.
        engines: also build INT8 engines for this device into the new revision.
        backend: of the engines.
        threads: of the runtimes.
    Raises:
        CalibrationError: the source has no usable frames, too many unreadable ones, or frames that the bundle is measured on.
        AccuracyError: a head is out of budget.
        BundleError, BuildError: the bundle is damaged, the recipe does not fit, or something cannot be written.
        BackendUnavailable: onnx, ONNX Runtime or the backend is missing.
    """
    report = progress or _silent
    check_named(proven(), backend)
    own_recipe = {} if recipe is None else {OWN_RECIPE: _recipe_file(recipe)}
    with changing(path, waiting=lambda: report("wait", 0, 1)) as bundle, _staging(bundle) as staging:
        rules = read_recipe(own_recipe[OWN_RECIPE], source=str(recipe)) if own_recipe else int8_recipe(bundle)
        number = count or rules.calibration.frames
        chosen, spare = choose_frames(
            source,
            bundle,
            count=number,
            seed=seed,
            embedding=embedding,
            unreadable_share=rules.calibration.unreadable_share,
            spare=_SPARE,
            threads=threads,
            progress=report,
        )
        files, digest = encode_frames(chosen.frames)
        frames = [image for payload in files.values() if (image := decode_image(payload)) is not None]
        source_graph = int8_graph(bundle, own_frames=False)
        models = quantize(source_graph, frames, recipes=_recipes(rules), threads=threads, progress=report)
        subjects = [EvaluatedGraph(REFERENCE_RUNTIME, "int8", model, True, label=name) for name, model in models.items()]
        field = _field(bundle, subjects, chosen, spare, budget or DEFAULT_BUDGET, threads, report)
        _require(field, budget)
        labelled = None
        if len(labelled_set(bundle)):
            labelled = verify_graphs(bundle, subjects, budget=budget or DEFAULT_BUDGET, threads=threads, progress=report)
            judged = labelled.labelled or budget != DEFAULT_BUDGET  # without truth the usual budget is a guess
            _require(labelled, budget if judged else None)
        before = _before(bundle, spare or chosen.frames, threads, report)
        named = rules if own_recipe else None
        built = _engines(bundle, staging, files, named, budget, backend, threads, report) if engines else None

        def change(folder: Path) -> None:
            shutil.rmtree(folder / CALIBRATION, ignore_errors=True)
            (folder / CALIBRATION).mkdir()
            fine_tuned = {QAT_MODEL: source_graph} if bundle.has(QAT_MODEL) else {}  # its ranges come from frames from now on
            for name, payload in {**files, **models, **fine_tuned, **own_recipe}.items():
                (folder / name).write_bytes(payload)
            if labelled is not None:
                place_images(folder, labelled.images)
            if (staging / ENGINES).is_dir():
                shutil.copytree(staging / ENGINES, folder / ENGINES, ignore=shutil.ignore_patterns(".*"))
                (folder / ENGINES).chmod(0o700)

        facts = {"count": len(frames), "digest": digest, **chosen.facts(), "recipe": rules.name, "recipe_digest": rules.digest}
        card = labelled.card if labelled is not None else field.card
        made = commit(bundle, change, calibration=facts, card=card)
    warnings = _warnings(chosen, spare, field, labelled, before)
    return Recalibration(made, bundle.manifest.revision, chosen, labelled, field, before, built, warnings)


def _silent(step: str, done: int, total: int) -> None:
    return None


def _require(found: Verification, budget: Budget | None) -> None:
    """Raises AccuracyError where a graph does not run, or, with a budget, where a head is out of it."""
    if budget is not None or found.failed:
        found.require()


def _recipe_file(path: Path) -> bytes:
    """The bytes of a recipe that a bundle can be calibrated by. Raises BuildError."""
    if CPU_STYLE not in (found := load_recipe(path)).targets:
        raise BuildError(
            f"recipe {path} is for {', '.join(found.targets)}: the INT8 graph that a bundle is judged by runs in ONNX Runtime. "
            f'Add "{CPU_STYLE}" to its targets.'
        )
    return path.read_bytes()


def _recipes(rules: Recipe) -> dict[str, Recipe]:
    """What the two graphs of a bundle are made by; both equalise alike, for one pass over the frames serves them."""
    plan = replace(recipe_for(GPU_STYLE, rules), equalisation=rules.equalisation)
    return {TENSORRT_MODEL: replace(plan, targets=(GPU_STYLE,)), CPU_MODEL: replace(rules, targets=(CPU_STYLE,))}


@contextmanager
def _staging(bundle: Bundle) -> Iterator[Path]:
    """A folder beside the bundle for what is made on the way; `revision.repair` sweeps it when the process is killed."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(new_folder(bundle.path))
        except OSError as exc:
            raise BuildError(f"{bundle.path.parent} cannot be written to {told(exc)}") from exc
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _field(
    bundle: Bundle,
    subjects: Sequence[EvaluatedGraph],
    chosen: Chosen,
    spare: Sequence[Array],
    budget: Budget,
    threads: int | None,
    progress: Progress,
) -> Verification:
    """Agreement with FP32 on frames of the source; on the calibration frames themselves where there are no others."""
    names, frames = (chosen.spare, spare) if spare else (chosen.names, chosen.frames)
    images = {f"{name.replace('/', '-')}.png": frame for name, frame in zip(names, frames, strict=True)}
    files = {name: _png(frame) for name, frame in images.items()}
    held = LabelledSet(
        source=chosen.source,
        images=tuple(files),
        files=frozenset(files),
        read=files.__getitem__,
        where=Path(chosen.source),
        size=bundle.manifest.input,
        tasks=bundle.manifest.tasks,
    )
    return verify_graphs(bundle, subjects, frames=held, budget=budget, threads=threads, images=0, progress=progress)


def _before(bundle: Bundle, frames: Sequence[Array], threads: int | None, progress: Progress) -> Mapping[str, float]:
    """Agreement with FP32 of the CPU graph as the bundle was calibrated so far; for the report only, so it never fails it."""
    try:
        subjects = [subject for subject in bundle_graphs(bundle) if subject.name == CPU_MODEL] or quantized_subjects(
            bundle, backend=REFERENCE_RUNTIME, portable=True, threads=threads, progress=progress
        )
    except CalibrationError:
        return {}
    if not subjects:
        return {}
    files = {f"{number:03d}.png": _png(frame) for number, frame in enumerate(frames)}
    manifest = bundle.manifest
    names = tuple(files)
    held = LabelledSet("before", names, frozenset(files), files.__getitem__, Path("before"), manifest.input, manifest.tasks)
    found = verify_graphs(bundle, subjects[:1], frames=held, threads=threads, images=0, noise=False, progress=progress)
    return found.scores[subjects[0].name].agreement


def _engines(
    bundle: Bundle,
    staging: Path,
    files: Mapping[str, bytes],
    recipe: Recipe | None,
    budget: Budget | None,
    backend: str,
    threads: int | None,
    progress: Progress,
) -> BuildReport:
    """Build engines from the new frames into the staging folder."""
    try:
        (staging / CALIBRATION).mkdir()
        for name, payload in files.items():
            (staging / name).write_bytes(payload)
    except OSError as exc:
        raise BuildError(
            f"{staging} cannot be written to ({exc.strerror or exc}). Free some space, then run it again."
        ) from exc
    return build_engine(
        bundle,
        precision="int8",
        backend=backend,
        calibration=staging / CALIBRATION,
        recipe=recipe,
        most_frames=len(files),
        threads=threads,
        store=EngineStore(replace(bundle, path=staging)),
        budget=budget,
        progress=progress,
    )


def _warnings(
    chosen: Chosen,
    spare: Sequence[Array],
    field: Verification,
    labelled: Verification | None,
    before: Mapping[str, float],
) -> tuple[str, ...]:
    found = [f"{entry.name} was left out: {entry.reason}" for entry in chosen.dropped if entry.reason.startswith("unreadable")]
    if not spare:
        found.append("There were too few frames to keep some out of calibration: agreement was measured on the same frames.")
    for verification in (labelled, field):
        for name, verdict in verification.verdicts.items() if verification is not None else ():
            found += [f"{name} is close to its budget: {line}" for line in verdict.close]
            found += [f"{name} loses more than it should, and was kept all the same: {line}" for line in verdict.failures]
    worse = [
        f"{metric} {before[metric]:.4f} before, {value:.4f} now"
        for metric, value in field.scores[CPU_MODEL].agreement.items()
        if metric in before and (before[metric] - value if metric == "argmax_agreement" else value - before[metric]) > 0.002
    ]
    if worse:
        found.append(f"The new calibration agrees less with FP32 on these frames than the old one: {'; '.join(worse)}.")
    return tuple(found)


def _png(frame: Array) -> bytes:
    fine, payload = cv2.imencode(".png", frame[:, :, ::-1])
    if not fine:
        raise BuildError("a frame could not be encoded")
    return bytes(payload.tobytes())
