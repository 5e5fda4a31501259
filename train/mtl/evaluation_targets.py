"""What train/evaluate.py can measure: checkpoints, the weights of runs, bundles and their engines, each as a predictor.

Knows where models are kept and which frames they were made for; knows nothing about metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from edge_mtl.bundle import MANIFEST, OPTIMIZED_ONNX, Bundle
from edge_mtl.engine_store.engines import EngineRecord, EngineStore
from edge_mtl.errors import BuildError, BundleError, EngineMismatch
from edge_mtl.io_spec import canonical_camera
from edge_mtl.tasks import Specs
from mtl.bundling import load_trained
from mtl.datasets.sources import Split, data_set, data_sets
from mtl.engine_predictor import EngineFrames
from mtl.evaluate import Predictor, ResultPredictor, model_predictor, unlike
from mtl.geometry import Intrinsics
from mtl.onnx_predictor import OnnxGraph
from mtl.schedule import passes_at
from mtl.settings import DataSettings

__all__ = ["Chosen", "EvaluationTarget", "FrameChoice", "engines_here", "evaluation_targets"]

Chosen = Literal["last", "best", "both"]


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Changes to the frames that a model was made for; None keeps its own. Data sets know their folders (`DataSet.holds`)."""

    split: Split
    root: str | None = None
    count: int | None = None
    size: tuple[int, int] | None = None

    def applied(self, data: DataSettings, network: tuple[int, int] | None, tasks: Specs = MappingProxyType({})) -> DataSettings:
        """The settings of the frames to measure on.

        Args:
            network: the size to render at where none is asked for.
            tasks: what the frames should have truths of, where they have any of the same meaning on demand.
        Raises:
            BuildError: another folder for a mixture, or one that has no frames, for a model of frames that are rendered.
        """
        if data.sources and self.root is not None:
            raise BuildError("another folder is for a single data set: the sources of a mixture have one each")
        changes: dict[str, Any] = {"root": self.root} if self.root is not None else {}
        here = data.kind if self.root is None else _kind_in(Path(self.root), data)
        if here != data.kind:
            changes |= {
                "kind": here,
                "validation_from_train": 0,
                "tasks": (),
                "task_names": {},
                "annotations": {},
                "may_skip": 0.0,
            }
        if (size := self.size or network) is not None:
            changes |= {"height": size[0], "width": size[1]}
        if self.count is not None:
            changes |= {"test": self.count, "validation": self.count}
        sources = {name: dataclasses.replace(one, **changes) for name, one in data.sources.items()}
        chosen = dataclasses.replace(data, sources=sources, **changes)
        every = data_set(chosen).with_truths(chosen, tuple(tasks))
        if every == chosen:
            return chosen
        found = data_set(every).tasks(every)
        same = [name for name, spec in tasks.items() if name in found and unlike(spec, found[name]) is None]
        return data_set(chosen).with_truths(chosen, same)


def _kind_in(root: Path, data: DataSettings) -> str:
    """The data set whose files are in another folder; that of `data` where none can be told to be.

    Raises:
        BuildError: none can be told, and that of `data` would render its own frames there, for all who mistype a folder.
    """
    rendered_last = sorted(data_sets().items(), key=lambda pair: pair[1].renders)
    found = next((name for name, one in rendered_last if one.holds(root)), None)
    if found is not None:
        return found
    renders = data.kind in data_sets() and data_sets()[data.kind].renders
    if renders and root != Path(data.root) and not (root.is_dir() and not any(root.iterdir())):
        raise BuildError(
            f"{root} should have frames: dataset.toml (images of your own: docs/guides/own-data.md), NYUv2 as "
            f"train/prepare_nyuv2.py makes it, COCO, ADE20K, ImageNet, BDD100K or Cityscapes, or rooms as "
            f"train/make_rooms.py does; found {'none of them' if root.exists() else 'no such folder'}. "
            "To render rooms there, make an empty folder first"
        )
    return data.kind


