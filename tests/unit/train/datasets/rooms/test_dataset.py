"""The cache of rooms: whole shards or none, the same whoever makes them, resumed where a run stopped."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import make_rooms
import numpy as np
import pytest
from mtl.datasets.rooms import SPLIT_FIRST_SEED, RenderOptions, RoomsDataset, dataset, render_room, shards
from mtl.datasets.rooms.check import inspect
from mtl.datasets.rooms.source import RenderedRooms
from mtl.datasets.rooms.tasks import ROOM_TASKS
from mtl.datasets.worlds import cache, rendering_jobs

from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import labelled_folder
from edge_mtl.manifest import InputSpec
from edge_mtl.unfinished import TEMPORARY_PREFIX, held

SIZE = {"height": 16, "width": 20}
TRAIN = Path(__file__).parents[5] / "train"


def build(root: Path, count: int = 4, *, split="train", workers: int = 1, **changes) -> RoomsDataset:
    return RoomsDataset(root, split, count, workers=workers, progress=False, **{**SIZE, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("*/*/shard-*/*"))}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of two frames, so that a few frames make several."""
    monkeypatch.setattr(dataset, "FRAMES_PER_SHARD", 2)


def test_cached_frames_equal_rendered_ones(tmp_path):
    rooms = build(tmp_path, 3)
    assert len(rooms) == 3
    for index in (0, 2):
        kept, fresh = rooms[index], render_room(index, **SIZE)
        assert np.array_equal(kept.image, fresh.image)
        assert np.array_equal(kept.label, fresh.label)
        assert np.array_equal(kept.depth_m, fresh.depth_m)
        assert np.abs(kept.normals - fresh.normals).max() < 1e-4
        assert np.array_equal(kept.normals.any(-1), fresh.depth_m > 0)
        assert kept.intrinsics == fresh.intrinsics
        assert kept.seed == index
        assert kept.image.flags.writeable


def test_it_is_a_sequence(tmp_path):
    rooms = build(tmp_path, 3)
    assert [room.seed for room in rooms] == [0, 1, 2]
    assert rooms[-1].seed == 2
    for index in (3, -4):
        with pytest.raises(IndexError):
            rooms[index]


def test_normals_from_the_cache_are_unit(tmp_path):
    room = build(tmp_path, 1)[0]
    length = np.linalg.norm(room.normals, axis=-1)
    assert np.abs(length[room.depth_m > 0] - 1).max() < 1e-5


def test_splits_never_share_a_seed():
    starts = sorted(SPLIT_FIRST_SEED.values())
    assert len(set(starts)) == 3
    assert min(np.diff(starts)) >= cache.MOST_FRAMES


def test_splits_hold_their_own_seeds(tmp_path):
    seeds = {split: build(tmp_path, 1, split=split)[0].seed for split in SPLIT_FIRST_SEED}
    assert seeds == SPLIT_FIRST_SEED


def test_a_larger_count_renders_only_the_new_shards(tmp_path):
    first = build(tmp_path, 2)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.npy")}
    more = build(tmp_path, 3)
    assert len(list(more.folder.iterdir())) == 2
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_a_finished_cache_is_not_rendered_again(tmp_path, monkeypatch):
    build(tmp_path, 4)
    monkeypatch.setattr(dataset, "render_shard", lambda *job: pytest.fail("rendered again"))
    assert len(build(tmp_path, 4)) == 4


def test_other_options_or_sizes_live_elsewhere(tmp_path, monkeypatch):
    folders = {build(tmp_path, 1).folder, build(tmp_path, 1, options=RenderOptions(noise=0.0)).folder}
    folders.add(build(tmp_path, 1, width=24).folder)
    monkeypatch.setattr(dataset, "RENDERER_VERSION", dataset.RENDERER_VERSION + 1)
    folders.add(build(tmp_path, 1).folder)
    assert len(folders) == 4


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.np, "save", full)
    with pytest.raises(OSError, match="No space"):
        build(tmp_path, 1)
    assert not [path for path in tmp_path.rglob("*") if "shard" in path.name]


def test_the_half_written_folder_of_a_dead_run_is_ignored_and_swept(tmp_path):
    folder = dataset.cache_folder(tmp_path, "train", SIZE["height"], SIZE["width"], RenderOptions())
    dead, busy = (folder / f"{TEMPORARY_PREFIX}shard-00000.{name}" for name in ("dead", "busy"))
    for part in (dead, busy):
        part.mkdir(parents=True)
        (part / "image.npy").write_bytes(b"half")
    with held(busy):
        assert build(tmp_path, 1)[0].seed == 0
    assert not dead.exists()
    assert busy.exists()


def test_two_processes_making_the_same_shard_both_succeed(tmp_path):
    folder = tmp_path / "shard-00000"
    samples = [render_room(0, **SIZE)]
    shards.write_shard(folder, samples)
    shards.write_shard(folder, samples)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000"]


def test_a_dataset_travels_to_another_process(tmp_path):
    rooms = build(tmp_path, 2)
    copy = pickle.loads(pickle.dumps(rooms))
    assert np.array_equal(copy[1].image, rooms[1].image)


