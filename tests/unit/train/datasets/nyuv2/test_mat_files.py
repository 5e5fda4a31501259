"""MATLAB's files: what SciPy writes is read alike, and whatever else a file holds is one kind of error."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mtl.datasets.nyuv2.layout import DatasetError
from mtl.datasets.nyuv2.mat_files import read_numbers
from scipy.io import savemat

KINDS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def written(content: dict[str, object], *, compressed: bool) -> bytes:
    stream = io.BytesIO()
    savemat(stream, content, do_compression=compressed)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_every_kind_are_read(tmp_path: Path, kind: str, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    values = np.arange(1, 13).reshape(3, 4).astype(kind)
    others = {"text": "words", "cells": np.array(["a", 1], object), "structure": {"x": 1.0}, "few": np.array([[7]], kind)}
    path.write_bytes(written({**others, "splits": values}, compressed=compressed))
    numbers, few = read_numbers(path, "splits", "few", where="W.")
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, values.ravel(order="F"))
    np.testing.assert_array_equal(few, [7])


@pytest.mark.parametrize("other", ["words", np.array(["a", 1], object), {"x": 1.0}, np.array([1 + 2j])])
def test_what_is_no_number_is_named(tmp_path: Path, other: object) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(written({"splits": other}, compressed=True))
    with pytest.raises(DatasetError, match=r"something else than real numbers in splits\. W"):
        read_numbers(path, "splits", where="W.")


def test_a_variable_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(written({"splits": np.zeros(9 << 20)}, compressed=True))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DatasetError, match="cut off, or larger"):
        read_numbers(path, "splits", where="W.")


def test_a_file_that_ended_a_process_in_scipy_is_refused(tmp_path: Path) -> None:
    """A whole number of 64 bits whose content is a matrix."""
    path = tmp_path / "a.mat"
    whole = written({"splits": np.array([[1.0, 2.0]])}, compressed=False)
    matrix_of_8 = struct.pack("<IIB", 6, 8, 14)
    damaged = whole.replace(struct.pack("<IIB", 6, 8, 6), matrix_of_8).replace(
        struct.pack("<II", 9, 16), struct.pack("<II", 14, 16)
    )
    assert sum(one != other for one, other in zip(whole, damaged, strict=True)) == 2
    path.write_bytes(damaged)
    with pytest.raises(DatasetError, match="something else than real numbers in splits"):
        read_numbers(path, "splits", where="W.")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_one_kind_of_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.mat"
    whole = bytearray(written({"a": np.arange(5.0), "splits": np.arange(9, dtype="u2")}, compressed=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(124, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    with suppress(DatasetError):
        (found,) = read_numbers(path, "splits", where="W.")
        assert found.ndim == 1
