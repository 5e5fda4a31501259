"""Depth that reaches farther than rooms: the unit of its files, and colours that can be told apart; rooms stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mtl.errors import BundleError
from edge_mtl.image.colour import colour_depth
from edge_mtl.image.encoding import DEPTH_UNIT, encode_depth, encode_png, stated_unit_m, with_text
from edge_mtl.metric_scale.depth_files import read_depth_file
from edge_mtl.tasks import DepthMap, kind_of, read_tasks
from edge_mtl.tasks.depth import MILLIMETRES, Depth, DepthSpec, units_per_m

Array = np.ndarray
SIZE = (24, 32)


def task(farthest_m: float) -> DepthSpec:
    return cast(DepthSpec, read_tasks({"depth": {"kind": "depth", "range_m": [0.5, farthest_m]}})["depth"])


def distances(farthest_m: float) -> Array:
    return np.linspace(0.5, farthest_m, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float32)


class Files:
    """One file."""

    def __init__(self, name: str, content: bytes) -> None:
        self._name, self._content = name, content

    @property
    def names(self) -> frozenset[str]:
        return frozenset([self._name])

    def read(self, name: str) -> bytes:
        return self._content

    def where(self, name: str) -> str:
        return name


def read(spec: DepthSpec, content: bytes) -> Array:
    found = Depth().read_truth(spec, "0", SIZE, Files("0.depth.png", content))
    assert found is not None
    return found


class TestTruths:
    @pytest.mark.parametrize("farthest_m", [1.0, 10.0, 13.107])
    def test_those_of_rooms_are_the_same_bytes_as_ever(self, farthest_m: float) -> None:
        truth = distances(farthest_m)
        truth[0] = 0.0
        fifths = np.rint(truth * np.float32(5000)).astype(np.uint16)
        assert Depth().write_truth(task(farthest_m), truth) == {
            ".depth.png": with_text(encode_png(fifths), DEPTH_UNIT, "0.0002")
        }

    @pytest.mark.parametrize(
        ("farthest_m", "unit_m"),
        [(10.0, 0.0002), (13.2, 0.0005), (40.0, 0.001), (65.535, 0.001), (80.0, 0.002), (250.0, 0.005), (1000.0, 0.02)],
    )
    def test_they_reach_as_far_as_the_task(self, farthest_m: float, unit_m: float) -> None:
        spec, truth = task(farthest_m), distances(farthest_m)
        truth[3] = 0.0
        payload = Depth().write_truth(spec, truth)[".depth.png"]
        assert stated_unit_m(payload) == pytest.approx(unit_m)
        found = read(spec, payload)
        np.testing.assert_allclose(found, truth, atol=0.51 * unit_m)
        assert (found[3] == 0).all()

    @given(st.floats(0.5, 30_000.0))
    def test_any_range_is_reached_in_the_finest_unit_that_does(self, farthest_m: float) -> None:
        for finest in (5000.0, MILLIMETRES):
            per_m = units_per_m(farthest_m, finest=finest)
            assert farthest_m * per_m <= 65535
            assert per_m == finest or farthest_m * per_m * 2.5 > 65535 or farthest_m * per_m * 2 > 65535

    def test_what_lies_beyond_is_unknown(self) -> None:
        truth = np.full(SIZE, 5.0, np.float32)
        truth[0] = 132.0
        found = read(task(80.0), Depth().write_truth(task(80.0), truth)[".depth.png"])
        assert (found[0] == 0).all()
        np.testing.assert_allclose(found[1:], 5.0, rtol=1e-6)

    def test_a_file_that_states_no_unit_is_taken_for_rooms_only(self) -> None:
        payload = encode_png(np.full(SIZE, 20_000, np.uint16))
        np.testing.assert_allclose(read(task(10.0), payload), 4.0)
        with pytest.raises(BundleError, match=r"0\.depth\.png should state its unit, .* reach the 80 m of depth"):
            read(task(80.0), payload)
        np.testing.assert_allclose(read(task(80.0), with_text(payload, DEPTH_UNIT, "0.001")), 20.0)


class TestAnswers:
    @pytest.mark.parametrize(("farthest_m", "unit_m"), [(10.0, 0.001), (65.0, 0.001), (80.0, 0.002)])
    def test_files_of_predict_reach_as_far_and_are_read_back(self, tmp_path: Path, farthest_m: float, unit_m: float) -> None:
        spec, depth_m = task(farthest_m), distances(farthest_m)
        depth_m[0] = np.nan
        payload = kind_of(spec).images(spec, DepthMap(spec, depth_m))["depth.png"]
        assert stated_unit_m(payload) == pytest.approx(unit_m)
        (tmp_path / "a.png").write_bytes(payload)
        np.testing.assert_allclose(read_depth_file(tmp_path, "a"), np.nan_to_num(depth_m), atol=0.51 * unit_m)

    def test_those_of_rooms_are_millimetres_as_ever(self) -> None:
        spec, depth_m = task(10.0), distances(9.0)
        assert kind_of(spec).images(spec, DepthMap(spec, depth_m))["depth.png"] == encode_depth(depth_m)
        assert encode_depth(np.array([[99.0]], np.float32)) == encode_depth(np.array([[65.535]], np.float32))

    def test_a_message_of_16_bits_has_nothing_beyond_its_millimetres(self) -> None:
        """REP 118 leaves no other unit."""
        (topic,) = Depth().topics(task(80.0))
        ((encoding, make),) = topic.also
        assert encoding == "16UC1"
        assert make(DepthMap(task(80.0), np.array([[65.535, 65.6, np.nan, 3.0]], np.float32))).tolist() == [[65535, 0, 0, 3000]]


def street(rows: int = 120, columns: int = 200) -> Array:
    """A flat road under a camera 1.5 m high, with houses at 60 m behind it."""
    below = np.maximum(np.arange(rows) - rows / 3, 0.1)
    return np.repeat(np.clip(1.5 * 200 / below, 0, 60.0)[:, None], columns, axis=1).astype(np.float32)


class TestDrawings:
    def test_colours_of_rooms_are_spread_over_metres_as_ever(self) -> None:
        spec, depth_m = task(10.0), distances(9.0)
        assert not spec.outdoors
        assert np.array_equal(Depth().colours(spec, DepthMap(spec, depth_m)), colour_depth(depth_m))
        assert not np.array_equal(Depth().colours(task(80.0), DepthMap(task(80.0), depth_m)), colour_depth(depth_m))

    def test_twice_as_far_is_another_colour_anywhere_in_a_street(self) -> None:
        spec = task(80.0)
        steps = np.array([[2.0, 4.0, 8.0, 16.0, 32.0, 64.0]], np.float32)
        drawn, linear = Depth().colours(spec, DepthMap(spec, steps), scale=(2.0, 80.0)), colour_depth(steps, (2.0, 80.0))
        assert apart(drawn[0]).min() > 60
        assert apart(linear[0]).min() < 30, "why the scale is logarithmic"

    def test_near_is_warm_and_far_cold_and_unknown_black(self) -> None:
        drawn = colour_depth(np.array([[2.0, 80.0, np.nan, 0.0]], np.float32), (2.0, 80.0), logarithmic=True)[0].astype(int)
        assert drawn[0, 0] > 2 * drawn[0, 2]
        assert drawn[1, 2] > drawn[1, 0]
        assert drawn[2:].tolist() == [[0, 0, 0], [0, 0, 0]]

    def test_a_scale_may_begin_at_nothing(self) -> None:
        drawn = colour_depth(np.array([[0.01, 1.0, 10.0]], np.float32), (0.0, 10.0), logarithmic=True)
        assert apart(drawn[0]).min() > 60

    def test_the_panel_says_that_its_scale_is_logarithmic(self) -> None:
        spec, depth_m = task(80.0), street()
        result = DepthMap(spec, depth_m)
        drawn = Depth().draw(spec, np.zeros((*depth_m.shape, 3), np.uint8), result)
        plain = Depth().colours(spec, result, scale=Depth().scale(spec, result))
        changed = np.argwhere((drawn != plain).any(axis=2))
        rooms = task(10.0)
        other = Depth().draw(rooms, np.zeros((*depth_m.shape, 3), np.uint8), DepthMap(rooms, depth_m))
        as_ever = np.argwhere((other != colour_depth(depth_m, Depth().scale(rooms, result))).any(axis=2))
        assert changed[:, 0].min() > depth_m.shape[0] / 2
        assert changed[:, 1].max() > as_ever[:, 1].max(), "the text is longer"


def apart(colours: Array) -> Any:
    """How far each colour is from the next one, in 8-bit steps."""
    return np.abs(np.diff(colours.astype(int), axis=0)).sum(axis=1)
