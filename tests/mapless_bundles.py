"""Tiny real bundles whose results are no maps, alone or beside maps: a class of the frame, and boxes of two strides.

The heads are standardised on a few images, so that classes change from frame to frame and some cells hold an object. Truths of
the evaluation frames are the network's own FP32 answers, as in `tests.bundles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_mtl.bundle import Bundle
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import letterbox
from edge_mtl.tasks import Boxes, BoxesSpec, BoxTruth, ClassScores, Result, Specs, TaskSpec, graph_outputs, kind_of, read_tasks
from edge_mtl.tasks.areas import MapArea
from tests.bundles import HEIGHT, WIDTH, make_bundle, make_image, model_of, reference, trunk, trunk_weights

OBJECTS, SCENES = ("chair", "table", "lamp"), ("bedroom", "kitchen", "living room", "office", "bathroom", "hall")
TASKS = ("objects", "scene")
_ENTRIES: dict[str, dict[str, Any]] = {
    "objects": {"kind": "boxes", "classes": list(OBJECTS), "levels": [8, 16], "score": 0.3, "nms_iou": 0.6, "most": 20},
    "scene": {"kind": "class", "classes": list(SCENES)},
    "depth": {"kind": "depth"},
}
_FEATURES = 16
_LOOKED_AT = 8
"""Images that the heads are standardised on."""


def mapless_specs(tasks: Sequence[str] = TASKS) -> dict[str, TaskSpec]:
    """ "objects" of three classes at strides 8 and 16, "scene" of six classes, "depth"; some of them."""
    return read_tasks({name: entry for name, entry in _ENTRIES.items() if name in tasks})


def mapless_model(specs: Specs, *, placement: str = "host", height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """A graph of either placement for tasks of `mapless_specs`. In graphs of finished maps depth is upsampled, the others are
    as they are.
    """
    host = placement == "host"
    nodes, constants = _network(tuple(specs), "image" if host else "planes")
    before, after = [], []
    if not host:
        before = [
            helper.make_node("Cast", ["image"], ["image_float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["image_float"], ["planes"], perm=[0, 3, 1, 2]),
        ]
        if "depth" in specs:
            constants |= {"scales": np.array([1, 1, 4, 4], np.float32), "axis1": np.array([1], np.int64)}
            half_pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            after = [
                helper.make_node("Resize", ["depth_quarter", "", "scales"], ["depth_full"], **half_pixel),
                helper.make_node("Squeeze", ["depth_full", "axis1"], ["depth"]),
            ]
    kind, shape = (TensorProto.FLOAT, [1, 3, height, width]) if host else (TensorProto.UINT8, [1, height, width, 3])
    found = graph_outputs(specs, (height, width), "host" if host else "graph")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(sides)) for name, sides in found.items()]
    image_in = helper.make_tensor_value_info("image", kind, shape)
    return model_of([*before, *nodes, *after], [image_in], outputs, constants)


def mapless_bundle(path: Path, *, tasks: Sequence[str] = TASKS, evaluation: int = 4, **options: Any) -> Bundle:
    """A complete bundle of these tasks, see `tests.bundles.make_bundle`; truths lie beside its evaluation frames."""
    specs = mapless_specs(tasks)
    deploy, plain = mapless_model(specs), mapless_model(specs, placement="graph")
    constants = _network(tuple(specs), "image")[1]
    return make_bundle(
        path,
        of_kinds=specs,
        deploy=deploy,
        plain=plain,
        weights=constants,
        truths=lambda frame: truth_files(specs, deploy, frame),
        evaluation=evaluation,
        **options,
    )


def truth_files(specs: Specs, model: bytes, frame: np.ndarray) -> dict[str, bytes]:
    """By ending, the answers of a host-placement `model` as truths of tasks that are no maps."""
    found: dict[str, bytes] = {}
    for name, result in answers(specs, model, frame).items():
        if isinstance(result, ClassScores):
            found |= kind_of(specs[name]).write_truth(specs[name], result.index)
        elif isinstance(result, Boxes):
            truth = BoxTruth(result.xyxy, result.classes, np.zeros(len(result), bool))
            found |= kind_of(specs[name]).write_truth(specs[name], truth)
    return found


def answers(specs: Specs, model: bytes, frame: np.ndarray) -> dict[str, Result]:
    """What a host-placement `model` says of a network-sized frame, by ONNX's own evaluator."""
    size = frame.shape[0], frame.shape[1]
    area, outputs = MapArea.of(letterbox(size, size), "network", "host"), reference(model, frame)
    return {
        name: cast(Result, kind_of(spec).finish(spec, outputs, area, None, BufferPool())[0]) for name, spec in specs.items()
    }


Graph = tuple[list[onnx.NodeProto], dict[str, np.ndarray]]


