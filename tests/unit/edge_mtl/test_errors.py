"""Errors go through queues of other processes: one that cannot be read there leaves the caller waiting."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

import edge_mtl.errors
from edge_mtl.cuda.errors import CudaError, CudaOutOfMemory, cuda_error
from edge_mtl.errors import EdgeMtlError


def kinds(base: type[EdgeMtlError]) -> Iterator[type[EdgeMtlError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", [*dict.fromkeys(kinds(EdgeMtlError))], ids=lambda kind: kind.__name__)
def test_an_error_arrives_as_it_was_sent(kind: type[EdgeMtlError]) -> None:
    error = kind("lost", code="CUDA_ERROR_LAUNCH_FAILED", sticky=True) if kind is CudaError else kind("lost")
    for after in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(after) is kind
        assert (str(after), after.exit_code, vars(after)) == ("lost", error.exit_code, vars(error))


def test_errors_of_cuda_are_among_them() -> None:
    assert {CudaError, CudaOutOfMemory, edge_mtl.errors.FrameError} <= set(kinds(EdgeMtlError))
    assert pickle.loads(pickle.dumps(cuda_error("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY"))).sticky is False
