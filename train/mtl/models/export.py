"""A trained model as ONNX files: the reference ONNX that anyone can run, and the optimized ONNX made for speed.

Static shapes, batch 1, opset 20, weights inside the file. Every file is checked, run in ONNX Runtime and compared with torch
before it is written. Knows nothing about bundles or quantization.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from edge_mtl.backends import open_backend
from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from mtl.models.backbone import check_divisible
from mtl.models.deploy import deploy
from mtl.models.model import MultiTaskModel
from mtl.models.placement import GraphPlacement, HostPlacement, Placement, PlainModel
from mtl.models.pooling import fix_adaptive_pools

__all__ = [
    "LEAST_LABEL_AGREEMENT",
    "OPSET",
    "PARITY_TOLERANCE",
    "Placed",
    "check_parity",
    "export_deploy",
    "export_plain",
    "graph_of",
]

OPSET = 20
"""First with native GELU; LayerNormalization is native since 17."""

PARITY_TOLERANCE = 1e-4
"""Largest relative error (L2 over a map) of ONNX Runtime against torch."""

LEAST_LABEL_AGREEMENT = 0.999
"""Smallest share of equal labels; ties may fall either way."""


class Placed(Protocol):
    """A module that takes `image` and gives a tuple of outputs with names."""

    output_names: tuple[str, ...]

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]: ...


def export_plain(model: MultiTaskModel, path: Path, *, height: int, width: int) -> None:
    """Write the trained graph as it is, with pre- and post-processing inside: uint8 (1, H, W, 3) in, full-size maps out.

    Args:
        model: in any mode; it is copied, never changed.
        path: the .onnx file.
        height, width: of the network input, multiples of 32.
    Raises:
        BuildError: bad size, the exporter failed, the graph is invalid, or ONNX Runtime disagrees with torch (the number
            is in the message). Nothing is written then.
    """
    check_divisible((height, width), by=32)
    trained = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    placed = GraphPlacement(PlainModel(trained))
    fix_adaptive_pools(placed, placed.example(height, width))
    _export(placed, path, model, height, width, "graph")


def export_deploy(model: MultiTaskModel, path: Path, *, height: int, width: int, placement: Placement = "host") -> None:
    """Write the graph rewritten for speed.

    Args:
        model: in any mode; it is copied, never changed.
        path: the .onnx file.
        height, width: of the network input, multiples of 32.
        placement: "host" ends at quarter resolution (CPUs), "graph" takes bytes and gives finished maps (GPUs).
    Raises:
        BuildError: as `export_plain`, or a rewrite that differs from the trained model.
    """
    network = deploy(model, height=height, width=width)
    placed = HostPlacement(network) if placement == "host" else GraphPlacement(network)
    _export(placed, path, model, height, width, placement)


def _export(
    placed: HostPlacement | GraphPlacement, path: Path, model: MultiTaskModel, height: int, width: int, placement: str
) -> None:
    properties = {
        "edge_mtl.tasks": ",".join(model.tasks),
        "edge_mtl.size": f"{height}x{width}",
        "edge_mtl.placement": placement,
        "edge_mtl.backbone": model.backbone.name,
        "edge_mtl.mean": ",".join(f"{value:g}" for value in model.mean),
        "edge_mtl.std": ",".join(f"{value:g}" for value in model.std),
    }
    placed.eval()
    write_atomic(path, graph_of(placed, placed.example(height, width), path.name, properties=properties))


def graph_of(placed: Placed, example: Tensor, name: str, *, properties: Mapping[str, str] | None = None) -> bytes:
    """The ONNX graph of a module in evaluation mode, checked, with its weights inside.

    Args:
        example: what it takes; the graph takes that shape and type only.
        name: of the file, for messages.
        properties: `metadata_props`.
    Raises:
        BuildError: the exporter failed, the graph is invalid, or ONNX Runtime disagrees with torch.
    """
    import onnx

    proto = _to_onnx(placed, example)
    for node in proto.graph.node:  # the exporter writes source paths and stack traces into every node
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    proto.graph.doc_string = proto.doc_string = ""
    onnx.helper.set_model_props(proto, dict(properties or {}))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as exc:
        raise BuildError(f"the graph for {name} is not valid ONNX: {exc}") from exc
    payload = proto.SerializeToString()
    check_parity(payload, placed, example, name)
    return bytes(payload)


def _to_onnx(placed: Placed, example: Tensor) -> Any:
    """An onnx.ModelProto. Raises BuildError: torch's exporter failed."""
    names = {"input_names": ["image"], "output_names": list(placed.output_names)}
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        try:
            program = torch.onnx.export(placed, (example,), dynamo=True, opset_version=OPSET, verbose=False, **names)
        except Exception as exc:
            pair = f"torch {torch.__version__} with onnxscript {version('onnxscript')}"
            cause = exc.__cause__ or exc
            raise BuildError(
                f"{pair} cannot export the graph: {cause}. Take newer ones: pip install -U onnxscript torch"
            ) from exc
    return program.model_proto


def check_parity(payload: bytes, placed: Placed, example: Tensor, name: str) -> None:
    """Compare a graph in ONNX Runtime with torch.

    Args:
        example: what both are given.
        name: of the graph, for messages.
    Raises:
        BuildError: an output of another form, or further off than `PARITY_TOLERANCE` and `LEAST_LABEL_AGREEMENT` allow.
    """
    with contextlib.closing(open_backend(REFERENCE_RUNTIME, payload)) as backend:
        outputs = backend.run({"image": example.numpy()})
    found = [outputs[output] for output in placed.output_names]
    with torch.no_grad():
        expected = [value.numpy() for value in placed(example)]
    for output, ours, torchs in zip(placed.output_names, found, expected, strict=True):
        if ours.shape != torchs.shape or ours.dtype != torchs.dtype:
            raise BuildError(f"{name}: {output} is {ours.dtype} {ours.shape}: expected {torchs.dtype} {torchs.shape}")
        if ours.dtype == np.uint8:
            agreement = float((ours == torchs).mean())
            if agreement < LEAST_LABEL_AGREEMENT:
                raise BuildError(f"{name}: {output} agrees with torch in {agreement:.3%}: expected {LEAST_LABEL_AGREEMENT:.1%}")
            continue
        error = float(np.linalg.norm(ours - torchs) / np.linalg.norm(torchs))
        if not error <= PARITY_TOLERANCE:
            raise BuildError(f"{name}: {output} differs from torch by {error:.1e}: expected <= {PARITY_TOLERANCE:.0e}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress lines, warnings or log records of the exporter."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
