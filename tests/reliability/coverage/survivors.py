"""survivors.toml: the mutants that no test can or need tell from the original, each with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.documents import parse_toml
from tests.reliability.coverage.mutants import Mutant

__all__ = ["SURVIVORS", "Explanation", "judge", "read_explanations"]

SURVIVORS = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a mutant may survive.

    Attributes:
        module: "bundle", "store" or "frames".
        file, within, change: as of `Mutant`; several lines with "+" are as many mutants with the one reason.
        why: it is equivalent, or acceptable.
    """

    module: str
    file: str
    within: str
    change: str
    why: str

    @property
    def keys(self) -> tuple[tuple[str, str, str], ...]:
        """As of the mutants."""
        lines = self.change.splitlines()
        taken = [line for line in lines if not line.startswith("+")]
        put = [line for line in lines if line.startswith("+")]
        return tuple((self.file, self.within, "\n".join([*taken, *each])) for each in ([one] for one in put)) or (
            (self.file, self.within, self.change),
        )

    def __str__(self) -> str:
        return _shown(self.file, self.within, self.change)


def read_explanations(path: Path = SURVIVORS) -> tuple[Explanation, ...]:
    """All entries. Raises ValueError where one lacks something, is there twice or gives no reason."""
    found = []
    for entry in parse_toml(path.read_text(encoding="utf-8")).get("survivor", []):
        if set(entry) != set(Explanation.__slots__) or not all(isinstance(value, str) for value in entry.values()):
            raise ValueError(f"{path.name}: an entry should have {', '.join(Explanation.__slots__)}; found {sorted(entry)}")
        one = Explanation(**{**entry, "change": entry["change"].strip()})
        if len(one.why.split()) < 4:
            raise ValueError(f"{path.name}: {one} should say why in a sentence; found {one.why!r}")
        found.append(one)
    counted = Counter(key for one in found for key in one.keys)
    twice = [_shown(*key) for key, count in counted.items() if count > 1]
    if twice:
        raise ValueError(f"{path.name}: explained twice: {'; '.join(twice)}")
    return tuple(found)


def judge(survived: Sequence[Mutant], killed: Iterable[Mutant], explanations: Sequence[Explanation]) -> list[str]:
    """What is wrong: survivors without an explanation, and explanations without a survivor, a line each.

    Args:
        explanations: those of the files that were tried.
    """
    alive, dead = {one.key for one in survived}, {one.key for one in killed}
    explained = {key for one in explanations for key in one.keys}
    found = [f"{one}: survived, and {SURVIVORS.name} does not say why" for one in survived if one.key not in explained]
    for key in sorted(explained - alive):
        now = "is killed by a test now" if key in dead else "is no mutant of this file any more"
        found.append(f"{_shown(*key)}: {SURVIVORS.name} explains it, and it {now}: take the entry out")
    return found


def _shown(file: str, within: str, change: str) -> str:
    return f"{file} {within}: {' '.join(change.splitlines())}"
