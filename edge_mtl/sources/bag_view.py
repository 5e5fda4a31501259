"""Bags as rosbags can read them: what it would refuse a whole bag for is blanked or left out, and nothing else is changed.

rosbags refuses a bag for one definition that is no ROS message (protobuf, JSON), one topic that is not CDR, or an empty name of
the storage, as `ros2 bag reindex` of Humble writes it. The extra "bags" is needed: rosbags is imported here.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

import apsw
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader, McapReader, Sqlite3Reader
from ruamel.yaml import YAML

__all__ = ["Rosbag2Reader"]

_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _SUMMARY_OFFSET = 0x01, 0x02, 0x03, 0x0E
_COUNTS = (0x08, 0x0B)
"""Records of the summary that say how many messages there are: indexes of chunks, and statistics."""
_FOOTER_BYTES = 37
"""Of the last record of an MCAP file and the magic after it."""
_ROS_SCHEMAS = ("ros2msg", "ros2idl", "omgidl", "")
_OTHER_DEFINITIONS = "SELECT topic_type, encoding FROM message_definitions WHERE encoding NOT IN ('ros2msg', 'ros2idl')"
_ROS_DEFINITIONS = (
    "CREATE TEMP VIEW message_definitions AS SELECT * FROM main.message_definitions WHERE encoding IN ('ros2msg', 'ros2idl')"
)
_METADATA, _FILES = "metadata.yaml", re.compile(r"\.(mcap|db3)\b")
_STORAGES = {"mcap": "mcap", "db3": "sqlite3"}


class Rosbag2Reader(Reader):
    """As `rosbags.rosbag2.Reader`.

    Attributes:
        strange_types: by name of a type, why its definition was left out.
        strange_topics: by name of a topic, why it was.
    """

    def __init__(self, path: Path) -> None:
        self.strange_types: dict[str, str] = {}
        self.strange_topics: dict[str, str] = {}
        types, topics = self.strange_types, self.strange_topics

        class Mcap(McapReader):
            def __init__(self, path: Any) -> None:
                super().__init__(_McapPath(path, types))  # type: ignore[arg-type]

        class Sqlite(Sqlite3Reader):
            def open(self) -> None:
                with _RosDefinitionsOnly(Path(str(self.path)), types):
                    super().open()

        class Folder(DirectoryReader):
            STORAGE_PLUGINS = {"mcap": Mcap, "sqlite3": Sqlite}  # type: ignore[assignment]  # noqa: RUF012

            def __init__(self, path: Any) -> None:
                super().__init__(path)
                self.path = _FolderPath(path, topics)  # type: ignore[assignment]

        self.STORAGE_PLUGINS = {"dir": Folder, ".mcap": Mcap, ".db3": Sqlite}  # type: ignore[assignment]
        super().__init__(path)


class _McapPath:
    """The path of an MCAP file that opens as a file whose definitions of other kinds are blank."""

    def __init__(self, path: Path, reasons: dict[str, str]) -> None:
        self._path, self._reasons = path, reasons

    def __str__(self) -> str:
        return str(self._path)

    def open(self, mode: str = "rb") -> BinaryIO:
        with self._path.open("rb") as file:
            patches = dict(_patches(file, self._reasons))
        return _Patched(io.FileIO(self._path), patches)


class _Patched(io.BufferedReader):
    """A file some of whose bytes read as others."""

    def __init__(self, raw: io.FileIO, patches: Mapping[int, bytes]) -> None:
        super().__init__(raw)
        self._patches = patches

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        found = super().read(size)
        for at, other in self._patches.items():
            low, high = max(start, at), min(start + len(found), at + len(other))
            if low < high:
                found = found[: low - start] + other[low - at : high - at] + found[high - start :]
        return found


def _patches(file: BinaryIO, reasons: dict[str, str]) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of all that should read otherwise: definitions that are no ROS messages, and the file's own profile.

    Stops where the file does not follow the format: what is wrong then is for its reader to say.
    """
    with suppress(struct.error, UnicodeDecodeError, ValueError, OSError):
        if file.read(8) != _MAGIC:
            return
        opcode, start, content = _record(file)
        if opcode != _HEADER:
            return
        (length,) = struct.unpack_from("<I", content)
        # Files that were merged have no profile; the name of the library gives way to it.
        if content[4 : 4 + length] != b"ros2" and len(content) >= 12:
            yield start, struct.pack("<I4sI", 4, b"ros2", len(content) - 12) + content[12:]
        data = file.tell()
        file.seek(-_FOOTER_BYTES, io.SEEK_END)
        end = file.tell()
        (summary,) = struct.unpack_from("<Q", file.read(_FOOTER_BYTES), 9)
        found = list(_records(file, summary, end)) if summary else []
        kinds = {opcode for opcode, _, _ in found}
        if _SCHEMA not in kinds or kinds.isdisjoint(_COUNTS):  # then the reader goes through the whole file
            found += _records(file, data, summary or end)
        for opcode, at, content in found:
            if opcode == _SCHEMA:
                yield from _blanked(at, content, reasons)


