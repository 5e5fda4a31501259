"""Who is in the peers table and how each is opened; what takes long to make is kept in a work folder.

Knows runtimes and engines; measures nothing. PyTorch, NNCF and the others are imported where their rows are opened.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kept_code import compiled
from peer_runtimes import NncfRuntime, TorchRuntime, load_network, nncf_version, quantized_by_nncf
from peers_mobile import mobile
from work_folder import WorkFolder

from edge_mtl.backends import Backend, available, open_backend, spec_of
from edge_mtl.builder.candidate_graphs import candidate_graphs
from edge_mtl.builder.candidates import Candidate, candidates, with_weight_bits
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import CalibrationSet, load_calibration
from edge_mtl.device import fingerprint
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.evaluation.self_test import run_self_test
from edge_mtl.quantization.learned import int8_recipe

__all__ = ["BASELINE", "EAGER", "PRECISIONS", "Row", "ours", "peers"]

Step = Callable[[str, int, int], None]
BASELINE = "ONNX Runtime fp32, plain export"
EAGER = "PyTorch eager fp32"
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class Row:
    """Who runs the network, whether that is us, and how.

    Attributes:
        candidate, graph: of our own engines: what is built, and its file.
    """

    name: str
    ours: bool
    open: Callable[[], Backend]
    candidate: Candidate | None = None
    graph: Path | None = None


def peers(bundle: Bundle, checkpoint: Path | None, frames: Path | None, *, threads: int, work: WorkFolder) -> list[Row]:
    """Everybody else; what is not here says so when it is opened.

    Args:
        checkpoint: what torch reads the network from; the bundle, where none is given.
        frames: images that peers are calibrated with; the bundle's, where none are given.
    """
    plain, source = bundle.read(REFERENCE_ONNX), checkpoint or bundle.path
    count = int8_recipe(bundle).calibration.frames
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work.path.resolve() / "inductor")  # what torch.compile made

    def torch_row(floats: Any, compiled: bool) -> Backend:
        network, size = load_network(source)
        return TorchRuntime(network, size, threads=threads, floats=floats, compiled=compiled)

    @functools.cache
    def calibration() -> CalibrationSet:
        return load_calibration(bundle, frames, count=count, unreadable_share=0.0)

    def nncf_row(floats: Any) -> Backend:
        decided_by = {
            "model": bundle.entry(REFERENCE_ONNX).sha256,
            "nncf": nncf_version(),
            "calibration": calibration().digest,
            "smoothing": False,
        }

        def make() -> bytes:
            return quantized_by_nncf(plain, calibration().images())

        return NncfRuntime(work.kept("nncf.zip", decided_by, make).read_bytes(), threads=threads, floats=floats)

    def plain_row(backend: str, precision: str) -> Backend:
        return open_backend(backend, plain, threads=threads, precision=precision)

    others = mobile(bundle, source, calibration, threads=threads, work=work)
    return [
        Row(BASELINE, False, partial(plain_row, "onnxruntime", "fp32")),
        Row(EAGER, False, partial(torch_row, "fp32", False)),
        Row("PyTorch eager bf16", False, partial(torch_row, "bf16", False)),
        Row("torch.compile fp32", False, partial(torch_row, "fp32", True)),
        Row("torch.compile bf16", False, partial(torch_row, "bf16", True)),
        Row("OpenVINO fp32, plain export", False, partial(plain_row, "openvino", "fp32")),
        Row("OpenVINO bf16, plain export", False, partial(plain_row, "openvino", "bf16")),
        Row("NNCF INT8, plain export", False, partial(nncf_row, "fp32")),
        Row("NNCF INT8 + bf16, plain export", False, partial(nncf_row, "bf16")),
        *(Row(name, False, opening) for name, opening in others.items()),
    ]


def ours(
    bundle: Bundle, *, precisions: Sequence[str], threads: int, work: WorkFolder, step: Step, left_out: list[str]
) -> list[Row]:
    """The graph of every engine that `build_engine` would make here, made if it is not kept yet.

    An engine of `build_engine` is also tested, timed and scored, which is done here for all rows alike.
    """
    wanted: dict[Candidate, Path] = {}
    for precision in precisions:
        try:
            tried = candidates(precision, backend="auto", available=available(), device=fingerprint())
        except (BackendUnavailable, BuildError) as error:
            left_out.append(f"our {precision}: {error}")
            continue
        tried = with_weight_bits(tried, int8_recipe(bundle).weights.reduce_range, fingerprint())
        tried = tuple(candidate for candidate in tried if spec_of(candidate.backend).device == "cpu")
        decided_by = {"bundle": bundle.digest, "recipe": int8_recipe(bundle).digest}
        places = {item: work.place(f"ours.{item.backend}.{_family(item)}.onnx", decided_by) for item in tried}
        if not all(path.is_file() for path in places.values()):
            _make(bundle, places, threads, work, lambda what, done, total: step(f"our {what}", done, total))
        for number, (item, path) in enumerate(places.items()):
            step(f"compiling our {precision}", number, len(places))
            compiled(path, item.backend, item.precision)
        wanted |= places

    def open_engine(item: Candidate, path: Path) -> Backend:
        code = compiled(path, item.backend, item.precision)
        backend = open_backend(item.backend, path.read_bytes(), threads=threads, precision=item.precision, compiled=code)
        run_self_test(backend, bundle)
        return backend

    return [
        Row(f"edge_mtl {item.name}", True, partial(open_engine, item, path), candidate=item, graph=path)
        for item, path in wanted.items()
    ]


def _family(item: Candidate) -> str:
    """Candidates of one runtime and family run the same graph."""
    return f"int8-{item.weight_bits}" if item.precision.startswith("int8") else "float"


def _make(bundle: Bundle, places: Mapping[Candidate, Path], threads: int, work: WorkFolder, step: Step) -> None:
    recipe = int8_recipe(bundle)
    count, unreadable = recipe.calibration.frames, recipe.calibration.unreadable_share
    integers = any(item.precision.startswith("int8") for item in places)
    frames = load_calibration(bundle, count=count, unreadable_share=unreadable) if integers else None
    made = candidate_graphs(bundle, tuple(places), frames, recipe, threads=threads, progress=step)
    for item, graph in made.graphs.items():
        work.keep(places[item], graph)
