"""Colours, panels and result files of predictions."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mtl.image.colour import blend, colour_depth, colour_labels, colour_normals, depth_range
from edge_mtl.image.encoding import encode_depth, encode_labels
from edge_mtl.image.frames import Intrinsics
from edge_mtl.image.lettering import put_text, text_width
from edge_mtl.image.panel import BACKGROUND, draw_labels, draw_legend, fit, legend, panel
from edge_mtl.outputs.result_files import ResultWriter
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.sources.frame_source import Frame
from edge_mtl.tasks import NYU13_CLASSES, NYU13_PALETTE
from edge_mtl.tasks.drawing import tiles
from tests.bundles import answer_of, full_maps, host_model, make_image, reference


def prediction(**without: None) -> Prediction:
    """Of the tiny network."""
    maps = {**full_maps(reference(host_model(), make_image(7))), **without}
    confidence = maps.pop("confidence")
    results = answer_of(maps, confidence=lambda: confidence).results
    return Prediction(results, Timing(), Intrinsics(88.0, 88.0, 47.5, 31.5), True, make_image(7).shape[:2])


def test_labels_get_the_palette_and_void_is_black() -> None:
    labels = np.array([[0, 12], [13, 255]], np.uint8)
    expected = np.array([[NYU13_PALETTE[0], NYU13_PALETTE[12]], [(0, 0, 0), (0, 0, 0)]], np.uint8)
    np.testing.assert_array_equal(colour_labels(labels, palette=NYU13_PALETTE), expected)


def test_near_is_warm_far_is_cold_and_unknown_black() -> None:
    colours = colour_depth(np.array([[1.0, 5.0], [np.nan, 0.0]], np.float32), (1.0, 5.0)).astype(int)
    assert colours[0, 0, 0] > colours[0, 0, 2]
    assert colours[0, 1, 2] > colours[0, 1, 0]
    assert not colours[1].any()


def test_the_depth_range_ignores_what_is_unknown() -> None:
    assert depth_range(np.full((3, 3), np.nan, np.float32)) == (0.0, 1.0)
    near, far = depth_range(np.array([[2.0, 2.0, np.inf, -1.0]], np.float32))
    assert near == 2.0
    assert far > near


def test_a_floor_is_green_a_facing_wall_blue_and_unknown_black() -> None:
    normals = np.array([[(0, -1, 0), (0, 0, -1), (np.nan, 0, 0), (0, 0, 0)]], np.float32)
    assert colour_normals(normals).argmax(axis=2).tolist()[0][:2] == [1, 2]
    assert not colour_normals(normals)[0, 2:].any()


def test_black_leaves_the_frame_as_it_is() -> None:
    frame = make_image(1)
    np.testing.assert_array_equal(blend(frame, np.zeros_like(frame)), frame)


def test_text_is_drawn_and_cut_at_the_border() -> None:
    canvas = np.zeros((30, 60, 3), np.uint8)
    put_text(canvas, "wall · 12 ms", (40, 20), size=16, colour=(255, 255, 255))
    assert canvas[:, 40:].any()
    assert not canvas[:, :38].any()
    assert text_width("wall wall", size=16) > text_width("wall", size=16) > 0


def test_text_falls_back_to_stroke_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mtl.image.lettering._outline_font", lambda: None)
    canvas = np.zeros((30, 200, 3), np.uint8)
    put_text(canvas, "2.9× · 12 ms", (2, 20), size=16, colour=(255, 255, 255))
    assert canvas.any()
    assert 40 < text_width("2.9× · 12 ms", size=16) < 200


@pytest.mark.parametrize("missing", [(), ("depth",), ("segmentation", "normals"), ("segmentation", "depth", "normals")])
def test_a_panel_shows_the_maps_that_are_there(missing: tuple[str, ...]) -> None:
    frame = make_image(7)
    result = panel(frame, tiles(frame, prediction(**dict.fromkeys(missing)).results), title="tiny")
    assert result.dtype == np.uint8
    assert result.shape[2] == 3
    assert tuple(result[0, 0]) == BACKGROUND


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (64, 96)])
def test_any_frame_size_can_be_drawn(size: tuple[int, int]) -> None:
    height, width = size
    labels = np.full(size, 4, np.uint8)
    answer = answer_of(
        {
            "segmentation": labels,
            "depth": np.full(size, 2.0, np.float32),
            "normals": np.full((*size, 3), -0.577, np.float32),
        }
    )
    frame = np.full((height, width, 3), 90, np.uint8)
    assert panel(frame, tiles(frame, answer.results)).ndim == 3
    assert draw_labels(frame, labels, classes=NYU13_CLASSES, palette=NYU13_PALETTE).shape == frame.shape


def test_five_drawings_and_the_frame_are_two_rows_of_three() -> None:
    frame = make_image(1, height=240, width=320)
    tile = panel(frame, [("one", frame)]).shape
    found = panel(frame, [(str(number), frame) for number in range(5)]).shape
    assert found[0] > 1.8 * tile[0]
    assert found[1] == pytest.approx(1.5 * tile[1], rel=0.05)


def test_a_legend_wraps() -> None:
    entries = [(name, tuple(map(int, colour))) for name, colour in zip(NYU13_CLASSES, NYU13_PALETTE, strict=True)]
    assert legend(entries, 300).shape[0] > legend(entries, 2000).shape[0]
    assert fit(make_image(0), 48, 64).shape == (64, 48, 3)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (288, 384), (480, 640), (720, 1280)])
def test_a_legend_over_an_image_takes_a_third_of_it_at_most_and_shows_as_many_entries_as_fit(height: int, width: int) -> None:
    asked: list[int] = []

    def entries(most: int) -> list[tuple[str, tuple[int, int, int]]]:
        asked.append(most)
        shown: list[tuple[str, tuple[int, int, int]]] = [
            (f"class {number}", (255, 0, number)) for number in range(min(most, 40))
        ]
        return shown if most >= 40 else [*shown, (f"and {40 - most} more", (0, 0, 0))]

    image = np.full((height, width, 3), 200, np.uint8)
    draw_legend(image, entries, most=50)
    assert (image[: height * 2 // 3] == 200).all()
    swatches = image[(image[..., 0] == 255) & (image[..., 1] == 0)]
    assert set(swatches[:, 2]) == set(range(min(asked[-1], 40)))
    assert asked == list(range(50, asked[-1] - 1, -1)), "the largest number that fits"
    assert asked[-1] >= 2
    assert (image[-1] < 80).any(), "the edge is darkened"


def test_an_image_without_room_or_entries_for_a_legend_stays_as_it_is() -> None:
    image = np.full((24, 64, 3), 200, np.uint8)
    draw_legend(image, lambda most: [("wall", (255, 0, 0))], most=3)
    assert (image == 200).all()
    image = np.full((240, 320, 3), 200, np.uint8)
    draw_legend(image, lambda most: [], most=3)
    assert (image == 200).all()


def test_depth_is_stored_in_millimetres() -> None:
    stored = cv2.imdecode(
        np.frombuffer(encode_depth(np.array([[1.2344, np.nan, 99.0, -1.0]], np.float32)), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert stored.dtype == np.uint16
    assert stored.tolist() == [[1234, 0, 65535, 0]]


def test_labels_are_stored_with_their_palette() -> None:
    labels = prediction().segmentation
    payload = encode_labels(labels, palette=NYU13_PALETTE)
    assert struct.unpack(">IIBB", payload[16:26]) == (labels.shape[1], labels.shape[0], 8, 3)
    shown = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    np.testing.assert_array_equal(shown, colour_labels(labels, palette=NYU13_PALETTE))


def test_every_kind_of_file_is_written(tmp_path: Path) -> None:
    predicted = prediction()
    with ResultWriter(tmp_path, kinds=("overlay", "panel", "png", "npz"), name="x") as results:
        written = results.write(Frame("room", make_image(7)), predicted)
        assert results.close() == []
    kinds = ("overlay.png", "panel.png", "segmentation.png", "depth.png", "depth-colour.png", "normals.png", "npz")
    assert sorted(tmp_path.iterdir()) == sorted(written) == sorted(tmp_path / f"room.{kind}" for kind in kinds)
    with np.load(tmp_path / "room.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["depth"], predicted.depth)
        np.testing.assert_array_equal(arrays["normals"], predicted.normals)


def test_a_video_appears_when_it_is_complete(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, kinds=("overlay", "panel"), name="tour", frame_rate=10.0) as results:
        for index in range(3):
            assert results.write(Frame(f"tour-{index}", make_image(7)), prediction()) == []
        assert not list(tmp_path.glob("tour*"))
        assert results.close() == [tmp_path / "tour.overlay.mp4", tmp_path / "tour.panel.mp4"]
    assert len(list(tmp_path.iterdir())) == 2
    assert int(cv2.VideoCapture(str(tmp_path / "tour.panel.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)) == 3


def test_an_error_leaves_no_half_video(tmp_path: Path) -> None:
    def fail() -> None:
        with ResultWriter(tmp_path, kinds=("panel",), name="tour", frame_rate=10.0) as results:
            results.write(Frame("tour-0", make_image(7)), prediction())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_maps_are_coloured_in_strips_that_do_not_show_and_take_little_memory() -> None:
    random = np.random.default_rng(0)
    depth = random.uniform(0.1, 9.0, (301, 200)).astype(np.float32)
    normals = random.normal(size=(301, 200, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    depth[130:, 7], normals[60:70, 3] = np.nan, np.nan
    rows = [colour_depth(depth[row : row + 1], (1.0, 8.0)) for row in range(301)]
    assert np.array_equal(colour_depth(depth, (1.0, 8.0)), np.vstack(rows))
    assert np.array_equal(colour_normals(normals), np.vstack([colour_normals(normals[row : row + 1]) for row in range(301)]))
    high = np.ones((4000, 200, 3), np.float32)
    tracemalloc.start()
    image = colour_normals(high)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * image.nbytes, "all rows at once took twelve times the image"
