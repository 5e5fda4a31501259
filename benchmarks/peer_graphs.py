"""What runtimes that take our optimized graph have in common: its inputs and outputs, its network in torch, tools run apart.

The graph takes float planes of 0..255 and answers at a quarter of the size; `InferencePipeline` finishes that on the host, as
it does for our own engines. Knows bundles and processes; knows no runtime.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.backends import TensorSpec
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.onnx_graph.cut import output_names
from edge_mtl.tasks import Placement, graph_outputs

__all__ = ["Signature", "apart", "expect", "load_optimized", "planes", "signature", "trained_network", "version"]

Array = np.ndarray
_TYPES: Mapping[Placement, type[np.generic]] = {"host": np.float32, "graph": np.uint8}


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes into a graph and what comes out, by name, in the graph's order; the graph takes one input."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @property
    def feed(self) -> str:
        """Name of the input."""
        return next(iter(self.inputs))


def signature(bundle: Bundle, *, place: Placement = "host") -> Signature:
    """That of model.deploy.onnx ("host"), or of model.onnx ("graph")."""
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    shapes = graph_outputs(bundle.manifest.tasks, size, place)
    names = output_names(bundle.read(OPTIMIZED_ONNX if place == "host" else REFERENCE_ONNX))
    kinds = {name: np.uint8 if place == "graph" and name == "segmentation" else np.float32 for name in names}
    return Signature(
        {"image": TensorSpec((1, 3, *size) if place == "host" else (1, *size, 3), np.dtype(_TYPES[place]))},
        {name: TensorSpec(shapes[name], np.dtype(kinds[name])) for name in names},
    )


def trained_network(source: Path) -> Any:
    """What `mtl.bundling.load_trained` makes of a bundle's folder or a checkpoint; `mtl` can be imported from then on.

    Raises:
        BackendUnavailable: torch or what training needs is not installed.
        CheckpointError: no such file, or none of this package.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
    try:
        from mtl.bundling import load_trained
    except ImportError as exc:
        raise BackendUnavailable(f'PyTorch is not installed ({exc}): pip install "edge-mtl[train]"') from exc
    return load_trained(source)


def load_optimized(source: Path, names: Sequence[str]) -> tuple[Any, Any]:
    """The rewritten network in torch, its outputs a tuple in the order of `names`, and an example of its input.

    Args:
        source: a bundle's folder or a checkpoint.
    Raises:
        BackendUnavailable: torch or what training needs is not installed.
        BuildError: its outputs are not `names`.
        CheckpointError: no such file, or none of this package.
    """
    trained = trained_network(source)
    from mtl.models.deploy import deploy
    from mtl.models.placement import HostPlacement

    height, width = trained.size
    network = HostPlacement(deploy(trained.model, height=height, width=width)).eval()
    if tuple(network.output_names) != tuple(names):
        raise BuildError(f"{source} answers {', '.join(network.output_names)}; its graph {', '.join(names)}")
    return network, HostPlacement.example(height, width).contiguous()


def planes(frame: Array) -> Array:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in 0..255."""
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None], dtype=np.float32)


def expect(*packages: str) -> None:
    """Raise BackendUnavailable for the first package that is not installed; given as MODULE or as MODULE:NAME-FOR-PIP."""
    for package in packages:
        module, _, name = package.partition(":")
        if importlib.util.find_spec(module) is None:
            raise BackendUnavailable(f"{name or module} is not installed: pip install {name or module}")


def version(*packages: str) -> str:
    """Of distributions that are here, for the names of kept files and for the page."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def apart(make: Callable[..., bytes], *values: Any) -> bytes:
    """Call a converter in a process of its own: what it prints, imports and crashes with stays there.

    Raises:
        BackendUnavailable: a package that it needs is not installed.
        BuildError: it failed or died; the message has the reason in one line.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        process = context.Process(target=_in_child, args=(place, make, values))
        process.start()
        process.join()
        answer = {name: place / name for name in ("content", "unavailable", "failed")}
        if answer["content"].is_file():
            return answer["content"].read_bytes()
        if answer["unavailable"].is_file():
            raise BackendUnavailable(answer["unavailable"].read_text())
        if answer["failed"].is_file():
            raise BuildError(answer["failed"].read_text())
        code = process.exitcode or 0
        ended = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        raise BuildError(f"the converter {ended}{_last_line(place / _PRINTED)}")


_PRINTED = "printed"


def _in_child(folder: Path, make: Callable[..., bytes], values: Sequence[Any]) -> None:
    with _printed_to(folder / _PRINTED):
        try:
            answer = ("content", make(*values))
        except BackendUnavailable as error:
            answer = ("unavailable", str(error).encode())
        except Exception as error:  # whatever a rival's tools raise is a row's reason
            answer = ("failed", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".encode())
        part = folder / "part"
        part.write_bytes(answer[1])
        part.replace(folder / answer[0])


@contextlib.contextmanager
def _printed_to(path: Path) -> Iterator[None]:
    """Both streams, those of libraries in C++ as well, into a file."""
    with path.open("wb") as file:
        sys.stdout.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        yield


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return f"; its last words: {lines[-1].strip()}" if lines else ""
