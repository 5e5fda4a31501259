"""Frames: what is refused and how, letterbox geometry, intrinsics, planes and pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl.errors import EdgeMtlError, FrameError
from edge_mtl.image.frames import OUTPUT_STRIDE, Intrinsics, check_frame, letterbox, prepare_pixels, prepare_planes
from tests.bundles import make_image

sides = st.integers(1, 2000)
networks = st.tuples(st.integers(1, 100), st.integers(1, 100)).map(
    lambda pair: (pair[0] * OUTPUT_STRIDE, pair[1] * OUTPUT_STRIDE)
)
focals, centres = st.floats(50, 3000), st.floats(-100, 2000)


@pytest.mark.parametrize(
    ("frame", "advice"),
    [
        ([[1, 2, 3]], "numpy.asarray"),
        (None, "NumPy array"),
        (np.zeros((8, 8), np.uint8), "GRAY2RGB"),
        (np.zeros((8, 8, 4), np.uint8), "alpha"),
        (np.zeros((3, 8, 8), np.uint8), "transpose"),
        (np.zeros((1, 8, 8, 3), np.uint8), "one frame at a time"),
        (np.zeros((8, 8, 2), np.uint8), "one colour image"),
        (np.zeros((8, 8, 3), np.float32), "0..1"),
        (np.zeros((8, 8), np.uint16), "GRAY2RGB"),
        (np.zeros((8, 8, 3), np.int64), "astype"),
        (np.zeros((8, 8, 3), object), "astype"),
        (np.zeros((0, 8, 3), np.uint8), "have pixels"),
        (np.zeros((8, 0, 3), np.uint8), "have pixels"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1, 20000, 3)), "Resize"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused_with_advice(frame, advice):
    with pytest.raises(FrameError, match=advice) as caught:
        check_frame(frame)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, EdgeMtlError)


def test_a_frame_of_16_bits_is_scaled_and_a_dark_one_is_warned_of():
    frame = np.arange(8 * 8 * 3, dtype=np.uint16).reshape(8, 8, 3) * 341
    np.testing.assert_array_equal(check_frame(frame), np.rint(frame / 257))
    np.testing.assert_array_equal(check_frame(frame.astype(">u2")[::2, ::-1]), np.rint(frame / 257)[::2, ::-1])
    with pytest.warns(UserWarning, match="fills the lowest 12 only"):
        assert check_frame(frame // 16).max() == 16


def test_a_masked_array_becomes_a_plain_one():
    assert type(check_frame(np.ma.zeros((4, 4, 3), np.uint8))) is np.ndarray


@given(sides, sides, networks)
def test_the_content_fits_is_centred_and_keeps_its_shape(height, width, network):
    box = letterbox((height, width), network)
    assert all(side % OUTPUT_STRIDE == 0 for side in (*box.content, box.top, box.left))
    assert box.rows.stop <= network[0]
    assert box.columns.stop <= network[1]
    spare = [limit - side for limit, side in zip(network, box.content, strict=True)]
    assert [abs(2 * before - left) <= 2 * OUTPUT_STRIDE for before, left in zip((box.top, box.left), spare, strict=True)] == [
        True,
        True,
    ]
    wanted = min(network[0] / height, network[1] / width)
    for side, original in zip(box.content, (height, width), strict=True):
        assert abs(side - original * wanted) <= OUTPUT_STRIDE / 2 + 1e-6 or side == OUTPUT_STRIDE


@pytest.mark.parametrize(
    ("frame", "content", "corner"),
    [((480, 640), (288, 384), (0, 0)), ((720, 1280), (216, 384), (36, 0)), ((1280, 720), (288, 160), (0, 112))],
)
def test_usual_cameras_keep_their_aspect_ratio(frame, content, corner):
    box = letterbox(frame, (288, 384))
    assert (box.content, (box.top, box.left)) == (content, corner)


@given(sides, sides, networks, focals, focals, centres, centres)
def test_intrinsics_come_back_from_the_network(height, width, network, fx, fy, cx, cy):
    box, camera = letterbox((height, width), network), Intrinsics(fx, fy, cx, cy)
    there = box.to_network(camera)
    assert list(box.to_frame(there)) == pytest.approx(list(camera), rel=1e-9, abs=1e-6)


@given(sides, sides, networks, st.floats(0, 1), st.floats(0, 1))
def test_a_ray_stays_the_same_ray(height, width, network, u, v):
    """A pixel and its place in the network's input look along one direction: the half-pixel rule."""
    box, camera = letterbox((height, width), network), Intrinsics(500.0, 450.0, width * 0.4, height * 0.6)
    there = box.to_network(camera)
    x, y = u * (width - 1), v * (height - 1)
    sy, sx = box.scales
    nx, ny = (x + 0.5) * sx - 0.5 + box.left, (y + 0.5) * sy - 0.5 + box.top
    assert (nx - there.cx) / there.fx == pytest.approx((x - camera.cx) / camera.fx, abs=1e-7)
    assert (ny - there.cy) / there.fy == pytest.approx((y - camera.cy) / camera.fy, abs=1e-7)


