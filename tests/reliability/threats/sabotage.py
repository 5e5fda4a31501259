"""What takes one defence away in a process that has imported nothing of the package yet.

So what is replaced is replaced before any other module imports it. Each name begins with its row.
"""

from __future__ import annotations

import html
import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["SABOTAGES", "replace", "take_away"]


def replace(module: str, name: str, value: Any) -> Any:
    """Put `value` in the place of an attribute of a module or class that is there; returns what was."""
    owner: Any = importlib.import_module(module.partition(":")[0])
    if ":" in module:
        owner = getattr(owner, module.partition(":")[2])
    before = getattr(owner, name)  # one that was renamed must be renamed here, too
    setattr(owner, name, value)
    return before


def _files_are_not_hashed() -> None:
    replace("edge_mtl.bundle:Bundle", "_read_file", lambda self, relative: (self.path / relative).read_bytes())


def _hashed_file_is_read_again() -> None:
    def read_again(self: Any, relative: str) -> bytes:
        before(self, relative)
        return bytes((self.path / relative).read_bytes())

    before = replace("edge_mtl.bundle:Bundle", "_read_file", read_again)


def _unlisted_files_are_not_looked_for() -> None:
    def verify(self: Any, *, progress: Any = None) -> None:
        for relative in self.manifest.files:
            self._read_file(relative)

    replace("edge_mtl.bundle:Bundle", "verify", verify)


def _signature_is_not_checked() -> None:
    from edge_mtl.signing.signatures import Signed

    replace("edge_mtl.bundle", "_check_signature", lambda folder, payload, key: Signed(key.name, ""))


def _trusted_comment_is_not_checked() -> None:
    def accepts_comments(self: Any, signature: bytes, message: bytes) -> bool:
        return len(message) != 64 or before(self, signature, message)

    before = replace("edge_mtl.signing.keys:PublicKey", "accepts", accepts_comments)


def _engines_of_anyone_are_trusted() -> None:
    replace("edge_mtl.engine_store.trusted_plans:TrustedPlans", "has", lambda self, sha256: True)


def _paths_of_a_manifest_are_taken() -> None:
    from edge_mtl.manifest import FileEntry

    replace("edge_mtl.manifest", "_file_entry", lambda path, entry: FileEntry(entry["sha256"], entry["size"]))


def _graphs_are_not_looked_at() -> None:
    replace("edge_mtl.onnx_graph.allowlist", "check_graph", lambda model, *, name="": None)


def _operators_that_make_large_tensors_are_taken() -> None:
    from edge_mtl.onnx_graph.allowlist import OPERATORS

    more = {**OPERATORS, "": OPERATORS[""] | {"ConstantOfShape", "Range", "Tile"}}
    replace("edge_mtl.onnx_graph.allowlist", "OPERATORS", more)


def _weights_in_other_files_are_taken() -> None:
    replace("edge_mtl.onnx_graph.allowlist", "_check_tensor", lambda data, start, end: None)


def _any_number_of_operators_is_taken() -> None:
    def check(model: bytes, *, name: str = "the graph") -> None:
        owner.MAX_NODES = 1 << 60
        try:
            before(model, name=name)
        finally:
            owner.MAX_NODES = most

    owner = importlib.import_module("edge_mtl.onnx_graph.allowlist")
    most = owner.MAX_NODES
    before = replace("edge_mtl.onnx_graph.allowlist", "check_graph", check)


def _engines_are_not_hashed() -> None:
    def unchecked(path: Path, *, size: int, sha256: str, what: str, remedy: str) -> bytes:
        return path.read_bytes()

    replace("edge_mtl.engine_store.private_files", "read_checked", unchecked)


def _links_in_the_store_are_followed() -> None:
    def following(path: Path, **facts: Any) -> bytes:
        return bytes(before(path.resolve(), **facts))

    before = replace("edge_mtl.engine_store.private_files", "read_checked", following)


def _folders_of_others_are_trusted() -> None:
    replace("edge_mtl.engine_store.private_files", "check_owner", lambda folder, *, remedy: None)


