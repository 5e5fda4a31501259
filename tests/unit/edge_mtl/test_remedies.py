"""Every error of the system comes with what to do, and a shortage is not taken for a broken installation."""

from __future__ import annotations

import errno
import os

import pytest

from edge_mtl import opencv, packages
from edge_mtl.errors import SystemFault
from edge_mtl.packages import package_error
from edge_mtl.remedies import NO_MEMORY, remedy, shortage, told

LOADER = "/x.so: failed to map segment from shared object"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "Name a place that can be written"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "Check the disk"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ENOMEM, "memory"),
        (errno.EAGAIN, "--threads 1"),
        (errno.EPROTO, "Run it again"),
    ],
)
def test_an_error_of_the_system_comes_with_what_to_do(number: int, advice: str) -> None:
    error = OSError(number, os.strerror(number), "/a/b")
    assert advice in remedy(error)
    assert told(error) == f"({os.strerror(number)}). {remedy(error)}"


def test_what_has_no_number_is_told_as_it_is() -> None:
    assert told(ValueError("embedded null byte")).startswith("(embedded null byte). ")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MemoryError(), NO_MEMORY),
        (ImportError(LOADER), NO_MEMORY),
        (RuntimeError("std::bad_alloc"), NO_MEMORY),
        (OSError(errno.EMFILE, "Too many open files"), "Raise the limit of open files"),
        (RuntimeError("can't start new thread"), "Raise the limit of processes"),
        (ImportError("No module named 'x'"), ""),
    ],
)
def test_a_shortage_is_known_by_what_is_said(error: Exception, advice: str) -> None:
    assert shortage(error).startswith(advice)
    assert bool(shortage(error)) is bool(advice)


def test_a_library_that_memory_is_too_small_for_is_not_to_be_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(LOADER)

    monkeypatch.setattr(packages.importlib, "import_module", refuse)
    for ask in (lambda: packages.import_package("onnx", use="It needs onnx", install="x"), opencv.require):
        with pytest.raises(packages.BackendUnavailable, match="raise the limit of memory") as caught:
            ask()
        assert "pip" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), r"No space left on device \(runs/x\)\. Free some space"),
        (MemoryError(), "too little memory"),
    ],
)
def test_training_takes_errors_of_the_system_for_what_they_are(error: OSError | MemoryError, said: str) -> None:
    assert isinstance(error, packages.FAILURES)
    found = package_error(error, install="edge-mtl[train]")
    assert isinstance(found, SystemFault)
    assert found.exit_code == 74
    with pytest.raises(SystemFault, match=said):
        raise found
