"""Compiled code of engines: it spares compiling, it is used only as it was built, and a start never fails for want of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_mtl.backends import CompiledGraph, available, compile_graph, open_backend
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import Bundle
from edge_mtl.device import fingerprint
from edge_mtl.engine import Engine
from edge_mtl.engine_store import compiled
from edge_mtl.engine_store.compiled import CompiledStore
from edge_mtl.engine_store.engines import EngineStore, cache_folder
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes
from tests.bundles import host_model, make_image

HERE = [name for name, found in available().items() if found.usable]
CODE = CompiledGraph(b"machine code" * 100, "runtime 1.0")


def record_of(key: str = "0" * 32, graph: bytes = b"graph") -> EngineRecord:
    digest = sha256_bytes(graph)
    return EngineRecord(
        key, "int8", "onnxruntime", "1.0", fingerprint(), "f" * 64, engine_file(key, digest, "onnxruntime"), digest, len(graph)
    )


def planes(seed: int = 0) -> np.ndarray:
    return np.ascontiguousarray(make_image(seed).transpose(2, 0, 1)[None]).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> CompiledStore:
    return CompiledStore(tmp_path / "compiled")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> tuple[Path, Path]:
    """A bundle with an engine of every runtime, and the cache that was made with it."""
    folder, cache = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("built-cache")
    bundle = Bundle.open(shutil.copytree(tiny_bundle.path, folder / "tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        for name in HERE:
            build_engine(bundle, precision="fp32", backend=name, threads=1)
    return bundle.path, cache


@pytest.fixture
def own(built: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A copy of both."""
    shutil.copytree(built[1], tmp_path / "cache", dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bundle.open(shutil.copytree(built[0], tmp_path / "tiny"))


# Runtimes


@pytest.mark.parametrize("name", HERE)
def test_compiled_code_answers_as_the_graph_does_with_any_number_of_threads(name: str) -> None:
    model = host_model()
    code = compile_graph(name, model)
    assert code is not None
    plain = open_backend(name, model, threads=1)
    assert plain.info.loading == "the graph"
    for threads in (1, 2):
        loaded = open_backend(name, model, threads=threads, compiled=code)
        assert (loaded.info.loading, loaded.info.threads) == ("compiled code", threads)
        assert (loaded.inputs, loaded.outputs) == (plain.inputs, plain.outputs)
        expected, found = plain.run({"image": planes()}), loaded.run({"image": planes()})
        assert all(np.allclose(found[key], expected[key], rtol=1e-4, atol=1e-4) for key in expected)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("damage", ["another runtime", "empty", "half", "text"])
def test_code_that_does_not_fit_is_compiled_again_with_a_reason(name: str, damage: str) -> None:
    model = host_model()
    code = compile_graph(name, model)
    assert code is not None
    wrong = {
        "another runtime": dataclasses.replace(code, origin="another"),
        "empty": dataclasses.replace(code, payload=b""),
        "half": dataclasses.replace(code, payload=code.payload[: len(code.payload) // 2]),
        "text": dataclasses.replace(code, payload=b"x" * 4000),
    }[damage]
    opened = open_backend(name, model, threads=1, compiled=wrong)
    assert opened.info.loading.startswith("the graph: ")
    assert name in opened.info.loading
    assert opened.run({"image": planes()})


# The store


def test_what_is_kept_is_loaded(store: CompiledStore) -> None:
    store.keep(record_of(), CODE)
    assert store.load(record_of()) == (CODE, "")
    assert store.folder.stat().st_mode & 0o777 == 0o700


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _flip(path: Path) -> None:
    path.write_bytes(b"X" + path.read_bytes()[1:])


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


@pytest.mark.parametrize("damage", [Path.unlink, _append, _flip, _link])
def test_altered_code_is_never_handed_out(store: CompiledStore, damage: Callable[[Path], None]) -> None:
    store.keep(record_of(), CODE)
    (code,) = store.folder.glob("*.code")
    damage(code)
    found, why = store.load(record_of())
    assert found is None
    assert str(code) in why


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sha256": 1}', "x" * 70000, json.dumps({"format_version": 2})])
def test_a_description_that_is_none_is_a_reason(store: CompiledStore, content: str) -> None:
    store.keep(record_of(), CODE)
    (sidecar,) = store.folder.glob("*.json")
    sidecar.write_text(content)
    found, why = store.load(record_of())
    assert (found, str(sidecar) in why) == (None, True)


def test_a_description_of_another_format_is_a_reason(store: CompiledStore) -> None:
    store.keep(record_of(), CODE)
    (sidecar,) = store.folder.glob("*.json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_bytes()) | {"format_version": 2}))
    found, why = store.load(record_of())
    assert (found, "does not describe compiled code (format_version 2)" in why) == (None, True)


def test_what_describes_no_code_does_not_hinder_keeping_code(store: CompiledStore) -> None:
    store.keep(record_of(), CODE)
    (store.folder / "broken.json").write_text("[]")
    os.mkfifo(store.folder / "pipe.json")
    (store.folder / "undescribed.code").write_bytes(b"x")
    store.keep(record_of("1" * 32), CODE)
    assert store.load(record_of())[0] == store.load(record_of("1" * 32))[0] == CODE
    assert not (store.folder / "undescribed.code").exists()


def test_code_of_another_graph_is_not_used(store: CompiledStore) -> None:
    store.keep(record_of(), CODE)
    assert store.load(record_of(graph=b"another"))[0] is None


def test_a_folder_that_others_can_write_to_is_not_trusted(store: CompiledStore) -> None:
    store.keep(record_of(), CODE)
    store.folder.chmod(0o777)
    found, why = store.load(record_of())
    assert (found, "not trusted" in why) == (None, True)


def test_new_code_takes_the_place_of_the_old_and_little_is_kept(store: CompiledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keep(record_of(), CODE)
    newer = dataclasses.replace(CODE, payload=b"newer")
    store.keep(record_of(), newer)
    assert store.load(record_of())[0] == newer
    assert len(list(store.folder.glob("*.code"))) == 1
    monkeypatch.setattr(compiled, "_MOST", 2)
    for digit in "123":
        store.keep(record_of(digit * 32), CODE)
    assert store.load(record_of("3" * 32))[0] == CODE
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".code", ".code", ".json", ".json"]


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BuildError, match="could not be written"):
        CompiledStore(tmp_path / "file").keep(record_of(), CODE)
    assert CompiledStore(tmp_path / "file").load(record_of())[0] is None


# Engines


@pytest.mark.parametrize("name", HERE)
def test_a_built_engine_starts_from_compiled_code(name: str, own: Bundle) -> None:
    with Engine(own, backend=name, precision="fp32") as engine:
        assert engine.info.loading == "compiled code"
    assert not [path for path in own.path.rglob("*") if path.suffix == ".code"], "a bundle may travel, compiled code may not"


@pytest.mark.parametrize("name", HERE)
def test_an_engine_without_its_code_works_and_says_why(name: str, own: Bundle) -> None:
    shutil.rmtree(cache_folder())
    with Engine(own, backend=name, precision="fp32") as engine:
        assert engine.info.loading == "the graph: no compiled code was kept for this user"
        assert engine.predict(make_image(0)).depth is not None


def test_code_that_came_with_a_bundle_is_never_looked_at(own: Bundle) -> None:
    shutil.copytree(cache_folder() / "compiled", own.path / "engines", dirs_exist_ok=True)
    shutil.rmtree(cache_folder())
    for record in EngineStore(own).list():
        assert EngineStore(own).compiled.load(record)[0] is None


def test_the_bundles_own_graph_has_no_compiled_code(tiny_bundle: Bundle) -> None:
    with Engine(tiny_bundle, self_test="off") as engine:
        assert engine.info.loading == "the graph: it is not a built engine"


def test_a_build_that_cannot_keep_code_warns_and_succeeds(own_bundle: Bundle) -> None:
    cache_folder().parent.mkdir(parents=True, exist_ok=True)
    cache_folder().write_text("in the way")
    report = build_engine(own_bundle, precision="fp32", backend=HERE[0], threads=1)
    assert any("start slower" in warning for warning in report.warnings)
    with Engine(own_bundle) as engine:
        assert engine.info.engine_key == report.record.key


def test_removing_an_engine_removes_its_code(own: Bundle) -> None:
    store = EngineStore(own)
    for record in store.list():
        store.remove(record)
    assert list(store.compiled.folder.iterdir()) == []
