"""A runtime of two files outside the package works wherever those of the package do: see `tests/plugins/toy_runtime`."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_mtl.backends import (
    BACKENDS,
    BackendSpec,
    BuildVariant,
    QdqStyle,
    available,
    open_backend,
    proven,
    qdq_styles,
    register,
    spec_of,
    style_of,
    unregister,
)
from edge_mtl.builder import pipeline
from edge_mtl.builder.candidate_graphs import candidate_graphs
from edge_mtl.builder.candidates import Candidate, candidates, target_of
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.device import fingerprint
from edge_mtl.engine import Engine
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.resolve import resolve_engine
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.evaluation.sensitivity.blocks import find_blocks
from edge_mtl.evaluation.verify import quantized_subjects, verify
from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.quantize import insert_qdq, quantize_for_cpu
from edge_mtl.quantization.recipes import load_recipe, parse_recipe
from edge_mtl.tasks.normals import angles_deg
from tests.bundles import host_model, make_bundle, make_image
from tests.command_line import assert_failed, edge_mtl
from tests.transformers import transformer_block

PLUGINS = Path(__file__).parents[1] / "plugins"
OWN = ("onnxruntime", "openvino", "onnxruntime-cuda", "tensorrt")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[BackendSpec]:
    """The plug-in, registered by a call."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    from toy_runtime.spec import SPEC

    register(SPEC)
    yield SPEC
    unregister("toy")


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))


def test_it_is_two_files_outside_the_package() -> None:
    assert sorted(path.name for path in (PLUGINS / "toy_runtime").glob("*.py")) == ["backend.py", "spec.py"]


def test_the_package_has_four_and_does_not_know_it() -> None:
    assert tuple(BACKENDS) == OWN
    with pytest.raises(BackendUnavailable, match=f"Unknown backend 'toy'. Choose one of: {', '.join(OWN)}"):
        spec_of("toy")
    with pytest.raises(BackendUnavailable, match="Unknown backend 'toy'"):
        open_backend("toy", host_model())


def test_it_is_found_listed_and_proven(toy: BackendSpec) -> None:
    assert tuple(BACKENDS) == (*OWN, "toy")
    for found in (available()["toy"], proven()["toy"]):
        assert found.usable, found
    outcome = edge_mtl("doctor", "--json")
    (findings,) = outcome.records
    assert "toy" in findings["usable"]
    assert findings["int8_sums"]["toy"] == "right, with weights of 8 bits too"


def test_where_its_package_is_missing_the_message_says_how_to_install_it(toy: BackendSpec) -> None:
    register(dataclasses.replace(toy, name="absent", packages={"no_such_module": ("no-such",)}))
    try:
        with pytest.raises(BackendUnavailable, match=r'no_such_module is not installed\. .*pip install "toy-runtime"'):
            open_backend("absent", host_model())
    finally:
        unregister("absent")


def test_an_engine_runs_it_and_agrees_with_the_reference(toy: BackendSpec, tiny_bundle: Bundle) -> None:
    frame = make_image(3)
    with Engine(tiny_bundle, backend="toy") as engine, Engine(tiny_bundle, backend="onnxruntime", threads=1) as reference:
        assert engine.info.backend == "toy"
        assert engine.info.precision == "fp32"
        found, expected = engine.predict(frame), reference.predict(frame)
    assert (found.segmentation == expected.segmentation).mean() > 0.999
    assert np.abs(found.depth - expected.depth).max() < 1e-3
    assert angles_deg(found.normals, expected.normals).max() < 0.1


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_engines_are_built_with_it(
    toy: BackendSpec, own_bundle: Bundle, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 3)
    report = build_engine(own_bundle, precision=precision, backend="toy", threads=1, budget=None)
    assert (report.record.backend, report.record.precision) == ("toy", precision)
    assert report.path.suffix == ".onnx"
    store = EngineStore(own_bundle)
    assert facts(store.load(report.record)).integer_layers == (4 if precision == "int8" else 0)
    with Engine(own_bundle, backend="toy", precision=precision) as engine:
        assert engine.info.engine_key == report.record.key
        engine.predict(make_image(1))
    if precision == "int8":
        assert "int8 on toy" in verify(own_bundle, backend="toy").scores
    unregister("toy")
    try:
        assert store.list() == ()
        (problem,) = store.problems()
        assert "runtime that is not known here" in problem
        assert "Unknown backend 'toy'. Choose one of" in problem
    finally:
        register(toy)


