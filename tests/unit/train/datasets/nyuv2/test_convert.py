"""Both published forms of NYUv2 become the folder that training reads, also when the conversion is killed on its way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import prepare_nyuv2
import pytest
from mtl.datasets.nyuv2 import DatasetError, NyuRequest
from mtl.datasets.nyuv2.axes import NormalAxes
from mtl.datasets.nyuv2.check import inspect
from mtl.datasets.nyuv2.labels import NYU40_TO_NYU13, read_class_mapping
from mtl.datasets.nyuv2.layout import frame_path, read_description
from mtl.datasets.nyuv2.official import CAMERA, CROP, read_splits
from scipy.io import savemat

from edge_mtl.tasks import NYU13_CLASSES
from tests.nyu_files import SIZE, box_frame, stored_normals, write_folder, write_parquet

pytestmark = pytest.mark.training

AXES = NormalAxes((2, 0, 1), (1, -1, 1))
WIDE_SIZE = (72, 96)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet")
    write_parquet(folder / "data", axes=AXES)
    return folder


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official files in small: five frames of 480x640, axes reversed as h5py sees them, a split and a mapping."""
    folder = tmp_path_factory.mktemp("official")
    frames = [box_frame(number, (480, 640), CAMERA) for number in range(5)]
    names = first_names()
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as file:
        images = np.stack([frame.image.transpose(2, 1, 0) for frame in frames])
        file.create_dataset("images", data=images, chunks=(1, 3, 640, 480), compression="gzip", compression_opts=1)
        file["depths"] = np.stack([frame.truths["depth"].T for frame in frames])
        file["labels"] = np.stack([names[frame.truths["segmentation"]].T for frame in frames]).astype(np.uint16)
    savemat(folder / "splits.mat", {"trainNdxs": np.array([[2], [4], [5]]), "testNdxs": np.array([[1], [3]])})
    savemat(folder / "classMapping40.mat", {"mapClass": mapping()[None], "allClassName": "unused"})
    (folder / "classes.txt").write_text("\n".join(map(str, mapping())))
    (folder / "normals_gt" / "normals").mkdir(parents=True)
    (folder / "normals_gt" / "masks").mkdir()
    for number, frame in enumerate(frames):
        coded = np.rint((stored_normals(frame.truths["normals"], NormalAxes((0, 1, 2), (1, -1, -1))) + 1) * 127.5).astype(
            np.uint8
        )
        cv2.imwrite(str(folder / "normals_gt" / "normals" / f"{number:04d}.png"), coded[..., ::-1])
        mask = (np.abs(frame.truths["normals"]).sum(-1) > 0).astype(np.uint8) * 255
        mask[100:110, 100:110] = 0
        cv2.imwrite(str(folder / "normals_gt" / "masks" / f"{number:04d}.png"), mask)
    return folder


def mapping() -> np.ndarray:
    """894 numbers from 1 to 40; every class of 40 occurs."""
    return np.arange(894) % 40 + 1


def first_names() -> np.ndarray:
    """(256,) the first of the 894 labels whose class of 13 is the index; 0, void, for 255."""
    names = np.zeros(256, np.int64)
    thirteen = np.array(NYU40_TO_NYU13)[mapping() - 1] - 1
    for label in range(13):
        names[label] = int(np.flatnonzero(thirteen == label)[0]) + 1
    return names


def official_arguments(folder: Path, out: Path, *more: str) -> list[str]:
    files = ["--splits", str(folder / "splits.mat"), "--classes", str(folder / "classMapping40.mat")]
    size = ["--size", "x".join(map(str, WIDE_SIZE))]
    return ["official", str(folder / "nyu_depth_v2_labeled.mat"), "--out", str(out), *files, *size, *more]


