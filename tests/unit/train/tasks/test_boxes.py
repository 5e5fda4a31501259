"""Boxes in training: which cell answers for which box, losses by hand, and what a view leaves of boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mtl.datasets.augment import View, apply_view
from mtl.datasets.frame import Batch, Frame
from mtl.losses import MultiTaskLoss
from mtl.microbatches import part_factors, split
from mtl.settings import LossSettings
from mtl.tasks import LossTerms, head_of
from mtl.tasks.box_losses import overlaps, quality_focal
from mtl.tasks.box_targets import BACKGROUND, IGNORED, SeenBoxes, assigned, centres, farthest
from mtl.tasks.box_views import pasted_boxes

from edge_mtl.tasks import Boxes, BoxesSpec, BoxTruth

pytestmark = pytest.mark.training

SPEC = BoxesSpec("objects", "boxes", ("cup", "plate", "jug"))
HEAD = head_of(SPEC)
SIZE = (288, 384)
TERMS = LossTerms(LossSettings(), 4)
CELLS = 36 * 48 + 18 * 24 + 9 * 12


def truth_of(*boxes: tuple[float, ...], crowd: tuple[int, ...] = (), size: tuple[int, int] = SIZE) -> SeenBoxes:
    """Boxes (class, left, top, right, bottom)."""
    array = np.array(boxes, np.float32).reshape(-1, 5)
    marks = np.isin(np.arange(len(array)), crowd)
    return SeenBoxes(array[:, 1:], array[:, 0].astype(np.int64), marks, size)


def answer_for(target: torch.Tensor, size: tuple[int, int] = SIZE, *, sure: float = 12.0) -> dict[str, list[torch.Tensor]]:
    """What a network says that has learnt a target (B, cells, 5)."""
    count = len(target)
    scores = torch.full((*target.shape[:2], 3), -sure)
    for index in (target[..., 0] >= 0).nonzero():
        scores[(*index, target[(*index, 0)].long())] = sure
    parts: dict[str, list[torch.Tensor]] = {"scores": [], "boxes": []}
    first = 0
    for level in SPEC.levels:
        grid = (size[0] // level, size[1] // level)
        cut = slice(first, first + grid[0] * grid[1])
        for name, every in (("scores", scores), ("boxes", target[..., 1:])):
            parts[name].append(every[:, cut].transpose(1, 2).reshape(count, -1, *grid).clone())
        first = cut.stop
    return parts


class TestAssignment:
    def test_cells_of_the_centre_of_a_box_answer_for_it_and_only_on_its_level(self) -> None:
        target = assigned(truth_of((1, 99.5, 99.5, 131.5, 131.5)), SPEC.levels, SIZE)
        assert target.shape == (CELLS, 5)
        answers = np.flatnonzero(target[:, 0] >= 0)
        assert set(target[answers, 0]) == {1.0}
        assert answers.max() < 36 * 48, "a box of 32 pixels is of the finest level"
        middle = centres(8, SIZE)[answers]
        assert np.abs(middle - 115.5).max() == 8.0
        assert len(answers) == 9, "115.5 is the centre of a cell: 8 pixels away is within 1.5 strides, 16 is not"

    def test_distances_are_in_strides_and_lead_back_to_the_box(self) -> None:
        box = (2, 40.0, 30.0, 340.0, 260.0)
        target = assigned(truth_of(box), SPEC.levels, SIZE)
        answers = np.flatnonzero(target[:, 0] >= 0)
        assert answers.min() >= 36 * 48 + 18 * 24, "its farthest side is 150 pixels away"
        middle = centres(32, SIZE)[answers - 36 * 48 - 18 * 24]
        sides = target[answers, 1:] * 32
        np.testing.assert_allclose(middle - sides[:, :2], [box[1:3]] * len(answers), atol=1e-3)
        np.testing.assert_allclose(middle + sides[:, 2:], [box[3:]] * len(answers), atol=1e-3)

    def test_the_smallest_of_several_boxes_wins(self) -> None:
        large, small = (0, 80.0, 80.0, 140.0, 140.0), (1, 95.0, 95.0, 125.0, 125.0)
        for order in ((large, small), (small, large)):
            target = assigned(truth_of(*order), SPEC.levels, SIZE)
            index = int(np.abs(centres(8, SIZE) - 110).max(axis=1).argmin())
            assert target[index, 0] == 1

    def test_levels_are_for_sizes_that_grow_with_the_image(self) -> None:
        assert farthest((8, 16, 32), SIZE) == ((0.0, 48.0), (48.0, 112.0), (112.0, float("inf")))
        assert farthest((8, 16, 32), (576, 768))[1] == (96.0, 224.0)

    @pytest.mark.parametrize("size", [(2, 2), (4, 4), (8, 150), (8, 250), (20, 250), (150, 10), (250, 8), (3, 380)])
    def test_every_box_has_a_cell_however_small_or_thin(self, size: tuple[int, int]) -> None:
        rng = np.random.default_rng(size[0] * 1000 + size[1])
        for _ in range(40):
            left, top = rng.uniform(-0.5, SIZE[1] - size[0] - 0.5), rng.uniform(-0.5, max(0.0, SIZE[0] - size[1]) - 0.5)
            target = assigned(truth_of((1, left, top, left + size[0], min(top + size[1], SIZE[0] - 0.5))), SPEC.levels, SIZE)
            answers = target[target[:, 0] >= 0]
            assert len(answers) > 0
            assert (answers[:, 1:] >= 0).all()

    def test_a_box_between_cells_has_the_nearest_one_which_does_not_reach_beyond_it(self) -> None:
        tiny = (2, 100.5, 60.5, 102.5, 62.5)  # cells of the finest level are at 99.5, 107.5 and 59.5, 67.5
        target = assigned(truth_of(tiny), SPEC.levels, SIZE)
        (answer,) = np.flatnonzero(target[:, 0] >= 0)
        np.testing.assert_array_equal(centres(8, SIZE)[answer], [99.5, 59.5])
        np.testing.assert_allclose(target[answer], [2, 0, 0, 3 / 8, 3 / 8])

    def test_a_thin_box_has_a_cell_inside_of_a_finer_level(self) -> None:
        target = assigned(truth_of((0, 96.0, 20.0, 102.0, 260.0)), SPEC.levels, SIZE)  # no cell of stride 32 or 16 is inside
        (answer,) = np.flatnonzero(target[:, 0] >= 0)
        np.testing.assert_array_equal(centres(8, SIZE)[answer], [99.5, 139.5])

    def test_a_box_without_a_cell_takes_none_from_a_smaller_one(self) -> None:
        small, tiny = (0, 95.5, 55.5, 103.5, 63.5), (1, 100.5, 60.5, 102.5, 62.5)
        larger = (2, 80.0, 40.0, 140.0, 100.0)
        for others, expected in (((small,), 1), ((larger,), 1), ((small, larger), 1)):
            target = assigned(truth_of(*others, tiny), SPEC.levels, SIZE)
            index = int(np.abs(centres(8, SIZE) - (99.5, 59.5)).max(axis=1).argmin())
            assert target[index, 0] == expected
        thin = (2, 99.0, 20.0, 100.0, 100.0)  # its area is 80, that of small 64
        target = assigned(truth_of(small, thin), SPEC.levels, SIZE)
        assert target[index, 0] == 0

    def test_crowds_and_frames_without_truth_take_part_in_nothing(self) -> None:
        region, inside = (0, 10.0, 10.0, 200.0, 200.0), (1, 99.5, 99.5, 131.5, 131.5)
        target = assigned(truth_of(region, inside, crowd=(0,)), SPEC.levels, SIZE)
        finest = target[: 36 * 48]
        within = ((centres(8, SIZE) > 10) & (centres(8, SIZE) < 200)).all(axis=1)
        assert set(finest[within, 0]) == {float(IGNORED), 1.0}
        assert set(finest[~within, 0]) == {float(BACKGROUND)}
        assert set(assigned(None, SPEC.levels, SIZE)[:, 0]) == {float(IGNORED)}
        assert set(assigned(truth_of(), SPEC.levels, SIZE)[:, 0]) == {float(BACKGROUND)}


class TestLosses:
    def test_quality_focal_loss(self) -> None:
        found = quality_focal(torch.tensor([0.0, 2.0, -3.0]), torch.tensor([0.8, 0.0, 0.3]))
        torch.testing.assert_close(found, torch.tensor([0.0623832, 1.6500781, 0.0605139]), atol=1e-6, rtol=0)

    def test_overlaps_of_boxes_around_a_point(self) -> None:
        """[0, 0, 2, 2] with [1, 1, 3, 3] from (1.5, 1.5), and with [4, 0, 6, 2] from (3, 1), outside of both."""
        one = torch.tensor([[1.5, 1.5, 0.5, 0.5], [3.0, 1.0, -1.0, 1.0]])
        other = torch.tensor([[0.5, 0.5, 1.5, 1.5], [-1.0, 1.0, 3.0, 1.0]])
        share, generalised = overlaps(one, other)
        torch.testing.assert_close(share, torch.tensor([1 / 7, 0.0]), atol=1e-6, rtol=0)
        torch.testing.assert_close(generalised, torch.tensor([-0.0793651, -1 / 3]), atol=1e-6, rtol=0)

    def test_the_loss_is_that_of_a_slow_reference(self) -> None:
        draws = torch.Generator().manual_seed(0)
        truths = [truth_of((1, 99.5, 99.5, 131.5, 131.5), (0, 20.0, 30.0, 180.0, 150.0)), truth_of((2, 5, 5, 60, 60))]
        target = HEAD.collate(SPEC, truths)
        grids = [(SIZE[0] // level, SIZE[1] // level) for level in SPEC.levels]
        answer = {
            "scores": [torch.randn(2, 3, *grid, generator=draws) for grid in grids],
            "boxes": [torch.rand(2, 4, *grid, generator=draws) * 4 for grid in grids],
        }
        focal, pulls, weights, positives = 0.0, 0.0, 0.0, 0
        for frame in range(2):
            number = 0
            for level, (rows, columns) in enumerate(grids):
                for row in range(rows):
                    for column in range(columns):
                        known = target[frame, number]
                        logits = answer["scores"][level][frame, :, row, column].double()
                        wanted = torch.zeros(3, dtype=torch.float64)
                        if known[0] >= 0:
                            box = answer["boxes"][level][frame, :, row, column]
                            share, generalised = overlaps(box[None].double(), known[None, 1:].double())
                            wanted[int(known[0])] = share[0]
                            pulls += float((1 - generalised) * share.clamp_min(0.1))
                            weights += float(share.clamp_min(0.1))
                            positives += 1
                        focal += float(quality_focal(logits, wanted).sum())
                        number += 1
        expected = focal / positives + 2 * pulls / weights
        assert float(HEAD.loss(SPEC, answer, target, TERMS)) == pytest.approx(expected, rel=1e-4)
        assert int(HEAD.count(SPEC, target, TERMS)) == positives

    def test_what_is_learnt_costs_nothing_and_anything_else_does(self) -> None:
        target = HEAD.collate(SPEC, [truth_of((1, 99.5, 99.5, 131.5, 131.5))])
        right = answer_for(target)
        assert float(HEAD.loss(SPEC, right, target, TERMS)) < 1e-3
        other = answer_for(target)
        other["boxes"][0] += 1.0
        assert float(HEAD.loss(SPEC, other, target, TERMS)) > 0.5
        assert float(HEAD.loss(SPEC, answer_for(HEAD.collate(SPEC, [truth_of()])), target, TERMS)) > 0.5

    def test_cells_that_are_ignored_cost_nothing_and_pull_nowhere(self) -> None:
        target = HEAD.collate(SPEC, [truth_of((0, -0.5, -0.5, 383.5, 287.5), crowd=(0,)), None])
        assert float(target[..., 0].max()) == IGNORED
        answer = answer_for(target, sure=-3.0)
        for one in (*answer["scores"], *answer["boxes"]):
            one.requires_grad_()
        loss = HEAD.loss(SPEC, answer, target, TERMS)
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert not any(bool(one.grad.any()) for one in answer["scores"] if one.grad is not None)
        assert float(HEAD.count(SPEC, target, TERMS)) == 0.0

    def test_parts_of_a_batch_have_the_loss_of_the_whole(self) -> None:
        """Exactly for the scores; boxes are weighed by their overlaps within each part, which are 1 here."""
        truths = [truth_of((1, 99.5, 99.5, 131.5, 131.5)), truth_of((0, 20, 30, 180, 150), (2, 5, 5, 60, 60))]
        target = HEAD.collate(SPEC, truths)
        answer = answer_for(target, sure=1.0)
        loss = MultiTaskLoss(LossSettings(), {"objects": SPEC}, stride=4)
        batch = Batch(torch.zeros(2, *SIZE, 3, dtype=torch.uint8), {"objects": target}, None)
        parts = split(batch, 2)
        counts = [loss.counts(part.targets, device=target.device) for part in parts]
        factors = [part_factors(own, sum(counts, start=torch.zeros(1)), parts=2) for own in counts]
        halves = [
            loss({"objects": {name: [one[number : number + 1] for one in values] for name, values in answer.items()}},
                 part.targets, None)["objects"] * factor
            for number, (part, factor) in enumerate(zip(parts, factors, strict=True))
        ]  # fmt: skip
        whole = loss({"objects": answer}, batch.targets, None)["objects"]
        assert float(sum(halves) / 2) == pytest.approx(float(whole), rel=1e-5)

    def test_a_teacher_that_agrees_costs_nothing(self) -> None:
        target = HEAD.collate(SPEC, [truth_of((1, 99.5, 99.5, 131.5, 131.5))])
        taught, other = answer_for(target, sure=3.0), answer_for(HEAD.collate(SPEC, [truth_of()]), sure=3.0)
        assert float(HEAD.distance(SPEC, taught, taught, LossSettings())) == pytest.approx(0.0, abs=1e-5)
        assert float(HEAD.distance(SPEC, other, taught, LossSettings())) > 1.0
        moved = {**taught, "boxes": [one + 0.5 for one in taught["boxes"]]}
        assert float(HEAD.distance(SPEC, moved, taught, LossSettings())) > 0.1

    def test_a_part_without_truth_has_a_loss_of_nothing_that_depends_on_the_answer(self) -> None:
        answer = answer_for(HEAD.collate(SPEC, [truth_of()]))
        leaf = answer["scores"][0].requires_grad_()
        loss = HEAD.nothing(answer)
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert leaf.grad is not None


class TestViews:
    SMALL = (64, 96)
    FRAME = Frame(
        np.zeros((64, 96, 3), np.uint8),
        {"objects": BoxTruth(
            np.array([[9.5, 9.5, 29.5, 19.5], [-0.5, -0.5, 95.5, 63.5], [88.5, 20.5, 95.5, 40.5]], np.float32),
            np.array([0, 1, 2]), np.array([False, True, False]),
        )},
        (88.0, 88.0, 47.5, 31.5),
    )  # fmt: skip

    def seen(self, view: View, size: tuple[int, int] = SMALL) -> SeenBoxes:
        found = apply_view(self.FRAME, view, {"objects": SPEC}, size=size).truths["objects"]
        assert isinstance(found, SeenBoxes)
        return found

    def test_the_whole_frame_at_twice_the_size(self) -> None:
        found = self.seen(View((0, 0, 64, 96)), (128, 192))
        np.testing.assert_allclose(found.xyxy[0], [19.5, 19.5, 59.5, 39.5])
        np.testing.assert_allclose(found.xyxy[1], [-0.5, -0.5, 191.5, 127.5])
        assert found.size == (128, 192)

    def test_a_mirror_turns_left_and_right(self) -> None:
        found = self.seen(View((0, 0, 64, 96), mirrored=True))
        np.testing.assert_allclose(found.xyxy[0], [65.5, 9.5, 85.5, 19.5])
        np.testing.assert_allclose(found.xyxy[2], [-0.5, 20.5, 6.5, 40.5])

    def test_pixels_and_boxes_are_cut_alike(self) -> None:
        """The positive control: a box around a painted rectangle is the box around its pixels in the view."""
        image = self.FRAME.image.copy()
        image[10:20, 10:30] = 255
        for mirrored in (False, True):
            view = View((4, 8, 32, 48), mirrored)
            seen = apply_view(replace(self.FRAME, image=image), view, {"objects": SPEC}, size=self.SMALL)
            rows, columns = np.nonzero(seen.image[..., 0] > 127)
            around = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
            np.testing.assert_allclose(seen.truths["objects"].xyxy[0], around, atol=1e-4)

    def objects(self, view: View, size: tuple[int, int]) -> list[int]:
        found = self.seen(view, size)
        return found.classes[~found.crowd].tolist()

    def test_what_is_cut_off_is_gone_and_crowds_stay(self) -> None:
        found = self.seen(View((0, 0, 64, 80)), (64, 80))
        np.testing.assert_array_equal(found.classes, [0, 1])
        np.testing.assert_array_equal(found.crowd, [False, True])

    def test_what_is_left_of_an_object_is_a_crowd_region_where_it_is_little(self) -> None:
        """It need not be found, and is not wrong to find: neither is background."""
        assert 0 in self.objects(View((0, 24, 64, 72)), (64, 72)), "6 of 20 columns are seen, more than a quarter"
        assert 0 in self.objects(View((0, 25, 64, 71)), (64, 71))
        assert 0 not in self.objects(View((0, 26, 64, 70)), (64, 70)), "4 of 20 columns are less than a quarter"
        left = self.seen(View((0, 26, 64, 70)), (64, 70))
        np.testing.assert_allclose(left.xyxy[left.crowd & (left.classes == 0)], [[-0.5, 9.5, 3.5, 19.5]])

    def test_what_is_left_of_an_object_has_four_pixels_a_side(self) -> None:
        window = (15, 0, 49, 96)  # half of the first box's 10 rows
        assert 0 in self.objects(View(window), (49, 96))
        assert 0 not in self.objects(View(window), (37, 72)), "3.8 rows"

    def test_objects_that_are_seen_whole_stay_however_small(self) -> None:
        """A measure that left them out would flatter."""
        found = self.seen(View((0, 0, 64, 96)), (16, 24))
        assert not found.crowd[0]
        np.testing.assert_allclose(found.xyxy[0], [2.0, 2.0, 7.0, 4.5])

    def test_a_box_of_which_half_is_left_is_one_of_the_mixed_frame_and_else_a_crowd_region(self) -> None:
        one = truth_of((0, -0.5, -0.5, 15.5, 15.5), (1, 39.5, -0.5, 79.5, 15.5), size=self.SMALL)
        other = truth_of((2, 51.5, 3.5, 79.5, 15.5), (0, -0.5, 31.5, 31.5, 63.5), size=self.SMALL)
        mask = np.zeros((16, 24), bool)  # at one pixel of every 4 x 4
        mask[:, 12:] = True
        found = pasted_boxes(one, other, mask)
        np.testing.assert_array_equal(found.classes, [0, 1, 2])
        np.testing.assert_array_equal(found.crowd, [False, True, False])
        np.testing.assert_allclose(found.xyxy, [*one.xyxy, other.xyxy[0]])

    def test_pixels_of_a_frame_whose_boxes_are_unknown_are_a_crowd(self) -> None:
        one = truth_of((0, -0.5, -0.5, 15.5, 15.5), size=self.SMALL)
        mask = np.zeros((16, 24), bool)
        mask[4:8, 12:] = True
        found = pasted_boxes(one, None, mask)
        np.testing.assert_allclose(found.xyxy, [one.xyxy[0], [47.5, 15.5, 95.5, 31.5]])
        np.testing.assert_array_equal(found.crowd, [False, True])


def test_an_answer_becomes_the_boxes_that_were_learnt() -> None:
    truth = truth_of((1, 99.5, 99.5, 131.5, 131.5), (2, 40.0, 30.0, 340.0, 260.0))
    answer = answer_for(HEAD.collate(SPEC, [truth]))
    camera = (300.0, 300.0, 191.5, 143.5)
    result = HEAD.result(SPEC, answer, SIZE, seen_by=camera, camera=camera)
    assert isinstance(result, Boxes)
    order = np.argsort(result.classes)
    np.testing.assert_array_equal(result.classes[order], [1, 2])
    np.testing.assert_allclose(result.xyxy[order], truth.xyxy, atol=1e-2)
    back = HEAD.as_truth(result)
    assert isinstance(back, BoxTruth)
    assert not back.crowd.any()


def test_outputs_come_scores_first_and_are_read_back() -> None:
    answer = answer_for(HEAD.collate(SPEC, [truth_of()]))
    outputs = HEAD.exported(SPEC, answer, "host")
    assert [tuple(one.shape[1:]) for one in outputs] == [
        (3, 36, 48), (3, 18, 24), (3, 9, 12), (4, 36, 48), (4, 18, 24), (4, 9, 12)
    ]  # fmt: skip
    again = HEAD.imported(SPEC, outputs)
    assert all(a is b for name in answer for a, b in zip(again[name], answer[name], strict=True))