def test_auto_tries_it_beside_the_others_and_says_who_has_what_it_lacks(toy: BackendSpec) -> None:
    here = available()
    tried = candidates("int8", backend="auto", available=here, device=fingerprint())
    assert {"onnxruntime", "toy"} <= {candidate.backend for candidate in tried}
    able = dataclasses.replace(fingerprint(), architecture="x86_64", isa=("avx512_bf16",))
    with pytest.raises((BuildError, BackendUnavailable), match="Toy does not compute in bf16 on a CPU; OpenVINO does"):
        candidates("bf16", backend="toy", available=here, device=able)


def test_the_commands_take_its_name(toy: BackendSpec, own_bundle: Bundle) -> None:
    outcome = edge_mtl("profile", own_bundle.path, "--backend", "toy", "--rounds", 3, "--json")
    assert outcome.code == 0, outcome
    assert outcome.records[-1]["backend"] == "toy"
    outcome = edge_mtl("benchmark", own_bundle.path, "--backend", "toy", "--precision", "fp32", "--rounds", 3, "--json")
    assert outcome.code == 0, outcome
    assert [row["name"] for row in outcome.records[-1]["rows"]] == ["fp32 on onnxruntime, plain", "fp32 on toy"]
    assert_failed(edge_mtl("profile", own_bundle.path, "--backend", "abacus"), 2, "abacus", "toy")


def test_its_style_of_quantization_is_a_target(toy: BackendSpec) -> None:
    frames = [make_image(seed) for seed in range(4)]
    recipe = parse_recipe({"name": "own", "targets": ["toy"]})
    assert target_of("toy") == "toy"
    graph = quantize_for_cpu(host_model(), frames, recipe=recipe, target="toy", threads=1)
    assert facts(graph).integer_layers == 4
    with pytest.raises(BuildError, match=r"Unknown target 'abacus' of quantization\. Choose one of: .*toy"):
        quantize_for_cpu(host_model(), frames, recipe=recipe, target="abacus", threads=1)
    with pytest.raises(BuildError, match="Unknown target 'abacus'"):
        find_blocks(host_model(), recipe, target="abacus")


def test_ranges_are_learnt_for_its_style_too_where_the_recipe_is_the_packages(toy: BackendSpec, tmp_path: Path) -> None:
    """OpenVINO's style leaves Gemm in floating point, the toy's does not: it reads other tensors."""
    bundle = make_bundle(tmp_path / "bundle", tasks=("normals",), deploy=transformer_block(), golden=0, evaluation=0)
    frames = load_calibration(bundle, count=2, unreadable_share=0.0)
    recipe = dataclasses.replace(load_recipe(), targets=("openvino",))
    tried = (Candidate("openvino", "int8"), Candidate("toy", "int8"))
    made = candidate_graphs(bundle, tried, frames, recipe, threads=1, progress=lambda step, done, total: None)
    layers = [facts(made.graphs[candidate]).integer_layers for candidate in tried]
    assert layers[1] > layers[0]


def test_verify_looks_at_int8_graphs_in_its_style_where_a_recipe_names_it(toy: BackendSpec, tiny_bundle: Bundle) -> None:
    recipe = dataclasses.replace(load_recipe(), targets=("onnxruntime", "toy"))
    made = quantized_subjects(tiny_bundle, recipe=recipe, threads=1)
    assert [graph.backend for graph in made] == ["onnxruntime", "toy"]
    assert facts(made[1].model).integer_layers == 4


def test_unknown_targets_and_backends_are_errors_everywhere(tiny_bundle: Bundle) -> None:
    for call in (style_of, lambda name: find_blocks(host_model(), load_recipe(), target=name)):
        with pytest.raises(BuildError, match=r"Unknown target 'toy' .* Choose one of: onnxruntime, openvino, tensorrt$"):
            call("toy")
    with pytest.raises(ValueError, match="targets should be one of onnxruntime, openvino, tensorrt; found 'toy'"):
        parse_recipe({"name": "own", "targets": ["toy"]})
    with pytest.raises(BackendUnavailable, match="Unknown backend 'toy'"):
        target_of("toy")
    with pytest.raises(BuildError, match="No INT8 graphs are built for onnxruntime-cuda"):
        target_of("onnxruntime-cuda")
    for call in (resolve_engine, lambda bundle, backend: EngineStore(bundle).select(backend=backend), verify):
        with pytest.raises(BackendUnavailable, match="Unknown backend 'toy'"):
            call(tiny_bundle, backend="toy")
    with pytest.raises(BuildError, match="Unknown target 'toy'"):
        insert_qdq(host_model(), object(), recipe=load_recipe(), target="toy")  # type: ignore[arg-type]


