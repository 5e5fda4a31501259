"""Arrays in NumPy's files, which whoever wrote them may have damaged: read, or refused by one kind of error.

NumPy itself raises a dozen kinds on files that are none: of its parser, of zip archives, of memory that a header asks for.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["MOST_BYTES", "ArrayFileError", "read_array", "read_arrays"]

Array = np.ndarray

MOST_BYTES = 256 << 20
"""Of all arrays of an archive together; those of bundles have a few megabytes."""


class ArrayFileError(ValueError):
    """What is wrong with a file, without its name."""


def read_array(path: Path, *, mapped: bool = False) -> Array:
    """The one array of a .npy file, of any shape and any type but objects.

    Args:
        mapped: whether it stays in the file and is read where it is looked at.
    Raises:
        ArrayFileError: it is missing, damaged, cut short, or no such file.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # an array that the file is too short for is refused at once
    except OSError as exc:
        raise ArrayFileError(exc.strerror or str(exc)) from exc
    except MemoryError as exc:
        raise ArrayFileError("its header is damaged, or asks for more memory than there is") from exc
    except Exception as exc:  # of many kinds: see the module
        raise ArrayFileError((str(exc).strip().splitlines() or [type(exc).__name__])[0]) from exc
    if not isinstance(found, np.ndarray):
        found.close()
        raise ArrayFileError("an archive of several arrays, where one is expected")
    return found if mapped else np.array(found)


def read_arrays(payload: bytes, *, most_bytes: int = MOST_BYTES) -> dict[str, Array]:
    """The arrays of a .npz that came with a bundle, by name: no objects, and no more bytes than a limit.

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
