"""perception_node that writes how many engines it opened and how many are open: python engines_node.py FILE --ros-args ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edge_mtl import Engine
from edge_mtl.files import write_atomic


def count(place: Path) -> None:
    """Let every engine be counted when it is opened and when it is closed."""
    opened: dict[int, Engine] = {}  # kept, so that no other engine gets their numbers
    closed: set[int] = set()
    load, close = Engine.__init__, Engine.close

    def note() -> None:
        write_atomic(place, json.dumps({"opened": len(opened), "open": len(opened.keys() - closed)}).encode())

    def loads(self: Engine, *arguments: Any, **options: Any) -> None:
        load(self, *arguments, **options)
        opened[id(self)] = self
        note()

    def closes(self: Engine) -> None:
        close(self)
        closed.add(id(self))
        note()

    Engine.__init__, Engine.close = loads, closes  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    from edge_mtl_ros.main import main

    count(Path(sys.argv.pop(1)))
    sys.exit(main())
