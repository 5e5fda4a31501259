"""Mixtures: whose turn it is, which frames it brings, what a batch of one source has truth of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.frame import Frame
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.datasets.mixture import (
    Mixture,
    MixtureFrames,
    MixtureRequest,
    Turns,
    calibration_shares,
    deployed_source,
    shares,
)
from mtl.datasets.sources import data_set, register
from mtl.settings import DataSettings, SourceSettings, Stage

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, Specs, read_tasks
from tests.synthetic_data import Rectangles

pytestmark = pytest.mark.training

PLAIN = AugmentSettings(mode="none")
LABELS = read_tasks({"things": {"kind": "labels", "classes": ["no", "yes"]}})
DEPTH = read_tasks({"depth": {"kind": "depth"}})


@dataclass(frozen=True)
class Numbered:
    """Frames that are all of one colour, which is their number, with one truth."""

    tasks: Any
    first: int
    count: int

    def open(self, *, workers: int = 1, progress: bool = False) -> Numbered:
        return self

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self.count:
            raise IndexError(index)
        image = np.full((32, 32, 3), self.first + index, np.uint8)
        truths = {"things": np.zeros((32, 32), np.uint8), "depth": np.ones((32, 32), np.float32)}
        return Frame(image, {task: truths[task] for task in self.tasks}, (30.0, 30.0, 15.5, 15.5))


ONE, OTHER = Numbered(LABELS, 0, 3), Numbered(DEPTH, 100, 5)


def plan(**changes: Any) -> BatchPlan:
    return replace(BatchPlan(seed=3, stage=0, size=(32, 32), batch=2, stride=0, augment=PLAIN), **changes)


def batches_of(shares: dict[str, float], **changes: Any) -> StepBatches:
    return StepBatches(MixtureRequest((("one", ONE), ("other", OTHER)), tuple(shares.items())), plan(**changes))


class TestTurns:
    @given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=5), st.integers(1, 300))
    def test_every_source_has_its_share_to_within_a_batch_at_every_step(self, ratios: list[float], steps: int) -> None:
        names = [f"s{number}" for number in range(len(ratios))]
        turns = Turns(dict(zip(names, ratios, strict=True)))
        had = Counter[str]()
        for step in range(steps):
            name, before = turns.at(step)
            assert before == had[name]
            had[name] += 1
            for other, ratio in zip(names, ratios, strict=True):
                assert had[other] <= (step + 1) * ratio / sum(ratios) + 1
        least = min(had[name] - steps * ratio / sum(ratios) for name, ratio in zip(names, ratios, strict=True))
        assert least > -len(ratios)

    def test_one_to_three(self) -> None:
        turns = Turns({"a": 1, "b": 3})
        assert [turns.at(step)[0] for step in range(8)] == ["b", "a", "b", "b", "b", "a", "b", "b"]

    def test_a_step_has_the_same_turn_however_it_is_reached(self) -> None:
        walked = Turns({"a": 0.3, "b": 0.7, "c": 0.41})
        every = [walked.at(step) for step in range(100)]
        assert [Turns({"a": 0.3, "b": 0.7, "c": 0.41}).at(step) for step in (99, 17, 0)] == [every[99], every[17], every[0]]


class TestSettings:
    def test_a_stage_may_change_ratios_and_leave_sources_out(self) -> None:
        data = DataSettings(sources={"b": SourceSettings(ratio=2.0), "a": SourceSettings()})
        stage = Stage(height=32, width=32)
        assert list(shares(data, stage).items()) == [("a", 1.0), ("b", 2.0)]
        assert shares(data, replace(stage, ratios={"b": 0.0})) == {"a": 1.0}
        assert shares(DataSettings(), stage) == {}

    def test_calibration_follows_the_ratios_of_the_sources(self) -> None:
        data = DataSettings(
            sources={"b": SourceSettings(ratio=4.0), "a": SourceSettings(ratio=1.0), "c": SourceSettings(ratio=0)}
        )
        assert calibration_shares(data) == {"a": 1.0, "b": 4.0}
        none = {"b": SourceSettings(ratio=0), "a": SourceSettings(ratio=0)}
        assert calibration_shares(DataSettings(sources=none)) == {"a": 1.0, "b": 1.0}
        assert calibration_shares(DataSettings()) == {}

    def test_the_deployed_source_is_the_named_one_or_that_of_the_largest_ratio(self) -> None:
        data = DataSettings(sources={"b": SourceSettings(), "a": SourceSettings(), "c": SourceSettings(ratio=0.5)})
        stage = Stage(height=32, width=32)
        assert deployed_source(data, stage) == "a"
        assert deployed_source(data, replace(stage, ratios={"c": 2.0})) == "c"
        assert deployed_source(replace(data, deploy_source="b"), replace(stage, ratios={"c": 2.0})) == "b"


class TestTasks:
    @staticmethod
    def mixture(**tasks: Specs) -> tuple[Mixture, DataSettings]:
        class Fixed(Rectangles):
            def tasks(self, data: DataSettings) -> Specs:
                return tasks[self.name]

        data = DataSettings(sources={name: SourceSettings(kind=name) for name in tasks})
        return Mixture(data, {name: Fixed(name, ()) for name in tasks}), data

    def test_they_are_those_of_all_sources(self) -> None:
        mixture, data = self.mixture(yard=DEPTH, rooms=NYU_TASKS, hall=LABELS)
        assert set(mixture.tasks(data)) == {"segmentation", "depth", "normals", "things"}
        assert mixture.tasks_by_source()["hall"] == LABELS

    def test_one_name_for_two_meanings_is_refused_with_both(self) -> None:
        other = read_tasks({"things": {"kind": "labels", "classes": ["no", "yes", "perhaps"]}})
        mixture, data = self.mixture(yard=other, hall=LABELS)
        with pytest.raises(BuildError, match=r"things is not the same in data\.sources\.hall .* and in data\.sources\.yard .*"):
            mixture.tasks(data)

    def test_depth_is_one_task_whatever_its_range_and_colours_may_be_given_by_one(self) -> None:
        colours = read_tasks({"things": {"kind": "labels", "classes": ["no", "yes"], "colours": [[0, 0, 0], [9, 9, 9]]}})
        far = read_tasks({"depth": {"kind": "depth", "range_m": [0.3, 40.0]}})
        mixture, data = self.mixture(yard={**far, **LABELS}, rooms=NYU_TASKS, hall=colours)
        found = mixture.tasks(data)
        assert found["depth"].range_m == (0.0, 40.0)  # type: ignore[attr-defined]
        assert found["things"] == colours["things"]

    def test_one_name_for_two_kinds_is_refused(self) -> None:
        mixture, data = self.mixture(yard=DEPTH, hall=read_tasks({"depth": {"kind": "labels", "classes": ["near", "far"]}}))
        with pytest.raises(BuildError, match=r"hall \(kind labels, classes .*yard \(kind depth"):
            mixture.tasks(data)

    def test_provenance_has_every_source(self) -> None:
        mixture, data = self.mixture(yard=DEPTH, hall=LABELS)
        assert mixture.title(data) == "hall: coloured rectangles; yard: coloured rectangles"
        assert "hall: drawn by a test" in mixture.licence(data)
        assert [settings.kind for _, settings in mixture.parts(data)] == ["hall", "yard"]
        assert mixture.redistributable(data)
        sets = {"hall": Rectangles("hall", ()), "yard": Rectangles("yard", (), free=False)}
        assert not Mixture(data, sets).redistributable(data)

    def test_an_unknown_kind_is_named_with_its_source(self) -> None:
        with pytest.raises(BuildError, match=r"data\.sources\.hall: data\.kind should be one of .* found 'smoke'"):
            data_set(DataSettings(sources={"hall": SourceSettings(kind="smoke")}))


class TestFrames:
    def test_the_first_frames_are_of_all_sources_in_proportion(self) -> None:
        frames = MixtureFrames({"one": Numbered(LABELS, 0, 4), "other": Numbered(DEPTH, 100, 12)}, {})
        assert len(frames) == 16
        colours = [int(frames[index].image[0, 0, 0]) for index in range(16)]
        assert sorted(colours) == [0, 1, 2, 3, *range(100, 112)]
        for first in (4, 8, 12):
            assert sum(colour < 100 for colour in colours[:first]) == first // 4

    def test_what_a_frame_has_truth_of_is_known_without_opening_it(self) -> None:
        @dataclass(frozen=True)
        class Listed(Numbered):
            def known(self, index: int) -> frozenset[str]:
                return frozenset(["things"] if index else [])

        frames = MixtureFrames({"one": Listed({**LABELS, **DEPTH}, 0, 2), "other": Numbered(DEPTH, 100, 2)}, {})
        found = [(int(frames[index].image[0, 0, 0]), set(frames.known(index))) for index in range(4)]
        assert sorted(found, key=lambda pair: pair[0]) == [(0, set()), (1, {"things"}), (100, {"depth"}), (101, {"depth"})]

    def test_every_source_knows_its_own_tasks_and_those_of_all(self) -> None:
        frames = MixtureRequest((("one", ONE), ("other", OTHER))).open()
        assert set(frames.tasks) == {"things", "depth"}
        assert (set(frames.sources["one"].tasks), set(frames.sources["one"].own)) == ({"things", "depth"}, {"things"})


class TestBatches:
    def test_a_batch_is_of_one_source_and_has_targets_of_what_that_labels(self) -> None:
        found = batches_of({"one": 1.0, "other": 1.0})
        for step in range(8):
            batch = found[step]
            colours = set(batch.image[:, 0, 0, 0].tolist())
            if batch.source == "one":
                assert (colours <= set(range(3)), set(batch.targets)) == (True, {"things"})
            else:
                assert (colours <= set(range(100, 105)), set(batch.targets)) == (True, {"depth"})

    def test_every_source_goes_through_all_its_frames_before_any_comes_again(self) -> None:
        found = batches_of({"one": 1.0, "other": 3.0})
        seen: dict[str, list[int]] = {"one": [], "other": []}
        for step in range(20):
            batch = found[step]
            seen[batch.source] += batch.image[:, 0, 0, 0].tolist()
        assert (len(seen["one"]), len(seen["other"])) == (10, 30)
        for name, count in (("one", 3), ("other", 5)):
            whole = len(seen[name]) // count * count
            for first in range(0, whole, count):
                assert len(set(seen[name][first : first + count])) == count

    def test_what_a_step_holds_depends_on_its_number_alone(self) -> None:
        walked = batches_of({"one": 1.0, "other": 2.0}, augment=AugmentSettings())
        every = [walked[step] for step in range(7)]
        for step in (6, 2):
            fresh = batches_of({"one": 1.0, "other": 2.0}, augment=AugmentSettings())[step]
            assert fresh.source == every[step].source
            assert np.array_equal(fresh.image.numpy(), every[step].image.numpy())

    def test_processes_have_parts_of_the_same_batch_of_the_same_source(self) -> None:
        shares = {"one": 1.0, "other": 2.0}
        whole, parts = batches_of(shares), [batches_of(shares, part=(rank, 2)) for rank in range(2)]
        for step in range(5):
            own = [part[step] for part in parts]
            assert {batch.source for batch in own} == {whole[step].source}
            assert np.array_equal(np.concatenate([batch.image for batch in own]), whole[step].image)

    def test_a_single_data_set_has_the_batches_that_it_always_had(self) -> None:
        found = StepBatches(OTHER, plan(stage=1))
        order = np.random.default_rng([3, 3, 1, 0]).permutation(5)
        assert found[0].image[:, 0, 0, 0].tolist() == [100 + int(index) for index in order[:2]]
        assert found[0].source == ""

    def test_a_batch_without_any_truth_of_a_task_has_no_target_of_it(self) -> None:
        @dataclass(frozen=True)
        class Half(Numbered):
            def __getitem__(self, index: int) -> Frame:
                frame = super().__getitem__(index)
                return frame if index % 2 else replace(frame, truths={"things": frame.truths["things"]})

        found = StepBatches(Half({**LABELS, **DEPTH}, 0, 8), plan())
        told = [
            (set(batch.targets), set((batch.image[:, 0, 0, 0] % 2).tolist())) for batch in map(found.__getitem__, range(20))
        ]
        assert all(("depth" in targets) == (1 in parities) for targets, parities in told)
        assert {"depth" in targets for targets, _ in told} == {True, False}


def test_a_pass_is_as_many_frames_as_all_sources_have() -> None:
    register(named := Rectangles("rectangles-of-a-pass", ("things",)))
    sources = {name: SourceSettings(kind=named.name, train=count) for name, count in (("a", 10), ("b", 30))}
    data = DataSettings(sources=sources)
    assert data_set(data).train_count(data) == 40
    assert data_set(data).counts(data) == "a: 10 training; b: 30 training"
