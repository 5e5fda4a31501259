"""Archives of arrays that ask for more than they should."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from edge_mtl.array_archives import MOST_BYTES, read_arrays
from edge_mtl.bundle import Bundle, new_revision
from edge_mtl.errors import BundleError
from edge_mtl.evaluation.self_test import _reference
from edge_mtl.quantization.recorded import read_recorded


def bomb(size: int) -> bytes:
    """An archive of one array of zeros of about `size` bytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, zeros=np.zeros(size, np.uint8))
    return stream.getvalue()


def lying(size: int) -> bytes:
    """An archive of a few bytes whose array says that it has `size`."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("zeros.npy", header.getvalue())
    return stream.getvalue()


def test_arrays_are_read() -> None:
    assert read_arrays(bomb(1000))["zeros"].shape == (1000,)


def test_a_small_archive_that_unpacks_to_much_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = bomb(1 << 20)
    assert len(payload) < 4000
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(ValueError, match=r"unpack to 1048\d+; at most 1000 are expected"):
        read_arrays(payload, most_bytes=1000)


@pytest.mark.parametrize("payload", [bomb(MOST_BYTES), lying(1 << 50)], ids=["zeros", "a header"])
def test_a_bundle_with_such_an_archive_is_a_typed_error(payload: bytes, own_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="does not hold calibration statistics"):
        read_recorded(payload, source="it")
    made = new_revision(own_bundle, lambda folder: (folder / "golden/000.npz").write_bytes(payload) and None)
    with pytest.raises(BundleError, match="does not hold reference outputs"):
        _reference(made, "golden/000.png")


def test_objects_are_refused() -> None:
    stream = io.BytesIO()
    np.savez(stream, one=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(stream.getvalue())
