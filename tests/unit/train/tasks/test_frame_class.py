"""The class of a frame in training: cross-entropy, frames without one, weights of rare ones, teachers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mtl.datasets.frame import Frame
from mtl.settings import LossSettings
from mtl.tasks import LossTerms, head_of
from mtl.tasks.frame_class import frame_weights
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import ClassScores, ClassSpec, Specs

pytestmark = pytest.mark.training

SPEC = ClassSpec("scene", "class", ("kitchen", "office", "bedroom"))
HEAD = head_of(SPEC)
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [1.0, 3.0, 0.0]])
TERMS = LossTerms(LossSettings(), 4)


class Frames:
    """Frames of these classes; None for one without."""

    def __init__(self, *classes: int | None) -> None:
        self.tasks: Specs = {"scene": SPEC}
        self._classes = classes

    def __len__(self) -> int:
        return len(self._classes)

    def __getitem__(self, index: int) -> Frame:
        one = self._classes[index]
        return Frame(np.zeros((4, 4, 3), np.uint8), {} if one is None else {"scene": one}, (1.0, 1.0, 0.0, 0.0))


def test_the_loss_is_the_mean_over_frames_with_a_class() -> None:
    target = HEAD.collate(SPEC, [0, None, 2])
    np.testing.assert_array_equal(target, [0, -1, 2])
    each = [math.log(sum(math.exp(v) for v in LOGITS[row].tolist())) - float(LOGITS[row, c]) for row, c in ((0, 0), (2, 2))]
    assert float(HEAD.loss(SPEC, LOGITS, target, TERMS)) == pytest.approx(sum(each) / 2, rel=1e-6)
    assert float(HEAD.count(SPEC, target, TERMS)) == 2.0


def test_a_batch_without_any_class_has_a_loss_of_0_with_a_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = HEAD.loss(SPEC, logits, torch.full((3,), -1), TERMS)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None


def test_smoothing_and_weights_are_those_of_torch() -> None:
    weights = torch.tensor([0.5, 1.0, 2.0])
    target = torch.tensor([0, 1, 2])
    terms = LossTerms(LossSettings(label_smoothing=0.1), 4, None, weights)
    expected = F.cross_entropy(LOGITS, target, weight=weights, label_smoothing=0.1)
    torch.testing.assert_close(HEAD.loss(SPEC, LOGITS, target, terms), expected)
    assert float(HEAD.count(SPEC, target, terms)) == pytest.approx(3.5)


def test_rare_classes_count_for_more_and_a_frame_for_1_on_average() -> None:
    weights = frame_weights(SPEC, Frames(0, 0, 0, 1, None))
    assert float(weights[1] / weights[0]) == pytest.approx(math.sqrt(3))
    assert float(weights[0] * 0.75 + weights[1] * 0.25) == pytest.approx(1.0)
    with pytest.raises(BuildError, match="no training frame has a scene"):
        frame_weights(SPEC, Frames(None, None))
    assert HEAD.balance(SPEC, lambda: Frames(0), LossSettings(class_weights=False)) is None


@pytest.mark.parametrize(("rows", "expected"), [(1, 0), (3, 2)])
def test_the_frame_that_most_pixels_are_of_names_the_class(rows: int, expected: int) -> None:
    mask = np.zeros((4, 6), bool)
    mask[:rows] = True
    assert HEAD.pasted(SPEC, 0, 2, mask) == expected
    assert HEAD.pasted(SPEC, None, 2, mask) == (2 if rows == 3 else None)


def test_a_teacher_is_learnt_by_kullback_leibler_divergence() -> None:
    other = LOGITS.flip(1)
    expected = F.kl_div(LOGITS.log_softmax(1), other.softmax(1), reduction="batchmean")
    torch.testing.assert_close(HEAD.distance(SPEC, LOGITS, other, LossSettings()), expected)
    assert float(HEAD.distance(SPEC, LOGITS, LOGITS, LossSettings())) == pytest.approx(0.0, abs=1e-7)
    warm = HEAD.softened(SPEC, LOGITS, other, LossSettings(), temperature=2.0)
    expected = 4 * F.kl_div((LOGITS / 2).log_softmax(1), (other / 2).softmax(1), reduction="batchmean")
    torch.testing.assert_close(warm, expected)


def test_an_answer_becomes_probabilities() -> None:
    camera = (1.0, 1.0, 0.0, 0.0)
    result = HEAD.result(SPEC, LOGITS[:1], (32, 32), seen_by=camera, camera=camera)
    assert isinstance(result, ClassScores)
    np.testing.assert_allclose(result.probabilities, LOGITS[0].softmax(0).numpy(), rtol=1e-6)
    assert HEAD.as_truth(result) == 0
    assert HEAD.paint(SPEC, np.zeros((32, 64, 3), np.uint8), 1).any()