def test_intrinsics_from_a_tuple_a_matrix_and_themselves():
    camera = Intrinsics(500.0, 510.0, 320.0, 240.0)
    for given_as in ((500, 510, 320, 240), [500.0, 510.0, 320.0, 240.0], camera.matrix(), camera):
        assert Intrinsics.of(given_as) == camera
    assert tuple(camera) == camera.as_tuple() == (500.0, 510.0, 320.0, 240.0)


@pytest.mark.parametrize(
    "value",
    [
        (500, 500, 320),
        (0, 500, 320, 240),
        (500, -1, 320, 240),
        (np.nan, 500, 320, 240),
        (500, 500, np.inf, 240),
        "camera",
        {"fx": 1},
        np.ones((3, 3)),
        np.zeros((2, 3)),
    ],
)
def test_values_that_are_no_camera_are_refused(value):
    with pytest.raises(FrameError):
        Intrinsics.of(value)


def planes_of(frame, network=(64, 96), **options):
    planes = np.full((3, *network), 77, np.float32)
    prepare_planes(check_frame(frame), letterbox(frame.shape[:2], network), planes, **options)
    return planes


def test_a_frame_of_the_networks_size_is_only_reordered(frame):
    assert np.array_equal(planes_of(frame), frame.transpose(2, 0, 1))


def test_bgr_gives_the_same_planes_as_rgb(frame):
    turned = np.ascontiguousarray(frame[:, :, ::-1])
    assert np.array_equal(planes_of(turned, channels="bgr"), planes_of(frame))


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("size", [(64, 96), (54, 96), (120, 60), (300, 500), (31, 17), (1, 1), (1, 900), (700, 2)])
def test_planes_and_pixels_are_the_same_image(channels, size):
    image = make_image(1, height=size[0], width=size[1])
    pixels = np.full((64, 96, 3), 99, np.uint8)
    prepare_pixels(image, letterbox(size, (64, 96)), pixels, channels=channels)
    assert np.array_equal(planes_of(image, channels=channels), pixels.transpose(2, 0, 1))


def test_bars_are_black_whatever_the_buffer_held():
    image = np.full((54, 96, 3), 200, np.uint8)
    box = letterbox((54, 96), (64, 96))
    planes = planes_of(image)
    inside = np.zeros((64, 96), bool)
    inside[box.rows, box.columns] = True
    assert (planes[:, inside] == 200).all()
    assert (planes[:, ~inside] == 0).all()
    assert not inside.all()


def frame_views():
    base = make_image(2, height=120, width=160)
    read_only = base.copy()
    read_only.setflags(write=False)
    yield "read-only", read_only
    yield "row strided", base[::2]
    yield "column strided", base[:, ::2]
    yield "cropped", base[10:90, 20:140]
    yield "flipped", base[::-1, ::-1]
    yield "colours reversed", base[:, :, ::-1]
    yield "transposed", base.transpose(1, 0, 2)
    yield "fortran", np.asfortranarray(base)
    yield "one pixel repeated", np.broadcast_to(base[:1, :1], (90, 120, 3))
    yield "one row repeated", np.broadcast_to(base[:1], (90, 160, 3))
    yield "overlapping windows", np.lib.stride_tricks.as_strided(base, (50, 60, 3), (30, 3, 1))


@pytest.mark.parametrize(("name", "view"), list(frame_views()), ids=[name for name, _ in frame_views()])
def test_any_memory_layout_gives_the_planes_of_its_copy(name, view):
    before = view.copy()
    assert np.array_equal(planes_of(view), planes_of(np.ascontiguousarray(view)))
    assert np.array_equal(view, before), "the frame is never written to"


@pytest.mark.parametrize("size", [(96, 144), (200, 300), (900, 1350)])
def test_shrinking_averages_instead_of_skipping(size):
    """Fine stripes must become grey, not stripes of another width."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, ::2] = 255
    reference = cv2.resize(image, (96, 64), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    assert np.abs(planes_of(image) - reference).mean() < 40


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_a_frame_of_one_colour_keeps_it(height, width, grey):
    planes = planes_of(np.full((height, width, 3), grey, np.uint8))
    box = letterbox((height, width), (64, 96))
    assert (planes[:, box.rows, box.columns] == grey).all()
