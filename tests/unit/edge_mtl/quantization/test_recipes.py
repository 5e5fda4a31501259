"""Recipes: TOML in, frozen values out, nothing unknown accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from edge_mtl.errors import BuildError
from edge_mtl.quantization.recipes import CPU_INT8, TENSORRT_INT8, LayerOverride, Method, Recipe, ReduceRange, load_recipe


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_the_recipe_of_the_package_loads() -> None:
    recipe = load_recipe()
    assert recipe.name == "cpu-int8"
    assert recipe.activations.method == "percentile"
    assert recipe.placement.op_types == ("Conv", "Gemm", "MatMul")
    assert set(recipe.placement.float_tail) == {"*_logits", "*_quarter", "*_scores_*", "*_boxes_*"}
    assert CPU_INT8.is_file()


def test_both_recipes_of_the_package_share_one_calibration() -> None:
    cpu, tensorrt = load_recipe(CPU_INT8), load_recipe(TENSORRT_INT8)
    assert cpu.targets == ("onnxruntime", "openvino")
    assert tensorrt.targets == ("tensorrt",)
    assert (cpu.activations, cpu.equalisation) == (tensorrt.activations, tensorrt.equalisation)


def test_single_layers_are_overridden_in_order(tmp_path: Path) -> None:
    text = 'name = "x"\n[[layers]]\nmatch = "a.*"\nprecision = "float"\n[[layers]]\nmatch = "a.b"\npercentile = 99.5'
    assert load_recipe(written(tmp_path, text)).layers == (
        LayerOverride("a.*", precision="float"),
        LayerOverride("a.b", percentile=99.5),
    )


def test_what_a_recipe_leaves_out_has_defaults(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, 'name = "mine"')) == Recipe("mine")


def test_what_a_recipe_leaves_out_is_as_in_the_packages_own() -> None:
    assert Recipe("cpu-int8") == load_recipe(CPU_INT8)


@pytest.mark.parametrize("path", [CPU_INT8, TENSORRT_INT8], ids=lambda path: path.stem)
def test_the_comments_of_a_recipe_name_every_choice(path: Path) -> None:
    """`key = value  # a | b | c`, with what is not the value of this file after its colon."""
    text = path.read_text()
    for key, choices in (("method", get_args(Method)), ("reduce_range", get_args(ReduceRange))):
        for line in re.findall(rf"^(?:# )?{key} = .*#.*\|.*$", text, re.MULTILINE):
            assert set(re.findall(r"\w+", line.split("=", 1)[1])) >= set(choices), line
    assert re.search(r"^method = .*#.*\|", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name should be a word"),
        ('name = "x"\nspeed = 3', "unknown key 'speed'"),
        ('name = "x"\n[activations]\nmethods = "mse"', "unknown key activations.methods"),
        ('name = "x"\n[activations]\nmethod = "magic"', "activations.method should be one of"),
        ('name = "x"\n[activations]\npercentile = 12', "activations.percentile should be a number from 90 to 100"),
        ('name = "x"\n[activations]\nbins = true', "activations.bins should be a number"),
        ('name = "x"\n[weights]\nreduce_range = "maybe"', "weights.reduce_range should be one of"),
        ('name = "x"\n[placement]\nop_types = "Conv"', "placement.op_types should be a list of words"),
        ('name = "x"\n[placement]\nop_types = ["Softmax"]', "placement.op_types should be one of"),
        ('name = "x"\n[placement]\nelement_wise = ["LayerNormalization"]', "placement.element_wise should be one of"),
        ('name = "x"\n[placement]\nexclude = ["("]', "is not a regular expression"),
        ('name = "x"\n[placement]\nfloat_tail = 1', "placement.float_tail should be a table"),
        ('name = "x"\n[placement.float_tail]\ndepth_quarter = -1', "placement.float_tail.depth_quarter should be a number"),
        ('name = "x"\ncalibration = 32', "calibration should be a table"),
        ('name = "x"\n[calibration]\nframes = 0', "calibration.frames should be a number from 1"),
        ('name = "x"\n[calibration]\nunreadable_share = 2', "calibration.unreadable_share should be a number from 0 to 1"),
        ('name = "x"\ntargets = ["abacus"]', "targets should be one of"),
        ('name = "x"\ntargets = []', "targets should name some of"),
        ('name = "x"\n[weights]\nbias_correction = 1', "weights.bias_correction should be true or false"),
        ('name = "x"\n[equalisation]\nenabled = "yes"', "equalisation.enabled should be true or false"),
        ('name = "x"\n[equalisation]\nstrength = 2', "equalisation.strength should be a number from 0 to 1"),
        ('name = "x"\n[placement]\nproducts = 1', "placement.products should be true or false"),
        ('name = "x"\n[layers]\nmatch = "a"', "layers should be tables"),
        ('name = "x"\n[[layers]]\nprecision = "float"', r"layers\[0\].match should be a glob"),
        ('name = "x"\n[[layers]]\nmatch = "a"\nprecision = "int4"', r"layers\[0\].precision should be one of"),
        ('name = "x"\n[[layers]]\nmatch = "a"\nmethod = "magic"', r"layers\[0\].method should be one of"),
        ('name = "x"\n[[layers]]\nmatch = "a"\npercentile = 3', r"layers\[0\].percentile should be a number"),
        ('name = "x"\n[[layers]]\nname = "a"', r"unknown key layers\[0\].name"),
        ("name =", "cannot be read"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        load_recipe(written(tmp_path, text))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"nowhere\.toml cannot be read"):
        load_recipe(tmp_path / "nowhere.toml")
