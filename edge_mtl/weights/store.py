"""The files of a bundle's folder that stand for its weights and graphs, and how they come to lie there.

weights.safetensors.packed   the trained network's state, see `byte_planes`
model.onnx.parts             the reference ONNX without its weights, see `assembly`
model.deploy.onnx.parts      the optimized ONNX without its weights
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_mtl.errors import BundleError
from edge_mtl.files import sha256_bytes
from edge_mtl.manifest import FileEntry
from edge_mtl.weights.assembly import assemble
from edge_mtl.weights.byte_planes import pack, unpack
from edge_mtl.weights.safetensors import read_tensors
from edge_mtl.weights.split import split_graph

__all__ = ["PACKED", "PARTS", "WEIGHTS", "assemble_file", "store_once"]

WEIGHTS = "weights.safetensors"
PACKED = f"{WEIGHTS}.packed"
PARTS = ".parts"


def assemble_file(relative: str, read: Callable[[str], bytes], *, folder: Path) -> bytes:
    """The content of weights.safetensors or of a graph, from the files that stand for it.

    Args:
        relative: its name in the bundle.
        read: gives the verified bytes of a file of the bundle's folder.
        folder: of the bundle, for messages.
    Raises:
        BundleError: a file is missing or damaged, or the two do not fit each other.
    """
    weights = unpack(read(PACKED), name=str(folder / PACKED))
    if relative == WEIGHTS:
        return weights.tobytes()
    tensors = read_tensors(weights, name=str(folder / PACKED))
    return assemble(read(relative + PARTS), tensors, name=str(folder / (relative + PARTS)))


def store_once(
    folder: Path, graphs: Sequence[str], before: Mapping[str, FileEntry], read: Callable[[str], bytes]
) -> dict[str, FileEntry]:
    """Replace weights.safetensors and whole graphs in `folder` by what stands for them; without weights nothing changes.

    Args:
        folder: of the bundle that is being written.
        graphs: names of those that may be split.
        before: digest and size of what was assembled in the revision that `folder` is a copy of; empty for a new bundle. A
            whole file that lies in `folder` replaces what was assembled under its name.
        read: gives the whole content of what `before` lists.
    Returns:
        Digest and size by name, for the manifest.
    Raises:
        BundleError: weights.safetensors is not such a file.
    """
    assembled = {}
    for name, entry in before.items():
        source = folder / (PACKED if name == WEIGHTS else name + PARTS)
        if (folder / name).exists():
            source.unlink(missing_ok=True)
        elif source.exists():
            assembled[name] = entry
    whole = folder / WEIGHTS
    if not whole.is_file():
        return assembled
    for name in [name for name in assembled if name != WEIGHTS]:  # made from the weights before these
        (folder / name).write_bytes(read(name))
        (folder / (name + PARTS)).unlink()
        del assembled[name]
    payload = whole.read_bytes()
    tensors = read_tensors(payload, name=str(whole))
    for name in graphs:
        model = (folder / name).read_bytes() if (folder / name).is_file() else b""
        parts = split_graph(model, tensors)
        if parts is None:
            continue
        if assemble(parts, tensors, name=name) != model:
            raise BundleError(f"{name} could not be split from its weights without loss. Report this, with the checkpoint.")
        _replace(folder / name, folder / (name + PARTS), parts)
        assembled[name] = FileEntry(sha256_bytes(model), len(model))
    _replace(whole, folder / PACKED, pack(payload))
    assembled[WEIGHTS] = FileEntry(sha256_bytes(payload), len(payload))
    return assembled


def _replace(whole: Path, by: Path, payload: bytes) -> None:
    by.write_bytes(payload)
    whole.unlink()
