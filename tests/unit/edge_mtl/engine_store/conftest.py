"""A bundle that is quickly made: the engine store asks for its path, digest and files, never for what its graphs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle, write_bundle
from edge_mtl.manifest import InputSpec
from tests.bundles import study_specs


@pytest.fixture
def quick_bundle(tmp_path: Path) -> Bundle:
    """Of 4000 and 3000 bytes that stand for its graphs."""

    def fill(folder: Path) -> None:
        (folder / REFERENCE_ONNX).write_bytes(b"reference " * 400)
        (folder / OPTIMIZED_ONNX).write_bytes(b"optimized " * 300)

    return write_bundle(
        tmp_path / "own",
        fill,
        name="own",
        tasks=study_specs(),
        input=InputSpec(64, 96),
        canonical_intrinsics=(88.0, 88.0, 47.5, 31.5),
        provenance={},
        accuracy={},
        calibration={},
    )
