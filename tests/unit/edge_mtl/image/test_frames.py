"""Frames: what is refused and how, letterbox geometry, intrinsics, planes and pixels."""

from __future__ import annotations

import inspect
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl.errors import EdgeMtlError, FrameError
from edge_mtl.image.frames import (
    MAX_SIDE,
    OUTPUT_STRIDE,
    Intrinsics,
    check_frame,
    letterbox,
    letterbox_image,
    prepare,
    prepare_pixels,
    prepare_planes,
    supersampling,
)
from edge_mtl.manifest import InputSpec
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
        (np.zeros((8, 8, 3), np.int64), "Convert it to 0..255 and frame.astype"),
        (np.zeros((8, 8, 3), object), "Convert it to 0..255 and frame.astype"),
        (np.zeros((8, 8, 3), bool), "Convert it to 0..255 and frame.astype"),
        (np.zeros((8, 8, 3), np.int8), "Convert it to 0..255 and frame.astype"),
        (np.zeros(()), "one colour image"),
        (np.zeros(8, np.uint8), "one colour image"),
        (np.zeros((2, 8, 8), np.uint8), "one colour image"),
        (np.zeros((1, 1, 1, 8, 8), np.uint8), "one colour image"),
        (np.zeros((1, 8, 4, 3), np.uint8), "one frame at a time"),
        (np.zeros((3, 8, 8, 3), np.uint8), "one frame at a time"),
        (np.zeros((2, 8, 3, 3), np.uint8), "one frame at a time"),
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


def test_who_looks_at_a_frame_again_gets_its_16_bits_and_remarks_go_where_they_are_asked_to():
    dark, said = np.full((8, 8, 3), 4000, np.uint16), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_frame(dark, scaled=False).dtype == np.uint16
        assert check_frame(dark, on_remark=said.append).dtype == np.uint8
        assert check_frame(dark, on_remark=None).dtype == np.uint8
    (remark,) = said
    assert "fills the lowest 12 only" in remark


@pytest.mark.parametrize("shape", [(1, MAX_SIDE, 3), (MAX_SIDE, 1, 3)])
def test_the_longest_side_is_16384_pixels(shape):
    pixel = np.zeros((1, 1, 3), np.uint8)
    assert check_frame(np.broadcast_to(pixel, shape)).shape == shape
    longer = tuple(side + (side == MAX_SIDE) for side in shape)
    with pytest.raises(FrameError, match="at most 16384 pixels a side"):
        check_frame(np.broadcast_to(pixel, longer))


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


@pytest.mark.parametrize(
    ("frame", "network", "content", "corner"),
    [
        ((31, 17), (64, 96), (64, 36), (0, 28)),
        ((1, 900), (64, 96), (4, 96), (28, 0)),
        ((700, 2), (64, 96), (64, 4), (0, 44)),
        ((100, 100), (64, 96), (64, 64), (0, 16)),
        ((64, 95), (64, 96), (64, 96), (0, 0)),
        ((60, 96), (64, 96), (60, 96), (0, 0)),
        ((1, 1), (4, 4), (4, 4), (0, 0)),
    ],
)
def test_where_a_frame_lies_worked_out_by_hand(frame, network, content, corner):
    box = letterbox(frame, network)
    assert (box.frame, box.network, box.content, (box.top, box.left)) == (frame, network, content, corner)
    assert box.scales == (content[0] / frame[0], content[1] / frame[1])
    assert box.fills_network == (content == network)
    assert (box.rows, box.columns) == (
        slice(corner[0], corner[0] + content[0]),
        slice(corner[1], corner[1] + content[1]),
    )


def test_the_camera_of_the_network_worked_out_by_hand():
    box = letterbox((60, 100), (120, 240))
    assert (box.content, box.left) == ((120, 200), 20)
    there = box.to_network(Intrinsics(50.0, 60.0, 49.5, 19.5))
    assert there == Intrinsics(100.0, 120.0, 119.5, 39.5)
    assert box.to_frame(there) == Intrinsics(50.0, 60.0, 49.5, 19.5)


def test_a_camera_and_a_place_are_values():
    camera, box = Intrinsics(1.0, 2.0, 3.0, 4.0), letterbox((60, 100), (120, 240))
    assert {camera: 1}[Intrinsics(1.0, 2.0, 3.0, 4.0)] == 1
    for value, name in ((camera, "fx"), (box, "top")):
        with pytest.raises(AttributeError):
            setattr(value, name, 5)
        assert not hasattr(value, "__dict__"), "thousands of them are kept"


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
        (500, 500, 320, 240, 1),
        np.eye(4),
        np.eye(3, 4),
    ],
)
def test_values_that_are_no_camera_are_refused(value):
    with pytest.raises(FrameError):
        Intrinsics.of(value)


@pytest.mark.parametrize("place", range(4))
def test_how_small_and_large_the_numbers_of_a_camera_may_be(place):
    def camera(number):
        return Intrinsics(*(number if at == place else 500.0 for at in range(4)))

    assert camera(1e6).as_tuple()[place] == 1e6
    with pytest.raises(FrameError, match=r"0\.01 to 1000000 pixels and the principal point within as many"):
        camera(1e6 + 1)
    if place < 2:
        assert camera(0.01).as_tuple()[place] == 0.01
        for number, said in ((0.0099, "0.01 to 1000000"), (0.0, "positive"), (-1.0, "positive"), (np.inf, "finite")):
            with pytest.raises(FrameError, match=said):
                camera(number)
    else:
        assert camera(-1e6).as_tuple()[place] == -1e6
        with pytest.raises(FrameError, match=r"0\.01 to 1000000"):
            camera(-1e6 - 1)