def _network(tasks: tuple[str, ...], source: str) -> Graph:
    nodes, constants = trunk(source), dict(trunk_weights(0))
    for name in tasks:
        spec = mapless_specs()[name] if name in TASKS else None
        head = _class_head() if name == "scene" else _depth_head() if spec is None else _boxes_head(cast(BoxesSpec, spec))
        nodes += head[0]
        constants |= head[1]
    return nodes, constants


def _conv(name: str, source: str, output: str, *, size: int = 1, stride: int = 1) -> onnx.NodeProto:
    sizes = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [size // 2] * 4}
    return helper.make_node(
        "Conv", [source, f"{name}.weight", f"{name}.bias"], [output], name="/" + name.replace(".", "/"), **sizes
    )


def _class_head() -> Graph:
    nodes = [
        helper.make_node("GlobalAveragePool", ["features"], ["scene_mean"], name="/heads/scene/mean"),
        _conv("heads.scene.output", "scene_mean", "scene_raw"),
        helper.make_node("Flatten", ["scene_raw"], ["scene_logits"], axis=1, name="/heads/scene/flatten"),
    ]
    seen = _seen([nodes[0]], {}, "scene_mean")
    return nodes, _standardised("heads.scene.output", seen, [2.0] * len(SCENES), [0.0] * len(SCENES))


def _depth_head() -> Graph:
    nodes = [
        _conv("heads.depth.output", "features", "depth_raw"),
        helper.make_node("Softplus", ["depth_raw"], ["depth_quarter"], name="/heads/depth/softplus"),
    ]
    return nodes, _standardised("heads.depth.output", _seen([], {}, "features"), [0.5], [2.0])


def _boxes_head(spec: BoxesSpec) -> Graph:
    """One step down per stride, the coarser added to the finer, then scores and distances of each."""
    random = np.random.default_rng(11)
    nodes, constants = [], {"heads.objects.twice": np.array([1, 1, 2, 2], np.float32)}
    below = "features"
    for stride in spec.levels:
        name = f"heads.objects.down_{stride}"
        shape = (_FEATURES, _FEATURES, 3, 3)
        constants[f"{name}.weight"] = (random.normal(0, 1, shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        constants[f"{name}.bias"] = np.zeros(_FEATURES, np.float32)
        nodes.append(_conv(name, below, f"down_{stride}_raw", size=3, stride=2))
        nodes.append(
            helper.make_node("Relu", [f"down_{stride}_raw"], [f"down_{stride}"], name=f"/heads/objects/down_{stride}/relu")
        )
        below = f"down_{stride}"
    fine, coarse = spec.levels
    nodes.append(
        helper.make_node(
            "Resize",
            [f"down_{coarse}", "", "heads.objects.twice"],
            ["coarse_twice"],
            mode="nearest",
            name="/heads/objects/twice",
        )
    )
    nodes.append(helper.make_node("Add", [f"down_{fine}", "coarse_twice"], ["level_fine"], name="/heads/objects/add"))
    shared = list(nodes), dict(constants)
    for stride, level in zip(spec.levels, ("level_fine", f"down_{coarse}"), strict=True):
        seen = _seen(*shared, level)
        scores, boxes = f"heads.objects.scores_{stride}", f"heads.objects.boxes_{stride}"
        nodes.append(_conv(scores, level, f"objects_scores_{stride}"))
        nodes.append(_conv(boxes, level, f"objects_raw_{stride}"))
        nodes.append(
            helper.make_node(
                "Relu", [f"objects_raw_{stride}"], [f"objects_boxes_{stride}"], name=f"/heads/objects/boxes_{stride}/relu"
            )
        )
        constants |= _standardised(scores, seen, [3.0] * len(spec.classes), [-7.0] * len(spec.classes))
        constants |= _standardised(boxes, seen, [0.4] * 4, [1.4] * 4)
    return nodes, constants


def _seen(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], tensor: str) -> np.ndarray:
    """(16, N) values of a tensor on the images that heads are standardised on."""
    image_in = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])
    value = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, _FEATURES, "rows", "columns"])
    model = model_of([*trunk("image"), *nodes], [image_in], [value], {**trunk_weights(0), **constants})
    return np.concatenate([reference(model, image)[tensor].reshape(_FEATURES, -1) for image in _images()], axis=1)


@lru_cache(maxsize=1)
def _images() -> tuple[np.ndarray, ...]:
    return tuple(make_image(5000 + number) for number in range(_LOOKED_AT))


def _standardised(name: str, seen: np.ndarray, spread: Sequence[float], centre: Sequence[float]) -> dict[str, np.ndarray]:
    """Weights of a 1x1 convolution whose outputs on `seen` have this spread and mean."""
    random = np.random.default_rng(len(name))
    weight = random.normal(0, 1, (len(spread), _FEATURES))
    weight *= (np.array(spread) / ((weight @ seen).std(axis=1) + 1e-6))[:, None]
    bias = np.array(centre) - (weight @ seen).mean(axis=1)
    return {f"{name}.weight": weight[:, :, None, None].astype(np.float32), f"{name}.bias": bias.astype(np.float32)}