def _pipes_and_devices_are_read() -> None:
    def reading(path: Path, *, most: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(descriptor, most)
        finally:
            os.close(descriptor)

    replace("edge_mtl.files", "read_regular", reading)


def _control_characters_are_printed() -> None:
    from edge_mtl.cli import terminal

    terminal._CONTROL.clear()


def _turned_writing_is_printed() -> None:
    from edge_mtl.cli import terminal

    for code in terminal._TURNED:
        del terminal._CONTROL[code]


def _pages_hold_names_as_they_are() -> None:
    replace("html", "escape", lambda text, quote=True: text)
    assert html.escape("<") == "<"


def _markdown_holds_names_as_they_are() -> None:
    replace("edge_mtl.bench.card.markdown", "_plain", lambda text: text)


def _images_of_any_size_are_decoded() -> None:
    replace("edge_mtl.image.memory", "require_memory", lambda needed_bytes, what, advice: None)


def _archives_unpack_to_anything() -> None:
    def unbounded(payload: bytes, *, most_bytes: int = 0) -> Any:
        return before(payload, most_bytes=1 << 62)

    before = replace("edge_mtl.array_files", "read_arrays", unbounded)


def _checkpoints_may_hold_code() -> None:
    def loading(*arguments: Any, **options: Any) -> Any:
        return before(*arguments, **{**options, "weights_only": False})

    before = replace("torch", "load", loading)


def _files_are_written_in_place() -> None:
    def in_place(path: Path, payload: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.write(payload)
            os.fsync(stream.fileno())

    replace("edge_mtl.files", "write_atomic", in_place)


def _among_the_sources(text: str) -> Callable[[], None]:
    """A module that does what none may, put among the sources that are searched."""

    def add() -> None:
        handle, path = tempfile.mkstemp(suffix=".py")
        os.write(handle, text.encode())
        os.close(handle)
        importlib.import_module("tests.unit.repository.test_no_code_from_data").SOURCES.append(Path(path))

    return add


_ALTERED = "a bundle altered on the way or on disk"
_OTHERS = "a bundle that somebody else made, where its user says whose may run"
_ALONG = "an engine that came along with a signed bundle"
_GRAPH = "a graph with code or files of its own, or that asks for all memory"
_ENGINE = "an engine altered or brought from another machine"
_CODE = "compiled code in place of an engine"
_NO_FILE = "links, pipes and devices in place of files"
_TEXT = "names and texts in a bundle, a bag or a file name that command the terminal, or read otherwise than they are"
_PAGE = "names that are code in reports: HTML, SVG, Markdown"
_LARGE = "an image or an archive that unpacks to more than there is memory"
_CONFIGURATION = "configuration or data that becomes code, or a shell's"

SABOTAGES: dict[str, dict[str, Callable[[], None]]] = {
    _ALTERED: {
        "files are not hashed": _files_are_not_hashed,
        "files that are not listed are not looked for": _unlisted_files_are_not_looked_for,
    },
    "a file exchanged between its check and its use": {"a file is read again once it was hashed": _hashed_file_is_read_again},
    _OTHERS: {
        "signatures are not checked": _signature_is_not_checked,
        "trusted comments are not checked": _trusted_comment_is_not_checked,
    },
    _ALONG: {"engines of anyone are trusted": _engines_of_anyone_are_trusted},
    "a manifest that points outside its folder, or holds anything but what it should": {
        "paths are taken as they are": _paths_of_a_manifest_are_taken
    },
    _GRAPH: {
        "graphs are not looked at": _graphs_are_not_looked_at,
        "operators that make large tensors are taken": _operators_that_make_large_tensors_are_taken,
        "weights in other files are taken": _weights_in_other_files_are_taken,
        "any number of operators is taken": _any_number_of_operators_is_taken,
    },
    _ENGINE: {
        "engines are not hashed": _engines_are_not_hashed,
        "folders of others are trusted": _folders_of_others_are_trusted,
    },
    _CODE: {
        "code is not hashed": _engines_are_not_hashed,
        "folders of others are trusted": _folders_of_others_are_trusted,
    },
    "a TensorRT plan that came along with a bundle": {"plans of anyone are trusted": _engines_of_anyone_are_trusted},
    _NO_FILE: {
        "pipes and devices are read": _pipes_and_devices_are_read,
        "links in the store are followed": _links_in_the_store_are_followed,
        "files are written in place, through links": _files_are_written_in_place,
    },
    _TEXT: {
        "control characters are printed": _control_characters_are_printed,
        "marks that turn writing are printed": _turned_writing_is_printed,
    },
    _PAGE: {
        "pages hold names as they are": _pages_hold_names_as_they_are,
        "Markdown holds names as they are": _markdown_holds_names_as_they_are,
    },
    _LARGE: {
        "images of any size are decoded": _images_of_any_size_are_decoded,
        "archives unpack to anything": _archives_unpack_to_anything,
    },
    "a checkpoint that carries code": {"torch.load runs what it reads": _checkpoints_may_hold_code},
    "a power cut or a full disk while writing": {"files are written in place": _files_are_written_in_place},
    _CONFIGURATION: {
        "a module evaluates text": _among_the_sources("def f(text):\n    return eval(text)\n"),
        "a module unpickles": _among_the_sources("import pickle\npickle.loads(payload)\n"),
        "a module calls a shell": _among_the_sources("import subprocess\nsubprocess.run(name, shell=True)\n"),
    },
    "a connection that nobody asked for": {"a module opens addresses": _among_the_sources("import urllib.request\n")},
}
"""By row of SECURITY.md, what takes one defence of it away."""


def take_away(name: str) -> None:
    """Take one defence away, named "ROW: SABOTAGE"; "nothing" takes none."""
    if name == "nothing":
        return
    row = next(row for row in SABOTAGES if name.startswith(f"{row}: "))
    SABOTAGES[row][name.removeprefix(f"{row}: ")]()
