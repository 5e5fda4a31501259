"""A bundle stores its weights once: the graphs come out of them bit for bit, and damage is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_mtl import Engine
from edge_mtl.bundle import BUNDLED, MANIFEST, OPTIMIZED_ONNX, REFERENCE_ONNX, WEIGHTS, Bundle, bundled, new_revision
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import BundleError
from edge_mtl.files import sha256_bytes
from edge_mtl.manifest import FileEntry
from edge_mtl.onnx_graph import allowlist
from edge_mtl.weights import assembly
from edge_mtl.weights.assembly import assemble
from edge_mtl.weights.byte_planes import pack, unpack
from edge_mtl.weights.safetensors import read_tensors
from edge_mtl.weights.split import split_graph
from edge_mtl.weights.store import PACKED, PARTS
from tests.bundles import ROOMS_B0, graph_model, host_model, make_bundle, make_image, safetensors

GRAPHS = (REFERENCE_ONNX, OPTIMIZED_ONNX)
Array = np.ndarray


def onnx_file(initializers: dict[str, Array], *, raw: bool = True) -> bytes:
    """A graph that adds up nothing but holds these initializers, as raw data or as lists of numbers."""
    tensors = []
    for name, value in initializers.items():
        if raw:
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            tensors.append(helper.make_tensor(name, kind, value.shape, value.ravel().tolist()))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["out"])], "g", [image], [out], tensors)
    return helper.make_model(graph).SerializeToString()


def weights_of(seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    shapes = {"conv": (16, 8, 3, 3), "linear": (32, 24), "qkv": (96, 16), "bias": (96,)}
    return {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def scaled(weight: Array, factors: Array) -> Array:
    wide = weight.astype(np.float64) * factors.reshape(-1, *(1,) * (weight.ndim - 1))
    return wide.astype(np.float32)


def parts_of(model: bytes, tensors: dict[str, Array]) -> bytes:
    parts = split_graph(model, tensors)
    assert parts is not None
    return parts


FACTORS = np.linspace(0.3, 2.7, 16)
CASES: dict[str, Any] = {
    "as it is": lambda w: w["conv"],
    "a linear layer as a 1x1 convolution": lambda w: w["linear"][:, :, None, None],
    "transposed": lambda w: w["linear"].T,
    "channels last": lambda w: w["conv"].transpose(0, 2, 3, 1).reshape(16, -1),
    "keys of all heads": lambda w: w["qkv"][32:64],
    "the centre of a kernel": lambda w: w["conv"][:, :, 1:2, 1:2],
    "batch norm folded": lambda w: scaled(w["conv"], FACTORS),
    "a window, scaled": lambda w: scaled(w["qkv"][:32], np.full(32, 0.17677669529663687)),
    "scaled in single precision": lambda w: w["conv"] * np.float32(0.3),
}


class TestSplit:
    """What is found among the weights is left out; the graph comes back bit for bit."""

    @pytest.mark.parametrize("case", CASES)
    def test_a_weight_is_stored_once(self, case: str) -> None:
        weights = weights_of()
        value = CASES[case](weights)
        model = onnx_file({"w": value})
        parts = parts_of(model, weights)
        assert assemble(parts, weights, name="it") == model
        assert len(parts) < len(model) - value.nbytes + 400

    @pytest.mark.parametrize("case", ["another weight", "one bit differs", "numbers that may be flushed to zero", "no number"])
    def test_what_is_not_exactly_a_weight_stays(self, case: str) -> None:
        weights = weights_of()
        value = weights["conv"].copy()
        if case == "another weight":
            value = weights_of(1)["conv"]
        elif case == "one bit differs":
            value.view(np.uint32)[3, 3, 1, 1] ^= 1
        elif case == "numbers that may be flushed to zero":
            value = scaled(value, np.full(16, 1e-39))
        else:
            value[0, 0, 0, 0] = np.nan
        assert split_graph(onnx_file({"w": value}), weights) is None

    def test_numbers_that_are_not_raw_data_stay(self) -> None:
        weights = weights_of()
        model = onnx_file({"a": weights["conv"]}, raw=False)
        assert split_graph(model, weights) is None
        assert split_graph(b"no ONNX", weights) is None

    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_graph_comes_back(self, data: st.DataObject) -> None:
        random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
        kinds = st.sampled_from([np.float32, np.int64])
        weights, held = {}, {}
        for number in range(data.draw(st.integers(1, 5))):
            shape, kind = data.draw(shapes), data.draw(kinds)
            value = (random.normal(0, 1, shape) * 50).astype(kind)
            weights[f"w{number}"] = value
            how = data.draw(st.sampled_from(["absent", "same", "transposed", "half", "scaled", "foreign"]))
            if how == "transposed":
                value = value.transpose(data.draw(st.permutations(range(value.ndim))))
            elif how == "half":
                value = value[: max(1, len(value) // 2)]
            elif how == "scaled" and kind is np.float32:
                value = scaled(value, random.normal(0, 2, len(value)))
            elif how == "foreign":
                value = random.normal(0, 1, shape).astype(kind)
            if how != "absent":
                held[f"v{number}"] = value
        model = onnx_file(held, raw=data.draw(st.booleans()))
        parts = split_graph(model, weights)
        stored = read_tensors(memoryview(unpack(pack(safetensors(weights)), name="it")), name="it")
        assert parts is None or assemble(parts, stored, name="it") == model


@given(payload=st.binary(max_size=300) | st.lists(st.floats(width=32)).map(lambda x: np.array(x, np.float32).tobytes()))
def test_any_bytes_come_out_of_their_planes(payload: bytes) -> None:
    assert unpack(pack(payload), name="it").tobytes() == payload
    assert unpack(pack(safetensors({"w": np.zeros(5, np.float32)}) + payload), name="it").tobytes().endswith(payload)


def test_safetensors_are_read_as_their_package_reads_them() -> None:
    package = pytest.importorskip("safetensors.numpy")
    random = np.random.default_rng(0)
    kinds = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {kind: (random.normal(0, 9, (3, 2, 4))).astype(kind) for kind in kinds}
    tensors |= {"number": np.array(3.0, np.float32), "nothing": np.zeros((0, 4), np.float32)}
    found = read_tensors(package.save(tensors, metadata={"by": "us"}), name="it")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name].view(value.dtype), value)


class TestBundle:
    def test_both_graphs_are_what_whole_files_would_be(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        whole = make_bundle(tmp_path / "whole", whole=True)
        assert set(tiny_bundle.manifest.assembled) == {*GRAPHS, WEIGHTS}
        assert not whole.manifest.assembled
        assert not any(tiny_bundle.path.joinpath(name).exists() for name in (*GRAPHS, WEIGHTS))
        for name, model in zip(GRAPHS, (graph_model(), host_model()), strict=True):
            assert tiny_bundle.read(name) == whole.read(name) == model
            assert tiny_bundle.entry(name) == whole.entry(name) == FileEntry(sha256_bytes(model), len(model))
            assert tiny_bundle.has(name)
            assert tiny_bundle.manifest.files[name + PARTS].size < len(model) / 3
        tiny_bundle.verify()

    def test_a_bundle_of_whole_graphs_still_runs(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        whole, frame = make_bundle(tmp_path / "whole", whole=True), make_image(7)
        whole.verify()
        with Engine(whole, threads=1) as old, Engine(tiny_bundle, threads=1) as new:
            before, after = old.predict(frame), new.predict(frame)
        for task in ("segmentation", "depth", "normals"):
            np.testing.assert_array_equal(getattr(before, task), getattr(after, task))

    def test_an_old_bundle_is_converted_with_its_weights_and_keeps_its_engines(self, tmp_path: Path) -> None:
        from edge_mtl.builder.pipeline import build_engine

        whole = make_bundle(tmp_path / "whole", whole=True)
        weights = make_bundle(tmp_path / "new").read(WEIGHTS)
        record = build_engine(whole, precision="fp32", backend="onnxruntime", threads=1).record
        made = new_revision(whole, lambda folder: (folder / WEIGHTS).write_bytes(weights) and None)
        assert set(made.manifest.assembled) == {*GRAPHS, WEIGHTS}
        assert [made.entry(name) for name in GRAPHS] == [whole.entry(name) for name in GRAPHS]
        assert EngineStore(made).mismatch(record) is None
        made.verify()

    def test_a_revision_keeps_what_it_does_not_change(self, own_bundle: Bundle) -> None:
        second = new_revision(own_bundle, accuracy={"int8": {"miou": 0.1}})
        assert second.manifest.assembled == own_bundle.manifest.assembled
        second.verify()

    def test_a_whole_graph_replaces_the_one_that_was_assembled(self, own_bundle: Bundle) -> None:
        other = host_model(seed=9)
        second = new_revision(own_bundle, lambda folder: (folder / OPTIMIZED_ONNX).write_bytes(other) and None)
        assert second.read(OPTIMIZED_ONNX) == other
        assert set(second.manifest.assembled) == {REFERENCE_ONNX, WEIGHTS}
        assert OPTIMIZED_ONNX + PARTS not in second.manifest.files
        second.verify()

    def test_other_weights_change_no_graph(self, own_bundle: Bundle, tmp_path: Path) -> None:
        other = make_bundle(tmp_path / "other", seed=5).read(WEIGHTS)
        graphs = [own_bundle.read(name) for name in GRAPHS]
        second = new_revision(own_bundle, lambda folder: (folder / WEIGHTS).write_bytes(other) and None)
        assert second.read(WEIGHTS) == other
        assert [second.read(name) for name in GRAPHS] == graphs
        second.verify()

    def test_rooms_b0_is_the_network_that_was_exported_and_half_as_large(self) -> None:
        demo = Bundle.open(ROOMS_B0)
        exported = {
            REFERENCE_ONNX: ("11bb43dfaaf4f8d4a99f080c9c2f5f601fed42d1bdeacb25d84a7551acd3ceb2", 14137786),
            OPTIMIZED_ONNX: ("137fc094723b64570f48e709d1cf51e630851e92f7a08b7b14c68238ac3b6df6", 14096097),
        }
        for name, (digest, size) in exported.items():
            model = demo.read(name)
            assert (sha256_bytes(model), len(model)) == (digest, size)
        assert sum(entry.size for entry in demo.manifest.files.values()) < 15.5e6
        shares = [demo.manifest.files[name + PARTS].size for name in GRAPHS]
        assert sum(shares) < 0.05 * demo.entry(WEIGHTS).size, "little lies there twice"


def forge(bundle: Bundle, name: str, payload: bytes) -> Bundle:
    """The bundle with another file, and a manifest that fits it, as somebody with bad intentions writes it."""
    (bundle.path / name).write_bytes(payload)
    content = json.loads((bundle.path / MANIFEST).read_text())
    content["files"][name] = {"sha256": sha256_bytes(payload), "size": len(payload)}
    (bundle.path / MANIFEST).write_text(json.dumps(content))
    return Bundle.open(bundle.path)


FORGERIES: dict[str, Any] = {
    "an offset behind the end": {"at": 10**9},
    "an offset before the piece": {"at": 0},
    "a negative offset": {"at": -5},
    "an offset that is not a number": {"at": "0"},
    "a truth for an offset": {"at": True},
    "a tensor that is not there": {"tensor": "gone"},
    "a number for a tensor": {"tensor": 3},
    "a window outside": {"window": [[0, 99], [0, 1], [0, 3], [0, 3]]},
    "a window before the start": {"window": [[-4, 8], [0, 1], [0, 3], [0, 3]]},
    "a window of huge numbers": {"window": [[0, 10**30]] * 4},
    "a window of other axes": {"window": [[0, 8]]},
    "axes twice": {"axes": [0, 0, 1, 2]},
    "too many axes": {"axes": list(range(9))},
    "factors that are not there": {"factors": [0, 8]},
    "factors of huge number": {"factors": [0, 10**30]},
    "no offset": {"at": None},
}


class TestDamage:
    @pytest.mark.parametrize("name", [PACKED, OPTIMIZED_ONNX + PARTS])
    @pytest.mark.parametrize("damage", [lambda p: p[:-1], lambda p: p[:40], lambda p: b"", lambda p: p[:-9] + b"x" + p[-8:]])
    def test_an_altered_file_is_named_with_the_remedy(self, own_bundle: Bundle, name: str, damage: Any) -> None:
        path = own_bundle.path / name
        path.write_bytes(damage(path.read_bytes()))
        for act in (lambda: own_bundle.read(OPTIMIZED_ONNX), own_bundle.verify, lambda: Engine(own_bundle)):
            with pytest.raises(BundleError, match=rf"{name} was altered.*[Rr]estore"):
                act()

    def test_a_missing_file_is_named(self, own_bundle: Bundle) -> None:
        (own_bundle.path / PACKED).unlink()
        with pytest.raises(BundleError, match=rf"{PACKED} is listed in the manifest but cannot be read"):
            own_bundle.read(OPTIMIZED_ONNX)

    def test_weights_of_another_network_are_refused(self, own_bundle: Bundle, tmp_path: Path) -> None:
        other = make_bundle(tmp_path / "other", seed=8)
        swapped = forge(own_bundle, PACKED, (other.path / PACKED).read_bytes())
        for name in (*GRAPHS, WEIGHTS):
            with pytest.raises(BundleError, match=r"SHA-256 differs.*[Rr]estore"):
                swapped.read(name)

    @given(data=st.data())
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_damage_is_a_bundle_error(self, data: st.DataObject, tiny_bundle: Bundle) -> None:
        name = data.draw(st.sampled_from([PACKED, OPTIMIZED_ONNX + PARTS]))
        payload = bytearray(tiny_bundle.read(name))
        for _ in range(data.draw(st.integers(1, 3))):
            first = data.draw(st.integers(0, len(payload)) | st.integers(0, min(200, len(payload))))
            count = data.draw(st.sampled_from([0, 1, 1, 4, 1000]))
            payload[first : first + count] = data.draw(st.binary(max_size=8))
        parts = {name: tiny_bundle.read(name) for name in (PACKED, OPTIMIZED_ONNX + PARTS)} | {name: bytes(payload)}
        message = "nothing was wrong: Restore"
        try:  # what follows the digests, which somebody with bad intentions may forge
            tensors = read_tensors(unpack(parts[PACKED], name=PACKED), name=PACKED)
            assemble(parts[OPTIMIZED_ONNX + PARTS], tensors, name=OPTIMIZED_ONNX + PARTS)
        except BundleError as exc:
            message = str(exc)
        assert "estore" in message

    @pytest.mark.parametrize("case", FORGERIES)
    def test_a_wrong_table_is_refused(self, case: str, own_bundle: Bundle) -> None:
        header, rest = self.opened(own_bundle)
        header["pieces"][1] |= FORGERIES[case]
        forged = forge(own_bundle, OPTIMIZED_ONNX + PARTS, self.closed(header, rest))
        with pytest.raises(BundleError, match=rf"{OPTIMIZED_ONNX}.*[Rr]estore"):
            forged.read(OPTIMIZED_ONNX)

    @pytest.mark.parametrize(
        "header",
        [[], {}, {"format": 1}, {"format": 2, "factors": 0, "pieces": []}, {"format": 1, "factors": 10**20, "pieces": []}],
    )
    def test_a_header_of_another_kind_is_refused(self, header: Any, own_bundle: Bundle) -> None:
        forged = forge(own_bundle, OPTIMIZED_ONNX + PARTS, self.closed(header, b""))
        with pytest.raises(BundleError, match=OPTIMIZED_ONNX):
            forged.read(OPTIMIZED_ONNX)

    def test_a_graph_is_never_much_larger_than_its_parts(self, own_bundle: Bundle) -> None:
        header, rest = self.opened(own_bundle)
        largest = {"tensor": "residual.weight"}
        header["pieces"] = [largest | {"at": 9216 * number} for number in range(20_000)]
        parts = self.closed(header, rest)
        forged = forge(own_bundle, OPTIMIZED_ONNX + PARTS, parts)
        tracemalloc.start()
        with pytest.raises(BundleError, match="at most"):
            forged.read(OPTIMIZED_ONNX)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 * len(parts)

    @pytest.mark.parametrize("place", [1, 2, 3])
    @pytest.mark.parametrize("number", [2**62, 2**32, 10**6, 0])
    def test_a_wrong_size_in_the_weights_is_refused_before_it_is_allocated(
        self, place: int, number: int, own_bundle: Bundle
    ) -> None:
        payload = bytearray((own_bundle.path / PACKED).read_bytes())
        struct.pack_into("<Q", payload, 8 * place, number)
        forged = forge(own_bundle, PACKED, bytes(payload))
        tracemalloc.start()
        with pytest.raises(BundleError, match=PACKED):
            forged.read(WEIGHTS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 * len(payload)

    def test_the_limit_of_graphs_holds_for_assembled_ones(self, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assembly, "MAX_MODEL_BYTES", 1000)
        with pytest.raises(BundleError, match="at most 1000"):
            own_bundle.read(OPTIMIZED_ONNX)
        assert allowlist.MAX_MODEL_BYTES > 1000

    def test_a_graph_that_no_runtime_may_see_is_refused_when_it_is_assembled(self, tmp_path: Path) -> None:
        hostile = onnx.load_from_string(host_model())
        hostile.graph.node[0].domain = "com.somebody"
        bundle = make_bundle(tmp_path / "hostile")
        payload = hostile.SerializeToString()
        weights = read_tensors(bundle.read(WEIGHTS), name=WEIGHTS)
        forged = forge(bundle, OPTIMIZED_ONNX + PARTS, parts_of(payload, weights))
        entry = FileEntry(sha256_bytes(payload), len(payload))
        manifest = dataclasses.replace(forged.manifest, assembled={**forged.manifest.assembled, OPTIMIZED_ONNX: entry})
        (bundle.path / MANIFEST).write_bytes(manifest.to_json())
        with pytest.raises(BundleError, match="refused before a runtime sees it"):
            Engine(Bundle.open(bundle.path))

    @staticmethod
    def opened(bundle: Bundle) -> tuple[dict[str, Any], bytes]:
        parts = (bundle.path / (OPTIMIZED_ONNX + PARTS)).read_bytes()
        end = 8 + int.from_bytes(parts[:8], "little")
        return json.loads(parts[8:end]), parts[end:]

    @staticmethod
    def closed(header: Any, rest: bytes) -> bytes:
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + rest


WRONG_HEADERS: dict[str, Any] = {
    "no object": [],
    "an unknown type": {"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
    "offsets outside": {"w": {"dtype": "F32", "shape": [4], "data_offsets": [4, 20]}},
    "a size that does not fit": {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}},
    "huge sides": {"w": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}},
    "a negative side": {"w": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}},
    "no offsets": {"w": {"dtype": "F32", "shape": [4]}},
    "a list for an entry": {"w": [1, 2]},
}


@pytest.mark.parametrize("case", WRONG_HEADERS)
def test_wrong_safetensors_are_refused(case: str) -> None:
    text = json.dumps(WRONG_HEADERS[case]).encode()
    with pytest.raises(BundleError, match=r"weights is not a safetensors file.*[Rr]estore"):
        read_tensors(len(text).to_bytes(8, "little") + text + bytes(16), name="weights")


@pytest.mark.parametrize("payload", [b"", b"\0" * 8, b"\xff" * 99, b"\x02" + b"\0" * 7 + b"{", b"[" * 5000])
def test_what_is_no_safetensors_file_is_refused(payload: bytes) -> None:
    with pytest.raises(BundleError, match="weights is not a safetensors file"):
        read_tensors(payload, name="weights")


def test_every_pair_of_floats_that_a_factor_joins_is_found() -> None:
    random = np.random.default_rng(3)
    for channels, size, factor in itertools.product((1, 5), (64, 300), (1e-6, 1.0, -3.7, 255.0)):
        stored = random.normal(0, 1, (channels, size)).astype(np.float32)
        model = onnx_file({"w": scaled(stored, factor * random.uniform(0.5, 2, channels))})
        assert assemble(parts_of(model, {"w": stored}), {"w": stored}, name="it") == model


@pytest.mark.parametrize("name", BUNDLED)
def test_bundles_of_the_package_are_at_most_sixteen_megabytes(name: str) -> None:
    bundle = Bundle.open(bundled(name))
    listed = sum(entry.size for entry in bundle.manifest.files.values())
    assert listed + (bundle.path / "manifest.json").stat().st_size <= 16_000_000
    assert sum(bundle.entry(name).size for name in (REFERENCE_ONNX, OPTIMIZED_ONNX)) > 1.6 * listed, "two whole graphs"
