"""A road's functions agree with each other and with geometry that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtl.datasets.bdd100k.lane_bits import BACKGROUND, lane_byte, lane_classes
from mtl.datasets.streets.classes import Drivable, Label
from mtl.datasets.streets.road import DRIVE_M, ZONE_LABELS, Mark, Road, Stripes, Zone

WHITE = (0.8, 0.8, 0.8)
SIDES = ((Zone.CURB, 0.2), (Zone.SIDEWALK, 2.0)), ((Zone.PARKING, 2.0), (Zone.CURB, 0.2), (Zone.GRASS, 5.0))
ROAD = Road(
    curvature=0.0,
    lane_m=3.0,
    forward=2,
    backward=1,
    lane=1,
    strips=SIDES,
    median_m=0.0,
    marks=(
        Mark(0.0, 0.12, "double yellow", WHITE, double=True),
        Mark(-3.0, 0.15, "single white", WHITE, dash_m=3.0, period_m=9.0),
    ),
    stripes=None,
    blocked_m=(80.0, 20.0),
    left_hand=False,
)
curvatures = st.one_of(st.just(0.0), st.floats(-1 / 50, -1 / 5000), st.floats(1 / 5000, 1 / 50))
FINE = np.array([1e-4])


def at(along: float, across: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([along]), np.array([across])


@given(curvatures, st.floats(-5, 100), st.floats(-25, 25), st.booleans())
def test_a_place_along_and_across_is_found_where_it_was_put(curvature, along, across, left_hand):
    road = replace(ROAD, curvature=curvature, left_hand=left_hand)
    if abs(along * curvature) > 3.0:
        return
    x, y, _ = road.place(along, across)
    found = road.locate(np.array([x]), np.array([y]))
    assert found[0][0] == pytest.approx(along, abs=1e-6)
    assert found[1][0] == pytest.approx(across, abs=1e-6)


@given(curvatures, st.floats(0, 60))
def test_the_heading_is_the_direction_of_the_road(curvature, along):
    road = replace(ROAD, curvature=curvature)
    x, y, heading = road.place(along, -4.5)
    ahead = road.place(along + 1e-4, -4.5)
    assert np.arctan2(ahead[1] - y, ahead[0] - x) == pytest.approx(heading, abs=1e-3)


@given(curvatures, st.floats(0, 80), st.floats(-20, 20))
def test_where_traffic_keeps_left_the_world_is_a_mirror_image(curvature, along, across):
    right, left = replace(ROAD, curvature=curvature), replace(ROAD, curvature=curvature, left_hand=True)
    (x, y, heading), mirrored = right.place(along, across), left.place(along, across)
    assert mirrored == pytest.approx((x, -y, -heading))


def test_zones_lie_beside_the_lanes_in_their_order():
    across = np.array([-1.0, -4.0, -6.1, -7.0, -9.0, 1.0, 4.0, 5.1, 7.0, 20.0])
    expected = [Zone.ASPHALT, Zone.ASPHALT, Zone.CURB, Zone.SIDEWALK, Zone.SIDEWALK]
    expected += [Zone.ASPHALT, Zone.PARKING, Zone.CURB, Zone.GRASS, Zone.GRASS]
    assert ROAD.zones(across).tolist() == expected
    assert ZONE_LABELS[ROAD.zones(across)].tolist()[:4] == [Label.ROAD, Label.ROAD, Label.SIDEWALK, Label.SIDEWALK]
    assert ROAD.strip(True, Zone.PARKING) == (3.0, 5.0)
    assert ROAD.strip(False, Zone.PARKING) is None
    assert ROAD.outer_edge(False) == pytest.approx(-8.2)


def test_one_s_own_lane_is_direct_up_to_what_blocks_it_and_the_others_are_alternatives():
    for along, across, expected in (
        (19.9, -4.5, Drivable.DIRECT),
        (20.1, -4.5, Drivable.BACKGROUND),
        (30.0, -1.5, Drivable.ALTERNATIVE),
        (DRIVE_M + 1, -1.5, Drivable.BACKGROUND),
        (10.0, 1.5, Drivable.BACKGROUND),
        (10.0, -7.0, Drivable.BACKGROUND),
    ):
        assert ROAD.drivable(*at(along, across))[0] == expected, (along, across)


def test_a_dashed_line_is_a_line_in_its_gaps_too_and_only_its_dashes_are_painted():
    on_dash, in_gap = at(1.5, -3.0), at(6.0, -3.0)
    wanted = lane_byte("single white", style="dashed")
    assert ROAD.lane_bits(*on_dash, FINE)[0] == ROAD.lane_bits(*in_gap, FINE)[0] == wanted
    assert ROAD.paint(*on_dash, FINE)[0][0] == pytest.approx(1.0)
    assert ROAD.paint(*in_gap, FINE)[0][0] == 0.0


def test_a_double_line_is_two_strokes_and_one_mark():
    assert ROAD.paint(*at(5.0, 0.0), FINE)[0][0] == 0.0
    assert ROAD.paint(*at(5.0, 0.12), FINE)[0][0] == pytest.approx(1.0)
    assert ROAD.lane_bits(*at(5.0, 0.0), FINE)[0] == lane_byte("double yellow")


def test_lines_are_three_pixels_wide_however_far_away_they_are():
    across = np.linspace(-4.0, -2.0, 401)
    for pixel in (0.02, 0.1, 0.3):
        bits = ROAD.lane_bits(np.full(401, 50.0), across, np.full(401, pixel))
        width = (bits != BACKGROUND).sum() * 0.005
        assert width == pytest.approx(max(0.15, 3 * pixel), abs=0.011)


def test_a_crosswalk_hides_lines_and_has_a_line_to_stop_at():
    road = replace(ROAD, stripes=Stripes(20.0, 23.0, 18.0))
    bits = {along: road.lane_bits(*at(along, -3.0), FINE)[0] for along in (15.0, 18.0, 21.0)}
    assert bits[15.0] == lane_byte("single white", style="dashed")
    assert bits[18.0] == lane_byte("single white", direction="vertical")
    assert bits[21.0] == lane_byte("crosswalk", direction="vertical")
    assert road.lane_bits(*at(18.0, 1.5), FINE)[0] == BACKGROUND, "oncoming traffic stops elsewhere"
    assert lane_classes(np.array([[bits[21.0]]]))[0, 0] == 2


def test_curbs_are_marks():
    assert ROAD.lane_bits(*at(5.0, -6.1), FINE)[0] == lane_byte("road curb")
    assert ROAD.lane_bits(*at(5.0, 5.1), FINE)[0] == lane_byte("road curb")


def test_the_middle_of_a_lane_is_on_it():
    assert ROAD.lane_middle(0) == -1.5
    assert ROAD.lane_middle(1) == -4.5
    assert ROAD.lane_middle(-1) == 1.5
    assert replace(ROAD, median_m=2.0).lane_middle(-1) == 3.5
