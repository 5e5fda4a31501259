"""What camera_info says of a lens: which images may be taken for a pinhole camera's, and what is made of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.image import memory
from edge_mtl.ros import Camera, lens_fault, rectified
from edge_mtl.ros.lenses import lens_of


def camera(model: str = "plumb_bob", d: tuple[float, ...] = (), *, fx: float = 525.0, **changes: object) -> Camera:
    """640x480 pixels."""
    found = Camera.of(width=640, height=480, k=(fx, 0, 319.5, 0, fx, 239.5, 0, 0, 1), d=d, distortion_model=model)
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said", "undone"),
    [
        (camera(), "", False),
        (camera(d=(0.0,) * 5), "", False),
        (camera(""), "", False),
        (camera("rational_polynomial", (0.0,) * 8), "", False),
        (camera(d=(0.01, -0.01, 0.0, 0.0, 0.0)), "", False),
        (camera(d=(-0.3, 0.1, 0.0, 0.0, 0.0)), "the lens (plumb_bob) displaces the worst corner by 91 px", True),
        (camera("rational_polynomial", (0.3, 0, 0, 0, 0, 0, 0, 0)), "the lens (rational_polynomial) displaces", True),
        (camera("equidistant", (0.0,) * 4), "the lens (equidistant) displaces the worst corner by 100 px", True),
        (camera("equidistant"), "the lens (equidistant) displaces", True),
        (camera("equidistant", (0.0,) * 4, fx=200.0), "shows at its corners what no pinhole camera can", True),
        (camera("double_sphere", (-0.2, 0.6)), "distortion model 'double_sphere', which is none of plumb_bob", False),
        (camera("double_sphere"), "'double_sphere'", False),
        (camera("", (0.1, 0, 0, 0, 0)), "distortion model ''", False),
        (camera(d=(0.1, 0.2)), "4 or 5 or 8 or 12 or 14 finite coefficients", False),
        (camera(d=(float("nan"),) * 5), "finite coefficients", False),
        (camera(d=(-0.3, 0.1, 0.0, 0.0, 0.0), k=(0.0,) * 9), "", False),  # never calibrated: said elsewhere
    ],
)
def test_what_is_wrong_with_taking_images_for_a_pinhole_cameras(given: Camera, said: str, undone: bool) -> None:
    found = lens_fault(given)
    if not said:
        assert found is None
        return
    assert found is not None
    assert said in found.text
    assert found.can_be_undone is undone


def test_more_than_a_hundredth_of_the_longer_side_is_said() -> None:
    moved = {k1: lens_of(camera(d=(k1, 0.0, 0.0, 0.0))) for k1 in (-0.02, -0.03, -0.04)}
    distances = {k1: lens.displacement_px((480, 640)) for k1, lens in moved.items() if lens is not None}
    assert min(distances.values()) < 6.4 < max(distances.values())
    for k1, distance in distances.items():
        assert (lens_fault(camera(d=(k1, 0.0, 0.0, 0.0))) is not None) is (distance > 6.4)


def test_the_judgement_does_not_depend_on_the_size_of_the_image() -> None:
    large = camera(d=(-0.3, 0.1, 0.0, 0.0, 0.0))
    small = lens_fault(large.scaled(320, 240))
    assert small is not None
    assert "by 45 px" in small.text


def test_rectified_images_have_the_camera_of_p_and_no_distortion() -> None:
    p = (500.0, 0.0, 322.0, -60.0, 0.0, 501.0, 241.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    straight, undo = rectified(camera(d=(-0.3, 0.1, 0.0, 0.0, 0.0), p=p))
    assert undo is not None
    assert undo.zoom == 1.0
    assert straight.k == (500.0, 0.0, 322.0, 0.0, 501.0, 241.0, 0.0, 0.0, 1.0)
    assert (straight.p, straight.d, straight.distortion_model) == (p, (0.0,) * 5, "plumb_bob")
    assert lens_fault(straight) is None
    assert straight.intrinsics() == straight.intrinsics(rectified=True) == undo.camera


@pytest.mark.parametrize("p", [(0.0,) * 12, (525.0, 0, 319.5, 0, 0, 525.0, 239.5, 0, 0, 0, 1, 0)])
@pytest.mark.parametrize("r", [(0.0,) * 9, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)])
def test_where_p_is_zero_the_camera_is_k_and_a_rotation_of_zeros_is_none(r: tuple[float, ...], p: tuple[float, ...]) -> None:
    straight, undo = rectified(camera(d=(-0.3, 0.1, 0.0, 0.0, 0.0), r=r, p=p))
    assert undo is not None
    assert straight.k == camera().k
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    assert undo(frame).std() > 10


def test_the_fourth_column_of_p_grows_with_the_zoom() -> None:
    p = (200.0, 0.0, 319.5, -40.0, 0.0, 200.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0)
    straight, undo = rectified(camera(d=(-0.3, 0.1, 0.0, 0.0, 0.0), p=p))
    assert undo is not None
    assert undo.zoom > 1.2
    assert straight.p[3] / straight.p[0] == pytest.approx(-0.2)  # the baseline stays


def test_tables_are_made_once_for_a_camera() -> None:
    first = rectified(camera(d=(-0.31, 0.1, 0.0, 0.0, 0.0)))
    assert rectified(camera(d=(-0.31, 0.1, 0.0, 0.0, 0.0))) is first
    assert rectified(camera(d=(-0.32, 0.1, 0.0, 0.0, 0.0))) is not first


def test_an_undistorted_camera_is_left_alone_and_an_unknown_lens_is_refused() -> None:
    assert rectified(camera()) == (camera(), None)
    with pytest.raises(FrameError, match="double_sphere"):
        rectified(camera("double_sphere", (-0.2, 0.6)))


@pytest.mark.parametrize(("name", "count"), [("k", 8), ("k", 0), ("r", 3), ("r", 10), ("p", 9), ("p", 16)])
def test_matrices_of_another_number_of_values_are_refused(name: str, count: int) -> None:
    matrices: dict[str, tuple[float, ...]] = {"k": (525.0, 0, 319.5, 0, 525.0, 239.5, 0, 0, 1.0), name: (1.0,) * count}
    with pytest.raises(FrameError, match=rf"{name.upper()} of a camera_info has \d+ values; found {count}"):
        Camera.of(width=640, height=480, **matrices)


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
def test_the_lens_of_images_larger_than_any_that_is_taken_is_not_undone(model: str) -> None:
    k = (32500.0, 0, 19999.5, 0, 32500.0, 14999.5, 0, 0, 1.0)
    huge = Camera.of(width=40000, height=30000, k=k, d=(-0.1, 0.01, 0.0, 0.0), distortion_model=model)
    with pytest.raises(FrameError, match="1 to 16384 pixels a side; found 30000x40000"):
        rectified(huge)


def test_the_lens_of_images_too_large_for_the_memory_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 1_000_000)
    monkeypatch.setattr(memory, "_UNCHECKED_BYTES", 0)
    with pytest.raises(FrameError, match="What undoes the lens in images of 480x640 is too large for the memory"):
        rectified(camera(d=(-0.29, 0.1, 0.0, 0.0, 0.0)))
