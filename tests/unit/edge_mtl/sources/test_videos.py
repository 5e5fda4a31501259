"""Videos: the times of their frames, where they end, and what is said of one that cannot be decoded."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import pytest

from edge_mtl.calibration.source import open_calibration_source
from edge_mtl.errors import CalibrationError, FrameError, SourceEndedEarly
from edge_mtl.sources import videos
from edge_mtl.sources.frame_source import check_end
from edge_mtl.sources.open_source import open_source
from edge_mtl.sources.video_containers import VideoFacts, codec_name, video_facts
from tests.bundles import make_image
from tests.video_files import cut, renamed_codec, retimed, trimmed, write_video

CAPTURE = cv2.VideoCapture


def ends(path: Path, *, every: int = 1) -> tuple[int, list[str]]:
    """How many frames a source gives, and what it says of its end."""
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = list(open_source(path, every=every).frames(on_end=lambda error: told.append(str(error))))
    return len(frames), told


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "MJPG"), (".mkv", "MJPG"), (".mp4", "mp4v")])
def test_a_whole_video_ends_where_it_says(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(tmp_path / f"tour{suffix}", 40, codec=codec)
    assert ends(path) == (40, [])
    assert ends(path, every=7) == (6, [])


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_that_ends_early_says_so_with_both_counts(tmp_path: Path, suffix: str) -> None:
    path = cut(write_video(tmp_path / f"tour{suffix}", 80, codec="MJPG"), 0.43)
    count, told = ends(path)
    assert 25 < count < 40
    assert len(told) == 1
    assert told[0].startswith(f"tour-cut{suffix} ended after {count} frames and announces 80: ")
    assert ends(path, every=5)[1] == told
    with pytest.warns(UserWarning, match=f"after {count} frames and announces 80"):
        list(open_source(path).frames())
    assert list(open_source(path).frames(limit=3)), "who stops before the end hears nothing of it"


def test_calibration_frames_of_a_video_that_ends_early_say_so_too(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "tour.avi", 80, codec="MJPG"), 0.43)
    told: list[SourceEndedEarly] = []
    assert len(list(open_calibration_source(path, on_end=told.append).stills())) > 25
    assert len(told) == 1
    with pytest.raises(CalibrationError, match="cannot be decoded"):
        open_calibration_source(cut(write_video(tmp_path / "tour.mp4", 10), 0.4))


@pytest.mark.parametrize(
    ("given", "announced", "reached", "counted", "early"),
    [
        (34, 80, None, True, True),
        (78, 80, None, True, False),  # off by one or two
        (77, 80, None, True, True),
        (10, None, None, True, False),  # not known
        (990, 1000, None, True, False),
        (970, 1000, None, True, True),
        (95, 100, None, False, False),  # an estimate: sound lasts longer
        (80, 100, None, False, True),
        (50, 100, 99, True, False),  # half of the frames were left out, and the last one is at the end
        (50, 100, 60, False, True),
        (100, 80, None, True, False),  # more than announced
    ],
)
def test_the_rule_of_an_early_end(given: int, announced: int | None, reached: int | None, counted: bool, early: bool) -> None:
    if not early:
        check_end("tour.avi", given, announced, reached=reached, counted=counted)
        return
    with pytest.raises(SourceEndedEarly, match=f"ended after {given} frames and announces {announced}"):
        check_end("tour.avi", given, announced, reached=reached, counted=counted)


@pytest.mark.parametrize("count", [0.0, -1.0, float("nan"), float("inf"), -9.2e18, 1e9])
def test_a_count_that_is_not_possible_is_none(count: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "tour.avi", 4, codec="MJPG")
    real = cv2.VideoCapture

    class Capture:
        def __init__(self, name: str) -> None:
            self.capture = real(name)

        def get(self, name: int) -> float:
            return count if name == cv2.CAP_PROP_FRAME_COUNT else self.capture.get(name)

        def __getattr__(self, name: str) -> object:
            return getattr(self.capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    assert open_source(path).count is None
    assert ends(path) == (4, [])


def test_a_variable_frame_rate_gives_the_containers_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tour.mp4", 20)
    unit = 10240 // 10  # of the media that OpenCV writes at 10 frames a second
    retimed(path, [(10, unit), (10, 3 * unit)])
    times = [frame.time_s for frame in open_source(path).frames()]
    assert times == pytest.approx(
        [*(0.1 * index for index in range(10)), *(1.0 + 0.3 * index for index in range(10))], abs=0.002
    )
    assert [frame.time_s for frame in open_source(path, every=6).frames()] == pytest.approx([0.0, 0.6, 1.6, 3.4], abs=0.002)
    assert ends(path) == (20, []), "and is not taken for one that ended early"


def test_times_always_increase_and_follow_the_rate_where_the_container_has_none() -> None:
    clock = videos._Clock(10.0)
    assert [clock.time_s(at) for at in (0.0, 0.0, 0.0, 0.0)] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    clock = videos._Clock(10.0)
    given = (5.0, 5.1, 5.1, 5.05, float("nan"), 5.2, 5.4)
    assert [clock.time_s(at) for at in given] == pytest.approx([0.0, 0.1, 0.101, 0.102, 0.103, 0.2, 0.4])
    clock = videos._Clock(10.0)
    assert [clock.time_s(float("nan")) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


class _Raising:
    """A capture that raises where OpenCV's reader of AVI asserts."""

    def __init__(self, name: str) -> None:
        self._real, self._left = CAPTURE(name), 3

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def retrieve(self) -> tuple[bool, object]:
        self._left -= 1
        if self._left == 0:
            raise cv2.error("Assertion failed")
        return self._real.retrieve()


