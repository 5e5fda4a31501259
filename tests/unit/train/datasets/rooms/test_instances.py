"""Objects of a frame are exact: boxes, classes and shares agree with rays cast at everything, whatever is culled."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from mtl.datasets.rooms import RenderOptions, materials, render, render_room
from mtl.datasets.rooms.instances import OBJECT_CLASSES, SCENE_CLASSES, objects_seen
from mtl.datasets.rooms.labels import Label
from mtl.datasets.rooms.layout import make_scene
from mtl.datasets.rooms.render import cast_room
from mtl.datasets.rooms.scene import Scene, Shell
from mtl.datasets.worlds.camera import Intrinsics, Pose, look
from mtl.datasets.worlds.casting import Caster
from mtl.datasets.worlds.objects import SeenObjects
from mtl.datasets.worlds.shapes import Piece, Shape, box

HEIGHT, WIDTH = 48, 64
GREY = materials.Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MIRROR = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
WIDE = RenderOptions(wide_fraction=1.0)


def values(objects: SeenObjects) -> dict[str, np.ndarray]:
    return {field.name: getattr(objects, field.name) for field in fields(SeenObjects)}


def same(one: SeenObjects, other: SeenObjects) -> bool:
    return all(np.array_equal(value, values(other)[name]) for name, value in values(one).items())


def bounds(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask)
    return [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]


def scene_of(*pieces: Piece) -> Scene:
    shell = Shell((4.0, 5.0, 2.5), GREY, GREY, (GREY,) * 4, GREY, 0.0)
    return Scene("office", shell, pieces, (), (), 0.5)


def block(label: Label, half_m: float, at: tuple[float, float, float], name: str = "block") -> Piece:
    shape = box(label, GREY, (-half_m, half_m), (-half_m, half_m), (0.0, 2 * half_m))
    return Piece(name, (shape,), at, 0.0)


def objects_of(scene: Scene, pose: Pose, height: int = HEIGHT, width: int = WIDTH) -> SeenObjects:
    caster, lens = Caster(scene.pieces, scene.shell), Intrinsics.canonical(height, width)
    _, number, _ = caster.view(pose, lens, height, width)
    return objects_seen(caster, number, pose, lens, canvas=(height, width))


@pytest.mark.parametrize("seed", [0, 3, 5, 8])
def test_boxes_and_shares_are_those_of_rays_cast_at_every_primitive(seed: int) -> None:
    view = render._View.of(seed, HEIGHT, WIDTH, RenderOptions(wide_fraction=0.0))
    caster, pose = view.caster, view.pose
    directions = caster.view(pose, view.inner, HEIGHT, WIDTH)[2]
    rays = directions.reshape(3, -1)
    empty, winner = caster.backdrop.hit(pose.position_m[:, None], rays)
    nearest, alone = empty.copy(), {index: np.zeros(len(empty), bool) for index in range(len(caster.pieces))}
    for which in range(len(caster.owner)):
        distance = caster.hit(which, pose.position_m, rays)
        closer = distance < nearest
        nearest[closer], winner[closer] = distance[closer], which
        alone[caster.pieces.index(caster.owner[which][0])] |= distance < empty
    expected = []
    for index, piece in enumerate(caster.pieces):
        mask = (winner >= piece.first) & (winner < piece.first + len(piece.shapes))
        labels = [caster.owner[which][1].label for which in winner[mask]]
        counts = np.bincount(labels, minlength=len(Label))
        name = Label(int(counts.argmax())).name.lower()
        if mask.sum() < 60 / 36 or name not in OBJECT_CLASSES:
            continue
        seen, whole = (bounds(one.reshape(HEIGHT, WIDTH)) for one in (mask, alone[index]))
        if min(seen[2] - seen[0], seen[3] - seen[1]) < 8 / 6:
            continue
        expected.append((seen, whole, OBJECT_CLASSES.index(name), int(mask.sum()), mask.sum() / alone[index].sum()))
    found = cast_room(seed, HEIGHT, WIDTH, options=RenderOptions(wide_fraction=0.0))[0]
    assert len(found) == len(expected) > 1
    for name, column in zip(values(found), zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(values(found)[name], np.array(column), rtol=1e-6, err_msg=name)


def mirrored(scene: Scene) -> Scene:
    """The room seen in a mirror across x."""

    def turned(shape: Shape) -> Shape:
        tilt = None if shape.tilt is None else MIRROR @ shape.tilt @ MIRROR
        x, y, z = shape.centre_m
        return replace(shape, centre_m=(-x, y, z), tilt=tilt)

    length = scene.shell.size_m[0]
    pieces = []
    for piece in scene.pieces:
        x, y, z = piece.position_m
        pieces.append(Piece(piece.name, tuple(map(turned, piece.shapes)), (length - x, y, z), -piece.yaw_rad))
    return replace(scene, pieces=tuple(pieces))


def test_a_mirrored_room_has_mirrored_boxes() -> None:
    found = 0
    for seed in range(4):
        scene = make_scene(np.random.default_rng(seed))
        length = scene.shell.size_m[0]
        yaw, pitch = 0.8 + seed, -0.3
        here = look((1.3, 1.1, 1.4), yaw, pitch, 0.0)
        there = look((length - 1.3, 1.1, 1.4), np.pi - yaw, pitch, 0.0)
        one, other = objects_of(scene, here), objects_of(mirrored(scene), there)
        assert one.classes.tolist() == other.classes.tolist()
        for name in ("visible", "amodal"):
            left, top, right, bottom = values(other)[name].T
            back = np.stack([WIDTH - 1 - right, top, WIDTH - 1 - left, bottom], 1)
            off = np.abs(back - values(one)[name])
            assert off.max(initial=0) <= 1, "a ray that grazes an edge may fall on either side"
            assert (off == 0).mean() > 0.95
        np.testing.assert_allclose(one.share, other.share, atol=0.02)
        found += len(one)
    assert found > 8


@cache
def many() -> tuple[tuple[SeenObjects, int], ...]:
    return tuple(cast_room(seed, HEIGHT, WIDTH) for seed in range(60))


def test_what_would_be_seen_contains_what_is_seen_within_the_frame() -> None:
    for objects, _ in many():
        assert (objects.amodal[:, :2] <= objects.visible[:, :2]).all()
        assert (objects.amodal[:, 2:] >= objects.visible[:, 2:]).all()
        assert (objects.amodal[:, :2] >= -0.5).all()
        assert (objects.amodal[:, 2:] <= [WIDTH - 0.5, HEIGHT - 0.5]).all()
        assert ((objects.share > 0) & (objects.share <= 1)).all()
        full = objects.share == 1
        assert np.array_equal(objects.amodal[full], objects.visible[full])


def test_sixty_rooms_have_all_classes_and_a_handful_of_boxes_each() -> None:
    counts = [len(objects) for objects, _ in many()]
    classes = np.bincount(np.concatenate([objects.classes for objects, _ in many()]), minlength=len(OBJECT_CLASSES))
    scenes = np.bincount([scene for _, scene in many()], minlength=len(SCENE_CLASSES))
    assert 4 < np.mean(counts) < 7
    assert max(counts) < 16
    assert (classes > 0).all()
    assert classes[OBJECT_CLASSES.index("picture")] > classes[OBJECT_CLASSES.index("books")]
    assert (scenes >= 4).all()
    hidden = np.concatenate([objects.share for objects, _ in many()]) < 0.999
    assert 0.2 < hidden.mean() < 0.7


def test_classes_are_those_of_nyu_without_walls_floors_and_ceilings() -> None:
    assert OBJECT_CLASSES == ("bed", "books", "chair", "furniture", "objects", "picture", "sofa", "table", "tv", "window")
    assert SCENE_CLASSES == ("bedroom", "office", "living room", "kitchen")


@pytest.mark.parametrize("options", [RenderOptions(wide_fraction=0.0), WIDE], ids=["upright", "wide"])
def test_casting_gives_what_rendering_gives_and_the_same_every_time(options: RenderOptions) -> None:
    rendered = render_room(2, HEIGHT, WIDTH, options=options)
    assert rendered.objects is not None
    for _ in range(2):
        objects, scene = cast_room(2, HEIGHT, WIDTH, options=options)
        assert same(objects, rendered.objects)
        assert scene == rendered.scene


def test_boxes_of_a_wide_frame_are_those_of_its_pixels_on_the_canvas() -> None:
    wide = render_room(2, HEIGHT, WIDTH, options=WIDE)
    assert wide.objects is not None
    inside = np.flatnonzero(wide.depth_m.any(1))
    assert inside[0] > 0
    assert len(wide.objects)
    assert wide.objects.amodal[:, 1].min() >= inside[0] - 0.5
    assert wide.objects.amodal[:, 3].max() <= inside[-1] + 0.5
    view = render._View.of(2, HEIGHT, WIDTH, WIDE)
    number = view.caster.view(view.pose, view.inner, *view.size)[1]
    bars = (inside[0], HEIGHT - 1 - inside[-1])
    canvas = np.pad(number, (bars, (0, 0)), constant_values=-9)
    pieces = [(canvas >= one.first) & (canvas < one.first + len(one.shapes)) for one in view.caster.pieces]
    everything = [bounds(mask) for mask in pieces if mask.any()]
    assert all(visible.tolist() in everything for visible in wide.objects.visible)


class TestWhatIsAnObject:
    """One block in front of the camera, and what is said of it."""

    POSE = look((2.0, 1.0, 0.5), np.pi / 2, 0.0, 0.0)

    def test_a_block_in_full_view(self) -> None:
        found = objects_of(scene_of(block(Label.CHAIR, 0.25, (2.0, 3.0, 0.25))), self.POSE)
        assert found.classes.tolist() == [OBJECT_CLASSES.index("chair")]
        assert found.share.tolist() == [1.0]
        left, top, right, bottom = found.visible[0]
        assert (left + right, top + bottom) == (WIDTH - 1, HEIGHT - 1)
        half = 353 / 6 * 0.25 / 1.75
        assert (right - left) / 2 == pytest.approx(half, abs=0.5)
        assert found.pixels.tolist() == [(right - left) * (bottom - top)]

    def test_what_stands_in_front_hides_some_and_is_an_object_itself(self) -> None:
        far = block(Label.SOFA, 0.5, (2.0, 4.0, 0.0))
        near = block(Label.CHAIR, 0.2, (2.2, 2.2, 0.3))
        alone, both = (objects_of(scene_of(*pieces), self.POSE) for pieces in ((far,), (far, near)))
        assert [OBJECT_CLASSES[index] for index in both.classes] == ["sofa", "chair"]
        assert np.array_equal(both.amodal[0], alone.visible[0])
        assert both.share[0] == pytest.approx(both.pixels[0] / alone.pixels[0])
        assert both.share[0] < 0.9
        assert both.share[1] == 1

    @pytest.mark.parametrize("label", [Label.FLOOR, Label.WALL, Label.CEILING])
    def test_rugs_and_doors_are_none(self, label: Label) -> None:
        assert len(objects_of(scene_of(block(label, 0.25, (2.0, 3.0, 0.25))), self.POSE)) == 0

    def test_the_class_is_the_label_that_most_of_what_is_seen_has(self) -> None:
        shelf = box(Label.FURNITURE, GREY, (-0.4, 0.4), (-0.2, 0.2), (0.0, 0.3))
        books = box(Label.BOOKS, GREY, (-0.4, 0.4), (-0.2, 0.2), (0.3, 0.9))
        full = Piece("shelf", (shelf, books), (2.0, 3.5, 0.0), 0.0)
        assert OBJECT_CLASSES[objects_of(scene_of(full), self.POSE).classes[0]] == "books"
        screen = Piece("door", (box(Label.WALL, GREY, (-1.0, 1.0), (-0.1, 0.1), (0.25, 2.0)),), (2.0, 2.5, 0.0), 0.0)
        low = replace(self.POSE, position_m=np.array([2.0, 1.0, 0.15], np.float32))
        assert OBJECT_CLASSES[objects_of(scene_of(full, screen), low).classes[0]] == "furniture"

    @pytest.mark.parametrize(("height", "width"), [(288, 384), (96, 128)])
    def test_small_ones_are_left_out_in_proportion_to_the_frame(self, height: int, width: int) -> None:
        """At 3 m and 353 px of focal length a block of 10 cm is 12 px wide, one of 6 cm 7 px."""
        large, small = (block(Label.CHAIR, half, (2.0, 4.0, 0.45)) for half in (0.05, 0.03))
        assert len(objects_of(scene_of(large), self.POSE, height, width)) == 1
        assert len(objects_of(scene_of(small), self.POSE, height, width)) == 0

    def test_an_empty_room_has_none(self) -> None:
        found = objects_of(scene_of(), self.POSE)
        assert {name: value.shape for name, value in values(found).items()} == {
            "visible": (0, 4), "amodal": (0, 4), "classes": (0,), "pixels": (0,), "share": (0,),
        }  # fmt: skip