def _records(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """(opcode, offset of the content, content of definitions) of the records between two places, not of those in chunks."""
    file.seek(start)
    while (at := file.tell()) < end:
        opcode, length = struct.unpack("<BQ", file.read(9))
        if opcode in (_FOOTER, _SUMMARY_OFFSET):
            return
        yield opcode, at + 9, file.read(length) if opcode == _SCHEMA else b""
        file.seek(at + 9 + length)


def _record(file: BinaryIO) -> tuple[int, int, bytes]:
    """The opcode, where the content starts, and the content of the record at the place where `file` is."""
    opcode, length = struct.unpack("<BQ", file.read(9))
    return opcode, file.tell(), file.read(length)


def _blanked(at: int, content: bytes, reasons: dict[str, str]) -> Iterator[tuple[int, bytes]]:
    """A definition without encoding and text where it is no ROS message; as long as it was."""
    place, parts = 2, []
    for _ in range(3):  # name, encoding, text
        (length,) = struct.unpack_from("<I", content, place)
        parts.append(content[place + 4 : place + 4 + length])
        place += 4 + length
    name, encoding, text = parts
    if encoding.decode(errors="replace") in _ROS_SCHEMAS:
        try:
            text.decode()
        except UnicodeDecodeError:
            pass
        else:
            return
    title = name.decode(errors="replace")
    reasons[title] = f"its type {title} is defined as {encoding.decode(errors='replace') or 'bytes'}, not as a ROS message"
    left = len(encoding) + len(text)
    yield at + 2 + 4 + len(name), struct.pack("<II", 0, left) + b" " * left


class _RosDefinitionsOnly:
    """Within the block SQLite connections show only definitions that are ROS messages; others are put into `reasons`."""

    def __init__(self, path: Path, reasons: dict[str, str]) -> None:
        self._others: list[tuple[str, str]] = []
        with suppress(apsw.Error):  # what is wrong with the file is for its reader to say
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            with closing(apsw.Connection(f"file:{path}?immutable=1", flags=flags)) as connection:
                self._others = [(str(kind), str(encoding)) for kind, encoding in connection.execute(_OTHER_DEFINITIONS)]
        for kind, encoding in self._others:
            known = (
                "was not known to the recorder" if encoding == "unknown" else f"is defined as {encoding}, not as a ROS message"
            )
            reasons[kind] = f"its type {kind} {known}"

    def _shadow(self, connection: apsw.Connection) -> None:
        """A view in the place of the table: names of temporary things come first."""
        connection.execute(_ROS_DEFINITIONS)

    def __enter__(self) -> None:
        if self._others:
            apsw.connection_hooks.append(self._shadow)

    def __exit__(self, *_: object) -> None:
        if self._others:
            apsw.connection_hooks.remove(self._shadow)


class _FolderPath:
    """The path of a bag's folder whose metadata have only topics of CDR, and name the storage."""

    def __init__(self, path: Path, reasons: dict[str, str]) -> None:
        self._path, self._reasons = path, reasons

    def __str__(self) -> str:
        return str(self._path)

    def __truediv__(self, name: Any) -> Any:
        return _Metadata(self._path / name, self._reasons) if str(name) == _METADATA else self._path / name


class _Metadata:
    """metadata.yaml, read as it should be."""

    def __init__(self, path: Path, reasons: dict[str, str]) -> None:
        self._path, self._reasons = path, reasons

    def __str__(self) -> str:
        return str(self._path)

    def read_text(self, encoding: str | None = None) -> str:
        text = self._path.read_text(encoding="utf-8")
        content = YAML(typ="safe").load(text)
        try:
            bag = content["rosbag2_bagfile_information"]
            topics, files = bag["topics_with_message_count"], bag["relative_file_paths"]
            formats = [(str(one["topic_metadata"]["name"]), one["topic_metadata"]["serialization_format"]) for one in topics]
            found = _FILES.search(str(files[0])) if files else None
        except (KeyError, TypeError, IndexError):
            return text
        other = {name: form for name, form in formats if form != "cdr"}
        self._reasons.update({name: f"its messages are {form}, not CDR" for name, form in other.items()})
        bag["topics_with_message_count"] = [one for one in topics if one["topic_metadata"]["name"] not in other]
        if not bag.get("storage_identifier") and found is not None:
            bag["storage_identifier"] = _STORAGES[found[1]]
        stream = io.StringIO()
        YAML(typ="safe").dump(content, stream)
        return stream.getvalue()
