"""Calibration frames: covered, not random; what is useless is dropped and named; what is measured on is refused."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration import sampling
from edge_mtl.calibration.frame_features import LookCache, colour_and_gradient, look, network_embedder, thumbnail
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.calibration.leakage import held_out
from edge_mtl.calibration.sampling import Chosen, choose_frames, encode_frames, farthest_first
from edge_mtl.calibration.source import given_frames, open_calibration_source
from edge_mtl.errors import CalibrationError, FrameError
from edge_mtl.files import sha256_bytes
from edge_mtl.manifest import InputSpec
from edge_mtl.sources.folders import dataset_source
from edge_mtl.sources.frame_source import Frame, FrameSource, Still
from tests.bundles import HEIGHT, WIDTH, write_image

HIGH, WIDE = 128, 192


def scene(seed: int) -> np.ndarray:
    """(128, 192, 3) uint8: sharp boxes of many colours, as unlike each other as rooms."""
    random = np.random.default_rng(seed)
    frame = np.full((HIGH, WIDE, 3), random.integers(30, 226, 3), np.uint8)
    for _ in range(60):
        x, y = int(random.integers(0, WIDE)), int(random.integers(0, HIGH))
        size = random.integers(6, 60, 2)
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        cv2.rectangle(frame, (x, y), (x + int(size[0]), y + int(size[1])), colour, cv2.FILLED)
    return frame


def source(frames: list[np.ndarray | None]) -> FrameSource:
    def load(index: int) -> np.ndarray:
        frame = frames[index]
        if frame is None:
            raise FrameError("it is damaged")
        return frame

    content = sha256_bytes(b"".join(b"" if frame is None else frame.tobytes() for frame in frames))
    return given_frames("test frames", load, len(frames), identity=content)


@pytest.fixture
def choose(tiny_bundle: Bundle, tmp_path: Path) -> Any:
    def run(frames: FrameSource | list[np.ndarray | None], **options: Any) -> Chosen:
        given = source(frames) if isinstance(frames, list) else frames
        options = {"embedding": "colour", "cache": tmp_path / "cache", "unreadable_share": 0.2, **options}
        return choose_frames(given, tiny_bundle, **options)[0]

    return run


class TestFarthestFirst:
    """Coverage, seeded."""

    def test_every_cluster_is_visited_before_any_twice(self) -> None:
        sizes = (400, 30, 9, 5, 3, 1)
        random, cluster = np.random.default_rng(0), np.repeat(np.arange(6), sizes)
        points = random.normal(0, 10, (6, 5))[cluster] + random.normal(0, 0.1, (len(cluster), 5))
        for seed in range(5):
            chosen, reach = farthest_first(points, 6, seed=seed)
            assert set(cluster[chosen]) == set(range(6))
            assert reach[-1] < 0.3 * reach[-2]
        at_random = [len(set(cluster[np.random.default_rng(seed).choice(len(points), 6)])) for seed in range(20)]
        assert np.mean(at_random) < 3, "the control: random choice sees the large cluster again and again"

    def test_the_same_seed_gives_the_same_choice(self) -> None:
        points = np.random.default_rng(1).normal(0, 1, (50, 8))
        assert farthest_first(points, 10, seed=3)[0] == farthest_first(points, 10, seed=3)[0]
        assert farthest_first(points, 10, seed=3)[0] != farthest_first(points, 10, seed=4)[0]

    def test_no_frame_is_chosen_twice_even_where_all_are_alike(self) -> None:
        chosen, reach = farthest_first(np.ones((5, 3)), 5, seed=0)
        assert sorted(chosen) == list(range(5))
        assert reach[-1] == 0


def test_a_choice_covers_rare_scenes_and_keeps_the_order(choose: Any) -> None:
    rare = [scene(100 + number) for number in range(3)]
    usual = [np.roll(scene(0), 4 * number, axis=1) for number in range(40)]
    chosen = choose([*usual[:20], rare[0], *usual[20:], *rare[1:]], count=8)
    names = set(chosen.names)
    assert {"000020", "000041", "000042"} <= names
    assert list(chosen.names) == sorted(chosen.names)
    assert len(chosen.frames) == 8
    assert chosen.frames[0].shape == (HEIGHT, WIDTH, 3)
    again = choose([*usual[:20], rare[0], *usual[20:], *rare[1:]], count=8)
    assert again.names == chosen.names
    assert all(np.array_equal(a, b) for a, b in zip(again.frames, chosen.frames, strict=True))


def test_black_flat_blurred_doubled_and_unreadable_frames_are_dropped_and_named(choose: Any) -> None:
    frames: list[np.ndarray | None] = [scene(number) for number in range(12)]
    frames += [np.zeros((HIGH, WIDE, 3), np.uint8), np.full((HIGH, WIDE, 3), 120, np.uint8)]
    frames += [cv2.GaussianBlur(scene(50), (0, 0), 6), cv2.imdecode(cv2.imencode(".jpg", scene(3))[1], 1), None]
    chosen = choose(frames, count=20)
    assert {entry.name: entry.reason for entry in chosen.dropped} == {
        "000012": "black",
        "000013": "no contrast",
        "000014": "blurred",
        "000015": "nearly a double of 000003",
        "000016": "unreadable: it is damaged",
    }
    assert chosen.names == tuple(f"{number:06d}" for number in range(12))
    facts = chosen.facts()
    assert facts["dropped"] == {"black": 1, "no contrast": 1, "blurred": 1, "nearly a double": 1, "unreadable": 1}
    assert facts["considered"] == 17


def test_where_every_frame_is_soft_that_is_how_the_camera_sees(choose: Any) -> None:
    chosen = choose([cv2.GaussianBlur(scene(number), (0, 0), 5) for number in range(6)], count=4)
    assert len(chosen.names) == 4
    assert chosen.dropped == ()


@pytest.mark.parametrize("value", [0, 5])
def test_a_source_without_a_usable_frame_is_a_typed_error(choose: Any, value: int) -> None:
    with pytest.raises(CalibrationError, match="None of the 4 frames of test frames can be calibrated with: 4 black"):
        choose([np.full((HIGH, WIDE, 3), value, np.uint8)] * 4)


def test_too_many_unreadable_frames_are_an_error_that_names_them(choose: Any) -> None:
    with pytest.raises(CalibrationError, match=r"2 of 4 frames .* cannot be read: 000001: unreadable: it is damaged"):
        choose([scene(0), None, scene(1), None])


def test_frames_that_accuracy_is_measured_on_are_refused(choose: Any, tiny_bundle: Bundle) -> None:
    exact = cv2.imread(str(tiny_bundle.path / "evaluation" / "002.png"))[:, :, ::-1]
    altered = cv2.imdecode(cv2.imencode(".jpg", cv2.resize(exact, (WIDE, HIGH)), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
    golden = cv2.imread(str(tiny_bundle.path / "golden" / "000.png"))[:, :, ::-1]
    for leaked, name in ((exact, "evaluation/002.png"), (altered, "evaluation/002.png"), (golden, "golden/000.png")):
        with pytest.raises(CalibrationError, match=f"000003 is {name}"):
            choose([*(scene(number) for number in range(3)), np.ascontiguousarray(leaked), scene(9)])
    assert held_out(tiny_bundle).match(*thumbnail(cv2.resize(scene(1), (WIDTH, HEIGHT)))) is None


def test_a_folder_of_evaluation_frames_is_refused_by_a_build_as_well(tiny_bundle: Bundle) -> None:
    with pytest.raises(CalibrationError, match="accuracy is measured on"):
        load_calibration(tiny_bundle, tiny_bundle.path / "evaluation", count=8, unreadable_share=0.0)


class TestCache:
    """A walk that was stopped continues."""

    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_mtl.calibration.frame_features._CHUNK", 4)

    def walked(self, frames: list[np.ndarray | None], *, stop: int | None = None) -> tuple[FrameSource, list[int]]:
        loaded: list[int] = []
        usual = source(frames)

        def stills() -> Generator[Still]:
            for number, still in enumerate(usual.stills()):

                def load(still: Still = still, number: int = number) -> Frame:
                    if number == stop:
                        raise KeyboardInterrupt
                    loaded.append(number)
                    return still.load()

                yield Still(still.name, load)

        return replace(usual, stills=stills), loaded

    def test_an_interrupted_walk_decodes_only_what_is_missing(self, choose: Any) -> None:
        frames: list[np.ndarray | None] = [scene(number) for number in range(11)]
        stopped, loaded = self.walked(frames, stop=9)
        with pytest.raises(KeyboardInterrupt):
            choose(stopped, count=3)
        assert loaded == list(range(9))
        resumed, loaded = self.walked(frames)
        chosen = choose(resumed, count=3)
        assert loaded[:3] == [8, 9, 10], "two chunks of four were kept"
        assert set(loaded) == {8, 9, 10} | {int(name) for name in chosen.names}
        assert chosen.names == choose(frames, count=3, cache=None).names

    def test_a_damaged_chunk_is_looked_at_again(self, choose: Any, tmp_path: Path) -> None:
        frames: list[np.ndarray | None] = [scene(number) for number in range(9)]
        first = choose(frames, count=3)
        chunk = sorted((tmp_path / "cache").rglob("*.npz"))[1]
        chunk.write_bytes(chunk.read_bytes()[:100])
        assert choose(frames, count=3).names == first.names

    def test_a_frame_that_could_not_be_read_is_looked_at_again(self, choose: Any) -> None:
        frames: list[np.ndarray | None] = [scene(number) for number in range(9)]
        assert len(choose([*frames[:4], None, *frames[5:]], count=9).frames) == 8
        again = choose(frames, count=9)
        assert (len(again.frames), again.dropped) == (9, ())

    def test_other_content_is_not_taken_from_the_cache(self, choose: Any) -> None:
        choose([scene(number) for number in range(6)], count=3)
        other = choose([scene(number + 20) for number in range(6)], count=6)
        assert len(other.frames) == 6
        assert np.abs(other.frames[0].astype(int) - cv2.resize(scene(20), (WIDTH, HEIGHT))).mean() < 15

    def test_frames_are_chosen_where_nothing_can_be_kept_of_them(self, choose: Any, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        frames = [scene(number) for number in range(6)]
        expected = choose(frames, count=3)
        with pytest.warns(UserWarning, match=r"could not be kept in .*file/looks \(.+\).*only saves time"):
            found = choose(frames, count=3, cache=tmp_path / "file" / "looks")
        assert found.names == expected.names


def test_spare_frames_are_no_calibration_frames(tiny_bundle: Bundle, tmp_path: Path) -> None:
    frames = source([scene(number) for number in range(20)])
    chosen, spare = choose_frames(frames, tiny_bundle, count=32, spare=8, embedding="colour", cache=tmp_path)
    assert len(spare) == 5, "never more than a quarter"
    assert len(chosen.names) == 15
    assert not set(chosen.names) & set(chosen.spare)


def test_the_digest_is_of_the_pixels_that_a_build_will_read(choose: Any, tmp_path: Path, tiny_bundle: Bundle) -> None:
    chosen = choose([scene(number) for number in range(5)])
    files, digest = encode_frames(chosen.frames)
    (tmp_path / "calibration").mkdir()
    for name, payload in files.items():
        (tmp_path / name).write_bytes(payload)
    loaded = load_calibration(tiny_bundle, tmp_path / "calibration", count=32, unreadable_share=0.0)
    assert loaded.digest == digest
    assert digest != sha256_bytes(b"".join(frame.tobytes() for frame in chosen.frames)), "JPEG changed them"


def test_the_network_tells_scenes_apart_as_the_pixels_do(tiny_bundle: Bundle) -> None:
    network, pixels = network_embedder(tiny_bundle.read(OPTIMIZED_ONNX), threads=1), colour_and_gradient()
    frames = [cv2.resize(scene(number), (WIDTH, HEIGHT)) for number in range(3)]
    for embedder in (network, pixels):
        first, second, again = (embedder.embed(frame) for frame in (frames[0], frames[1], frames[0]))
        assert first.shape == (embedder.size,)
        assert first.dtype == np.float32
        assert np.array_equal(first, again)
        assert np.abs(first - second).max() > 1e-3
    assert network.identity != pixels.identity


def test_looks_survive_being_stored(tmp_path: Path) -> None:
    embedder = colour_and_gradient()
    looks = [look(f"frame {number}", scene(number), InputSpec(HEIGHT, WIDTH), embedder) for number in range(3)]
    cache = LookCache(tmp_path / "looks", embedder.size)
    for entry in looks:
        cache.add(entry)
    cache.flush()
    stored = LookCache(tmp_path / "looks", embedder.size).load()
    assert [entry.name for entry in stored] == [entry.name for entry in looks]
    assert all(np.array_equal(a.embedding, b.embedding) and a.flaw == b.flaw for a, b in zip(stored, looks, strict=True))
    assert LookCache(tmp_path / "looks", embedder.size + 1).load() == []


class TestFolders:
    """Images below a folder; of a dataset the train split only."""

    def test_of_a_dataset_only_the_train_split_is_read(self, tmp_path: Path) -> None:
        for name in ("train/a.png", "train/deep/b.png", "val/c.png", "d.png", "train/a.label.png", "train/.hidden/e.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / name, scene(1))
        found = open_calibration_source(tmp_path)
        assert found.kind == "train split"
        assert [still.name for still in found.stills()] == ["a.png", "deep/b.png"]
        assert found.count == 2

    def test_the_identity_follows_the_content(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", scene(1))
        before = dataset_source(tmp_path).identity
        assert dataset_source(tmp_path).identity == before
        write_image(tmp_path / "b.png", scene(2))
        assert dataset_source(tmp_path).identity != before

    def test_an_empty_folder_a_missing_one_and_a_text_file_are_typed_errors(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "notes.txt").write_text("no frames")
        for name, words in (("empty", "holds no images"), ("missing", "does not exist"), ("notes.txt", "is neither")):
            with pytest.raises(CalibrationError, match=words):
                open_calibration_source(tmp_path / name)


class TestVideos:
    """A video, in order, every n-th frame."""

    @pytest.fixture
    def video(self, tmp_path: Path) -> Path:
        path = tmp_path / "tour.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDE, HIGH))
        if not writer.isOpened():
            pytest.skip("this OpenCV writes no MJPG")
        for number in range(9):
            writer.write(scene(number)[:, :, ::-1])
        writer.release()
        return path

    def test_frames_are_read_in_order(self, video: Path) -> None:
        found = open_calibration_source(video, every=2)
        assert found.kind == "video"
        assert found.count == 5
        for still, number in zip(found.stills(), (0, 2, 4, 6, 8), strict=True):
            assert still.name == f"tour-{number:06d}"
            assert np.abs(still.load().pixels.astype(int) - scene(number)).mean() < 12

    def test_chosen_frames_of_a_video_are_those_that_were_looked_at(self, choose: Any, video: Path) -> None:
        chosen = choose(open_calibration_source(video), count=4)
        for name, frame in zip(chosen.names, chosen.frames, strict=True):
            assert np.abs(frame.astype(int) - cv2.resize(scene(int(name[-6:])), (WIDTH, HEIGHT))).mean() < 25

    def test_a_damaged_video_is_a_typed_error(self, tmp_path: Path) -> None:
        (tmp_path / "tour.mp4").write_bytes(b"no video" * 100)
        with pytest.raises(CalibrationError, match="cannot be decoded"):
            open_calibration_source(tmp_path / "tour.mp4")


def test_a_source_that_shrinks_between_the_walks_is_a_typed_error(
    choose: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(6):
        write_image(tmp_path / f"{number}.png", scene(number))
    found = dataset_source(tmp_path)
    original = sampling._looks

    def then_delete(*arguments: Any) -> Any:
        looks = original(*arguments)
        for path in tmp_path.glob("*.png"):
            path.unlink()
        return looks

    monkeypatch.setattr(sampling, "_looks", then_delete)
    with pytest.raises(CalibrationError, match="can no longer be read"):
        choose(found, count=3)


def test_bars_of_another_aspect_are_not_looked_at(choose: Any) -> None:
    """A wide camera: a flat frame is flat although its bars are black, and different scenes are no doubles."""
    wide = [cv2.resize(scene(number), (320, 90), interpolation=cv2.INTER_AREA) for number in range(6)]
    chosen = choose([*wide, np.full((90, 320, 3), 120, np.uint8)], count=10)
    assert [(entry.name, entry.reason) for entry in chosen.dropped] == [("000006", "no contrast")]
    assert len(chosen.frames) == 6
