"""Tiny real bundles: a few convolutions, real ONNX graphs, real files, no training framework needed.

Knows the bundle layout; knows nothing about engines. The network is random but its heads are standardised on an image,
so that all classes occur, depth lies around 2 m and normals face the camera. Evaluation targets are the network's own
FP32 answers: full precision scores perfectly, and whatever a quantized graph loses is visible.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, WEIGHTS, Bundle, bundled, write_bundle
from edge_mtl.manifest import InputSpec
from edge_mtl.tasks import (
    DEPTH,
    NORMALS,
    NYU_TASKS,
    SEGMENTATION,
    TASK_NAMES,
    VOID,
    DepthMap,
    LabelMap,
    LabelsSpec,
    NormalMap,
    Result,
    Specs,
    TaskSpec,
    kind_of,
    ordered,
)
from edge_mtl.tasks.depth import DepthSpec
from edge_mtl.tasks.finishing import Answer

ROOMS_B0 = bundled("rooms-b0")
"""A trained network with images in its bundle, whose graphs and figures tests know; the demo bundle changes, this does not."""
HEIGHT, WIDTH = 64, 96
OPSET, IR_VERSION = 20, 10
HOST_OUTPUTS = {SEGMENTATION: "segmentation_logits", DEPTH: "depth_quarter", NORMALS: "normals_quarter"}
CHANNELS = {SEGMENTATION: 13, DEPTH: 1, NORMALS: 3}


def study_specs(tasks: Sequence[str] = TASK_NAMES) -> dict[str, TaskSpec]:
    """Some of the study's three tasks."""
    return {name: NYU_TASKS[name] for name in TASK_NAMES if name in tasks}


def answer_of(maps: Mapping[str, Any], *, bad_values: int = 0, confidence: Any = None) -> Answer:
    """Maps by the names of the study's tasks as the answer of a graph; a map that is None is left out."""
    made: dict[str, Result] = {}
    for name, values in maps.items():
        if name == SEGMENTATION and values is not None:
            made[name] = LabelMap(cast(LabelsSpec, NYU_TASKS[name]), values, confidence)
        elif name == DEPTH and values is not None:
            made[name] = DepthMap(cast(DepthSpec, NYU_TASKS[name]), values)
        elif name == NORMALS and values is not None:
            made[name] = NormalMap(NYU_TASKS[name], values)
    return Answer(made, bad_values)


def canonical_intrinsics(height: int = HEIGHT, width: int = WIDTH) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) of the canonical camera at this network size: the lens of the real bundles."""
    focal = 353.0 * width / 384.0
    return focal, focal, (width - 1) / 2, (height - 1) / 2


def make_image(seed: int = 0, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 3) uint8: smooth random colours with a little grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 7, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + random.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)


def host_model(*, tasks: Sequence[str] = TASK_NAMES, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> bytes:
    """model.deploy.onnx: float32 (1, 3, H, W) planes of 0..255 in, quarter-resolution maps out."""
    return _host_graph(_network(tuple(tasks), height, width, seed), tasks, height, width)


def graph_model(*, tasks: Sequence[str] = TASK_NAMES, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> bytes:
    """model.onnx: uint8 (1, H, W, 3) RGB in, full-resolution maps out; the same network."""
    return _plain_graph(_network(tuple(tasks), height, width, seed, source="planes"), tasks, height, width)


def dense_model(specs: Specs, *, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> bytes:
    """As `host_model`, for tasks of any dense kinds, each with random weights; what kinds need positive is made so."""
    nodes, constants, outputs = trunk("image"), dict(trunk_weights(seed)), []
    random = np.random.default_rng(seed + 2)
    for spec in specs.values():
        ((output, shape),) = kind_of(spec).outputs(spec, (height, width), "host").items()
        constants[f"{output}.weight"] = random.normal(0, 1, (shape[1], 16, 1, 1)).astype(np.float32)
        raw = f"{output}_raw" if kind_of(spec).metric_scale else output
        nodes.append(helper.make_node("Conv", ["features", f"{output}.weight"], [raw], name=f"/{output}/head"))
        if raw != output:
            nodes.append(helper.make_node("Softplus", [raw], [output], name=f"/{output}/softplus"))
        outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape)))
    image_in = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])
    return model_of(nodes, [image_in], outputs, constants)


def transparent_model(*, height: int = HEIGHT, width: int = WIDTH, placement: str = "host") -> bytes:
    """A network whose answer is painted on the image, to test geometry with: see `paint`."""
    graph = _transparent_network("image" if placement == "host" else "planes")
    build = _host_graph if placement == "host" else _plain_graph
    return build(graph, TASK_NAMES, height, width)


def paint(depth_m: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 image that `transparent_model` reads as these canonical maps.

    Args:
        depth_m: (H, W) in 0..5 m, which also decides the class: 0..12 over that range.
        normals: (H, W, 3) with z < 0 and x, y at most as long as z.
    """
    slope = normals[..., :2] / -normals[..., 2:]
    return np.dstack([depth_m * 51.0, (slope + 1.0) * 127.5]).round().clip(0, 255).astype(np.uint8)


def safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of float32 and int64 arrays, written by hand: its package is not needed to run the tests."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    payload = b""
    for name, value in tensors.items():
        kind = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}[value.dtype]
        end = len(payload) + value.nbytes
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(payload), end]}
        payload += value.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + payload


def reference(model: bytes, frame: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a host-placement `model` for a network-sized frame, by ONNX's own evaluator: no runtime involved."""
    return {name: array.copy() for name, array in _reference(model, frame.tobytes(), frame.shape).items()}


@lru_cache(maxsize=256)
def _reference(model: bytes, pixels: bytes, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    frame = np.frombuffer(pixels, np.uint8).reshape(shape)
    planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)
    proto = onnx.load_from_string(model)
    names = [output.name for output in proto.graph.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(None, {"image": planes}), strict=True))


def make_bundle(
    path: Path,
    *,
    tasks: Sequence[str] = TASK_NAMES,
    of_kinds: Specs | None = None,
    height: int = HEIGHT,
    width: int = WIDTH,
    seed: int = 0,
    calibration: int = 6,
    evaluation: int = 4,
    golden: int = 2,
    plain: bytes | None = None,
    deploy: bytes | None = None,
    placement: str = "host",
    whole: bool = False,
    replace: bool = False,
    image: Callable[..., np.ndarray] = make_image,
    weights: Mapping[str, np.ndarray] | None = None,
    truths: Callable[[np.ndarray], Mapping[str, bytes]] | None = None,
) -> Bundle:
    """Write a complete bundle to `path`: both graphs, calibration, evaluation and golden frames.

    Args:
        tasks: any subset of the three.
        of_kinds: tasks of any kinds, in place of `tasks`, with their graphs as `plain` and `deploy`.
        calibration, evaluation, golden: how many frames of each.
        plain, deploy: graphs to store in place of the tiny network's; golden outputs come from `deploy`.
        placement: "graph" leaves the optimized ONNX out, so that an engine runs the plain one.
        whole: whether the graphs lie there as files of their own, as in bundles before 0.2, and no weights beside them.
        image: makes the frames, as `make_image` does.
        weights: of `plain` and `deploy`, in place of the tiny network's.
        truths: of a frame besides the three tasks' own: what files beside it hold, by ending.
    """
    network: dict[str, Any] = {"tasks": tuple(tasks), "height": height, "width": width, "seed": seed}
    deploy_model = host_model(**network) if deploy is None else deploy
    plain_model = graph_model(**network) if plain is None else plain

    def fill(folder: Path) -> None:
        (folder / REFERENCE_ONNX).write_bytes(plain_model)
        if placement == "host":
            (folder / OPTIMIZED_ONNX).write_bytes(deploy_model)
        if not whole:
            (folder / WEIGHTS).write_bytes(
                safetensors(_network(tuple(tasks), height, width, seed)[1] if weights is None else weights)
            )
        for name in ("calibration", "evaluation", "golden"):
            (folder / name).mkdir()
        for index in range(calibration):
            write_image(folder / "calibration" / f"{index:03d}.png", image(1000 + index, height=height, width=width))
        for index in range(golden):
            frame = image(2000 + index, height=height, width=width)
            write_image(folder / "golden" / f"{index:03d}.png", frame)
            stream = io.BytesIO()
            arrays = {name: array.astype(np.float16) for name, array in reference(deploy_model, frame).items()}
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            (folder / "golden" / f"{index:03d}.npz").write_bytes(stream.getvalue())
        intrinsics = {}
        for index in range(evaluation):
            frame = image(3000 + index, height=height, width=width)
            _write_targets(folder / "evaluation", f"{index:03d}", frame, full_maps(reference(deploy_model, frame)))
            for ending, payload in ({} if truths is None else truths(frame)).items():
                (folder / "evaluation" / f"{index:03d}{ending}").write_bytes(payload)
            intrinsics[f"{index:03d}"] = list(canonical_intrinsics(height, width))
        (folder / "evaluation" / "intrinsics.json").write_text(json.dumps(intrinsics))

    return write_bundle(
        Path(path),
        fill,
        name="tiny",
        tasks=study_specs(tasks) if of_kinds is None else ordered(of_kinds),
        input=InputSpec(height, width),
        canonical_intrinsics=canonical_intrinsics(height, width),
        provenance={"dataset": "random images", "dataset_licence": "none needed", "command": "tests/bundles.py"},
        accuracy={},
        calibration={"count": calibration, "source": "random images"},
        replace=replace,
    )


