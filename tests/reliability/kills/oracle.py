"""Whether what lies in a folder is whole: every file opens to its end, bundles and engines verify, locks are free.

Knows formats; knows nothing about how files are written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.reliability.trials import is_receipt

__all__ = ["Tree", "held_locks", "leftovers", "read_tree", "shape", "torn"]

Tree = Mapping[str, str]
"""SHA-256 of every file below a folder, by relative path; of locks, which are empty, and unfinished files nothing."""


def read_tree(folder: Path) -> Tree:
    """What is in `folder`, but for locks, what is unfinished, receipts, and probes of Python's own."""
    found = {}
    for path in _files(folder):
        relative = path.relative_to(folder)
        if not (path.name.endswith(".lock") or _unfinished(relative) or _is_probe(path, relative) or is_receipt(path)):
            found[relative.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _is_probe(path: Path, relative: Path) -> bool:
    """Whether Python's `tempfile` made it: it writes and removes a file of four bytes where temporary files shall lie."""
    named = len(relative.parts) == 2 and relative.parts[0] == "tmp" and re.fullmatch("[a-z0-9_]{8}", path.name)
    return bool(named) and path.stat().st_size <= 4 and path.read_bytes() in (b"", b"blat")


def leftovers(folder: Path) -> list[str]:
    """Unfinished files and folders in `folder`, at the top of what is unfinished."""
    found = sorted(path.relative_to(folder) for path in folder.rglob(f"{TEMPORARY_PREFIX}*"))
    return [str(path) for path in found if not _unfinished(path.parent)]


def shape(tree: Tree) -> Counter[str]:
    """How many files there are of each kind of name: digests and numbers in names do not count."""
    return Counter(re.sub(r"[0-9a-f]{10,}|\d+", "*", name) for name in tree)


def held_locks(folder: Path) -> list[str]:
    """Lock files that a process holds."""
    held = []
    for path in _files(folder):
        if path.name == ".lock" or path.suffix == ".lock":
            with path.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(str(path.relative_to(folder)))
    return held


def torn(folder: Path, tree: Tree, known: Mapping[str, set[str]], fine: set[str]) -> list[str]:
    """What is neither an old nor a new file, by name, and why; engines of a kind not seen before are run, too.

    Args:
        tree: of `folder`.
        known: contents that a file may have, by name: those before and after runs that nobody disturbed. Files with times in
            them have others, and must open to their end instead.
        fine: digests of files that were read, and of engines that were run; more are added.
    """
    found = []
    for name, digest in tree.items():
        if digest not in known.get(name, ()) and digest not in fine:
            try:
                _open(folder / name)
                fine.add(digest)
            except Exception as exc:  # readers of others raise what they like; each is a verdict
                found.append(f"{name}: {type(exc).__name__}: {exc}")
    return found + _broken_bundles(folder, fine) + _broken_bags(folder)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _unfinished(relative: Path) -> bool:
    return any(part.startswith(TEMPORARY_PREFIX) for part in relative.parts)


def _open(path: Path) -> None:
    """Read a file to its end. Raises what its reader raises, ValueError where nothing can tell whether it is whole."""
    if path.name.endswith(".tfevents") or path.suffix not in _READERS:
        raise ValueError("neither the old content nor the new, and nothing can tell whether it is whole")
    _READERS[path.suffix](path)


def _picture(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _arrays(path: Path) -> None:
    import numpy as np

    with np.load(path, allow_pickle=False) as content:
        if not content.files:
            raise ValueError("no arrays")
        for name in content.files:
            content[name]


def _video(path: Path) -> None:
    import cv2

    video = cv2.VideoCapture(str(path))
    announced, read = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    while video.read()[0]:
        read += 1
    video.release()
    if read == 0 or read != announced:
        raise ValueError(f"{read} of {announced} frames")


def _tensors(path: Path) -> None:
    from safetensors.numpy import load_file

    if not load_file(path):
        raise ValueError("no tensors")


def _graph(path: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(path), full_check=True)


def _state(path: Path) -> None:
    import torch

    torch.load(path, weights_only=True)


def _lines(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for line in lines[:-1]:  # the last one may be half: the next start takes it away
        json.loads(line)


def _text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("no end of the last line")


def _page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("no end of the page")


def _recording(path: Path) -> None:
    from rerun.chunk import RrdReader

    if not sum(chunk.num_rows for chunk in RrdReader(path).stream()):
        raise ValueError("no rows")


def _by_its_store(path: Path) -> None:
    """What a store describes is looked at with the store."""


_READERS: Mapping[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".jsonl": _lines,
    ".png": _picture,
    ".npz": _arrays,
    ".mp4": _video,
    ".safetensors": _tensors,
    ".onnx": _graph,
    ".pt": _state,
    ".md": _text,
    ".html": _page,
    ".rrd": _recording,
    ".code": _by_its_store,
    ".minisig": _text,
    ".db3": lambda path: None,
    ".yaml": lambda path: None,
}


def _broken_bundles(folder: Path, fine: set[str]) -> list[str]:
    from edge_mtl.bundle import MANIFEST, Bundle
    from edge_mtl.engine_store.engines import EngineStore
    from edge_mtl.errors import EdgeMtlError

    found = []
    for place in sorted(path.parent for path in folder.rglob(MANIFEST)):
        name = place.relative_to(folder)
        if _unfinished(name):
            continue
        try:
            bundle = Bundle.open(place)
            bundle.verify()
            store = EngineStore(bundle)
            found += [f"{name}: {problem}" for problem in store.problems()]
            for record in store.list():
                store.load(record)
                compiled, why = store.compiled.load(record)
                if compiled is None and "no compiled code" not in why and "of another graph" not in why:
                    found.append(f"{name}: {why}")
                if (run := f"run {record.sha256} {compiled is not None}") not in fine:
                    _predict(bundle, record.precision, record.backend)
                    fine.add(run)
        except EdgeMtlError as exc:
            found.append(f"{name}: {exc}")
    return found


def _predict(bundle: object, precision: str, backend: str) -> None:
    import numpy as np

    from edge_mtl.engine import Engine

    with Engine(bundle, precision=precision, backend=backend, threads=1, self_test="build") as engine:  # type: ignore[arg-type]
        engine.predict(np.zeros((64, 96, 3), np.uint8))


def _broken_bags(folder: Path) -> list[str]:
    """Bags of which not every message that is announced can be read."""
    found = []
    for metadata in sorted(folder.rglob("metadata.yaml")):
        name = metadata.parent.relative_to(folder)
        if not _unfinished(name):
            try:
                read, announced = _messages(metadata.parent)
            except Exception as exc:
                found.append(f"{name}: {type(exc).__name__}: {exc}")
                continue
            if read != announced:
                found.append(f"{name}: {read} of {announced} messages")
    return found


def _messages(bag: Path) -> tuple[int, int]:
    from rosbags.highlevel import AnyReader

    with AnyReader([bag]) as reader:
        read = [reader.deserialize(raw, connection.msgtype) for connection, _, raw in reader.messages()]
        return len(read), reader.message_count
