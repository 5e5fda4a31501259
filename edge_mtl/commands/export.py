"""`edge-mtl export`: a bundle for others: the reference ONNX, the trained weights, or a model repository of Triton.

Knows where things are written; what is written is made in edge_mtl.builder.
"""

from __future__ import annotations

from pathlib import Path

from edge_mtl.backends.tensorrt.api import find_library
from edge_mtl.builder.triton import Runtime, write_triton
from edge_mtl.bundle import REFERENCE_ONNX, WEIGHTS, find
from edge_mtl.commands.terminal import Terminal
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic

__all__ = ["run"]


def run(
    terminal: Terminal,
    path: Path | None,
    *,
    onnx: Path | None = None,
    weights: Path | None = None,
    triton: Path | None = None,
    runtime: Runtime = "onnxruntime",
    half: bool = False,
    max_batch: int = 1,
) -> None:
    """Write what was asked for.

    Raises:
        BundleError: there is no bundle, it was altered, or it holds no weights but those in its graphs.
        BuildError: something is there already or cannot be written.
        BackendUnavailable: a package or TensorRT is missing.
    """
    bundle = find(path)
    written: dict[str, int] = {}
    remarks: list[str] = []
    for name, target in ((REFERENCE_ONNX, onnx), (WEIGHTS, weights)):
        if target is None:
            continue
        payload = bundle.read(name)
        try:
            write_atomic(target, payload)
        except OSError as exc:
            raise BuildError(f"{target} cannot be written ({exc.strerror or exc}).") from exc
        written[str(target)] = len(payload)
    if triton is not None:
        library = find_library("tensorrt") if runtime == "tensorrt" else None
        with terminal.steps() as step:
            model = write_triton(
                bundle,
                triton,
                runtime=runtime,
                precision="fp16" if half else "fp32",
                max_batch=max_batch,
                library=library,
                progress=lambda done, total: step("building a plan", done, total),
            )
        written |= {str(model.path / name): size for name, size in model.files.items()}
        remarks.append(model.remark)
    if terminal.json_output:
        terminal.record({"bundle": str(bundle.path), "written": written, "remarks": remarks})
        return
    for name, size in written.items():
        terminal.show(f"{name}: {size / 1e6:.2f} MB" if size > 1e4 else f"{name}: {size} bytes")
    for remark in remarks:
        terminal.show(remark)
