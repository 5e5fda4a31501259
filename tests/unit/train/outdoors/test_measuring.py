"""Measuring a domain: the figures of train/evaluate.py, and AUROC, ECE and intervals of the same pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtl.datasets.frame import Frame
from mtl.datasets.streets import render_street
from mtl.datasets.streets.tasks import STREET_TASKS
from mtl.evaluate import evaluate_fully
from mtl.evaluation_targets import EvaluationTarget
from mtl.outdoors.measuring import FAR_OFF, DomainMeasures, headline_keys, measure_domain, pooled
from mtl.outdoors.statistics import auroc, draws, interval
from mtl.settings import DataSettings

from edge_mtl.errors import BuildError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import NYU_TASKS, DepthMap, LabelMap, NormalMap, Specs
from edge_mtl.tasks.consistency import depth_normal_angle

pytestmark = pytest.mark.training

SIZE = (32, 64)
NAMES = ("drivable", "depth", "segmentation", "normals")
TASKS: Specs = {name: STREET_TASKS[name] for name in NAMES}


@dataclass
class Frames:
    """Streets without a disk."""

    every: list[Frame]
    tasks: Specs

    def __len__(self) -> int:
        return len(self.every)

    def __getitem__(self, index: int) -> Frame:
        return self.every[index]


class Guesses:
    """Answers that are right the more often the surer they are; the same for the same image."""

    def results(self, image: np.ndarray, intrinsics: Any) -> dict[str, Any]:
        rng = np.random.default_rng(int(image.astype(np.int64).sum()))
        truths = SEEN[image.tobytes()]
        found: dict[str, Any] = {}
        for name in ("drivable", "segmentation"):
            spec, truth = TASKS[name], truths[name]
            sure = rng.uniform(0.3, 1.0, SIZE).astype(np.float32)
            wrong = rng.random(SIZE) > sure
            labels = np.where(wrong, (truth + 1) % len(spec.classes), truth).astype(np.uint8)
            found[name] = LabelMap(spec, labels, lambda sure=sure: sure)
        depth = np.maximum(truths["depth"], 1) * np.exp(rng.normal(0, 0.3, SIZE))
        found["depth"] = DepthMap(TASKS["depth"], depth.astype(np.float32))
        normals = truths["normals"] + rng.normal(0, 0.3, (*SIZE, 3))
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        found["normals"] = NormalMap(TASKS["normals"], normals.astype(np.float32))
        return found


SEEN: dict[bytes, dict[str, np.ndarray]] = {}


@pytest.fixture(scope="module")
def frames() -> Frames:
    every = []
    for seed in range(4):
        street = render_street(seed, *SIZE)
        truths = {
            "drivable": street.drivable,
            "depth": street.depth_m,
            "segmentation": street.label,
            "normals": street.normals,
        }
        every.append(Frame(street.image, truths, street.intrinsics))
        SEEN[street.image.tobytes()] = truths
    return Frames(every, TASKS)


@pytest.fixture(scope="module")
def target() -> EvaluationTarget:
    return EvaluationTarget(Path("none"), "", Guesses(), SIZE, TASKS, DataSettings())


@pytest.fixture(scope="module")
def measured(frames: Frames, target: EvaluationTarget) -> DomainMeasures:
    return measure_domain(target, frames)


def test_measures_are_those_of_the_evaluator(frames, target, measured):
    found = evaluate_fully(target.predict, frames, TASKS, size=SIZE)
    assert measured.measures == found.measures
    assert measured.details == found.details
    assert (measured.frames, measured.tasks) == (4, NAMES)


def test_all_frames_once_are_the_measures_and_the_calibration_errors(measured):
    values = measured.resampled(np.ones((1, 4)))
    for key in ("drivable.miou", "segmentation.miou", "depth_rel", "normal_mean_deg"):
        assert values[key][0] == pytest.approx(measured.measures[key]), key
    for task in ("drivable", "segmentation"):
        assert values[f"{task}.ece"][0] == pytest.approx(measured.details[f"{task}.ece"])
        assert values[f"{task}.wrong"][0] == pytest.approx(1 - measured.measures[f"{task}.pixel_accuracy"])


def test_auroc_in_bins_is_that_of_the_pixels(frames, measured):
    values = measured.resampled(np.ones((1, 4)))
    doubts, wrongs, angles, offs = [], [], [], []
    for frame in frames.every:
        found = Guesses().results(frame.image, frame.intrinsics)
        doubts.append(1 - found["drivable"].confidence.ravel())
        wrongs.append((found["drivable"].labels != frame.truths["drivable"]).ravel())
        depth, truth = found["depth"].depth_m, frame.truths["depth"]
        angle = depth_normal_angle(depth, found["normals"].normals, Intrinsics.of(frame.intrinsics))
        known = (truth > 0) & np.isfinite(angle)
        angles.append(angle[known])
        offs.append((np.abs(depth - truth) / np.maximum(truth, 1e-6) > FAR_OFF)[known])
    told, off = np.concatenate(wrongs), np.concatenate(offs)
    assert values["drivable.auroc"][0] == pytest.approx(auroc(np.concatenate(doubts), told), abs=1e-3)
    assert values["drivable.auroc"][0] > 0.6
    assert values["depth.auroc"][0] == pytest.approx(auroc(np.concatenate(angles), off), abs=2e-3)
    assert values["depth.far_off"][0] == pytest.approx(off.mean())
    assert values["depth.angle"][0] == pytest.approx(np.concatenate(angles).mean(), abs=0.2)


def test_a_frame_drawn_twice_counts_twice(frames, target, measured):
    twice = measure_domain(target, Frames([frames.every[0], frames.every[0], frames.every[2]], TASKS))
    values, drawn = twice.resampled(np.ones((1, 3))), measured.resampled(np.array([[2.0, 0.0, 1.0, 0.0]]))
    assert values.keys() == drawn.keys()
    for key, value in values.items():
        assert value[0] == pytest.approx(drawn[key][0]), key


def test_domains_together_draw_a_street_in_all_of_them(frames, target, measured):
    both = pooled([measured, measured])
    weights = draws(4, count=20)
    alone, together = measured.resampled(weights), both.resampled(weights)
    for key, value in alone.items():
        np.testing.assert_allclose(together[key], value, err_msg=key)
    found = interval(together["depth_rel"])
    assert found.low <= found.value <= found.high


def test_tasks_stand_for_themselves_by_what_tables_show(measured):
    assert headline_keys(measured) == {
        "drivable": "drivable.miou",
        "depth": "depth_rel",
        "segmentation": "segmentation.miou",
        "normals": "normal_mean_deg",
    }


def test_reliability_is_of_all_frames(measured):
    confidence, right, share = measured.reliability_curve("drivable")
    known = share > 0
    assert share.sum() == pytest.approx(1)
    assert np.abs(confidence - right)[known & (share > 0.02)].max() < 0.1  # as sure as it is right, by the way it guesses


def test_only_what_is_asked_for_and_means_the_same_is_measured(frames, target):
    assert measure_domain(target, frames, only=("depth", "normals")).tasks == ("depth", "normals")
    rooms = Frames(frames.every, NYU_TASKS)
    assert measure_domain(target, rooms).tasks == ("depth", "normals")  # classes of rooms are others
    with pytest.raises(BuildError, match="other classes"):
        measure_domain(target, Frames(frames.every, {"segmentation": NYU_TASKS["segmentation"]}))
