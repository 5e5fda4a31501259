"""What validate_dataset says of a folder: every fault by the name of its file, and figures of what is fine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import validate_dataset
from mtl.datasets.folder.check import inspect
from mtl.datasets.report import Check

from edge_mtl.image.encoding import encode_image
from edge_mtl.tasks.labels import generated_palette
from tests.own_folder import CLASSES, SIZE, TOML, scene, write_frame, write_own_folder

FIRST = "run0/0000"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_own_folder(tmp_path, frames=24)


def checked(root: Path) -> dict[str, Check]:
    return {check.name: check for check in inspect(root).checks}


def problems(root: Path, name: str) -> str:
    return "\n".join(checked(root)[name].problems)


def changed(root: Path, old: str, new: str) -> None:
    text = (root / "dataset.toml").read_text()
    assert old in text
    (root / "dataset.toml").write_text(text.replace(old, new))


def test_a_folder_that_is_fine_has_figures_and_no_problem(own: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = inspect(own, progress=lambda what, done, total: steps.append((done, total)))
    assert report.fine, [check.problems for check in report.checks]
    assert steps == [(number + 1, 24) for number in range(24)]
    found = {check.name: check for check in report.checks}
    assert list(found) == ["dataset.toml", "frames", "images", "camera", "segmentation", "depth", "normals"]
    coverage = found["depth"].details["coverage"]
    assert sum(have for have, _ in coverage.values()) == 12
    assert sum(images for _, images in coverage.values()) == 24
    label = np.stack([scene(number)[1] for number in range(24)])
    label[:, :4, :6] = 255
    shares = found["segmentation"].details["classes"]
    assert set(shares) == set(CLASSES)
    frames = sum(shares["rack"][split]["frames"] for split in shares["rack"])
    assert frames == sum((one == CLASSES.index("rack")).any() for one in label)
    assert found["depth"].details["within_range"] == 1.0
    assert found["depth"].details["median_m"] == pytest.approx(4, abs=1)
    assert "axes are +x+y+z" in found["normals"].found
    assert found["camera"].found == "57 to 57 degrees across"
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_frequency_is_the_share_of_the_labelled_pixels(tmp_path: Path) -> None:
    """Half of the picture is void, three quarters of the rest are floor."""
    root = write_own_folder(tmp_path, frames=0, replace={"val = 0.2\ntest = 0.2": 'train = "a"\nval = "b"'})
    for stem in ("one", "two"):
        write_frame(root, stem, 0)
        mask = np.full(SIZE, 255, np.uint8)
        mask[:48, :96], mask[:48, 96:] = 0, 1
        (root / "masks" / f"{stem}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    (root / "a").write_text("one")
    (root / "b").write_text("two")
    classes = checked(root)["segmentation"].details["classes"]
    assert classes["floor"]["train"] == {"share": 0.75, "frames": 1}
    assert classes["wall"]["val"] == {"share": 0.25, "frames": 1}


def put(name: str, payload: bytes) -> Callable[[Path], None]:
    def fault(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(payload)

    return fault


def depth_png(depth_m: np.ndarray, scale_m: float = 0.001) -> bytes:
    return cv2.imencode(".png", np.rint(depth_m / scale_m).astype(np.uint16))[1].tobytes()


def saved(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda root: np.save(root / name, array)


STRANGE = scene(0)[1].copy()
STRANGE[0, :7], STRANGE[1, :2] = 77, 78
NORMALS = scene(0)[3]


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        (put(f"images/{FIRST}.png", b"no png"), "images", r"images/run0/0000\.png cannot be decoded"),
        (put(f"images/{FIRST}.png", encode_image(scene(0)[0][:, :90])), "camera",
         r"the image run0/0000 is 96x90: expected the same"),
        (put(f"masks/{FIRST}.png", b"no png"), "segmentation", r"masks/run0/0000\.png is cut short or damaged"),
        (put(f"masks/{FIRST}.png", cv2.imencode(".png", STRANGE)[1].tobytes()), "segmentation",
         r"0000\.png: indices that dataset\.toml does not declare: 77 \(7 pixels\), 78 \(2 pixels\)"),
        (put(f"masks/{FIRST}.png", cv2.imencode(".png", STRANGE[:50])[1].tobytes()), "segmentation",
         r"masks/run0/0000\.png: expected 96x128, as its image is, found 50x128"),
        (put(f"masks/{FIRST}.png", cv2.imencode(".png", np.full(SIZE, 255, np.uint8))[1].tobytes()), "segmentation",
         r"masks/run0/0000\.png: expected some class, found only void"),
        (put("masks/elsewhere.png", cv2.imencode(".png", STRANGE)[1].tobytes()), "segmentation",
         r"masks/elsewhere\.png: there is no image of this label"),
        (put(f"depth/{FIRST}.png", depth_png(scene(0)[2], 0.0001)), "depth",
         r"depth/run0/0000\.png: expected depth within 0\.3 to 10 m, found none: .* to 60 m"),
        (put(f"depth/{FIRST}.png", depth_png(0 * scene(0)[2])), "depth",
         r"run0/0000\.png: expected depth, found no pixel above 0"),
        (saved(f"normals/{FIRST}.npy", NORMALS * 2), "normals",
         r"0000\.npy: expected unit vectors, found 100% of another length, 2"),
        (saved(f"normals/{FIRST}.npy", -NORMALS), "normals",
         r"0000\.npy: expected normals that face the camera, found 100% that"),
        (saved(f"normals/{FIRST}.npy", 0 * NORMALS), "normals", r"0000\.npy: expected normals, found no pixel that is not 0"),
        (put(f"images/{FIRST}.jpg", b"x"), "frames", r"run0/0000\.png: another file has the same name but for its suffix"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_named(own: Path, fault: Callable[[Path], None], check: str, message: str) -> None:
    fault(own)
    report = inspect(own)
    assert not report.fine
    every = "\n".join(problem for one in report.checks if one.name == check for problem in one.problems)
    assert re.search(message, every), every


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("1e-6", r"the depth of a usual file is 0\.00\d+ m, outside range_m 0\.3 to 10; scale_m = 0\.001 would make it"),
        ("1.0", r"the depth of a usual file is \d{4} m, outside range_m 0\.3 to 10; scale_m = 0\.001 would make it"),
    ],
)
def test_a_wrong_scale_is_told_with_the_right_one(own: Path, scale: str, message: str) -> None:
    changed(own, "scale_m = 0.001", f"scale_m = {scale}")
    assert re.search(message, problems(own, "depth")), problems(own, "depth")


def test_axes_that_the_depth_contradicts_are_told(own: Path) -> None:
    for path in (own / "normals").rglob("*.npy"):
        np.save(path, np.load(path) * np.float16([1, -1, -1]))
    assert 'axes are "+x+y+z", the depth agrees with axes = "+x-y-z"' in problems(own, "normals")
    changed(own, 'folder = "normals"', 'folder = "normals"\naxes = "+x-y-z"')
    assert problems(own, "normals") == ""


def test_a_camera_that_cannot_be_is_told(own: Path) -> None:
    changed(own, "fx = 117.0", "fx = 1.17")
    assert "fx should be 12.8 to 2560 pixels for an image of 96x128; found 1.17" in problems(own, "camera")
    changed(own, "fx = 1.17\nfy = 117.0\ncx = 63.5", "fx = 117.0\nfy = 117.0\ncx = 635.0")
    assert "principal point should lie within 45% of a side of the middle of an image of 96x128" in problems(own, "camera")
    changed(own, "cx = 635.0", "cx = 90.0")
    found = checked(own)["camera"]
    assert not found.problems
    assert "is more than 15% of a side from the middle" in found.note


def test_a_class_that_training_never_sees_is_told(own: Path) -> None:
    changed(own, '"spill"]', '"spill", "unicorn"]')
    assert "the class 'unicorn' is in no train frame (in no frame at all)" in problems(own, "segmentation")


def test_classes_that_cannot_be_measured_are_a_note(tmp_path: Path) -> None:
    """Scenes have four of the sixteen boards each, and `val` has one scene."""
    root = write_own_folder(tmp_path, frames=8, replace={"val = 0.2\ntest = 0.2": 'train = "a"\nval = "b"'})
    stems = sorted(path.relative_to(root / "images").with_suffix("").as_posix() for path in (root / "images").rglob("*.png"))
    (root / "a").write_text("\n".join(stems[1:]))
    (root / "b").write_text(stems[0])
    found = checked(root)["segmentation"]
    assert not found.problems
    (note,) = found.note.splitlines()
    assert note.startswith("not measured in val, where no frame has them: barrel, forklift, cart, person, robot")
    assert "crate" not in note


def test_a_task_that_no_train_frame_has_is_told(own: Path) -> None:
    for path in (own / "normals").rglob("*.npy"):
        path.unlink()
    assert "no train frame has it" in problems(own, "normals")


def test_splits_that_do_not_fit_are_told(own: Path) -> None:
    changed(own, "val = 0.2\ntest = 0.2", 'train = "train.txt"\nval = "val.txt"\ntest = "test.txt"')
    stems = [path.relative_to(own / "images").with_suffix("").as_posix() for path in sorted((own / "images").rglob("*.png"))]
    (own / "train.txt").write_text("\n".join([*stems[:12], "run9/nowhere"]))
    (own / "val.txt").write_text("\n".join([*stems[12:16], stems[3]]))
    (own / "test.txt").write_text("")
    found = checked(own)["frames"]
    told = "\n".join(found.problems)
    assert "train.txt, line 13: there is no image run9/nowhere" in told
    assert f"val.txt, line 5: {stems[3]} is in train.txt already" in told
    assert "the split test has no frame with a label" in told
    assert "8 images are in no list and are not used: run2/0016" in found.note


def test_an_image_in_two_splits_is_told(own: Path) -> None:
    changed(own, "val = 0.2\ntest = 0.2", 'train = "train.txt"\nval = "val.txt"')
    (own / "images" / "run0" / "0001.png").write_bytes((own / "images" / "run0" / "0000.png").read_bytes())
    (own / "train.txt").write_text("run0/0000")
    (own / "val.txt").write_text("run0/0001")
    assert "0001.png (val) is the same image as run0/0000 (train); expected each in one split" in problems(own, "frames")


def test_images_without_any_label_are_named_and_no_problem(own: Path) -> None:
    write_frame(own, "bare", 50, tasks="")
    found = checked(own)["frames"]
    assert found.status == "note"
    assert "1 images without any label are not used: bare" in found.note
    assert found.details["unlabelled"] == ["bare"]


def test_the_command_prints_figures_and_problems_and_says_how_it_went(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate_dataset.main([str(own)]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("20 of 20 classes", "forklift", "share of the labelled pixels", "train"))
    put(f"masks/{FIRST}.png", b"")(own)
    assert validate_dataset.main([str(own), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["fine"]
    assert {check["name"]: check["status"] for check in report["checks"]}["segmentation"] == "problem"


def test_a_description_that_cannot_be_read_is_the_one_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset.toml").write_text(TOML.replace("redistributable = true\n", ""))
    assert validate_dataset.main([str(tmp_path)]) == 1
    assert "redistributable: is missing" in capsys.readouterr().out
    assert validate_dataset.main([str(tmp_path / "nowhere")]) == 9


def test_images_without_a_description_are_told_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    assert validate_dataset.main([str(tmp_path)]) == 9
    message = capsys.readouterr().err
    assert "dataset.toml" in message
    assert "own-data.md" in message
    assert message.count("\n") == 1


def test_the_command_draws_a_sheet(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sheet.png"
    assert validate_dataset.main([str(own), "--sheet", str(path), "--frames", "3"]) == 0
    sheet = cv2.imread(str(path))[..., ::-1]
    palette = generated_palette(len(CLASSES))
    legend = sheet[-80:].reshape(-1, 3)
    assert all((legend == colour).all(axis=1).any() for colour in palette), "every class is in the legend"
    assert f"sheet: {path}" in capsys.readouterr().out
    assert validate_dataset.main([str(tmp_path / "nowhere"), "--sheet", str(path)]) == 9
