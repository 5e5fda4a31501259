"""Statistics of calibration frames in place of the frames: the same graphs, and errors where they do not suffice."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edge_mtl.backends.reference import CPU_STYLES, GPU_STYLE
from edge_mtl.errors import BundleError, CalibrationError
from edge_mtl.onnx_graph.model import parse
from edge_mtl.quantization.learned import Learned, write_learned
from edge_mtl.quantization.quantize import calibrate, insert_qdq, quantize
from edge_mtl.quantization.recipes import (
    TENSORRT_INT8,
    CrossLayerEqualization,
    LayerOverride,
    Recipe,
    load_recipe,
    recipe_for,
)
from edge_mtl.quantization.recorded import Recorded, read_recorded, write_recorded
from edge_mtl.quantization.recording import record
from tests.bundles import host_model, make_image
from tests.transformers import transformer_block
from tests.unit.edge_mtl.quantization.test_quantize import transformer_like

FRAMES = [make_image(seed) for seed in range(6)]
PRINTS = np.zeros((len(FRAMES), 128), np.uint8)
CPU, GPU = load_recipe(), load_recipe(TENSORRT_INT8)
NETWORKS = {"convolutions": host_model(), "patterns": transformer_like(), "transformer": transformer_block()}
TARGETS = (*CPU_STYLES, GPU_STYLE)


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Recorded]:
    """What is read back from a file, by network."""
    found = {}
    for name, model in NETWORKS.items():
        payload = write_recorded(record(model, FRAMES, fingerprints=PRINTS, threads=1))
        found[name] = read_recorded(payload, source="a test")
    return found


def graph(model: bytes, material: list[np.ndarray] | Recorded, recipe: Recipe, target: str, *, bits: int = 8) -> bytes:
    """INT8 of the model for one target, as `build-engine` makes it."""
    ranges = calibrate(model, material, recipe=replace(recipe, targets=(target,)), threads=1)
    return insert_qdq(model, ranges, recipe=recipe, target=target, bits=bits)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_int8_from_the_record_is_the_graph_from_the_frames_to_the_last_bit(
    network: str, recorded: dict[str, Recorded], target: str, method: str
) -> None:
    recipe = recipe_for(target, CPU)
    recipe = replace(recipe, activations=replace(recipe.activations, method=method))
    model = NETWORKS[network]
    for bits in (8,) if target == GPU_STYLE else (7, 8):
        expected = graph(model, FRAMES, recipe, target, bits=bits)
        assert graph(model, recorded[network], recipe, target, bits=bits) == expected
    other = graph(model, FRAMES[::-1][:3], recipe, target)
    assert other != graph(model, FRAMES, recipe, target), "frames do decide the graph"


def test_the_graphs_that_travel_are_the_same_too(network: str, recorded: dict[str, Recorded]) -> None:
    assert quantize(NETWORKS[network], recorded[network], threads=1) == quantize(NETWORKS[network], FRAMES, threads=1)


def test_a_recipe_without_equalisation_or_bias_correction_works(network: str, recorded: dict[str, Recorded]) -> None:
    for recipe in (
        replace(CPU, equalisation=CrossLayerEqualization(enabled=False, strength=0.3)),
        replace(CPU, weights=replace(CPU.weights, bias_correction=False)),
        replace(CPU, layers=(LayerOverride("*", method="minmax"),)),
    ):
        expected = graph(NETWORKS[network], FRAMES, recipe, CPU_STYLES[0])
        assert graph(NETWORKS[network], recorded[network], recipe, CPU_STYLES[0]) == expected


@settings(max_examples=12)
@given(
    wise=st.sets(st.sampled_from(CPU.placement.element_wise)),
    kinds=st.sets(st.sampled_from(("Gemm", "MatMul"))),
    tail=st.integers(0, 3),
    products=st.booleans(),
    target=st.sampled_from(TARGETS),
)
def test_any_placement_can_be_had_from_the_record(
    recorded: dict[str, Recorded], wise: set[str], kinds: set[str], tail: int, products: bool, target: str
) -> None:
    own = recipe_for(target, CPU)
    placement = replace(
        own.placement,
        element_wise=tuple(sorted(wise)),
        op_types=("Conv", *sorted(kinds)),
        products=products,
        float_tail={"normals_quarter": tail},
    )
    recipe = replace(own, placement=placement, layers=())
    for name in ("patterns", "transformer"):
        found, expected = (graph(NETWORKS[name], given, recipe, target) for given in (recorded[name], FRAMES))
        assert_same_but_for_rounding(found, expected)


def assert_same_but_for_rounding(found: bytes, expected: bytes) -> None:
    """The same operators; constants to float32's rounding, for a runtime fuses others where fewer tensors are looked at."""
    some, other = onnx.load_from_string(found), onnx.load_from_string(expected)
    assert list(some.graph.node) == list(other.graph.node)
    pairs = zip(some.graph.initializer, other.graph.initializer, strict=True)
    for mine, theirs in ((numpy_helper.to_array(a), numpy_helper.to_array(b)) for a, b in pairs):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_allclose(mine.astype(np.int64), theirs.astype(np.int64), rtol=1e-4, atol=1)


