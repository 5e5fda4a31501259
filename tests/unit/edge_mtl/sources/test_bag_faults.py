"""Bags that were not finished, copied in part or changed: what is said helps against what happened."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason='needs the extra bags: pip install -e ".[bags]"')

from edge_mtl.errors import FrameError
from edge_mtl.image.encoding import encode_image
from edge_mtl.sources.bags import bag_source, is_bag
from edge_mtl.sources.open_source import open_source
from tests.bag_files import IMAGE_TOPIC, write_bag
from tests.bundles import make_image


def recorded(tmp_path: Path, storage: str) -> tuple[Path, Path]:
    """A bag and its one file."""
    bag = write_bag(tmp_path / "tour", [make_image(0), make_image(1)], storage=storage, focal=120.0)
    return bag, next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def foreign(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04" + file.read_bytes()[4:])


@pytest.mark.parametrize(
    ("storage", "damage", "said", "unsaid"),
    [
        ("mcap", cut, r"has no end.*: mcap recover \S+tour.mcap -o \S+tour-recovered.mcap", "reindex"),
        ("mcap", empty, "is empty.*Copy it again", "reindex|recover "),
        ("mcap", foreign, "is no MCAP file.*Copy it again", "reindex|recover "),
        ("sqlite3", cut, r"is cut short.*Copy it again.*sqlite3 \S+tour.db3 .recover", "reindex|mcap"),
        ("sqlite3", empty, "is empty.*Copy it again", "reindex|recover "),
        ("sqlite3", foreign, "is no SQLite database.*Copy it again", "reindex|recover "),
    ],
)
def test_what_is_said_of_a_damaged_file_fits_its_damage(
    tmp_path: Path, storage: str, damage: Callable[[Path], None], said: str, unsaid: str
) -> None:
    bag, file = recorded(tmp_path, storage)
    damage(file)
    for path in (bag, file):
        with pytest.raises(FrameError, match=said) as found:
            bag_source(path)
        assert not [word for word in unsaid.split("|") if word in str(found.value)]
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(("storage", "option"), [("mcap", " -s mcap"), ("sqlite3", "")])
def test_a_folder_without_metadata_is_reindexed_or_its_file_named(tmp_path: Path, storage: str, option: str) -> None:
    bag, file = recorded(tmp_path, storage)
    (bag / "metadata.yaml").unlink()
    assert is_bag(bag)
    with pytest.raises(
        FrameError, match=rf"no metadata.yaml.*: ros2 bag reindex \S+tour{option}, or name its file: \S+{file.name}"
    ):
        open_source(bag)
    assert len(list(open_source(file).frames())) == 2
    cut(file)
    with pytest.raises(FrameError) as found:
        open_source(bag)
    assert ("mcap recover" in str(found.value)) == (storage == "mcap"), "reindexing does not complete a file"
    assert "reindex" not in str(found.value)


def test_a_folder_of_images_beside_a_recording_is_one_of_images(tmp_path: Path) -> None:
    bag, _ = recorded(tmp_path, "mcap")
    (bag / "metadata.yaml").unlink()
    (bag / "a.png").write_bytes(encode_image(make_image(0)))
    assert not is_bag(bag)


def test_metadata_that_do_not_fit_are_made_anew(tmp_path: Path) -> None:
    bag, file = recorded(tmp_path, "sqlite3")
    whole = (bag / "metadata.yaml").read_text()
    for text in ("", "rosbag2_bagfile_information: {", "a: b", whole.replace("  version: 9\n", "")):
        (bag / "metadata.yaml").write_text(text)
        with pytest.raises(FrameError, match=r"metadata.yaml does not fit.*Remove it, and run: ros2 bag reindex"):
            bag_source(bag)
    (bag / "metadata.yaml").write_text(whole)
    file.rename(bag / "renamed.db3")
    with pytest.raises(FrameError, match=r"names files that are not here.*Put them back, or .*: ros2 bag reindex"):
        bag_source(bag)


def test_a_newer_format_asks_for_a_newer_rosbags(tmp_path: Path) -> None:
    bag, _ = recorded(tmp_path, "sqlite3")
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("version: 9", "version: 99"))
    with pytest.raises(FrameError, match="pip install --upgrade rosbags"):
        bag_source(bag)


def with_log(tmp_path: Path) -> tuple[Path, Path]:
    """A bag whose images are in the write-ahead log only, as the preset "resilient" of rosbag2 leaves it when it is stopped."""
    bag, file = recorded(tmp_path, "sqlite3")
    kept = tmp_path / "kept"
    with closing(sqlite3.connect(file)) as connection:
        images = connection.execute("SELECT * FROM messages").fetchall()
        connection.execute("DELETE FROM messages")
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", images)
        connection.commit()
        shutil.copytree(bag, kept)
    shutil.rmtree(bag)
    kept.rename(bag)
    assert file.with_name(f"{file.name}-wal").stat().st_size > 10_000
    return bag, file


def test_messages_in_a_write_ahead_log_are_not_left_out_in_silence(tmp_path: Path) -> None:
    bag, file = with_log(tmp_path)
    for path in (bag, file):
        with pytest.raises(FrameError, match=rf"are in {file.name}-wal only.*sqlite3 \S+ 'PRAGMA wal_checkpoint\(TRUNCATE\)'"):
            bag_source(path)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert len(list(bag_source(bag).frames())) == 2, "the advice helps"


def test_a_database_that_was_copied_without_its_log_asks_for_it(tmp_path: Path) -> None:
    _, file = with_log(tmp_path)
    for kind in ("wal", "shm"):
        file.with_name(f"{file.name}-{kind}").unlink(missing_ok=True)
    with pytest.raises(
        FrameError, match=rf"no images on {IMAGE_TOPIC}.*{file.name}-wal where it comes from, copy it beside it"
    ):
        bag_source(file)


def test_a_change_that_was_not_finished_is_undone_first(tmp_path: Path) -> None:
    bag, file = recorded(tmp_path, "sqlite3")
    file.with_name(f"{file.name}-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(504))
    with pytest.raises(FrameError, match=rf"{file.name}-journal says.*sqlite3 \S+ 'PRAGMA quick_check'"):
        bag_source(bag)
    file.with_name(f"{file.name}-journal").write_bytes(bytes(512))
    assert len(list(bag_source(bag).frames())) == 2, "a journal that was emptied"


def test_a_ros_1_bag_without_an_index_is_reindexed(tmp_path: Path) -> None:
    path = tmp_path / "tour.bag"
    fields = (b"op=\x03", b"index_pos=" + bytes(8), b"conn_count=" + bytes(4), b"chunk_count=" + bytes(4))
    head = b"".join(len(one).to_bytes(4, "little") + one for one in fields)
    path.write_bytes(b"#ROSBAG V2.0\n" + len(head).to_bytes(4, "little") + head + (4027).to_bytes(4, "little") + b" " * 4027)
    with pytest.raises(FrameError, match=r"has no whole index.*rosbag reindex \S+tour.bag"):
        bag_source(path)
