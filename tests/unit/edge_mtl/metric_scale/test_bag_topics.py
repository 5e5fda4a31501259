"""Depth images and scans of a bag find the frame they belong to, and what is none of them is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason='needs the extra bags: pip install -e ".[bags]"')

from edge_mtl.errors import FrameError
from edge_mtl.metric_scale.bag_topics import SCAN, depth_of, paired, scan_of
from edge_mtl.sources.bags import IMAGE, bag_source
from tests.bag_files import IMAGE_TOPIC, Beside, write_bag
from tests.bundles import make_image

DEPTH = "/camera/depth"
MS = 1_000_000


def depth_image(types: Any, header: Any, index: int) -> Any:
    """(4, 6) millimetres, 1000 + the frame's number."""
    data = np.full((4, 6), 1000 + index, "<u2").view(np.uint8).reshape(-1)
    kind = types["sensor_msgs/msg/Image"]
    return kind(header=header, height=4, width=6, encoding="16UC1", is_bigendian=0, step=12, data=data)


def bag(path: Path, delay_ns: int) -> Path:
    frames = [make_image(index, height=48, width=64) for index in range(4)]
    return write_bag(path, frames, focal=50.0, beside={DEPTH: Beside(IMAGE, depth_image, delay_ns)})


@pytest.mark.parametrize("delay_ms", [-40, -3, 0, 20, 49])
def test_each_frame_gets_the_message_that_is_nearest_before_or_after_it(tmp_path: Path, delay_ms: int) -> None:
    source = bag_source(bag(tmp_path / "bag", delay_ms * MS), topic=IMAGE_TOPIC)
    found = list(paired(source, DEPTH, IMAGE))
    assert [float(depth_of(pair.message)[0, 0]) for pair in found] == pytest.approx([1.0, 1.001, 1.002, 1.003])
    assert [pair.frame.intrinsics is not None for pair in found] == [True] * 4
    assert len(list(paired(source, DEPTH, IMAGE, limit=2))) == 2


def test_frames_without_a_message_within_50_ms_are_named_and_left_out(tmp_path: Path) -> None:
    reasons: list[str] = []
    source = bag_source(bag(tmp_path / "bag", 51 * MS), topic=IMAGE_TOPIC)
    found = list(paired(source, DEPTH, IMAGE, on_skip=reasons.append))
    assert [round(1000 * float(depth_of(pair.message)[0, 0])) for pair in found] == [1000, 1001, 1002]
    assert len(reasons) == 1
    assert "000000" in reasons[0]
    assert "nothing on /camera/depth within 50 ms" in reasons[0]


def test_a_topic_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    source = bag_source(bag(tmp_path / "bag", 0), topic=IMAGE_TOPIC)
    with pytest.raises(FrameError, match=r"no sensor_msgs/msg/LaserScan on /scan; topics of that type: none"):
        list(paired(source, "/scan", SCAN))
    with pytest.raises(FrameError, match=r"on /else; topics of that type: /camera/depth, /camera/image_raw"):
        list(paired(source, "/else", IMAGE))


def message(encoding: str, values: np.ndarray, *, padding: int = 0, big: bool = False) -> SimpleNamespace:
    rows = np.pad(values.view(np.uint8).reshape(values.shape[0], -1), ((0, 0), (0, padding)))
    height, width = values.shape
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=rows.shape[1], is_bigendian=int(big), data=rows.reshape(-1)
    )


def test_depth_is_metres_whatever_its_encoding_padding_and_byte_order() -> None:
    millimetres = np.array([[0, 1500, 2000], [1, 2, 65535]])
    expected = np.float32([[0, 1.5, 2], [0.001, 0.002, 65.535]])
    for kind, big in (("<u2", False), (">u2", True)):
        for padding in (0, 2):
            found = depth_of(message("16UC1", millimetres.astype(kind), padding=padding, big=big))
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    metres = np.array([[np.nan, 1.5, np.inf], [-1.0, 0.0, 3.25]], "<f4")
    np.testing.assert_array_equal(depth_of(message("32FC1", metres, padding=4)), np.float32([[0, 1.5, 0], [0, 0, 3.25]]))


def test_what_is_no_depth_image_is_refused() -> None:
    with pytest.raises(FrameError, match="16UC1, mono16, 32FC1; found 'rgb8'"):
        depth_of(message("rgb8", np.zeros((2, 3), np.uint8)))
    cut = message("16UC1", np.zeros((2, 3), "<u2"))
    cut.data = cut.data[:-3]
    with pytest.raises(FrameError, match="needs more than 9 bytes"):
        depth_of(cut)


def test_beams_beyond_the_range_of_the_scanner_met_nothing() -> None:
    scan = SimpleNamespace(ranges=[0.05, 1.0, np.inf, 9.0], angle_min=-1.0, angle_increment=0.5, range_min=0.1, range_max=8.0)
    ranges, angles = scan_of(scan)
    np.testing.assert_array_equal(ranges, [np.nan, 1.0, np.nan, np.nan])
    np.testing.assert_allclose(angles, [-1.0, -0.5, 0.0, 0.5])