def test_ranges_that_were_learnt_need_no_record_and_the_other_targets_have_one() -> None:
    model = parse(host_model(), name="the model")
    learned = replace(CPU, equalisation=CrossLayerEqualization(enabled=False))
    ranges = calibrate(host_model(), FRAMES, recipe=learned).ranges
    write_learned(model, Learned(CPU_STYLES[0], ranges, learned))
    fine_tuned = model.SerializeToString()
    found = read_recorded(write_recorded(record(fine_tuned, FRAMES, fingerprints=PRINTS)), source="a test")
    for target in TARGETS:
        recipe = recipe_for(target, CPU)
        assert graph(fine_tuned, found, recipe, target) == graph(fine_tuned, FRAMES, recipe, target)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            replace(CPU, equalisation=CrossLayerEqualization(strength=0.75)),
            "equalisation of strength 0.5 on 8 frames or off; the recipe has of strength 0.75 on 8 frames",
        ),
        (replace(CPU, activations=replace(CPU.activations, bins=512)), "2048 bins; the recipe has activations.bins = 512"),
    ],
)
def test_what_was_not_recorded_is_named_with_what_to_give_instead(
    recorded: dict[str, Recorded], recipe: Recipe, message: str
) -> None:
    with pytest.raises(CalibrationError, match=message) as caught:
        calibrate(NETWORKS["convolutions"], recorded["convolutions"], recipe=recipe)
    assert "--calibration DIR" in str(caught.value)


def test_a_record_is_of_one_graph(recorded: dict[str, Recorded]) -> None:
    with pytest.raises(CalibrationError, match="of another graph"):
        calibrate(host_model(seed=9), recorded["convolutions"], recipe=CPU)


def test_a_record_of_fewer_activations_says_which_are_lacking(recorded: dict[str, Recorded]) -> None:
    whole = recorded["convolutions"]
    passes = tuple(
        replace(one, request=replace(one.request, tensors=one.request.tensors - {"pointwise"})) for one in whole.passes
    )
    with pytest.raises(CalibrationError, match="lack 1 activations that the recipe quantizes, such as pointwise"):
        calibrate(NETWORKS["convolutions"], replace(whole, passes=passes), recipe=CPU)


def test_the_file_is_the_same_for_the_same_frames_and_knows_them_by_their_digests() -> None:
    payloads = [write_recorded(record(host_model(), FRAMES, fingerprints=PRINTS, threads=1)) for _ in range(2)]
    assert payloads[0] == payloads[1]
    found = read_recorded(payloads[0], source="a test")
    assert len(found) == len(FRAMES) == len(set(found.digests))
    assert write_recorded(found) == payloads[0], "nothing is lost on the way"


def test_the_file_holds_figures_about_many_pixels_and_nothing_of_a_frame(recorded: dict[str, Recorded]) -> None:
    for one in recorded["transformer"].passes:
        for name, item in one.observed.statistics.items():
            assert name != "image", "the image itself is not looked at"
            assert item.histogram.counts.sum() >= len(FRAMES) * 16 * 24, "counts are of all frames together"
    with np.load(io.BytesIO(write_recorded(recorded["transformer"]))) as stored:
        names = {name.partition(".")[2] for name in stored.files}
    assert names == {
        "", "first", "bins", "low", "high", "width", "added", "counts", "counts.lengths", "sums", "sums.lengths", "reach",
        "reach.lengths", "scales", "scales.lengths",
    }  # fmt: skip


def test_no_frames_cannot_be_recorded() -> None:
    with pytest.raises(CalibrationError, match="no calibration frames to record"):
        record(host_model(), [], fingerprints=PRINTS[:0])


@pytest.mark.parametrize("damage", ["cut", "nonsense", "version", "lengths", "bins"])
def test_a_damaged_file_is_refused(recorded: dict[str, Recorded], damage: str) -> None:
    payload = write_recorded(recorded["convolutions"])
    if damage == "cut":
        payload = payload[: len(payload) // 2]
    elif damage == "nonsense":
        payload = b"not an archive"
    else:
        with np.load(io.BytesIO(payload)) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if damage == "version":
            text = arrays["content"].tobytes().replace(b'"version": 1', b'"version": 7')
            arrays["content"] = np.frombuffer(text, np.uint8)
        elif damage == "lengths":
            arrays["0.counts.lengths"] = arrays["0.counts.lengths"] + 1
        else:
            arrays["0.bins"] = arrays["0.bins"] * 0 + 3
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        payload = stream.getvalue()
    with pytest.raises(BundleError, match="a test does not hold calibration statistics"):
        read_recorded(payload, source="a test")
