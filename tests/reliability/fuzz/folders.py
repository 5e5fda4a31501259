"""Several files as one input: a folder of a data set, a bag, a bundle. Knows names and bytes, no format."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.values import Mutation

__all__ = ["in_one_file", "pack", "packed_folder", "unpack", "unpack_into"]


def pack(files: Mapping[str, bytes]) -> bytes:
    """Name, length and content of each file."""
    parts = []
    for name, content in files.items():
        encoded = name.encode()
        parts.append(struct.pack("<HI", len(encoded), len(content)) + encoded + content)
    return b"".join(parts)


def packed_folder(folder: Path) -> bytes:
    """Every file below a folder."""
    return pack({str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()})


def unpack(data: bytes) -> dict[str, bytes]:
    """The files again; what was cut off at the end is left out, and names that lead out of a folder are."""
    found, place = {}, 0
    while place + 6 <= len(data):
        name_length, length = struct.unpack_from("<HI", data, place)
        name = data[place + 6 : place + 6 + name_length].decode(errors="replace")
        place += 6 + name_length
        if _stays_inside(name):
            found[name] = data[place : place + length]
        place += length
    return found


def unpack_into(data: bytes, folder: Path) -> Path:
    """Write the files into a new folder in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in unpack(data).items():
        path = folder / name
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def in_one_file(choose: Callable[[str], Mutation]) -> Mutation:
    """A mutation of an archive: mostly one file's content, by what `choose` gives for its name; else which files there are."""

    def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
        files, others = unpack(data), unpack(other)
        if not files:
            return mutate_bytes(data, other, rng)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            name = rng.choice(sorted(files))
            twin = others.get(name) or files[rng.choice(sorted(files))]
            how = rng.random()
            if how < 0.88:
                files[name] = choose(name)(files[name], twin, rng)
            elif how < 0.92:
                files[name] = twin
            elif how < 0.94:
                files[name] = b""
            elif how < 0.96:
                renamed = rng.choice((name.upper(), f"{name}.png", f"x{name}", name.rpartition(".")[0], f"{name}/{name}"))
                files[renamed] = files.pop(name)
            elif how < 0.98:
                files[rng.choice((f"{name}-wal", f"{name}-journal", f"{name}.zstd", f"copy-{name}"))] = files[name]
            elif len(files) > 1:
                del files[name]
        return pack(files)

    return mutate


def _stays_inside(name: str) -> bool:
    pure = PurePosixPath(name)
    within = 0 < len(name.encode()) < 400 and not pure.is_absolute() and ".." not in pure.parts and pure.name not in ("", ".")
    return within and "\0" not in name and all(len(part.encode()) < 200 for part in pure.parts)