@pytest.mark.parametrize(
    ("row", "column", "value"), [(0, 1, 0.5), (0, 1, -1), (1, 0, 0.5), (1, 0, -1), (2, 0, 1), (2, 0, -1), (2, 1, 1), (2, 2, 2)]
)
def test_a_skewed_camera_matrix_is_refused(row, column, value):
    matrix = Intrinsics(500.0, 510.0, 320.0, 240.0).matrix()
    matrix[row, column] = value
    with pytest.raises(FrameError, match=r"should be \[\[fx, 0, cx\]"):
        Intrinsics.of(matrix)


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


@pytest.mark.parametrize("size", [(54, 96), (64, 60)])
def test_bars_are_black_whatever_the_buffer_held(size):
    image = np.full((*size, 3), 200, np.uint8)
    box = letterbox(size, (64, 96))
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
    yield "rows flipped", base[::-1]
    yield "columns flipped", base[:, ::-1]
    yield "colours apart", np.ascontiguousarray(base.transpose(2, 0, 1)).transpose(1, 2, 0)
    yield "transposed", base.transpose(1, 0, 2)
    yield "fortran", np.asfortranarray(base)
    yield "one pixel repeated", np.broadcast_to(base[:1, :1], (90, 120, 3))
    yield "one row repeated", np.broadcast_to(base[:1], (90, 160, 3))
    yield "windows that overlap a little", np.lib.stride_tricks.as_strided(base, (50, 60, 3), (150, 3, 1))
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


def test_the_input_of_a_graph_is_pixels_or_planes_by_its_type():
    image, box = make_image(1, height=54, width=96), letterbox((54, 96), (64, 96))
    pixels, planes = np.full((64, 96, 3), 99, np.uint8), np.full((3, 64, 96), 99, np.float32)
    prepare(image, box, pixels, channels="bgr")
    prepare(image, box, planes, channels="bgr")
    assert np.array_equal(planes, planes_of(image, channels="bgr"))
    assert np.array_equal(pixels, planes.transpose(1, 2, 0))


def test_what_the_network_sees_of_an_image():
    size = InputSpec(64, 96)
    fitting = make_image(1)
    assert letterbox_image(fitting, size) is fitting
    for height, width in ((54, 96), (64, 97), (65, 96), (96, 64)):
        image = make_image(1, height=height, width=width)
        seen = letterbox_image(image, size)
        assert (seen.shape, seen.dtype) == ((64, 96, 3), np.uint8)
        assert np.array_equal(seen, planes_of(image).transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("frame", "samples"),
    [
        ((64, 96), 1),
        ((127, 191), 1),
        ((128, 192), 2),
        ((127, 400), 1),
        ((400, 191), 1),
        ((255, 383), 2),
        ((256, 384), 4),
        ((999, 1500), 4),
        ((32, 48), 1),
    ],
)
def test_how_many_samples_a_pixel_is_made_of(frame, samples):
    assert supersampling(frame, (64, 96)) == samples


@pytest.mark.parametrize("width", [96, 32])
@pytest.mark.parametrize("times", [2, 4])
def test_a_frame_that_many_times_larger_is_averaged(times, width):
    image = make_image(3, height=64 * times, width=width * times)
    blocks = image.reshape(64, times, width, times, 3).astype(np.float64).mean(axis=(1, 3))
    columns = letterbox(image.shape[:2], (64, 96)).columns
    assert np.abs(planes_of(image)[:, :, columns].transpose(1, 2, 0) - blocks).max() <= 0.5


@pytest.mark.parametrize(("size", "often"), [((64, 96), 0), ((63, 96), 1), ((90, 130), 1), ((130, 200), 2), ((260, 400), 2)])
def test_a_frame_is_resized_no_more_often_than_it_must_be(monkeypatch, size, often):
    image = make_image(1, height=size[0], width=size[1])
    resize, calls = cv2.resize, []
    monkeypatch.setattr(cv2, "resize", lambda *given, **more: calls.append(1) or resize(*given, **more))
    planes_of(image)
    assert len(calls) == often


def test_there_is_a_plane_for_each_colour():
    with pytest.raises(ValueError, match=r"longer|shorter"):
        prepare_planes(make_image(1), letterbox((64, 96), (64, 96)), np.zeros((4, 64, 96), np.float32))


def test_where_frames_of_one_size_lie_is_worked_out_once_and_only_for_sizes():
    assert letterbox((33, 44), (64, 96)) is letterbox((33, 44), (64, 96))
    with pytest.raises(ValueError, match="shorter"):
        letterbox((33, 44, 3), (64, 96))


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (check_frame, ["scaled", "on_remark"]),
        (prepare, ["channels"]),
        (prepare_planes, ["channels"]),
        (prepare_pixels, ["channels"]),
    ],
)
def test_options_are_given_by_name(call, names):
    parameters = inspect.signature(call).parameters
    assert [name for name in parameters if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY] == names
