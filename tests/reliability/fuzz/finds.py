"""What was found: which fault it is, the smallest input that shows it, and the files that keep both."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_mtl.files import sha256_bytes

__all__ = ["ROOT", "Find", "fault_of", "fault_of_dump", "keep", "kept", "minimised"]

ROOT = Path(__file__).resolve().parents[3]
_OWN = ("edge_mtl/", "train/", "ros2_ws/", "calibration/", "benchmarks/")


@dataclass(frozen=True, slots=True)
class Find:
    """One violation.

    Attributes:
        fault: what tells it from others: the type, signal or "hang", and the innermost line of this project.
        mutant: the input that shows it.
        trace: where it happened.
    """

    fault: str
    mutant: bytes
    trace: str

    @property
    def name(self) -> str:
        """Of its files."""
        return sha256_bytes(self.fault.encode())[:12]


def fault_of(exc: BaseException) -> str:
    """The exception's type and the innermost line of this project that it came through."""
    frames = traceback.extract_tb(exc.__traceback__)
    return f"{type(exc).__name__} at {_place([(frame.filename, frame.lineno or 0, frame.name) for frame in frames])}"


def fault_of_dump(what: str, dump: str) -> str:
    """The same of a process that died or hung: `what`, and the innermost line that faulthandler wrote."""
    frames = []
    for line in dump.splitlines():
        if line.startswith('  File "') and '", line ' in line:
            name, _, rest = line[len('  File "') :].partition('", line ')
            number, _, function = rest.partition(" in ")
            frames.append((name, int(number) if number.isdigit() else 0, function))
    return f"{what} at {_place(frames[::-1])}"


def _place(frames: list[tuple[str, int, str]]) -> str:
    """Innermost line of this project, else of anything: the frames are given from the outside in."""
    for file, line, function in reversed(frames):
        path = Path(file)
        inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        if inside.startswith(_OWN):
            return f"{inside}:{line} ({function})"
    if not frames:
        return "an unknown place"
    file, line, function = frames[-1]
    return f"{'/'.join(Path(file).parts[-2:])}:{line} ({function})"


def minimised(mutant: bytes, shows: Callable[[bytes], bool], *, tries: int = 400, seconds: float = 20.0) -> bytes:
    """A smaller input that still `shows` the fault: parts are taken out, halves first (delta debugging).

    Args:
        tries, seconds: whichever ends first ends the search.
    """
    until = time.monotonic() + seconds
    part = max(1, len(mutant) // 2)
    while mutant:
        start, shorter = 0, False
        while start < len(mutant):
            if tries <= 0 or time.monotonic() > until:
                return mutant
            tries -= 1
            candidate = mutant[:start] + mutant[start + part :]
            if shows(candidate):
                mutant, shorter = candidate, True
            else:
                start += part
        if part == 1 and not shorter:
            break
        part = max(1, min(part // 2, len(mutant)))
    return mutant


def keep(folder: Path, find: Find) -> Path:
    """Write a find: NAME.bin, NAME.txt with the trace, NAME.json with the fault. The smallest mutant of a fault stays."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{find.name}.bin"
    if not path.exists() or path.stat().st_size > len(find.mutant):
        path.write_bytes(find.mutant)
        path.with_suffix(".txt").write_text(f"{find.fault}\n\n{find.trace}", encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps({**asdict(find), "mutant": path.name, "trace": ""}), encoding="utf-8")
    return path


def kept(folder: Path) -> dict[str, Path]:
    """Finds in `folder`, fault by fault."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        found[str(json.loads(path.read_bytes())["fault"])] = path.with_suffix(".bin")
    return found
