"""An ONNX graph as a teacher: any network that says in its notes what its outputs mean (`mtl.distill.graph_notes`).

It takes one frame, (1, 3, h, w) float32 RGB in 0..255 of a fixed size; whatever normalisation it needs is inside. It is run by
OpenVINO in bfloat16 where both are here, a whole batch at once, and only once: its answers and its features are of one run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_mtl.backends import Backend, open_backend
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.files import sha256_bytes
from edge_mtl.onnx_graph.batches import MOST_FRAMES, repeat_frames
from mtl.distill.answers import resized
from mtl.distill.graph_notes import read_notes
from mtl.settings import GraphPrecision

__all__ = ["GraphAnswers", "GraphMaps", "TeacherGraph"]

_FIRST_CHOICE: Mapping[GraphPrecision, Sequence[tuple[str, str]]] = {
    "auto": (("openvino", "bf16"), ("openvino", "fp32"), ("onnxruntime", "fp32")),
    "fp32": (("openvino", "fp32"), ("onnxruntime", "fp32")),
}
"""Runtimes and their precisions, the first that is here is taken."""


class TeacherGraph:
    """The graph of a file, open.

    Args:
        precision: "auto", or "fp32" for an exact one.
        threads: of the runtime; by default as many as PyTorch has.
    Attributes:
        name: of the file.
        sha256: its digest.
        notes: what it says of itself.
        size: (h, w) of its input.
        channels: by output, how many.
        run_by: runtime, its version and precision.
    Raises:
        BuildError: no such file, a graph without notes, or inputs and outputs of another form than they say.
        BundleError: the runtime refuses it.
        BackendUnavailable: none of the runtimes is here, or the package onnx is missing.
    """

    def __init__(self, path: Path, *, precision: GraphPrecision = "auto", threads: int | None = None) -> None:
        if not path.is_file():
            raise BuildError(f"distill.graph: there is no file {path}. Make one with train/make_teacher.py")
        self._model, self.name = path.read_bytes(), path.name
        self.sha256 = sha256_bytes(self._model)
        self.notes = read_notes(self._model, name=str(path))
        self._threads = torch.get_num_threads() if threads is None else threads
        self._runtime, one = self._opened(_FIRST_CHOICE[precision])
        self._by_frames: dict[int, Backend] = {1: one}
        self.run_by = f"{one.info.name} {one.info.version}, {one.info.precision}"
        self.size, self.channels = self._checked(one, path)
        self._input = next(iter(one.inputs))
        self._seen: Tensor | None = None
        self._found: dict[str, Tensor] = {}

    def outputs(self, image: Tensor) -> Mapping[str, Tensor]:
        """All outputs by name, (B, channels, h, w) float32 where the images are; asked twice for the same tensor, it runs once.

        Args:
            image: (B, 3, H, W) float RGB in 0..255; resized to the graph's input, bilinear and antialiased.
        """
        if image is not self._seen:
            self._found, self._seen = self._run(image), image
        return self._found

    @torch.no_grad()
    def _run(self, image: Tensor) -> dict[str, Tensor]:
        with torch.autocast(image.device.type, enabled=False):
            pixels = image.detach().float()
            if tuple(pixels.shape[2:]) != self.size:
                pixels = F.interpolate(pixels, size=self.size, mode="bilinear", align_corners=False, antialias=True)
        found = []
        for part in pixels.cpu().split(MOST_FRAMES):
            if len(part) not in self._by_frames:
                model = repeat_frames(self._model, len(part), name=self.name)
                self._by_frames[len(part)] = self._open(model, *self._runtime)
            found.append(self._by_frames[len(part)].run({self._input: np.ascontiguousarray(part.numpy())}))
        return {name: torch.from_numpy(np.concatenate([one[name] for one in found])).to(image.device) for name in self.channels}

    def _open(self, model: bytes, runtime: str, precision: str) -> Backend:
        return open_backend(runtime, model, threads=self._threads, precision=precision)

    def _opened(self, choices: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], Backend]:
        missing: BackendUnavailable | None = None
        for choice in choices:
            try:
                return choice, self._open(self._model, *choice)
            except BackendUnavailable as exc:
                missing = exc
        assert missing is not None
        raise missing

    def _checked(self, one: Backend, path: Path) -> tuple[tuple[int, int], dict[str, int]]:
        """Size of the input, and channels by output."""
        shapes = [spec.shape for spec in one.inputs.values()]
        image = next(iter(one.inputs.values()), None)
        if image is None or len(shapes) != 1 or image.dtype != np.float32 or len(image.shape) != 4 or image.shape[:2] != (1, 3):
            raise BuildError(
                f"{path} takes {', '.join(map(str, shapes)) or 'nothing'}: expected one image, (1, 3, height, width) float32, "
                "RGB in 0..255. Export it for one frame of a fixed size, with its normalisation inside"
            )
        wanted: dict[str, int | None] = dict.fromkeys(self.notes.features.values())
        classes = {output: len(self.notes.tasks[task].classes) for task, output in self.notes.outputs.items()}
        channels: dict[str, int] = {}
        for name, count in {**wanted, **classes}.items():
            shape = one.outputs[name].shape if name in one.outputs else ()
            if len(shape) != 4 or shape[0] != 1 or (count is not None and shape[1] != count):
                expected = f"(1, {count or 'channels'}, height, width)"
                raise BuildError(
                    f"{path}: its notes name the output {name!r} as a map {expected}; found {shape or 'no such output'}. "
                    "Write them again with mtl.distill.graph_notes.with_notes"
                )
            channels[name] = shape[1]
        return (image.shape[2], image.shape[3]), channels


class GraphAnswers:
    """Answers of a graph, as `mtl.distill.answers.Teacher`.

    Attributes:
        tasks: those that it teaches.
    """

    def __init__(self, graph: TeacherGraph, tasks: Collection[str]) -> None:
        self.tasks = tuple(tasks)
        self._graph = graph

    def to(self, device: torch.device) -> GraphAnswers:
        """The same one: a graph runs on the processor wherever the network is."""
        return self

    def __call__(self, image: Tensor, like: Mapping[str, Any]) -> dict[str, Any]:
        """As `AnswerTeacher`."""
        found, outputs = self._graph.outputs(image), self._graph.notes.outputs
        return {task: resized(found[outputs[task]], like[task]) for task in self.tasks}


class GraphMaps:
    """Features of a graph, as `mtl.distill.features.Maps`.

    Args:
        strides: of the student's maps that they are for.
    Attributes:
        channels: of its maps.
    Raises:
        BuildError: it has none for one of the strides.
    """

    def __init__(self, graph: TeacherGraph, strides: Sequence[int]) -> None:
        have = graph.notes.features
        lacking = next((stride for stride in strides if stride not in have), None)
        if lacking is not None:
            raise BuildError(
                f"distill.graph: {graph.name} has features for maps of strides {', '.join(map(str, have)) or 'none'}, and the "
                f"network has one at {lacking}. Set distill.features_weight to 0, or choose another graph"
            )
        self._graph, self._names = graph, [have[stride] for stride in strides]
        self.channels = tuple(graph.channels[name] for name in self._names)

    def to(self, device: torch.device) -> GraphMaps:
        """The same one."""
        return self

    def __call__(self, image: Tensor) -> list[Tensor]:
        """As `BackboneMaps`."""
        found = self._graph.outputs(image)
        return [found[name] for name in self._names]
