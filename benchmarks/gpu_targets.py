"""What runs the network on a GPU, one function a runtime: each gives calls to be timed, or says why it cannot be here.

Knows runtimes and how to call them as their own users would; knows nothing about rounds, tables or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edge_mtl.backends import Backend, open_backend
from edge_mtl.backends.tensorrt import open_plan
from edge_mtl.backends.tensorrt.api import Library, find_library
from edge_mtl.builder.candidate_graphs import candidate_graphs
from edge_mtl.builder.candidates import Candidate
from edge_mtl.builder.tensorrt.builder import build_plan
from edge_mtl.builder.tensorrt.half import to_half
from edge_mtl.builder.tensorrt.options import PlanOptions, PlanPrecision
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.cuda import open_cuda
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.self_test import run_self_test
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe

__all__ = ["STREAMED", "GpuTarget", "bare_context", "layer", "onnxruntime", "opened", "pytorch", "tensorrt", "tensorrt_plans"]

STREAMED = 16
"""Frames of one timed call of `stream`; its time is divided by this."""

Array = np.ndarray
Built = tuple[Library, bytes, str, str]


@dataclass(frozen=True, slots=True)
class GpuTarget:
    """Something to time.

    Attributes:
        inference: one frame that is ready, host to host.
        frame: one image to maps; None where that means nothing here.
        per_call: frames in a call of `inference`.
        parity: the self-test against FP32, by head; None for what was not compared.
        close: frees it.
    """

    name: str
    inference: Callable[[], object]
    frame: Callable[[], object] | None
    close: Callable[[], None]
    per_call: int = 1
    parity: Mapping[str, Any] | None = None
    remarks: str = ""


def onnxruntime(bundle: Bundle, frame: Array, precision: str, *, where: str = "onnxruntime-cuda") -> GpuTarget:
    """ONNX Runtime on the GPU, or on the CPU for comparison."""
    graph = bundle.read(REFERENCE_ONNX if where == "onnxruntime-cuda" and precision != "fp16" else OPTIMIZED_ONNX)
    backend = open_backend(where, to_half(graph) if precision == "fp16" else graph, precision=precision)
    return _subject(f"{where} {precision}", backend, bundle, frame)


def tensorrt_plans(bundle: Bundle, candidate: Candidate) -> Built:
    """A plan built here: library, bytes, what is in it, and its precision."""
    library, recipe = find_library(), load_recipe(TENSORRT_INT8)
    chosen, frames = recipe.calibration, None
    if candidate.precision.startswith("int8"):
        frames = load_calibration(bundle, None, count=chosen.frames, unreadable_share=chosen.unreadable_share)
    graphs = candidate_graphs(bundle, [candidate], frames, recipe, threads=None, progress=lambda *_: None).graphs
    if candidate not in graphs:
        raise BuildError(f"this bundle has no graph of its own for {candidate.name}")
    options = PlanOptions(precision=cast(PlanPrecision, candidate.precision), tf32=False)
    report = build_plan(library, graphs[candidate], options)
    return library, report.plan, report.describe(), candidate.precision


def tensorrt(bundle: Bundle, frame: Array, built: Built, label: str, *, how: str) -> GpuTarget:
    """Our TensorRT backend.

    Args:
        label: of the plan.
        how: "graph": as robots run it; "no graph"; "stream": copies of one frame beside the work of another.
    """
    backend = open_plan(built[1], library=built[0], precision=built[3], graphs=how != "no graph")
    subject = _subject(f"edge_mtl tensorrt {label}, {how}", backend, bundle, frame, remarks=built[2])
    if how != "stream":
        return subject
    feed = _feed(backend, frame)

    def stream() -> None:
        for _ in backend.stream(feed for _ in range(STREAMED)):
            pass

    return GpuTarget(subject.name, stream, None, backend.close, per_call=STREAMED, remarks=built[2])


def bare_context(bundle: Bundle, frame: Array, built: Built, label: str) -> GpuTarget:
    """The least that has to be done: copy in, enqueue, copy out, wait. No checks, no threads, no graph: trtexec's loop."""
    backend = open_plan(built[1], library=built[0], precision=built[3], graphs=False)
    cuda, plan, buffers, stream = backend._cuda, backend._plan, backend._sets[0], backend._compute
    feed = _feed(backend, frame)
    context, handle, addresses = plan._context, stream.handle, buffers.addresses
    for name, address in addresses.items():
        context.set_tensor_address(name, address)
    ((name, spec),) = backend.inputs.items()
    pinned = buffers._view(name, spec)
    outputs = [(buffers._view(each, spec), addresses[each]) for each, spec in backend.outputs.items()]
    shared = cuda.facts.integrated

    def call() -> None:
        with cuda.active():
            np.copyto(pinned, feed[name])
            if not shared:
                cuda.copy_in(addresses[name], pinned, stream)
            if not context.execute_async_v3(handle):
                raise RuntimeError("the bare context does not run")
            if not shared:
                for target, source in outputs:
                    cuda.copy_out(target, source, stream)
            stream.synchronize()

    return GpuTarget(f"bare execution context {label}", call, None, backend.close, remarks="enqueue and copies, nothing else")


