"""Which frames train, validate and test: shares by a hash of the frame's name, or lists. Knows names; reads no images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from edge_mtl.errors import BuildError
from mtl.datasets.data_set import Split
from mtl.datasets.folder.section import Section, shown

__all__ = ["SPLITS", "Assigned", "Lists", "Shares", "Splits", "read_splits"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Assigned:
    """Frames by split.

    Attributes:
        stems: in the order of their names.
        problems: what is wrong with lists, sentences that name files.
        unlisted: frames that no list names.
    """

    stems: Mapping[Split, tuple[str, ...]]
    problems: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the frames. A frame stays in its split whatever other frames there are.

    Attributes:
        test: 0 tests on the validation frames.
        by: "frame", or "folder": frames of one sub-folder stay together, because frames of one recording look alike.
    """

    val: float
    test: float
    seed: int = 0
    by: Literal["frame", "folder"] = "frame"

    @property
    def tests(self) -> bool:
        """Whether there are test frames of their own."""
        return self.test > 0

    def of(self, stem: str) -> Split:
        """The split of a frame."""
        name = str(PurePosixPath(stem).parent) if self.by == "folder" else stem
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        return "val" if place < self.val else "test" if place < self.val + self.test else "train"

    def assigned(self, root: Path, stems: Iterable[str]) -> Assigned:
        """All frames by split."""
        found: dict[Split, list[str]] = {split: [] for split in SPLITS}
        for stem in stems:
            found[self.of(stem)].append(stem)
        return Assigned({split: tuple(names) for split, names in found.items()})


@dataclass(frozen=True, slots=True)
class Lists:
    """A text file of each split, a frame's name a line.

    Attributes:
        test: empty tests on the validation frames.
    """

    train: str
    val: str
    test: str = ""

    @property
    def tests(self) -> bool:
        """Whether there are test frames of their own."""
        return bool(self.test)

    def assigned(self, root: Path, stems: Iterable[str]) -> Assigned:
        """The frames that lists name and that there are, by split. Raises BuildError where a list cannot be read."""
        there = list(stems)
        known, problems = set(there), []
        taken: dict[str, str] = {}
        found: dict[Split, list[str]] = {split: [] for split in SPLITS}
        files: dict[Split, str] = {"train": self.train, "val": self.val, "test": self.test}
        for split, file in files.items():
            for number, stem in _lines(root / file) if file else ():
                where = f"{root / file}, line {number}"
                if stem not in known:
                    problems.append(f"{where}: there is no image {stem}")
                elif stem in taken:
                    problems.append(f"{where}: {stem} is in {taken[stem]} already; expected each frame once")
                else:
                    taken[stem] = file
                    found[split].append(stem)
        unlisted = tuple(stem for stem in there if stem not in taken)
        return Assigned({split: tuple(sorted(names)) for split, names in found.items()}, tuple(problems), unlisted)


Splits = Shares | Lists


def read_splits(table: Section) -> Splits:
    """The table [splits]. Raises BuildError."""
    if any(isinstance(table.content.get(key), str) for key in SPLITS):
        noun = "a text file of frames' names, as the other splits have"
        names = {split: table.text(split, noun) for split in SPLITS if split != "test" or table.has("test")}
        for split, name in names.items():
            if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
                raise table.error(split, f"expected a text file beside dataset.toml, without '..', found {shown(name)}")
        table.done()
        return Lists(names["train"], names["val"], names.get("test", ""))
    noun = "a share of the frames above 0 and below 1, or a text file of frames' names"
    val = table.number("val", noun, above=0, below=1)
    test = 0.0
    if table.has("test"):
        test = table.number("test", noun, above=-1e-9, below=1)
    seed = table.whole("seed", "a whole number from 0", low=0, high=2**63, default=0)
    by = table.choice("by", ("frame", "folder"), "frame")
    table.done()
    if val + test >= 1:
        raise table.error("val", f"val and test should leave frames to train on, found {val:g} and {test:g}")
    return Shares(val, test, seed, "folder" if by == "folder" else "frame")


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BuildError(f"{path} cannot be read ({exc}): expected the name of a frame a line. Mend [splits]") from exc
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