@pytest.mark.parametrize("changes", [{"count": 0}, {"count": cache.MOST_FRAMES + 1}, {"split": "all"}])
def test_nonsense_is_refused(tmp_path, changes):
    with pytest.raises(ValueError, match=r"count|split"):
        build(tmp_path, **changes)


class TestObjects:
    """Objects and kinds of rooms beside the images, also of shards that were rendered before there were any."""

    def old(self, root: Path, count: int = 4) -> Path:
        """Shards as they were once."""
        rooms = build(root, count)
        for path in rooms.folder.glob("*/objects-*.npz"):
            path.unlink()
        return rooms.folder

    def test_frames_have_them_where_they_are_asked_for(self, tmp_path):
        with_objects, without = build(tmp_path, 3, objects=True), build(tmp_path, 3)
        for index in range(3):
            kept, fresh = with_objects[index], render_room(index, **SIZE)
            assert kept.scene == fresh.scene
            for name in ("visible", "amodal", "classes", "pixels", "share"):
                found, expected = getattr(kept.objects, name), getattr(fresh.objects, name)
                assert found.dtype == expected.dtype
                assert np.array_equal(found, expected)
            assert without[index].objects is without[index].scene is None

    def test_old_shards_get_them_without_being_rendered_and_to_the_byte(self, tmp_path, monkeypatch):
        build(tmp_path / "new", 4)
        old = self.old(tmp_path / "old")
        before = {path: path.stat().st_mtime_ns for path in old.rglob("*.npy")}
        monkeypatch.setattr(shards, "render_room", lambda *_, **__: pytest.fail("rendered again"))
        monkeypatch.setattr(dataset, "render_shard", lambda *job: pytest.fail("rendered again"))
        rooms = build(tmp_path / "old", 4, objects=True)
        assert len(rooms[3].objects.classes) > 0
        assert contents(tmp_path / "old") == contents(tmp_path / "new")
        assert all(path.stat().st_mtime_ns == at for path, at in before.items())

    def test_they_are_added_only_where_they_lack_and_only_when_asked_for(self, tmp_path):
        folder = self.old(tmp_path)
        build(tmp_path, 4)
        assert not list(folder.glob("*/objects-*"))
        build(tmp_path, 2, objects=True)
        first = folder / "shard-00000" / "objects-1.npz"
        written = first.stat().st_mtime_ns
        assert not list(folder.glob("shard-00001/objects-*"))
        build(tmp_path, 4, objects=True)
        assert list(folder.glob("shard-00001/objects-*"))
        assert first.stat().st_mtime_ns == written

    def test_a_failure_while_they_are_written_leaves_the_shard_as_it_was(self, tmp_path, monkeypatch):
        folder = self.old(tmp_path)
        before = contents(tmp_path)

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(shards, "write_atomic", full)
            with pytest.raises(OSError, match="No space"):
                build(tmp_path, 4, objects=True)
        assert contents(tmp_path) == before
        assert build(tmp_path, 4, objects=True)[0].objects is not None
        assert len(list(folder.glob("*/objects-1.npz"))) == 2

    def test_another_meaning_of_objects_is_another_file(self, tmp_path, monkeypatch):
        build(tmp_path, 2)
        monkeypatch.setattr(shards, "_OBJECTS", "objects-2.npz")
        build(tmp_path, 2, objects=True)
        assert len(list(tmp_path.rglob("objects-*.npz"))) == 2


class TestWorkers:
    """With real worker processes."""

    SCRIPT = (
        "import sys; from pathlib import Path; from mtl.datasets.rooms import dataset\n"
        "dataset.FRAMES_PER_SHARD = 2\n"
        "dataset.RoomsDataset(Path(sys.argv[1]), 'train', int(sys.argv[2]), height=16, width=20, workers=2, progress=False)"
    )

    def start(self, root: Path, count: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(TRAIN)}
        return subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, str(root), str(count)],
            env=environment,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )

    def test_a_killed_run_resumes_and_ends_like_an_undisturbed_one(self, tmp_path):
        killed, whole = tmp_path / "killed", tmp_path / "whole"
        run = self.start(killed, 8)
        try:
            deadline = time.monotonic() + 60
            while not list(killed.glob("*/train/shard-*")) and run.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        made = len(list(killed.glob("*/train/shard-*")))
        assert 1 <= made < 4
        for folder in killed.glob("*/train/shard-*"):
            assert len(list(folder.iterdir())) == 6
        assert self.start(killed, 8).wait() == 0
        build(whole, 8, workers=1)  # and one worker makes what two make
        assert len(contents(whole)) == 24
        assert contents(killed) == contents(whole)

    def test_workers_leave_when_their_parent_is_killed(self, tmp_path):
        run = self.start(tmp_path, 64)
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob("*/train/shard-*")) and run.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            run.kill()  # the parent alone
            run.wait()
            deadline = time.monotonic() + 20
            while group_is_alive(run.pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not group_is_alive(run.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)

    def test_a_worker_that_dies_is_an_error_that_says_what_to_do(self, tmp_path):
        def kill_one():
            while not multiprocessing.active_children():
                time.sleep(0.01)
            multiprocessing.active_children()[0].kill()

        killer = threading.Thread(target=kill_one)
        killer.start()
        with pytest.raises(RuntimeError, match="run again"):
            build(tmp_path, 8, workers=2)
        killer.join()

    @pytest.mark.parametrize("error", [ValueError("bad value(s) in fds_to_keep"), OSError(12, "Cannot allocate memory")])
    def test_a_worker_that_cannot_be_started_is_the_same_error(self, tmp_path, monkeypatch, error):
        """As it is where another dies at that very moment, or where there is no memory for one."""

        def submit(self, *job):
            raise error

        monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "submit", submit)
        with pytest.raises(RuntimeError, match="run again"):
            build(tmp_path, 8, workers=2)

    def test_a_worker_that_nobody_needs_any_more_leaves(self):
        context = multiprocessing.get_context("spawn")
        until, end = context.Pipe(duplex=False)
        with until:
            worker = context.Process(target=wait_as_a_worker, args=(until,))
            worker.start()
            worker.join(0.5)
            assert worker.is_alive()
            end.close()  # also where the worker has not begun yet
            worker.join(60)
            assert worker.exitcode == 1


