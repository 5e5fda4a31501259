"""A network trained on images that may not be passed on: what its bundle holds in their place, and what works from that."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import mtl.models.export
import numpy as np
import pytest
from mtl.bundling import export_bundle
from mtl.datasets.data_set import Split
from mtl.datasets.frame import Frame
from mtl.datasets.rooms.source import RenderedRooms
from mtl.datasets.sources import data_sets, held_out_frames, register, train_frames
from mtl.run import Run
from mtl.settings import DataSettings, RunSettings, Stage
from rich.console import Console

from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import RECORDED, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.engine import Engine
from edge_mtl.errors import CalibrationError
from edge_mtl.evaluation.labelled_frames import labelled_set
from edge_mtl.quantization.learned import int8_graph
from edge_mtl.quantization.quantize import quantize
from edge_mtl.quantization.recipes import load_recipe
from edge_mtl.sources.images import IMAGE_SUFFIXES, decode_image
from edge_mtl.tasks import NYU_TASKS, Specs
from tests.bundles import make_image, write_image
from tests.command_line import assert_failed, edge_mtl
from tests.synthetic_data import SIZE, Rectangles, RectanglesRequest, rectangle_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

NAMES = ("things", "depth")
LOOSE = ("--max-drop", "none")


class PrivateRooms(Rectangles):
    """Rectangles that may not be passed on, whose tasks are those of rooms."""

    def tasks(self, data: DataSettings) -> Specs:
        return NYU_TASKS

    def train_frames(self, data: DataSettings, stage: Stage) -> Any:
        return AsRooms(super().train_frames(data, stage))

    def held_out_frames(self, data: DataSettings, split: Split) -> Any:
        return AsRooms(super().held_out_frames(data, split))


class AsRooms:
    """Rectangles with truths by the names of rooms' tasks."""

    tasks = NYU_TASKS

    def __init__(self, source: RectanglesRequest) -> None:
        self._source = source

    def open(self, *, workers: int = 1, progress: bool = False) -> AsRooms:
        return self

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Frame:
        frame = self._source[index]
        normals = np.zeros((*SIZE, 3), np.float32)
        normals[..., 2] = -1.0
        truths = {"segmentation": frame.truths["things"], "depth": frame.truths["depth"], "normals": normals}
        return Frame(frame.image, truths, frame.intrinsics)


def private_settings(folder: Path, **changes: str) -> RunSettings:
    """A run on rectangles that may not be passed on, whose classes are their own."""
    if "private" not in data_sets():
        register(Rectangles("private", NAMES, free=False))
    small = {"model.backbone": "'test_convnext'", "data.kind": "'private'"}
    return rectangle_settings(folder, NAMES, **{**small, **changes})


def exported(checkpoint: Path, out: Path, **overrides: str) -> tuple[Bundle, str]:
    """The bundle and what was printed. A checkpoint's graphs, which take most of the time, are exported once."""
    stream = io.StringIO()
    console = Console(file=stream, width=10_000)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("export_plain", "export_deploy"):
            patch.setattr(mtl.models.export, name, partial(_once, getattr(mtl.models.export, name), (checkpoint, name)))
        made = export_bundle(checkpoint, out, console=console, command="a test", overrides=overrides)
    return made, stream.getvalue()


_GRAPHS: dict[tuple[Path, str], bytes] = {}


def _once(export: Callable[..., None], key: tuple[Path, str], model: Any, path: Path, **size: int) -> None:
    if key not in _GRAPHS:
        export(model, path, **size)
        _GRAPHS[key] = path.read_bytes()
    path.write_bytes(_GRAPHS[key])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Run(private_settings(tmp_path_factory.mktemp("private")), console=quiet()).train()


@pytest.fixture(scope="module")
def withheld(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, str]:
    """As it is exported where nobody says otherwise; with its INT8 engines of this machine."""
    made, said = exported(checkpoint, tmp_path_factory.mktemp("withheld") / "bundle", **{"export.calibration": "4"})
    build_engine(made, precision="int8", threads=1, budget=None)
    return made, said


@pytest.fixture
def bundle(withheld: tuple[Bundle, str]) -> Bundle:
    return withheld[0]


def images_in(bundle: Bundle) -> list[np.ndarray]:
    """Every image in the folder, whatever it is called and wherever it is."""
    found = [decode_image(path.read_bytes()) for path in bundle.path.rglob("*") if path.suffix in IMAGE_SUFFIXES]
    return [image for image in found if image is not None]