@dataclass(frozen=True, slots=True)
class EvaluationTarget:
    """One model to measure.

    Attributes:
        name: within its folder or file: "last", "fp32", "int8 openvino"; "" where there is only one. Of a bundle, "fp32" is its
            graph behind the training code's own steps; what names a runtime runs as a robot runs it.
        size: (H, W) of the network.
        data: where its frames come from.
        step, epoch, parameters: None where nothing tells.
        through: what runs its frames: "training code", or see `EngineFrames`.
        answers_for: the camera that a bundle answers for; None where `data` says it.
    """

    path: Path
    name: str
    predict: Predictor | ResultPredictor
    size: tuple[int, int]
    specs: Specs
    data: DataSettings
    step: int | None = None
    epoch: float | None = None
    parameters: int | None = None
    through: str = "training code"
    answers_for: Intrinsics | None = None


def evaluation_targets(
    path: Path, *, weights: Chosen, engines: bool, frames: FrameChoice, threads: int | None = None
) -> Iterator[EvaluationTarget]:
    """The models at `path`: a checkpoint, the folder of a run (its last and best weights), or the folder of a bundle.

    An engine is open until the next model is asked for.

    Args:
        threads: of the runtimes of a bundle; None for one per core.
    Raises:
        EdgeMtlError: no model is there, or it cannot be used here.
    """
    if path.is_dir() and not (path / MANIFEST).exists() and (path / "last.safetensors").exists():
        if engines:
            raise _no_bundle(path)
        names = ("last", "best") if weights == "both" else (weights,)
        for name in names:
            yield _checkpoint(path / f"{name}.safetensors", name, frames, shown=path)
    elif path.is_dir():
        yield from _bundle(path, engines, frames, threads)
    elif engines:
        raise _no_bundle(path)
    else:
        yield _checkpoint(path, "", frames, shown=path)


def engines_here(bundle: Bundle) -> dict[str, EngineRecord | None]:
    """What can run a bundle here, by the name of its row: its graph in FP32 (None), and every engine that was built here.

    Raises:
        EngineMismatch: none was.
    """
    store = EngineStore(bundle)
    fitting = [one for one in store.list() if store.mismatch(one) is None]
    if not fitting:
        raise EngineMismatch(f"No engine of {bundle.path} was built here. Run: edge-mtl build-engine {bundle.path} --int8")
    built: dict[str, EngineRecord | None] = {"fp32 onnxruntime": None}
    for one in fitting:
        built.setdefault(f"{one.precision} {one.backend}", one)
    return built


def _no_bundle(path: Path) -> BundleError:
    return BundleError(f"{path} is not a bundle: only bundles have engines. Export it with: python train/export.py CHECKPOINT")


def _checkpoint(path: Path, name: str, frames: FrameChoice, *, shown: Path) -> EvaluationTarget:
    trained = load_trained(path)
    settings = trained.settings
    step = int(trained.metadata.get("step", 0))
    return EvaluationTarget(
        path=shown,
        name=name,
        predict=model_predictor(trained.fine_tuned or trained.model),
        size=trained.size,
        specs=trained.model.specs,
        data=frames.applied(settings.data, trained.size, trained.model.specs),
        step=step,
        epoch=passes_at(settings, step),
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
    )


def _bundle(path: Path, engines: bool, frames: FrameChoice, threads: int | None) -> Iterator[EvaluationTarget]:
    bundle = Bundle.open(path)
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    told, specs = bundle.manifest.provenance, bundle.manifest.tasks
    step, parameters = (value if isinstance(value := told.get(key), int) else None for key in ("steps", "parameters"))
    data, camera = frames.applied(DataSettings(), size, specs), canonical_camera(bundle.manifest).as_tuple()

    def target(name: str, predict: Predictor | ResultPredictor, through: str) -> EvaluationTarget:
        return EvaluationTarget(path, name, predict, size, specs, data, step, None, parameters, through, camera)

    built = engines_here(bundle) if engines else {}
    yield target("fp32", OnnxGraph(bundle.read(OPTIMIZED_ONNX), specs, threads=threads), "training code")
    for name, record in built.items():
        with EngineFrames(bundle, record, threads=threads) as engine:
            yield target(name, engine, engine.through)
