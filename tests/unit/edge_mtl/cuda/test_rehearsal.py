"""A dress rehearsal of what is written for a GPU and never saw one: `tests/gpu` and `benchmarks/gpu.py`, unchanged.

The driver is `tests/fakes/driver.cpp`, TensorRT is `tests/fakes/rehearsal`, which runs plans with ONNX Runtime; all above
them is real: builder, store, choice, backend, engine. It shows that the calls fit together, not what a GPU makes of them.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from edge_mtl.bundle import Bundle
from tests.fakes.driver import PYCUDA, TENSORRT, compile_driver, run_with

PYTEST = """
import edge_mtl.bundle
from pathlib import Path
edge_mtl.bundle.DEMO_BUNDLE = Path(sys.argv[1])
import pytest
sys.exit(pytest.main(["-rs", "-p", "no:cacheprovider", "-o", "addopts=", *sys.argv[2:]]))
"""
BENCHMARK = """
import runpy
sys.path.insert(0, "benchmarks")
sys.argv[:] = sys.argv[1:]
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


def packages() -> list[Path]:
    return [TENSORRT] if importlib.util.find_spec("pycuda") is not None else [TENSORRT, PYCUDA]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


def test_the_gpu_suite_of_tensorrt_passes_unchanged(driver: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    done = run_with(
        driver,
        packages(),
        PYTEST,
        str(tiny_bundle.path),
        "tests/gpu/test_gpu_backends.py",
        "-k",
        "plan or answers or engine",
        cache=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_the_gpu_benchmark_measures_every_plan_and_runs_long(driver: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["gpu.py", str(tiny_bundle.path), "--rounds", "2", "--soak-frames", "40", "--out", str(out)]
    done = run_with(driver, packages(), BENCHMARK, *arguments, cache=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads(out.read_text())
    left_out = {item["name"] for item in found["left_out"]}
    assert all("onnxruntime cuda" in name or "torch" in name for name in left_out), found["left_out"]
    plans = ("fp32", "fp16", "fp16 reference ONNX", "int8+fp16", "int8+fp16 depthwise in floating point")
    rows = {f"edge_mtl tensorrt {plan}, {way}" for plan in plans for way in ("graph", "no graph", "stream")}
    assert rows < set(found["rows"])
    for name in rows:
        row = found["rows"][name]
        assert row["engine_only"]["p50_ms"] > 0
        assert row["times_bare_context"] > 0
    assert found["soak"]["different_answers"] == 0
    assert found["soak"]["frames"] == 40
