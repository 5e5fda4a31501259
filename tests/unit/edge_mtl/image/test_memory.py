"""Memory that runs out while an image is read."""

from __future__ import annotations

import cv2
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.image.memory import out_of_memory


def _of_opencv(code: int) -> cv2.error:
    error = cv2.error("(-4:Insufficient memory) Failed to allocate")
    error.code = code
    return error


@pytest.mark.parametrize("shortage", [MemoryError(), _of_opencv(cv2.Error.StsNoMem)])
def test_what_runs_out_names_the_image_and_what_to_do(shortage: Exception) -> None:
    with (
        pytest.raises(FrameError, match=r"^a\.jpg is too large for the memory\. Halve it"),
        out_of_memory("a.jpg", "Halve it."),
    ):
        raise shortage


def test_other_errors_of_opencv_pass_through() -> None:
    with pytest.raises(cv2.error), out_of_memory("a.jpg", "Halve it."):
        raise _of_opencv(cv2.Error.StsBadArg)
