"""Looks at every file of a published data set and says what is wrong, by name. Changes nothing, prints nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import sha256_file
from mtl.datasets.data_set import Split
from mtl.datasets.frame import Frame
from mtl.datasets.published.data_set import PublishedSet
from mtl.datasets.published.frames import Listing, read_listed, spread
from mtl.datasets.published.tallies import DepthTally, TruthTally, tally_of
from mtl.datasets.report import Check, Progress, Report
from mtl.settings import DataSettings

__all__ = ["inspect", "listings"]

_NAMED = 5


def listings(known: PublishedSet, root: Path) -> dict[Split, Listing]:
    """The splits of a folder. Raises BuildError where one cannot be used."""
    data = DataSettings(kind=known.name, root=str(root))
    splits: tuple[Split, ...] = ("train", "val", "test")
    return {split: known.listing(data, split) for split in splits if known.has(data, split)}


def inspect(known: PublishedSet, root: Path, *, images: int = 0, progress: Progress | None = None) -> Report:
    """Open the images and truths of a data set.

    Args:
        images: look at so many of each split only, evenly spaced; 0 for all.
    Returns:
        A report; where the folder cannot be used, that is its only problem.
    """
    data = DataSettings(kind=known.name, root=str(root))
    try:
        found = listings(known, root)
        specs = known.tasks(data)
        terms = f"{known.title(data)}; {known.licence(data)}; images may not be copied into bundles"
    except EdgeMtlError as exc:
        return Report(str(root), (Check(known.frames, "cannot be used", (str(exc),)),))
    chosen = {split: spread(len(one), images or len(one)) for split, one in found.items()}
    total, done = sum(map(len, chosen.values())), 0
    notes = {task: note for one in found.values() for task, note in one.truth_notes.items()}
    look = _Look({task: tally_of(spec, notes.get(task)) for task, spec in specs.items()})
    for split, numbers in chosen.items():
        for number in numbers:
            look.frame(found[split], split, number)
            look.problems += known.oddities(found[split], number)
            done += 1
            if progress is not None:
                progress("frames", done, total)
    counts = {split: len(numbers) for split, numbers in chosen.items()}
    remarks = tuple(f"{split}: {remark}" for split, one in found.items() for remark in known.remarks(one))
    return Report(str(root), (Check(known.frames, terms), _frames(found, counts, remarks), *look.checks(counts)))


def _frames(found: dict[Split, Listing], looked_at: dict[Split, int], remarks: Sequence[str]) -> Check:
    """How many there are, and the entries that cannot be used."""
    lost = [(split, one) for split, listing in found.items() for one in listing.left_out if one.count]
    problems = tuple(f"{found[split].where}: {reason}" for split, one in lost for reason in one.reasons)
    counts = ", ".join(f"{split} {len(one)}" for split, one in found.items())
    notes = [*remarks, *(f"{split}: {one.count} of {one.of} {one.what} cannot be used" for split, one in lost)]
    if any(looked_at[split] < len(one) for split, one in found.items()):
        notes.append(f"looked at {sum(looked_at.values())} of them")
    if "train" not in found:
        notes.append("there is no training split")
    details = {"left_out": {split: one.as_dict() for split, one in lost}}
    return Check("frames", counts, problems, "\n".join(notes), details)


class _Look:
    """What was seen so far."""

    def __init__(self, tallies: dict[str, TruthTally | DepthTally]) -> None:
        self.problems: list[str] = []
        self._tallies = tallies
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._content: dict[str, tuple[Split, Path]] = {}

    def frame(self, listing: Listing, split: Split, number: int) -> None:
        """Read a frame."""
        path = listing.image(number)
        try:
            frame: Frame = read_listed(listing, number)
            self._compare(split, path)
        except (EdgeMtlError, OSError) as exc:
            self.problems.append(str(exc))
            return
        self._sizes[frame.size] += 1
        for task, truth in frame.truths.items():
            self._tallies[task].add(truth, split)

    def checks(self, counts: dict[Split, int]) -> tuple[Check, ...]:
        """The lines of images and of each task."""
        common = ", ".join(f"{count} of {height}x{width}" for (height, width), count in self._sizes.most_common(_NAMED))
        more = f" and {len(self._sizes) - _NAMED} other sizes" if len(self._sizes) > _NAMED else ""
        images = Check("images", f"{common}{more}" if common else "none can be read", tuple(self.problems))
        return (images, *(tally.check(counts) for tally in self._tallies.values()))

    def _compare(self, split: Split, path: Path) -> None:
        """The same image in two splits makes held-out figures too good."""
        other_split, other = self._content.setdefault(sha256_file(path), (split, path))
        if other_split != split:
            self.problems.append(f"{path} ({split}) is the same image as {other} ({other_split}); expected each in one split")
