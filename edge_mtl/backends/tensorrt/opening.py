"""Opens plans of TensorRT and of TensorRT for RTX, which have one Python API.

A plan is a program: whoever opens one has checked who built it and that its bytes are those that were built.
"""

from __future__ import annotations

from edge_mtl.backends import Backend, OpenOptions
from edge_mtl.backends.tensorrt.api import Library, check_plan, find_library
from edge_mtl.backends.tensorrt.backend import TensorRtBackend
from edge_mtl.cuda import Cuda, open_cuda

__all__ = ["open_graph", "open_plan"]

_RTX_MAGIC = b"vtrt"
_REMEDY = "Build it again on this device: edge-mtl build-engine BUNDLE --int8"


def open_graph(model: bytes, options: OpenOptions) -> Backend:
    """See `edge_mtl.backends.open_backend`; the first bytes of a plan say which of the two libraries takes it."""
    return open_plan(model, precision=options.precision, device=options.device)


def open_plan(
    plan: bytes,
    *,
    precision: str = "fp32",
    device: int = 0,
    library: Library | None = None,
    cuda: Cuda | None = None,
    graphs: bool = True,
) -> TensorRtBackend:
    """Deserialise a plan and make its buffers.

    Args:
        plan: verified bytes of a plan that this user built or trusts.
        precision: what it was built for, for `Backend.info`; the plan holds it.
        device: index of the GPU.
        library: the one to use; by default the one that such plans belong to.
        cuda: the GPU in place of `device`; closed with the backend.
        graphs: record the work as a CUDA graph after the first run, where that can be done.
    Raises:
        BackendUnavailable: no library, no binding, no driver, or no such GPU.
        EngineMismatch: a plan of another library, version or GPU.
        BundleError: no plan, or a damaged one.
        CudaOutOfMemory: it does not fit.
    """
    used = library or find_library("tensorrt_rtx" if plan[:4] == _RTX_MAGIC else None)
    check_plan(used, plan, source="The engine", remedy=_REMEDY)
    opened = open_cuda(device) if cuda is None else cuda
    try:
        return TensorRtBackend(plan, library=used, cuda=opened, precision=precision, graphs=graphs)
    except BaseException:
        opened.close()
        raise
