"""Which frames travel in a bundle: evenly spaced, and enough with the truth of every task."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from mtl.bundle_frames import calibration_choice, labelled_spread, spread
from mtl.datasets.mixture import MixtureFrames

from edge_mtl.tasks import NYU_TASKS


class Frames:
    """Frames that know the tasks they have truths of; nothing else is asked."""

    tasks = NYU_TASKS

    def __init__(self, known: Mapping[int, set[str]], count: int) -> None:
        self._known, self._count = known, count

    def __len__(self) -> int:
        return self._count

    def known(self, index: int) -> frozenset[str]:
        return frozenset(self._known.get(index, ()))


class Others:
    """Frames that say nothing of their truths."""

    tasks = NYU_TASKS

    def __len__(self) -> int:
        return 100


TASKS = ("segmentation", "depth")


def test_frames_with_all_truths_are_spread_as_ever() -> None:
    full = Frames({index: set(TASKS) for index in range(100)}, 100)
    for frames in (full, Others()):
        assert labelled_spread(frames, TASKS, 24, 97) == spread(24, 97)  # type: ignore[arg-type]


def test_a_task_with_few_truths_is_measured_too() -> None:
    """Spread alone would take frames 0, 25, 50 and 75, none of which has depth."""
    known = {index: {"segmentation"} for index in range(100)} | {3: {"segmentation", "depth"}, 61: {"depth"}}
    chosen = labelled_spread(Frames(known, 100), TASKS, 4, 100)  # type: ignore[arg-type]
    assert {3, 61} <= set(chosen)
    assert len(chosen) == 4
    assert sorted(chosen) == chosen


def test_frames_without_truth_are_left_out() -> None:
    known = {index: {"segmentation"} for index in range(0, 100, 10)}
    assert labelled_spread(Frames(known, 100), TASKS, 24, 95) == list(range(0, 95, 10))  # type: ignore[arg-type]
    assert labelled_spread(Frames(known, 100), ("depth",), 24, 95) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 5, 16])
def test_few_frames_of_many_come_from_everywhere(count: int) -> None:
    known = {index: {"segmentation"} for index in range(0, 256)} | {255: {"depth"}}
    chosen = labelled_spread(Frames(known, 256), ("segmentation",), count, 256)  # type: ignore[arg-type]
    assert len(chosen) == count
    gaps = [after - before for before, after in zip(chosen, [*chosen[1:], 256], strict=True)]
    assert max(gaps) <= 2 * 256 / count


class TestCalibration:
    def test_frames_of_one_data_set_are_spread(self) -> None:
        assert calibration_choice(Others(), 8, {}) == (spread(8, 100), {})  # type: ignore[arg-type]

    def test_of_a_mixture_ratios_decide_and_not_how_many_frames_a_source_has(self) -> None:
        sources = {"nyu": Frames({}, 60), "rooms": Frames({}, 900)}
        mixture = MixtureFrames(sources, {})  # type: ignore[arg-type]
        chosen, by_source = calibration_choice(mixture, 10, {"nyu": 4.0, "rooms": 1.0})
        assert by_source == {"nyu": 8, "rooms": 2}
        assert chosen == sorted(set(chosen))
        own = {name: mixture.numbers_of(name) for name in sources}
        assert [own["nyu"].index(number) for number in chosen if number in own["nyu"]] == spread(8, 60)
        assert [own["rooms"].index(number) for number in chosen if number in own["rooms"]] == spread(2, 900)
        assert sorted(own["nyu"] + own["rooms"]) == list(range(960))

    def test_a_source_with_too_few_frames_gives_all_of_them(self) -> None:
        mixture = MixtureFrames({"few": Frames({}, 2), "many": Frames({}, 50)}, {})  # type: ignore[arg-type]
        chosen, by_source = calibration_choice(mixture, 12, {"few": 1.0, "many": 1.0})
        assert by_source == {"few": 2, "many": 6}
        assert len(chosen) == 8
