"""Names of several cameras, and the parameters that each may have of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from edge_mtl_ros.settings import OF_A_CAMERA, PARAMETERS, Settings

ROOT = Path(__file__).resolve().parents[2]


def test_the_guide_names_the_parameters_that_each_camera_may_have_of_its_own() -> None:
    guide = " ".join((ROOT / "docs" / "guides" / "ros2.md").read_text().split())
    listed = re.findall(r"`(\w+)`", guide.partition("as `NAME.PARAMETER`:")[2].partition(";")[0])
    assert sorted(listed) == sorted(OF_A_CAMERA)
    at_start = {each.name for each in PARAMETERS if each.of_camera and each.effect != "at once"}
    assert set(listed[:2]) == at_start, "the first two at the start only"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["front", "label_info"],
            "'label_info' cannot be the name of a camera: a topic of the node has that name; choose another",
        ),
        (["segmentation"], "a topic of the node has that name"),
        (["scan"], "a topic of the node has that name"),
        (["points"], "a topic of the node has that name"),
        (["bundle"], "a parameter has that name"),
        (["classes"], "parameters of the node begin with it"),
        (["front", "left", "front"], "'front' cannot be the name of a camera: every name stands for one camera"),
        (["2nd"], "no digit begins it"),
        (["front/left"], "letters, digits and single underscores make a name"),
        (["front left"], "letters, digits"),
        (["front__left"], "single underscores"),
        (["vorn_\u00e4"], "letters, digits"),
        (["front", ""], "letters, digits"),
        (["a" * 65], "64 at most"),
    ],
)
def test_a_name_that_no_camera_can_have_is_refused_in_one_line(names: list[str], said: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a camera") as caught:
        Settings.of({"cameras": names})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("nothing", [None, [], [""], (), ("",)])
def test_a_node_without_names_of_cameras_has_one(nothing: Any) -> None:
    """An empty list has no type in ROS."""
    assert Settings.of({"cameras": nothing}) == Settings()
    assert Settings.of_cameras({"cameras": nothing, "rectified": True}) == {"": Settings(rectified=True)}


def test_each_camera_has_its_own_values_and_else_those_of_the_node() -> None:
    given = {"cameras": ["front", "left"], "stale_after_s": 1.0, "left.stale_after_s": 3, "left.rectified": True}
    assert Settings.of_cameras(given | {"front.rectified": None, "front.bundle": "other"}) == {
        "front": Settings(stale_after_s=1.0),
        "left": Settings(stale_after_s=3.0, rectified=True),
    }
    mounted = {"floor_from": "mount", "front.camera_height_m": 1.2, "left.camera_height_m": 1.4}
    assert Settings.of_cameras(given | mounted)["left"].floor_options.height_m == 1.4
    with pytest.raises(ValueError, match="of the camera left: floor_from: mount needs camera_height_m"):
        Settings.of_cameras(given | mounted | {"left.camera_height_m": None})
    with pytest.raises(ValueError, match=r"of the camera front: rectified and .*; of the camera left: stale_after_s should be"):
        Settings.of_cameras(given | {"front.rectified": True, "front.undistort": True, "left.stale_after_s": "soon"})
