"""Graphs that no runtime should see are refused by their bytes alone; the package's own pass."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_mtl import backends
from edge_mtl.backends import available, open_backend
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import BUNDLED, OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle, bundled, new_revision
from edge_mtl.engine import Engine
from edge_mtl.errors import BundleError, EdgeMtlError
from edge_mtl.onnx_graph import allowlist
from edge_mtl.onnx_graph.allowlist import MAX_MODEL_BYTES, OPERATORS, check_graph
from edge_mtl.onnx_graph.wire import written
from tests.bundles import graph_model, host_model, make_bundle

HERE = [name for name, found in available().items() if found.usable]


def changed(change: Callable[[onnx.ModelProto], None]) -> bytes:
    proto = onnx.load_from_string(host_model())
    change(proto)
    return bytes(proto.SerializeToString())


def foreign_domain(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].domain = "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))


def foreign_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "ImageDecoder"


def operator_of_the_other_domain(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].domain = "com.microsoft"


def outside_weights(path: str) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=path)

    return change


def outside_weights_in_an_attribute(proto: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.zeros(4, np.float32), "value")
    outside = onnx.ModelProto()
    outside.graph.initializer.append(value)
    outside_weights("/etc/passwd")(outside)
    proto.graph.node.append(helper.make_node("Constant", [], ["x"], value=outside.graph.initializer[0]))


def large_from_small(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1 << 40], np.int64), "shape"))
    proto.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["huge"]))


def graph_within(proto: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "inner", [], [])
    proto.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def loop(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Loop", ["image"], ["x"]))


def function(proto: onnx.ModelProto) -> None:
    nodes, versions = [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 20)]
    proto.functions.append(helper.make_function("com.example", "F", ["a"], ["b"], nodes, versions))


def sparse(proto: onnx.ModelProto) -> None:
    proto.graph.sparse_initializer.add(dims=[4])


def training(proto: onnx.ModelProto) -> None:
    proto.training_info.add()


def many(proto: onnx.ModelProto) -> None:
    proto.graph.node.extend([helper.make_node("Relu", ["image"], ["x"])] * (allowlist.MAX_NODES + 1))


def circle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = proto.graph.node[-1].output[0]


def made_twice(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(proto.graph.node[0])


def output_of_nobody(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "nobody"


def too_few_bytes(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] *= 2


def endless_shape(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="much", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 40]))


def without_values(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="few", data_type=TensorProto.FLOAT, dims=[3], float_data=[]))


def negative_side(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="less", data_type=TensorProto.FLOAT, dims=[-1]))


def weights_twice(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(proto.graph.initializer[0])


def without_an_input(proto: onnx.ModelProto) -> None:
    norm = helper.make_node("LayerNormalization", ["image", proto.graph.initializer[0].name, ""], ["normed"])
    proto.graph.node.append(norm)


def without_an_output(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Relu", ["image"], [""]))


def inputs(count: int) -> Callable[[onnx.ModelProto], None]:
    """Of a Pad; with one, OpenVINO dies."""
    return lambda proto: proto.graph.node.append(helper.make_node("Pad", ["image"] * count, ["padded"]))


def attribute(name: str, value: int | list[int]) -> Callable[[onnx.ModelProto], None]:
    """Of the first convolution."""

    def change(proto: onnx.ModelProto) -> None:
        node = next(node for node in proto.graph.node if node.op_type == "Conv")
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def version(number: int) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = number

    return change


HOSTILE: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "a foreign domain": (foreign_domain, "com.example"),
    "a foreign operator": (foreign_operator, "ImageDecoder"),
    "an operator that its domain does not have": (operator_of_the_other_domain, "Conv"),
    "weights in a file of the system": (outside_weights("/etc/passwd"), "weights in other files"),
    "weights in a file beside": (outside_weights("weights.bin"), "weights in other files"),
    "weights at an address": (outside_weights("*/_ORT_MEM_ADDR_/*"), "weights in other files"),
    "outside weights in an attribute": (outside_weights_in_an_attribute, "weights in other files"),
    "a large tensor from a small number": (large_from_small, "ConstantOfShape"),
    "a graph within": (graph_within, "control flow"),
    "a loop": (loop, "control flow"),
    "a function": (function, "functions of its own"),
    "sparse tensors": (sparse, "sparse"),
    "training code": (training, "training"),
    "too many operators": (many, "operators"),
    "two weights of one name": (weights_twice, "the same name"),
    "an input that is left out": (without_an_input, "leaves out an input"),
    "an operator without its second input": (inputs(1), "Pad has 1 inputs"),
    "an operator with more inputs than it has": (inputs(5), "Pad has 5 inputs"),
    "an output that is left out": (without_an_output, "leaves out an output"),
    "a circle": (circle, "none before it makes"),
    "a tensor that is made twice": (made_twice, "made twice"),
    "an output that nobody makes": (output_of_nobody, "no operator makes"),
    "weights with fewer bytes than their shape has": (too_few_bytes, "the shape"),
    "weights of a shape that no memory holds": (endless_shape, "the shape"),
    "weights without values": (without_values, "lacks values"),
    "weights with a negative side": (negative_side, "the shape"),
    "no groups": (attribute("group", 0), "group should be one or more"),
    "fewer groups than none": (attribute("group", -1), "group should be one or more"),
    "steps of nothing": (attribute("strides", [1, 0]), "strides should be one or more"),
    "a version that OpenVINO would count up to for ever": (version((1 << 31) - 1), "version"),
    "a version below the first": (version(-1), "version"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_graph_is_refused(what: str) -> None:
    change, words = HOSTILE[what]
    with pytest.raises(BundleError, match=words):
        check_graph(changed(change))


@pytest.mark.parametrize("what", ["a foreign domain", "weights in a file of the system"])
@pytest.mark.parametrize("name", HERE)
def test_the_runtime_never_sees_it(name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(backends.importlib, "import_module", imported.append)
    with pytest.raises(BundleError, match="before a runtime sees it"):
        open_backend(name, changed(HOSTILE[what][0]))
    assert imported == []


@pytest.mark.parametrize("what", ["a foreign domain", "weights in a file of the system"])
def test_a_bundle_with_such_a_graph_neither_runs_nor_builds(what: str, tmp_path: Path) -> None:
    payload = changed(HOSTILE[what][0])

    def exchange(folder: Path) -> None:
        (folder / OPTIMIZED_ONNX).write_bytes(payload)

    hostile = new_revision(make_bundle(tmp_path / "tiny"), exchange)  # its hashes fit: they say nothing about its author
    with pytest.raises(BundleError, match="refused"):
        Engine(hostile)
    for precision in ("int8", "fp32"):
        with pytest.raises(BundleError, match=OPTIMIZED_ONNX):
            build_engine(hostile, precision=precision)
    assert not list(tmp_path.rglob("engines/*.onnx"))


def test_graphs_of_this_package_pass() -> None:
    check_graph(host_model())
    check_graph(graph_model())
    for bundle in map(Bundle.open, map(bundled, BUNDLED)):
        for name in (REFERENCE_ONNX, OPTIMIZED_ONNX):
            check_graph(bundle.read(name), name=name)


def test_inputs_are_counted_as_onnx_does_in_every_version_from_13_on() -> None:
    for operator in OPERATORS[""]:
        known = [
            onnx.defs.get_schema(operator, version, "")
            for version in range(13, onnx.defs.onnx_opset_version() + 1)
            if onnx.defs.has(operator, version, "")
        ]
        least, most = allowlist._INPUTS[operator]
        assert least == min(schema.min_input for schema in known), operator
        assert min(most, 1 << 20) == min(max(schema.max_input for schema in known), 1 << 20), operator


def test_what_is_no_graph_is_refused() -> None:
    for payload in (b"", b"<net name='x'/>", b"not onnx", bytes(256), b"\x08\x0a" * 50, host_model()[:-7]):
        with pytest.raises(BundleError):
            check_graph(payload)


def test_parts_that_readers_merge_are_refused() -> None:
    one = host_model()
    with pytest.raises(BundleError, match="several graphs"):
        check_graph(one + one)
    value = helper.make_attribute("value", numpy_helper.from_array(np.zeros(2, np.float32))).SerializeToString()
    node = written(4, b"Constant") + written(2, b"x")
    check_graph(written(7, written(1, node + written(5, value))))
    with pytest.raises(BundleError, match="several tensors"):
        check_graph(written(7, written(1, node + written(5, value * 2))))


def test_a_file_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowlist, "MAX_MODEL_BYTES", 1000)
    with pytest.raises(BundleError, match="at most 1000"):
        check_graph(host_model())
    assert MAX_MODEL_BYTES < 2 << 30, "what protocol buffers can hold"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_graphs_raise_nothing_else(data: st.DataObject) -> None:
    payload = bytearray(host_model())
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_graph(bytes(payload))
    except EdgeMtlError:
        return


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_nothing_gets_past_that_onnx_itself_reads_as_hostile(data: st.DataObject) -> None:
    """Whatever passes holds, as the ONNX library parses it, only operators of the list and weights in the file."""
    payload = bytearray(changed(data.draw(st.sampled_from([change for change, _ in HOSTILE.values() if change is not many]))))
    for _ in range(data.draw(st.integers(0, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_graph(bytes(payload))
    except BundleError:
        return
    try:
        proto = onnx.load_from_string(bytes(payload))
    except Exception:  # no runtime reads it either
        return
    for node in proto.graph.node:
        assert node.op_type in OPERATORS["" if node.domain == "ai.onnx" else node.domain]
    assert not any(tensor.data_location for tensor in proto.graph.initializer)
    assert not proto.functions


def test_the_check_needs_no_onnx_library() -> None:
    code = (
        "import sys; from edge_mtl.onnx_graph.allowlist import check_graph\n"
        "try: check_graph(b'x')\n"
        "except Exception as error: print(type(error).__name__, 'onnx' in sys.modules, 'google.protobuf' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["BundleError", "False", "False"]
