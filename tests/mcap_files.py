"""MCAP files as other programs than rosbag2 write them: any channels, with or without an end. Knows nothing about messages."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["McapChannel", "write_mcap"]

_MAGIC = b"\x89MCAP0\r\n"


@dataclass(frozen=True)
class McapChannel:
    """A topic: the encodings of its messages and of the definition of their type, and the messages by time in nanoseconds."""

    topic: str
    message_encoding: str
    schema: tuple[str, str, bytes]
    messages: Sequence[tuple[int, bytes]]


def write_mcap(path: Path, channels: Sequence[McapChannel], *, profile: str = "", summary: str = "whole") -> Path:
    """A file without chunks.

    Args:
        summary: what the end repeats: "whole", "definitions", "nothing"; "cut": as a recorder leaves it that was stopped.
    """
    definitions = b"".join(
        _record(3, struct.pack("<H", index) + _text(one.schema[0]) + _text(one.schema[1]) + _bytes(one.schema[2]))
        + _record(4, struct.pack("<HH", index, index) + _text(one.topic) + _text(one.message_encoding) + _bytes(b""))
        for index, one in enumerate(channels, 1)
    )
    messages = sorted((time_ns, index, raw) for index, one in enumerate(channels, 1) for time_ns, raw in one.messages)
    data = _MAGIC + _record(1, _text(profile) + _text("a recorder of tests")) + definitions
    data += b"".join(_record(5, struct.pack("<HIQQ", index, 0, time, time) + raw) for time, index, raw in messages)
    if summary != "cut":
        data += _record(0x0F, struct.pack("<I", 0))
        start = 0 if summary == "nothing" else len(data)
        data += b"" if summary == "nothing" else definitions
        if summary == "whole":
            times = [time_ns for time_ns, _, _ in messages]
            counts = b"".join(struct.pack("<HQ", index, len(one.messages)) for index, one in enumerate(channels, 1))
            facts = (len(messages), len(channels), len(channels), 0, 0, 0, min(times), max(times))
            data += _record(0x0B, struct.pack("<QHIIIIQQ", *facts) + _bytes(counts))
        data += _record(2, struct.pack("<QQI", start, 0, 0)) + _MAGIC
    path.write_bytes(data)
    return path


def _record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def _text(text: str) -> bytes:
    return _bytes(text.encode())


def _bytes(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content
