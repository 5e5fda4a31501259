"""The three modules of which every branch is tried, and mutants made: their files, and the tests that look at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["GPU_ONLY", "MODULES", "ROOT", "SDK_TESTS", "Module"]

ROOT = Path(__file__).resolve().parents[3]

SDK_TESTS = ("tests/unit/edge_mtl", "tests/unit/examples", "tests/contract", "tests/faults", "tests/integration")
"""Tests of the SDK; those of them that train are left out by their mark."""

GPU_ONLY = (
    "edge_mtl/backends/tensorrt/",
    "edge_mtl/backends/tensorrt_rtx/",
    "edge_mtl/builder/tensorrt/",
    "edge_mtl/cuda/",
    "edge_mtl/bench/sensors/nvml.py",
)
"""Folders and files that do their work with a GPU only; they count like all others, and their share is said."""


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the gate.

    Attributes:
        name: as on the command line and in survivors.toml.
        files: every line and branch of these has to run.
        mutated: those of them that mutants are made of.
        tests: files of tests, run in one process, that have to notice the mutants.
        left_out: tests of those files that take too long to run for each mutant, or start processes that see none.
    """

    name: str
    files: tuple[str, ...]
    mutated: tuple[str, ...]
    tests: tuple[str, ...]
    left_out: tuple[str, ...] = ()


_STORE = "edge_mtl/engine_store"

MODULES = {
    module.name: module
    for module in (
        Module(
            "bundle",
            ("edge_mtl/bundle.py", "edge_mtl/manifest.py"),
            ("edge_mtl/bundle.py", "edge_mtl/manifest.py"),
            ("tests/unit/edge_mtl/test_bundle.py", "tests/unit/edge_mtl/test_manifest.py"),
            ("test_a_mutated_manifest_never_raises", "test_any_value_in_any_place"),
        ),
        Module(
            "store",
            tuple(sorted(str(path.relative_to(ROOT)) for path in (ROOT / _STORE).glob("*.py"))),
            tuple(
                f"{_STORE}/{name}.py" for name in ("engines", "sidecars", "validity", "locks", "private_files", "trusted_plans")
            ),
            (
                "tests/unit/edge_mtl/engine_store/test_engines.py",
                "tests/unit/edge_mtl/engine_store/test_trusted_plans.py",
                "tests/unit/edge_mtl/engine_store/test_locks.py",
                "tests/unit/edge_mtl/engine_store/test_private_files.py",
                "tests/unit/edge_mtl/engine_store/test_sidecars.py",
                "tests/unit/edge_mtl/engine_store/test_replaced_meanwhile.py",
            ),
            (
                "killed_at_any_moment",
                "builders_at_once",
                "without_a_home_frames",
                "lists_what_is_stale",
                "removed_by_the_start",
                "whatever_cannot_run_here",
            ),
        ),
        Module(
            "frames",
            tuple(f"edge_mtl/image/{name}.py" for name in ("frames", "bit_depth", "camera_check", "memory")),
            ("edge_mtl/image/frames.py",),
            ("tests/unit/edge_mtl/image/test_frames.py", "tests/unit/edge_mtl/image/test_camera_check.py"),
            ("test_an_engine_refuses", "test_the_command_line_says"),
        ),
    )
}
