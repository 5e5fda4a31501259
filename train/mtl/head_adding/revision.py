"""The revision of a bundle that has one task more: graphs, golden answers, labelled frames, accuracy. Knows no training.

Nothing is written unless the new graphs answer the golden frames in the old tasks as the old graphs do, bit by bit.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.backends import open_backend
from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.bundle import EVALUATION, GOLDEN, OPTIMIZED_ONNX, RECORDED, REFERENCE_ONNX, WEIGHTS, Bundle
from edge_mtl.console import Console
from edge_mtl.documents import parse_json
from edge_mtl.engine_store.revision import changing, commit
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.sources.images import IMAGE_SUFFIXES, decode_image
from edge_mtl.tasks import Specs, TaskSpec, kind_of, scoped
from mtl.bundle_card import figures
from mtl.bundle_frames import labelled_spread, spread, write_evaluation, write_statistics
from mtl.bundle_images import embeds
from mtl.checkpoint import load_weights, save_weights
from mtl.datasets.frame import FrameSource
from mtl.evaluate import judge
from mtl.models import MultiTaskModel
from mtl.onnx_predictor import OnnxGraph
from mtl.progress import metrics_table
from mtl.settings import RunSettings
from mtl.tasks import output_names

__all__ = ["check_same_answers", "golden_images", "with_weights_of", "write_revision"]

Array = np.ndarray

_ROUNDING = 1e-5
"""Relative, in the norm of a whole tensor."""


def write_revision(
    bundle: Bundle,
    model: MultiTaskModel,
    spec: TaskSpec,
    settings: RunSettings,
    *,
    train: FrameSource,
    test: FrameSource,
    added: Mapping[str, Any],
    console: Console,
) -> Bundle:
    """Put the next revision of `bundle` in its place, with `model`, which has the task `spec` besides those of the bundle.

    Args:
        settings: of the new head's training: its data, and of `export` how many labelled frames are added.
        train, test: frames that the new task is calibrated with, where the bundle has statistics only, and measured on.
        added: what the manifest's provenance says of the new task.
    Raises:
        BuildError: an old task is answered differently; nothing is written.
        BundleError: the folder cannot be written, or was changed meanwhile.
    """
    from mtl.models.export import export_deploy, export_plain  # with onnx

    size, quality = (bundle.manifest.input.height, bundle.manifest.input.width), settings.export.jpeg_quality
    old = bundle.manifest.tasks
    with tempfile.TemporaryDirectory() as place:
        made = Path(place)
        console.print(f"exporting {REFERENCE_ONNX} and {OPTIMIZED_ONNX}", highlight=False)
        export_plain(model, made / REFERENCE_ONNX, height=size[0], width=size[1])
        export_deploy(model, made / OPTIMIZED_ONNX, height=size[0], width=size[1])
        for name, placement in ((REFERENCE_ONNX, "graph"), (OPTIMIZED_ONNX, "host")):
            (made / name).write_bytes(with_weights_of(bundle.read(name), (made / name).read_bytes()))
            names = [one for every in output_names(old, placement).values() for one in every]  # type: ignore[arg-type]
            check_same_answers(bundle.read(name), (made / name).read_bytes(), names, golden_images(bundle), name=name)
        _, described = load_weights(bundle.path)
        described["config"]["model"]["tasks"] = list(model.specs)
        save_weights(made / WEIGHTS, model.state_dict(), described)
        graph = OnnxGraph((made / OPTIMIZED_ONNX).read_bytes(), model.specs)
        calibration = dict(bundle.manifest.calibration)
        if bundle.has(RECORDED):
            chosen = spread(int(calibration.get("count", settings.export.calibration)), len(train))
            (made / RECORDED).parent.mkdir()
            payload = (made / OPTIMIZED_ONNX).read_bytes()
            calibration["digest"] = write_statistics(made / RECORDED, payload, train, chosen, size, quality)
            calibration |= {"count": len(chosen), "source": f"train split of the data of {spec.name}"}
        (made / GOLDEN).mkdir()
        for stem, image in golden_images(bundle).items():
            _write_golden(bundle, made, stem, graph.run(image))
        accuracy = _measured(graph, test, spec, model.specs, old, bundle, size=size, console=console)
        labelled = made / EVALUATION
        labelled.mkdir()
        if embeds(settings):
            _write_labelled(bundle, labelled, spec, test, settings.export.evaluation, size, quality)

        def change(folder: Path) -> None:
            shutil.copytree(made, folder, dirs_exist_ok=True)

        provenance = {**bundle.manifest.provenance, "added": [*bundle.manifest.provenance.get("added", []), dict(added)]}
        with changing(Path(bundle.path)) as current:
            if current.digest != bundle.digest:
                raise BundleError(f"{bundle.path} was changed while the head was trained. Run the command again.")
            return commit(
                current,
                change,
                tasks=model.specs,
                accuracy=accuracy,
                calibration=calibration,
                card={},
                provenance=provenance,
            )


def golden_images(bundle: Bundle) -> dict[str, Array]:
    """By stem, (H, W, 3) uint8 RGB."""
    found = {}
    for name in bundle.list(GOLDEN, suffixes=IMAGE_SUFFIXES):
        image = decode_image(bundle.read(name))
        if image is not None:
            found[Path(name).stem] = image
    return found


def with_weights_of(before: bytes, after: bytes) -> bytes:
    """The graph `after` with the constants of `before` that it has by name, where these are the same but for rounding.

    Batch norms are folded with other last bits by other versions of torch, and by a network that was read back from a graph.
    """
    import onnx
    from onnx import numpy_helper

    one, other = (onnx.load_from_string(graph) for graph in (before, after))
    known = {tensor.name: tensor for tensor in one.graph.initializer}
    for tensor in other.graph.initializer:
        if tensor.name not in known:
            continue
        ours, theirs = numpy_helper.to_array(tensor), numpy_helper.to_array(known[tensor.name])
        alike = ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.float32
        if alike and np.linalg.norm(ours - theirs) <= _ROUNDING * np.linalg.norm(theirs):
            tensor.CopyFrom(known[tensor.name])
    payload: bytes = other.SerializeToString()
    return payload


def check_same_answers(before: bytes, after: bytes, names: Sequence[str], images: Mapping[str, Array], *, name: str) -> None:
    """Compare two graphs bit by bit.

    Args:
        names: of the outputs that have to be the same.
        images: (H, W, 3) uint8 RGB of the graphs' size.
        name: of the graph, for messages.
    Raises:
        BuildError: naming the first output that differs, and by how much.
    """
    if not images:
        raise BuildError(f"the bundle has no golden frames, which {name} is compared on. Export it again from its checkpoint")
    with contextlib.ExitStack() as opened:
        one, other = (
            opened.enter_context(contextlib.closing(open_backend(REFERENCE_RUNTIME, graph))) for graph in (before, after)
        )
        for stem, image in images.items():
            ((feed, taken),) = one.inputs.items()
            pixels = image[None] if tuple(taken.shape)[-1] == 3 else image.transpose(2, 0, 1)[None].astype(np.float32)
            pixels = np.ascontiguousarray(pixels)
            found, expected = other.run({feed: pixels}), one.run({feed: pixels})
            for output in names:
                if not np.array_equal(found[output], expected[output]):
                    off = float(np.abs(found[output].astype(np.float64) - expected[output]).max())
                    raise BuildError(
                        f"{name} answers golden frame {stem} differently: {output} is off by up to {off:.1e}, where every bit "
                        "should be the same. Export the bundle again with this version and these packages, then add the head"
                    )


def _write_golden(bundle: Bundle, made: Path, stem: str, outputs: Mapping[str, Array]) -> None:
    """What the bundle holds of a golden frame and the outputs that are new, as float16."""
    arrays: dict[str, Any] = {name: value.astype(np.float16) for name, value in outputs.items()}
    stored = f"{GOLDEN}/{stem}.npz"
    if bundle.has(stored):
        with np.load(io.BytesIO(bundle.read(stored))) as before:
            arrays |= {name: before[name] for name in before.files}
    with (made / stored).open("wb") as file:
        np.savez_compressed(file, **arrays)


def _measured(
    predict: OnnxGraph,
    test: FrameSource,
    spec: TaskSpec,
    specs: Specs,
    old: Specs,
    bundle: Bundle,
    *,
    size: tuple[int, int],
    console: Console,
) -> dict[str, dict[str, Any]]:
    """The bundle's accuracy with that of the new task on test frames. Measures of a kind that two tasks share now are called
    by their task."""
    metrics = TaskMetrics({name: one for name, one in specs.items() if name == spec.name})
    for judged in judge(predict, test, {spec.name: spec}, size=size):
        metrics.update(judged.predicted, judged.truths)
    values = {scoped(specs, spec, key): value for key, value in {**metrics.compute(), **metrics.details()}.items()}
    console.print(metrics_table({"fp32": metrics.compute()}, title=f"{spec.name} on {len(test)} held-out frames"))
    names: dict[str, str] = {}
    for one in old.values():
        metric = kind_of(one).metric(one)
        keys = {**metric.compute(), **metric.details()}
        names |= {scoped(old, one, key): scoped(specs, one, key) for key in keys}
    accuracy = {
        name: {names.get(key, key): value for key, value in one.items()} for name, one in bundle.manifest.accuracy.items()
    }
    accuracy["fp32"] = {**accuracy.get("fp32", {}), **figures(values)}
    return accuracy


def _write_labelled(
    bundle: Bundle, folder: Path, spec: TaskSpec, test: FrameSource, count: int, size: tuple[int, int], quality: int
) -> None:
    """Test frames with truths of the new task, beside the labelled frames that there are."""
    stems = {Path(name).stem for name in bundle.list(EVALUATION, suffixes=IMAGE_SUFFIXES)}
    with tempfile.TemporaryDirectory() as place:
        own = Path(place)
        write_evaluation(own, test, {spec.name: spec}, labelled_spread(test, (spec.name,), count, len(test)), size, quality)
        cameras = parse_json((own / "intrinsics.json").read_text())
        merged = parse_json(bundle.read(f"{EVALUATION}/intrinsics.json")) if bundle.has(f"{EVALUATION}/intrinsics.json") else {}
        first = 1 + max((int(stem) for stem in stems if stem.isdigit()), default=-1)
        for stem, camera in cameras.items():
            new = f"{first + int(stem):03d}"
            merged[new] = camera
            for path in own.glob(f"{stem}.*"):
                shutil.copy(path, folder / f"{new}{path.name.removeprefix(stem)}")
    (folder / "intrinsics.json").write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
