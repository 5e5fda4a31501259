"""Labelled frames, of a bundle or of a folder in the same format, and what several graphs score on them.

Knows files and images; opens no runtime. Targets are those of the true camera: predictions are converted with each
frame's intrinsics before they are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.bundle import EVALUATION, Bundle
from edge_mtl.documents import parse_json
from edge_mtl.errors import BundleError
from edge_mtl.evaluation.scores import Score, Scorer
from edge_mtl.evaluation.self_test import golden_frames
from edge_mtl.files import sha256_bytes
from edge_mtl.image.camera_check import camera_fault
from edge_mtl.image.frames import Intrinsics, letterbox, letterbox_image
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.manifest import InputSpec
from edge_mtl.remedies import told
from edge_mtl.sources.images import IMAGE_SUFFIXES, decode_image
from edge_mtl.tasks import Specs, kind_of, truth_endings
from edge_mtl.tasks.truth import EXPORT_AGAIN

__all__ = [
    "LabelledFrame",
    "LabelledSet",
    "Score",
    "evaluate",
    "evaluation_frames",
    "frames_to_judge_on",
    "labelled_folder",
    "labelled_set",
    "stand_ins",
]

Array = np.ndarray

_INTRINSICS = "intrinsics.json"


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """A frame and what is true of it.

    Attributes:
        frame: (H, W, 3) uint8 RGB, network size.
        intrinsics: (fx, fy, cx, cy) of the frame; None where unknown.
        targets: truth by task, as its kind reads it (`Kind.read_truth`); only what there is.
        name: of the frame's file, without its suffix.
    """

    frame: Array
    intrinsics: tuple[float, float, float, float] | None
    targets: Mapping[str, Any]
    name: str = ""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Frames and their truths as files: NAME.jpg, beside it what each kind reads (NAME.depth.png), and intrinsics.json.

    Iterating reads them one after the other; BundleError where a file was altered or cannot be decoded.

    Attributes:
        source: "bundle", or the folder's name.
        images: names of the frames' files.
        files: names of all files.
        read: bytes of a file by name.
        where: the folder, for messages.
        size: of the network's input; frames of another size are letterboxed as at run time, and their truths with them.
        tasks: whose truths are read.
    """

    source: str
    images: tuple[str, ...]
    files: frozenset[str]
    read: Callable[[str], bytes]
    where: Path
    size: InputSpec
    tasks: Specs

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[LabelledFrame]:
        cameras = self._cameras()
        for name in self.images:
            stem = name.rpartition(".")[0]
            frame = decode_image(self.read(name))
            if frame is None:
                raise BundleError(f"{self.where / name} is not an image. {_AGAIN}")
            size = (frame.shape[0], frame.shape[1])
            if stem in cameras and (fault := camera_fault(Intrinsics(*cameras[stem]), size)):
                raise BundleError(f"{self.where / _INTRINSICS}, {stem}: {fault}.")
            yield self._fitted(LabelledFrame(frame, cameras.get(stem), self._truths(stem, size), stem))

    def digest(self) -> str:
        """SHA-256 over names and contents of all files: what the numbers were measured on."""
        lines = (f"{name} {sha256_bytes(self.read(name))}\n" for name in sorted(self.files))
        return sha256_bytes("".join(lines).encode())

    def _truths(self, stem: str, size: tuple[int, int]) -> dict[str, Any]:
        found = {}
        for name, spec in self.tasks.items():
            truth = kind_of(spec).read_truth(spec, stem, size, _Files(self))
            if truth is not None:
                found[name] = truth
        return found

    def _fitted(self, item: LabelledFrame) -> LabelledFrame:
        """The frame at network size, letterboxed as at run time; truths by nearest pixel, unknown in the bars."""
        network = (self.size.height, self.size.width)
        frame = (item.frame.shape[0], item.frame.shape[1])
        if frame == network:
            return item
        box = letterbox(frame, network)
        targets = {
            name: kind_of(self.tasks[name]).fit_truth(self.tasks[name], truth, box) for name, truth in item.targets.items()
        }
        camera = None if item.intrinsics is None else box.to_network(Intrinsics.of(item.intrinsics)).as_tuple()
        return LabelledFrame(letterbox_image(item.frame, self.size), camera, targets, item.name)

    def _cameras(self) -> dict[str, tuple[float, float, float, float]]:
        """By stem of the frame. Raises BundleError where a name is no frame's and a frame has none, or two are one frame's."""
        if _INTRINSICS not in self.files:
            return {}
        where = self.where / _INTRINSICS
        try:
            content = parse_json(self.read(_INTRINSICS))
            given = {str(name): Intrinsics(*map(float, numbers)).as_tuple() for name, numbers in content.items()}
        except (ValueError, TypeError, AttributeError, OverflowError) as exc:
            raise BundleError(f"{where} should map names to fx, fy, cx, cy ({exc}). {_AGAIN}") from exc
        frames = _frame_names(self.images, self.where)
        found = {frames[name]: camera for name, camera in given.items() if name in frames}
        strange = [name for name in given if name not in frames]
        if strange and len(found) < len(self.images):  # else these are some of the frames that the file is of
            raise BundleError(
                f"{where} should name the frames, such as {self.images[0]}; found {', '.join(map(repr, strange[:3]))}"
                f"{f' and {len(strange) - 3} more' if len(strange) > 3 else ''}, of which there is none. Rename or remove them."
            )
        doubled = [name for name, count in Counter(frames[name] for name in given if name in frames).items() if count > 1]
        if doubled:
            raise BundleError(f"{where} should have one camera for each frame; found two for {doubled[0]!r}. Remove one.")
        return found