def test_the_parquet_copy_becomes_a_folder_with_camera_normals(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nyuv2"
    assert prepare_nyuv2.main(["parquet", str(parquet), "--out", str(out)]) == 0
    assert str(AXES) in capsys.readouterr().out
    for part, count, first in (("train", 6, 0), ("val", 3, 100)):
        source = NyuRequest(str(out), part).open()  # type: ignore[arg-type]
        assert len(source) == count
        for index in range(count):
            found, expected = source[index], box_frame(first + index)
            np.testing.assert_array_equal(found.image, expected.image)
            np.testing.assert_array_equal(found.truths["segmentation"], expected.truths["segmentation"])
            np.testing.assert_array_equal(found.truths["depth"], expected.truths["depth"])
            np.testing.assert_allclose(found.truths["normals"], expected.truths["normals"], atol=1e-6)
    description = json.loads((out / "dataset.json").read_text())
    assert (description["axes"], description["source"]["normal_axes"]) == ("+x+y+z", str(AXES))
    assert description["evidence"]["cosine"] > 0.9
    report = inspect(out)
    assert report.fine, [check.problems for check in report.checks]


def test_the_folder_has_what_libmtl_reads(parquet: Path, tmp_path: Path) -> None:
    out = tmp_path / "nyuv2"
    prepare_nyuv2.main(["parquet", str(parquet), "--out", str(out), "--limit", "1"])
    arrays = {name: np.load(frame_path(out, "train", name, 0)) for name in ("image", "label", "depth", "normal")}
    assert all(array.dtype == np.float32 for array in arrays.values())
    shapes = [arrays[name].shape for name in ("image", "label", "depth", "normal")]
    assert shapes == [(*SIZE, 3), SIZE, (*SIZE, 1), (*SIZE, 3)]
    assert arrays["image"].max() <= 1
    assert set(np.unique(arrays["label"])) <= {-1, *range(13)}
    assert [len(NyuRequest(str(out), part).open()) for part in ("train", "val")] == [1, 1]  # type: ignore[arg-type]


KILLED = """
import os, signal, sys
from pathlib import Path
from mtl.datasets.nyuv2.convert import convert
from mtl.datasets.nyuv2.parquet import ParquetFrames
assert "torch" not in sys.modules, "a conversion needs no torch"
class Killed(ParquetFrames):
    def frames(self, part, wanted):
        for count, item in enumerate(super().frames(part, wanted)):
            if part == "train" and len(wanted) > 6 and count == 18:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item
convert(Killed(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_killed_conversion_goes_on_and_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "parquet", train=20, val=2, per_file=7)
    out, whole = tmp_path / "nyuv2", tmp_path / "whole"
    script = [sys.executable, "-c", KILLED, str(source), str(out)]
    environment = {"PYTHONPATH": f"{Path('train').resolve()}:{Path.cwd()}", "PATH": "/usr/bin:/bin"}
    died = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    description = read_description(out)
    assert description is not None
    assert not description.complete
    assert description.done["train"] == list(range(16))
    with pytest.raises(DatasetError, match="stopped after 16 of 22 frames"):
        NyuRequest(str(out), "train").open()
    assert not inspect(out).fine
    written = {number: frame_path(out, "train", "depth", number).stat().st_mtime_ns for number in range(16)}
    assert prepare_nyuv2.main(["parquet", str(source), "--out", str(out)]) == 0
    assert {number: frame_path(out, "train", "depth", number).stat().st_mtime_ns for number in range(16)} == written
    assert prepare_nyuv2.main(["parquet", str(source), "--out", str(whole)]) == 0
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert all((out / file).read_bytes() == (whole / file).read_bytes() for file in files)


def test_another_conversion_is_not_mixed_into_a_folder(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nyuv2"
    assert prepare_nyuv2.main(["parquet", str(parquet), "--out", str(out), "--limit", "1"]) == 0
    assert prepare_nyuv2.main(["parquet", str(parquet), "--out", str(out)]) == 9
    assert "holds another conversion (parquet, 1 + 1 frames at 48x64)" in capsys.readouterr().err
    native = write_folder(tmp_path / "native")
    assert prepare_nyuv2.main(["parquet", str(parquet), "--out", str(native)]) == 9
    assert "without a dataset.json" in capsys.readouterr().err


def test_the_official_file_becomes_frames_that_agree_with_the_scene(official: Path, tmp_path: Path) -> None:
    out = tmp_path / "nyuv2"
    assert prepare_nyuv2.main(official_arguments(official, out)) == 0
    for part, numbers in (("train", (1, 3, 4)), ("val", (0, 2))):
        source = NyuRequest(str(out), part).open()  # type: ignore[arg-type]
        assert source.intrinsics == pytest.approx((88.79, 87.59, 48.46, 34.96), abs=0.02)
        assert len(source) == len(numbers)
        for index, number in enumerate(numbers):
            found, truth = source[index], box_frame(number, WIDE_SIZE, source.intrinsics)
            known = (found.truths["depth"] > 0) & (truth.truths["depth"] > 0)
            assert known.mean() > 0.98
            assert np.median(np.abs(found.truths["depth"][known] / truth.truths["depth"][known] - 1)) < 0.01
            assert (found.truths["segmentation"] == truth.truths["segmentation"]).mean() > 0.95
            cosine = (found.truths["normals"] * truth.truths["normals"]).sum(-1)[
                (found.truths["normals"] != 0).any(-1) & (truth.truths["normals"] != 0).any(-1)
            ]
            assert np.median(np.degrees(np.arccos(cosine.clip(-1, 1)))) < 0.5
            row, column = (CROP[0] + (np.arange(72) + 0.5) * 427 / 72) / 480, (CROP[1] + (np.arange(96) + 0.5) * 561 / 96) / 640
            np.testing.assert_allclose(found.image[:, 50, 1] / 255, row, atol=0.01)  # the image says where it was
            np.testing.assert_allclose(found.image[30, :, 0] / 255, column, atol=0.01)
    assert inspect(out).fine
    assert read_description(out).source["normals"].startswith("plane fits")  # type: ignore[union-attr]


@pytest.mark.parametrize("given", ["normals_gt", "normals_gt/normals"])
def test_normals_given_as_images_are_used_and_their_axes_detected(official: Path, tmp_path: Path, given: str) -> None:
    out = tmp_path / "nyuv2"
    assert prepare_nyuv2.main(official_arguments(official, out, "--normals", str(official / given), "--limit", "2")) == 0
    description = read_description(out)
    assert description is not None
    assert description.source["normal_axes"] == "+x-y-z"
    source = NyuRequest(str(out), "train").open()
    found, truth = source[0], box_frame(1, WIDE_SIZE, source.intrinsics)
    both = (found.truths["normals"] != 0).any(-1) & (truth.truths["normals"] != 0).any(-1)
    assert 0.95 < both.mean() < 1  # the mask has a hole
    assert np.median(np.degrees(np.arccos((found.truths["normals"] * truth.truths["normals"]).sum(-1)[both].clip(-1, 1)))) < 0.5


def test_classes_go_from_894_to_13_by_way_of_40(official: Path) -> None:
    table = read_class_mapping(official / "classMapping40.mat")
    np.testing.assert_array_equal(table, read_class_mapping(official / "classes.txt"))
    assert table[0] == 255
    assert [NYU13_CLASSES[table[name]] for name in (1, 4, 5, 22, 25)] == ["wall", "bed", "chair", "ceiling", "tv"]
    assert sorted(set(table.tolist())) == [*range(13), 255]


def test_the_split_is_counted_from_one_and_must_fit(official: Path, tmp_path: Path) -> None:
    assert read_splits(official / "splits.mat", frames=5) == {"train": [1, 3, 4], "val": [0, 2]}
    with pytest.raises(DatasetError, match="names frames 1 to 5, the file has 4"):
        read_splits(official / "splits.mat", frames=4)
    savemat(tmp_path / "both.mat", {"trainNdxs": [1, 2], "testNdxs": [2, 3]})
    with pytest.raises(DatasetError, match="disjoint"):
        read_splits(tmp_path / "both.mat", frames=4)
    savemat(tmp_path / "none.mat", {"trainNdxs": [1, 2]})
    with pytest.raises(DatasetError, match="no variable testNdxs"):
        read_splits(tmp_path / "none.mat", frames=4)
    whole = (official / "splits.mat").read_bytes()
    for size in (0, 1, 126, 127, 128, len(whole) // 2):
        (tmp_path / "cut.mat").write_bytes(whole[:size])
        with pytest.raises(DatasetError, match=r"cannot be read|has no variable"):
            read_splits(tmp_path / "cut.mat", frames=5)
    for odd in (1.5, np.nan, np.inf):
        savemat(tmp_path / "odd.mat", {"trainNdxs": [odd, 2.0], "testNdxs": [3.0]})
        with pytest.raises(DatasetError, match="should hold numbers of frames"):
            read_splits(tmp_path / "odd.mat", frames=5)


def wrong_files(official: Path, folder: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments with one bad file each, and what the error should say."""
    (folder / "half.mat").write_bytes((official / "nyu_depth_v2_labeled.mat").read_bytes()[:1000])
    (folder / "short.txt").write_text("1 2 3")
    (folder / "noise.mat").write_bytes(b"\x00" * 300)
    (folder / "few").mkdir()
    with h5py.File(folder / "square.mat", "w") as file:
        file["images"] = np.zeros((2, 3, 64, 64), np.uint8)
    good = official_arguments(official, folder / "out")

    def using(index: int, path: Path) -> list[str]:
        return [*good[:index], str(path), *good[index + 1 :]]

    return {
        "half a file": (using(1, folder / "half.mat"), "cannot be opened as HDF5"),
        "no file": (using(1, folder / "none.mat"), "cannot be opened as HDF5"),
        "other arrays": (using(1, folder / "square.mat"), "images should be (frames, 3, 640, 480)"),
        "no splits": (using(5, folder / "none.mat"), "cannot be read"),
        "broken splits": (using(5, folder / "noise.mat"), "splits.mat"),
        "broken classes": (using(7, folder / "noise.mat"), "nyuv2-meta-data"),
        "short classes": (using(7, folder / "short.txt"), "894 names"),
        "no normals": ([*good, "--normals", str(folder / "few")], "expected 0000.png"),
    }


def test_every_bad_file_gets_one_line_that_names_it(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case, (arguments, message) in wrong_files(official, tmp_path).items():
        assert prepare_nyuv2.main(arguments) == 9, case
        printed = capsys.readouterr().err.strip()
        assert message in printed, case
        assert "\n" not in printed, case
    assert not (tmp_path / "out").exists()


def test_damaged_parquet_is_named(parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case, damage in {"empty": lambda b: b"", "cut": lambda b: b[:2000], "noise": lambda b: b"PAR1" + b[4:500]}.items():
        folder = tmp_path / case
        folder.mkdir()
        for path in (parquet / "data").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        bad = next(folder.glob("train-00001*"))
        bad.write_bytes(damage(bad.read_bytes()))
        assert prepare_nyuv2.main(["parquet", str(folder), "--out", str(tmp_path / "out")]) == 9
        assert bad.name in capsys.readouterr().err
    assert prepare_nyuv2.main(["parquet", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 9
    assert "hf download tanganke/nyuv2" in capsys.readouterr().err


def test_a_folder_is_adopted_with_axes_that_are_found_or_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "nyuv2", axes=NormalAxes((0, 1, 2), (-1, 1, -1)))
    assert prepare_nyuv2.main(["adopt", str(root)]) == 0
    assert "-x+y-z" in capsys.readouterr().out
    assert prepare_nyuv2.main(["adopt", str(root), "--axes", "+x+y+z"]) == 0
    assert read_description(root).axes == "+x+y+z"  # type: ignore[union-attr]
    assert prepare_nyuv2.main(["adopt", str(root), "--axes", "+x+x+z"]) == 9
    assert "written like +x-y-z" in capsys.readouterr().err


def test_a_full_disk_ends_with_one_line_and_keeps_what_is_done(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mtl.datasets.nyuv2 import convert

    save, written = convert.save_array, []

    def fills_up(path: Path, array: np.ndarray) -> None:
        if len(written) == 9:
            raise OSError(28, "No space left on device")
        written.append(path)
        save(path, array)

    monkeypatch.setattr(convert, "save_array", fills_up)
    assert prepare_nyuv2.main(["parquet", str(parquet), "--out", str(tmp_path / "out")]) == 9
    assert "No space left on device" in capsys.readouterr().err
    assert read_description(tmp_path / "out").done == {"train": [0, 1], "val": []}  # type: ignore[union-attr]


def test_a_damaged_frame_of_the_official_file_is_named(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((official / "nyu_depth_v2_labeled.mat").read_bytes())
    with h5py.File(official / "nyu_depth_v2_labeled.mat") as file:
        chunk = file["images"].id.get_chunk_info(3)
    assert chunk.chunk_offset[0] == 3
    middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 64] = bytes(64)
    (tmp_path / "damaged.mat").write_bytes(content)
    arguments = official_arguments(official, tmp_path / "out")
    assert prepare_nyuv2.main([arguments[0], str(tmp_path / "damaged.mat"), *arguments[2:]]) == 9
    assert "damaged.mat: frame 3 cannot be read" in capsys.readouterr().err
    assert read_description(tmp_path / "out").done["train"] == [0]  # type: ignore[union-attr]


def test_a_parquet_file_whose_names_are_no_text_is_refused_by_name(tmp_path: Path) -> None:
    from mtl.datasets.nyuv2.parquet import ParquetFrames

    write_parquet(tmp_path, train=1, val=1)
    (path,) = tmp_path.glob("train-*.parquet")
    payload = path.read_bytes()
    path.write_bytes(payload.replace(b"parquet-cpp-arrow", b"\xff\xfe\xfd\xfcuet-cpp-arrow").replace(b"list", b"\xff\xfeis"))
    with pytest.raises(DatasetError, match=rf"{path.name} cannot be read"):
        ParquetFrames(tmp_path)
