"""From parameters to an Engine, without ROS: what runs where the engine that was asked for cannot be built."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from edge_mtl_ros import loading
from edge_mtl_ros.loading import Interrupted, load_engine
from edge_mtl_ros.settings import Settings

from edge_mtl import Engine
from edge_mtl.builder import pipeline
from edge_mtl.bundle import Bundle
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError, EdgeMtlError, SignatureError


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A copy of the session's bundle; a network that learnt nothing, whose INT8 engines fail the accuracy check."""
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))


def silent(*_: object) -> None:
    return None


def settings_of(bundle: Bundle) -> Settings:
    return Settings(bundle=str(bundle.path), backend="onnxruntime", threads=1, build="int8")


def no_space(bundle: Bundle, patch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage
    patch.setattr(shutil, "disk_usage", lambda folder: usage(folder)._replace(free=1000))


def no_folder(bundle: Bundle, patch: pytest.MonkeyPatch) -> None:
    (bundle.path / "engines").write_text("a file where the folder should be")


def no_onnx(bundle: Bundle, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "onnx", None)


def no_accuracy(bundle: Bundle, patch: pytest.MonkeyPatch) -> None:
    return None


FAULTS = [
    (no_space, BuildError, "0.0 MB are free"),
    (no_folder, BuildError, "cannot be made"),
    (no_onnx, BackendUnavailable, "onnx"),
    (no_accuracy, AccuracyError, "out of budget"),
]


@pytest.mark.parametrize(("fault", "error", "said"), FAULTS)
def test_where_any_precision_will_do_a_failed_build_leaves_full_precision_which_says_so(
    own_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Bundle, pytest.MonkeyPatch], None],
    error: type[EdgeMtlError],
    said: str,
) -> None:
    fault(own_bundle, monkeypatch)
    with load_engine(settings_of(own_bundle), progress=silent) as engine:
        assert engine.info.precision == "fp32"
        assert engine.info.shortfall.startswith("running fp32: the int8 engine could not be built: ")
        assert said in engine.info.shortfall


@pytest.mark.parametrize(("fault", "error", "said"), FAULTS)
def test_a_precision_that_was_given_is_not_replaced(
    own_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Bundle, pytest.MonkeyPatch], None],
    error: type[EdgeMtlError],
    said: str,
) -> None:
    fault(own_bundle, monkeypatch)
    with pytest.raises(error, match=said):
        load_engine(replace(settings_of(own_bundle), precision="int8"), progress=silent)


def test_a_stale_engine_that_cannot_be_built_again_gives_way_to_full_precision(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, budget=None)
    monkeypatch.setattr(EngineStore, "mismatch", lambda self, record: "it was built on another device")
    with pytest.raises(EdgeMtlError, match="another device"):
        Engine(own_bundle)
    no_space(own_bundle, monkeypatch)
    with load_engine(settings_of(own_bundle), progress=silent) as engine:
        assert engine.info.precision == "fp32"
        assert "0.0 MB are free" in engine.info.shortfall


def test_an_engine_that_was_built_has_no_shortfall(own_bundle: Bundle) -> None:
    pipeline.build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, budget=None)
    with load_engine(settings_of(own_bundle), progress=silent) as engine:
        assert engine.info.precision == "int8"
        assert engine.info.shortfall == ""


def test_an_interrupted_build_is_no_failed_one(own_bundle: Bundle) -> None:
    def interrupt(text: str, done: int, total: int) -> None:
        if text.startswith("building"):
            raise Interrupted

    with pytest.raises(Interrupted):
        load_engine(settings_of(own_bundle), progress=interrupt)


def test_every_golden_frame_is_compared_where_all_are_asked_for(own_bundle: Bundle) -> None:
    frames = {}
    for asked in ("load", "all"):
        settings = Settings.of({"bundle": str(own_bundle.path), "threads": 1, "self_test": asked})
        with load_engine(settings, progress=silent) as engine:
            assert engine.info.self_test is not None
            frames[asked] = engine.info.self_test.frames
    assert frames == {"load": 1, "all": 2}
    assert loading._SELF_TEST.keys() == frames.keys()
    assert os.listdir(own_bundle.path / "golden")


@pytest.mark.parametrize("named", [True, False], ids=["a bundle", "the demo bundle"])
def test_with_a_public_key_a_bundle_that_is_not_signed_is_not_loaded(own_bundle: Bundle, tmp_path: Path, named: bool) -> None:
    text = "RWT+b+Ea7sAOn431gdGuFJZ5LT92Z5ORcgmQC8bhbbiCIU5ANAydTh73"
    (tmp_path / "key.pub").write_text(f"untrusted comment: of minisign\n{text}\n")
    bundle = str(own_bundle.path) if named else ""
    for key in (text, str(tmp_path / "key.pub")):
        with pytest.raises(SignatureError, match="is not signed"):
            load_engine(Settings(bundle=bundle, public_key=key), progress=silent)
