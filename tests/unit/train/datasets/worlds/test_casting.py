"""Rays against primitives: closed forms agree with geometry that can be checked by hand or by search."""

from __future__ import annotations

import numpy as np
import pytest
from mtl.datasets.rooms.labels import Label
from mtl.datasets.rooms.layout import make_scene
from mtl.datasets.rooms.scene import FIRST_WALL, FLOOR, Shell
from mtl.datasets.worlds.camera import Intrinsics, look
from mtl.datasets.worlds.casting import Caster
from mtl.datasets.worlds.intersect import entry_distance, safe_inverse, surface_at
from mtl.datasets.worlds.materials import Material
from mtl.datasets.worlds.shapes import Kind, Piece, Shape, box, leaning, turned
from mtl.datasets.worlds.textures import _PATTERNS, reflectance

GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def caster_of(*pieces: Piece) -> Caster:
    return Caster(pieces, Shell((4.0, 5.0, 2.5), GREY, GREY, (GREY,) * 4, GREY, 0.0))


def inside(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Whether (3, N) points are inside a shape, from its definition."""
    local = points - np.array(shape.centre_m)[:, None]
    if shape.tilt is not None:
        local = shape.tilt.T @ local
    ratio = np.abs(local) / np.array(shape.half_m)[:, None]
    if shape.kind == Kind.BOX:
        return ratio.max(0) < 1
    if shape.kind == Kind.CYLINDER:
        return (np.hypot(ratio[0], ratio[1]) < 1) & (ratio[2] < 1)
    return (ratio**2).sum(0) < 1


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("tilt", [None, turned(0.4) @ leaning(0.7)], ids=["upright", "tilted"])
def test_rays_enter_shapes_where_a_dense_search_finds_them(kind, tilt):
    rng = np.random.default_rng(int(kind))
    half = (0.3, 0.3, 0.5) if kind == Kind.CYLINDER else (0.3, 0.45, 0.2)
    shape = Shape(kind, Label.OBJECTS, GREY, (1.0, 2.0, 1.0), half, None if tilt is None else tilt.astype(np.float32))
    origin = np.array([[-0.5], [0.4], [1.2]], np.float32)
    towards = np.array([[1.0], [2.0], [1.0]]) + rng.uniform(-0.7, 0.7, (3, 300)) - origin
    rays = (towards / np.linalg.norm(towards, axis=0)).astype(np.float32)
    found = entry_distance(shape, origin, rays, safe_inverse(rays))
    steps = np.linspace(0, 4, 1601)
    samples = (origin[:, :, None] + rays[:, :, None] * steps).reshape(3, -1)
    occupied = inside(shape, samples).reshape(rays.shape[1], -1)
    searched = np.where(occupied.any(1), steps[occupied.argmax(1)], np.inf)
    both = np.isfinite(found) & np.isfinite(searched)
    assert both.sum() > 40
    assert np.abs(found[both] - searched[both]).max() < 0.0035
    assert (np.isfinite(found) != np.isfinite(searched)).mean() < 0.02  # rays that graze between two steps
    normals = surface_at(shape, origin + rays[:, both] * found[both])[0]
    assert np.allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-5)
    assert (normals * rays[:, both]).sum(0).max() < 1e-3


def test_a_ray_along_an_axis_meets_a_box_squarely():
    shape = box(Label.OBJECTS, GREY, (1.0, 2.0), (-1.0, 1.0), (0.0, 1.0))
    rays = np.array([[1.0, 1.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    origin = np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.5, 0.5, 0.5]], np.float32)
    distance = entry_distance(shape, origin, rays, safe_inverse(rays))
    assert distance.tolist() == [1.0, np.inf, np.inf]


def test_the_nearest_surface_wins_whatever_the_order_of_pieces():
    near = Piece("near", (box(Label.CHAIR, GREY, (-0.2, 0.2), (-0.2, 0.2), (0.8, 1.2)),), (2.0, 2.0, 0.0), 0.3)
    far = Piece("far", (box(Label.SOFA, GREY, (-1.0, 1.0), (-0.2, 0.2), (0.0, 2.0)),), (2.0, 4.0, 0.0), 0.0)
    pose, lens = look((2.0, 0.5, 1.0), np.pi / 2, 0.0, 0.0), Intrinsics.canonical(24, 32)
    labels = []
    for pieces in ((near, far), (far, near)):
        caster = caster_of(*pieces)
        _, number, _ = caster.view(pose, lens, 24, 32)
        labels.append([[caster.owner[which][1].label if which >= 0 else which for which in row] for row in number.tolist()])
    assert labels[0] == labels[1]
    assert labels[0][12][16] == Label.CHAIR
    assert {Label.SOFA, FLOOR, FIRST_WALL - 2} <= {label for row in labels[0] for label in row}


def test_culling_on_the_screen_changes_nothing():
    """Every pixel agrees with trying all primitives on all rays."""
    scene = make_scene(np.random.default_rng(5))
    caster = Caster(scene.pieces, scene.shell)
    pose, lens = look((1.5, 1.5, 1.3), 0.7, -0.3, 0.05), Intrinsics.canonical(18, 24)
    depth, number, directions = caster.view(pose, lens, 18, 24)
    rays = directions.reshape(3, -1)
    best, winner = caster.backdrop.hit(pose.position_m[:, None], rays)
    for which in range(len(caster.owner)):
        distance = caster.hit(which, pose.position_m, rays)
        closer = distance < best
        best[closer], winner[closer] = distance[closer], which
    np.testing.assert_allclose(depth.ravel(), best, rtol=1e-5)
    assert (number.ravel() == winner).mean() > 0.995


def test_something_between_a_point_and_a_lamp_hides_it():
    screen = Piece("screen", (box(Label.OBJECTS, GREY, (-0.5, 0.5), (-0.02, 0.02), (0.0, 2.0)),), (2.0, 2.0, 0.0), 0.0)
    caster = caster_of(screen)
    origins = np.array([[2.0, 2.0, 2.0, 3.5], [1.0, 1.0, 3.0, 1.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    directions = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], np.float32)
    reach = np.array([2.0, 0.5, 2.0, 2.0], np.float32)
    assert caster.occluded(origins, directions, reach).tolist() == [True, False, False, False]
    glass = Piece("glass", tuple(shape.shadowless() for shape in screen.shapes), screen.position_m, 0.0)
    assert not caster_of(glass).occluded(origins, directions, reach).any()


def test_pieces_stand_inside_the_room_and_not_in_each_other():
    for seed in range(12):
        scene = make_scene(np.random.default_rng(seed))
        length, width, height = scene.shell.size_m
        for piece in Caster(scene.pieces, scene.shell).pieces:
            assert piece.corners_m.reshape(-1, 3).min() > -0.25
            assert (piece.corners_m.reshape(-1, 3).max(0) < np.array([length, width, height]) + 0.25).all()
        chairs_may_slide_under = -0.3
        for index, one in enumerate(scene.footprints):
            assert not any(one.overlaps(other, chairs_may_slide_under) for other in scene.footprints[index + 1 :])


@pytest.mark.parametrize("texture", sorted(_PATTERNS))
def test_textures_are_finite_and_calm_down_with_distance(texture):
    material = Material(texture, (0.8, 0.6, 0.4), (0.2, 0.2, 0.3), 0.1, 12345)
    v, u = (axis.ravel().astype(np.float32) for axis in np.mgrid[-1:1:64j, -1:1:64j])
    near = reflectance(material, u, v, np.full_like(u, 1e-3))
    far = reflectance(material, u, v, np.full_like(u, 5.0))
    assert near.shape == (3, 64 * 64)
    assert np.isfinite(near).all()
    assert far.std() <= near.std() + 0.05


def test_no_ray_is_hidden_where_none_is_asked_for():
    caster = caster_of(Piece("box", (box(Label.TABLE, GREY, (0, 1), (0, 1), (0, 1)),), (1.0, 1.0, 0.0), 0.0))
    nothing = np.empty((3, 0), np.float32)
    assert caster.occluded(nothing, nothing, np.empty(0, np.float32)).shape == (0,)
