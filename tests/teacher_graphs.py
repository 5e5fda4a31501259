"""Tiny ONNX graphs that teach: one frame in, log-probabilities of classes at stride 4 and features at strides 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from mtl.distill.graph_notes import TeacherNotes, with_notes
from onnx import TensorProto, helper, numpy_helper

from edge_mtl.tasks import LabelsSpec

__all__ = ["FEATURES", "SIZE", "noted", "notes_of", "teacher_graph"]

SIZE = (32, 64)
"""(H, W) that it takes."""

FEATURES = {8: 5, 16: 6, 32: 7}
"""By stride, channels of the features."""


def teacher_graph(classes: int, *, size: tuple[int, int] = SIZE, frames: int = 1, seed: int = 0) -> bytes:
    """Outputs "answers" (frames, classes, h/4, w/4), and "features8" and so on; without notes."""
    draws = np.random.default_rng(seed)
    height, width = size
    weights, nodes, outputs = [], [], []

    def convolution(source: str, name: str, channels: int, stride: int) -> None:
        values = draws.normal(0, 0.5 / stride, (channels, 3, stride, stride)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"{name}_weight"))
        nodes.append(helper.make_node("Conv", [source, f"{name}_weight"], [name], strides=[stride, stride]))

    def output(name: str, channels: int, stride: int) -> None:
        shape = [frames, channels, height // stride, width // stride]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    weights.append(numpy_helper.from_array(np.array(1 / 127.5, np.float32), "factor"))
    weights.append(numpy_helper.from_array(np.array(1, np.float32), "one"))
    nodes += [
        helper.make_node("Mul", ["image", "factor"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["normal"]),
    ]
    convolution("normal", "logits", classes, 4)
    nodes.append(helper.make_node("LogSoftmax", ["logits"], ["answers"], axis=1))
    output("answers", classes, 4)
    for stride, channels in FEATURES.items():
        convolution("normal", f"features{stride}", channels, stride)
        output(f"features{stride}", channels, stride)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [frames, 3, height, width])
    graph = helper.make_graph(nodes, "teacher", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def notes_of(
    spec: LabelsSpec, *, features: Sequence[int] = tuple(FEATURES), about: Mapping[str, Any] | None = None
) -> TeacherNotes:
    """Those of `teacher_graph`."""
    names = {stride: f"features{stride}" for stride in features}
    return TeacherNotes({spec.name: spec}, {spec.name: "answers"}, names, about or {})


def noted(spec: LabelsSpec, **options: Any) -> bytes:
    """A graph that teaches a task, with its notes."""
    return with_notes(teacher_graph(len(spec.classes)), notes_of(spec, **options))
