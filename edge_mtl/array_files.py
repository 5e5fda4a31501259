"""Arrays in NumPy's files, which whoever wrote them may have damaged: read, or refused by one kind of error.

NumPy itself raises a dozen kinds on files that are none: of its parser, of zip archives, of memory that a header asks for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["ArrayFileError", "read_array"]

Array = np.ndarray


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
