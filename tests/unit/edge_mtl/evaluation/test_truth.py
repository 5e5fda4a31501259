"""Truth beside labelled frames: what is not in the format is refused, and what we write is read as it was meant.

On data that FP32 itself does not fit, nothing is compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BundleError
from edge_mtl.evaluation.labelled_frames import LabelledFrame, labelled_folder
from edge_mtl.evaluation.scores import Scorer
from edge_mtl.image.encoding import encode_depth, encode_image, stated_unit_m
from edge_mtl.metric_scale.depth_files import read_depth_file
from edge_mtl.tasks import NYU_TASKS, kind_of
from tests.bundles import answer_of
from tests.command_line import assert_failed, edge_mtl

SIZE = (64, 96)
CLASSES = 13
ANYTHING = "miou=1,classes=1,rel=10,depth=10,normal=180,angle=180"
"""A budget that every graph is within."""


def labelled(folder: Path, bundle: Bundle) -> list[LabelledFrame]:
    return list(labelled_folder(folder, bundle.manifest.input, bundle.manifest.tasks))


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """The bundle's evaluation frames as a folder of one's own; their truth is what FP32 answers."""
    target = tmp_path / "mine"
    target.mkdir()
    for name in tiny_bundle.list("evaluation"):
        (target / Path(name).name).write_bytes(tiny_bundle.read(name))
    return target


def change(folder: Path, ending: str, make: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write the maps of one kind otherwise."""
    for path in sorted(folder.glob(f"*{ending}")):
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), make(pixels))


