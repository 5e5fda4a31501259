"""Which engine is picked where a runtime turns out to be broken when it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from edge_mtl.backends import Availability, BackendSpec, available
from edge_mtl.bundle import Bundle
from edge_mtl.engine_store import resolve
from edge_mtl.engine_store.resolve import resolve_engine
from edge_mtl.errors import BackendUnavailable

BROKEN = "onnxruntime does not import: repair it"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Availability]:
    """ONNX Runtime looks installed and does not import."""
    found = available()
    if not (found["onnxruntime"].usable and found["openvino"].usable):
        pytest.skip("needs onnxruntime and openvino")
    import_it = resolve.prove

    def prove(spec: BackendSpec, availability: Availability) -> Availability:
        if spec.name == "onnxruntime":
            return replace(availability, usable=False, reason=BROKEN, broken=True)
        return import_it(spec, availability)

    monkeypatch.setattr(resolve, "prove", prove)
    return found


def test_a_runtime_that_does_not_import_is_passed_over_and_told_of(
    tiny_bundle: Bundle, broken: Mapping[str, Availability]
) -> None:
    chosen = resolve_engine(tiny_bundle, kind="cpu")
    assert chosen.backend == "openvino"
    assert chosen.fell_back
    assert BROKEN in chosen.reason


def test_a_runtime_that_was_named_and_does_not_import_is_refused(
    tiny_bundle: Bundle, broken: Mapping[str, Availability]
) -> None:
    with pytest.raises(BackendUnavailable, match=BROKEN):
        resolve_engine(tiny_bundle, backend="onnxruntime", kind="cpu")
