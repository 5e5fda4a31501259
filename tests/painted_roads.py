"""A real bundle whose network reads its answers off the image: streets are painted, then predicted, and both are compared.

Red says what may be driven on, green how far away it is, blue where lines are; the bluest cells are the middles of cars, whose
boxes all have one size.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from mtl.datasets.streets.classes import DRIVABLE_CLASSES, LANE_CLASSES, OBJECT_CLASSES
from onnx import NodeProto, TensorProto, helper

from edge_mtl.bundle import Bundle
from edge_mtl.tasks import Specs, graph_outputs, read_tasks
from tests.bundles import make_bundle, model_of
from tests.streets import SIZE

FAR_M = 80.0
BOX = (-20.0, -14.0, 20.0, 10.0)
"""Edges of a car's box from the middle of its cell of 8 pixels."""
_RED, _BLUE, _CAR = (0, 255, 127), (0, 60, 120, 180), 255
"""By class of drivable area and of lanes; background lies between the others, as a border between them has its colour."""


def painted_specs() -> Specs:
    """The four tasks of streets."""
    return read_tasks(
        {
            "objects": {"kind": "boxes", "classes": list(OBJECT_CLASSES), "levels": [8, 16]},
            "drivable": {"kind": "labels", "classes": list(DRIVABLE_CLASSES)},
            "lane": {"kind": "labels", "classes": list(LANE_CLASSES)},
            "depth": {"kind": "depth", "range_m": [0.5, FAR_M]},
        }
    )


def paint(
    drivable: np.ndarray, depth_m: np.ndarray, lanes: np.ndarray, *, cars: tuple[tuple[int, int], ...] = ()
) -> np.ndarray:
    """(H, W, 3) uint8 of (H, W) classes and canonical metres, 0 where unknown; cars by the row and column of their cell."""
    green = np.sqrt(np.clip(depth_m, 0, FAR_M) / FAR_M) * 255
    image = np.dstack([np.array(_RED)[drivable], green, np.array(_BLUE)[lanes]]).round().astype(np.uint8)
    for row, column in cars:
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, 2] = _CAR
    return image


def painted_bundle(path: Path) -> Bundle:
    """A complete bundle at the size of `tests.streets`; it knows one camera, that of `make_bundle`."""
    specs, (height, width) = painted_specs(), SIZE
    host, constants = _network("image")
    before = [
        helper.make_node("Cast", ["image"], ["image_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["image_float"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    deploy = _model(specs, "host", host, constants)
    after, more = _finished()
    plain = _model(specs, "graph", [*before, *_network("planes")[0], *after], constants | more)
    return make_bundle(
        path,
        of_kinds=specs,
        deploy=deploy,
        plain=plain,
        weights=constants,
        height=height,
        width=width,
        calibration=2,
        evaluation=0,
        golden=1,
    )


def _model(specs: Specs, placement: str, nodes: list[NodeProto], constants: dict[str, np.ndarray]) -> bytes:
    height, width = SIZE
    host = placement == "host"
    found = graph_outputs(specs, SIZE, "host" if host else "graph")
    kinds = {name: TensorProto.UINT8 if not host and name in ("drivable", "lane") else TensorProto.FLOAT for name in found}
    outputs = [helper.make_tensor_value_info(name, kinds[name], list(shape)) for name, shape in found.items()]
    kind, shape = (TensorProto.FLOAT, [1, 3, height, width]) if host else (TensorProto.UINT8, [1, height, width, 3])
    return cast(bytes, model_of(nodes, [helper.make_tensor_value_info("image", kind, shape)], outputs, constants))


def _network(source: str) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    constants: dict[str, np.ndarray] = {}
    nodes: list[NodeProto] = []

    def conv(name: str, weight: np.ndarray, bias: list[float], inputs: str, output: str, stride: int = 1) -> None:
        constants[f"{name}.weight"] = weight.astype(np.float32)
        constants[f"{name}.bias"] = np.array(bias, np.float32)
        sizes = {"kernel_shape": list(weight.shape[2:]), "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [inputs, f"{name}.weight", f"{name}.bias"], [output], name=f"/{name}", **sizes))

    def classes(name: str, channel: int, codes: tuple[int, ...], output: str) -> None:
        """Logits whose largest is that of the nearest code."""
        weight = np.zeros((len(codes), 3, 1, 1))
        weight[:, channel, 0, 0] = np.array(codes) / 500
        conv(name, weight, [-code * code / 1000 for code in codes], "cells", output)

    mean = np.eye(3)[:, :, None, None]
    conv("cells", np.broadcast_to(mean / 16, (3, 3, 4, 4)).copy(), [0.0] * 3, source, "cells", 4)
    classes("drivable", 0, _RED, "drivable_logits")
    classes("lane", 2, _BLUE, "lane_logits")
    root = np.zeros((1, 3, 1, 1))
    root[0, 1] = np.sqrt(FAR_M) / 255
    conv("depth", root, [0.01], "cells", "depth_root")
    nodes.append(helper.make_node("Mul", ["depth_root", "depth_root"], ["depth_quarter"], name="/depth/square"))
    left, top, right, bottom = BOX
    scores = np.zeros((len(OBJECT_CLASSES), 3, 1, 1))
    scores[OBJECT_CLASSES.index("car"), 2] = 0.3
    none = [-40.0] * len(OBJECT_CLASSES)
    for stride in (8, 16):
        conv(
            f"mean_{stride}",
            np.broadcast_to(mean / 4, (3, 3, 2, 2)).copy(),
            [0.0] * 3,
            "cells" if stride == 8 else "mean_8",
            f"mean_{stride}",
            2,
        )
        bias = [-0.3 * 250 if name == "car" else value for name, value in zip(OBJECT_CLASSES, none, strict=True)]
        conv(f"scores_{stride}", scores if stride == 8 else scores * 0, bias, f"mean_{stride}", f"objects_scores_{stride}")
        conv(
            f"boxes_{stride}",
            np.zeros((4, 3, 1, 1)),
            [-left / 8, -top / 8, right / 8, bottom / 8],
            f"mean_{stride}",
            f"objects_boxes_{stride}",
        )
    return nodes, constants


def _finished() -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Whole maps of the reference graph."""
    constants: dict[str, np.ndarray] = {"scales": np.array([1, 1, 4, 4], np.float32), "axis1": np.array([1], np.int64)}
    half_pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    nodes = []
    for source, name in (("drivable_logits", "drivable"), ("lane_logits", "lane"), ("depth_quarter", "depth")):
        nodes.append(helper.make_node("Resize", [source, "", "scales"], [f"{name}_full"], **half_pixel))
        if name == "depth":
            nodes.append(helper.make_node("Squeeze", [f"{name}_full", "axis1"], [name]))
        else:
            nodes.append(helper.make_node("ArgMax", [f"{name}_full"], [f"{name}_index"], axis=1, keepdims=0))
            nodes.append(helper.make_node("Cast", [f"{name}_index"], [name], to=TensorProto.UINT8))
    return nodes, constants