@pytest.mark.parametrize(
    ("ending", "make", "said"),
    [
        (".label.png", lambda p: np.where(p == 255, 13, p.clip(0, 12) + 1).astype(np.uint8), r"found 13.*counted from 1"),
        (".label.png", lambda p: np.where(p == 255, 14, p).astype(np.uint8), r"the indices 0 to 12 .*found 14\. Export"),
        (".label.png", lambda p: p.astype(np.uint16) + 1000, r"found 10\d\d"),
        (".label.png", lambda p: np.where(p == 255, np.uint16(65535), p.astype(np.uint16)), r"found 65535"),
        (".depth.png", lambda p: (p // 200).astype(np.uint8), "should have 16 bits a channel; found 8"),
        (
            ".depth.png",
            lambda p: np.where(p, 3, 0).astype(np.uint16),
            r"units of 0.2 mm; half of it would be nearer than 0.0006 m",
        ),
        (".normals.png", lambda p: p.astype(np.uint16) * 257, "should have 8 bits a channel; found 16"),
        (".normals.png", lambda p: (p // 8).astype(np.uint8), "unit vectors.*found a median length of 1.6"),
    ],
)
def test_truth_outside_the_format_is_refused_by_name(
    folder: Path, tiny_bundle: Bundle, ending: str, make: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    change(folder, ending, make)
    with pytest.raises(BundleError, match=said) as found:
        labelled(folder, tiny_bundle)
    assert ending in str(found.value)


def test_labels_of_16_bits_that_are_classes_are_read(folder: Path, tiny_bundle: Bundle) -> None:
    before = [item.targets["segmentation"] for item in labelled(folder, tiny_bundle)]
    change(folder, ".label.png", lambda pixels: pixels.astype(np.uint16))
    for old, item in zip(before, labelled(folder, tiny_bundle), strict=True):
        assert item.targets["segmentation"].dtype == np.uint8
        np.testing.assert_array_equal(item.targets["segmentation"], old)


def test_millimetres_that_predict_writes_are_millimetres_wherever_they_are_read(
    folder: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    depth_m = np.linspace(0.8, 6.0, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float32)
    for path in folder.glob("*.depth.png"):
        path.write_bytes(encode_depth(depth_m))
    for item in labelled(folder, tiny_bundle):
        np.testing.assert_allclose(item.targets["depth"], depth_m, atol=6e-4)
    (tmp_path / "a.png").write_bytes(encode_depth(depth_m))
    np.testing.assert_allclose(read_depth_file(tmp_path, "a"), depth_m, atol=6e-4)
    # and truth of labelled frames is read in its own unit by scale
    spec = tiny_bundle.manifest.tasks["depth"]
    (tmp_path / "b.png").write_bytes(kind_of(spec).write_truth(spec, depth_m)[".depth.png"])
    np.testing.assert_allclose(read_depth_file(tmp_path, "b"), depth_m, atol=2e-4)
    assert stated_unit_m((tmp_path / "b.png").read_bytes()) == pytest.approx(0.0002)


def test_a_drawing_of_normals_is_no_truth(folder: Path, tiny_bundle: Bundle) -> None:
    spec = tiny_bundle.manifest.tasks["normals"]
    kind = kind_of(spec)
    for path in folder.glob("*.normals.png"):
        path.write_bytes(kind.images(spec, kind.of_truth(spec, np.full((*SIZE, 3), 3**-0.5, np.float32)))["normals.png"])
    with pytest.raises(BundleError, match="found a drawing"):
        labelled(folder, tiny_bundle)


class TestCameras:
    def write(self, folder: Path, cameras: dict[str, Any]) -> None:
        (folder / "intrinsics.json").write_text(json.dumps(cameras))

    def names(self, folder: Path) -> list[str]:
        return sorted(p.name for p in folder.glob("*.png") if p.name.count(".") == 1)

    def test_a_frame_is_named_with_or_without_its_suffix(self, folder: Path, tiny_bundle: Bundle) -> None:
        names = self.names(folder)
        for named in (names, [Path(name).stem for name in names]):
            self.write(folder, {name: [70 + place, 70, 47.5, 31.5] for place, name in enumerate(named)})
            found = [item.intrinsics for item in labelled(folder, tiny_bundle)]
            assert found == [(70 + place, 70, 47.5, 31.5) for place in range(len(names))]

    def test_names_of_no_frame_are_refused_where_frames_have_no_camera(self, folder: Path, tiny_bundle: Bundle) -> None:
        camera = [70, 70, 47.5, 31.5]
        self.write(folder, {"frame_1": camera, "frame_2": camera})
        with pytest.raises(BundleError, match=r"should name the frames, such as \S+; found 'frame_1', 'frame_2', of which"):
            labelled(folder, tiny_bundle)
        self.write(folder, {"of another folder": camera} | dict.fromkeys(self.names(folder), camera))
        assert all(item.intrinsics for item in labelled(folder, tiny_bundle)), "some of the frames of a larger set"

    def test_two_cameras_or_two_frames_of_one_name_are_refused(self, folder: Path, tiny_bundle: Bundle) -> None:
        first = self.names(folder)[0]
        self.write(folder, {first: [70, 70, 47.5, 31.5], Path(first).stem: [71, 70, 47.5, 31.5]})
        with pytest.raises(BundleError, match="found two for"):
            labelled(folder, tiny_bundle)
        (folder / f"{Path(first).stem}.jpg").write_bytes((folder / first).read_bytes())
        with pytest.raises(BundleError, match="found two that are called"):
            labelled(folder, tiny_bundle)

    @pytest.mark.parametrize("text", ["[" * 5000, '{"000": [1' + "0" * 400 + ", 70, 47.5, 31.5]}"])
    def test_a_file_that_no_number_or_stack_holds_is_refused(self, folder: Path, tiny_bundle: Bundle, text: str) -> None:
        (folder / "intrinsics.json").write_text(text)
        with pytest.raises(BundleError, match=r"intrinsics\.json"):
            labelled(folder, tiny_bundle)

    @pytest.mark.parametrize(
        "numbers", [[70, 70, 99999, 31.5], [0, 70, 47.5, 31.5], [float("nan"), 70, 47.5, 31.5], [70, 70, 47.5]]
    )
    def test_what_is_no_camera_of_the_frame_is_refused(self, folder: Path, tiny_bundle: Bundle, numbers: list[float]) -> None:
        self.write(folder, dict.fromkeys(self.names(folder), numbers))
        with pytest.raises(BundleError, match=r"intrinsics\.json"):
            labelled(folder, tiny_bundle)


class TestNearChance:
    """On data that FP32 itself does not fit nothing is called within budget."""

    @pytest.mark.parametrize(
        ("ending", "make", "said"),
        [
            (".label.png", lambda p: np.where(p == 255, 255, (p + 5) % CLASSES).astype(np.uint8), "no more than by chance"),
            (".depth.png", lambda p: (p // 5).astype(np.uint16), "Is its unit right"),
            (
                ".normals.png",
                lambda p: np.where(p.any(axis=2, keepdims=True), 256 - p.astype(int), 0).astype(np.uint8),
                "x right, y down",
            ),
        ],
    )
    def test_verify_says_that_fp32_does_not_fit(
        self, folder: Path, tiny_bundle: Bundle, ending: str, make: Callable[[np.ndarray], np.ndarray], said: str
    ) -> None:
        change(folder, ending, make)
        found = edge_mtl("verify", tiny_bundle.path, "--data", folder, "--no-write", "--threads", "1", "--max-drop", ANYTHING)
        assert found.code == 8, found
        assert "within budget" not in found.out
        assert "NOT COMPARABLE" in found.out
        error = found.err.splitlines()[-1]
        assert error.startswith("error: FP32 itself does not fit the data.")
        assert said in error

    def test_data_that_fp32_fits_are_compared(self, folder: Path, tiny_bundle: Bundle) -> None:
        found = edge_mtl("verify", tiny_bundle.path, "--data", folder, "--no-write", "--threads", "1", "--max-drop", ANYTHING)
        assert found.code == 0, found
        assert "within budget" in found.out
        assert "NOT COMPARABLE" not in found.out

    def score(self, guess: np.ndarray, truth: np.ndarray) -> tuple[str, ...]:
        scorer = Scorer({"segmentation": NYU_TASKS["segmentation"]})
        answer = answer_of({"segmentation": guess})
        scorer.update("a", answer, {"segmentation": truth}, answer)
        return scorer.score().near_chance

    def test_chance_is_agreement_that_independent_answers_have_too(self) -> None:
        random = np.random.default_rng(0)
        truth = random.choice(CLASSES, SIZE, p=[0.4, *[0.05] * 12]).astype(np.uint8)
        guess = random.permutation(truth.ravel()).reshape(SIZE)
        assert self.score(guess, truth), "the right frequencies in the wrong places"
        better = np.where(random.random(SIZE) < 0.2, truth, guess).astype(np.uint8)
        assert not self.score(better, truth), "a fifth is known"
        assert not self.score(np.zeros(SIZE, np.uint8), np.where(truth, 255, 0).astype(np.uint8)), "one class, and right"
        assert not self.score(np.zeros(SIZE, np.uint8), truth), "as good as the best constant: poor, and no sign of wrong data"

    def test_labels_that_leave_class_0_out_are_asked_about(self) -> None:
        truth = np.random.default_rng(1).integers(0, 12, SIZE).astype(np.uint8)
        (said,) = self.score(truth, truth + 1)
        assert "were they counted from 1?" in said


def test_a_wrong_folder_is_one_line_on_the_command_line(folder: Path, tiny_bundle: Bundle) -> None:
    change(folder, ".depth.png", lambda pixels: (pixels // 200).astype(np.uint8))
    found = edge_mtl("verify", tiny_bundle.path, "--data", folder, "--no-write", "--threads", "1")
    assert_failed(found, 3, "16 bits")


def test_images_of_other_programs_state_nothing() -> None:
    assert stated_unit_m(encode_image(np.zeros((4, 4, 3), np.uint8))) is None
    assert stated_unit_m(b"") is None
    assert stated_unit_m(b"\x89PNG\r\n\x1a\n" + bytes(20)) is None