def test_what_opencv_raises_of_a_frame_is_that_frames_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.avi", 6, codec="MJPG")
    source = open_source(path)
    monkeypatch.setattr(videos.cv2, "VideoCapture", _Raising)
    skipped: list[str] = []
    assert len(list(source.frames(on_skip=skipped.append))) == 5
    assert skipped == ["a-000002: the frame cannot be decoded"]


def test_frames_that_an_edit_list_hides_are_not_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tour.mp4", 60)
    trimmed(path, hidden=0.5)
    assert video_facts(path).shown == pytest.approx(0.5, abs=0.01)
    count, told = ends(path)
    assert count < 40
    assert told == []


def test_a_video_without_a_decoder_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tour.mkv", 5, codec="MJPG")
    renamed_codec(path, b"V_AV1")
    with pytest.raises(FrameError) as caught:
        open_source(path)
    message = str(caught.value)
    assert "it holds AV1 (V_AV1) video; OpenCV" in message
    assert "ffmpeg -i tour.mkv -c:v libx264 -crf 18 tour-h264.mp4" in message
    renamed = write_video(tmp_path / "odd.mkv", 5, codec="MJPG")
    renamed_codec(renamed, b"V_XYZ")
    with pytest.raises(FrameError, match="it holds V_XYZ video; OpenCV"):
        open_source(renamed)


def test_a_damaged_video_of_a_codec_that_is_decoded_everywhere_is_called_damaged(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tour.avi", 5, codec="MJPG")
    payload = path.read_bytes()
    start = payload.index(b"movi")
    path.write_bytes(payload[:start] + b"\0" * (len(payload) - start))
    with pytest.raises(FrameError, match=r"it holds Motion JPEG \(MJPG\) video, which is damaged or empty"):
        open_source(path)


def test_containers_say_their_codec_and_whether_they_count(tmp_path: Path) -> None:
    facts = video_facts(write_video(tmp_path / "a.mp4", 5))
    assert (facts.codec, facts.indexed, facts.counted, facts.shown) == ("mp4v", True, True, 1.0)
    facts = video_facts(write_video(tmp_path / "a.avi", 5, codec="MJPG"))
    assert (facts.codec, facts.indexed, facts.counted) == ("MJPG", False, True)
    facts = video_facts(write_video(tmp_path / "a.mkv", 5, codec="MJPG"))
    assert (facts.codec, facts.indexed, facts.counted) == ("V_MJPEG", False, False)
    for share in (0.0, 0.001, 0.5):
        assert video_facts(cut(tmp_path / "a.mp4", share)).codec == ""
    assert video_facts(tmp_path / "none.mp4").codec == ""
    assert [codec_name(codec) for codec in ("av01", "avc1", "xyz1")] == ["AV1 (av01)", "H.264 (avc1)", "xyz1"]


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_that_ends_before_the_count_of_its_index_says_so(tmp_path: Path, storage: str) -> None:
    bag_files = pytest.importorskip("tests.bag_files", reason="needs rosbags")
    bag = bag_files.write_bag(tmp_path / "tour", [make_image(seed) for seed in range(5)], storage=storage)
    assert ends(bag) == (5, [])
    index = bag / "metadata.yaml"
    index.write_text(index.read_text().replace("message_count: 5", "message_count: 50"))
    message = "tour ended after 5 frames and announces 50: it is cut short or damaged there. Copy it again."
    assert ends(bag) == (5, [message])


@pytest.mark.parametrize(
    ("box", "at", "value"),
    [
        (b"mvhd", -4, (8).to_bytes(4, "big")),  # the header of the film has no content
        (b"mdhd", -4, (8).to_bytes(4, "big")),
        (b"free", -4, b"\0\0\0\1free" + b"\xff" * 8),  # a box that ends beyond what a file can be
        (b"free", -4, b"\0\0\0\1moov" + b"\0" * 8),  # an index that ends before it begins
    ],
)
def test_boxes_with_sizes_that_are_none_say_nothing(box: bytes, at: int, value: bytes, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 5)
    trimmed(path, hidden=0.4)
    payload = bytearray(path.read_bytes())
    if box == b"free":
        place = payload.index(b"ftyp") - 4
        payload[place:place] = value
    else:
        place = payload.index(box) + at
        payload[place : place + len(value)] = value
    path.write_bytes(payload)
    assert video_facts(path) == VideoFacts()
