"""Mutations of zip archives, as NumPy and PyTorch write them, member by member."""

from __future__ import annotations

import io
import random
import zipfile

from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.texts import mutate_json

__all__ = ["mutate_archive"]


def mutate_archive(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A zip archive with one member altered, left out, repeated or renamed; now and then the archive's own bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(data, other, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return mutate_bytes(data, other, rng)
    if members:
        number = rng.randrange(len(members))
        name, content = members[number]
        match rng.randrange(6):
            case 0:
                del members[number]
            case 1:
                members.append((name, mutate_bytes(content, data, rng)))
            case 2:
                members[number] = (rng.choice((f"../{name}", f"/{name}", "x", name * 2)), content)
            case 3:
                members[number] = (name, rng.choice(members)[1])
            case _:
                at = content.find(b"{")
                text = mutate_json(content[at:].rstrip(b"\0 \n"), b"{}", rng) if at >= 0 and rng.random() < 0.5 else b""
                members[number] = (name, content[:at] + text if text else mutate_bytes(content, content, rng))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()