def test_a_name_is_given_once(toy: BackendSpec) -> None:
    register(toy)
    assert list(BACKENDS).count("toy") == 1
    with pytest.raises(ValueError, match=r"'toy' is registered already \(toy_runtime.backend\)"):
        register(dataclasses.replace(toy, module="another"))
    with pytest.raises(ValueError, match="the Q/DQ style 'toy' is that of toy"):
        register(dataclasses.replace(toy, name="second", qdq=QdqStyle("toy", signed=True)))
    register(dataclasses.replace(toy, name="second"))
    unregister("second")
    assert tuple(qdq_styles()) == ("onnxruntime", "openvino", "tensorrt", "toy")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Toy Runtime"}, "name should be lower-case"),
        ({"name": "auto"}, "name should be"),
        ({"device": "tpu"}, "device should be one of cpu, cuda"),
        ({"takes_graphs": False}, "takes graphs or has a converter"),
        ({"takes_graphs": False, "converter": "toy_runtime.convert"}, "unbuilt should be empty"),
        ({"unbuilt": ("fp12",)}, "precisions should be some of fp32"),
        ({"qdq": None}, "qdq should say"),
        ({"builds": {"fp32": (BuildVariant("int9"),)}}, "found 'int9'"),  # type: ignore[arg-type]
        ({"tried_by_auto": ("fp16",)}, "tried_by_auto should be some of builds"),
    ],
)
def test_a_specification_whose_parts_do_not_fit_is_refused(toy: BackendSpec, change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(toy, **change)  # type: ignore[arg-type]


def installed(folder: Path, **entries: str) -> dict[str, str]:
    """The environment where a distribution with these entry points is installed."""
    record = folder / "toy_runtime-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-runtime\nVersion: 1.0\n")
    lines = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in entries.items())
    (record / "entry_points.txt").write_text(f"[edge_mtl.backends]\n{lines}")
    root = str(PLUGINS.parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(PLUGINS), root))}


def python(environment: dict[str, str], code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def test_an_installed_plug_in_is_known_to_every_process_and_imports_nothing(tmp_path: Path) -> None:
    environment = installed(tmp_path, toy="toy_runtime.spec:SPEC")
    code = (
        "import json, sys; from edge_mtl.backends import BACKENDS, available; found = available();"
        "heavy = [name for name in ('onnx', 'onnxruntime', 'openvino', 'toy_runtime.backend') if name in sys.modules];"
        "print(json.dumps([list(BACKENDS), found['toy'].usable, heavy]))"
    )
    assert json.loads(python(environment, code)) == [[*OWN, "toy"], True, []]
    done = subprocess.run(
        [sys.executable, "-m", "edge_mtl.cli", "doctor", "--json"], capture_output=True, text=True, check=False, env=environment
    )
    assert "toy" in json.loads(done.stdout)["usable"], done.stderr


def test_a_plug_in_that_does_not_load_is_named_and_hinders_nobody(tmp_path: Path) -> None:
    entries = {"abacus": "no_such_module:SPEC", "toy": "toy_runtime.spec:SPEC", "wrong": "toy_runtime.backend:ToyBackend"}
    environment = installed(tmp_path, **entries, onnxruntime="toy_runtime.spec:NOTHING")
    code = (
        "import json; from edge_mtl.backends import available, open_backend; from edge_mtl.errors import BackendUnavailable\n"
        "found = available()\n"
        "try: open_backend('abacus', b'')\n"
        "except BackendUnavailable as exc: said = str(exc)\n"
        "print(json.dumps([{name: entry.usable for name, entry in found.items()}, said, found['wrong'].reason]))"
    )
    usable, said, wrong = json.loads(python(environment, code))
    assert usable["toy"]
    assert usable["onnxruntime"]
    assert (usable["abacus"], usable["wrong"]) == (False, False)
    assert "The plug-in 'abacus' (no_such_module:SPEC) does not load: No module named 'no_such_module'" in said
    assert "registered by a BackendSpec; found type" in wrong
