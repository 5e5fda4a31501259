"""Arrays out of a .npz that came with a bundle: no objects, and no more bytes than a limit, however small the file is."""

from __future__ import annotations

import io
import zipfile

import numpy as np

__all__ = ["MOST_BYTES", "read_arrays"]

Array = np.ndarray

MOST_BYTES = 256 << 20
"""Of all arrays of an archive together; those of bundles have a few megabytes."""


def read_arrays(payload: bytes, *, most_bytes: int = MOST_BYTES) -> dict[str, Array]:
    """The arrays by name.

    A few kilobytes of an archive can unpack to gigabytes, so its list of sizes is looked at first; what is read of a member is
    no more than the list says.

    Raises:
        ValueError: they have more bytes than that, or an array is of objects.
        Exception: damaged archives raise many kinds.
    """
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > most_bytes:
        raise ValueError(f"{len(payload)} bytes that unpack to {size}; at most {most_bytes} are expected")
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
