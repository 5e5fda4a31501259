"""Runs at once: what each runtime is told of them."""

from __future__ import annotations

import pytest

from edge_mtl import backends
from tests.bundles import host_model

USABLE = backends.available()


@pytest.mark.skipif(not USABLE["openvino"].usable, reason="needs openvino")
@pytest.mark.parametrize("kept", [False, True], ids=["compiled now", "compiled before"])
def test_openvino_has_a_stream_for_each(kept: bool) -> None:
    code = backends.compile_graph("openvino", host_model()) if kept else None
    backend = backends.open_backend("openvino", host_model(), threads=1, parallel=2, compiled=code)
    assert backend.info.loading == ("compiled code" if kept else "the graph")
    graph = backend._compiled  # type: ignore[attr-defined]
    assert (graph.get_property("NUM_STREAMS"), graph.get_property("INFERENCE_NUM_THREADS")) == (2, 2)
    backend.close()


@pytest.mark.skipif(not USABLE["onnxruntime"].usable, reason="needs onnxruntime")
@pytest.mark.parametrize(("threads", "parallel", "pool"), [(1, 3, 1), (2, 1, 2), (2, 3, 4)])
def test_onnxruntime_has_helpers_for_each(threads: int, parallel: int, pool: int) -> None:
    backend = backends.open_backend("onnxruntime", host_model(), threads=threads, parallel=parallel)
    session = backend._session  # type: ignore[attr-defined]
    assert session.get_session_options().intra_op_num_threads == pool
    assert backend.info.threads == threads
    backend.close()