def stand_ins(bundle: Bundle) -> str:
    """A sentence where the bundle's evaluation and golden frames are rooms in place of images that may not travel; else ""."""
    images = bundle.manifest.provenance.get("images")
    if not isinstance(images, Mapping) or images.get("embedded") is not False:
        return ""
    return (
        "The bundle's frames are rendered rooms, which stand in for images of its data set: measure on frames like those "
        "the device will see with edge-mtl verify BUNDLE --data DIR."
    )


def labelled_set(bundle: Bundle) -> LabelledSet:
    """The evaluation frames of `bundle`; there may be none."""
    prefix = f"{EVALUATION}/"
    files = frozenset(name.removeprefix(prefix) for name in bundle.list(EVALUATION))
    return LabelledSet(
        source="bundle",
        images=_images(files, bundle.manifest.tasks),
        files=files,
        read=lambda name: bundle.read(f"{prefix}{name}"),
        where=bundle.path / EVALUATION,
        size=bundle.manifest.input,
        tasks=bundle.manifest.tasks,
    )


def labelled_folder(folder: Path, size: InputSpec, tasks: Specs) -> LabelledSet:
    """The frames directly in `folder`, with the truths beside them; images without truth are fine too.

    Raises:
        BundleError: there is no such folder, no image in it, or two of one name, whose truths nobody could tell apart.
    """
    try:
        files = frozenset(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as exc:
        raise BundleError(f"{folder} cannot be read {told(exc)} A folder of frames to measure on was expected.") from exc
    images = _images(files, tasks)
    if not images:
        raise BundleError(
            f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}): frames to measure on were expected, "
            f"with {', '.join(f'NAME{ending}' for ending in truth_endings(tasks))} beside NAME.jpg where they are labelled."
        )

    _frame_names(images, folder)

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as exc:
            raise BundleError(f"{folder / name} cannot be read {told(exc)}") from exc

    return LabelledSet(folder.resolve().name or "folder", images, files, read, folder, size, tasks)


def evaluation_frames(bundle: Bundle) -> Iterator[LabelledFrame]:
    """The labelled frames of `bundle`, one after the other.

    Raises:
        BundleError: a file was altered or cannot be decoded.
    """
    return iter(labelled_set(bundle))


def frames_to_judge_on(bundle: Bundle, calibration: Sequence[Array], *, count: int) -> list[LabelledFrame]:
    """At most `count` evaluation frames; where there are none, calibration or golden frames, to compare with FP32 on.

    Raises:
        BundleError: a frame was altered, or there is none of any of these.
    """
    found = list(labelled_set(bundle))[:count]
    return found or [LabelledFrame(frame, None, {}) for frame in (calibration or golden_frames(bundle))[:count]]


def evaluate(
    bundle: Bundle,
    paths: Mapping[str, InferencePipeline],
    *,
    reference: str,
    frames: LabelledSet | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Score]:
    """Score every graph in `paths` on labelled frames; `reference` names the one that agreement refers to.

    Args:
        frames: in place of the bundle's evaluation frames.
    Returns:
        One score per name; empty mappings where there are no labelled frames. Metrics without a valid pixel are left out.
    """
    chosen = labelled_set(bundle) if frames is None else frames
    scorers = {name: Scorer(bundle.manifest.tasks) for name in paths}
    for number, item in enumerate(chosen):
        expected = paths[reference](item.frame, item.intrinsics)
        scorers[reference].update(item.name, expected, item.targets, expected)
        for name, path in paths.items():
            if name != reference:
                scorers[name].update(item.name, path(item.frame, item.intrinsics), item.targets, expected)
        if progress is not None:
            progress("evaluate", number + 1, len(chosen))
    return {name: scorer.score() for name, scorer in scorers.items()}


def _frame_names(images: Sequence[str], where: Path) -> dict[str, str]:
    """The stem of each frame by the names that it has: that of its file, and that without the suffix.

    Raises BundleError where two frames have one name.
    """
    found: dict[str, str] = {}
    for image in images:
        stem = image.rpartition(".")[0]
        for name in (image, stem):
            if name in found:
                raise BundleError(
                    f"{where} should have one image of each name; found two that are called {name!r}. Rename one."
                )
            found[name] = stem
    return found


def _images(files: frozenset[str], specs: Specs) -> tuple[str, ...]:
    endings = truth_endings(specs)
    return tuple(sorted(name for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.endswith(endings)))


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a set, as kinds read them."""

    owner: LabelledSet

    @property
    def names(self) -> frozenset[str]:
        return self.owner.files

    def read(self, name: str) -> bytes:
        return self.owner.read(name)

    def where(self, name: str) -> str:
        return str(self.owner.where / name)


_AGAIN = EXPORT_AGAIN