def pytorch(bundle: Bundle, frame: Array, *, compiled: bool, checkpoint: Path | None) -> GpuTarget:
    """PyTorch in half precision, channels last, on the host's planes: copy in, network, copy out.

    Without a checkpoint the network has random weights, which cost the same time.
    """
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no CUDA GPU")
    if checkpoint is not None:
        from mtl.bundling import load_trained

        network, weights = load_trained(checkpoint).model, "the bundle's weights"
    else:
        from mtl.models import build_model

        size = (bundle.manifest.input.height, bundle.manifest.input.width)
        network, weights = (
            build_model(str(bundle.manifest.provenance.get("backbone", "pvt_v2_b0")), size=size),
            "random weights",
        )
    network = network.eval().cuda().half().to(memory_format=torch.channels_last)
    run = torch.compile(network, mode="max-autotune") if compiled else network
    planes = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)).pin_memory()

    def call() -> None:
        with torch.inference_mode():
            given = planes.cuda(non_blocking=True).half().to(memory_format=torch.channels_last)
            answers = run(given)
            values = answers.values() if isinstance(answers, Mapping) else answers
            for answer in values:
                answer.float().cpu()
        torch.cuda.synchronize()

    name = "torch.compile FP16" if compiled else "PyTorch eager FP16"
    return GpuTarget(name, call, None, lambda: None, remarks=f"{weights}, network only: maps at a quarter of the size")


def layer(nbytes: int = 4 << 20, *, binding: str) -> dict[str, float]:
    """The CUDA layer by itself: seconds of a copy in, a copy out, a graph of both; GB/s follow from `nbytes`."""
    from edge_mtl.bench.interleaved import run_interleaved

    cuda = open_cuda(binding=binding)
    try:
        with cuda.active():
            stream, pinned, device = cuda.stream(), cuda.host_memory(nbytes), cuda.device_memory(nbytes)

            def copy_in() -> None:
                cuda.copy_in(device.address, pinned.array, stream)
                stream.synchronize()

            def copy_out() -> None:
                cuda.copy_out(pinned.array, device.address, stream)
                stream.synchronize()

            calls: dict[str, Callable[[], None]] = {"copy in": copy_in, "copy out": copy_out, "wait": stream.synchronize}
            graph = None
            if not cuda.graphs:
                cuda.begin_capture(stream)
                cuda.copy_in(device.address, pinned.array, stream)
                cuda.copy_out(pinned.array, device.address, stream)
                graph = cuda.end_capture(stream)
                launched = graph

                def launch() -> None:
                    launched.launch(stream)
                    stream.synchronize()

                calls["graph of both copies"] = launch
            times = run_interleaved(calls, rounds=200)
            found = {name: float(np.median(turn.seconds)) for name, turn in times.items()}
            for thing in (graph, pinned, device, stream):
                if thing is not None:
                    thing.free()
            return found
    finally:
        cuda.close()


def _subject(name: str, backend: Backend, bundle: Bundle, frame: Array, *, remarks: str = "") -> GpuTarget:
    report = run_self_test(backend, bundle)
    path, feed = InferencePipeline(backend, bundle.manifest), _feed(backend, frame)
    return GpuTarget(
        name,
        lambda: backend.run(feed),
        lambda: path(frame),
        backend.close,
        parity=report.to_dict(),
        remarks=remarks or backend.info.device,
    )


def _feed(backend: Backend, frame: Array) -> dict[str, Array]:
    """The frame, which has the network's size, as this graph takes it."""
    ((name, spec),) = backend.inputs.items()
    laid = frame[None] if spec.dtype == np.uint8 else frame.transpose(2, 0, 1)[None]
    return {name: np.ascontiguousarray(laid.astype(spec.dtype))}


@contextmanager
def opened(make: Callable[[], GpuTarget]) -> Iterator[GpuTarget]:
    """A subject, closed at the end."""
    subject = make()
    try:
        yield subject
    finally:
        subject.close()
