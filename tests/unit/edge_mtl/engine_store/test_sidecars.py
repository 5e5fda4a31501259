"""What describes an engine: every entry comes back, and each wrong one is refused with what was expected."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edge_mtl.cuda.gpus import Gpu
from edge_mtl.device import fingerprint
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file, engine_key
from edge_mtl.errors import BackendUnavailable, BundleError

Content = dict[str, Any]
DIGEST = "ab" * 32


def record_of(backend: str = "onnxruntime", gpu: Gpu | None = None) -> EngineRecord:
    """A record with something in every entry."""
    device, options = fingerprint(), {"threads": 4, "recipe": "a", "share": 0.5, "cut": True, "no": None}
    key = engine_key(
        backend=backend,
        runtime_version="1.0",
        device=device,
        precision="int8",
        graph_sha256="c" * 64,
        options=options,
        gpu=gpu,
    )
    return EngineRecord(
        key=key,
        precision="int8",
        backend=backend,
        runtime_version="1.0",
        device=device,
        graph_sha256="c" * 64,
        file=engine_file(key, DIGEST, backend),
        sha256=DIGEST,
        size=7,
        options=options,
        build_seconds=1.5,
        latency_ms=2.5,
        baseline_latency_ms=5.0,
        ratio=2.0,
        self_test={"passed": True},
        agreement={"depth": 0.9},
        accuracy={"fp32": {"miou": 0.5}},
        created=12.0,
        gpu=gpu,
        contents="three layers",
    )


def read(content: Any) -> EngineRecord:
    return EngineRecord.from_json(json.dumps(content).encode(), source="place/key.json")


def content_of(record: EngineRecord) -> Content:
    content: Content = json.loads(record.to_json())
    return content


@pytest.mark.parametrize("gpu", [None, Gpu("Orin", "8.7", "12.6", 8 << 30, True)])
@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_every_entry_comes_back(backend: str, gpu: Gpu | None) -> None:
    record = record_of(backend, gpu)
    assert read(content_of(record)) == record
    assert ("gpu" in content_of(record)) == (gpu is not None)
    assert record.plan == (backend == "tensorrt")
    assert record.file == f"{record.key}.{DIGEST[:12]}.{'plan' if record.plan else 'onnx'}"
    assert (len(record.key), record.to_json()[-2:]) == (32, b"}\n")


def test_a_record_is_a_value() -> None:
    record = record_of()
    with pytest.raises(AttributeError):
        record.size = 8  # type: ignore[misc]
    assert not hasattr(record, "__dict__")


def test_what_was_not_measured_is_nothing() -> None:
    key = "0" * 32
    record = EngineRecord(
        key, "int8", "onnxruntime", "1.0", fingerprint(), "c" * 64, engine_file(key, DIGEST, "onnxruntime"), DIGEST, 0
    )
    measured = (record.build_seconds, record.latency_ms, record.baseline_latency_ms, record.ratio, record.created)
    assert measured == (0.0,) * 5
    assert not record.passed_self_test
    assert read(content_of(record)) == record


@pytest.mark.parametrize(("said", "passed"), [({"passed": True}, True), ({"passed": 1}, False), ({}, False)])
def test_only_a_self_test_that_passed_has_passed(said: Content, passed: bool) -> None:
    assert read(content_of(record_of()) | {"self_test": said}).passed_self_test == passed


Change = Callable[[Content], Any]
WRONG: dict[str, tuple[Change, str]] = {
    "another format": (lambda c: c.update(format_version=2), "format_version 1 was expected"),
    "an older format": (lambda c: c.update(format_version=0), "format_version 1 was expected"),
    "a short key": (lambda c: c.update(key="0" * 31), "key should be 32 hexadecimal digits; found '0000"),
    "a key that is a number": (lambda c: c.update(key=5), "key should be 32 hexadecimal digits; found '5'"),
    "a digest that is a number": (lambda c: c.update(sha256=5), "sha256 and size should describe"),
    "a short digest": (lambda c: c.update(sha256="0" * 63), "sha256 and size should describe"),
    "a size below none": (lambda c: c.update(size=-1), "sha256 and size should describe"),
    "a size in words": (lambda c: c.update(size="7"), "sha256 and size should describe"),
    "another file": (lambda c: c.update(file="x.onnx"), r"file should be .*\.onnx; found 'x.onnx'"),
    "a file after all": (lambda c: c.update(file="z" * 100), f"found '{'z' * 80}'"),
    "options in options": (lambda c: c.update(options={"a": {}}), "options should be plain values"),
    "no accuracy": (lambda c: c.pop("accuracy"), "key 'accuracy' is missing"),
    "a device in words": (lambda c: c.update(device="this one"), "not a valid engine description"),
    "an endless number": (lambda c: c.update(size=float("inf")), "numbers should be finite; found Infinity"),
    "a number in words": (lambda c: c.update(ratio="inf"), "ratio should be a number; found 'inf'"),
    "half a character": (lambda c: c.update(backend="\ud800"), "text should be Unicode"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case: str) -> None:
    change, said = WRONG[case]
    content = content_of(record_of())
    change(content)
    with pytest.raises(
        BundleError,
        match=rf"place/key\.json is not a valid engine description: .*{said}" if not said.startswith("not a") else said,
    ):
        read(content)


@pytest.mark.parametrize("entry", ["key", "ratio"])
def test_a_long_key_or_number_is_shortened(entry: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(content_of(record_of()) | {entry: "z" * 50})
    assert f"found {'z' * 40!r}. Delete it" in str(caught.value)


def test_a_size_of_nothing_is_a_size() -> None:
    assert read(content_of(record_of()) | {"size": 0}).size == 0


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_description_is_refused(payload: bytes) -> None:
    with pytest.raises(BundleError, match=r"is not a valid engine description: .*Delete it and build the engine again"):
        EngineRecord.from_json(payload, source="x")


def test_an_engine_of_a_runtime_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BundleError, match=r"describes an engine for a runtime that is not known here\. .*abacus"):
        read(content_of(record_of()) | {"backend": "abacus"})
    with pytest.raises(BackendUnavailable):
        engine_file("0" * 32, DIGEST, "abacus")


def test_a_plan_whose_key_does_not_fit_was_altered_and_a_graph_is_checked_by_its_digest() -> None:
    with pytest.raises(BundleError, match="it was altered: the key does not fit the rest"):
        read(content_of(record_of("tensorrt")) | {"precision": "fp16"})
    assert read(content_of(record_of()) | {"precision": "fp16"}).precision == "fp16"


def test_a_number_that_is_none_is_in_no_key_and_no_sidecar() -> None:
    with pytest.raises(ValueError, match="JSON"):
        engine_key(
            backend="onnxruntime",
            runtime_version="1.0",
            device=fingerprint(),
            precision="int8",
            graph_sha256="c" * 64,
            options={"share": float("nan")},
        )
    with pytest.raises(ValueError, match="JSON"):
        replace(record_of(), latency_ms=float("nan")).to_json()


def test_the_order_of_options_does_not_matter() -> None:
    record = record_of()
    turned = dict(reversed(list(record.options.items())))
    again = engine_key(
        backend=record.backend,
        runtime_version=record.runtime_version,
        device=record.device,
        precision=record.precision,
        graph_sha256=record.graph_sha256,
        options=turned,
    )
    assert again == record.key


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (EngineRecord.from_json, ["source"]),
        (engine_key, ["backend", "runtime_version", "device", "precision", "graph_sha256", "options", "gpu"]),
    ],
)
def test_options_are_given_by_name(call: Callable[..., object], names: list[str]) -> None:
    parameters = inspect.signature(call).parameters
    assert [name for name in parameters if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY] == names
