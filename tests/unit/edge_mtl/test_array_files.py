"""Files of arrays: the array, or one kind of error whatever is in them."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_mtl.array_files import MOST_BYTES, ArrayFileError, read_array, read_arrays
from edge_mtl.bundle import Bundle, new_revision
from edge_mtl.errors import BundleError
from edge_mtl.evaluation.self_test import _reference
from edge_mtl.quantization.recorded import read_recorded


def npy(header: str, content: bytes = b"\0" * 64, version: int = 1) -> bytes:
    """A file with any header."""
    encoded = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(encoded)) + encoded + content


def archive(*, whole: bool = True) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    return stream.getvalue() if whole else stream.getvalue()[:-30]


SHAPE = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"
BAD = {
    "nothing": b"",
    "text": b"no array",
    "cut short": npy(SHAPE.format("<f4", "(400, 400)")),
    "more than there is memory": npy(SHAPE.format("<f4", "(1099511627776, 1099511627776)")),
    "a shape of no numbers": npy(SHAPE.format("<f4", "(1.5, 2)")),
    "a negative shape": npy(SHAPE.format("<f4", "(-1, 3)")),
    "a type that is none": npy(SHAPE.format("x", "(2, 2)")),
    "objects": npy(SHAPE.format("|O", "(2, 2)")),
    "brackets without an end": npy("{'descr': '<f4', 'shape': ("),
    "text without an end": npy("'''"),
    "nested too deep": npy("[" * 3000),
    "nested far too deep": npy("-" * 9000),
    "another version": npy(SHAPE.format("<f4", "(4, 4)"), version=3)[:6] + b"\xff\0" + bytes(80),
    "an archive": archive(),
    "an archive without an end": archive(whole=False),
    "a pickle": np.zeros(3).dumps(),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_no_file_of_one_array_is_one_kind_of_error(name: str, mapped: bool, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(BAD[name])
    with pytest.raises(ArrayFileError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of headers that it takes for those of Python 2
        read_array(tmp_path / "a.npy", mapped=mapped)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_the_same_kind(tmp_path: Path) -> None:
    with pytest.raises(ArrayFileError, match="No such file"):
        read_array(tmp_path / "none.npy")


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.zeros((0, 3)), np.asfortranarray(np.eye(3)), np.float32(2)])
def test_arrays_come_back(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    for mapped in (False, True):
        found = read_array(tmp_path / "a.npy", mapped=mapped)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert isinstance(found, np.memmap) is mapped


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