def closest(images: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The smallest mean difference of any two, in grey levels."""
    return min(
        float(np.abs(one.astype(int) - cv2.resize(other, (one.shape[1], one.shape[0])).astype(int)).mean())
        for one in images
        for other in others
        if one.ndim == 3
    )


def own_images(settings: RunSettings) -> list[np.ndarray]:
    """Every image of the data set."""
    sources = [train_frames(settings.data, settings.stages[-1]).open()]
    sources += [held_out_frames(settings.data, split).open() for split in ("val", "test")]
    return [source[index].image for source in sources for index in range(len(source))]


def test_no_image_of_the_data_set_is_in_the_bundle(bundle: Bundle, checkpoint: Path, tmp_path: Path) -> None:
    own = own_images(private_settings(tmp_path))
    assert images_in(bundle)
    assert closest(images_in(bundle), own) > 10
    embedded, _ = exported(checkpoint, tmp_path / "embedded", **{"export.embed_images": "always"})
    assert closest(images_in(embedded), own) < 3, "where they are embedded they are found"


def test_one_line_says_what_is_kept_back_why_and_what_travels(withheld: tuple[Bundle, str]) -> None:
    (line,) = [line for line in withheld[1].splitlines() if "no image of the data set" in line]
    for words in (
        "they may not be passed on (coloured rectangles, licence: drawn by a test)",
        "statistics of 4 calibration frames",
        "2 rendered rooms without labels",
        "1 rendered rooms as golden frames",
        "--export.embed_images always",
    ):
        assert words in line


def test_the_manifest_and_inspect_say_it_too(bundle: Bundle) -> None:
    provenance = bundle.manifest.provenance
    (data_set,) = provenance["data_sets"]
    assert data_set == {"title": "coloured rectangles", "licence": "drawn by a test", "redistributable": False}
    assert provenance["images"] == {
        "embed_images": "auto",
        "embedded": False,
        "calibration": "statistics of frames",
        "evaluation": "rendered rooms without labels",
        "golden": "rendered rooms",
    }
    assert bundle.manifest.calibration["recorded"] is True
    assert bundle.list("calibration") == (RECORDED,)
    text = " ".join(edge_mtl("inspect", bundle.path).out.split())
    assert "its images may not be passed on" in text
    assert "statistics of frames" in text


def test_images_that_may_be_passed_on_are_embedded_as_ever_unless_never_is_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    kind = {"data.kind": f"'{rectangle_settings(tmp_path, NAMES).data.kind}'"}
    free, said = exported(checkpoint, tmp_path / "free", **kind)
    assert "images" not in free.manifest.provenance
    assert "no image" not in said
    assert not free.has(RECORDED)
    assert len(free.list("calibration")) == 2
    never, said = exported(checkpoint, tmp_path / "never", **kind, **{"export.embed_images": "never"})
    assert "export.embed_images is never" in said
    assert never.manifest.provenance["images"]["embedded"] is False
    assert never.has(RECORDED)


def test_always_embeds_them_and_says_whose_responsibility_that_is(checkpoint: Path, tmp_path: Path) -> None:
    made, said = exported(checkpoint, tmp_path / "always", **{"export.embed_images": "always"})
    assert made.manifest.provenance["images"] == {"embed_images": "always", "embedded": True}
    assert "your responsibility" in said
    assert not made.has(RECORDED)
    assert load_calibration(made, count=32, unreadable_share=0.0).recorded is None


def test_int8_is_the_same_whether_frames_travel_or_their_statistics(checkpoint: Path, tmp_path: Path) -> None:
    wanted = {"export.calibration": "4", "export.evaluation": "1"}
    made = {
        how: exported(checkpoint, tmp_path / how, **{**wanted, "export.embed_images": how})[0] for how in ("auto", "always")
    }
    graphs = {}
    for how, one in made.items():
        given = load_calibration(one, count=32, unreadable_share=0.0)
        graphs[how] = quantize(int8_graph(one), given.material, threads=1)
        assert len(given) == 4
        if how == "auto":
            with pytest.raises(CalibrationError, match="in place of the frames, which are needed here"):
                given.images()
        else:
            assert len(given.images()) == 4
    assert graphs["auto"] == graphs["always"]
    digests = [load_calibration(one, count=32, unreadable_share=0.0).digest for one in made.values()]
    assert digests[0] == digests[1] == made["auto"].manifest.calibration["digest"]


def test_rooms_with_labels_stand_in_where_the_tasks_are_those_of_rooms(tmp_path: Path) -> None:
    if "private-rooms" not in data_sets():
        register(PrivateRooms("private-rooms", NAMES, free=False))
    settings = private_settings(
        tmp_path, **{"data.kind": "'private-rooms'", "model.tasks": '["segmentation", "depth", "normals"]'}
    )
    made, said = exported(Run(settings, console=quiet()).train(), tmp_path / "bundle")
    assert "2 rendered rooms with labels" in said
    frames = list(labelled_set(made))
    assert [set(frame.targets) for frame in frames] == [{"segmentation", "depth", "normals"}] * 2
    room = RenderedRooms(3, SIZE)[0]
    assert np.abs(frames[0].frame.astype(int) - room.image).mean() < 4, "as a JPEG"
    np.testing.assert_array_equal(frames[0].targets["segmentation"], room.truths["segmentation"])
    report = build_engine(made, precision="int8", threads=1, budget=None)
    assert report.record.accuracy["fp32"], "accuracy is measured against the truth of the rooms"


class TestCommands:
    """Every command on a bundle with statistics in place of frames."""

    def test_build_engine_builds_int8_and_says_what_from(self, bundle: Bundle, tmp_path: Path) -> None:
        outcome = edge_mtl("build-engine", bundle.path, "--int8", "--threads", 1, *LOOSE)
        assert outcome.code == 0, outcome.err
        assert "from recorded statistics of 4 frames of the bundle" in " ".join(outcome.out.split())
        for words in (
            "no labelled frames",
            "The bundle's frames are rendered rooms, which stand in for images of its data set",
        ):
            assert words in " ".join(outcome.err.split())
        with Engine(bundle, precision="int8", threads=1) as engine:
            assert engine.info.self_test is not None
            assert engine.predict(make_image(3))["things"].labels.shape == SIZE

    def test_precision_auto_searches_on_the_rooms(self, bundle: Bundle) -> None:
        outcome = edge_mtl("build-engine", bundle.path, "--precision", "auto", "--threads", 1, *LOOSE)
        assert outcome.code == 0, outcome.err

    def test_a_recipe_that_the_statistics_do_not_answer_says_what_to_give(self, bundle: Bundle, tmp_path: Path) -> None:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text('name = "own"\n[equalisation]\nstrength = 0.9\n')
        assert_failed(
            edge_mtl("build-engine", bundle.path, "--int8", "--recipe", recipe),
            CalibrationError.exit_code,
            "strength 0.9",
            "--calibration DIR",
        )
        recipe.write_text('name = "own"\n[calibration]\nframes = 2\n')
        assert_failed(
            edge_mtl("build-engine", bundle.path, "--int8", "--recipe", recipe),
            CalibrationError.exit_code,
            "statistics of 4 calibration frames",
            "at most 2",
        )
        images = tmp_path / "images"
        images.mkdir()
        for seed in range(3):
            write_image(images / f"{seed}.png", make_image(seed))
        command = ("build-engine", bundle.path, "--int8", "--recipe", recipe, "--calibration", images, "--threads", 1, *LOOSE)
        assert edge_mtl(*command).code == 0, "with frames of one's own any recipe works"

    def test_verify_judges_by_agreement_and_refuses_the_frames_that_were_calibrated_with(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        outcome = edge_mtl("verify", bundle.path, "--threads", 1, "--max-drop", "classes=1,depth=10", "--no-write")
        assert outcome.code == 0, outcome.err
        text = " ".join(outcome.out.split())
        assert "2 unlabelled frames" in text
        assert "rendered rooms, which stand in" in text
        settings = private_settings(tmp_path)
        source = train_frames(settings.data, settings.stages[-1]).open()
        measured = tmp_path / "measured"
        measured.mkdir()
        write_image(measured / "seen.png", source[0].image)
        assert_failed(
            edge_mtl("verify", bundle.path, "--data", measured), CalibrationError.exit_code, "seen is calibration frame 0"
        )
        write_image(measured / "seen.png", held_out_frames(settings.data, "val").open()[0].image)
        assert "calibration frame" not in edge_mtl("verify", bundle.path, "--data", measured, "--no-write").err

    def test_calibrate_with_frames_of_ones_own_replaces_the_statistics(self, bundle: Bundle, tmp_path: Path) -> None:
        made = Bundle.open(shutil.copytree(bundle.path, tmp_path / "bundle"))
        images = tmp_path / "images"
        images.mkdir()
        for seed in range(20):
            write_image(images / f"{seed:02d}.png", make_image(seed))
        outcome = edge_mtl("calibrate", images, "--bundle", made.path, "--threads", 1, *LOOSE)
        assert outcome.code == 0, outcome.err
        assert "rendered rooms, which stand in" in " ".join(outcome.out.split())
        again = Bundle.open(made.path)
        assert not again.has(RECORDED)
        assert load_calibration(again, count=32, unreadable_share=0.0).frames
        again.verify()

    def test_sensitivity_scores_on_the_rooms(self, bundle: Bundle, tmp_path: Path) -> None:
        for target in ("onnxruntime", "tensorrt"):
            command = ("sensitivity", bundle.path, "--target", target, "--rounds", 0, "--threads", 1, "--out", tmp_path)
            outcome = edge_mtl(*command, "--json")
            assert outcome.code == 0, outcome.err
            assert json.loads(outcome.out.splitlines()[-1])["rows"]

    def test_export_to_triton_needs_no_frames(self, bundle: Bundle, tmp_path: Path) -> None:
        outcome = edge_mtl("export", bundle.path, "--triton", tmp_path / "models")
        assert outcome.code == 0, outcome.err

    def test_a_damaged_file_of_statistics_is_named(self, bundle: Bundle, tmp_path: Path) -> None:
        made = Bundle.open(shutil.copytree(bundle.path, tmp_path / "bundle"))
        (made.path / RECORDED).write_bytes(b"x" * made.entry(RECORDED).size)
        assert_failed(edge_mtl("build-engine", made.path, "--int8"), 3, "statistics.npz was altered")


def test_recipes_of_the_package_take_as_many_frames_as_are_recorded(checkpoint: Path, tmp_path: Path) -> None:
    most = load_recipe().calibration.frames
    made, _ = exported(checkpoint, tmp_path / "bundle", **{"export.calibration": str(most + 9), "data.train": str(most + 9)})
    assert len(load_calibration(made, count=most, unreadable_share=0.0)) == most