def full_maps(quarter: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Definition of the post-processing at network size, written as plainly as possible: the oracle of the tests.

    Returns:
        segmentation (H, W) uint8, confidence (H, W) float32, depth (H, W) float32 canonical metres and
        normals (H, W, 3) float32 unit, for the tasks that `quarter` has.
    """
    maps: dict[str, np.ndarray] = {}
    if HOST_OUTPUTS[SEGMENTATION] in quarter:
        logits = _upsample(quarter[HOST_OUTPUTS[SEGMENTATION]][0])
        exponent = np.exp(logits - logits.max(axis=0))
        maps["segmentation"] = logits.argmax(axis=0).astype(np.uint8)
        maps["confidence"] = (1.0 / exponent.sum(axis=0)).astype(np.float32)
    if HOST_OUTPUTS[DEPTH] in quarter:
        maps["depth"] = _upsample(quarter[HOST_OUTPUTS[DEPTH]][0])[0].astype(np.float32)
    if HOST_OUTPUTS[NORMALS] in quarter:
        normals = _upsample(quarter[HOST_OUTPUTS[NORMALS]][0])
        maps["normals"] = (normals / np.linalg.norm(normals, axis=0)).transpose(1, 2, 0).astype(np.float32)
    return maps


def write_image(path: Path, rgb: np.ndarray) -> None:
    """Store an (H, W, 3) uint8 RGB image."""
    if not cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path} could not be written")


def _upsample(maps: np.ndarray, factor: int = 4) -> np.ndarray:
    """Bilinear with half-pixel centres, (C, h, w) -> (C, factor h, factor w) float64."""
    wide = maps.astype(np.float64)
    for axis in (1, 2):
        size = wide.shape[axis]
        position = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
        low = np.minimum(position.astype(int), size - 1)
        high = np.minimum(low + 1, size - 1)
        weight = (position - low).reshape([-1 if a == axis else 1 for a in range(3)])
        wide = wide.take(low, axis) * (1 - weight) + wide.take(high, axis) * weight
    return wide


def _write_targets(folder: Path, name: str, frame: np.ndarray, maps: Mapping[str, np.ndarray]) -> None:
    write_image(folder / f"{name}.png", frame)
    if "segmentation" in maps:
        label = maps["segmentation"].copy()
        label[:2] = VOID
        cv2.imwrite(str(folder / f"{name}.label.png"), label)
    if "depth" in maps:
        depth = np.round(maps["depth"] * 5000)
        depth[-2:] = 0
        cv2.imwrite(str(folder / f"{name}.depth.png"), np.clip(depth, 0, 65535).astype(np.uint16))
    if "normals" in maps:
        write_image(folder / f"{name}.normals.png", (np.round(maps["normals"] * 127) + 128).astype(np.uint8))


Graph = tuple[list[onnx.NodeProto], dict[str, np.ndarray]]


def _host_graph(network: Graph, tasks: Sequence[str], height: int, width: int) -> bytes:
    outputs = [
        helper.make_tensor_value_info(HOST_OUTPUTS[task], TensorProto.FLOAT, [1, CHANNELS[task], height // 4, width // 4])
        for task in tasks
    ]
    image_in = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])
    return model_of(network[0], [image_in], outputs, network[1])


def _plain_graph(network: Graph, tasks: Sequence[str], height: int, width: int) -> bytes:
    constants = {**network[1], "scales": np.array([1, 1, 4, 4], np.float32), "axis1": np.array([1], np.int64)}
    before = [
        helper.make_node("Cast", ["image"], ["image_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["image_float"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    after, outputs = [], []
    for task in tasks:
        after.append(
            helper.make_node(
                "Resize",
                [HOST_OUTPUTS[task], "", "scales"],
                [f"{task}_full"],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        )
        tail, kind, shape = _TAILS[task](height, width)
        after += tail
        outputs.append(helper.make_tensor_value_info(task, kind, shape))
    image_in = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])
    return model_of([*before, *network[0], *after], [image_in], outputs, constants)


def _transparent_network(source: str) -> Graph:
    """The mean colour of each cell, read as depth (red), slope of the normal (green, blue) and class (red)."""
    mean = np.zeros((3, 3, 4, 4), np.float32)
    mean[[0, 1, 2], [0, 1, 2]] = 1 / 16
    levels = (np.arange(13) + 0.5) / 13 * 5.0
    classes = np.zeros((13, 3, 1, 1), np.float32)
    classes[:, 0, 0, 0] = 2 * levels / 51.0
    depth = np.zeros((1, 3, 1, 1), np.float32)
    depth[0, 0] = 1 / 51.0
    normals = np.zeros((3, 3, 1, 1), np.float32)
    normals[0, 1] = normals[1, 2] = 1 / 127.5
    weights = {
        SEGMENTATION: (classes, (-(levels**2)).astype(np.float32)),
        DEPTH: (depth, np.array([1e-3], np.float32)),
        NORMALS: (normals, np.array([-1, -1, -1], np.float32)),
    }
    nodes = [helper.make_node("Conv", [source, "mean"], ["cells"], kernel_shape=[4, 4], strides=[4, 4])]
    constants = {"mean": mean}
    for task, (weight, bias) in weights.items():
        constants |= {f"{task}.weight": weight, f"{task}.bias": bias}
        nodes.append(helper.make_node("Conv", ["cells", f"{task}.weight", f"{task}.bias"], [HOST_OUTPUTS[task]]))
    return nodes, constants


def _segmentation_tail(height: int, width: int) -> tuple[list[onnx.NodeProto], int, list[int]]:
    nodes = [
        helper.make_node("ArgMax", ["segmentation_full"], ["segmentation_index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["segmentation_index"], ["segmentation"], to=TensorProto.UINT8),
    ]
    return nodes, TensorProto.UINT8, [1, height, width]


def _depth_tail(height: int, width: int) -> tuple[list[onnx.NodeProto], int, list[int]]:
    return [helper.make_node("Squeeze", ["depth_full", "axis1"], ["depth"])], TensorProto.FLOAT, [1, height, width]


def _normals_tail(height: int, width: int) -> tuple[list[onnx.NodeProto], int, list[int]]:
    nodes = [
        helper.make_node("ReduceL2", ["normals_full", "axis1"], ["normals_length"], keepdims=1),
        helper.make_node("Div", ["normals_full", "normals_length"], ["normals_unit"]),
        helper.make_node("Transpose", ["normals_unit"], ["normals"], perm=[0, 2, 3, 1]),
    ]
    return nodes, TensorProto.FLOAT, [1, height, width, 3]


_TAILS: dict[str, Callable[[int, int], tuple[list[onnx.NodeProto], int, list[int]]]] = {
    SEGMENTATION: _segmentation_tail,
    DEPTH: _depth_tail,
    NORMALS: _normals_tail,
}


def _network(tasks: tuple[str, ...], height: int, width: int, seed: int, *, source: str = "image") -> Graph:
    """Nodes and weights from `source` (1, 3, H, W) 0..255 to the host outputs of `tasks`."""
    if height % 4 or width % 4:
        raise ValueError(f"the tiny network needs multiples of 4; found {height}x{width}")
    constants = dict(trunk_weights(seed))
    nodes = trunk(source)
    heads = _head_weights(height, width, seed)
    for task in tasks:
        constants[f"{task}.weight"], constants[f"{task}.bias"] = heads[task]
        raw = "depth_raw" if task == DEPTH else HOST_OUTPUTS[task]
        nodes.append(helper.make_node("Conv", ["features", f"{task}.weight", f"{task}.bias"], [raw], name=f"/{task}/head"))
        if task == DEPTH:
            nodes.append(helper.make_node("Softplus", ["depth_raw"], [HOST_OUTPUTS[DEPTH]], name="/depth/softplus"))
    return nodes, constants


def trunk(source: str) -> list[onnx.NodeProto]:
    def conv(name: str, inputs: str, output: str, stride: int, *, size: int = 3, group: int = 1) -> onnx.NodeProto:
        return helper.make_node(
            "Conv",
            [inputs, f"{name}.weight", f"{name}.bias"],
            [output],
            name=f"/{name}",
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
            group=group,
        )

    return [
        conv("stem", source, "stem_raw", 2),
        helper.make_node("Relu", ["stem_raw"], ["stem"], name="/stem/relu"),
        conv("depthwise", "stem", "depthwise", 2, group=8),
        conv("pointwise", "depthwise", "pointwise_raw", 1, size=1),
        helper.make_node("Relu", ["pointwise_raw"], ["pointwise"], name="/pointwise/relu"),
        conv("residual", "pointwise", "residual", 1),
        helper.make_node("Add", ["pointwise", "residual"], ["sum"], name="/add"),
        helper.make_node("Relu", ["sum"], ["features"], name="/relu"),
    ]


def trunk_weights(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"stem": (8, 3, 3, 3), "depthwise": (8, 1, 3, 3), "pointwise": (16, 8, 1, 1), "residual": (16, 16, 3, 3)}
    weights: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2.0 / np.prod(shape[1:])) / (255.0 if name == "stem" else 1.0)
        weights[f"{name}.weight"] = (random.normal(0, 1, shape) * scale).astype(np.float32)
        weights[f"{name}.bias"] = random.normal(0, 0.1, shape[0]).astype(np.float32)
    return weights


@lru_cache(maxsize=8)
def _head_weights(height: int, width: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random 1x1 heads, scaled on one image: logits of spread 3, depth around 2 m, normals towards the camera."""
    features_out = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 16, height // 4, width // 4])
    image_in = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])
    network = model_of(trunk("image"), [image_in], [features_out], trunk_weights(seed))
    features = reference(network, make_image(seed, height=height, width=width))["features"][0].reshape(16, -1)
    random = np.random.default_rng(seed + 1)
    wanted = {SEGMENTATION: ([3.0] * 13, [0.0] * 13), DEPTH: ([0.5], [2.0]), NORMALS: ([0.4, 0.4, 0.1], [0.0, 0.0, -1.0])}
    heads = {}
    for task, (spread, centre) in wanted.items():
        weight = random.normal(0, 1, (CHANNELS[task], 16))
        raw = weight @ features
        weight *= (np.array(spread) / (raw.std(axis=1) + 1e-6))[:, None]
        bias = np.array(centre) - (weight @ features).mean(axis=1)
        heads[task] = (weight[:, :, None, None].astype(np.float32), bias.astype(np.float32))
    return heads


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray],
) -> bytes:
    weights = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
