"""What a soak has done so far, kept in a folder: a run that was ended goes on where it was, as one more segment."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_mtl.bench.conditions import commit
from edge_mtl.files import write_atomic
from tests.reliability.soak.resources import Sample

__all__ = ["Segment", "State"]


@dataclass(slots=True)
class Segment:
    """What one process did: it has a warm-up and a slope of its own.

    Attributes:
        begin: frames that were done before it.
        samples: their `done` counts from the start of this process.
        kinds: how often it did what.
        problems: what was wrong besides the resources.
    """

    begin: int
    commit: str
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Frames of this process."""
        return self.samples[-1].done if self.samples else 0

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "begin": self.begin,
            "commit": self.commit,
            "seconds": round(self.seconds, 1),
            "samples": [each.to_list() for each in self.samples],
            "kinds": self.kinds,
            "problems": self.problems,
        }


class State:
    """The segments in `folder`, which is made; nothing is kept without one.

    Args:
        bundle: of which the frames are; a folder with another's is refused.
    """

    def __init__(self, folder: Path | None, bundle: str) -> None:
        self._file = None if folder is None else folder / "state.json"
        self._bundle = bundle
        self.segments: list[Segment] = []
        if self._file is not None and self._file.is_file():
            content = json.loads(self._file.read_bytes())
            if content["bundle"] != bundle:
                raise SystemExit(f"{self._file} is of the bundle {content['bundle']}, not of {bundle}: name another --state")
            for each in content["segments"]:
                self.segments.append(Segment(**each | {"samples": [Sample(*values) for values in each["samples"]]}))
        self._began = time.monotonic()

    @property
    def done(self) -> int:
        """Frames of all segments."""
        return sum(each.done for each in self.segments)

    def begin(self) -> Segment:
        """Another segment, of this process."""
        self._began = time.monotonic()
        self.segments.append(Segment(self.done, str(commit())))
        return self.segments[-1]

    def keep(self) -> None:
        """Write down what was done until now."""
        self.segments[-1].seconds = time.monotonic() - self._began
        if self._file is not None:
            content = {"bundle": self._bundle, "segments": [each.describe() for each in self.segments]}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, (json.dumps(content) + "\n").encode())
