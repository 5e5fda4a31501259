"""An open bag: the topics that can be understood, and of each of the others why not. The extra "bags" is needed."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from edge_mtl.sources.bag_view import Rosbag2Reader

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

__all__ = ["BagReader"]

_IDL_PARTS = "=" * 80 + "\n"
_FIRST = ("sensor_msgs/", "std_msgs/", "builtin_interfaces/")
"""Types that are read before others: where two bags of types do not agree, those of the other topics give way."""


class BagReader:
    """A bag of ROS 1 or 2, open until `close`.

    Attributes:
        connections: of the topics that can be understood.
        left_out: by name of a topic, why it cannot be.
        typestore: the types of `connections`.
    """

    def __init__(self, path: Path) -> None:
        """Open it. Raises whatever rosbags, SQLite and the parser of YAML raise where there is no reading it."""
        opened = Rosbag1Reader(path) if path.suffix == ".bag" else Rosbag2Reader(path)
        self._reader, self._ros2 = opened, isinstance(opened, Rosbag2Reader)
        opened.open()
        try:
            every: list[Connection] = list(self._reader.connections)
            self.typestore: Typestore = get_typestore(Stores.EMPTY)
            types, topics = (opened.strange_types, opened.strange_topics) if isinstance(opened, Rosbag2Reader) else ({}, {})
            strange = self._of_types(every, types)
            self.left_out: dict[str, str] = dict(topics)
            self.connections = []
            for one in every:
                form = getattr(one.ext, "serialization_format", "cdr")
                why = f"its messages are {form}, not CDR" if form != "cdr" else strange.get(one.msgtype)
                if why is None:
                    self.connections.append(one)
                else:
                    self.left_out[one.topic] = why
        except BaseException:
            self.close()
            raise

    def messages(self, connections: Sequence[Any]) -> Iterator[tuple[Any, int, bytes]]:
        """(connection, time in nanoseconds, bytes) of the messages of some connections, by time."""
        if connections:
            yield from self._reader.messages(connections=list(connections))

    def deserialize(self, raw: bytes, kind: str) -> Any:
        """A message of a type that is understood."""
        return self.typestore.deserialize_cdr(raw, kind) if self._ros2 else self.typestore.deserialize_ros1(raw, kind)

    def stamp_ns(self, raw: bytes) -> int:
        """Of a message that begins with a header, in nanoseconds; 0 where it has none.

        Both serializations have it in bytes 4 to 12: after what CDR begins with, or after the header's `seq` of ROS 1.
        """
        if len(raw) < 12:
            return 0
        order = ">" if self._ros2 and raw[1] == 0 else "<"
        seconds, nanoseconds = struct.unpack_from(f"{order}iI", raw, 4)
        return int(seconds) * 10**9 + int(nanoseconds)

    def close(self) -> None:
        self._reader.close()

    def _of_types(self, connections: Sequence[Connection], reasons: Mapping[str, str]) -> dict[str, str]:
        """Put the types of connections into the store; by type, why it could not be."""
        by_kind: dict[str, list[Connection]] = defaultdict(list)
        for one in sorted(connections, key=lambda one: not one.msgtype.startswith(_FIRST)):
            by_kind[one.msgtype].append(one)
        found = {}
        for kind, group in by_kind.items():
            definition = next((one.msgdef for one in group if one.msgdef.format != MessageDefinitionFormat.NONE), None)
            digest = next((one.digest for one in group if one.digest), "")
            try:
                self._add(kind, definition, digest)
            except Exception as exc:  # rosbags raises many kinds on definitions that it does not understand
                found[kind] = reasons.get(kind) or _reason(kind, definition, exc)
        return found

    def _add(self, kind: str, definition: MessageDefinition | None, digest: str) -> None:
        """Put one type and those that it is made of into the store. Raises what rosbags raises, and the store is as before."""
        types = _known(kind) if definition is None else _parsed(kind, definition)
        alone = get_typestore(Stores.EMPTY)
        alone.register(types)
        have: Callable[[str], str] = alone.hash_rihs01 if self._ros2 else lambda name: alone.generate_msgdef(name)[1]
        if have(kind) != digest and digest not in ("", "*"):
            raise ValueError("it does not have the hash that it was recorded with")
        self.typestore.register(types)


def _parsed(kind: str, definition: MessageDefinition) -> Any:
    if definition.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(definition.data, kind)
    if not definition.data.startswith(f"{_IDL_PARTS}IDL: "):
        return get_types_from_idl(definition.data)
    parts = (part.split("\n", 1)[1] for part in definition.data.split(_IDL_PARTS)[1:])
    return dict(chain.from_iterable(get_types_from_idl(part).items() for part in parts))


def _known(kind: str) -> Any:
    """A type of ROS itself and those that it is made of, for bags that do not define their types. Raises KeyError."""
    defined, found, wanted = get_typestore(Stores.ROS2_HUMBLE).fielddefs, {}, [kind]
    while wanted:
        name = wanted.pop()
        found[name] = defined[name]
        for _, described in defined[name][1]:
            inner: Any = described[1][0] if described[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE) else described
            if inner[0] == Nodetype.NAME and inner[1] not in found:
                wanted.append(inner[1])
    return found


def _reason(kind: str, definition: MessageDefinition | None, exc: Exception) -> str:
    if definition is None:
        return f"the bag does not define its type {kind}"
    if "/srv/" in kind or "\n---" in definition.data:
        return f"its type {kind} is of a service or an action, whose definition is not that of the messages"
    if re.search(r"^\s*wstring\b", definition.data, re.MULTILINE):
        return f"its type {kind} has a wstring, which cannot be read"
    return f"its type {kind} cannot be understood ({(str(exc).strip().splitlines() or [type(exc).__name__])[0]})"
