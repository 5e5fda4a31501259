"""perception_node that writes how often each kind has finished a result: python counting_node.py COUNTS.json --ros-args ..."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from edge_mtl.files import write_atomic
from edge_mtl.tasks import KINDS


def count(place: Path) -> None:
    """Let every kind note in a file that it finished a result."""
    counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for name, kind in KINDS.items():

        def counting(*arguments: Any, _finish: Any = kind.finish, _name: str = name) -> Any:
            counts[_name] += 1
            write_atomic(place, json.dumps(counts).encode())
            return _finish(*arguments)

        kind.finish = counting  # type: ignore[method-assign]


if __name__ == "__main__":
    from edge_mtl_ros.main import main

    count(Path(sys.argv.pop(1)))
    sys.exit(main())
