"""A recipe of one's own: it decides how INT8 is made, is part of what an engine is, and travels with a bundle."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edge_mtl.builder import pipeline
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.builder.recalibrate import recalibrate
from edge_mtl.bundle import BUNDLED, OPTIMIZED_ONNX, Bundle, bundled
from edge_mtl.calibration.source import open_calibration_source
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.revision import rollback
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.evaluation.verify import quantized_subjects
from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.layers import without_layers
from edge_mtl.quantization.learned import OWN_RECIPE, int8_recipe
from edge_mtl.quantization.quantize import CPU_MODEL
from edge_mtl.quantization.recipes import Recipe, load_recipe
from tests.bundles import write_image
from tests.command_line import assert_failed, edge_mtl
from tests.unit.edge_mtl.calibration.test_sampling import scene

OWN = 'name = "mine"\ntargets = ["onnxruntime"]\n[activations]\nmethod = "minmax"\n'
LOOSE = Budget({"miou": 0.3, "rel": 0.3, "normal": 20, "classes": 0.3, "depth": 0.3, "angle": 20})


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "place" / "own"))


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)


def written(folder: Path, text: str = OWN, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def build(bundle: Bundle, recipe: Recipe | None, backend: str = "onnxruntime") -> pipeline.BuildReport:
    return build_engine(bundle, precision="int8", backend=backend, recipe=recipe, threads=1, budget=None)


def test_only_what_a_recipe_says_counts_in_its_digest(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path))
    assert load_recipe(written(tmp_path, f"# a remark\n{OWN}", "same.toml")).digest == recipe.digest
    assert load_recipe(written(tmp_path, f"{OWN}bins = 512\n", "other.toml")).digest != recipe.digest
    assert len(recipe.digest) == 64


def test_a_changed_recipe_makes_another_engine_and_the_old_one_goes(own_bundle: Bundle, tmp_path: Path) -> None:
    store = EngineStore(own_bundle)
    first = build(own_bundle, None, backend="auto").record
    others = {record.key for record in store.list() if record.backend != "onnxruntime"}
    recipe = load_recipe(written(tmp_path))
    second = build(own_bundle, recipe).record
    assert (second.options["recipe"], second.options["recipe_digest"]) == ("mine", recipe.digest)
    assert second.key != first.key
    assert {record.key for record in store.list()} == {second.key, *others}
    third = build(own_bundle, replace(recipe, activations=replace(recipe.activations, method="mse"))).record
    assert third.sha256 != second.sha256
    assert {record.key for record in store.list()} == {third.key, *others}
    assert build(own_bundle, recipe).record.key == second.key
    for record in store.list():
        store.load(record)


def test_an_engine_for_another_number_of_threads_stays(own_bundle: Bundle) -> None:
    """The positive control of what goes: nothing but another recipe or other frames makes an engine outdated."""
    for threads in (1, 2):
        build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=threads, budget=None)
    assert len(EngineStore(own_bundle).list()) == 2


def test_only_runtimes_that_a_recipe_names_get_integers(own_bundle: Bundle, tmp_path: Path) -> None:
    report = build(own_bundle, load_recipe(written(tmp_path)), backend="auto")
    assert {row.backend for row in report.rows if row.precision.startswith("int8")} == {"onnxruntime"}
    mixed = build_engine(
        own_bundle, precision="auto", recipe=load_recipe(written(tmp_path)), threads=1, budget=None, search_s=0.0
    )
    assert ("openvino", "fp32") in {(row.backend, row.precision) for row in mixed.rows}
    assert not any(row.backend == "openvino" and row.precision.startswith("int8") for row in mixed.rows)
    with pytest.raises(BuildError, match=r"mine is for onnxruntime; INT8 can be built here for openvino\. Add one"):
        build(own_bundle, load_recipe(written(tmp_path)), backend="openvino")


def test_layers_that_the_network_does_not_have_are_named(own_bundle: Bundle, tmp_path: Path) -> None:
    text = f'{OWN}[[layers]]\nmatch = "bakcbone.*"\nprecision = "float"\n[[layers]]\nmatch = "*"\npercentile = 99.9\n'
    warnings = build(own_bundle, load_recipe(written(tmp_path, text))).warnings
    assert [warning for warning in warnings if "'bakcbone.*'; this network has none" in warning]
    assert not [warning for warning in warnings if "'*'" in warning]


def test_a_recipe_that_calibrated_a_bundle_travels_with_it_and_goes_with_the_revision(
    own_bundle: Bundle, tmp_path: Path
) -> None:
    images = tmp_path / "pictures"
    images.mkdir()
    for number in range(6):
        write_image(images / f"{number}.png", scene(number))
    path = written(tmp_path)
    done = recalibrate(
        own_bundle.path,
        open_calibration_source(images),
        recipe=path,
        budget=LOOSE,
        backend="onnxruntime",
        embedding="colour",
        threads=1,
    )
    recipe = load_recipe(path)
    assert done.bundle.read(OWN_RECIPE) == path.read_bytes()
    assert done.bundle.manifest.calibration["recipe_digest"] == recipe.digest
    assert done.build is not None
    assert done.build.record.options["recipe_digest"] == recipe.digest
    assert int8_recipe(done.bundle) == recipe
    (again,) = quantized_subjects(done.bundle, portable=True, threads=1)
    assert again.model == done.bundle.read(CPU_MODEL)

    kept = recalibrate(own_bundle.path, open_calibration_source(images), count=4, budget=LOOSE, embedding="colour", threads=1)
    assert kept.build is not None
    assert {row.backend for row in kept.build.rows} == {"onnxruntime"}
    assert kept.build.record.options["recipe_digest"] == recipe.digest
    with pytest.raises(BuildError, match="give another recipe"):
        build(kept.bundle, None, backend="openvino")
    assert build(kept.bundle, load_recipe(), backend="openvino").record.options["recipe"] == "cpu-int8"
    assert int8_recipe(kept.bundle) == recipe
    assert int8_recipe(rollback(own_bundle.path, to=1)) == load_recipe()

    (kept.bundle.path.parent / "own.revision-3" / OWN_RECIPE).write_text('name = "other"')
    with pytest.raises(BundleError):
        int8_recipe(Bundle.open(kept.bundle.path.parent / "own.revision-3"))


def test_a_bundle_is_not_calibrated_by_a_recipe_that_its_gate_cannot_run(own_bundle: Bundle, tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "mine"\ntargets = ["tensorrt"]')
    with pytest.raises(BuildError, match='Add "onnxruntime" to its targets'):
        recalibrate(own_bundle.path, open_calibration_source(tmp_path), recipe=path, threads=1)
    assert Bundle.open(own_bundle.path).digest == own_bundle.digest


@pytest.mark.parametrize("name", BUNDLED)
def test_the_recipe_of_the_guide_works_on_bundles_of_the_package(name: str, tmp_path: Path) -> None:
    guide = (Path(__file__).resolve().parents[4] / "docs" / "guides" / "int8.md").read_text(encoding="utf-8")
    recipe = load_recipe(written(tmp_path, guide.split("```toml\n")[1].split("```")[0]))
    index = GraphIndex(parse(Bundle.open(bundled(name)).read(OPTIMIZED_ONNX), name=name))
    assert recipe.name == "my-robot"
    assert not without_layers(recipe.layers, index)


def test_the_command_line_says_what_is_wrong_with_a_recipe(own_bundle: Bundle, tmp_path: Path) -> None:
    bad = written(tmp_path, 'name = "x"\n[activations]\nmethod = "magic"')
    command = ("build-engine", str(own_bundle.path), "--int8", "--threads", "1", "--recipe")
    assert_failed(edge_mtl(*command, str(bad)), 9, "activations.method should be one of", "cpu-int8.toml")
    assert_failed(edge_mtl(*command, str(tmp_path / "none.toml")), 9, "none.toml cannot be read: No such file")
    assert_failed(edge_mtl("build-engine", "--fp32", "--recipe", str(bad)), 2, "--recipe says how to make INT8; found --fp32")
    assert_failed(edge_mtl("calibrate", "--rollback", "--recipe", str(bad)), 2, "found both")
    assert_failed(
        edge_mtl("calibrate", str(tmp_path), "--bundle", str(own_bundle.path), "--engines", "--recipe", str(bad)),
        9,
        "not valid",
    )
    good = edge_mtl(*command, str(written(tmp_path)), "--max-drop", "none")
    assert good.code == 0
    assert "INT8 by the recipe mine" in good.out


def test_sensitivity_asks_any_runtime_by_any_recipe(own_bundle: Bundle, tmp_path: Path) -> None:
    command = ("sensitivity", own_bundle.path, "--target", "tensorrt", "--recipe", written(tmp_path), "--out", tmp_path / "out")
    found = edge_mtl(*command, "--frames", 2, "--rounds", 0, "--threads", 1)
    assert found.code == 0, found.err