def wait_as_a_worker(until):
    rendering_jobs._quiet_worker(until)
    time.sleep(600)


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class TestScript:
    """train/make_rooms.py as a user runs it."""

    def test_it_makes_rooms_and_a_contact_sheet(self, tmp_path, capsys):
        sheet = tmp_path / "out" / "rooms.png"
        arguments = ["--root", str(tmp_path), "--count", "3", "--size", "16x20", "--workers", "1", "--preview", str(sheet)]
        assert make_rooms.main(arguments) == 0
        assert "3 rooms in" in capsys.readouterr().out
        assert sheet.stat().st_size > 500
        for path in tmp_path.rglob("objects-1.npz"):
            path.unlink()
        assert make_rooms.main(arguments) == 0
        assert len(list(tmp_path.rglob("objects-1.npz"))) == 2

    def test_it_writes_images_with_their_truths_as_verify_reads_them(self, tmp_path, capsys):
        folder = tmp_path / "labelled"
        arguments = ["--root", str(tmp_path / "cache"), "--split", "test", "--count", "2", "--size", "48x64", "--workers", "1"]
        assert make_rooms.main([*arguments, "--labelled", str(folder)]) == 0
        assert f"images with truths: {folder}" in capsys.readouterr().out
        rooms = RenderedRooms(2, (48, 64))
        found = list(labelled_folder(folder, InputSpec(48, 64), ROOM_TASKS))
        assert len(found) == 2
        for frame, room in zip(found, (rooms[0], rooms[1]), strict=True):
            np.testing.assert_array_equal(frame.targets["segmentation"], room.truths["segmentation"])
            np.testing.assert_allclose(frame.targets["objects"].xyxy, room.truths["objects"].xyxy, atol=1e-3)
            assert frame.targets["scene"] == room.truths["scene"]
        arguments[1] = str(tmp_path / "other")
        assert make_rooms.main([*arguments, "--labelled", str(folder)]) == BuildError.exit_code
        assert not (tmp_path / "other").exists(), "refused before anything is rendered"
        assert "exists already" in capsys.readouterr().err

    def test_an_error_is_one_line(self, tmp_path, capsys):
        assert make_rooms.main(["--root", str(tmp_path), "--count", "0"]) == 2
        assert capsys.readouterr().err.splitlines() == ["make_rooms: count is from 1 to 1000000000, not 0. Name another value."]

    def test_a_bad_size_is_explained(self, capsys):
        with pytest.raises(SystemExit):
            make_rooms.main(["--size", "big"])
        assert "HEIGHTxWIDTH" in capsys.readouterr().err

    def test_help_shows_an_example(self, capsys):
        with pytest.raises(SystemExit):
            make_rooms.main(["--help"])
        assert "example: python train/make_rooms.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.npy", b"\x93NUMPY\x01\x00\x03\x00(((" + bytes(99)),
        (
            "meta.npy",
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 99)}".ljust(127) + b"\n",
        ),
        ("image.npy", b"no array"),
        ("objects-1.npz", b"PK\x03\x04 no archive"),
    ],
)
def test_a_damaged_shard_is_named_with_what_to_do(name, content, tmp_path):
    rooms = build(tmp_path, 2, objects=True)
    (shard,) = rooms.folder.glob("shard-*")
    (shard / name).write_bytes(content)
    with pytest.raises(BuildError, match=rf"{shard.name} cannot be read .*Remove it, run train/make_rooms.py again"):
        rooms[0]
    problems = [problem for check in inspect(tmp_path).checks for problem in check.problems]
    assert any(f"{shard} cannot be read" in problem for problem in problems)


def test_maps_of_another_type_or_shape_are_damage(tmp_path):
    rooms = build(tmp_path, 2)
    (shard,) = rooms.folder.glob("shard-*")
    np.save(shard / "depth.npy", np.zeros((2, 16), np.float32))
    with pytest.raises(BuildError, match=r"depth.npy should be \(N, H, W, ...\) of float32, found float32 of \(2, 16\)"):
        rooms[1]
