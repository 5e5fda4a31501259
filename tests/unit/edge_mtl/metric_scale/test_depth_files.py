"""Depth beside images: PNG and NPY, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.image.encoding import encode_depth
from edge_mtl.metric_scale.depth_files import read_depth_file


def test_png_is_in_its_unit_and_npy_in_metres(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 1500], [2000, 65535]], np.uint16))
    np.testing.assert_allclose(read_depth_file(tmp_path, "a"), [[0.0, 1.5], [2.0, 65.535]], rtol=1e-6)
    np.testing.assert_allclose(read_depth_file(tmp_path, "a", unit_m=0.0002), [[0.0, 0.3], [0.4, 13.107]], rtol=1e-6)
    np.save(tmp_path / "a.npy", np.array([[1.25, np.nan]]))
    np.testing.assert_array_equal(read_depth_file(tmp_path, "a"), np.array([[1.25, np.nan]], np.float32))


def test_a_png_that_states_its_unit_is_in_it_and_in_no_other(tmp_path: Path) -> None:
    depth_m = np.array([[np.nan, 1.5], [2.0, 3.25]], np.float32)
    (tmp_path / "a.png").write_bytes(encode_depth(depth_m))
    for unit_m in (None, 0.001):
        np.testing.assert_allclose(read_depth_file(tmp_path, "a", unit_m=unit_m), np.nan_to_num(depth_m), rtol=1e-6)
    with pytest.raises(FrameError, match=r"a.png states that its unit is 0.001 m, not 0.0002 m. Leave --depth-unit out"):
        read_depth_file(tmp_path, "a", unit_m=0.0002)


def test_what_is_no_depth_map_is_refused_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.zeros((4, 4), np.uint8))
    (tmp_path / "text.png").write_text("no image")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "whole.npy", np.zeros((2, 2), int))
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    for name, words in (
        ("grey", "16 bits; found uint8"),
        ("text", "not an image"),
        ("cube", "floating-point metres"),
        ("whole", "floating-point metres"),
        ("object", "object.npy cannot be read"),
        ("missing", r"expected missing.npy \(metres\) or missing.png"),
    ):
        with pytest.raises(FrameError, match=words):
            read_depth_file(tmp_path, name)
